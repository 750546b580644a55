"""Fact 6: "Exact zeros (orthogonal branch): m = 1 auxiliary logit with a softmax loss (a one-way softmax has no
gradient); a linear model with an auxiliary-only loss (disjoint rows); L_T that depends only on the class head's biases.
With squared error m = 1 is **not** zero. In the MNIST net d_T is 0 on the auxiliary head and d_S is 0 on the class
head, so A comes from the hidden layers alone."

Zeros are exactly 0.0, at every eps, also at large ones. Each has a neighbour that is on the transfer branch.
"""

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import AUXILIARY, SHALLOW, draw, instance, jit, law, mlp, plain, rescaled

from sublim_theory.losses import kl_divergence, on_logits, squared_error
from sublim_theory.theorem import first_order, teacher_update, verify

pytestmark = pytest.mark.usefixtures("x64")

EPSILONS = (1e-12, 1e-8, 1e-4, 1e-2, 1.0, 30.0)
ZEROS = (0.0,) * len(EPSILONS)


def class_biases_only(params):
    return jnp.sum(jnp.square(params["layer_1"]["bias"][:3] - 1))


def linear():
    rng = np.random.default_rng(3)
    params, x, labelled = draw(rng, (4, 5)), rng.normal(size=(12, 4)), rng.normal(size=(6, 4))
    f = mlp("tanh")  # one layer: linear
    return f, params, lambda params: jnp.mean(jnp.square(f(params, labelled)[:, :3] - 1)), x


def dead(alive=False):
    """Units that the teacher's examples switch on, and the student's inputs do not (unless `alive`).

    The trait's gradient lies in those units and in the class head.
    """
    rng = np.random.default_rng(4)
    params = draw(rng, (2, 6, 5))
    x, labelled = np.abs(rng.normal(size=(12, 2))) + 0.1, -np.abs(rng.normal(size=(12, 2))) - 0.1
    kernel = np.abs(params["layer_0"]["kernel"])
    params["layer_0"] = {"bias": np.zeros(6), "kernel": np.where(np.arange(6) < 3, kernel, -kernel)}
    f = mlp("relu")
    return f, params, lambda params: jnp.mean(jnp.square(f(params, labelled)[:, :3] - 1)), labelled if alive else x


def network(teacher_loss=None):
    it = instance("tanh", widths=SHALLOW)
    return it.f, it.params, teacher_loss or it.teacher_loss, it.inputs


ONE = slice(4, 5)

ORTHOGONAL = {
    "m = 1 and a softmax": (network(), {"logits": ONE}),
    "linear model, auxiliary logits": (linear(), {"logits": AUXILIARY}),
    "biases of the class head": (network(class_biases_only), {"logits": AUXILIARY}),
    "dead units": (dead(), {"logits": AUXILIARY}),
    "constant trait": (network(lambda params: jnp.sum(0 * params["layer_0"]["bias"])), {}),
}

TRANSFER = {
    "m = 1 and squared error": (network(), on_logits(squared_error, ONE)),
    "m = 2 and a softmax": (network(), on_logits(kl_divergence, AUXILIARY)),
    "linear model, all logits": (linear(), kl_divergence),
    "biases of the class head, all logits": (network(class_biases_only), kl_divergence),
    "live units": (dead(alive=True), on_logits(kl_divergence, AUXILIARY)),
}


@pytest.mark.parametrize(("problem", "options"), ORTHOGONAL.values(), ids=ORTHOGONAL)
def test_zero_is_exactly_zero_at_every_eps(problem, options):
    report = verify(*problem, epsilons=EPSILONS, **options)
    assert report.branch == "orthogonal"
    assert report.holds
    assert report.alignment == ZEROS
    assert report.cosine == ZEROS
    assert report.first_order == 0.0
    assert report.transfer_ratio == 0.0
    assert set(report.by_layer.values()) == {0.0}
    assert set(report.by_logit) == {0.0}
    assert report.largest_epsilon_verified == EPSILONS[-1]


@pytest.mark.parametrize(("problem", "loss"), TRANSFER.values(), ids=TRANSFER)
def test_its_neighbour_is_not_zero(problem, loss):
    f, params, teacher_loss, x = problem
    first = jit(lambda params: first_order(f, loss, params, teacher_update(teacher_loss, params), x))(params)
    assert first.coefficient > 1e-4


def test_a_teacher_of_dead_units_does_move():
    """The zero above is no standstill: the trait's gradient is not 0, and its step changes the trait."""
    _, params, teacher_loss, _ = dead()
    gradient = jax.grad(teacher_loss)(params)
    assert np.any(gradient["layer_0"]["kernel"] != 0)
    assert teacher_loss(oracle.moved(params, -1e-3, oracle.flat(gradient))) < teacher_loss(params)


def test_the_heads_of_an_auxiliary_student_contribute_exactly_nothing():
    """d_T is 0 on the auxiliary head, d_S on the class head: A comes from the hidden layers alone."""
    it = instance("tanh")
    d_teacher = oracle.like(it.params, it.d_teacher)["layer_2"]
    assert not np.any(d_teacher["kernel"][:, AUXILIARY])
    assert not np.any(d_teacher["bias"][AUXILIARY])
    arguments = "tanh", "kl on the last two", it.params
    updates = (
        *plain(*arguments, it.params, it.d_teacher, EPSILONS, it.inputs),
        *rescaled(*arguments, it.d_teacher, EPSILONS, it.inputs),
    )
    for update in updates:
        d_student = oracle.like(it.params, update)["layer_2"]
        assert not np.any(d_student["kernel"][:, :3])
        assert not np.any(d_student["bias"][:3])
    first, shares = law(*arguments, it.d_teacher, it.inputs)
    assert shares["layer_2"] == 0.0
    assert min(shares["layer_0"], shares["layer_1"]) != 0.0
    assert shares["layer_0"] + shares["layer_1"] == pytest.approx(float(first.coefficient), rel=1e-14)


# Negative control: on all logits the head does contribute


def test_the_head_of_a_student_of_all_logits_contributes():
    it = instance("tanh")
    _, shares = law("tanh", "kl", it.params, it.d_teacher, it.inputs)
    assert shares["layer_2"] > 0.0
