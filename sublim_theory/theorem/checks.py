"""The checks that a verdict rests on, of functions that a user hands in: each refuses by the name of the argument.

Derivatives agree with differences of values; rows do not feel each other; the same call gives the same numbers; nothing
is cast to fewer bits; values are finite on every input. A verdict on functions that passed is one on the functions,
not on their rules of differentiation.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sublim_theory import geometry
from sublim_theory._types import AnyArray, Apply, Params, PerExampleLoss, TeacherLoss
from sublim_theory.theorem.compiling import compiled, own
from sublim_theory.theorem.updates import teacher_update

SAMPLE = 64
"""Inputs on which derivatives are compared with differences, at most."""

STEPS = (1e-3, 1e-4, 1e-5, 1e-6, 1e-7)
"""Steps of the differences, relative to the size of the point: a range, as each kind of error rules at one end."""

TOLERANCE = 1e-6
"""Relative difference of a derivative and a central difference above which they disagree; the curvature's part is
smaller at some of the steps."""

ROUNDING = 64 * float(np.finfo(np.float64).eps)
"""Relative error of a value of a function that may be rounding."""

DIGITS = np.finfo(np.float64).nmant
"""Binary digits of a float64 after the first."""

COUPLING = 1e-9
"""Relative change of a row by the company of others that is no rounding of a product in another order."""


# What functions return, in which precision, by which mode of differentiation. Nothing is computed here.


def differentiable(argument: str, f: Apply, params: Params, batch: Any) -> Apply:
    """`f` as it is, or with the mode of differentiation that it lacks; traced in all of them."""
    rows = len(jax.tree.leaves(batch)[0])
    z = _value_of_pure(argument, f, params, batch)
    shape = getattr(z, "shape", None)
    if shape is None or len(shape) < 2 or shape[0] != rows:
        given = type(z).__name__ if shape is None else shape
        raise ValueError(f"{argument} must return outputs [batch, n], got shape {given}")
    _require_float64(argument, z.dtype)
    return _with_both_modes(argument, f, params, batch)


def differentiable_loss(loss: PerExampleLoss, z: AnyArray) -> PerExampleLoss:
    """The loss as it is, or one whose gradient has the mode of differentiation that it lacks; traced in all of them."""
    argument = "imitation_loss"
    value = _value_of_pure(argument, loss, z, z)
    shape = getattr(value, "shape", type(value).__name__)
    if shape != z.shape[:1]:
        raise ValueError(f"{argument} must return one value an example, {z.shape[:1]}, got {shape}")
    _require_float64(argument, value.dtype)

    def bend(loss: PerExampleLoss) -> Callable[[jax.Array], jax.Array]:
        return lambda z: geometry.hessian_product(loss, z, z, z)

    equations = _derivative(argument, partial(geometry.loss_gradient, loss), z, z)
    if _has_rules(equations) and not _lowers(bend(loss), z):
        loss = _loss_by_its_gradient(loss)
        _traced(argument, bend(loss), z)
        equations = _derivative(argument, partial(geometry.loss_gradient, loss), z, z)
    _refuse_casts(argument, equations)
    return loss


def _loss_by_its_gradient(loss: PerExampleLoss) -> PerExampleLoss:
    """The same loss; its first derivative is its own by reverse mode, and its second the reverse of that."""
    both_modes = geometry.with_forward_mode(partial(geometry.loss_gradient, loss))

    @jax.custom_jvp
    def wrapped(z: jax.Array, y: jax.Array) -> jax.Array:
        return loss(z, y)

    @wrapped.defjvp
    def rule(primals: tuple[Any, Any], tangents: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
        z, y = primals
        change = (both_modes(z, y) * tangents[0]).reshape(len(z), -1)
        return loss(z, y), jnp.sum(change, axis=1)

    return wrapped


def _with_both_modes(argument: str, function: Callable[..., Any], params: Params, *others: Any) -> Callable[..., Any]:
    """A function of params as it is, or with forward mode by the rule of its reverse mode, where it has none."""

    def forward(function: Callable[..., Any]) -> Callable[[Params], Any]:
        return lambda theta: jax.jvp(lambda theta: function(theta, *others), (theta,), (theta,))

    def derivative(function: Callable[..., Any]) -> list[Any]:
        return _derivative(argument, lambda theta: function(theta, *others), params, reverse=True)

    equations = derivative(function)
    if _has_rules(equations) and not _lowers(forward(function), params):
        function = geometry.with_forward_mode(function)
        _traced(argument, forward(function), params)
        equations = derivative(function)
    _refuse_casts(argument, equations)
    return function


def _has_rules(equations: list[Any]) -> bool:
    """Whether rules of differentiation are left in a derivative; one may have no forward mode."""
    return any(equation.primitive.name.startswith("custom_") for equation in equations)


def _lowers(function: Callable[..., Any], *arguments: Any) -> bool:
    """Whether JAX can make a program of it. A rule without forward mode shows only then, not while tracing."""
    try:
        jax.jit(own(function)).lower(*arguments)
    except (TypeError, ValueError, NotImplementedError):
        return False
    return True


def _traced(argument: str, function: Callable[..., Any], *arguments: Any) -> tuple[Any, Any]:
    """The program of what a function, or a derivative of it, computes, and shapes and dtypes of what it returns.

    Errors name the argument.
    """
    try:
        return jax.make_jaxpr(own(function), return_shape=True)(*arguments)
    except jax.errors.UnexpectedTracerError as error:
        raise ValueError(_CLOSES.format(argument=argument)) from error
    except jax.errors.JAXTypeError:
        raise  # a concrete value was asked for inside: the message names the line
    except (TypeError, NotImplementedError) as error:
        text = str(error).splitlines()[0]
        if isinstance(error, TypeError) and "JAX type" in text:
            raise ValueError(f"{argument} must return JAX arrays: {text}") from error
        raise ValueError(_FAILS.format(argument=argument, text=_first_sentences(error))) from error
    except ValueError as error:
        if any(words in str(error) for words in ("Reverse-mode", "support JVP", "differentiation", "dtype promotion")):
            raise ValueError(_FAILS.format(argument=argument, text=_first_sentences(error))) from error
        raise


_CLOSES = "{argument} closes over a traced value; the theorem is checked on numbers, so call it outside jax.jit"
_FAILS = (
    "{argument} cannot be computed and differentiated in float64: {text} (a loop until convergence needs a fixed "
    "number of steps, as lax.scan has; a host callback a derivative of its own; an initial state the dtype of params)"
)


def _first_sentences(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _require_float64(argument: str, dtype: Any) -> None:
    if not jnp.issubdtype(dtype, jnp.floating):
        raise ValueError(f"{argument} returned {dtype}, which has no gradient; it must return float64")
    if dtype != np.float64:
        raise ValueError(_CASTS.format(argument=argument, done="returned", dtype=dtype))


_CASTS = (
    "{argument} {done} {dtype} at float64 arguments, so something inside it casts; the theory needs float64 "
    "throughout (a network of this library: dtype='float64')"
)


def _derivative(argument: str, function: Callable[..., Any], *arguments: Any, reverse: bool = False) -> list[Any]:
    """The equations of the derivative of a function of pytrees; with `reverse`, that has been traced in reverse, too.

    Nothing is computed: the function is traced once.
    """
    found: list[Any] = []

    def trace(*arguments: Any) -> None:
        value, derivative = jax.linearize(own(function), *arguments)
        found.extend(_equations(jax.make_jaxpr(derivative)(*arguments)))
        if reverse:
            jax.linear_transpose(derivative, *arguments)(value)

    _traced(argument, trace, *arguments)
    return found


def _refuse_casts(argument: str, equations: list[Any]) -> None:
    """Refuse a function whose derivative casts a 64-bit number to fewer bits.

    Constants in any dtype, and what is computed from them alone, count for nothing: they are in no derivative.
    """
    narrow: list[np.dtype] = []
    for equation in equations:
        if equation.primitive.name == "reduce_precision" and equation.params["mantissa_bits"] < DIGITS:
            narrow.append(np.dtype(np.float32))  # rounds as a cast does, and keeps the dtype
        taken, given = ([_bits(v) for v in side] for side in (equation.invars, equation.outvars))
        if 64 in taken:
            narrow.extend(v.aval.dtype for v, bits in zip(equation.outvars, given, strict=True) if 0 < bits < 64)
    if narrow:
        dtype = min(narrow, key=lambda dtype: dtype.itemsize)
        raise ValueError(_CASTS.format(argument=argument, done="computes in", dtype=dtype))


def _bits(variable: Any) -> int:
    """Bits of a real number, or of each part of a complex one; 0 for what is neither."""
    dtype = getattr(variable.aval, "dtype", None)
    if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
        return 0
    return int(dtype.itemsize) * 8 // (2 if jnp.issubdtype(dtype, jnp.complexfloating) else 1)


def _equations(jaxpr: Any) -> Iterator[Any]:
    """Every equation that holds no other ones; in loops, branches and calls too."""
    for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        values = [v for value in equation.params.values() for v in (value if isinstance(value, tuple) else (value,))]
        inner = [value for value in values if hasattr(getattr(value, "jaxpr", value), "eqns")]
        for value in inner:
            yield from _equations(value)
        if not inner:
            yield equation


def _value_of_pure(argument: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Shapes and dtypes of what a caller's function returns.

    Refuses a function whose program, traced twice, differs: numbers drawn at trace time, a counter.
    """
    (first, shape), (second, _) = (_traced(argument, function, *arguments) for _ in range(2))
    try:
        same = str(first) == str(second) and _same_constants(first.consts, second.consts)
    except jax.errors.TracerArrayConversionError as error:
        raise ValueError(_CLOSES.format(argument=argument)) from error
    if not same:
        raise ValueError(
            f"{argument} is not the same function when it is called twice, so it draws numbers or keeps a state "
            "outside JAX; the theorem speaks of pure functions: fix what is drawn and let it close over it"
        )
    return shape


def _same_constants(first: Sequence[Any], second: Sequence[Any]) -> bool:
    for a, b in zip(first, second, strict=True):
        if jnp.issubdtype(a.dtype, jax.dtypes.prng_key):
            a, b = jax.random.key_data(a), jax.random.key_data(b)
        if not np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind in "fc"):
            return False
    return True


# Values, and derivatives beside them.


def values_on_all(f: Apply, params: Params, inputs: Any, size: int, work: float) -> np.ndarray:
    """The outputs of the first batch; refuse outputs that are not finite, on any input."""

    def finite(z: Any) -> np.ndarray:
        return np.isfinite(z).reshape(len(z), -1).all(axis=1)

    count = len(jax.tree.leaves(inputs)[0])
    program = compiled(f, work)
    first = np.asarray(program(params, rows_of(inputs, np.arange(size))))
    sound = [finite(first)]
    for start in range(size, count, size):
        batch = rows_of(inputs, np.arange(start, min(start + size, count)))
        sound.append(finite(np.asarray(program(params, batch))))
    flags = np.concatenate(sound)
    if not flags.all():
        raise ValueError(
            f"f returned outputs that are not finite at params, for input {int(np.argmin(flags))} (of {count}); check "
            "params and inputs"
        )
    return first


def teacher_direction(
    teacher_loss: TeacherLoss, params: Params, random: Any, work: float
) -> tuple[TeacherLoss, Params]:
    """The loss, with the mode of differentiation that it may lack, and `d_T`.

    Refuses a loss that is no finite scalar, or whose gradient is not that of its values.
    """
    argument = "teacher_loss"
    value = _value_of_pure(argument, lambda theta: _array(argument, teacher_loss(theta)), params)
    if value.shape != ():
        raise ValueError(f"{argument} must return a scalar, got shape {value.shape}; take the mean inside it")
    _require_float64(argument, value.dtype)
    teacher_loss = _with_both_modes(argument, teacher_loss, params)

    def probe(theta: Params, noise: Params, size: jax.Array) -> tuple[Any, ...]:
        """Value and gradient, and along one direction, part teacher's and part random, slope and quotients."""
        d_teacher = teacher_update(teacher_loss, theta)
        length = geometry.norm(d_teacher)
        to_unit = geometry.quotient(1.0, length)
        # At a gradient that is not finite, which is named below, the values along the noise alone.
        w = jax.tree.map(lambda d, r: jnp.where(jnp.isfinite(length), d * to_unit, 0) + r, d_teacher, noise)

        steps = jnp.asarray(STEPS) * size
        quotients = _quotients(lambda h: jnp.asarray(teacher_loss(optax.tree.add_scale(theta, h, w))), steps)
        return jnp.asarray(teacher_loss(theta)), d_teacher, -optax.tree.vdot(d_teacher, w), quotients, steps

    program = compiled(probe, work)
    noise = _unit(random, params)
    size = max(1e-3, _length(params))
    value, d_teacher, slope, quotients, steps = program(params, noise, size)
    if not np.isfinite(value):
        raise ValueError(f"{argument} is {value} at params; it must be finite there")
    for path, leaf in jax.tree_util.tree_flatten_with_path(d_teacher)[0]:
        if not np.isfinite(leaf).all():
            raise ValueError(
                f"the gradient of {argument} is not finite at params{jax.tree_util.keystr(path)}, although its value is"
            )
    if _disagree(slope, quotients, steps, abs(float(value))) is not None:
        value, _, slope, quotients, steps = program(_generic(random, params), noise, size)
        apart = _disagree(slope, quotients, steps, abs(float(value)))
        if apart is not None:
            raise ValueError(_DISAGREES.format(argument=argument, along="a direction of params", **apart))
    return teacher_loss, d_teacher


def checked_outputs(
    f: Apply, params: Params, d_teacher: Params | None, some: Any, random: Any, work: float
) -> np.ndarray:
    """Outputs of some inputs; refuse an f whose derivative is not that of its values, along d_T or at random."""

    def probe(theta: Params, directions: Params, sizes: jax.Array, x: Any) -> tuple[Any, ...]:
        def along(given: tuple[Params, jax.Array]) -> tuple[jax.Array, jax.Array, jax.Array]:
            w, size = given
            _, v = jax.jvp(lambda theta: f(theta, x), (theta,), (w,))
            steps = jnp.asarray(STEPS) * size
            return v, _quotients(lambda h: f(optax.tree.add_scale(theta, h, w), x), steps), steps

        return f(theta, x), *jax.lax.map(along, (directions, sizes))

    program = compiled(probe, work)
    noise = _unit(random, params)
    directions = [noise]
    if d_teacher is not None and _length(d_teacher) > 0:
        directions.append(d_teacher)
    sizes = max(1e-3, _length(params)) / np.array([_length(w) for w in directions])
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *directions)

    def disagreement(theta: Params) -> tuple[np.ndarray, dict[str, Any] | None]:
        z, slopes, quotients, steps = map(np.asarray, program(theta, stacked, sizes, some))
        scale = float(np.abs(z).max())
        for names, slope, quotient, step in zip(
            ("a random direction", "the teacher's step"), slopes, quotients, steps, strict=False
        ):
            if not np.isfinite(slope).all():
                continue  # named by the input, once the verdict needs it
            apart = _disagree(slope, quotient, step, scale)
            if apart is not None:
                return z, apart | {"along": names}
        return z, None

    z, apart = disagreement(params)
    if apart is not None:  # at a kink that params sit on exactly the values decide; at a generic point there is none
        apart = disagreement(_generic(random, params))[1]
        if apart is not None:
            raise ValueError(_DISAGREES.format(argument="f", **apart))
    return z


def check_derivatives_of_loss(loss: PerExampleLoss, z: np.ndarray) -> None:
    """Refuse a loss whose rows feel each other, or whose derivatives in z are not those of its values."""
    argument, random = "imitation_loss", np.random.default_rng(0)
    other = np.roll(z, 1, axis=0)
    if not np.ptp(z, axis=0).any():
        other = z + 0.1 * random.normal(size=z.shape)
    # Between outputs, so that a loss of probabilities stays in its domain.
    middle, toward = (z + other) / 2, (other - z) / 2
    toward = toward / max(1.0, float(np.abs(toward).max()))
    half = np.sort(random.permutation(len(z))[: max(1, len(z) // 2)])

    def probe(z: jax.Array, y: jax.Array, u: jax.Array, half: tuple[jax.Array, jax.Array]) -> tuple[Any, ...]:
        """Slope of the loss between z and y, of its gradient at z = y, each along u and by quotients; of half alone."""
        steps, gradient = jnp.asarray(STEPS), geometry.loss_gradient(loss, z, y)
        return (
            loss(z, y),
            jnp.sum((gradient * u).reshape(len(z), -1), axis=1),
            _quotients(lambda h: loss(z + h * u, y), steps),
            gradient,
            geometry.hessian_product(loss, z, z, u),
            _quotients(lambda h: geometry.loss_gradient(loss, z + h * u, z), steps),
            loss(*half),
        )

    found = compiled(probe)(middle, z, toward, (middle[half], z[half]))
    value, slope, quotients, gradient, bend, bends, alone = map(np.asarray, found)
    if len(z) > 1:
        require_same(argument, "values", alone, value[half])
    if not np.isfinite(slope).all() or not np.isfinite(value).all() or not np.isfinite(bend).all():
        return  # beyond its domain; at z = y the hypotheses look
    apart = _disagree(slope, quotients, np.array(STEPS), float(np.abs(value).max()))
    if apart is not None:
        raise ValueError(_DISAGREES.format(argument=argument, along="a change of the student's outputs", **apart))
    apart = _disagree(bend, bends, np.array(STEPS), float(np.abs(gradient).max()))
    if apart is not None:
        raise ValueError(
            f"{argument} is not twice differentiable where student outputs equal the labels (an absolute value, a "
            "stopped gradient or a rule of its own): there "
            + _DISAGREES.format(argument="its gradient", along="a change of the student's outputs", **apart)
        )


_DISAGREES = (
    "{argument} has a derivative that is not that of its values: along {along} automatic differentiation gives "
    "{derivative:.6g} where differences of values give {quotient:.6g} (steps of {largest:g} to {smallest:g}); a "
    "straight-through estimator, a stop_gradient, a custom rule or rounding inside does that, and no verdict can rest "
    "on it"
)


def _quotients(function: Callable[[jax.Array], jax.Array], steps: jax.Array) -> jax.Array:
    """Central differences at 0 of a function of one number, [steps, *shape of its value]."""
    ends = jax.lax.map(function, jnp.concatenate([steps, -steps]))
    ahead, behind = jnp.split(ends, 2)
    return (ahead - behind) / (2 * steps).reshape(-1, *[1] * (ends.ndim - 1))


def _disagree(derivative: Any, quotients: Any, steps: Any, scale: Any) -> dict[str, Any] | None:
    """The place where a derivative differs from its quotients [steps, *shape] at every step; None where there is none.

    `scale` is the size of the values of which the differences were taken.
    """
    derivative, quotients, steps = np.asarray(derivative), np.asarray(quotients), np.asarray(steps)
    allowed = TOLERANCE * float(np.abs(derivative).max())
    rounding = ROUNDING * (float(scale) + float(np.finfo(np.float64).tiny)) / steps
    apart = np.abs(quotients - derivative)
    apart = np.where(np.isfinite(apart), apart, np.inf) - (allowed + rounding).reshape(-1, *[1] * derivative.ndim)
    least = apart.min(axis=0)
    if not (least > 0).any() or not np.isfinite(quotients).any():
        return None
    place = np.unravel_index(int(np.argmax(np.where(np.isfinite(least), least, 0))), least.shape)
    best = int(np.argmin(apart[(slice(None), *place)]))
    return {
        "derivative": float(derivative[place]),
        "quotient": float(quotients[(best, *place)]),
        "largest": float(steps[0]),
        "smallest": float(steps[-1]),
    }


def require_same(argument: str, what: str, alone: np.ndarray, among: Any) -> None:
    """Refuse rows that are others in the company of others."""
    among = np.asarray(among)
    scale = max(float(np.abs(among).max()), float(np.finfo(np.float64).tiny))
    with np.errstate(invalid="ignore"):  # infinite in both: others speak of it
        apart = np.abs(np.asarray(alone) - among)
    if apart.max() > COUPLING * scale:
        row = int(np.argmax(apart.reshape(len(apart), -1).max(axis=1)))
        raise ValueError(
            f"{argument} gives a row other {what} alone than among other rows (row {row} of a sample, by "
            f"{apart.max() / scale:.2g}), so rows feel each other; the theorem speaks of a mean over single inputs "
            "(batch normalisation: use its running statistics; a contrastive loss has no single inputs)"
        )


def _array(argument: str, value: Any) -> jax.Array:
    if not isinstance(value, int | float) and not hasattr(value, "dtype"):
        raise ValueError(f"{argument} must return a scalar, got {type(value).__name__}")
    return jnp.asarray(value)


def _unit(random: Any, params: Params) -> Params:
    """A random direction of unit length, isotropic over all parameters."""
    noise = jax.tree.map(lambda leaf: random.normal(size=leaf.shape), params)
    length = _length(noise)
    return jax.tree.map(lambda leaf: leaf / length, noise)


def _generic(random: Any, params: Params) -> Params:
    """A point beside params, off any kink on which they sit: each entry moved by about a thousandth of its array."""

    def moved(leaf: Any) -> np.ndarray:
        size = float(np.sqrt(np.mean(np.square(leaf)))) or 1.0
        return np.asarray(leaf + 1e-3 * size * random.normal(size=leaf.shape))

    return jax.tree.map(moved, params)


def _length(tree: Params) -> float:
    return float(np.sqrt(sum(np.sum(np.square(leaf)) for leaf in jax.tree.leaves(tree))))


def rows_of(inputs: Any, rows: np.ndarray) -> Any:
    """Some rows of a pytree of arrays."""
    return jax.tree.map(lambda x: np.asarray(x)[rows], inputs)


def is_finite(tree: Any) -> bool:
    """Whether all numbers of a pytree are finite."""
    return all(np.isfinite(np.asarray(leaf)).all() for leaf in jax.tree.leaves(tree))


def is_zero(tree: Any) -> bool:
    """Whether all numbers of a pytree are exactly 0."""
    return not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(tree))
