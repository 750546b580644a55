"""Random instances of the theorem, a quarter of them wrong in one of many ways: material for "no false verdict".

`plan(seed)` decides what an instance is; `draw(seed)` builds it, with the verdict that a sound one must get and the
argument that the refusal of a wrong one must name. The numbers that go with a sound one come from numpy alone: the
network is written once over a namespace, and evaluated at complex parameters its imaginary part is the derivative along
a direction, to all digits (the complex step). In that world a stopped gradient is the real part, which tells whether a
sabotage matters on an instance; one that does not is drawn again, with other numbers.
"""

import itertools
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.lax import stop_gradient
from jax.nn import log_softmax, softmax

STEP, ATTEMPTS = 1e-30, 60  # the square of the imaginary part vanishes next to 1

# In JAX, and for complex numbers of numpy.
ACTIVATIONS = {
    "tanh": (jnp.tanh, np.tanh), "sigmoid": (jax.nn.sigmoid, lambda a: 1 / (1 + np.exp(-a))),
    "gelu": (jax.nn.gelu, lambda a: 0.5 * a * (1 + np.tanh(np.sqrt(2 / np.pi) * (a + 0.044715 * a * a * a)))),
    "relu": (jax.nn.relu, lambda a: np.where(a.real > 0, a, 0)), "identity": (lambda a: a, lambda a: a),
    "swish": (jax.nn.swish, lambda a: a / (1 + np.exp(-a))),
    "softplus": (jax.nn.softplus, lambda a: np.log(1 + np.exp(a))),
}  # fmt: skip
ARCHITECTURES = ("mlp", "residual", "layernorm", "skip", "two inputs", "tokens")
TEACHERS = ("cross entropy", "weight decay", "squared output", "quadratic")
ORTHOGONAL = ("unseen bias", "shift", "single logit")
SLICES = (slice(1, None), slice(0, 2), slice(-2, None))


# Imitation losses, in several spellings, each with v^T M v at the labels by hand
class Loss(NamedTuple):
    """`function(z, y)` leaves off the last axis, or is a name; `form(y, v)`; whether it sees no more than a softmax."""

    function: object
    form: object
    softmax: bool = False


def log_softmax_of_complex(z):
    z = z - z.real.max(-1, keepdims=True)
    return z - np.log(np.exp(z).sum(-1, keepdims=True))


def variance(y, v, temperature=1.0):
    """Of v under softmax(y / T), over T**2."""
    p = np.exp(log_softmax_of_complex(y / temperature))
    return (p * (v - (p * v).sum(-1, keepdims=True)) ** 2).sum(-1) / temperature**2


def diagonal(entries):
    return lambda y, v: (entries(y) * v * v).sum(-1)


def total(function):
    """Of a function of z - y of each output."""
    return lambda z, y: jnp.sum(function(z - y), axis=-1)


def stopped(loss):
    """The usual spelling: no gradient flows into the labels."""
    return lambda z, y: loss(z, stop_gradient(y))


def kl(z, y, temperature=1.0):
    p, q = log_softmax(z / temperature), log_softmax(y / temperature)
    return jnp.sum(jnp.exp(q) * (q - p), axis=-1)


def jensen_shannon(z, y):
    """With the mixture in logarithms: no logarithm of 0."""
    p, q = log_softmax(z), log_softmax(y)
    m = jnp.logaddexp(p, q) - np.log(2)
    return jnp.sum(jnp.exp(p) * (p - m) + jnp.exp(q) * (q - m), axis=-1) / 2


WEIGHTS = np.array([0.5, 2.0, 1.0, 3.0, 1.5, 0.7])
ONE, TWO = diagonal(np.ones_like), diagonal(lambda y: 2 * np.ones_like(y))
squared = total(jnp.square)
LOSSES = {
    "kl by name": Loss("kl", variance, True), "cross entropy by name": Loss("cross_entropy", variance, True),
    "squared error by name": Loss("squared_error", TWO), "huber by name": Loss("huber", ONE),
    "kl by optax": Loss(lambda z, y: optax.losses.kl_divergence_with_log_targets(log_softmax(z), log_softmax(y)),
                        variance, True),
    "kl by hand": Loss(kl, variance, True), "kl, stopped labels": Loss(stopped(kl), variance, True),
    "kl, T = 2": Loss(partial(kl, temperature=2.0), partial(variance, temperature=2.0), True),
    "cross entropy by hand": Loss(lambda z, y: -jnp.sum(softmax(y) * log_softmax(z), axis=-1), variance, True),
    "cross entropy, stopped labels": Loss(
        lambda z, y: -jnp.sum(stop_gradient(softmax(y)) * log_softmax(z), axis=-1), variance, True),
    "jensen shannon": Loss(jensen_shannon, lambda y, v: variance(y, v) / 4, True),
    "square": Loss(squared, TWO), "square, stopped labels": Loss(stopped(squared), TWO),
    "** 2": Loss(total(lambda r: r**2), TWO), "half the square": Loss(total(lambda r: 0.5 * r**2), ONE),
    "weighted": Loss(total(lambda r: r * r * WEIGHTS[: r.shape[-1]][(None,) * (r.ndim - 1)]),
                     diagonal(lambda y: 2 * WEIGHTS[: y.shape[-1]])),
    "huber by hand": Loss(total(lambda r: jnp.where(r * r <= 1, r * r / 2, jnp.abs(r) - 0.5)), ONE),
    "log cosh": Loss(total(lambda r: jnp.logaddexp(r, -r) - np.log(2)), ONE),
    "bregman": Loss(lambda z, y: jnp.sum(jnp.exp(z) - jnp.exp(y) - jnp.exp(y) * (z - y), axis=-1), diagonal(np.exp)),
}  # fmt: skip


# Sabotage: of hidden states h, of parameters, of a scalar, and whole imitation losses
def rule(factor, forward=False):
    """The identity with a derivative of `factor` (a number, or a function of the cotangent), by a custom rule."""
    if forward:
        same = jax.custom_jvp(lambda h: h)
        same.defjvp(lambda primals, tangents: (primals[0], factor * tangents[0]))
    else:
        same = jax.custom_vjp(lambda h: h)
        same.defvjp(lambda h: (h, None), lambda _, g: (factor(g) if callable(factor) else factor * g,))
    return same


RULES = {f"{kind} times {c}": rule(c, kind == "jvp") for kind in ("jvp", "vjp") for c in (1.5, -1.0, 1.001)}
BENT = {
    **RULES,
    "clipped": rule(lambda g: jnp.clip(g, -1e-3, 1e-3)), "one-sided": rule(lambda g: jnp.maximum(g, 0)),
    "straight through": lambda h: h + stop_gradient(jnp.round(8 * h) / 8 - h),
    "straight through, other spelling": lambda h: h - stop_gradient(h) + stop_gradient(jnp.round(8 * h) / 8),
    "stopped layer": stop_gradient, "stopped branch": lambda h: 0.3 * h + stop_gradient(0.7 * h),
    "stopped units": lambda h: jnp.concatenate([stop_gradient(h[..., :2]), h[..., 2:]], axis=-1),
}  # fmt: skip
COUPLED = {
    "batch norm": lambda h: (h - h.mean(0, keepdims=True)) / jnp.sqrt(h.var(0, keepdims=True) + 1e-5),
    "softmax over the batch": lambda h: h + softmax(h, axis=0),
    "mean over the batch": lambda h: h - jnp.mean(h, axis=0, keepdims=True),
    "roll": lambda h: h + 0.5 * jnp.roll(h, 1, axis=0),
}
# Each takes the material, so that what it draws or counts is its own.
IMPURE = {
    "mask": lambda own: lambda h: h * (2.0 * own.state.integers(2, size=h.shape)),
    "noise": lambda own: lambda h: h + 0.1 * own.state.normal(size=h.shape),
    "counter": lambda own: lambda h: h * (1 + 0.01 * next(own.count)),
}
# Of a sum of squares that is 0: the value is not finite; below, the derivative alone.
AT_ZERO = {
    "0 / 0": lambda s: s / s, "log 0": jnp.log, "1 / 0": lambda s: 1 / s,
    "norm": jnp.sqrt, "where": lambda s: jnp.where(s > 0, s / jnp.sqrt(s), 0), "power": lambda s: s**0.3,
}  # fmt: skip
CASTS = {
    **{dtype: partial(lambda dtype, h: h.astype(dtype).real.astype(h.dtype), dtype)
       for dtype in ("float32", "bfloat16", "float16", "complex64")},
    "float32 within jit": jax.jit(lambda h: h.astype("float32").astype(h.dtype)),
    "float32 sum": lambda h: jnp.sum(h[..., None], axis=-1, dtype="float32").astype(h.dtype),
    "reduced precision": lambda h: jax.lax.reduce_precision(h, 8, 23),
}  # fmt: skip
BENT_LOSSES = {
    **{name: partial(lambda same, z, y: squared(same(z), y), same) for name, same in RULES.items()},
    "stopped logit": lambda z, y: squared(jnp.concatenate([stop_gradient(z[..., :1]), z[..., 1:]], axis=-1), y),
    "stopped factor": total(lambda r: r * stop_gradient(r)),
    "stopped normaliser": lambda z, y: -jnp.sum(
        softmax(y) * (z - stop_gradient(jax.nn.logsumexp(z, axis=-1, keepdims=True))), axis=-1),
    "l1, abs": total(jnp.abs), "l1, maximum": total(lambda r: jnp.maximum(r, -r)),
    "l1, root": total(lambda r: jnp.sqrt(r * r)), "l1, where": total(lambda r: jnp.where(r > 0, r, -r)),
    "l1, sign": total(lambda r: r * jnp.sign(r)), "l1, relus": total(lambda r: jax.nn.relu(r) + jax.nn.relu(-r)),
    "norm": lambda z, y: jnp.linalg.norm(z - y, axis=-1),
    "hinge, maximum": total(lambda r: jnp.maximum(r, 0)), "hinge, relu": total(lambda r: jax.nn.relu(-r)),
}  # fmt: skip
COUPLED_LOSSES = {
    # InfoNCE: each row against the labels of all.
    "contrast": lambda z, y: -jnp.diagonal(log_softmax(z.reshape(len(z), -1) @ y.reshape(len(y), -1).T, axis=1)),
    "standardised": lambda z, y: squared(COUPLED["batch norm"](z), COUPLED["batch norm"](y)),
    "centred": lambda z, y: squared(COUPLED["mean over the batch"](z), COUPLED["mean over the batch"](y)),
}
F, TEACHER, IMITATION = "f", "teacher_loss", "imitation_loss"
# Group -> argument -> names.
SABOTAGE = {
    "bent": {F: [*BENT, "frozen leaf"], TEACHER: [*RULES, "frozen leaf", "stopped factor"], IMITATION: [*BENT_LOSSES]},
    "coupled": {F: [*COUPLED], IMITATION: [*COUPLED_LOSSES]},
    "impure": {F: [*IMPURE], IMITATION: [*IMPURE], TEACHER: ["noise", "counter"]},
    "not finite": {F: [*AT_ZERO], TEACHER: [*AT_ZERO], IMITATION: ["root", "root in one row"]}
    | {name: ["nan", "inf"] for name in ("inputs", "params")},
    "cast": {name: [*CASTS, "returned"] for name in (F, TEACHER, IMITATION)},
}  # fmt: skip
KINDS = [(group, argument, name) for group, of in SABOTAGE.items() for argument, names in of.items() for name in names]
ORDER = np.random.default_rng(0).permutation(len(KINDS))


def plan(seed):
    """What an instance is, without its numbers; `place` is "input", the number of a layer, or "output"."""
    rng = np.random.default_rng([seed, 2507])
    pick = lambda options: options[rng.integers(len(options))]  # noqa: E731
    # Every fourth, each kind in its turn, so that none is missing among many.
    kind = KINDS[ORDER[seed // 4 % len(KINDS)]] if seed % 4 == 3 else (None, None, None)
    it = SimpleNamespace(seed=seed, **dict(zip(("group", "argument", "sabotage"), kind, strict=True)))
    it.orthogonal = pick(ORTHOGONAL) if it.group is None and rng.random() < 0.15 else None
    it.late_row = it.argument == "inputs" or (it.argument == F and it.sabotage in AT_ZERO)
    it.architecture = pick(ARCHITECTURES[:-1] if it.late_row else ARCHITECTURES)
    it.activation, it.mixing, it.over_positions = pick(list(ACTIVATIONS)), pick([True, False]), pick(["mean", "sum"])
    it.depth, it.features, it.outputs = (int(rng.integers(*ends)) for ends in ((0, 4), (3, 7), (3, 7)))
    it.width = it.features if it.architecture == "residual" else int(rng.integers(4, 9))
    it.rows, it.batch_size = 40 if it.late_row else pick([*range(8, 25, 2), 40]), pick([None, None, 3, 7])
    spellings = [name for name, loss in LOSSES.items() if loss.softmax or it.orthogonal in (None, "unseen bias")]
    if it.architecture == "tokens":  # the named losses give a value a position
        spellings = [name for name in spellings if callable(LOSSES[name].function)]
    if it.argument == IMITATION:
        spellings = ["square"] if it.sabotage in BENT_LOSSES else ["kl by hand", "square", "huber by hand", "log cosh"]
    some = [int(k) for k in rng.permutation(it.outputs)[: rng.integers(2, it.outputs)]]
    choices = {key: [None, *SLICES, some] for key in (None, "shift")} | {"single logit": [[0], [-1], slice(1, 2)]}
    it.spelling, it.logits = pick(spellings), pick(choices.get(it.orthogonal, [*SLICES, some]))
    it.teacher = it.orthogonal if it.orthogonal in ORTHOGONAL[:2] else pick(TEACHERS)
    it.other_student = it.group is None and it.orthogonal is None and rng.random() < 0.1
    decades = sorted(10.0 ** -int(k) for k in rng.permutation(13)[: rng.integers(1, 5)])
    it.epsilons, it.alpha = pick([decades, decades, [1e-12, *decades[1:]], None]), pick([None, 0.3])
    # No derivative flows into the inputs of most architectures.
    early = it.group in ("cast", "coupled") or it.architecture in ("tokens", "two inputs")
    if it.sabotage == "reduced precision":  # of inputs alone it is another function of the parameters, and a sound one
        early = it.architecture in ("tokens", "two inputs")
    it.place = pick([*range(it.depth), "output", *["input"] * early])
    if it.argument == F and it.group == "bent":  # what cannot matter: decay before a layer norm, outputs not imitated
        it.teacher = "quadratic" if it.teacher == "weight decay" else it.teacher
        it.logits = it.logits if it.sabotage != "stopped units" else None
    it.selected = np.arange(it.outputs)[slice(None) if it.logits is None else it.logits]
    return it


# The network and the teacher's loss, over both namespaces; parameters are dicts of dicts
def network(it, dual=False, hook=lambda _place, h: h):
    """`f(params, x)` of a plan, in JAX or for complex numbers of numpy; the hook sees every hidden state."""
    xp, activation = (np if dual else jnp), ACTIVATIONS[it.activation][dual]

    def affine(h, layer):
        return h @ layer["kernel"] + layer["bias"][(None,) * (h.ndim - 1)]

    def f(params, x):
        h = x
        if it.architecture == "tokens":
            h = params["embedding"]["table"][x]
            h = h + xp.mean(h, axis=1, keepdims=True) if it.mixing else h
        elif it.architecture == "two inputs":
            h = x["left"] @ params["join"]["left"] + x["right"] @ params["join"]["right"]
        start = h = hook("input", h)
        for k in range(it.depth):
            a = affine(h, params[f"layer_{k}"])
            if it.architecture == "layernorm":
                a = a - xp.mean(a, axis=-1, keepdims=True)
                a = a / xp.sqrt(xp.mean(a * a, axis=-1, keepdims=True) + 1e-5)
            h = hook(k, activation(a) + (h if it.architecture == "residual" else 0))
        z = affine(h, params["head"])
        return hook("output", z + start @ params["skip"]["kernel"] if it.architecture == "skip" else z)

    return f


def teacher(it, f, dual, trait, labels, leaf, centre):
    """L_T over either namespace: `labels` are one-hot, `leaf` is the pair of names of a quadratic's parameter."""
    xp, normalised = (np, log_softmax_of_complex) if dual else (jnp, log_softmax)
    unseen = np.setdiff1d(np.arange(it.outputs), it.selected)

    def loss(params):
        if it.teacher == "cross entropy":
            return -xp.mean(xp.sum(labels * normalised(f(params, trait)), axis=-1))
        if it.teacher == "weight decay":
            return 0.5 * sum(xp.sum(p * p) for group in params.values() for p in group.values())
        if it.teacher == "squared output":
            # Of a linear model, an output that is imitated: the others move none of its parameters.
            return xp.mean(f(params, trait)[..., 0 if it.depth else it.selected[0]] ** 2)
        if it.teacher == "quadratic":
            return 0.5 * xp.sum((params[leaf[0]][leaf[1]] - centre) ** 2)
        return 0.5 * (xp.sum(params["head"]["bias"][it.selected if it.teacher == "shift" else unseen]) - 1.3) ** 2

    return loss


def draw_params(it, rng):
    widths = [it.features, *[it.width] * it.depth, it.outputs]
    names = [*(f"layer_{k}" for k in range(it.depth)), "head"]
    shapes = {name: {"kernel": (a, b), "bias": (b,)} for name, a, b in zip(names, widths, widths[1:], strict=False)}
    if it.architecture == "tokens":
        shapes["embedding"] = {"table": (7, it.features)}
    elif it.architecture == "two inputs":
        shapes["join"] = {"left": (4, it.features), "right": (3, it.features)}
    elif it.architecture == "skip":
        shapes["skip"] = {"kernel": (it.features, it.outputs)}
    size = lambda shape: 0.3 if len(shape) == 1 else 1.2 / shape[0] ** 0.5  # noqa: E731
    return {g: {n: size(shape) * rng.normal(size=shape) for n, shape in each.items()} for g, each in shapes.items()}


def draw_inputs(it, rng, rows):
    if it.architecture == "tokens":
        return rng.integers(7, size=(rows, 3), dtype=np.int32)
    if it.architecture == "two inputs":
        return {"left": rng.normal(size=(rows, 4)), "right": rng.uniform(-1, 1, size=(rows, 3))}
    return rng.normal(size=(rows, it.features))


def replaced(params, leaf, function):
    group, name = leaf
    return params | {group: params[group] | {name: function(params[group][name])}}


def descent(loss, params):
    """`-grad loss`, entry by entry."""
    theta = jax.tree.map(lambda p: p.astype(complex), params)

    def entry(p, index):
        p[index] += 1j * STEP
        value = -np.imag(loss(theta)) / STEP
        p[index] = p[index].real
        return value

    return jax.tree.map(lambda p: np.array([entry(p, k) for k in np.ndindex(p.shape)]).reshape(p.shape), theta)


# The instance
@dataclass(frozen=True, eq=False)
class Instance:
    """What to hand to `verify`, and what it must say: an error that names `argument`, or a branch and A."""

    seed: int
    arguments: dict
    sabotage: str | None
    argument: str | None
    branch: str
    coefficient: float | None
    description: str


class Material:
    """The numbers of one attempt at a plan, and what the complex step says of them."""

    def __init__(self, it, attempt):
        rng = np.random.default_rng([it.seed, attempt, 14805])
        self.it, self.params, self.inputs = it, draw_params(it, rng), draw_inputs(it, rng, it.rows)
        self.other = jax.tree.map(lambda p, q: p + 0.3 * q, self.params, draw_params(it, rng))
        self.state, self.count = np.random.default_rng([it.seed, attempt, 6]), itertools.count()
        leaves = [(group, name) for group, each in self.params.items() for name in each]
        self.leaf, frozen = leaves[rng.integers(len(leaves))], leaves[rng.integers(len(leaves))]
        self.row = int(rng.integers(8, it.rows)) if it.late_row else 0
        if it.sabotage in AT_ZERO and it.argument == F:
            for x in jax.tree.leaves(self.inputs):
                x[self.row] = 0
        elif it.sabotage in AT_ZERO:
            self.params["head"]["bias"][:] = 0
        labels = np.eye(it.outputs)[rng.integers(it.outputs, size=(8, 3) if it.architecture == "tokens" else 8)]
        of = (draw_inputs(it, rng, 8), labels, frozen, rng.normal(size=self.params[frozen[0]][frozen[1]].shape))
        self.f, self.teacher_loss = network(it), teacher(it, network(it), False, *of)
        self.d = descent(teacher(it, network(it, True), True, *of), self.params)
        self.steepest = max(leaves, key=lambda leaf: np.linalg.norm(self.d[leaf[0]][leaf[1]]))
        self.y, self.v = self.velocity(self.d)
        inside = {**BENT, **COUPLED, **CASTS, "frozen leaf": stop_gradient}
        self.inside = IMPURE[it.sabotage](self) if it.group == "impure" else inside.get(it.sabotage)

    def at_place(self, function):
        return lambda place, h: function(h) if place == self.it.place else h

    def velocity(self, d, function=lambda h: h):
        """The outputs that are imitated, and their derivative along d."""
        moved = jax.tree.map(lambda p, q: p + 1j * STEP * q, self.params, d)
        z = network(self.it, True, self.at_place(function))(moved, self.inputs)[..., self.it.selected]
        return z.real, z.imag / STEP

    def form(self, v):
        """`E v^T M v`."""
        each = LOSSES[self.it.spelling].form(self.y, v).reshape(len(v), -1)
        return float(np.mean(each.mean(1) if self.it.over_positions == "mean" else each.sum(1)))

    def usable(self):
        """Whether the first-order term is far from 0 where it must be, and the sabotage matters."""
        it, size = self.it, np.mean(self.v**2)
        if it.orthogonal:
            return it.orthogonal == "unseen bias" or size > 1e-6
        if not 1e-6 < size < 1e6 or self.form(self.v) < 1e-4 * size:
            return False
        if it.argument == F and it.group == "bent":
            units = 2 if it.sabotage == "stopped units" else it.width + it.features + it.outputs
            lost = self.velocity(self.d, lambda h: np.concatenate([h[..., :units].real, h[..., units:]], axis=-1))[1]
            if it.sabotage == "frozen leaf":
                lost = self.velocity(replaced(self.d, self.leaf, np.zeros_like))[1]
            return self.form(self.v - lost) > 1e-4 * self.form(self.v)
        if it.argument == F and it.group in ("coupled", "impure", "cast"):
            return self.form(self.velocity(self.d, lambda h: 1.1 * h + 0.1)[0] - self.y) > 1e-5
        if it.sabotage == "stopped logit":
            return np.mean(self.v[..., 0] ** 2) > 1e-2 * size
        return it.sabotage != "root" or self.y.min() < -0.1


def draw(seed):
    it = plan(seed)
    own = next((each for each in (Material(it, attempt) for attempt in range(ATTEMPTS)) if each.usable()), None)
    assert own is not None, f"no usable numbers for {it}"
    arguments = {"f": own.f, "params": own.params, "teacher_loss": own.teacher_loss, "inputs": own.inputs}
    arguments["imitation_loss"] = per_row(it, LOSSES[it.spelling].function)
    if it.sabotage == "returned":
        sound = arguments[it.argument]
        arguments[it.argument] = lambda *values: sound(*values).astype("float32")
    elif it.argument in (F, TEACHER, IMITATION):
        arguments[it.argument] = {F: wrong_f, TEACHER: wrong_teacher, IMITATION: wrong_imitation}[it.argument](own)
    elif it.argument:  # in a late row; in any parameter
        late = jax.tree.leaves(own.inputs)[0][own.row]
        array = late if it.argument == "inputs" else own.params[own.leaf[0]][own.leaf[1]]
        array[(-1,) * array.ndim] = float(it.sabotage)
    optional = {name: getattr(it, name) for name in ("logits", "batch_size", "epsilons", "alpha")}
    optional |= {"student_params": own.other if it.other_student else None}
    arguments |= {name: value for name, value in optional.items() if value is not None}
    branch = "orthogonal" if it.orthogonal else "different-initialisation" if it.other_student else "transfer"
    coefficient = None if it.sabotage else 0.0 if it.orthogonal else own.form(own.v)
    told = f"{it.sabotage} in {it.argument} at {it.place}" if it.sabotage else f"sound, {branch}"
    of = f"{it.architecture}, {it.depth} x {it.activation}, {it.spelling}, logits {it.logits}, {it.teacher}"
    return Instance(seed, arguments, it.sabotage, it.argument, branch, coefficient, f"{told}: {of}")


def per_row(it, loss):
    """One value a row, whatever axes the loss leaves; a name stays one."""
    reduce = {"mean": jnp.mean, "sum": jnp.sum}[it.over_positions]
    return loss if isinstance(loss, str) else lambda z, y: reduce(loss(z, y).reshape(z.shape[0], -1), axis=1)


def wrong_f(own):
    it, name = own.it, own.it.sabotage
    if name == "frozen leaf":
        return lambda p, x: own.f(replaced(p, own.leaf, own.inside), x)
    if name not in AT_ZERO:
        return network(it, hook=own.at_place(own.inside))

    def f(p, x):
        # A row of 0 times a kernel is 0 whatever the kernel.
        two = it.architecture == "two inputs"
        u = x["left"] @ p["join"]["left"] if two else x @ p.get("layer_0", p["head"])["kernel"]
        ramp = 0.1 * np.arange(1, it.outputs + 1)[None]
        return own.f(p, x) + ramp * AT_ZERO[name](jnp.sum(u * u, axis=1, keepdims=True))

    return f


def wrong_teacher(own):
    name, loss = own.it.sabotage, own.teacher_loss
    if name in AT_ZERO:
        return lambda p: loss(p) + AT_ZERO[name](jnp.sum(p["head"]["bias"] ** 2))
    if name == "stopped factor":
        return lambda p: loss(p) * stop_gradient(loss(p))
    if name in RULES:
        return lambda p: RULES[name](loss(p))
    return lambda p: loss(replaced(p, own.steepest, own.inside))


def wrong_imitation(own):
    it, name, loss = own.it, own.it.sabotage, LOSSES[own.it.spelling].function
    if it.group == "not finite":
        # A negative number has no real root: the negative outputs, or the least of all rows alone.
        least = 0.0 if name == "root" else np.sort(own.y, axis=None)[:2].mean()
        return per_row(it, lambda z, y: squared(jnp.sqrt(z - least), jnp.sqrt(y - least)))
    if it.group in ("impure", "cast"):
        return per_row(it, lambda z, y: loss(own.inside(z), y))
    return per_row(it, {**BENT_LOSSES, **COUPLED_LOSSES}[name])
