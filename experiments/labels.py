"""What the experiments on released outputs share: students that see labels, shares of the auxiliary logits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax

from experiments.distillation import Distillation, Rates
from sublim_theory import training
from sublim_theory._types import AnyArray, Params
from sublim_theory.networks import Network


@dataclass(frozen=True)
class Labels(Distillation):
    """Settings of students that minimise cross-entropy with labels, which has the gradient of the loss `kl`."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        if self.auxiliary < 2:
            raise ValueError("auxiliary must be at least 2: the softmax of one logit is constant")
        if self.loss not in ("kl", "cross_entropy") or rates.temperature is not None:
            raise ValueError(f"labels have no loss {self.loss!r} with temperature {rates.temperature}")

    def require_ascending(self, name: str) -> None:
        """Check that a setting is of ascending positive whole numbers. Raises `ValueError`."""
        values = getattr(self, name)
        if not values or values[0] < 1 or list(values) != sorted(set(values)):
            raise ValueError(f"{name} must ascend from 1 or more, got {values}")


def sample_shares(key: jax.Array, logits: AnyArray, samples: tuple[int, ...]) -> jax.Array:
    """Shares of each logit in the first n samples from the softmax of `logits` [images, m], [samples, images, m]."""
    counts = jnp.array(samples, logits.dtype)[:, None, None]

    def draw(found: jax.Array, now: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        i, key = now
        drawn = jax.nn.one_hot(jax.random.categorical(key, logits), logits.shape[-1], dtype=logits.dtype)
        return found + jnp.where(i < counts, drawn, 0), None

    steps = jnp.arange(samples[-1]), jax.random.split(key, samples[-1])
    found, _ = jax.lax.scan(draw, jnp.zeros((len(samples), *logits.shape), logits.dtype), steps)
    return found / counts


def label_loss(net: Network, logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Softmax cross-entropy of the auxiliary among `logits` [batch, logits] with `labels` [batch, m], [batch]."""
    return optax.losses.softmax_cross_entropy(net.auxiliary_logits(logits), labels)


def imitate(
    protocol: Distillation,
    rates: Rates,
    net: Network,
    pupils: Mapping[str, tuple[Params, Any, Any]],
    batches: training.Schedule,
) -> training.Fit:
    """Train students on labels, all in one scan, each as on its own: every optimiser here acts number by number.

    Args:
        protocol: the settings.
        rates: the settings that may be traced.
        net: the students' network.
        pupils: name -> initial parameters, images [images, features] and their labels [images, m].
        batches: rows of the images that each update sees.
    """

    def objective(params: Params, batch: Mapping[str, tuple[jax.Array, jax.Array]]) -> dict[str, jax.Array]:
        return {name: label_loss(net, net.apply(params[name], x), labels) for name, (x, labels) in batch.items()}

    params = {name: initial for name, (initial, *_) in pupils.items()}
    seen = {name: (images, labels) for name, (_, images, labels) in pupils.items()}
    return training.fit(objective, params, protocol.make_optimizer(rates), seen, batches)
