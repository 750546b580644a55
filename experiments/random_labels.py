"""When is a shared start needed at all? Labels without a pattern, and what a student of the logits gets of them.

Claim (facts 13 to 15 of docs/theorem.md): the linearised student ends at `s + P (theta_T - s)` from any start s, P the
projection on the range of G. So a start matters exactly on the null space of G: below full rank a start has a price,
`cos_shared cos_other = rank(G) / d`, and from full rank on the student is the teacher, whatever its start. Of a teacher
that has memorised random labels on `alpha d` rows by least squares, a student of its logits on `shown d` of them
recovers on the others what one line says, with no parameter that is fitted (`experiments.agreement`).

Found (default, 5 seeds): from as many rows as inputs on every agreement is exactly 1, from every start. Below, with two
classes, half as many rows and a zero start, it is .61, .65 and .69 at alpha = 1.5, 2 and 3, each on its line, so that
agreement is no function of rho alpha alone; at alpha = .75 it is chance. A start of its own costs agreement, whosever
it is (.58 from the teacher's, .57 from another, at alpha = 2): the teacher has forgotten its own. cos_shared cos_other
is .097, .248, .496, .747 and .897 at rank .1, .25, .5, .75 and .9. Students that are still training have .94 where the
exact one has 1 (descent, 5000 steps), which is what the reported .96 looks like. Of 20 facts .19, .35 and .69 pass at
rank .25, .5 and .75 of the parameters, and all at 1. A network that is not linearised recovers .95 of them from the
teacher's start and .52 from another, with twice as many equations as parameters, where the logits are off by .18 of
their size. With four times as many it is .80 from another start, and 1.00 after eight times as many updates or by
Gauss-Newton steps: what failed was the optimiser. At twice as many these help less (.64 and .54), and errors of .11 and
.14 say that they are not done either.

Five parts, each exact but the last two. Everything is drawn, and there is no data set.

* By `classes`, `alpha`, `shown` (rows that the student is shown, over d) and `start` (shared, other, zero):
  `agreement` with the teacher on its other rows; `line` and `distance_to_line`, the mean over seeds minus it;
  `subspace`, the line of a random subspace, which is the limit of large alpha; `apart`, how far the largest and the
  smallest agreement of an alpha above 1 are apart. `teacher`, its accuracy, and `own_start`, its agreement with its
  start.
* By `rank` (over d), `start` and `rows` (fresh; their parts in the range and in the null space of G) `price`, agreement
  with a teacher that has moved in any direction, and by rank `product` of the two cosines, with their
  distances from the law. `residual` is the largest distance of a student from `s + P (theta_T - s)`.
* Labels through m `auxiliary` logits of a tanh network, linearised, its heads frozen, by the number of `facts` and by
  `equations`, m times noise inputs over parameters: `recovered`, by `start`; the rank of G over the parameters,
  `filled`; `haar`, what a random subspace of that rank would recover; `information`, bits a fact.
* `unfinished` by `rule` and `steps`: agreement of a student that is still training, where the exact one has 1.
* The `network` of the third part, no longer linearised, by `start`, `method` and `trained_equations`: the facts that
  its student recovers. There is no theory of it: beside it stands `network_error`, the root mean square error of the
  shown logits over their own root mean square. `longer` is Adam for eight times as many steps, `gauss_newton` is
  Levenberg-Marquardt; both from the same start. `network_moved` is how far its teacher went, over its start.

Literature: Behrens and Zdeborova (arXiv 2506.14457) report agreement on held-out rows, pooled by rho alpha over
settings: .65, .71, .81, .87, .96 and 1.000 at .5, .7, .9, .95, 1 and 1.05; their number of classes is not known.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from jax.flatten_util import ravel_pytree
from threadpoolctl import threadpool_limits

from experiments.agreement import bits, held_out, price, same_choice
from experiments.experiment import (
    NO_DATA,
    Experiment,
    Nothing,
    Settings,
    Variable,
    require_counts,
    require_distinct,
)
from sublim_theory.ensemble import seed_key, stream

STARTS = ("shared", "other", "zero")
ROWS = ("fresh", "range", "null")
RULES = ("descent", "adam")
METHODS = ("adam", "longer", "gauss_newton")
RANK_TOLERANCE = 1e-10
"""Singular values up to this share of the largest count as 0."""
FULL = (1.0, 1.05)
"""Shown rows over inputs at which training is stopped early: there the exact student is the teacher."""
UNFINISHED_ALPHA = 2.0
"""Labelled rows over inputs there."""
NOISE = 20
"""Draws of the noise in `haar` for each labelling, which bring its error below .01."""
START = 1.0
"""Standard deviation of the logits of a start, and of a movement, of the linear models."""
GAIN = 5.0
"""Factor on the heads of the network that is not linearised."""
RATE = 0.01
"""Of Adam there."""


@dataclass(frozen=True)
class Protocol:
    """Settings of the five parts."""

    inputs: int = 200
    """Of the linear models, d."""
    classes: tuple[int, ...] = (2, 10)
    """Numbers of classes of the random labels."""
    alphas: tuple[float, ...] = (0.75, 1.5, 2.0, 3.0)
    """Labelled rows over inputs."""
    shown: tuple[float, ...] = (0.3, 0.5, 0.7, 0.9, 0.95, 1.0, 1.05)
    """Rows that the student is shown over inputs, rho alpha."""
    draws: int = 10
    """Labellings, with starts of their own, on the same rows; a seed's agreement is the mean over them."""
    ranks: tuple[float, ...] = (0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
    """Ranks of G over inputs, for the price of a start."""
    fresh_rows: int = 1000
    """Rows on which the price is measured."""
    width: int = 40
    """Hidden units of the network with auxiliary logits."""
    network_inputs: int = 10
    """Its inputs, besides a constant one."""
    facts: tuple[int, ...] = (20, 40)
    """Random labels that its teacher memorises."""
    auxiliary: tuple[int, ...] = (3, 10, 100)
    """Auxiliary logits, m."""
    equations: tuple[float, ...] = (0.25, 0.5, 0.75, 1.1)
    """Auxiliary logits that the student is shown over parameters."""
    steps: tuple[int, ...] = (100, 1000, 5000)
    """Updates after which a linear student is stopped."""
    trained_width: int = 20
    """Hidden units of the network that is not linearised."""
    trained_auxiliary: int = 10
    """Its auxiliary logits."""
    trained_equations: tuple[float, ...] = (0.5, 1.1, 2.0, 4.0)
    """Auxiliary logits that its students are shown over parameters; from 2 on also by Gauss-Newton steps."""
    trained_steps: int = 1000
    """Updates of its students by Adam, and eight times as many for `longer`."""
    gauss_newton_steps: int = 100
    """Steps of Levenberg-Marquardt."""

    def check(self, rates: Nothing) -> None:  # noqa: ARG002
        """Check every setting, before anything is computed.

        Raises:
            ValueError: naming the setting, its value and what it may be.
        """
        require_counts(self, "inputs", "draws", "fresh_rows", "width", "network_inputs", "trained_width")
        require_counts(self, "trained_auxiliary")
        require_counts(self, "trained_steps", "gauss_newton_steps")
        several = ("classes", "alphas", "shown", "ranks", "facts", "auxiliary", "equations", "steps")
        require_distinct(self, *several, "trained_equations")
        for name in (*several, "trained_equations"):
            if not all(0 < each < float("inf") for each in getattr(self, name)):
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if min(self.classes) < 2:
            raise ValueError(f"classes must be at least 2, got {self.classes}")
        if max(self.ranks) >= 1 or round(min(self.ranks) * self.inputs) < 1:
            raise ValueError(f"ranks must lie below 1, with a row at least among {self.inputs}; got {self.ranks}")
        if not all(any(self.held_out(alpha, each) for each in self.shown) for alpha in self.alphas):
            raise ValueError(f"shown must leave rows for every alpha of {self.alphas}, got {self.shown}")

    def held_out(self, alpha: float, shown: float) -> bool:
        """Whether enough rows are left to speak of: a tenth as many as inputs."""
        return round(shown * self.inputs) <= round(alpha * self.inputs) - self.inputs / 10


_SMALL = Settings.of(Protocol, Nothing, dataset=NO_DATA, seeds=5)
PRESETS = {
    "smoke": _SMALL.but(
        seeds=2,
        alphas=(0.75, 1.5, 3.0),
        width=20,
        network_inputs=5,
        facts=(10,),
        auxiliary=(3, 10),
        steps=(100, 1000),
        trained_equations=(0.5, 2.0),
        trained_steps=300,
        gauss_newton_steps=30,
    ),
    "default": _SMALL,
    "paper": _SMALL.but(seeds=25, inputs=400, network_inputs=15),
}


class Fit(NamedTuple):
    """The exact student of some rows."""

    rank: int
    to: Callable[[np.ndarray, np.ndarray], np.ndarray]
    """`to(logits, start)`: the weights nearest to the start among those that fit the logits best."""


def least_change(rows: np.ndarray) -> Fit:
    """Where gradient descent on the squared error of `rows @ weights` ends, from any start."""
    left, sizes, right = np.linalg.svd(rows, full_matrices=False)
    rank = int(np.sum(sizes > RANK_TOLERANCE * sizes[0]))
    left, inverse, right = left[:, :rank], 1 / sizes[:rank, None], right[:rank]
    return Fit(rank, lambda logits, start: start + right.T @ (inverse * (left.T @ (logits - rows @ start))))


def run_seed(protocol: Protocol, rates: Nothing, data: Any, seed: int) -> dict[str, Any]:  # noqa: ARG001
    """The five parts for one seed."""
    draw = partial(_normal, seed_key(seed))
    with threadpool_limits(1, user_api="blas"):  # on a busy machine threads wait for each other, ten times as long
        found = memorised(protocol, draw) | priced(protocol, draw) | through_auxiliary(protocol, draw)
        return found | unfinished(protocol, draw) | trained(protocol, draw)


def _normal(key: jax.Array, name: str, *shape: int) -> np.ndarray:
    """Drawn by numpy: JAX compiles a generator for every shape, which takes longer than all the rest."""
    generator = np.random.default_rng(np.asarray(jax.random.key_data(stream(key, name))))
    return generator.normal(size=shape)


def _labels(draw: Callable[..., np.ndarray], count: int, classes: int, draws: int = 1) -> np.ndarray:
    """Random labels [count, draws]: the place of the largest of `classes` numbers."""
    return draw(f"labels/{classes}", count, draws, classes).argmax(-1)


def _chosen(rows: np.ndarray, weights: np.ndarray, classes: int) -> np.ndarray:
    """The class of the largest logit, [rows, draws], of weights [inputs, draws x classes]."""
    return (rows @ weights).reshape(len(rows), -1, classes).argmax(-1)


def memorised(protocol: Protocol, draw: Callable[..., np.ndarray]) -> dict[str, Any]:
    """Teachers of random labels by least squares, and their students' agreement with them on the other rows."""
    d, draws = protocol.inputs, protocol.draws
    counts = {alpha: round(alpha * d) for alpha in protocol.alphas}
    x = draw("rows", max(*counts.values(), round(max(protocol.shown) * d)), d)
    fit = {shown: least_change(x[: round(shown * d)]) for shown in protocol.shown}
    fit_all = {alpha: least_change(x[:n]) for alpha, n in counts.items()}
    found: dict[str, Any] = {"agreement": {}, "teacher": {}, "own_start": {}}
    for c in protocol.classes:
        shared, other = START * draw(f"starts/{c}", 2, d, draws * c) / d**0.5
        starts = {"shared": shared, "other": other, "zero": np.zeros_like(shared)}
        y = _labels(draw, len(x), c, draws)
        targets = (np.eye(c)[y] - 1 / c).reshape(len(x), -1)
        for name in found:
            found[name][c] = {}
        for alpha, n in counts.items():
            teacher = fit_all[alpha].to(targets[:n], shared)
            choice = _chosen(x[:n], teacher, c)
            found["teacher"][c][alpha] = np.mean(choice == y[:n])
            found["own_start"][c][alpha] = np.mean(choice == _chosen(x[:n], shared, c))
            found["agreement"][c][alpha] = {}
            for shown in (each for each in protocol.shown if protocol.held_out(alpha, each)):
                m = round(shown * d)
                students = {name: fit[shown].to(x[:m] @ teacher, start) for name, start in starts.items()}
                found["agreement"][c][alpha][shown] = {
                    name: np.mean(_chosen(x[m:n], student, c) == choice[m:]) for name, student in students.items()
                }
    return found


def priced(protocol: Protocol, draw: Callable[..., np.ndarray]) -> dict[str, Any]:
    """A teacher that has moved in any direction, its students on noise, and rows within and outside their range."""
    d, c = protocol.inputs, max(protocol.classes)
    x, fresh = draw("noise", d, d), draw("fresh", protocol.fresh_rows, d)
    shared, other, movement = START * draw("price", 3, d, protocol.draws * c) / d**0.5
    teacher = shared + movement
    starts = {"shared": shared, "other": other, "zero": np.zeros_like(shared)}
    found: dict[str, Any] = {"price": {row: {s: {} for s in STARTS} for row in ROWS}, "product": {}}
    largest = 0.0
    for rank in protocol.ranks:
        shown = x[: round(rank * d)]
        fit, basis = least_change(shown), np.linalg.qr(shown.T)[0]  # two routes to one projection
        inside = (fresh @ basis) @ basis.T
        cosines = {}
        for name, start in starts.items():
            student = fit.to(shown @ teacher, start)
            largest = max(largest, np.abs(student - start - basis @ (basis.T @ (teacher - start))).max())
            for row, rows in zip(ROWS, (fresh, inside, fresh - inside), strict=True):
                if (row, name) != ("null", "zero"):  # there it chooses nothing
                    found["price"][row][name][rank] = np.mean(_chosen(rows, student, c) == _chosen(rows, teacher, c))
            cosines[name] = _cosine(student, teacher, c)
        found["product"][rank] = np.mean(cosines["shared"] * cosines["other"])
    del found["price"]["null"]["zero"]
    return found | {"residual": np.float64(largest)}


def _cosine(a: np.ndarray, b: np.ndarray, classes: int) -> np.ndarray:
    """Of the weights of each draw, [draws]."""
    a, b = (each.reshape(len(each), -1, classes) for each in (a, b))
    dot, *squares = (np.sum(u * v, axis=(0, 2)) for u, v in ((a, b), (a, a), (b, b)))
    return np.asarray(dot / np.sqrt(squares[0] * squares[1]))


def _with_constant(x: np.ndarray) -> np.ndarray:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _jacobian(body: np.ndarray, head: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of the logits `head tanh(body x)` in the body, [inputs x logits, parameters]."""
    slope = 1 - np.tanh(x @ body.T) ** 2
    return np.einsum("kh,ih,ij->ikhj", head, slope, x, optimize=True).reshape(len(x) * len(head), -1)


def through_auxiliary(protocol: Protocol, draw: Callable[..., np.ndarray]) -> dict[str, Any]:
    """Facts that a linearised tanh network has memorised, through auxiliary logits on noise."""
    h, d, c = protocol.width, protocol.network_inputs + 1, max(protocol.classes)
    body, other = draw("bodies", 2, h, d) / d**0.5
    head, auxiliary = draw("class_head", c, h) / h**0.5, draw("auxiliary_head", max(protocol.auxiliary), h) / h**0.5
    starts = {"shared": np.zeros((h * d, 1)), "other": (other - body).reshape(-1, 1)}
    most, draws = max(protocol.facts), protocol.draws
    x, y = _with_constant(draw("facts", most, d - 1)), _labels(draw, most, c, draws)
    logits, jacobian = (np.tanh(x @ body.T) @ head.T)[:, :, None], _jacobian(body, head, x)
    targets = (np.eye(c)[y].swapaxes(1, 2) - logits).reshape(most * c, draws)
    teachers = {k: least_change(jacobian[: k * c]).to(targets[: k * c], starts["shared"]) for k in protocol.facts}
    inputs = round(max(protocol.equations) * h * d / min(protocol.auxiliary))
    noise, random = _with_constant(draw("noise_inputs", inputs, d - 1)), draw("haar", NOISE, most, c, draws)
    parts = jacobian.reshape(most, c, -1)
    spread = np.linalg.cholesky(np.einsum("ikp,ilp->ikl", parts, parts, optimize=True) + 1e-9 * np.eye(c))
    random = np.einsum("ikl,nild->nikd", spread, random, optimize=True)

    def right(k: int, moved: np.ndarray, noise: Any = 0.0) -> Any:
        """Share of the first k facts that moved bodies have, with a noise on their logits."""
        found = logits[:k] + (jacobian[: k * c] @ moved).reshape(k, c, draws) + noise
        return np.mean(found.argmax(-2) == y[:k])

    found: dict[str, Any] = {name: {} for name in ("recovered", "haar", "below_teacher")}
    found["fact_teacher"] = {k: right(k, teacher) for k, teacher in teachers.items()}
    found["filled"] = {m: {} for m in protocol.auxiliary}
    for m in protocol.auxiliary:
        for share in protocol.equations:
            rows = _jacobian(body, auxiliary[:m], noise[: max(1, round(share * h * d / m))])
            fit = least_change(rows)
            filled = found["filled"][m][share] = fit.rank / (h * d)
            for k, teacher in teachers.items():
                for name, start in starts.items():
                    way = teacher - start
                    size = np.sqrt(filled * (1 - filled) * np.sum(way**2, axis=0) / (h * d))
                    got = right(k, fit.to(rows @ teacher, start))
                    below = found["fact_teacher"][k] - got if filled == 1 else np.nan
                    line = right(k, start + filled * way, size * random[:, :k])
                    for variable, value in {"recovered": got, "haar": line, "below_teacher": below}.items():
                        of_m = found[variable].setdefault(k, {}).setdefault(m, {})
                        of_m.setdefault(share, {})[name] = value
    return found


def unfinished(protocol: Protocol, draw: Callable[..., np.ndarray]) -> dict[str, Any]:
    """Students of two classes' logits that are still training: descent in closed form, Adam step by step."""
    d, c, draws = protocol.inputs, min(protocol.classes), min(protocol.draws, 4)
    n = round(UNFINISHED_ALPHA * d)
    x, y = draw("rows", n, d), _labels(draw, n, c, draws)
    teacher = least_change(x).to((np.eye(c)[y] - 1 / c).reshape(n, -1), np.zeros((d, draws * c)))
    rate = 0.1 * float(np.abs(teacher).mean())
    found: dict[str, Any] = {rule: {} for rule in RULES}
    for shown in FULL:
        gram = x[: (m := round(shown * d))].T @ x[:m] / m
        sizes, ways = np.linalg.eigh(gram)
        left = np.clip(1 - sizes / sizes[-1], 0, 1)[:, None]  # after a step of rate 1 / the largest eigenvalue: fact 11
        for rule in RULES:
            found[rule][shown] = {}
            for steps in protocol.steps:
                if rule == "descent":
                    student = ways @ ((1 - left**steps) * (ways.T @ teacher))
                else:
                    student = np.asarray(_adam(_linear_error, np.zeros_like(teacher), (gram, teacher), rate, steps))
                found[rule][shown][steps] = np.mean(_chosen(x[m:], student, c) == _chosen(x[m:], teacher, c))
    return {"unfinished": found}


def _linear_error(weights: jax.Array, problem: tuple[jax.Array, jax.Array]) -> jax.Array:
    """Half the mean squared error of the logits on the shown rows."""
    gram, teacher = problem
    return jnp.vdot(weights - teacher, gram @ (weights - teacher)) / 2


@partial(jax.jit, static_argnames=("loss", "steps"))
def _adam(loss: Callable[[Any, Any], jax.Array], params: Any, problem: Any, rate: Any, steps: int) -> Any:
    """Parameters after so many full-batch steps of Adam, the rate falling to 0."""
    optimizer = optax.adam(optax.linear_schedule(rate, 0.0, steps))

    def step(state: tuple[Any, Any], _: None) -> tuple[tuple[Any, Any], None]:
        updates, own = optimizer.update(jax.grad(loss)(state[0], problem), state[1])
        return (optax.apply_updates(state[0], updates), own), None

    return jax.lax.scan(step, (params, optimizer.init(params)), length=steps)[0][0]


def trained(protocol: Protocol, draw: Callable[..., np.ndarray]) -> dict[str, Any]:
    """The facts through auxiliary logits again, in a tanh network that is no longer linearised; heads are frozen."""
    h, d, c, m = protocol.trained_width, protocol.network_inputs + 1, max(protocol.classes), protocol.trained_auxiliary
    bodies = draw("bodies", 2, h, d) / d**0.5
    head, auxiliary = (GAIN * draw(f"trained_{name}", k, h) / h**0.5 for name, k in {"head": c, "auxiliary": m}.items())
    count = min(protocol.facts)
    x, y = _with_constant(draw("facts", count, d - 1)), _labels(draw, count, c)[:, 0]
    teacher = _adam(_label_loss, bodies[0], (x, head, y), RATE, 2 * protocol.trained_steps)
    shown = {share: max(1, round(share * h * d / m)) for share in protocol.trained_equations}
    noise = _with_constant(draw("trained_noise", max(shown.values()), d - 1))
    logits = network(teacher, auxiliary, noise)
    names: dict[str, Any] = {start: {method: {} for method in METHODS} for start in STARTS[:2]}
    found: dict[str, Any] = {"network": names, "network_error": {k: {j: {} for j in METHODS} for k in names}}
    for share, n in shown.items():
        mask = (np.arange(len(noise)) < n).astype(float)
        problem = (noise, auxiliary, logits, mask)
        ends = dict(zip(METHODS, _both(bodies, problem, protocol.trained_steps), strict=False))
        if share >= 2:  # where other starts fail though there are equations enough
            ends["gauss_newton"] = _gauss_newton(bodies, problem, protocol.gauss_newton_steps)
        for method, (own, errors) in ends.items():
            for start, body, error in zip(STARTS, own, errors, strict=False):
                found["network"][start][method][share] = np.mean(np.argmax(network(body, head, x), -1) == y)
                found["network_error"][start][method][share] = error
    right = np.mean(np.argmax(network(teacher, head, x), -1) == y)
    moved = np.linalg.norm(teacher - bodies[0]) / np.linalg.norm(bodies[0])
    return found | {"network_teacher": right, "network_moved": moved}


def network(body: Any, head: Any, x: Any) -> jax.Array:
    """Logits [rows, logits] of a tanh network with one hidden layer, of rows whose last entry is 1."""
    return jnp.tanh(x @ body.T) @ head.T


def _label_loss(body: jax.Array, problem: tuple[jax.Array, ...]) -> jax.Array:
    x, head, y = problem
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(network(body, head, x), y))


def residuals(body: jax.Array, problem: tuple[jax.Array, ...]) -> jax.Array:
    """Errors of the shown logits, whose squares add up to 1 for a student that says nothing; 0 for the others."""
    x, head, logits, shown = problem
    off = shown[:, None] * (network(body, head, x) - logits)
    return jnp.ravel(off) / jnp.sqrt(jnp.sum(shown[:, None] * logits**2))


def _error(body: jax.Array, problem: tuple[jax.Array, ...]) -> jax.Array:
    return jnp.sum(residuals(body, problem) ** 2)


@partial(jax.jit, static_argnames="steps")
def _both(bodies: Any, problem: Any, steps: int) -> list[tuple[jax.Array, jax.Array]]:
    """The students of both starts, after some steps of Adam and after eight times as many, and their errors."""

    def one(body: jax.Array) -> list[tuple[jax.Array, jax.Array]]:
        ends = [_adam(_error, body, problem, RATE, times * steps) for times in (1, 8)]
        return [(end, jnp.sqrt(_error(end, problem))) for end in ends]

    return jax.vmap(one)(bodies)


@partial(jax.jit, static_argnames="steps")
def _gauss_newton(bodies: Any, problem: Any, steps: int) -> tuple[jax.Array, jax.Array]:
    """The same by `levenberg_marquardt`."""

    def one(body: jax.Array) -> tuple[jax.Array, jax.Array]:
        end = levenberg_marquardt(residuals, body, problem, steps)
        return end, jnp.sqrt(_error(end, problem))

    return jax.vmap(one)(bodies)


def levenberg_marquardt(residuals: Callable[[Any, Any], jax.Array], params: Any, problem: Any, steps: int) -> Any:
    """Gauss-Newton steps towards least squares, less damped after each that lowers the error.

    One that would raise it is not taken, and the next is damped more.
    """
    theta, unravel = ravel_pytree(params)

    def errors(theta: jax.Array) -> jax.Array:
        return residuals(unravel(theta), problem)

    def step(state: tuple[jax.Array, jax.Array], _: None) -> tuple[tuple[jax.Array, jax.Array], None]:
        theta, damping = state
        jacobian, here = jax.jacfwd(errors)(theta), errors(theta)
        gram = jacobian.T @ jacobian
        damped = gram + damping * jnp.diag(jnp.diag(gram) + 1e-12)
        there = theta - jnp.linalg.solve(damped, jacobian.T @ here)
        falls = jnp.sum(errors(there) ** 2) < jnp.sum(here**2)
        return (jnp.where(falls, there, theta), jnp.clip(damping * jnp.where(falls, 0.3, 4.0), 1e-12, 1e6)), None

    return unravel(jax.lax.scan(step, (theta, jnp.asarray(1e-2, theta.dtype)), length=steps)[0][0])


def lines(settings: Settings[Protocol, Nothing], dataset: Any) -> dict[str, xr.DataArray]:  # noqa: ARG001
    """The laws, which no seed has a part in: where there is a measurement, and along a grid for the eye."""
    protocol = settings.protocol
    along = [*(each / 20 for each in range(1, 20)), 0.98]
    sizes = {"shared": START, "other": START, "zero": 0.0}
    most = max(protocol.classes)

    def table(law: Callable[..., float], **axes: Any) -> xr.DataArray:
        values = [law(*place) for place in itertools.product(*axes.values())]
        shape = tuple(len(each) for each in axes.values())
        return xr.DataArray(np.reshape(values, shape), {name: list(each) for name, each in axes.items()}, tuple(axes))

    def line(c: int, alpha: float, shown: float, start: str) -> float:
        return held_out(alpha, shown, c, sizes[start]) if protocol.held_out(alpha, shown) else np.nan

    def subspace(c: int, shown: float) -> float:
        return same_choice(min(shown, 1.0) ** 0.5, c)

    def law(start: str, rank: float) -> float:
        return same_choice(price(rank)[start], most)

    own = {"classes": protocol.classes, "alpha": protocol.alphas}
    return {
        "line": table(line, **own, shown=protocol.shown, start=STARTS),
        "subspace": table(subspace, classes=protocol.classes, shown=protocol.shown),
        "price_law": table(law, start=STARTS, rank=protocol.ranks),
        "line_along": table(lambda c, alpha, x: held_out(alpha, x, c), **own, along=along),
        "subspace_along": table(subspace, classes=protocol.classes, along=along),
        "price_along": table(law, start=STARTS, along=along),
    }


def conclude(settings: Settings[Protocol, Nothing], table: xr.Dataset) -> dict[str, xr.DataArray]:
    """What is said of means over the seeds."""
    protocol = settings.protocol
    found = table["agreement"].mean("seed")
    above = [alpha for alpha in protocol.alphas if alpha > 1]
    zero = found.sel(start="zero", alpha=above)
    return {
        "distance_to_line": found - table["line"],
        "apart": zero.max("alpha") - zero.min("alpha"),
        "distance_to_price": (table["price"].sel(rows="fresh").mean("seed") - table["price_law"]),
        "distance_to_product": table["product"].mean("seed") - table["rank"],
        "distance_to_haar": (table["recovered"] - table["haar"]).mean("seed"),
        "information": xr.apply_ufunc(bits, table["recovered"], kwargs={"classes": max(protocol.classes)}),
    }


_CELL = ("facts", "auxiliary", "equations", "start")
_CELL_NAME = "{facts}/{auxiliary}/{equations}/{start}"
EXPERIMENT = Experiment(
    name="random_labels",
    summary="When a shared start is needed at all: random labels, exact students, lines without a parameter",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {
        "classes": settings.protocol.classes,
        "alpha": settings.protocol.alphas,
        "shown": settings.protocol.shown,
        "start": STARTS,
        "rows": ROWS,
        "rank": settings.protocol.ranks,
        "facts": settings.protocol.facts,
        "auxiliary": settings.protocol.auxiliary,
        "equations": settings.protocol.equations,
        "rule": RULES,
        "full": FULL,
        "steps": settings.protocol.steps,
        "method": METHODS,
        "trained_equations": settings.protocol.trained_equations,
    },
    variables={
        "agreement": Variable(
            ("classes", "alpha", "shown", "start"), condition="agreement/{classes}/{alpha}/{shown}/{start}"
        ),
        "line": Variable(condition="line/{classes}/{alpha}/{start}", over="shown"),
        "distance_to_line": Variable(condition="distance_to_line/{classes}/{alpha}/{start}", over="shown"),
        "subspace": Variable(condition="subspace/{classes}", over="shown"),
        "apart": Variable(condition="apart/{classes}", over="shown"),
        "teacher": Variable(("classes", "alpha"), condition="teacher/{classes}/{alpha}"),
        "own_start": Variable(("classes", "alpha"), condition="own_start/{classes}/{alpha}"),
        "price": Variable(("rows", "start", "rank"), condition="price/{rows}/{start}/{rank}"),
        "distance_to_price": Variable(condition="distance_to_price/{start}", over="rank"),
        "product": Variable(("rank",), condition="product/{rank}"),
        "distance_to_product": Variable(condition="distance_to_product", over="rank"),
        "residual": Variable(condition="residual"),
        "recovered": Variable(_CELL, condition=f"recovered/{_CELL_NAME}"),
        "haar": Variable(_CELL, condition=f"haar/{_CELL_NAME}"),
        "distance_to_haar": Variable(condition="distance_to_haar/{facts}/{auxiliary}/{start}", over="equations"),
        "below_teacher": Variable(_CELL, condition=f"below_teacher/{_CELL_NAME}"),
        "information": Variable(_CELL),
        "fact_teacher": Variable(("facts",), condition="fact_teacher/{facts}"),
        "filled": Variable(("auxiliary", "equations"), condition="filled/{auxiliary}/{equations}"),
        "unfinished": Variable(("rule", "full", "steps"), condition="unfinished/{rule}/{full}/{steps}"),
        "network": Variable(
            ("start", "method", "trained_equations"), condition="network/{start}/{method}/{trained_equations}"
        ),
        "network_error": Variable(
            ("start", "method", "trained_equations"), condition="network_error/{start}/{method}/{trained_equations}"
        ),
        "network_teacher": Variable(condition="network_teacher"),
        "network_moved": Variable(condition="network_moved"),
    },
    describe=lines,
    conclude=conclude,
    traced=False,
    dtype="float64",
)
