"""What is checked before a verdict, kind by kind: a wrong instance is refused by the name of the argument at fault.

Each kind has sound twins, as near to the wrong ones as can be, that are accepted; every fourth gets its verdict.
"""

import dataclasses
import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from flax.core import freeze
from jax.lax import stop_gradient
from sabotage import rule

from sublim_theory import losses
from sublim_theory.theorem import Instance, verify
from sublim_theory.theorem.verify import verify_instance

RNG = np.random.default_rng(20261126)
ROWS, ROW = 40, 33
PARAMS = {"a": RNG.normal(size=(5, 12)) / 5**0.5, "b": RNG.normal(size=(12, 4)) / 12**0.5}
X = RNG.normal(size=(ROWS, 5))
LATE = X.copy()
LATE[ROW] = 0  # where a norm has no derivative
WRONG, SOUND = {}, {}
"""By name: the argument that a refusal names with what else it says, and the changes to the instance; these alone."""


def network(hidden=lambda h: h, activation=jnp.tanh):
    return lambda p, x: hidden(activation(x @ p["a"])) @ p["b"]


def trait(p):
    return jnp.mean(network()(p, X)[:, 0] ** 2) + jnp.sum(p["a"] ** 2) / 10


PARTS = {"f": network(), "params": PARAMS, "teacher_loss": trait, "inputs": X}


@functools.cache
def checked(late=False):
    return Instance(*(PARTS | {"inputs": LATE if late else X}).values())


def call(**changes):
    """`verify` of the shared instance, with some arguments changed; what these are not about is checked once."""
    options, late = {"epsilons": (1e-6, 1e-3)} | changes, changes.get("inputs") is LATE
    if {*PARTS, "batch_size"} & set(changes) <= ({"inputs"} if late else set()):
        options.pop("inputs", None)
        loss = options.pop("imitation_loss", "kl"), options.pop("logits", None)
        return verify_instance(checked(late).with_loss(*loss), **options)
    parts = [options.pop(name, part) for name, part in PARTS.items()]
    return verify(*parts, **options)


def accepted(**changes):
    parts = [changes.pop(name, part) for name, part in PARTS.items()]
    return Instance(*parts, **changes)


def refused(argument, *words, **changes):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        call(**changes)
    message = str(caught.value)
    for word in (rf"(?<![\w.]){argument}(?!\w)", *words):
        assert re.search(word, message), message
    assert "minimum at z = y" not in message  # a false reason for all that is refused here


def holds(**changes):
    report = call(**changes)
    report.require()
    assert report.branch == "transfer"
    return report


@functools.cache
def plain_report():
    return holds()


def assert_same(report, other):
    """All numbers of two reports, but for rounding."""
    ours, theirs = (vars(each) | {"hypotheses": each.hypotheses.hold} for each in (report, other))
    for name, value in ours.items():
        # A difference of nearly equal vectors has fewer digits.
        rtol, atol = (1e-4, 1e-12) if name == "relative_remainder" else (1e-9, 1e-18)
        for a, b in zip(*(jax.tree.leaves(each) for each in (value, theirs[name])), strict=True):
            assert a == (b if isinstance(b, str) else pytest.approx(b, rel=rtol, abs=atol)), name


def of(loss):
    return {"imitation_loss": loss}


def inside(function, argument="f"):
    """The changes that put a function of arrays into that argument."""
    if argument == "f":
        return {"f": network(function)}
    if argument == "teacher_loss":
        return {"teacher_loss": lambda p: trait(p | {"a": function(p["a"])})}
    return of(lambda z, y: losses.squared_error(function(z), y))


def all_wrong(words, functions, arguments=("f", "teacher_loss", "imitation_loss")):
    for argument, (name, function) in itertools.product(arguments, functions.items()):
        WRONG[f"{argument}: {name}"] = (argument, words, inside(function, argument))


# Derivatives that are not those of the values


def staircase(h):
    return jnp.round(8 * h) / 8


by_vjp, by_jvp = jax.custom_vjp(staircase), jax.custom_jvp(staircase)
by_vjp.defvjp(lambda h: (staircase(h), None), lambda _, g: (g,))
by_jvp.defjvp(lambda primals, tangents: (staircase(primals[0]), tangents[0]))
BENT = {
    "straight through": lambda h: h + stop_gradient(staircase(h) - h),
    "straight through, the zero first": lambda h: h - stop_gradient(h) + stop_gradient(staircase(h)),
    "straight through, a vjp": by_vjp,
    "straight through, a jvp": by_jvp,
    "straight through a sign": lambda h: h + stop_gradient(jnp.sign(h) - h),
    "stopped layer": stop_gradient,
    "stopped unit": lambda h: h.at[..., 0].set(stop_gradient(h[..., 0])),
    "stopped norm": lambda h: h / stop_gradient(1 + jnp.sum(h * h, axis=-1, keepdims=True)),
    "reversed": rule(-1.0),
    **{f"jvp times {factor}": rule(factor, forward=True) for factor in (0.0, 1.001, 2.0)},
    **{f"vjp times {factor}": rule(factor) for factor in (0.0, 1.001, 2.0)},
}
STRAIGHT = {
    "right vjp": rule(1.0),
    "right jvp": rule(1.0, forward=True),
    "stopped and zero": lambda h: h + stop_gradient(jnp.zeros_like(h)),
}
APART = r"a derivative that is not that of its values.* gives -?[\d.e+-]+ where differences of values give -?[\d.e+-]+"
all_wrong([APART], BENT)
for where in "f", "teacher_loss", "imitation_loss":
    SOUND |= {f"{where}: {name}": inside(function, where) for name, function in STRAIGHT.items()}
WRONG["teacher_loss: factor"] = "teacher_loss", [APART], {"teacher_loss": lambda p: trait(p) * stop_gradient(trait(p))}
SOUND["f: no stopped norm"] = inside(lambda h: h / (1 + jnp.sum(h * h, axis=-1, keepdims=True)))
SOUND["teacher_loss: absolute value"] = {"teacher_loss": lambda p: jnp.abs(trait(p))}


def total(function):
    return lambda z, y: jnp.sum(function(z - y), axis=-1)


def kl(z, y, stop=lambda a: a, of_the_normaliser=lambda a: a):
    p = z - of_the_normaliser(jax.nn.logsumexp(z, axis=-1, keepdims=True))
    q = jax.nn.log_softmax(y)
    return jnp.sum(stop(jnp.exp(q)) * (stop(q) - p), axis=-1)


BENT_LOSSES = {
    "stopped normaliser": functools.partial(kl, of_the_normaliser=stop_gradient),
    "stopped factor": total(lambda r: r * stop_gradient(r)),
    "L1, abs": total(jnp.abs),
    "L1, where": total(lambda r: jnp.where(r > 0, r, -r)),
    "L1, maximum": total(lambda r: jnp.maximum(r, -r)),
    "L1, root of the square": total(lambda r: jnp.sqrt(r * r)),
    "L1, sign": total(lambda r: r * jnp.sign(r)),
    "L1, two relus": total(lambda r: jax.nn.relu(r) + jax.nn.relu(-r)),
}
STRAIGHT_LOSSES = {
    "pseudo-Huber": total(lambda r: jnp.sqrt(1 + r * r) - 1),
    "Huber": total(lambda r: jnp.where(jnp.abs(r) < 1, r * r / 2, jnp.abs(r) - 0.5)),
    "L1, smoothed": total(lambda r: jnp.sqrt(r * r + 1e-4)),
}
KINKS = {
    "relu": jax.nn.relu,
    "abs": jnp.abs,
    "leaky relu": lambda h: jnp.where(h > 0, h, 0.1 * h),
    "max pooling": lambda h: jnp.tile(jnp.max(h.reshape(*h.shape[:-1], 4, 3), axis=-1), 3),
}
WRONG |= {f"imitation_loss: {name}": ("imitation_loss", [], of(loss)) for name, loss in BENT_LOSSES.items()}
SOUND |= {f"imitation_loss: {name}": of(loss) for name, loss in STRAIGHT_LOSSES.items()}
SOUND |= {f"f: {name}": {"f": network(activation=kink)} for name, kink in KINKS.items()}


# Rows that feel each other, and functions that are not the same twice


OVER = {
    "norm": lambda axis: lambda h: (h - h.mean(axis, keepdims=True)) / jnp.sqrt(h.var(axis, keepdims=True) + 1e-2),
    "mean": lambda axis: lambda h: h - jnp.mean(h, axis, keepdims=True),
    "roll": lambda axis: lambda h: h + 0.5 * jnp.roll(h, 1, axis),
    "softmax": lambda axis: lambda h: h + jax.nn.softmax(h, axis),
}


def of_both(function):
    return of(lambda z, y: losses.squared_error(function(z), function(y)))


CONTRASTED = of(lambda z, y: -jnp.diagonal(jax.nn.log_softmax(z @ y.T, axis=1)))
ALONE = ["rows feel each other"]
for (name, over), size_of_batches in itertools.product(OVER.items(), (None, 7)):
    at = inside(over(0)) | {"batch_size": size_of_batches}
    WRONG |= {f"f: {name} over rows, {size_of_batches}": ("f", ALONE, at)}
WRONG |= {f"imitation_loss: {name} over rows": ("imitation_loss", ALONE, of_both(g(0))) for name, g in OVER.items()}
WRONG["imitation_loss: InfoNCE"] = "imitation_loss", ALONE, CONTRASTED
SOUND |= {f"f: {name} over features": inside(over(1)) for name, over in OVER.items()}
SOUND |= {"imitation_loss: mean over features": of_both(OVER["mean"](1))}
COUNT, KEY, MASK = itertools.count(), jax.random.key(0), 2.0 * np.random.default_rng(0).integers(2, size=(1, 12))
IMPURE = {
    "mask": lambda h: h * (2.0 * np.random.default_rng().integers(2, size=h.shape)),
    "noise": lambda h: h + 0.1 * np.random.default_rng().normal(size=h.shape),
    "counter": lambda h: h * (1 + 0.01 * next(COUNT)),
}
all_wrong(["not the same function when it is called twice"], IMPURE)
SOUND |= {"f: mask and noise drawn once": inside(lambda h: h * MASK + 0.1 * jax.random.normal(KEY, (1, 12), h.dtype))}


# Not finite, in one late row or one leaf


def size(h):
    return jnp.sum(h * h, axis=1, keepdims=True)


def guarded(s):
    return jnp.where(s > 0, jnp.sqrt(jnp.where(s > 0, s, 1)), 0)


def with_size(function):
    """Of the hidden state, which is 0 in the late row."""
    return {"f": lambda p, x: network()(p, x) + 0.1 * np.arange(1.0, 5)[None] * function(size(x @ p["a"]))}


def lengths(function):
    """With the squared difference of the sizes of the outputs, which are 0 in the late row."""
    return of(lambda z, y: losses.squared_error(z, y) + (function(size(z)) - function(size(y)))[:, 0] ** 2)


def leaf(function):
    return {"params": PARAMS | {"c": np.zeros(3)}, "teacher_loss": lambda p: trait(p) + function(jnp.sum(p["c"] ** 2))}


VALUES = {"0 / 0": lambda s: s / s, "log 0": jnp.log, "1 / 0": lambda s: 1 / s}
SLOPES = {"norm": jnp.sqrt, "mask": lambda s: jnp.where(s > 0, s / jnp.sqrt(s), 0), "power": lambda s: s**0.3}
LEAF = [r"gradient of teacher_loss is not finite at params\['c'\]"]
for (name, each), size_of_batches in [*itertools.product(VALUES.items(), (None, 6)), *((s, 6) for s in SLOPES.items())]:
    what = ["outputs that are not finite" if name in VALUES else "derivative of f is not finite", f"input {ROW} "]
    at = with_size(each) | {"inputs": LATE, "batch_size": size_of_batches}
    WRONG |= {f"f: {name} in a late row, {size_of_batches}": ("f", what, at)}
for name, each in SLOPES.items():
    at = lengths(each) | {"inputs": LATE}
    WRONG |= {f"teacher_loss: {name}": ("teacher_loss", LEAF, leaf(each))}
    WRONG |= {f"imitation_loss: {name} in a late row": ("imitation_loss", [rf"input {ROW}\b"], at)}
SOUND |= {"f: guarded size": with_size(lambda s: guarded(s) ** 2) | {"inputs": LATE}, "leaf, guarded": leaf(guarded)}
SOUND |= {"imitation_loss: size off 0": lengths(lambda s: jnp.sqrt(s + 1e-2)) | {"inputs": LATE}}


def narrow(dtype):
    return lambda h: jnp.real(h.astype(dtype)).astype(h.dtype)


def scanned(dtype):
    return lambda h: jax.lax.scan(lambda c, _: (narrow(dtype)(jnp.sin(c)), None), h, None, length=2)[0]


def recurrent(dtype, keep=lambda new, h: new):  # noqa: ARG005
    def f(p, x):
        step = lambda h, now: (keep(jnp.tanh(now @ p["a"] + h.astype(now.dtype)), h), None)  # noqa: E731
        h, _ = jax.lax.scan(step, jnp.zeros((len(x), 12), dtype), jnp.stack([x, 2 * x]))
        return h.astype(x.dtype) @ p["b"]

    return {"f": f}


for name in "float32", "bfloat16", "float16", "complex64":
    what = ["casts", "complex64|float32" if name == "complex64" else name]
    all_wrong(what, {name: narrow(name)})
    all_wrong(what, {f"{name} in a scan": scanned(name)}, ["f"])
WRONG["f: carry in float32"] = "f", ["float32"], recurrent("float32")
WRONG["f: carry cast to it"] = "f", ["casts", "float32"], recurrent("float32", lambda new, h: new.astype(h.dtype))
SOUND |= {f"f: {name} in a scan": inside(scanned(name)) for name in ("float64", "complex128")}
SOUND |= {"f: carry of zeros": recurrent(None)}  # of the dtype of the moment


def until_it_converges(h):
    step = lambda state: (jnp.tanh(h + 0.1 * state[0]), state[1] / 2)  # noqa: E731
    return jax.lax.while_loop(lambda state: state[1] > 1e-4, step, (h, jnp.ones((), h.dtype)))[0]


def on_the_host(h):
    return jax.pure_callback(np.tanh, jax.ShapeDtypeStruct(h.shape, h.dtype), h, vmap_method="sequential")


without = {"until it converges": until_it_converges, "on the host": on_the_host}
all_wrong(["cannot be computed and differentiated"], without, ["f"])
SOUND |= {"f: five steps": inside(lambda h: jax.lax.fori_loop(0, 5, lambda _, g: jnp.tanh(h + 0.1 * g), h))}


@pytest.mark.parametrize(("argument", "words", "changes"), WRONG.values(), ids=WRONG)
def test_wrong_instance_is_refused_by_name(argument, words, changes):
    refused(argument, *words, **changes)


@pytest.mark.parametrize("changes", SOUND.values(), ids=SOUND)
def test_its_sound_twin_is_accepted(changes):
    if set(changes) <= {"imitation_loss"}:
        checked().with_loss(**changes)
    else:
        accepted(**changes)


@pytest.mark.parametrize("changes", [*SOUND.values()][::4], ids=[*SOUND][::4])
def test_and_gets_its_verdict(changes):
    holds(**changes)


@pytest.mark.parametrize("bias", [False, True])
def test_kink_exactly_at_params_is_no_disagreement(bias):
    """Rows of zeros and biases of zero. Where the teacher moves the bias, theta is no generic point: values decide."""

    def f(p, x):
        return jax.nn.relu(x @ p["a"] + (p["c"][None] if bias else 0)) @ p["b"]

    params = PARAMS | ({"c": np.zeros(12)} if bias else {})
    report = call(f=f, params=params, inputs=np.where(np.arange(ROWS)[:, None] % 4, X, 0))
    assert report.branch == "transfer"
    assert report.holds


STOPPED = {
    "labels": lambda z, y: losses.kl_divergence(z, stop_gradient(y)),
    "probabilities": functools.partial(kl, stop=stop_gradient),
    "optax": lambda z, y: optax.losses.kl_divergence(jax.nn.log_softmax(z), stop_gradient(jax.nn.softmax(y))),
    "cross-entropy": lambda z, y: -jnp.sum(stop_gradient(jax.nn.softmax(y)) * jax.nn.log_softmax(z), axis=-1),
    "a rule": lambda z, y: kl(z, rule(0.0)(y)),
}


@pytest.mark.parametrize("loss", STOPPED.values(), ids=STOPPED)
def test_labels_without_gradient_have_the_report_of_the_kl_divergence(loss):
    assert_same(holds(imitation_loss=loss), plain_report())


def with_a_vjp_alone(function):
    wrapped = jax.custom_vjp(function)
    wrapped.defvjp(lambda *a: (function(*a), a), lambda a, g: jax.vjp(function, *a)[1](g))
    return wrapped


def test_reverse_mode_alone_is_enough():
    assert_same(holds(f=network(activation=with_a_vjp_alone(jnp.tanh))), plain_report())
    assert_same(holds(imitation_loss=with_a_vjp_alone(losses.kl_divergence)), plain_report())
    assert_same(holds(teacher_loss=with_a_vjp_alone(trait)), plain_report())


@pytest.mark.parametrize("container", [dict, freeze])
def test_collections(container):
    f, loss = (lambda v, x: network()(v["params"], x)), (lambda v: trait(v["params"]))
    variables = {"params": PARAMS, "batch_stats": {"mean": np.zeros(12)}}
    refused("params", "collections.*batch_stats", f=f, teacher_loss=loss, params=container(variables))
    alone = holds(f=f, teacher_loss=loss, params=container({"params": PARAMS}))
    assert alone.first_order == pytest.approx(plain_report().first_order, rel=1e-12)


class Module(nnx.Module):
    def __init__(self, norm):
        self.a, self.b = nnx.Linear(5, 12, rngs=nnx.Rngs(0)), nnx.Linear(12, 4, rngs=nnx.Rngs(1))
        self.norm = norm(12, rngs=nnx.Rngs(2))

    def __call__(self, x):
        return self.b(jnp.tanh(self.norm(self.a(x))))


def decay(params):
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(params)) / 2


@jax.numpy_dtype_promotion("standard")  # as flax needs
def test_variables_of_a_module():
    module = Module(functools.partial(nnx.BatchNorm, use_running_average=True))
    graph, state = nnx.split(module)
    refused("params", "collections.*BatchStat", f=lambda s, x: nnx.merge(graph, s)(x), params=state, teacher_loss=decay)
    refused("params", "collections.*BatchStat", f=lambda m, x: m(x), params=module, teacher_loss=decay)
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    report = holds(f=lambda s, x: nnx.merge(graph, s, rest)(x), params=params, teacher_loss=decay)
    assert set(report.by_layer) == {"a", "b", "norm"}
    module = Module(nnx.LayerNorm)  # parameters alone, as a state and as a whole
    graph, state = nnx.split(module)
    report = holds(f=lambda s, x: nnx.merge(graph, s)(x), params=state, teacher_loss=decay)
    whole = holds(f=lambda m, x: m(x), params=module, teacher_loss=decay)
    assert whole.first_order == pytest.approx(report.first_order, rel=1e-12)


@dataclasses.dataclass(eq=False)
class Weights:
    a: np.ndarray
    b: np.ndarray
    note: object = None


jax.tree_util.register_dataclass(Weights, ["a", "b"], ["note"])


def test_trees_of_a_class_without_equality_compare_by_structure():
    def report(**changes):
        f, loss = (lambda w, x: network()(vars(w), x)), (lambda w: trait(vars(w)))
        return call(f=f, teacher_loss=loss, params=Weights(**PARAMS), **changes)

    assert_same(report(), report(student_params=Weights(PARAMS["a"].copy(), PARAMS["b"].copy())))
    other = report(student_params=Weights(PARAMS["a"] + 0.3, PARAMS["b"], note=np.ones(2)))
    assert other.branch == "different-initialisation"
    refused("student_params", "structure", student_params=Weights(PARAMS["b"], PARAMS["a"]))


@pytest.mark.parametrize("teacher_loss", [trait, lambda _: 1.0], ids=["trait", "idle"])
def test_debugging_of_nans_changes_nothing(teacher_loss):
    def binary(z, y):
        return jnp.sum(-y * jnp.log(z) - (1 - y) * jnp.log1p(-z), axis=-1)

    changes = {"f": lambda p, x: 0.5 + 0.1 * network()(p, x), "imitation_loss": binary, "teacher_loss": teacher_loss}
    plain = call(**changes)
    with jax.debug_nans(True), jax.debug_infs(True):
        assert_same(call(**changes), plain)


@pytest.mark.parametrize("loss", losses.IMITATION)
def test_strict_promotion_changes_nothing(loss):
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        lax = call(imitation_loss=loss, logits=[1, 2])
    assert_same(call(imitation_loss=loss, logits=[1, 2]), lax)  # strict as all tests of the theorem are
