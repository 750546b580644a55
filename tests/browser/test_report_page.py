"""The page of `sublim report` in a browser: it draws, asks for nothing, complains of nothing and can be read by all."""

import json
import re
from pathlib import Path

import pytest

from reports.command import report
from sublim_theory.results import Result
from sublim_theory.statistics import summarize

DESKTOP, PHONE = (1280, 900), (360, 740)
RECORDS = Path(__file__).parent.parent.parent / "figures"
SHOWN = ("sweep_convolutional-default", "behavioural_cloning-paper", "theorem_mismatch-paper")
SEEDS = 8  # of figure 10 that the page has
MARKUP = "<a href='javascript:alert(1)'>name %{y} <b>bold<script>alert(2)"


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Committed records, another run of one of them, a hostile record and a damaged one."""
    root = tmp_path_factory.mktemp("records")
    record = json.loads((RECORDS / "fig10-paper/summary.json").read_text("utf-8"))
    for condition in record["conditions"].values():
        del condition["values"][SEEDS:]
    del record["provenance"]["seeds"][SEEDS:]
    for name in ("fig10", "other"):
        (root / name).mkdir()
        (root / name / "summary.json").write_text(json.dumps(record), "utf-8")
        record["conditions"]["student_aux"]["values"][0] += 0.1
        record["config"]["loss"] = "huber"
    conditions = {f"{MARKUP}/{i}": summarize([i, i + 1]) for i in (1, 2)} | {MARKUP: summarize([0, 1])}
    hostile = Result(MARKUP, MARKUP, {MARKUP: MARKUP}, conditions, {"seeds": [0, 1], MARKUP: MARKUP}, 1.0, [], {})
    hostile.save(root / "hostile")
    (root / "damaged").mkdir()
    (root / "damaged/summary.json").write_text(MARKUP, "utf-8")
    return root


@pytest.fixture(scope="module")
def address(folders):
    """The page of them all."""
    out = folders / "report.html"
    words = [*(RECORDS / name for name in SHOWN), *(folders / name for name in ("fig10", "hostile", "damaged"))]
    report([*map(str, words), "--against", str(folders / "other"), "--out", str(out)])
    return out.as_uri()


def chart(seen, name):
    """A chart by its label, brought into the window and drawn."""
    found = seen.page.get_by_role("img", name=re.compile(name))
    found.scroll_into_view_if_needed()
    found.locator(".points path").first.wait_for(state="attached")
    return found


def until(seen, expression, argument=None):
    """Wait until an expression is true; Playwright's own way polls by `eval`, which the page forbids."""
    for _ in range(200):
        if seen.page.evaluate(expression, argument):
            return
        seen.page.wait_for_timeout(50)
    raise AssertionError(f"never true: {expression}")


def open_all(seen):
    """Draw every chart and open every box, as a reader may."""
    for found in seen.page.locator(".chart").all():
        found.scroll_into_view_if_needed()
        found.locator(".points path").first.wait_for(state="attached")
    seen.page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_the_page_is_sound(visit, address, size, scheme):
    seen = visit(address, size)
    seen.page.emulate_media(color_scheme=scheme)
    open_all(seen)
    assert seen.errors == []
    assert seen.outside == []
    assert seen.overflow() == 0
    assert seen.violations() == []


def test_a_chart_is_drawn_when_it_is_near_and_shows_its_seeds(visit, address, folders):
    seen = visit(address, DESKTOP)
    drawn = seen.page.locator(".chart:has(svg)").count()
    assert drawn < seen.page.locator(".chart").count()

    fig10 = chart(seen, "^fig10, paper")
    assert fig10.locator(".points path").count() == 6 * (SEEDS + 1), "the seeds of six conditions, and the means"
    assert fig10.locator(".errorbar, .errorbars .xerror").count() > 0
    assert fig10.locator(".shapelayer path").count() == 6, "where the means were expected"
    found = Result.load(folders / "fig10", arrays=False).conditions["student_aux"]
    seeds, means = (fig10.locator(".points").nth(i).locator("path") for i in range(2))
    told = fig10.locator(".hoverlayer")
    means.nth(2).hover(force=True)
    told.get_by_text(f"mean {found.mean:.4f} ± {found.ci95:.4f}").wait_for()
    assert "student_aux" in told.text_content()
    seed = found.values.index(min(found.values))  # away from the mean
    seeds.nth(2 * SEEDS + seed).hover(force=True)
    told.get_by_text(f"seed {seed}: {min(found.values):.4f}").wait_for()


def test_a_sweep_is_a_line_over_its_values(visit, address):
    seen = visit(address, DESKTOP)
    sweep = chart(seen, "^sweep convolutional, default, chart 1: redrawn.none")
    assert sweep.locator(".lines path.js-line").count() == 2
    assert sweep.locator(".xtick text").all_text_contents() == ["uniform", "blurred", "perlin"]
    assert "auxiliary 50" in sweep.locator(".legend").text_content()


def test_what_a_record_says_is_text_in_the_charts_too(visit, address):
    seen = visit(address, DESKTOP)
    hostile = chart(seen, "^<a href=.* chart 1")
    assert "<a href='javascript:alert(1)'>" in hostile.locator(".ytick").last.text_content()
    hostile.locator(".points").nth(1).locator("path").last.hover(force=True)
    hostile.locator(".hoverlayer text").first.wait_for()
    assert MARKUP in hostile.locator(".hoverlayer").text_content()
    assert seen.page.locator("svg a").count() == 0
    assert seen.errors == []


def test_injected_scripts_do_not_run(visit, address):
    seen = visit(address, DESKTOP)
    seen.page.evaluate("document.body.insertAdjacentHTML('beforeend', '<img src=data:, onerror=\"window.ran = 1\">')")
    seen.page.wait_for_timeout(200)
    assert seen.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in error for error in seen.errors)


def test_tables_scroll_in_their_own_boxes_by_keyboard(visit, address):
    seen = visit(address, PHONE)
    box = seen.page.get_by_role("group", name="Expected and produced: fig10, paper")
    assert box.evaluate("(each) => each.scrollWidth > each.clientWidth")
    box.focus()
    seen.page.keyboard.press("ArrowRight")
    until(seen, "(each) => each.scrollLeft > 0", box.element_handle())
    seen.page.set_viewport_size({"width": 1600, "height": 900})  # there it fits
    until(seen, "(each) => !each.hasAttribute('tabindex')", box.element_handle())


def test_charts_fit_the_window_and_the_theme(visit, address):
    seen = visit(address, DESKTOP)
    fig10 = chart(seen, "^fig10, paper")
    ink = "(each) => getComputedStyle(each.querySelector('.ytick text')).fill"
    before = fig10.evaluate(ink)
    seen.page.emulate_media(color_scheme="dark")
    until(seen, f"([each, before]) => ({ink})(each) !== before", [fig10.element_handle(), before])
    seen.page.set_viewport_size({"width": 400, "height": 800})
    fig10.locator(".annotation").first.wait_for()
    assert fig10.locator("svg.main-svg").first.evaluate("(each) => each.getBoundingClientRect().right") <= 400


def test_everything_is_on_paper(visit, address):
    seen = visit(address, DESKTOP)
    seen.page.emulate_media(color_scheme="dark", media="print")
    until(seen, "[...document.querySelectorAll('.chart')].every((each) => each.querySelector('.points'))")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(253, 253, 252)"
    assert seen.page.evaluate("getComputedStyle(document.querySelector('nav')).display") == "none"
    assert seen.page.pdf().startswith(b"%PDF")
    assert seen.errors == []
