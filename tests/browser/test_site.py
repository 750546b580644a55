"""The documentation site: it builds with warnings as errors, and its pages are whole in a browser."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from screens import PHONE

from experiments import tables
from experiments.registry import SUMMARIES
from sublim_theory.protocols import UnknownNameError
from sublim_theory.record import load
from website import formulas, hooks, records, sources

ROOT = Path(__file__).parents[2]


def test_the_site(visit, serve, tmp_path):
    """One build, for it takes a while; then each kind of page."""
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    for name in SUMMARIES:
        assert (site / "experiments" / name / "index.html").exists()

    pages = [path.read_text("utf-8") for path in site.rglob("*.html")]
    assert len(pages) > len(SUMMARIES) + 30
    links = {link for page in pages for link in re.findall(r'(?:src|href)="(https?://[^"/]+)', page)}
    assert links <= {"https://arxiv.org", "https://squidfunk.github.io"}, "to be followed by hand, never loaded"
    student = tables.mean(load(ROOT / "figures" / "fig10-paper").conditions["student_aux"])
    assert student in (site / "index.html").read_text("utf-8")
    assert student in (site / "experiments/fig10/index.html").read_text("utf-8")

    address = serve(site)
    found = []
    for page in ("", "theorem/", "experiments/", "experiments/sweep_auxiliary/", "api/theorem/", "how_to_model/"):
        seen = visit(f"{address}/{page}", PHONE)
        assert (seen.errors, seen.outside, seen.overflow()) == ([], [], 0), page
        found += [(page, *each) for each in seen.violations()]
    assert found == []
    home = visit(address)
    assert home.page.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 0)")
    box = home.page.locator("img.screen").bounding_box()
    assert box["y"] + box["height"] <= 900, "claim, formula and figure are seen at once"
    height = home.page.locator("math").first.bounding_box()["height"]
    assert height > 20, "the formula is set, not printed"


def test_formulas_become_mathml_and_what_would_not_is_refused():
    page = r'<p><span class="arithmatex">\(a \le b\)</span></p><div class="arithmatex">\[G = J^\top\]</div>'
    made = formulas.with_mathml(page)
    assert made.count("<math ") == 2
    assert "arithmatex" not in made
    for tex in (r"\nosuchcommand x", r"a &amp;= b"):
        with pytest.raises(ValueError, match="does not become MathML"):
            formulas.with_mathml(rf'<span class="arithmatex">\({tex}\)</span>')
    with pytest.raises(ValueError, match="a paragraph of its own"):
        formulas.with_mathml(r'so $<span class="arithmatex">\(a\)</span>$ and')


def test_numbers_come_from_records_and_wrong_names_are_refused():
    student = load(ROOT / "figures" / "fig10-paper").conditions["student_aux"]
    call = '{{ mean("fig10-paper", "student_aux") }}'
    assert hooks._filled(f"It is {call}.") == f"It is {student.mean:.4f} ± {student.ci95:.4f}."
    for wrong in (call.replace("mean", "median"), call.replace("aux", "axu")):
        with pytest.raises(UnknownNameError, match="did you mean"):
            hooks._filled(wrong)


def test_links_out_of_the_pages_lead_to_what_the_site_has():
    places = ("../figures/fig10-paper", "../tests/conftest.py", "theorem.md#x", "https://arxiv.org")
    page = "".join(f"[a]({place}) " for place in places) + "![b](../figures/fig10-paper/fig10b.png)"
    moved = sources.redirected(page, "experiments.md")
    assert re.findall(r"\((.*?)\)", moved) == [
        "experiments/fig10.md#paper",
        "files/tests/conftest.py.md",
        "theorem.md#x",
        "https://arxiv.org",
        "files/figures/fig10-paper/fig10b.png",
    ]
    with pytest.raises(FileNotFoundError, match=r"docs/a.md links to \.\./nothing"):
        sources.outside("[a](../nothing)", "a.md")
    assert sources.redirected("[a](../exercises/solutions)", "a.md") == "[a](files/exercises/solutions/index.md)"
    assert "files/exercises/solutions/three_logits.py.md" in sources.pages(["exercises/solutions"])


def test_every_experiment_has_a_heading_in_the_navigation():
    placed = [name for names in records.groups().values() for name in names]
    assert sorted(placed) == sorted(SUMMARIES)
