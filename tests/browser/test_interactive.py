"""The interactive page computes, in a real browser, what the library computes, and shows it."""

import functools
import itertools
import json
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
import pytest
from screens import DESKTOP, PHONE

from sublim_theory import geometry, losses, theorem
from sublim_theory.theorem.compiling import in_float64
from website import interactive as weights

FOLDER = Path(__file__).parents[2] / "docs" / "interactive"

BARE = """<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Interactive</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<link rel="stylesheet" href="page.css"></head><body><main><h1>Interactive</h1><div id="subliminal-interactive"></div>
</main><script type="module" src="page.js"></script></body></html>"""

RELATIVE = 1e-9
"""The library takes the change of the trait loss as a difference down to 1e-6 of its value (`SMALL_CHANGE_OF_LOSS`),
where that has 10 digits; all else is equal to 1e-10."""

ABSOLUTE = {"imitation": 1e-14}
"""The library's imitation losses subtract outputs of size 1; the page's do not. See `test_small_steps`."""

SETTING = {"epsilon": 0.1, "alpha": 2.0, "distance": 0, "other": 1, "m": 3, "loss": "kl"}
KINDS = (("kl", 3), ("squared_error", 5))
GRID = [
    {"epsilon": epsilon, "alpha": alpha, "distance": distance, "other": other, "m": m, "loss": loss}
    for (epsilon, alpha), (distance, other), (loss, m) in itertools.product(
        ((1e-9, 1e3), (1e-4, 2), (1, 1e-3), (1e3, 2)), ((0, 1), (0.3, 1), (1, 3)), KINDS
    )
]


@pytest.fixture(scope="module")
def exported():
    """The JSON text of the weights."""
    return weights.export()


@pytest.fixture
def site(serve, tmp_path):
    """`site(weights)` puts a bare page around the script, serves it and gives its address."""

    def build(text):
        for path in (*FOLDER.glob("*.js"), *FOLDER.glob("*.css")):
            shutil.copy(path, tmp_path)
        (tmp_path / "page.html").write_text(BARE, "utf-8")
        if text is not None:
            (tmp_path / "weights.json").write_text(text, "utf-8")
        return f"{serve(tmp_path)}/page.html"

    return build


@pytest.fixture
def interactive(site, visit, exported):
    """`interactive(hash="", size)` opens the page and waits until it has computed."""

    def open_(hash="", size=DESKTOP, text=exported):
        seen = visit(site(text) + hash, size)
        seen.page.wait_for_selector("[data-ready]")
        return seen

    return open_


def in_page(page, settings):
    """For each setting the numbers that the page computes and the text that it shows."""
    return page.evaluate(
        """async (settings) => {
            const { view } = await import(new URL("page.js", document.baseURI));
            return settings.map((setting) => {
                view.set(setting);
                const shown = [...document.querySelectorAll("[data-number]")];
                return [view.result, Object.fromEntries(shown.map((e) => [e.dataset.number, e.textContent]))];
            });
        }""",
        settings,
    )


def flat(numbers, prefix=""):
    """`{"trait": {"before": 1}}` as `{"trait.before": 1}`."""
    return {
        key: value
        for name, each in numbers.items()
        for key, value in (flat(each, f"{prefix}{name}.") if isinstance(each, dict) else {prefix + name: each}).items()
    }


def library(text, setting):
    """The numbers of the page by the library's own functions, from the same exported weights."""
    with in_float64():
        sizes = (jnp.float64(setting[name]) for name in ("epsilon", "alpha", "distance"))
        other, program = parameters(text, setting["other"]), compiled(text, setting["loss"], setting["m"])
        return flat(jax.tree.map(float, program(other, *sizes)))


def parameters(text, start):
    layers = json.loads(text)["starts"][start]
    return {name: {part: jnp.asarray(value) for part, value in layer.items()} for name, layer in layers.items()}


@functools.cache
def compiled(text, loss, m):
    """The numbers of `(other start, epsilon, alpha, distance)`."""
    data, net, shared = json.loads(text), weights.network(), parameters(text, 0)
    noise, flowers, labels = (jnp.asarray(x) for x in (data["noise"], data["trait"]["x"], data["trait"]["labels"]))
    imitate = losses.on_logits(losses.imitation(loss), slice(net.classes.stop, net.classes.stop + m))

    def teacher_loss(params):
        return jnp.mean(losses.cross_entropy(net.class_logits(net.apply(params, flowers)), labels))

    def numbers(other, epsilon, alpha, distance):
        start = jax.tree.map(lambda a, b: jnp.sqrt(1 - distance**2) * a + distance * b, shared, other)
        d_teacher = theorem.teacher_update(teacher_loss, shared)
        first = theorem.first_order(net.apply, imitate, shared, d_teacher, noise)
        teacher = optax.tree.add_scale(shared, epsilon, d_teacher)
        apart = theorem.imitation_update(net.apply, imitate, start, teacher, noise)
        together = theorem.student_update(net.apply, imitate, shared, d_teacher, epsilon, noise)
        d_student = jax.tree.map(lambda a, b: jnp.where(distance == 0, epsilon * a, b), together, apart)
        step = optax.tree.scale(alpha, d_student)

        def imitation_loss(params):
            return jnp.mean(imitate(net.apply(params, noise), net.apply(teacher, noise)))

        before, change = teacher_loss(start), theorem.change_along(teacher_loss, start, step)
        return {
            "alignment": optax.tree.vdot(d_student, d_teacher),
            "coefficient": first.coefficient,
            "predicted": epsilon * first.coefficient,
            "cosine": geometry.cosine(d_student, d_teacher),
            "byLayer": geometry.by_layer(d_teacher, d_student),
            "lengths": {"teacher": epsilon * geometry.norm(d_teacher), "student": geometry.norm(step)},
            "trait": {"before": before, "change": change, "after": before + change},
            "teacherTrait": {
                "change": theorem.change_along(teacher_loss, shared, optax.tree.scale(epsilon, d_teacher))
            },
            "imitation": {"before": imitation_loss(start), "after": imitation_loss(optax.tree.add(start, step))},
        }

    return jax.jit(numbers)


def require_equal(page, text, setting):
    """Every number that the library computes from the weights `text` is in the page, to the stated tolerance."""
    page = flat(page)
    for name, value in library(text, setting).items():
        absolute = ABSOLUTE.get(name.partition(".")[0], 0)
        assert page[name] == pytest.approx(value, rel=RELATIVE, abs=absolute), (name, setting)


def require_shown(texts, page):
    """The text shows the numbers, to five digits."""
    page = flat(page)
    assert {"alignment", "predicted", "cosine", "trait.before", "trait.after", "imitation.before"} < set(texts)
    for name, text in texts.items():
        if page[name] == 0:
            assert text == "0 exactly"
        else:
            assert float(text) == pytest.approx(page[name], rel=6e-5, abs=0)


def test_the_numbers_are_the_librarys(interactive, exported):
    for setting, (numbers, texts) in zip(GRID, in_page(interactive().page, GRID), strict=True):
        require_equal(numbers, exported, setting)
        require_shown(texts, numbers)


@pytest.mark.parametrize(("loss", "m"), KINDS)
def test_one_wrong_weight_is_seen(interactive, exported, loss, m):
    """The negative control of the comparison: one weight of the page's is wrong in its sixth digit."""
    data, setting = json.loads(exported), {**SETTING, "loss": loss, "m": m}
    data["starts"][0]["hidden_1"]["kernel"][3][5] *= 1 + 1e-6
    ((numbers, _),) = in_page(interactive(text=json.dumps(data)).page, [setting])
    with pytest.raises(AssertionError, match="epsilon"):
        require_equal(numbers, exported, setting)


def test_a_softmax_over_one_logit_is_exactly_zero(interactive):
    settings = [{**SETTING, "m": 1, "epsilon": 10.0**k, "distance": d} for k in range(-9, 4) for d in (0, 0.5, 1)]
    for numbers, texts in in_page(interactive().page, settings):
        zeros = [numbers[name] for name in ("alignment", "coefficient", "predicted", "cosine")]
        assert [*zeros, *numbers["byLayer"].values(), numbers["trait"]["change"]] == [0.0] * 9
        assert texts["alignment"] == texts["trait.change"] == "0 exactly"


@pytest.mark.parametrize("loss", ["kl", "squared_error"])
def test_small_steps(interactive, loss):
    """Where the library's plain losses have no digits left: the page's follow the first order, to first order."""
    epsilons = [1e-9, 1e-8, 1e-7, 1e-6]
    found = in_page(interactive().page, [{**SETTING, "loss": loss, "epsilon": epsilon} for epsilon in epsilons])
    slope, bend = ([], [])
    for epsilon, (numbers, _) in zip(epsilons, found, strict=True):
        a = numbers["coefficient"]
        slope.append((numbers["alignment"] / (epsilon * a) - 1) / epsilon)
        bend.append((numbers["imitation"]["before"] / (epsilon**2 * a / 2) - 1) / epsilon)
    # The relative remainder is of order eps: over eps it is one number, until rounding (1e-16 / eps) shows.
    assert slope[:3] == pytest.approx([slope[3]] * 3, rel=1e-4, abs=1e-5)
    assert bend[:3] == pytest.approx([bend[3]] * 3, rel=1e-4, abs=1e-5)


PRESETS = {
    "Start again": (lambda n: n["alignment"] > 0 > n["trait"]["change"], "Both are so here"),
    "Another start (d = 1)": (lambda n: n["alignment"] < 0 < n["trait"]["change"], "no promise"),
    "m = 1 with softmax: exactly 0": (lambda n: n["alignment"] == 0.0, "Orthogonal branch"),
    "m = 1 with squared error": (lambda n: n["alignment"] > 0 > n["trait"]["change"], "Transfer branch"),
    "ε too large": (lambda n: n["alignment"] < 0, "against the teacher"),
    "\N{GREEK SMALL LETTER ALPHA} too large": (lambda n: n["alignment"] > 0 < n["trait"]["change"], "overshoots"),
}


def test_the_presets_show_what_they_say(interactive):
    seen = interactive()
    buttons = seen.page.locator(".si-presets button")
    assert buttons.all_inner_texts() == list(PRESETS)
    for button, (holds, words) in zip(buttons.all(), PRESETS.values(), strict=True):
        button.click()
        assert holds(result(seen.page))
        assert words in seen.page.locator(".si-verdict").inner_text()
    assert seen.errors == []


def result(page):
    return page.evaluate('import(new URL("page.js", document.baseURI)).then(({ view }) => view.result)')


def test_a_key_moves_it(interactive):
    page = interactive().page
    before = page.locator("[data-number=alignment]").inner_text()
    slider = page.get_by_role("slider", name="ε")
    spoken = slider.get_attribute("aria-valuetext")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert page.locator("[data-number=alignment]").inner_text() != before
    assert slider.get_attribute("aria-valuetext") != spoken
    assert page.locator(".si-spoken").inner_text() == ""  # not before the reader pauses
    page.wait_for_function("document.querySelector('.si-spoken').textContent")
    assert page.locator("[data-number=alignment]").inner_text() in page.locator(".si-spoken").inner_text()
    assert f"epsilon={slider.get_attribute('aria-valuetext')}" in page.url


def test_the_address_is_the_setting(interactive):
    seen = interactive("#epsilon=0.02&alpha=5&distance=0.25&other=2&m=4&loss=squared_error")
    page = seen.page
    assert page.locator(".si-refused").is_hidden()
    assert page.get_by_role("slider", name="distance").get_attribute("aria-valuetext") == "0.25"
    assert page.get_by_label("imitation loss").input_value() == "squared_error"
    asked = {"epsilon": 0.02, "alpha": 5, "distance": 0.25, "other": 2, "m": 4, "loss": "squared_error"}
    here = result(page)
    assert here == in_page(page, [asked])[0][0]

    page.evaluate("location.hash = '#what-to-try'")  # a heading leaves the setting alone
    assert result(page) == here
    page.evaluate("location.hash = '#epsilon=0&m=2.5&loss=<img src=x onerror=alert(1)>'")
    page.wait_for_selector(".si-refused:visible")
    refused = page.locator(".si-refused").inner_text()
    for text in ("epsilon = 0 (1e-9 to 1000)", "m = 2.5 (1 to 5)", "loss = <img"):
        assert text in refused
    assert result(page) != here
    assert seen.errors == []


def test_without_weights_it_says_what_is_missing(site, visit):
    seen = visit(site(None))
    seen.page.wait_for_selector("text=could not start")
    assert "weights.json: 404" in seen.page.locator("#subliminal-interactive").inner_text()


@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_everybody_can_use_it(interactive, size, scheme):
    seen = interactive("#distance=0.4", size)
    seen.page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
    assert (seen.errors, seen.outside, seen.violations(), seen.overflow()) == ([], [], [], 0)
    assert seen.page.evaluate("document.getAnimations().length") == 0
    for slider in seen.page.get_by_role("slider").all():
        slider.focus()
        seen.page.keyboard.press("End")
    assert (seen.errors, seen.violations(), seen.overflow()) == ([], [], 0)
