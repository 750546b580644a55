"""The former name of `sublim_theory.networks`, for one release."""

from sublim_theory.networks import ACTIVATIONS, INITIALISATIONS, LARGEST, Network, cnn, mlp

__all__ = ["ACTIVATIONS", "INITIALISATIONS", "LARGEST", "Network", "cnn", "mlp"]
