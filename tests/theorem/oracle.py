"""The dense oracle: explicit Jacobians of small networks by hand, in numpy. It shares no code with the library.

Everything is generic in the dtype: with `np.longdouble` parameters the definitions can be evaluated as they stand at
an eps so small that float64 would lose the digits. Vectors are flat, in the order of `flat`.
"""

import numpy as np
from scipy import special

EXTENDED = bool(np.finfo(np.longdouble).eps < 1e-18)
"""Whether this machine has a float wider than 64 bits."""

PI = 4 * np.arctan(np.longdouble(1))


def normal(a):
    """The density of the standard normal distribution."""
    return np.exp(-(a**2) / 2) / np.sqrt(2 * PI).astype(a.dtype)


def ndtr(a):
    """Its distribution; in the wider float, which scipy does not have, by the series of `a**(2k + 1) / (2k + 1)!!`."""
    if a.dtype != np.longdouble:
        return special.ndtr(a)
    term, total = a, a
    for k in range(3, 301, 2):
        term = term * a * a / k
        total = total + term
    return np.longdouble(0.5) + normal(a) * total


# name -> (function, derivative)
ACTIVATIONS = {
    "tanh": (np.tanh, lambda a: 1 - np.tanh(a) ** 2),
    "gelu": (
        lambda a: a * ndtr(a),
        lambda a: ndtr(a) + a * normal(a),
    ),
    "sigmoid": (special.expit, lambda a: special.expit(a) * special.expit(-a)),
    "relu": (lambda a: np.where(a > 0, a, 0), lambda a: np.where(a > 0, 1.0, 0.0)),
    "identity": (lambda a: a, np.ones_like),
}


def softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def diagonal(entries):
    return entries[:, :, None] * np.eye(entries.shape[1])


def categorical(p):
    """`diag(p) - p p^T` [batch, n, n], by its pairs: `p_i (sum of the other p)` on the diagonal, `-p_i p_j` off it."""
    pairs = p[:, :, None] * p[:, None, :] * (1 - np.eye(p.shape[1]))
    return diagonal(pairs.sum(axis=2)) - pairs


def tempered(temperature):
    return (
        lambda z, y: (softmax(z / temperature) - softmax(y / temperature)) / temperature,
        lambda y: categorical(softmax(y / temperature)) / temperature**2,
    )


def weighted(weights):
    weights = np.asarray(weights)
    return lambda z, y: 2 * weights * (z - y), lambda y: diagonal(2 * weights * np.ones_like(y))


def restricted(loss, chosen):
    gradient, curvature = loss

    def padded_gradient(z, y):
        result = np.zeros_like(z)
        result[:, chosen] = gradient(z[:, chosen], y[:, chosen])
        return result

    def padded_curvature(y):
        result = np.zeros((*y.shape, y.shape[1]), y.dtype)
        result[:, chosen, chosen] = curvature(y[:, chosen])
        return result

    return padded_gradient, padded_curvature


# name -> (g(z, y) = dL/dz [batch, n], M(y) [batch, n, n]), by hand; the names are those of `instances.LOSSES`
LOSSES = {
    "kl": tempered(1),
    "cross_entropy": tempered(1),
    "kl, T=3": tempered(3),
    "squared_error": weighted(1.0),
    "weighted": weighted([0.5, 2.0, 1.0, 3.0, 1.5]),
    "huber": (lambda z, y: np.clip(z - y, -1, 1), lambda y: diagonal(np.ones_like(y))),
    "log_cosh": (lambda z, y: np.tanh(z - y), lambda y: diagonal(np.ones_like(y))),
    "bregman": (lambda z, y: np.exp(z) - np.exp(y), lambda y: diagonal(np.exp(y))),
    "kl on the last two": restricted(tempered(1), slice(-2, None)),
    "squares on the last two": restricted(weighted(1.0), slice(-2, None)),
}


def flat(params):
    """Layers in order; in each the biases, then the kernel: the order of the leaves of the pytree."""
    return np.concatenate([np.ravel(params[name][leaf]) for name in sorted(params) for leaf in ("bias", "kernel")])


def like(params, vector):
    """The pytree of which `vector` is the flat form."""
    result, start = {}, 0
    for name in sorted(params):
        result[name] = {}
        for leaf in ("bias", "kernel"):
            shape = np.shape(params[name][leaf])
            stop = start + int(np.prod(shape))
            result[name][leaf] = np.reshape(vector[start:stop], shape)
            start = stop
    return result


def extended(params):
    """Parameters in the wider float."""
    return like(params, flat(params).astype(np.longdouble))


def moved(params, size, direction):
    """`params + size * direction`, the direction flat."""
    return like(params, flat(params) + size * direction)


def forward(params, x, activation):
    """Inputs of each layer, its pre-activations, and so the outputs as the last of these."""
    function, _ = ACTIVATIONS[activation]
    inputs, pre, h = [], [], x
    for name in sorted(params):
        inputs.append(h)
        pre.append(h @ params[name]["kernel"] + params[name]["bias"])
        h = function(pre[-1])
    return inputs, pre


def outputs(params, x, activation):
    return forward(params, x, activation)[1][-1]


def jacobian(params, x, activation):
    """`df/dtheta` [batch, n, parameters], layer by layer from the output down."""
    _, derivative = ACTIVATIONS[activation]
    names = sorted(params)
    inputs, pre = forward(params, x, activation)
    n = pre[-1].shape[1]
    back = np.broadcast_to(np.eye(n, dtype=pre[-1].dtype), (len(x), n, n))  # d outputs / d pre-activation
    blocks = []
    for place in reversed(range(len(names))):
        kernel = np.einsum("bi,bnj->bnij", inputs[place], back).reshape(len(x), n, -1)
        blocks.append(np.concatenate([back, kernel], axis=2))
        if place:
            back = (back @ params[names[place]]["kernel"].T) * derivative(pre[place - 1])[:, None, :]
    return np.concatenate(blocks[::-1], axis=2)


def student_update(params, teacher_params, x, activation, loss):
    """`-E J^T g(z, y)`, the definition."""
    g = LOSSES[loss][0](outputs(params, x, activation), outputs(teacher_params, x, activation))
    return -np.einsum("bnp,bn->p", jacobian(params, x, activation), g) / len(x)


def gauss_newton(params, x, activation, loss):
    """`G = E J^T M J` [parameters, parameters], formed."""
    j = jacobian(params, x, activation)
    m = LOSSES[loss][1](outputs(params, x, activation))
    return np.einsum("bip,bij,bjq->pq", j, m, j, optimize=True) / len(x)


def coefficient(params, x, activation, loss, direction):
    """`A = E v^T M v` with `v = J d`, without forming G."""
    v = jacobian(params, x, activation) @ direction
    m = LOSSES[loss][1](outputs(params, x, activation))
    return np.mean(np.einsum("bi,bij,bj->b", v, m, v))


def trait_loss(params, x, labels, activation, classes):
    """Mean cross-entropy of the class logits."""
    z = outputs(params, x, activation)[:, :classes]
    z = z - z.max(axis=1, keepdims=True)
    return np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(x)), labels])


def trait_gradient(params, x, labels, activation, classes):
    j = jacobian(params, x, activation)[:, :classes]
    residual = softmax(outputs(params, x, activation)[:, :classes]) - np.eye(classes)[labels]
    return np.einsum("bnp,bn->p", j, residual) / len(x)


def error(measured, expected):
    """Relative error of a vector in the Euclidean norm."""
    measured, expected = np.asarray(measured), np.asarray(expected)
    return float(np.sqrt(np.sum((measured - expected) ** 2) / np.sum(expected**2)))
