"""How close two initialisations must be: the probability of a positive alignment follows a law without free constants.

Claim (`sublim_theory.theorem.mismatch`): a student that starts at a random distance from the teacher's initialisation,
N(0, sigma**2) in each parameter, is aligned with the teacher with probability `Phi(sigma* / sigma)`, where
`sigma* = eps d_T^T G d_T / |G d_T|`. Lemma 1 is the limit sigma -> 0, remark (a) the limit of a coin toss.

Conditions: `measured/RATIO`, the fraction of students with `d_S . d_T > 0` at sigma = RATIO sigma*;
`standard_errors/RATIO`, its distance from the law in binomial standard errors; `sigma_star`; `nonlinearity/RATIO`, how
far the alignment is from its first-order form, in standard deviations of it.
"""

from dataclasses import dataclass
from typing import Any

from experiments.experiment import Experiment, Nothing, Variable, require_counts, require_distinct
from experiments.theory import Labelled, Theory, initial, noise_images, on_digits, teacher_loss
from sublim_theory.theorem import Instance
from sublim_theory.theorem.mismatch import EPSILON, RATIOS, mismatch


@dataclass(frozen=True)
class Protocol(Theory):
    """Settings of the law of mismatched initialisations."""

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

    def check(self, rates: Nothing) -> None:
        """Check every setting, as those of every experiment on the theorem are."""
        super().check(rates)
        require_counts(self, "perturbations")
        self.require_names([self.activation], [self.loss])
        self.require_epsilon(self.epsilon)
        if not self.ratios or not all(ratio > 0 for ratio in self.ratios):
            raise ValueError(f"ratios must be positive, at least one of them; got {self.ratios}")
        require_distinct(self, "ratios")


PRESETS = {
    "smoke": on_digits(Protocol, seeds=1, hidden=(16,), images=128, noise_images=64, perturbations=1000),
    "default": on_digits(Protocol, seeds=3),
    "paper": on_digits(
        Protocol, seeds=3, dataset="mnist", hidden=(256, 256), images=1000, noise_images=128, perturbations=500
    ),
}


def run_seed(protocol: Protocol, rates: Nothing, data: Labelled, seed: int) -> dict[str, Any]:  # noqa: ARG001
    """The law and what was measured, of one network with its noise."""
    net = protocol.make_network(data, protocol.activation)
    inputs, trait = noise_images(protocol, data, seed), teacher_loss(net, data)
    report = mismatch(
        Instance(net.apply, initial(net, seed), trait, inputs, imitation_loss=protocol.loss, logits=net.auxiliary),
        epsilon=protocol.epsilon,
        ratios=protocol.ratios,
        perturbations=protocol.perturbations,
        seed=seed,
    )
    return {
        "sigma_star": report.sigma_star,
        "measured": report.measured,
        "standard_errors": report.deviations,
        "nonlinearity": report.nonlinearity,
    }


EXPERIMENT = Experiment(
    name="theorem_mismatch",
    summary="How close two initialisations must be: P(aligned) = Phi(sigma*/sigma)",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda settings: {"ratio": settings.protocol.ratios},
    variables={
        "sigma_star": Variable(condition="sigma_star"),
        **{
            name: Variable(inner=("ratio",), condition=f"{name}/{{ratio}}")
            for name in ("measured", "standard_errors", "nonlinearity")
        },
    },
    traced=False,
    dtype="float64",
)
