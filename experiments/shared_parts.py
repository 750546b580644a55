"""Which parts must student and teacher share? Students with layers of their own, frozen layers, or another network.

Claim: transfer needs the shared heads, the class head above all, of which the auxiliary logits say nothing. Hidden
layers of the student's own, in number and width too, can learn to serve the heads, given enough auxiliary logits.

Every student imitates the auxiliary logits of one teacher on noise, and starts from the teacher's own reference but for

* `redrawn/PART`: a part that comes from the next seed's reference: `none` (the student of figure 10), one of the layers
  by name, `hidden` (all hidden layers), or `all`;
* `frozen/HEAD`: nothing, but that head keeps its initial values. The class head has no gradient here: a control;
* `network/KIND`: hidden layers of another network, drawn anew (one layer `shallower` or `deeper`; all but the last half
  as wide, `narrower`, or twice, `wider`). Compare with `redrawn/hidden`;
* `convolutional/3x3`: the same with two layers of 3 x 3 convolutions of stride 2 and one dense layer below the heads.

Conditions, one value a seed: test accuracy of `reference`, `teacher` and each student. The number m of auxiliary logits
is a setting: `sublim sweep shared_parts --vary auxiliary=3,10,50`.

Found on the embedded digits, m = 10, 5 seeds: student .93 with everything shared, .92 with its auxiliary head frozen,
.34 with its own auxiliary head, .15 to .21 with its own hidden layers, of whatever size, .09 with its own class head.
On MNIST (paper, 5 seeds) .84, .84, .20, .11 to .15 and .10: at m = 10 only the shared start transfers. Over m = 3, 10,
50, 250 (digits, `sweep_redrawn`, 3 seeds) its own hidden layers give .08, .17, .52 and .87, its own class head .09 to
.10 and its own auxiliary head .31 to .38 throughout: all as reported. So are second layers of 2,048 and 4,096 units
(`sweep_second_width`, 3 seeds): .85 and .70 where 512 give .94, and .89 and .84 with a frozen auxiliary head. A
convolutional student (`sweep_convolutional`, 3 seeds) has .16 at m = 10 and .40 at m = 50 on independent noise and no
more on correlated noise (.19 to .20 and .25 to .29), in disagreement; but 8 x 8 pixels leave little to correlate.

Literature (Brockers et al., arXiv 2605.23645; MNIST, squared error, fresh noise): hidden layers drawn anew still
transfer when m is large enough (m from 3 to 250); a random class head gives chance at every m; a random auxiliary
head suppresses strongly; one layer more or fewer and other widths transfer when the heads are shared.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import jax

from experiments.distillation import DIGITS, Distillation, Split, Start, begin, distil_and_test, layers_of, run_config
from sublim_theory import losses, models, results
from sublim_theory._types import PerExampleLoss
from sublim_theory.ensemble import stream
from sublim_theory.protocols import lookup
from sublim_theory.training import Student

HEADS = ("class_head", "auxiliary_head")
GROUPS = ("redrawn", "frozen", "network", "convolutional")
CHANNELS = (16, 32)


@dataclass(frozen=True)
class Config(Distillation):
    """Settings of shared parts."""

    auxiliary: int = 10
    """Auxiliary logits, the paper's m."""
    groups: tuple[str, ...] = GROUPS
    """Which students to train beside that of figure 10: redrawn, frozen, network, convolutional."""

    def __post_init__(self) -> None:
        """Check every setting, as the settings of every distillation are."""
        super().__post_init__()
        for name in self.groups:
            lookup("group", name, dict.fromkeys(GROUPS))
        self.require_distinct("groups")
        if not self.hidden:
            raise ValueError("hidden must have at least one layer: a linear model shares nothing between its heads")

    def redrawn(self) -> list[str]:
        """The parts that are drawn anew, one student each."""
        hidden = [f"hidden_{i}" for i in range(len(self.hidden))]
        return [*hidden, *(["hidden"] if len(hidden) > 1 else []), *HEADS, "all"]

    def students(self) -> list[str]:
        """Names of the students, in the order of the record."""
        groups: dict[str, Iterable[str]] = {"redrawn": self.redrawn(), "frozen": HEADS, "network": self.other_hidden()}
        groups["convolutional"] = ("3x3",)
        names = [f"{group}/{name}" for group in GROUPS if group in self.groups for name in groups[group]]
        return ["redrawn/none", *names]

    def other_hidden(self) -> dict[str, tuple[int, ...]]:
        """Hidden widths of the other networks; the last is shared with the teacher, or no head would fit."""
        *body, last = self.hidden
        others = {"shallower": (*body[1:], last), "deeper": (self.hidden[0], *self.hidden)}
        others |= {"narrower": (*(max(1, width // 2) for width in body), last)}
        others |= {"wider": (*(2 * width for width in body), last)}
        return {name: hidden for name, hidden in others.items() if hidden != self.hidden}

    def convolutional(self, net: models.Network) -> models.Network:
        """A convolutional network for the same square images, with heads of the same shape."""
        side = math.isqrt(net.features)
        sizes = CHANNELS, self.hidden[-1:], net.classes.stop, self.auxiliary, self.activation
        return models.cnn((side, side), *sizes, bias=self.bias, init=self.init, init_scale=self.init_scale)


_DIGITS = Config(seeds=5, hidden=(128, 128), **DIGITS)
_MLPS = ("redrawn", "frozen", "network")  # convolutions cost minutes a seed on a CPU; `sweep_convolutional` has them
PRESETS = {
    "smoke": replace(_DIGITS, seeds=2, hidden=(64, 64), noise_images=8192, groups=_MLPS),
    "default": replace(_DIGITS, groups=_MLPS),
    "paper": Config(seeds=10, groups=_MLPS),
}


def students_of(config: Config, net: models.Network, start: Start, loss: PerExampleLoss) -> dict[str, Student]:
    """Every student of a seed, by condition."""
    reference = start.reference
    students = {"redrawn/none": Student(reference, loss)}
    if "redrawn" in config.groups:
        for part in config.redrawn():
            own = {layer: start.other[layer] for layer in layers_of(reference, part)}
            students[f"redrawn/{part}"] = Student(reference | own, loss)
    if "frozen" in config.groups:
        students |= {f"frozen/{head}": Student(reference, loss, frozen=(head,)) for head in HEADS}
    others: dict[str, models.Network] = {}
    if "network" in config.groups:
        for name, hidden in config.other_hidden().items():
            others[f"network/{name}"] = config.network(net.features, net.classes.stop, hidden=hidden)
    if "convolutional" in config.groups:
        others["convolutional/3x3"] = config.convolutional(net)
    heads = {head: reference[head] for head in HEADS}
    for name, other in others.items():
        drawn = other.init(stream(start.key, f"init/{name.partition('/')[2]}"))
        students[name] = Student(drawn | heads, loss, net=other)
    return students


def run_seed(config: Config, net: models.Network, seed: jax.Array, data: Split) -> dict[str, jax.Array]:
    """The conditions of one seed by name, and `loss/NAME` [steps] by training run."""
    start = begin(config, net, seed, data)
    students = students_of(config, net, start, losses.on_logits(config.imitation_loss(), net.auxiliary))
    return distil_and_test(config, net, start, students, data)


def run(
    config: Config, *, preset: str = "custom", data_dir: str | Path | None = None, chunks: Path | None = None
) -> results.Result:
    """Run every seed and return the record; arguments and errors as in `fig10.run`."""
    recording, _, arrays = run_config("shared_parts", run_seed, config, preset=preset, data_dir=data_dir, chunks=chunks)
    return recording.result({name: arrays[name] for name in ("reference", "teacher", *config.students())}, arrays)
