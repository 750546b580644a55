"""What `verify` does to its surroundings, and what it says to a caller who hands in the wrong thing.

float64 inside whatever comes in; the setting of JAX as it was, also after an error and inside the caller's jit; a
ValueError that names the argument; a report that is strict JSON, prints as a table and raises with its first failure.
"""

import dataclasses
import functools
import json
import math
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from instances import AUXILIARY, SHALLOW, draw, instance

from sublim_theory.protocols import SublimError
from sublim_theory.theorem import Instance, TheoremReport, TheoremViolation, guaranteed_alpha, verify
from sublim_theory.theorem.verify import verify_instance

SINGLE = jax.tree.map(np.float32, (instance("tanh", widths=SHALLOW).params, instance("tanh", widths=SHALLOW).inputs))
PARAMS, INPUTS = jax.tree.map(np.float64, SINGLE)  # numbers that float32 holds exactly
IT = dataclasses.replace(instance("tanh", widths=SHALLOW), params=PARAMS, inputs=INPUTS)
EPSILONS = (1e-9, 1e-6, 1e-3)
OTHER = draw(np.random.default_rng(9), SHALLOW)


PARTS = {"f": IT.f, "params": IT.params, "teacher_loss": IT.teacher_loss, "inputs": IT.inputs}


@functools.cache
def checked():
    return Instance(*PARTS.values())


def call(**changes):
    """`verify` of the shared instance, with some arguments changed; what these are not about is checked once."""
    arguments = {"epsilons": EPSILONS} | changes
    if not changes or {*PARTS, "batch_size"} & set(changes):
        parts = [arguments.pop(name, part) for name, part in PARTS.items()]
        return verify(*parts, **arguments)
    loss = arguments.pop("imitation_loss", "kl"), arguments.pop("logits", None)
    return verify_instance(checked().with_loss(*loss), **arguments)


def settings():
    return {name: getattr(jax.config, name) for name in ("jax_enable_x64", "jax_default_matmul_precision")}


@pytest.fixture(autouse=True)
def settings_are_left_alone():
    """Around every test of this file, those with errors included."""
    before = settings()
    yield
    assert settings() == before
    assert jnp.ones(1).dtype == np.dtype("float64" if before["jax_enable_x64"] else "float32")


@pytest.fixture(scope="module")
def report():
    return call()


@pytest.fixture(scope="module")
def failed():
    """A report of a student of another initialisation."""
    return call(student_params=OTHER)


@pytest.fixture(scope="module")
def orthogonal():
    return call(logits=slice(4, 5), epsilons=(1e-6, 1e-3))


# Precision and settings


def numbers(report):
    return np.array([*report.alignment, *report.teacher_loss_change, *report.relative_remainder, report.first_order])


def test_arithmetic_is_in_float64_without_the_callers_setting(report):
    assert not jax.config.jax_enable_x64
    report.require()
    assert report.relative_remainder[0] < 1e-7  # float32 stops at 1e-3 or so


def test_float32_parameters_and_inputs_are_the_same_numbers_in_float64(report):
    params, x = jax.tree.map(jnp.asarray, SINGLE)
    np.testing.assert_array_equal(numbers(call(params=params, inputs=x)), numbers(report))
    assert {leaf.dtype for leaf in jax.tree.leaves((params, x))} == {np.dtype(np.float32)}


def test_with_64_bits_enabled_the_report_and_the_setting_are_the_same(report):
    with jax.enable_x64(True):
        before = settings()
        again = call(epsilons=[1e-3, 1e-6, 1e-9, 1e-3])  # in any order, and once
        assert settings() == before
        assert jnp.ones(1).dtype == np.float64
    assert again.epsilons == EPSILONS
    np.testing.assert_array_equal(numbers(again), numbers(report))


@pytest.mark.parametrize("enabled", [False, True])
@pytest.mark.parametrize("place", ["f", "teacher_loss", "imitation_loss"])
def test_setting_is_the_same_after_an_exception_of_the_caller(enabled, place):
    def explode(*_):
        raise ZeroDivisionError("from the caller's function")

    with jax.enable_x64(enabled):
        before = settings()
        with pytest.raises(ZeroDivisionError, match="from the caller"):
            call(**{place: explode})
        assert settings() == before
        assert jnp.ones(1).dtype == (np.float64 if enabled else np.float32)


def test_inside_the_callers_jit_concrete_values_are_verified(report):
    inside = []

    @jax.jit
    def outer(y):
        inside.append(call())
        return 2 * y

    result = outer(jnp.float32(3))
    assert result == 6
    assert result.dtype == np.float32
    # The same, but for constants that were computed before the rest was compiled.
    np.testing.assert_allclose(numbers(inside[0]), numbers(report), rtol=1e-14, atol=0)


def test_callers_functions_still_work_in_single_precision_afterwards():
    """They close over numpy arrays in float64, of which JAX must not keep a float64 copy for them."""
    for argument, function in {"teacher_loss": IT.teacher_loss, "f": lambda p: IT.f(p, IT.inputs).sum()}.items():
        gradient = jax.grad(function)(jax.tree.map(jnp.float32, IT.params))
        assert {leaf.dtype for leaf in jax.tree.leaves(gradient)} == {np.dtype(np.float32)}, argument


def test_arguments_are_not_changed(report, failed):
    """After the calls of the fixtures."""
    assert report.holds != failed.holds
    for before, after in zip(jax.tree.leaves(SINGLE), jax.tree.leaves((IT.params, IT.inputs)), strict=True):
        np.testing.assert_array_equal(before, after)


def test_streaming_gives_the_same_report(report):
    streamed = call(batch_size=5)
    for field in "alignment", "teacher_loss_change", "cosine", "by_logit", "first_order":
        # The change at 1e-3 is a difference of two losses of size 1.
        np.testing.assert_allclose(getattr(streamed, field), getattr(report, field), rtol=1e-12, atol=5e-16)
    # A small difference of vectors of size 1, at 1e-3 by the plain definition, which has lost three digits of them.
    np.testing.assert_allclose(streamed.relative_remainder, report.relative_remainder, rtol=1e-12, atol=1e-12)


# Errors that name the argument


def with_leaf(value):
    return IT.params | {"layer_1": {"bias": value, "kernel": IT.params["layer_1"]["kernel"]}}


def single_precision(params, x):
    return IT.f(jax.tree.map(lambda leaf: leaf.astype(jnp.float32), params), x.astype(jnp.float32))


def through(dtype):
    """A cast and back, which the dtype of the result does not show."""
    return lambda z: z.astype(dtype).astype(jnp.float64)


def in_a_loop(params, x):
    """The same of half the parameters, inside a `scan` under `jit`."""

    def step(z, _):
        return through(jnp.float16)(z), None

    return jax.jit(lambda z: jax.lax.scan(step, z, None, length=2)[0])(IT.f(params, x))


def mean_of(loss):
    return lambda z, y: jnp.mean(loss(z, y))


def square(z, y):
    return jnp.sum(jnp.square(z - y), axis=-1)


WRONG = {
    "params: no leaves": ({"params": {}}, "params has no leaves"),
    "params: integers": ({"params": with_leaf(np.arange(5))}, r"params\['layer_1'\]\['bias'\] has dtype int64"),
    "params: booleans": ({"params": with_leaf(np.ones(5, bool))}, r"params\['layer_1'\]\['bias'\] has dtype bool"),
    "params: nan": ({"params": with_leaf(np.full(5, np.nan))}, r"params\['layer_1'\]\['bias'\] is not finite"),
    "params: infinite": ({"params": with_leaf(np.full(5, np.inf))}, r"params\['layer_1'\]\['bias'\] is not finite"),
    "params: collections": (
        {"params": {"params": IT.params, "batch_stats": {"mean": np.zeros(3)}}},
        r"params holds the collections \['batch_stats', 'params'\]; hand in params\['params'\] alone",
    ),
    "inputs: empty": ({"inputs": IT.inputs[:0]}, "inputs are empty"),
    "inputs: none": ({"inputs": {}}, "inputs must be arrays"),
    "inputs: a scalar": ({"inputs": np.float64(1.0)}, "inputs must be arrays"),
    "inputs: two lengths": (
        {"inputs": (IT.inputs, IT.inputs[1:])},
        "inputs must be arrays with one common leading axis",
    ),
    "params: a PRNG key": ({"params": with_leaf(jax.random.key(0))}, r"params\['layer_1'\]\['bias'\] is a PRNG key"),
    "params: text": ({"params": with_leaf("zeros")}, r"params\['layer_1'\]\['bias'\] has dtype <U5"),
    "inputs: text": ({"inputs": np.array(["a", "b"])}, "inputs have dtype <U1; they must be arrays of numbers"),
    "inputs: objects": ({"inputs": np.array([None, {}])}, "inputs have dtype object"),
    "inputs: PRNG keys": ({"inputs": jax.random.split(jax.random.key(0))}, "inputs is a PRNG key"),
    "inputs: nan": ({"inputs": np.full_like(IT.inputs, np.nan)}, "inputs are not finite"),
    "f: one axis": ({"f": lambda p, x: IT.f(p, x)[:, 0]}, r"f must return outputs \[batch, n\], got shape \(12,\)"),
    "f: a mean": ({"f": lambda p, x: jnp.mean(IT.f(p, x))}, r"f must return outputs \[batch, n\], got shape \(\)"),
    "f: a tuple": ({"f": lambda p, x: (IT.f(p, x), x)}, r"f must return outputs \[batch, n\], got shape .*tuple"),
    "f: another batch": (
        {"f": lambda p, x: IT.f(p, x)[1:]},
        r"f must return outputs \[batch, n\], got shape \(11, 5\)",
    ),
    "f: float32": ({"f": single_precision}, "f returned float32 .* something inside it casts"),
    "f: integers": ({"f": lambda p, x: jnp.round(IT.f(p, x)).astype(int)}, "f returned int"),
    "f: no function": ({"f": None}, r"f must be a function of \(params, x\), got None"),
    "f: float32 inside": (
        {"f": lambda p, x: through(jnp.float32)(IT.f(p, x))},
        "f computes in float32 at float64 arguments, so something inside it casts",
    ),
    "f: float16 in a loop": ({"f": in_a_loop}, "f computes in float16"),
    "f: products in float32": (
        {"f": lambda p, x: jnp.dot(x, p["layer_0"]["kernel"], preferred_element_type=jnp.float32).astype(jnp.float64)},
        "f computes in float32",
    ),
    "f: nan": ({"f": lambda p, x: jnp.nan * IT.f(p, x)}, "f returned outputs that are not finite"),
    "f: infinite": ({"f": lambda p, x: IT.f(p, x) + jnp.inf}, "f returned outputs that are not finite"),
    "teacher_loss: one axis": (
        {"teacher_loss": lambda p: IT.teacher_loss(p)[None]},
        r"teacher_loss must return a scalar, got shape \(1,\)",
    ),
    "teacher_loss: per example": (
        {"teacher_loss": lambda p: jnp.sum(IT.f(p, IT.inputs), axis=1)},
        r"teacher_loss must return a scalar, got shape \(12,\)",
    ),
    "teacher_loss: none": ({"teacher_loss": None}, "teacher_loss is None, and this needs one"),
    "teacher_loss: no function": ({"teacher_loss": 3.0}, r"teacher_loss must be a function of the params, got 3\.0"),
    "teacher_loss: returns none": (
        {"teacher_loss": lambda _: None},
        "teacher_loss must return a scalar, got NoneType",
    ),
    "teacher_loss: auxiliary values": (
        {"teacher_loss": lambda p: (IT.teacher_loss(p), {})},
        "teacher_loss must return a scalar, got tuple",
    ),
    "teacher_loss: integers": (
        {"teacher_loss": lambda p: jnp.round(IT.teacher_loss(p)).astype(int)},
        "teacher_loss returned int64, which has no gradient",
    ),
    "teacher_loss: a Python integer": ({"teacher_loss": lambda _: 1}, "teacher_loss returned int64"),
    "teacher_loss: float32": (
        {"teacher_loss": lambda p: IT.teacher_loss(p).astype(jnp.float32)},
        "teacher_loss returned float32 at float64 arguments, so something inside it casts",
    ),
    "teacher_loss: bfloat16": (
        {"teacher_loss": lambda p: IT.teacher_loss(p).astype(jnp.bfloat16)},
        "teacher_loss returned bfloat16",
    ),
    "teacher_loss: bfloat16 inside": (
        {"teacher_loss": lambda p: through(jnp.bfloat16)(IT.teacher_loss(p))},
        "teacher_loss computes in bfloat16",
    ),
    "teacher_loss: nan": ({"teacher_loss": lambda p: jnp.nan * IT.teacher_loss(p)}, "teacher_loss is nan at params"),
    "teacher_loss: infinite": (
        {"teacher_loss": lambda p: jnp.inf + IT.teacher_loss(p)},
        "teacher_loss is inf at params",
    ),
    "teacher_loss: no gradient": (
        {"teacher_loss": lambda p: jnp.sqrt(jnp.sum(0 * p["layer_0"]["bias"]))},
        "the gradient of teacher_loss is not finite",
    ),
    "imitation_loss: unknown": ({"imitation_loss": "kll"}, "unknown imitation loss 'kll'; did you mean 'kl'"),
    "imitation_loss: a number": ({"imitation_loss": 3}, r"imitation_loss must be a name \(kl, .*\) or .*, got 3"),
    "imitation_loss: none": ({"imitation_loss": None}, "imitation_loss must be a name .*, got None"),
    "imitation_loss: float32": (
        {"imitation_loss": lambda z, y: square(z, y).astype(jnp.float32)},
        "imitation_loss returned float32",
    ),
    "imitation_loss: float32 inside": (
        {"imitation_loss": lambda z, y: square(through(jnp.float32)(z), y)},
        "imitation_loss computes in float32",
    ),
    "imitation_loss: returns none": ({"imitation_loss": lambda *_: None}, "imitation_loss must return one value an"),
    "imitation_loss: a mean": ({"imitation_loss": mean_of(square)}, r"imitation_loss must return one value an example"),
    "imitation_loss: a mean of some": (
        {"imitation_loss": mean_of(square), "logits": AUXILIARY},
        r"imitation_loss must return one value an example",
    ),
    "imitation_loss: per output": (
        {"imitation_loss": lambda z, y: jnp.square(z - y)},
        r"imitation_loss must return one value an example, \(6,\), got \(6, 5\)",
    ),
    "logits: beyond": ({"logits": [3, 5]}, r"logits \[3, 5\] are not among the 5 outputs"),
    "logits: negative, beyond": ({"logits": [-6]}, r"logits \[-6\] are not among the 5 outputs"),
    "logits: a mask of others": ({"logits": [True, False]}, "logits are a mask of 2 outputs, of which there are 5"),
    "logits: an empty mask": ({"logits": np.zeros(5, bool)}, "logits .* select none of the 5 outputs"),
    "logits: floats": ({"logits": [2.0, 3.0]}, r"logits must be a slice, .* or a mask, got \[2\.0, 3\.0\]"),
    "logits: a number": ({"logits": 3}, r"logits must be .*, got 3; write \[3\] for output 3 alone, slice\(3\) for"),
    "logits: a truth value": ({"logits": True}, "logits must be a slice, .* got True"),
    "logits: a matrix": ({"logits": [[0, 1]]}, "logits must be a slice"),
    "logits: a slice of floats": ({"logits": slice(0.0, 2.0)}, "logits must be a slice of whole numbers"),
    "logits: none": ({"logits": []}, r"logits \[\] select none"),
    "logits: an empty slice": ({"logits": slice(5, 9)}, r"logits slice\(5, 9, None\) select none"),
    "epsilons: none": ({"epsilons": ()}, r"epsilons must be positive and finite, at least one of them; got \[\]"),
    "epsilons: a number": ({"epsilons": 1e-3}, r"epsilons must be a sequence, got 0\.001; write \(0\.001,\)"),
    "epsilons: text": ({"epsilons": ("a",)}, "epsilons must be a number, positive and finite; got 'a'"),
    "epsilons: zero": ({"epsilons": (1e-3, 0.0)}, r"epsilons must be positive and finite.*0\.0"),
    "epsilons: negative": ({"epsilons": (-1e-3,)}, r"epsilons must be positive and finite.*-0\.001"),
    "epsilons: nan": ({"epsilons": (math.nan,)}, "epsilons must be positive and finite.*nan"),
    "epsilons: infinite": ({"epsilons": (math.inf,)}, "epsilons must be positive and finite.*inf"),
    "alpha: text": ({"alpha": "a"}, "alpha must be a number, positive and finite; got 'a'"),
    "alpha: a truth value": ({"alpha": True}, "alpha must be a number"),
    "alpha: a sequence": ({"alpha": (1.0,)}, "alpha must be a number"),
    "alpha: zero": ({"alpha": 0.0}, r"alpha must be positive and finite, got 0\.0"),
    "alpha: negative": ({"alpha": -1.0}, r"alpha must be positive and finite, got -1\.0"),
    "alpha: nan": ({"alpha": math.nan}, "alpha must be positive and finite, got nan"),
    "alpha: infinite": ({"alpha": math.inf}, "alpha must be positive and finite, got inf"),
    "batch_size: zero": ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
    "batch_size: a fraction": ({"batch_size": 2.5}, r"batch_size must be a whole number, got 2\.5"),
    "batch_size: a truth value": ({"batch_size": True}, "batch_size must be a whole number, got True"),
    "batch_size: negative": ({"batch_size": -4}, "batch_size must be at least 1, got -4"),
    "student_params: shape": (
        {"student_params": draw(np.random.default_rng(0), (4, 7, 5))},
        "student_params must have the structure and shapes of params",
    ),
    "student_params: structure": (
        {"student_params": {"layer_0": IT.params["layer_0"]}},
        "student_params must have the structure and shapes of params",
    ),
    "student_params: integers": (
        {"student_params": with_leaf(np.arange(5))},
        r"student_params\['layer_1'\]\['bias'\] has",
    ),
    "student_params: nan": ({"student_params": with_leaf(np.full(5, np.nan))}, r"student_params.* is not finite"),
    "student_params: collections": (
        {"student_params": {"params": IT.params, "cache": {}}},
        "student_params holds the collections",
    ),
}


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(("changes", "message"), WRONG.values(), ids=WRONG)
def test_error_names_the_argument(changes, message):
    with pytest.raises(ValueError, match=message):
        call(**changes)


@pytest.mark.parametrize("argument", ["params", "inputs", "student_params"])
@pytest.mark.parametrize("transform", [jax.jit, jax.grad, jax.vmap], ids=["jit", "grad", "vmap"])
def test_traced_values_are_refused_by_name(argument, transform):
    def outer(size):
        scaled = jax.tree.map(lambda leaf: size * leaf, IT.inputs if argument == "inputs" else IT.params)
        call(**{argument: scaled})
        return size

    with pytest.raises(ValueError, match=rf"^{argument}\b.* is traced; .* outside jax.jit"):
        transform(outer)(jnp.ones(2) if transform is jax.vmap else 1.0)


@pytest.mark.parametrize("argument", ["f", "teacher_loss", "imitation_loss"])
@pytest.mark.parametrize("transform", [jax.jit, jax.grad], ids=["jit", "grad"])
def test_functions_that_close_over_traced_values_are_refused_by_name(argument, transform):
    def outer(size):
        functions = {
            "f": lambda p, x: size * IT.f(p, x),
            "teacher_loss": lambda p: size * IT.teacher_loss(p),
            "imitation_loss": lambda z, y: size * square(z, y),
        }
        call(**{argument: functions[argument]})
        return size

    with pytest.raises(ValueError, match=f"^{argument} closes over a traced value; .* outside jax.jit"):
        transform(outer)(1.0)


def test_constants_in_other_dtypes_are_no_casts(report):
    """Negative control: what does not depend on the arguments may be in any dtype."""
    mask = jnp.float16([1, 1, 1, 1, 1])
    with jax.numpy_dtype_promotion("standard"):
        again = call(
            f=lambda p, x: mask[None] * IT.f(p, x.astype(jnp.float32)),  # the shared inputs are float32 numbers
            teacher_loss=lambda p: jnp.float32(1) * IT.teacher_loss(p),
        )
    np.testing.assert_allclose(again.alignment, report.alignment, rtol=1e-12)


def test_a_mask_selects_as_its_indices_do(report):
    picked, masked = (call(logits=logits).by_logit for logits in ([2, 4], np.array([0, 0, 1, 0, 1], bool)))
    assert picked == masked
    assert [place for place, share in enumerate(masked) if share] == [2, 4]
    np.testing.assert_allclose(call(logits=[True] * 5).by_logit, report.by_logit, rtol=1e-12)


def test_a_constant_teacher_loss_has_no_gradient_and_teaches_nothing():
    report = call(teacher_loss=lambda _: 1.0)
    report.require()
    assert report.branch == "orthogonal"
    assert report.alignment == (0.0,) * 3


def test_instance_is_checked_and_in_float64_and_cannot_be_changed():
    instance = Instance(IT.f, SINGLE[0], None, SINGLE[1], logits=[3, 4])
    assert {leaf.dtype for leaf in jax.tree.leaves((instance.params, instance.inputs))} == {np.dtype(np.float64)}
    assert instance.outputs.shape == (6, 2)  # of half of the inputs
    with pytest.raises(AttributeError):
        instance.batch_size = 2
    with pytest.raises(ValueError, match="teacher_loss is None, and this needs one"):
        guaranteed_alpha(instance)
    with pytest.raises(ValueError, match="params has no leaves"):
        Instance(IT.f, {}, None, IT.inputs)


def test_arguments_that_are_right_pass():
    """The negative control of the errors: unusual but valid forms of each argument."""
    params = with_leaf(np.float16(IT.params["layer_1"]["bias"]))
    report = call(
        params=jax.tree.map(jnp.asarray, params),
        logits=[-1, 3],
        epsilons=np.array([1e-3]),
        alpha=1,
        batch_size=50,
        imitation_loss=square,
        student_params=params,
    )
    report.require()
    assert report.branch == "transfer"
    assert [place for place, share in enumerate(report.by_logit) if share] == [3, 4]


# The report


def test_report_is_strict_json_and_complete(report, failed, orthogonal):
    for each in report, failed, orthogonal:
        plain = each.to_dict()
        again = json.loads(json.dumps(plain, allow_nan=False))
        assert set(again) == {*TheoremReport.__dataclass_fields__, "holds"}
        assert again["branch"] == each.branch
        assert again["holds"] is each.holds
        assert again["alignment"] == list(each.alignment)
        assert again["by_layer"] == each.by_layer
        assert again["hypotheses"]["hold"] is True


def test_numbers_that_are_not_finite_become_none_and_the_failing_hypothesis_is_named():
    """On a flat minimum A is 0 and d_S is not: the relative remainder is infinite."""
    report = call(imitation_loss=lambda z, y: jnp.sum((z - y) ** 4, axis=-1), epsilons=(1e-1, 1.0))
    assert report.relative_remainder == (math.inf, math.inf)
    plain = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert plain["relative_remainder"] == [None, None]
    assert plain["hypotheses"]["hold"] is False
    assert not report.holds
    with pytest.raises(TheoremViolation, match="hypothesis 'gradients are orthogonal to the null space'"):
        report.require()


def test_numbers_are_plain_python(report):
    for value in (*report.alignment, *report.cosine, report.first_order, report.transfer_ratio, *report.by_logit):
        assert type(value) is float
    assert type(report.holds) is bool
    assert list(report.by_layer) == ["layer_0", "layer_1"]


def test_fields_belong_together(report):
    assert sum(report.by_layer.values()) == pytest.approx(report.first_order, rel=1e-12)
    assert sum(report.by_logit) == pytest.approx(report.first_order, rel=1e-12)
    assert report.alignment[0] / report.epsilons[0] == pytest.approx(report.first_order, rel=1e-6)
    assert all(0 < cosine <= 1 for cosine in report.cosine)
    assert {len(row) for row in (report.alignment, report.cosine, report.relative_remainder)} == {len(EPSILONS)}
    assert report.largest_epsilon_verified == EPSILONS[-1]


def test_require_raises_the_first_failure_and_nothing_where_there_is_none(report, failed, orthogonal):
    report.require()
    orthogonal.require()
    assert len(failed.failures) >= 2
    with pytest.raises(TheoremViolation, match=f"^{re.escape(failed.failures[0])}$") as caught:
        failed.require()
    assert isinstance(caught.value, AssertionError)
    assert isinstance(caught.value, SublimError)


def test_printing_shows_the_table(report, failed, orthogonal):
    lines = str(report).splitlines()
    assert lines[0] == "Theorem 1: holds, branch: transfer"
    header = next(place for place, line in enumerate(lines) if "d_S . d_T" in line)
    for column in "eps", "cosine", "remainder", "change of L_T":
        assert column in lines[header]
    rows = [line.split() for line in lines[header + 1 : header + 1 + len(EPSILONS)]]
    assert [float(row[0]) for row in rows] == list(EPSILONS)
    for column, values in enumerate((report.alignment, None, report.cosine, None, report.teacher_loss_change), start=1):
        if values:
            assert [float(row[column]) for row in rows] == pytest.approx(list(values), rel=1e-3)
    assert "layer_0" in str(report)
    assert "failed" not in str(report)
    assert str(failed).startswith("Theorem 1: DOES NOT HOLD, branch: different-initialisation")
    assert [line for line in str(failed).splitlines() if line.startswith("failed: ")] == [
        f"failed: {failure}" for failure in failed.failures
    ]
    assert str(orthogonal).startswith("Theorem 1: holds, branch: orthogonal")


def test_report_cannot_be_changed(report):
    with pytest.raises(AttributeError):
        report.branch = "orthogonal"


def test_many_outputs_are_verified_without_the_dense_check():
    """Above 256 outputs the hypotheses, which form matrices of that size, are checked on a subspace."""

    def f(params, x):
        return jnp.tanh(x @ params["kernel"])

    params = {"kernel": np.random.default_rng(0).normal(size=(3, 300)) / 2}
    report = verify(f, params, lambda p: jnp.sum(p["kernel"] ** 2), IT.inputs[:, :3], epsilons=(1e-6,))
    report.require()
    assert len(report.hypotheses.checks) == 4
    assert report.hypotheses.scope == "a random subspace of 32 of 300 outputs"
    assert "checked on a random subspace of 32 of 300 outputs" in str(report)
