"""The documentation site: it builds with warnings as errors, and its pages are whole in a browser."""

import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import urljoin

import pytest
from screens import PHONE

from experiments import SUMMARIES
from sublim_theory.protocols import UnknownNameError
from sublim_theory.record import load
from website import __main__ as website
from website import formulas, links, records

ROOT = Path(__file__).parents[2]
FONT = "STIX Two Math"
KINDS = (
    "",
    "theorem/",
    "experiments/",
    "experiments/sweep_auxiliary/",
    "api/theorem/",
    "how_to_model/",
    "interactive/",
)
"""One page of each."""


def fonts_of_formulas(page):
    """The fonts with which the browser sets the characters of the page's formulas."""
    devtools = page.context.new_cdp_session(page)
    devtools.send("DOM.enable")
    devtools.send("CSS.enable")
    root = devtools.send("DOM.getDocument")["root"]["nodeId"]
    leaves = {"nodeId": root, "selector": "math :is(mi, mn, mo, mtext)"}
    nodes = devtools.send("DOM.querySelectorAll", leaves)["nodeIds"]
    used = [devtools.send("CSS.getPlatformFontsForNode", {"nodeId": node})["fonts"] for node in nodes]
    return {(font["familyName"], font["isCustomFont"]) for fonts in used for font in fonts}


def test_the_site(serve, tmp_path, monkeypatch, request):
    """One build, for it takes a while; then its links, each kind of page and every formula, on a phone."""
    monkeypatch.delenv("SOURCES", raising=False)
    site = tmp_path / "site"
    command = [sys.executable, "-m", "website", str(site)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr

    found = {path.parent.relative_to(site).as_posix(): path.read_text("utf-8") for path in site.rglob("index.html")}
    pages = {"" if place == "." else f"{place}/": text for place, text in found.items()}
    assert pages.keys() > {f"experiments/{name}/" for name in SUMMARIES} | set(KINDS)
    nowhere = set()
    for place, text in pages.items():
        for link in set(re.findall(r'\s(?:src|href)="(?!\w+:)([^"#]+)', text)):
            if not (site / urljoin(f"/{place}", link).lstrip("/")).exists():
                nowhere.add((place, link))
    assert nowhere == set()
    student = records.mean("fig10-paper", "student_aux")
    assert not any("{{ mean" in text for text in pages.values()), "a page is missing under `macros` in mkdocs.yml"
    assert all(student in pages[place] for place in ("", "experiments/fig10/"))

    address, visit = serve(site), request.getfixturevalue("visit")  # what is above needs no browser
    seen, faults = visit(address, PHONE), []
    for place in (place for place, text in pages.items() if "<math" in text or place in KINDS):
        seen.page.goto(f"{address}/{place}", wait_until="load")
        fonts = fonts_of_formulas(seen.page) - {(FONT, True)}
        faults += [(place, *fault) for fault in (seen.errors, seen.outside, fonts) if fault]
        faults += [(place, "wide")] * (seen.overflow() > 0)
        faults += [(place, *each) for each in (seen.violations() if place in KINDS else [])]
    assert faults == []

    home = visit(address)
    assert fonts_of_formulas(home.page) == {(FONT, True)}
    assert home.page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    box = home.page.locator("img.screen").bounding_box()
    assert box["y"] + box["height"] <= 900, "claim, formula and figure are seen at once"
    height = home.page.locator("math").first.bounding_box()["height"]
    assert height > 20, "the formula is set, not printed"


@pytest.mark.parametrize(("link", "reason"), [("[a](index.md)", None), ("[a](nothing.md)", "strict")])
def test_a_warning_is_an_error(link, reason, tmp_path, monkeypatch):
    (tmp_path / "docs").mkdir()
    monkeypatch.setattr(website, "DOCS", tmp_path / "docs")
    monkeypatch.setattr(website, "files", lambda: {"index.md": link.encode()})
    monkeypatch.setattr(website, "configuration", lambda: {"site_name": "small"})
    if reason:
        with pytest.raises(RuntimeError, match=reason):
            website.build(tmp_path / "site")
    else:
        website.build(tmp_path / "site")
    assert (tmp_path / "site").exists() is (reason is None)


def test_a_folder_that_is_no_site_stays(tmp_path):
    (tmp_path / "mine").touch()
    with pytest.raises(FileExistsError, match="is no site"):
        website.build(tmp_path)
    assert (tmp_path / "mine").exists()


def test_formulas_become_mathml_and_what_would_not_is_refused():
    page = r'<p><span class="arithmatex">\(a \le b\)</span></p><div class="arithmatex">\[G = J^\top\]</div>'
    made = formulas.Formulas().run(page)
    assert made.count("<math ") == 2
    assert "arithmatex" not in made
    for tex in (r"\nosuchcommand x", r"a &amp;= b"):
        with pytest.raises(ValueError, match="does not become MathML"):
            formulas.Formulas().run(rf'<span class="arithmatex">\({tex}\)</span>')
    with pytest.raises(ValueError, match="a paragraph of its own"):
        formulas.Formulas().run(r'so $<span class="arithmatex">\(a\)</span>$ and')


def test_numbers_come_from_records_and_wrong_names_are_refused():
    student = load(ROOT / "figures" / "fig10-paper").conditions["student_aux"]
    assert records.mean("fig10-paper", "student_aux") == f"{student.mean:.4f} ± {student.ci95:.4f}"
    with pytest.raises(UnknownNameError, match="did you mean"):
        records.mean("fig10-paper", "student_axu")


def test_links_out_of_the_pages_lead_to_what_the_site_has(monkeypatch):
    monkeypatch.delenv("SOURCES", raising=False)
    places = ("../figures/fig10-paper", "theorem.md#x", "https://arxiv.org", "notebooks/a.ipynb#b", "../LICENSE")
    page = "".join(f"[a]({place}) " for place in places) + "![b](../figures/fig10-paper/fig10b.png)"
    text, files = links.for_site(page, "experiments.md")
    led = re.findall(r"\((.*?)\)", text)
    assert led[:4] == ["experiments/fig10.md#paper", "theorem.md#x", "https://arxiv.org", "notebooks/a.md#b"]
    assert led[4:] == list(files) == ["sources/LICENSE.txt", "figures/fig10-paper/fig10b.png"]
    assert b"# three_logits.py\n\n# %%" in links.content("exercises/solutions")

    monkeypatch.setenv("SOURCES", "https://host/blob/main")
    assert links.for_site("[a](../../LICENSE)", "notebooks/a.md") == ("[a](https://host/blob/main/LICENSE)", {})
    assert links.for_site("[a](a.ipynb)", "notebooks/a.md")[0] == "[a](a.ipynb)", "its own page has it to download"
    with pytest.raises(FileNotFoundError, match=r"docs/a.md links to \.\./nothing"):
        links.for_site("[a](../nothing)", "a.md")
