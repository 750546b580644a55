"""The page of `sublim report` in a browser: it draws, asks for nothing, complains of nothing and can be read by all."""

import re

import numpy as np
import pytest
import xarray as xr
from screens import DESKTOP, PHONE

from reports.command import report
from sublim_theory.record import Record, load

SEEDS = 8
NETWORKS = ["reference", "teacher", "student_aux", "student_all", "cross_aux", "cross_all"]
MARKUP = "<a href='javascript:alert(1)'>name %{y} <b>bold<script>alert(2)"


def table(axes, condition):
    """One variable over axes with their coordinates, and seeds."""
    shape = (*map(len, axes.values()), SEEDS)
    values = np.random.default_rng(0).uniform(0.1, 0.9, shape)
    variable = ((*axes, "seed"), values, {"condition": condition, "over": "seed"})
    return xr.Dataset({"accuracy": variable}, axes | {"seed": range(SEEDS)})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Records of figure 10, another run of it, a sweep, a hostile record and a damaged one."""
    root = tmp_path_factory.mktemp("records")
    config, origin = {"loss": "kl", "seeds": SEEDS}, {"seeds": list(range(SEEDS))}
    fig10 = table({"network": NETWORKS}, "{network}")
    verdict = {"expected": 0.5, "ci95": 0.1, "low": 0.3, "high": 0.7, "produced": 0.5, "holds": True, "source": "here"}
    expected = [verdict | {"condition": name} for name in NETWORKS]
    Record("fig10", "paper", config, fig10, origin, 1.0, expected).save(root / "shown/fig10")
    other = fig10 + xr.DataArray([0.1] + [0.0] * (SEEDS - 1), dims="seed")
    other["accuracy"].attrs = fig10["accuracy"].attrs
    Record("fig10", "paper", config | {"loss": "huber"}, other, origin, 1.0, []).save(root / "other")
    noise, auxiliary = ["uniform", "blurred", "perlin"], [10, 50]
    sweep = table({"noise": noise, "auxiliary": auxiliary, "network": NETWORKS[:3]}, "{noise},{auxiliary}/{network}")
    settings = {"noise": "uniform", "auxiliary": 10, "vary": {"noise": noise, "auxiliary": auxiliary}}
    Record("sweep_convolutional", "default", settings, sweep, origin, 1.0, []).save(root / "shown/sweep")
    hostile = table({MARKUP: [MARKUP, "x" * 5000, "z"], "by": [MARKUP, "b"]}, "{by}")
    Record(MARKUP, MARKUP, {MARKUP: MARKUP}, hostile, {"seeds": MARKUP, MARKUP: MARKUP}, 1.0, []).save(
        root / "shown/hostile"
    )
    (root / "shown/damaged").mkdir()
    (root / "shown/damaged/summary.json").write_text(MARKUP, "utf-8")
    return root


@pytest.fixture(scope="module")
def address(folders):
    """The page of them all."""
    out = folders / "report.html"
    report([str(folders / "shown"), "--against", str(folders / "other"), "--out", str(out)])
    return out.as_uri()


def chart(seen, name):
    """A chart by its label, brought into the window and drawn."""
    found = seen.page.get_by_role("img", name=re.compile(name)).first
    found.scroll_into_view_if_needed()
    found.locator(".scatterlayer .points path").first.wait_for(state="attached")
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


def test_a_chart_is_drawn_when_it_is_near_and_shows_its_seeds_and_a_sweep_is_a_line_over_its_values(
    visit, address, folders
):
    seen = visit(address, DESKTOP)
    assert seen.page.locator(".chart:has(svg)").count() < seen.page.locator(".chart").count()

    fig10 = chart(seen, "^fig10, paper")
    seeds, means = fig10.locator(".boxlayer path.point"), fig10.locator(".scatterlayer .points path")
    assert (seeds.count(), means.count()) == (len(NETWORKS) * SEEDS, len(NETWORKS))
    assert fig10.locator(".errorbars .xerror").count() == len(NETWORKS)
    assert fig10.locator(".barlayer .point path").count() == len(NETWORKS), "where the means were expected"
    found = load(folders / "shown/fig10").conditions["student_aux"]
    told = fig10.locator(".hoverlayer")
    means.nth(2).hover(force=True)
    told.get_by_text(f"mean {found.mean:.4f} ± {found.ci95:.4f}").wait_for()
    assert "student_aux" in told.text_content()
    seed = found.values.index(min(found.values))  # away from the mean, and first: the library sorts them
    seeds.nth(2 * SEEDS).hover(force=True)
    told.get_by_text(f"seed {seed}: {min(found.values):.4f}").wait_for()

    sweep = chart(seen, "^sweep convolutional, default: accuracy, network student aux")
    assert sweep.locator(".lines path.js-line").count() == 2
    assert sweep.locator(".xtick text").all_text_contents() == ["uniform", "blurred", "perlin"]
    assert [each.strip() for each in sweep.locator(".legend text").all_text_contents()] == ["auxiliary", "10", "50"]


def test_what_a_record_says_is_text_in_the_charts_too(visit, address):
    seen = visit(address, DESKTOP)
    hostile = chart(seen, "^<a href=")
    assert "<a href='javascript:alert(1)'>" in hostile.locator(".annotation").first.text_content()
    assert "<a href='javascript:alert(1)'>" in hostile.locator(".legend").text_content()
    hostile.locator(".scatterlayer .points path").first.hover(force=True)
    hostile.locator(".hoverlayer text").first.wait_for()
    assert MARKUP[:50] in hostile.locator(".hoverlayer").text_content()
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
    until(seen, "(each) => each.tabIndex < 0", box.element_handle())


def test_charts_fit_the_window_the_theme_and_the_paper(visit, address):
    seen = visit(address, DESKTOP)
    fig10 = chart(seen, "^fig10, paper")
    width = "(each) => each.querySelector('svg.main-svg').getBoundingClientRect().width"
    ink = "(each) => getComputedStyle(each.querySelector('.annotation text')).fill"
    light, before = fig10.evaluate(ink), fig10.evaluate(width)
    seen.page.emulate_media(color_scheme="dark")
    until(seen, f"([each, light]) => ({ink})(each) !== light", [fig10.element_handle(), light])
    seen.page.emulate_media(media="print")
    until(seen, "[...document.querySelectorAll('.chart')].every((each) => each.querySelector('.points'))")
    assert seen.page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(253, 253, 252)"
    until(seen, f"(each) => ({width})(each) === 620", fig10.element_handle())
    assert seen.page.pdf().startswith(b"%PDF")
    seen.page.emulate_media(media="screen")
    until(seen, f"([each, before]) => ({width})(each) === before", [fig10.element_handle(), before])
    seen.page.set_viewport_size({"width": 400, "height": 800})
    right = "(each) => each.querySelector('svg.main-svg').getBoundingClientRect().right <= 400"
    until(seen, right, fig10.element_handle())
    assert seen.errors == []
