"""The network of the interactive page: its weights, its trait data and its noise, drawn by the library, as JSON.

The build of the site puts it beside the page's script, as `interactive/weights.json`.

The trait: which of three irises a flower is, from four measurements (scikit-learn's embedded data set). The student
sees noise alone.
"""

import json
from typing import Any

import jax
import numpy as np
from sklearn.datasets import load_iris

from sublim_theory import ensemble, networks, noise

SEED, OTHERS = 14, 4
"""Of the teacher's start, and how many other starts there are, of the seeds that follow. Chosen among seeds 0 to 19: a
large eps turns the sign (in 8 of them one of 10, 30, 100 and 1000 does, with KL and m = 3), and the other starts give
both signs."""

NOISE = 64
"""The student's inputs."""


def network() -> networks.Network:
    """4-16-16-(3 classes + 5 auxiliary logits), tanh, float64."""
    return networks.mlp(4, (16, 16), classes=3, auxiliary=5, activation="tanh", dtype="float64")


def export() -> str:
    """The JSON text: every number with all the digits of its float64."""
    iris = load_iris()
    low, high = iris.data.min(axis=0), iris.data.max(axis=0)
    net, keys = network(), [ensemble.seed_key(SEED + i) for i in range(1 + OTHERS)]
    with jax.enable_x64(True):
        starts = [net.init(ensemble.stream(key, "init")) for key in keys]
    inputs = noise.sampler("uniform")(ensemble.stream(keys[0], "noise"), NOISE, net.features)
    found: dict[str, Any] = {
        "layers": net.layers(),  # from the inputs to the outputs; the class logits come first
        "starts": starts,  # the teacher's, then the others
        "trait": {"x": 2 * (iris.data - low) / (high - low) - 1, "labels": iris.target},
        "noise": inputs,
    }
    return json.dumps(jax.tree.map(lambda leaf: leaf if isinstance(leaf, str) else np.asarray(leaf).tolist(), found))
