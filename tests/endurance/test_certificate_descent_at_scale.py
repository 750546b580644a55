"""Certificates of descent: many networks, larger ones, boxes, lies; against dense sampling and the second checker."""

import itertools

import numpy as np
import pytest
from scipy import special

from sublim_theory.theorem.certificates.descent import certify_box, certify_descent

pytestmark = [pytest.mark.endurance, pytest.mark.timeout(3600)]

ACTIVATIONS = {
    "relu": (lambda x: np.maximum(x, 0), lambda x: (x > 0) * 1.0),
    "tanh": (np.tanh, lambda x: 1 - np.tanh(x) ** 2),
    "sigmoid": (special.expit, lambda x: special.expit(x) * special.expit(-x)),
    "gelu": (
        lambda x: x * special.ndtr(x),
        lambda x: special.ndtr(x) + x * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi),
    ),
}
CLASSES, LOGITS = slice(0, 2), slice(2, None)

every = pytest.mark.parametrize(
    ("name", "loss"), list(itertools.product(ACTIVATIONS, ("kl", "squared_error"))), ids=lambda each: each
)


def forward(layers, name, x, step=None, alphas=None):
    """The outputs; with a step, at theta + alpha step for each alpha, [alphas, inputs, outputs]."""
    h = x if step is None else x[None]
    for i, (w, b) in enumerate(layers):
        z = h @ w + b
        if step is not None:
            z = z + np.reshape(alphas, (-1, 1, 1)) * (h @ step[i][0] + step[i][1])
        h = ACTIVATIONS[name][0](z) if i + 1 < len(layers) else z
    return h


def pull(layers, name, x, gradients):
    """`mean_i J_i^T g_i` by backpropagation."""
    hidden, slopes = [x], []
    for w, b in layers[:-1]:
        z = hidden[-1] @ w + b
        hidden.append(ACTIVATIONS[name][0](z))
        slopes.append(ACTIVATIONS[name][1](z))
    found, back = [], gradients / len(x)
    for i in reversed(range(len(layers))):
        found.append((hidden[i].T @ back, back.sum(0)))
        if i:
            back = (back @ layers[i][0].T) * slopes[i - 1]
    return found[::-1]


class Case:
    """A random network and a trait of two classes; the student imitates the other outputs."""

    def __init__(self, name, loss, seed, widths=(6, 8, 8, 5), count=20):
        random = np.random.default_rng([seed, 91])
        self.name, self.loss = name, loss
        self.layers = [
            (random.normal(size=(a, b)) / np.sqrt(a), 0.1 * random.normal(size=b))
            for a, b in itertools.pairwise(widths)
        ]
        self.inputs, self.examples = random.normal(size=(count, widths[0])), random.normal(size=(20, widths[0]))
        self.labels = random.integers(2, size=20)
        y = forward(self.layers, name, self.examples)
        gradients = np.zeros_like(y)
        gradients[:, CLASSES] = np.eye(2)[self.labels] - special.softmax(y[:, CLASSES], axis=1)
        self.direction = pull(self.layers, name, self.examples, gradients)

    def certify(self, function, **keywords):
        return function(
            self.layers,
            self.name,
            self.direction,
            self.inputs,
            self.examples,
            self.labels,
            imitation_loss=self.loss,
            logits=LOGITS,
            classes=CLASSES,
            **keywords,
        )

    def step(self, epsilon):
        """d_S(eps)."""
        link = (lambda y: special.softmax(y, axis=-1)) if self.loss == "kl" else (lambda y: 2 * y)
        z = forward(self.layers, self.name, self.inputs)
        y = forward(self.layers, self.name, self.inputs, self.direction, [epsilon])[0]
        gradients = np.zeros_like(z)
        gradients[:, LOGITS] = link(y[:, LOGITS]) - link(z[:, LOGITS])
        return pull(self.layers, self.name, self.inputs, gradients)

    def drops(self, epsilon, alphas):
        """`L_T(theta) - L_T(theta + alpha d_S(eps))` at each alpha."""
        alphas = np.concatenate([[0.0], alphas])
        y = forward(self.layers, self.name, self.examples, self.step(epsilon), alphas)[..., CLASSES]
        losses = (special.logsumexp(y, axis=-1) - y[:, np.arange(20), self.labels]).mean(-1)
        return losses[0] - losses[1:]

    def last(self, epsilon, until):
        """The last sampled alpha before the first at which L_T does not fall; `until` if there is none."""
        low, high = 0.0, until
        for zoom in range(4):
            grid = np.linspace(low, high, 2001)[1:]
            wrong = np.flatnonzero(self.drops(epsilon, grid) <= 0)
            if not len(wrong):
                return until if not zoom else low
            low, high = (grid[wrong[0] - 1] if wrong[0] else low), grid[wrong[0]]
        return low


@every
@pytest.mark.parametrize("epsilon", [1.0, 10.0])
def test_it_goes_as_far_as_samples_do(name, loss, epsilon):
    until = 1000.0 / epsilon
    for seed in range(10):
        case = Case(name, loss, seed)
        found, last = case.certify(certify_descent, epsilon=epsilon, until=until), case.last(epsilon, until)
        assert 0.999 * last <= found.certified <= last * (1 + 1e-6) + 1e-9
        assert (found.refuted is None) == (found.certified == until)
        if found.refuted is not None:
            assert found.refuted <= 1.00001 * found.certified + 1e-9
        verdict = found.check(points=100)
        assert verdict.holds


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_larger_networks(name):
    case = Case(name, "kl", 0, (64, 64, 64, 10), 50)
    found, last = case.certify(certify_descent, epsilon=1.0), case.last(1.0, 1000.0)
    assert 0.999 * last <= found.certified <= last * (1 + 1e-6)
    assert (found.refuted is None) == (found.certified == 1000.0)


@every
def test_boxes_reach_nine_tenths_of_the_samples_and_hold(name, loss):
    for seed in range(3):
        case = Case(name, loss, seed)
        found = case.certify(certify_box, tolerance=0.01)
        sizes = np.linspace(0, 1, 33)[1:]
        if found.refuted is not None:  # a narrow dip may lie between the samples
            sizes = np.append(sizes, found.refuted[1])
        last = min(case.last(epsilon, 1000.0) for epsilon in sizes)
        assert 0.9 * last <= found.certified <= last * (1 + 1e-6)
        assert found.stopped in ("until", "tolerance")
        for epsilon in np.random.default_rng(seed).random(20):
            assert (case.drops(epsilon, np.linspace(0, found.certified, 51)[1:]) > -1e-13).all()
        assert found.check(points=100, lines=4).holds


@every
def test_lies_are_not_certified_beyond_the_truth(name, loss):
    """The direction reversed, and with one weight wrong by twice its length."""
    reversed_, wrong = 0, 0
    for seed in range(10):
        for lie in ("reversed", "wrong"):
            case = Case(name, loss, seed)
            if lie == "reversed":
                case.direction = [(-w, -b) for w, b in case.direction]
            else:
                length = np.sqrt(sum(np.sum(a**2) for pair in case.direction for a in pair))
                case.direction[0][0][0, 0] += 2 * length
            found, last = case.certify(certify_descent, epsilon=1e-3, until=100.0), case.last(1e-3, 100.0)
            assert found.certified <= last * (1 + 1e-6) + 1e-9
            if lie == "reversed":
                assert found.certified == 0
                reversed_ += 1
            else:
                wrong += found.certified == 0
    assert reversed_ == 10
    assert wrong < 10
