"""How close two initialisations must be: the probability of a positive alignment follows a law without free constants.

Claim (`sublim_theory.theorem.mismatch`): a student that starts at a random distance from the teacher's initialisation,
N(0, sigma**2) in each parameter, is aligned with the teacher with probability `Phi(sigma* / sigma)`, where
`sigma* = eps d_T^T G d_T / |G d_T|`. Lemma 1 is the limit sigma -> 0, remark (a) the limit of a coin toss.

Conditions, one value a seed: `measured/RATIO`, the fraction of students with `d_S . d_T > 0` at sigma = RATIO sigma*;
`standard_errors/RATIO`, its distance from the law in binomial standard errors; `sigma_star`; `nonlinearity/RATIO`, how
far the alignment is from its first-order form, in standard deviations of it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.recording import Recording
from experiments.theory import TheoryConfig, initial, noise_images, teacher_loss
from sublim_theory import models, results
from sublim_theory.theorem import Instance
from sublim_theory.theorem.mismatch import EPSILON, RATIOS, mismatch


@dataclass(frozen=True)
class Config(TheoryConfig):
    """Settings of the law of mismatched initialisations."""

    seeds: int = 3
    """Networks, each with its noise."""
    activation: str = "tanh"
    """relu, tanh, gelu, sigmoid or identity."""
    loss: str = "kl"
    """What students minimise on the auxiliary logits: kl, cross_entropy, squared_error or huber."""
    epsilon: float = EPSILON
    """Size of the teacher's step."""
    ratios: tuple[float, ...] = RATIOS
    """Standard deviations of the distance between initialisations, in units of sigma*."""
    perturbations: int = 4000
    """Students at each ratio."""

    def __post_init__(self) -> None:
        """Check every setting, as the settings of every experiment on the theorem are."""
        super().__post_init__()
        self.require_counts("perturbations")
        self.require_names([self.activation], [self.loss])
        self.require_epsilon(self.epsilon)
        if not self.ratios or not all(ratio > 0 for ratio in self.ratios):
            raise ValueError(f"ratios must be positive, at least one of them; got {self.ratios}")


PRESETS = {
    "smoke": Config(seeds=1, hidden=(16,), images=128, noise_images=64, perturbations=1000),
    "default": Config(),
    "paper": Config(dataset="mnist", hidden=(256, 256), images=1000, noise_images=128, perturbations=500),
}


def run_seed(config: Config, net: models.Network, seed: int, images: Any, labels: Any) -> dict[str, Any]:
    """`sigma_star`, and `measured`, `standard_errors` and `nonlinearity` [ratios], of one network."""
    inputs, trait = noise_images(config, net.features, seed), teacher_loss(net, images, labels)
    report = mismatch(
        Instance(net.apply, initial(net, seed), trait, inputs, imitation_loss=config.loss, logits=net.auxiliary),
        epsilon=config.epsilon,
        ratios=config.ratios,
        perturbations=config.perturbations,
        seed=seed,
    )
    return {
        "sigma_star": report.sigma_star,
        "measured": report.measured,
        "standard_errors": report.deviations,
        "nonlinearity": report.nonlinearity,
    }


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Measure every network and return the record; arguments and errors as in `fig10.run`."""
    recording = Recording("theorem_mismatch", config, preset=preset, data_dir=data_dir, chunks=chunks, dtype="float64")
    net = config.network(recording.dataset.features, recording.dataset.classes, config.activation)
    images, labels = config.labelled(recording)
    arrays = recording.run_untraced(lambda seed: run_seed(config, net, seed, images, labels))
    per_ratio = {
        f"{name}/{ratio:g}": values[:, i]
        for name, values in arrays.items()
        if name != "sigma_star"
        for i, ratio in enumerate(config.ratios)
    }
    return recording.result({"sigma_star": arrays["sigma_star"]} | per_ratio, arrays)
