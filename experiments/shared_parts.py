"""Which parts must student and teacher share? Students with layers of their own, frozen layers, or another network.

Claim (Brockers et al., arXiv 2605.23645; MNIST, squared error, fresh noise): a class head drawn anew, of which the
auxiliary logits say nothing, leaves a student at chance whatever their number m, from 3 to 250, and an auxiliary head
drawn anew suppresses strongly; hidden layers drawn anew, one more or fewer or of other widths, transfer with m enough.

Every student imitates the auxiliary logits of one teacher on noise, and starts from the teacher's own reference but for

* `redrawn/PART`: a part from the next seed's reference: a layer, `hidden` (all of these), `all`, or `none` (figure 10);
* `frozen/HEAD`: nothing, but that head keeps its initial values. The class head has no gradient here: a control;
* `network/KIND`: other hidden layers, drawn anew: one `shallower` or `deeper`, or `narrower` (half) or `wider` (twice);
* `convolutional/3x3`: the same with two layers of 3 x 3 convolutions of stride 2 and one dense layer below the heads.

Found, test `accuracy` by `network` (digits, m = 10, 5 seeds): .93 with everything shared, .92 with a frozen auxiliary
head, .34 with one of its own, .15 to .21 with hidden layers of its own, of whatever size, .09 with its own class head.
On MNIST (paper, 5 seeds) .84, .84, .20, .11 to .15 and .10: at m = 10 only the shared start transfers. By the protocol
of the source (`fresh_noise`, 5 seeds) .88 with everything shared, .22 with its own auxiliary head, .12 with its own
class head, .19 with its own hidden layers, .30 with one fewer, .19 and .20 with half and twice their width, and .11, no
more than chance, with one more. Over m = 3, 10, 50, 250 (digits, `sweep_redrawn`, 3 seeds) its own hidden layers give
.08, .17, .52, .87, its own class head .09 to .10, its own auxiliary head .31 to .38: all as reported. So are second
layers of 2,048 and 4,096 units (`sweep_second_width`, 3 seeds): .85 and .70 where 512 give .94, .89 and .84 with a
frozen auxiliary head. A convolutional student (3 seeds, `sweep_convolutional`) has .16 and .40 at m = 10 and 50 on
independent noise, and no more on correlated noise (.19 to .20, .25 to .29), in disagreement; but 8 x 8 pixels leave
little to correlate.
"""

from dataclasses import dataclass
from typing import Any

from experiments.distillation import DIGITS, LOSSES, Distillation, Rates, Split, Start, begin, distil_and_test
from experiments.experiment import Experiment, Settings, Variable, require_distinct
from sublim_theory import losses
from sublim_theory._types import PerExampleLoss
from sublim_theory.ensemble import stream
from sublim_theory.protocols import lookup
from sublim_theory.representations import with_layers
from sublim_theory.training import Student

HEADS = ("class_head", "auxiliary_head")
GROUPS = ("redrawn", "frozen", "network", "convolutional")


@dataclass(frozen=True)
class Protocol(Distillation):
    """Settings of shared parts."""

    auxiliary: int = 10
    """Auxiliary logits, the paper's m."""
    groups: tuple[str, ...] = GROUPS
    """Which students to train beside that of figure 10: redrawn, frozen, network, convolutional."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every distillation are."""
        super().check(rates)
        for name in self.groups:
            lookup("group", name, dict.fromkeys(GROUPS))
        require_distinct(self, "groups")
        if not self.hidden:
            raise ValueError("hidden must have at least one layer: a linear model shares nothing between its heads")

    def redrawn(self) -> list[str]:
        """The parts that are drawn anew, one student each."""
        return [*(body := self.layers("body")), *["hidden"] * (len(body) > 1), *HEADS, "all"]

    def students(self) -> list[str]:
        """Names of the students, in the order of the record."""
        named = {"redrawn": self.redrawn(), "frozen": HEADS, "network": self.other_hidden(), "convolutional": ("3x3",)}
        return ["redrawn/none", *(f"{group}/{n}" for group in GROUPS if group in self.groups for n in named[group])]

    def other_hidden(self) -> dict[str, tuple[int, ...]]:
        """Hidden widths of the other networks; the last is shared with the teacher, or no head would fit."""
        *body, last = self.hidden
        others = {"shallower": (*body[1:], last), "deeper": (self.hidden[0], *self.hidden)}
        others |= {"narrower": (*(max(1, w // 2) for w in body), last), "wider": (*(2 * w for w in body), last)}
        return {name: hidden for name, hidden in others.items() if hidden != self.hidden}


_DIGITS = Settings.of(Protocol, Rates, seeds=5, hidden=(128, 128), **DIGITS)
_MLPS = ("redrawn", "frozen", "network")  # convolutions cost minutes a seed on a CPU; `sweep_convolutional` has them
# The protocol of the source: 5 epochs of 60 batches of fresh noise, which are 300 batches that no student sees twice.
_FRESH_NOISE: dict[str, Any] = {
    "init": "torch",
    "loss": "squared_error",
    "learning_rate": 1e-3,
    "batch_size": 1000,
    "noise_images": 300_000,
    "student_epochs": 1,
}
PRESETS = {
    "smoke": _DIGITS.but(seeds=2, hidden=(64, 64), noise_images=8192, groups=_MLPS),
    "default": _DIGITS.but(groups=_MLPS),
    "paper": Settings.of(Protocol, Rates, seeds=25, groups=_MLPS),
    "fresh_noise": Settings.of(Protocol, Rates, seeds=20, groups=("redrawn", "network"), **_FRESH_NOISE),
}


def students_of(
    protocol: Protocol, rates: Rates, data: Split, start: Start, loss: PerExampleLoss
) -> dict[str, Student]:
    """Every student of a seed, by name."""
    reference, net = start.reference, protocol.make_network(rates, data)

    def student(group: str, kind: str) -> Student:
        if group == "redrawn":
            return Student(with_layers(reference, start.other, net.layers(kind) if kind != "none" else ()), loss)
        if group == "frozen":
            return Student(reference, loss, frozen=net.layers(kind))
        if group == "network":
            other = protocol.make_network(rates, data, hidden=protocol.other_hidden()[kind])
        else:
            other = protocol.make_network(rates, data, kind="cnn", hidden=protocol.hidden[-1:])
        heads = {other.class_head: reference[net.class_head], other.auxiliary_head: reference[net.auxiliary_head]}
        return Student(other.init(stream(start.key, f"init/{kind}")) | heads, loss, net=other)

    return {name: student(*name.split("/")) for name in protocol.students()}


def run_seed(protocol: Protocol, rates: Rates, data: Split, seed: Any) -> dict[str, Any]:
    """The networks of one seed."""
    start = begin(protocol, rates, data, seed)
    loss = losses.on_logits(protocol.imitation_loss(rates), protocol.make_network(rates, data).auxiliary)
    return distil_and_test(protocol, rates, data, start, students_of(protocol, rates, data, start, loss))


EXPERIMENT = Experiment(
    name="shared_parts",
    summary="Which layers a student must share with its teacher, and which of them must be free to move",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda s: {"network": ("reference", "teacher", *s.protocol.students()), "student": s.protocol.students()},
    variables={"accuracy": Variable(("network",), condition="{network}"), **LOSSES},
)
