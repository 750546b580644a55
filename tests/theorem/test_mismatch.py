"""Fact 9, the init-mismatch law: a student from `theta + delta`, delta ~ N(0, sigma**2 I) small, has
`P(d_S . d_T > 0) = Phi(sigma* / sigma)` with `sigma* = eps d_T^T G d_T / |G d_T|`.

Measured on three networks against the law, and against perturbations drawn and differentiated in plain numpy. A step
too large for the law, and a sigma* that is a little off, must be seen.
"""

import dataclasses
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import oracle
import pytest
from instances import AUXILIARY, instance
from jax.flatten_util import ravel_pytree
from scipy import stats

from sublim_theory.theorem import Instance
from sublim_theory.theorem.mismatch import (
    RATIOS,
    Measured,
    MismatchReport,
    measured_probability,
    mismatch,
    predicted_probability,
    sigma_star,
)

PERTURBATIONS = 4000
THREE_ERRORS = 3.0


@dataclasses.dataclass(frozen=True)
class Network:
    """Arguments of an instance: positional ones, and the others."""

    parts: tuple
    options: dict = dataclasses.field(default_factory=dict)

    def instance(self, **options):
        return Instance(*self.parts, **self.options | options)


def perceptron(activation, **options):
    it = instance(activation)
    return Network((it.f, it.params, it.teacher_loss, it.inputs), options)


def attention():
    """Another architecture and kind of input: one head of self-attention over six tokens, with a residual and a
    normalisation; its trait is a decay of the weights, unrelated to f."""
    rng = np.random.default_rng(3)
    names = {"embedding": (11, 8), "query": (8, 8), "key": (8, 8), "value": (8, 8), "head": (8, 5)}
    params = {name: rng.normal(size=shape) / math.sqrt(shape[0]) for name, shape in names.items()}

    def f(params, tokens):
        x = params["embedding"][tokens]
        scores = (x @ params["query"]) @ jnp.swapaxes(x @ params["key"], 1, 2) / math.sqrt(8)
        x = x + jax.nn.softmax(scores) @ (x @ params["value"])
        x = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return x.mean(1) @ params["head"]

    def teacher_loss(params):
        return sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(params)) / 10

    return Network((f, params, teacher_loss, rng.integers(11, size=(8, 6))), {"imitation_loss": "huber"})


NETWORKS = {
    "tanh": perceptron("tanh"),
    "gelu": perceptron("gelu", imitation_loss="squared_error", logits=AUXILIARY),
    "attention": attention(),
}


def linear():
    """A linear model under squared error: `d_S = eps G d_T - G delta`, exactly."""
    rng = np.random.default_rng(5)
    inputs, target = rng.normal(size=(20, 4)), rng.normal(size=(4, 3))
    parts = (lambda w, x: x @ w, rng.normal(size=(4, 3)), lambda w: jnp.sum(jnp.square(w - target)), inputs)
    return Network(parts, {"imitation_loss": "squared_error"})


LINEAR = linear()


@pytest.fixture(scope="module")
def tanh():
    return NETWORKS["tanh"].instance()


@pytest.fixture(scope="module")
def reports(tanh):
    return {name: mismatch(tanh if name == "tanh" else network.instance()) for name, network in NETWORKS.items()}


@pytest.fixture(scope="module")
def linear_report():
    ratios = [1.0, 0.01, 1000.0, *np.linspace(0.6, 3, 200)]
    return mismatch(LINEAR.instance(), epsilon=1.0, ratios=ratios, perturbations=1000)


def follows(report):
    """Every measured value within three standard errors of the law."""
    return max(map(abs, report.deviations)) <= THREE_ERRORS


# The law


@pytest.mark.parametrize("name", NETWORKS)
def test_measured_probability_is_the_law_at_five_sigmas(reports, name):
    report = reports[name]
    assert len(report.sigmas) == 5
    assert report.perturbations == PERTURBATIONS
    for ratio, sigma, predicted, measured, error in zip(
        RATIOS, report.sigmas, report.predicted, report.measured, report.standard_errors, strict=True
    ):
        law = stats.norm.cdf(1 / ratio)
        assert sigma == pytest.approx(ratio * report.sigma_star, rel=1e-14)
        assert predicted == pytest.approx(law, rel=1e-12)
        assert error == pytest.approx(math.sqrt(law * (1 - law) / PERTURBATIONS), rel=1e-12)
        assert abs(measured - law) <= THREE_ERRORS * error
    assert follows(report)
    assert max(report.nonlinearity) < 0.01


def test_another_sigma_star_would_not_fit(reports):
    report = reports["tanh"]
    for factor in (0.8, 1.25):
        wrong = tuple(stats.norm.cdf(factor * report.sigma_star / sigma) for sigma in report.sigmas)
        assert not follows(dataclasses.replace(report, predicted=wrong))


def test_a_step_too_large_for_the_law_is_seen(tanh):
    report = mismatch(tanh, epsilon=10.0, perturbations=1000)
    assert not follows(report)
    assert min(report.nonlinearity) > 0.1


def test_departure_from_the_law_is_proportional_to_eps(tanh, reports):
    larger = mismatch(tanh, epsilon=1e-4)
    np.testing.assert_allclose(np.divide(larger.nonlinearity, reports["tanh"].nonlinearity), 100, rtol=0.02)


def test_linear_model_with_squared_error_follows_the_law_at_any_eps(linear_report):
    # No limit is taken: the deviations at 200 sigmas are standard normal, all but for the steps of a count.
    assert max(linear_report.nonlinearity) < 1e-10
    deviations = np.array(linear_report.deviations[3:])
    assert stats.kstest(deviations, "norm").pvalue > 1e-3
    assert abs(deviations.mean()) < 3 / math.sqrt(200)
    assert deviations.std() == pytest.approx(1, abs=3 / math.sqrt(2 * 200))


def test_far_beyond_sigma_star_it_is_a_coin_toss_and_far_below_certain(linear_report):
    assert linear_report.measured[1] == linear_report.predicted[1] == 1
    assert linear_report.deviations[1] == 0
    assert abs(linear_report.measured[2] - 0.5) < THREE_ERRORS * math.sqrt(0.25 / 1000)


# Against the dense oracle


def dense_sigma_star(activation, loss, epsilon):
    it = instance(activation)
    product = oracle.gauss_newton(it.params, it.inputs, activation, loss) @ it.d_teacher
    return epsilon * (it.d_teacher @ product) / np.linalg.norm(product)


def test_sigma_star_is_that_of_the_dense_matrix(reports):
    for activation, loss in (("tanh", "kl"), ("gelu", "squares on the last two")):
        assert reports[activation].sigma_star == pytest.approx(dense_sigma_star(activation, loss, 1e-6), rel=1e-10)
    in_batches = sigma_star(perceptron("sigmoid", imitation_loss="huber", batch_size=5).instance(), epsilon=0.02)
    assert in_batches == pytest.approx(dense_sigma_star("sigmoid", "huber", 0.02), rel=1e-10)


def test_sigma_star_of_another_architecture_is_that_of_its_jacobian(reports):
    f, params, _, inputs = NETWORKS["attention"].parts
    with jax.enable_x64(True):
        flat, unflatten = ravel_pytree(jax.tree.map(jnp.asarray, params))
        slope = jax.jit(jax.jacrev(lambda flat: f(unflatten(flat), inputs)))
        jacobian, d_teacher = np.asarray(slope(flat)), -np.asarray(flat) / 5  # of the sum of squares over 10
    matrix = np.einsum("bnp,bnq->pq", jacobian, jacobian) / len(inputs)  # the Huber loss has M = 1 at z = y
    product = matrix @ d_teacher
    expected = 1e-6 * (d_teacher @ product) / np.linalg.norm(product)
    assert reports["attention"].sigma_star == pytest.approx(expected, rel=1e-10)


def test_measured_probability_is_that_of_perturbations_in_plain_numpy(reports):
    it, report = instance("tanh"), reports["tanh"]
    rng = np.random.default_rng(8)
    teacher = oracle.moved(it.params, report.epsilon, it.d_teacher)
    sigma, count = report.sigmas[2], 1500
    aligned = 0
    for _ in range(count):
        student = oracle.moved(it.params, sigma, rng.normal(size=it.d_teacher.shape))
        aligned += oracle.student_update(student, teacher, it.inputs, "tanh", "kl") @ it.d_teacher > 0
    p = report.measured[2]
    error = math.sqrt(p * (1 - p) * (1 / count + 1 / PERTURBATIONS))
    assert abs(aligned / count - p) <= THREE_ERRORS * error


def test_predicted_probability_by_table():
    assert predicted_probability(1, 1) == pytest.approx(0.841344746, abs=1e-9)
    assert predicted_probability(3e-7, 1e-7) == pytest.approx(0.630558660, abs=1e-9)
    assert predicted_probability(0.5, 1) == pytest.approx(0.977249868, abs=1e-9)


# How it is computed


def test_neither_chunks_nor_batches_nor_the_number_of_perturbations_change_a_perturbation(linear_report):
    # The first sigma of a report has the perturbations of `measured_probability` at the same seed.
    share = linear_report.measured[0]
    fewer, others = (
        measured_probability(LINEAR.instance(batch_size=batch_size), linear_report.sigmas[0], epsilon=1.0, **options)
        for batch_size, options in (
            (6, {"perturbations": 999, "chunk_size": 7}),
            (None, {"perturbations": 1000, "seed": 1}),
        )
    )
    assert isinstance(fewer, Measured)
    assert 1000 * share - 999 * fewer.probability in (pytest.approx(0, abs=1e-9), pytest.approx(1))
    assert others.probability != share
    assert others.standard_error == pytest.approx(math.sqrt(others.probability * (1 - others.probability) / 1000))


def test_float64_inside_and_the_callers_setting_outside(linear_report):
    f, weights, teacher_loss, inputs = LINEAR.parts
    single = jnp.asarray(weights, jnp.float32)
    assert not jax.config.jax_enable_x64

    def star(**options):
        return sigma_star(Instance(f, single, teacher_loss, inputs, **LINEAR.options, **options))

    value = jax.jit(lambda x: x * star())(1.0)
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(1e-6 * linear_report.sigma_star, rel=1e-5)
    with pytest.raises(ValueError, match="batch_size"):
        star(batch_size=0)
    assert not jax.config.jax_enable_x64
    assert jnp.ones(2).dtype == jnp.float32


# The report


def test_report_prints_as_a_table_and_goes_through_json(reports):
    report = reports["gelu"]
    lines = str(report).splitlines()
    assert len(lines) == 2 + len(RATIOS)
    assert f"{report.sigma_star:.6g}" in lines[0]
    for line, ratio, measured in zip(lines[2:], RATIOS, report.measured, strict=True):
        cells = line.split()
        assert float(cells[1]) == ratio
        assert cells[3] == f"{measured:.4f}"
    loaded = json.loads(json.dumps(report.to_dict()))
    assert loaded == report.to_dict()
    assert MismatchReport(**{k: tuple(v) if isinstance(v, list) else v for k, v in loaded.items()}) == report
    with pytest.raises(dataclasses.FrozenInstanceError):
        report.seed = 1


# What cannot be asked


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "argument"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": float("inf")}, "epsilon"),
        ({"ratios": ()}, "ratios"),
        ({"ratios": (1.0, -1.0)}, "ratios"),
        ({"perturbations": 0}, "perturbations"),
        ({"chunk_size": 0}, "chunk_size"),
        ({"chunk_size": 1.5}, "chunk_size"),
        ({"ratios": 1.0}, r"write \(1.0,\)"),
    ],
)
def test_errors_name_the_argument(tanh, options, argument):
    with pytest.raises(ValueError, match=argument):
        mismatch(tanh, **options)


def test_errors_of_the_probabilities(tanh):
    with pytest.raises(ValueError, match="sigma must"):
        predicted_probability(0, 1)
    with pytest.raises(ValueError, match="sigma_star must"):
        predicted_probability(1, -1)
    with pytest.raises(ValueError, match="sigma must"):
        measured_probability(tanh, float("nan"))


def test_orthogonal_branch_has_no_sigma_star(tanh):
    # One auxiliary logit with a softmax loss: no gradient at all.
    with pytest.raises(ValueError, match=r"exactly 0 \(the orthogonal branch\)"):
        mismatch(tanh.with_loss("kl", [4]))


def test_a_loss_with_a_maximum_at_the_labels_has_none_either():
    with pytest.raises(ValueError, match=r"imitation_loss gives A = .* not positive"):
        sigma_star(LINEAR.instance(imitation_loss=lambda z, y: -jnp.sum(jnp.square(z - y), -1)))
