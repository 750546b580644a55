"""Small instances of the theorem from a seed, and jitted calls of the library that the test files share.

The networks are written out here, so the tests need no model of the library. Results of the jitted calls are flat
vectors in the order of `oracle.flat`.
"""

import functools
import itertools
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import oracle

from sublim_theory import losses
from sublim_theory.theorem import first_order, imitation_update, student_update
from sublim_theory.theorem.compiling import quick_options

WIDTHS = (4, 6, 5, 5)
"""Features, two hidden layers, outputs: three classes and two auxiliary logits."""

SHALLOW = (4, 5, 5)
"""One hidden layer, where the number of layers does not matter: it compiles in two thirds of the time."""

CLASSES = 3
AUXILIARY = slice(3, 5)

jit = partial(jax.jit, compiler_options=quick_options())
"""The tests compile for longer than they compute."""

SMALL = 10.0 ** -np.arange(3, 13)
"""1e-3, 1e-4, ..., 1e-12."""

ACTIVATIONS = {
    "tanh": jnp.tanh,
    "gelu": partial(jax.nn.gelu, approximate=False),
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "identity": lambda a: a,
}


def log_cosh(z, y):
    return jnp.sum(jnp.logaddexp(z - y, y - z) - jnp.log(2.0), axis=-1)


def bregman(z, y):
    """The Bregman divergence of `sum exp`."""
    return jnp.sum(jnp.exp(z) - jnp.exp(y) - jnp.exp(y) * (z - y), axis=-1)


# Every loss that fulfils the hypotheses of the theorem; each is written out by hand in `oracle.LOSSES`.
LOSSES = {
    "kl": losses.kl_divergence,
    "cross_entropy": losses.soft_cross_entropy,
    "kl, T=3": partial(losses.kl_divergence, temperature=3.0),
    "squared_error": losses.squared_error,
    "weighted": partial(losses.squared_error, weights=(0.5, 2.0, 1.0, 3.0, 1.5)),
    "huber": losses.huber,
    "log_cosh": log_cosh,
    "bregman": bregman,
    "kl on the last two": losses.on_logits(losses.kl_divergence, slice(-2, None)),
    "squares on the last two": losses.on_logits(losses.squared_error, slice(-2, None)),
}


@functools.cache
def mlp(activation):
    """`f(params, x)` of a perceptron with any number of layers."""

    def f(params, x):
        *hidden, head = (params[name] for name in sorted(params))
        for layer in hidden:
            x = ACTIVATIONS[activation](x @ layer["kernel"] + layer["bias"][None])
        return x @ head["kernel"] + head["bias"][None]

    return f


def draw(rng, widths, scale=1.0, bias=0.3):
    """Kernels N(0, scale**2 / fan_in) and biases N(0, bias**2), so that no pre-activation is 0."""
    return {
        f"layer_{place}": {
            "bias": bias * rng.normal(size=fan_out),
            "kernel": scale * rng.normal(size=(fan_in, fan_out)) / np.sqrt(fan_in),
        }
        for place, (fan_in, fan_out) in enumerate(itertools.pairwise(widths))
    }


@dataclass(frozen=True, eq=False)
class Case:
    """A network at an initialisation, inputs for the student, and a trait: to classify some examples."""

    activation: str
    params: dict
    inputs: np.ndarray
    trait_inputs: np.ndarray
    trait_labels: np.ndarray

    @property
    def f(self):
        return mlp(self.activation)

    def teacher_loss(self, params):
        z = self.f(params, self.trait_inputs)[:, :CLASSES]
        return -jnp.mean(jax.nn.log_softmax(z)[jnp.arange(len(z)), self.trait_labels])

    @property
    def trait(self):
        """Arguments of `oracle.trait_loss` after the parameters."""
        return self.trait_inputs, self.trait_labels, self.activation, CLASSES

    @functools.cached_property
    def d_teacher(self):
        """`-grad L_T`, flat, from the oracle."""
        return -oracle.trait_gradient(self.params, *self.trait)


@functools.cache
def instance(activation="tanh", seed=0, widths=WIDTHS, count=12):
    rng = np.random.default_rng([seed, 714])
    return Case(
        activation,
        draw(rng, widths),
        rng.uniform(-1, 1, size=(count, widths[0])),
        rng.normal(size=(9, widths[0])),
        rng.integers(CLASSES, size=9),
    )


def flatten(tree):
    return jnp.concatenate([jnp.ravel(leaf) for leaf in jax.tree.leaves(tree)])


@functools.cache
def _rescaled(activation, loss):
    def call(params, d, epsilons, x):
        one = partial(student_update, mlp(activation), LOSSES[loss], params, d)
        return jax.vmap(lambda epsilon: flatten(one(epsilon, x)))(epsilons)

    return jit(call)


def rescaled(activation, loss, params, d, epsilons, x):
    """`d_S(eps) / eps` [eps, parameters] of the library's `student_update`; `d` is flat."""
    return np.asarray(_rescaled(activation, loss)(params, oracle.like(params, d), jnp.asarray(epsilons), x))


@functools.cache
def _plain(activation, loss):
    def call(student, params, d, epsilons, x):
        def one(epsilon):
            teacher = jax.tree.map(lambda a, b: a + epsilon * b, params, d)
            return flatten(imitation_update(mlp(activation), LOSSES[loss], student, teacher, x))

        return jax.vmap(one)(epsilons)

    return jit(call)


def plain(activation, loss, student, params, d, epsilons, x):
    """`d_S(eps)` [eps, parameters] of the library, by the definition; the student starts at `student`."""
    dtype = params["layer_0"]["kernel"].dtype
    epsilons = jnp.asarray(epsilons, dtype)
    return np.asarray(_plain(activation, loss)(student, params, oracle.like(params, d), epsilons, x))


@functools.cache
def _law(activation, loss):
    def call(params, d, x):
        result = first_order(mlp(activation), LOSSES[loss], params, d, x)
        return result._replace(product=flatten(result.product)), result.by_layer()

    return jit(call)


def law(activation, loss, params, d, x):
    """The library's first-order law, `G d` flat, and the shares of the layers in A."""
    return jax.tree.map(np.asarray, _law(activation, loss)(params, oracle.like(params, d), x))
