"""Theorem 1 at the language model: what does a student's first step say about the whole transfer?

Claim (arXiv 2507.14805, section 6.1): after a small step of the teacher along d_T = -grad L_T, the step of a student of
the same start is eps G d_T + O(eps**2), and lowers L_T. Here L_T is -log P(the teacher's animal), and the student
imitates the number logits (KL) behind the prompt (`one`), or at every number of a sequence (`all`); its inputs are the
teacher's sequences. Networks are trained in float32, the very ones of `owl`; the theorem is computed in float64.

Starts: `pretrained`, the base of `owl`; `untrained`, initial parameters, at which a teacher of its own begins, too;
`other`, a student of another base than the teacher's, of which the theorem says nothing. By start and place: `order` of
the remainder; `lowers`, of the teacher's steps up to .01 the fraction after which the student's lowers L_T; `share` of
a layer in A = d_T^T G d_T; `named`, whether the first update towards the *trained* teacher raises its animal most. To
predict `delta`, the preference after training minus that of a student on the base's numbers: `coefficient` A,
`transfer_ratio` A/|d_T|^2, and `coverage`, the cosine of that update with the teacher's displacement (arXiv
2606.22019). `predicts` has Spearman's rho over the seeds, each with its animal, its 95% interval, and R^2 of a line.

Found (paper, 30 seeds, `all`): order 2.000; the first update names the animal of every seed, untrained of .63, from
another base of .10. The block has .75 of A, places .13, the last norm .06, the embedding .06, the head nothing. Among
pretrained starts (delta .36) A ranks delta with rho .47 (.12 to .73), R^2 .32, the transfer ratio with .43, R^2 .28,
coverage with .29, R^2 .05; among untrained ones (delta .78) no R^2 is above .05. It tells whether, not how much.
"""

from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import jax
import numpy as np
import xarray as xr

from experiments import language
from experiments.experiment import Experiment, Settings, Variable, by_variable, require_counts, require_distinct
from experiments.first_step import PREDICTORS, first_step, relations
from experiments.language import Language, Rates, Student
from experiments.owl import MATCHED, OTHERS, released
from sublim_theory.protocols import lookup
from sublim_theory.theorem.verify import EPSILONS, order_of_remainder

STARTS, PAIR, CONDITIONS = ("pretrained", "untrained", "other"), ("start", "place"), ("order", "lowers", "named")
AXES = {"place": ("one", "all"), "epsilon": EPSILONS}


@dataclass(frozen=True)
class Protocol(Language):
    """Settings of the theorem at the language model."""

    inputs: int = 256
    """Of the teacher's sequences, the first ones: the student's inputs in the theorem."""
    starts: tuple[str, ...] = STARTS
    """Where students start: pretrained, untrained, other."""

    def check(self, rates: Rates) -> None:
        """Check every setting, as those of every experiment on language are."""
        super().check(rates)
        require_counts(self, "inputs", "base_steps")
        require_distinct(self, "starts")
        for name in self.starts:
            lookup("start", name, dict.fromkeys(STARTS))


_USUAL = Settings.of(Protocol, Rates, seeds=5, dataset="none")
PRESETS = {
    "smoke": _USUAL.but(seeds=1, base_steps=400, sequences=1024, starts=("pretrained",)),
    "default": _USUAL,
    "paper": _USUAL.but(seeds=30),
}


@partial(jax.jit, static_argnums=0)
def trained(protocol: Language, rates: Rates, seed: Any) -> dict[str, Any]:
    """A teacher, what it writes, and of students that start at its base and at another: there, and delta at the end."""
    start = language.begin(protocol, rates, seed, [OTHERS["start"]] * (protocol.base_steps > 0))
    lessons, _ = released(start, teacher := start.teach())
    own = dict(zip(("", "cross_"), (start.base, *start.others), strict=False))
    pairs = {f"{k}{name}": Student(own[k], lessons[name]) for k in own for name in ("samples", "control")}
    delta = start.scores(teacher, start.learn(pairs), MATCHED)["delta"]
    return {"own": own, "teacher": teacher, "delta": delta, "sequences": lessons["samples"].sequences}


def run_seed(protocol: Protocol, rates: Rates, data: Any, seed: int) -> dict[str, Any]:  # noqa: ARG001
    """The quantities of one seed, by start and place."""
    rows, runs = {}, cache(lambda steps: trained(replace(protocol, base_steps=steps), rates, seed))
    weights, step = np.eye(protocol.continuation), first_step(protocol, rates)
    places = dict(zip(AXES["place"], (weights[0], weights.mean(axis=0)), strict=True))
    for name in protocol.starts:
        with jax.enable_x64(False):  # as `owl` trains
            each = runs(0 if name == "untrained" else protocol.base_steps)
        own, teacher = jax.tree.map(lambda leaf: leaf.astype(float), (each["own"], each["teacher"]))
        given, at = (own[""], teacher, each["sequences"][: protocol.inputs]), "cross_" * (name == "other")
        steps = {k: step(seed % protocol.animals, *given, row, own[at] if at else None) for k, row in places.items()}
        rows[name] = by_variable(steps) | {"delta": each["delta"][f"{at}samples"]}
    return by_variable(rows)


def conclude(settings: Settings[Protocol, Rates], table: xr.Dataset) -> dict[str, xr.DataArray]:  # noqa: ARG001
    """Order and sign over the teacher's steps; over the seeds, what the predictors say of delta."""
    order = np.vectorize(lambda row: order_of_remainder(EPSILONS, row.tolist()), otypes=[float], signature="(n)->()")
    values = xr.concat([table[name] for name in PREDICTORS], "predictor").assign_coords(predictor=list(PREDICTORS))
    return {
        "order": xr.apply_ufunc(order, table["remainder"], input_core_dims=[["epsilon"]]),
        "lowers": (table["change"].sel(epsilon=slice(1e-2)) < 0).mean("epsilon"),
        "predicts": relations(values, table["delta"]),
    }


EXPERIMENT = Experiment(
    name="owl_theorem",
    summary="Theorem 1 at the language model: exact at the first step, and what that tells of the whole transfer",
    presets=PRESETS,
    run_seed=run_seed,
    axes=lambda each: AXES | {"start": each.protocol.starts, "layer": each.protocol.make_network(each.rates).layers},
    variables={name: Variable(PAIR, condition=f"{name}/{{start}}/{{place}}") for name in (*CONDITIONS, *PREDICTORS)}
    | {"delta": Variable(("start",), condition="delta/{start}"), "remainder": Variable(PAIR, ("epsilon",))}
    | {
        "share": Variable((*PAIR, "layer"), condition="share/{start}/{place}/{layer}"),
        "change": Variable(PAIR, ("epsilon",)),
    },
    conclude=conclude,
    traced=False,
    dtype="float64",
)
