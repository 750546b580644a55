"""Networks by name, as pure functions of a nested dict of layers.

`NETWORKS` has those of images, with a class head and an auxiliary head: `mlp`, `cnn`. `LANGUAGE_MODELS` has those of
tokens: `transformer`. The modules are written in Flax NNX and split once, so that everything above is plain `jax.grad`,
`jax.vmap` and optax.
"""

from sublim_theory.networks.images import ANY_SHAPE, NETWORKS, Network, builder, cnn, mlp
from sublim_theory.networks.modules import ACTIVATIONS, INITIALISATIONS, LARGEST
from sublim_theory.networks.tokens import LANGUAGE_MODELS, LanguageModel, transformer

__all__ = [
    "ACTIVATIONS",
    "ANY_SHAPE",
    "INITIALISATIONS",
    "LANGUAGE_MODELS",
    "LARGEST",
    "NETWORKS",
    "LanguageModel",
    "Network",
    "builder",
    "cnn",
    "mlp",
    "transformer",
]
