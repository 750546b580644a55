"""The experiments on Theorem 1: each runs in small through the command, holds, and is drawn only if it does."""

import contextlib
import dataclasses
import io
import json

import jax
import pytest
import small

import figures
from experiments import theorem_layers, theory
from experiments.expectations import judge
from experiments.registry import find
from sublim_theory import cli, data
from sublim_theory.record import load
from sublim_theory.statistics import summarize
from sublim_theory.theorem import verify

pytestmark = pytest.mark.training


@pytest.fixture(scope="module", params=small.THEORY)
def smoke(request, tmp_path_factory):
    """Folder, exit status and output of the smoke preset of each experiment, run through the command once."""
    out, shown = tmp_path_factory.mktemp(request.param), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(shown):
        patch.setenv("COLUMNS", "140")
        status = cli.main(["reproduce", request.param, "--preset", "smoke", "--out", str(out)])
    return out / f"{request.param}-smoke", status, shown.getvalue()


def test_smoke_holds_and_leaves_a_record_with_its_figure(smoke):
    folder, status, shown = smoke
    name = folder.name.removesuffix("-smoke")
    assert status == 0, shown
    assert "missed" not in shown
    summary = json.loads((folder / "summary.json").read_text())
    assert shown.count("holds") == len(summary["expectations"]) > 0
    assert all(row["holds"] and row["source"] for row in summary["expectations"])
    assert summary["provenance"]["dtype"] == "float64"
    assert all(row["n"] == len(summary["provenance"]["seeds"]) for row in summary["conditions"].values())
    assert {path.name for path in folder.iterdir()} - {".lock"} == {
        "summary.json", summary["table"]["file"], "chunks", f"{name}.png", f"{name}.svg"
    }  # fmt: skip
    assert not jax.config.jax_enable_x64, "64 bits were left switched on"


def changed(record, name, at, index, value):
    """A record with numbers of one variable replaced, and with all that follows from them."""
    experiment, table = find(record.experiment), record.table.copy(deep=True)
    table[name].sel(at)[index] = value
    concluded = experiment.conclude(experiment.presets["smoke"], table) if experiment.conclude else {}
    for other, values in concluded.items():
        if other != name:
            table[other] = values.assign_attrs(table[other].attrs)
    record = dataclasses.replace(record, table=table)
    verdicts = judge(record.experiment, record.preset, record.conditions)
    return dataclasses.replace(record, expectations=[dataclasses.asdict(verdict) for verdict in verdicts])


ALL = slice(None)
SMOOTH, KINK = ({"activation": name, "imitation": "kl"} for name in ("tanh", "relu"))
TAMPERED = {
    "theorem_alignment": {
        "positive/relu/kl": ("alignment", KINK | {"precision": "float64"}, (1, 3), -1e-30),
        "limit/tanh/kl": ("coefficient", SMOOTH, 0, 1.0),
        "order/tanh/kl": ("order", SMOOTH, 1, 1.97),
    },
    "theorem_certificates": {
        "contradicted": ("alignment", {"precision": "float64"}, (1, 3), -1e-30),
        "checked": ("checked", {}, 0, 0.0),
        "gap": ("refuted", {}, 0, 1e3),
    },
    "theorem_cosines": {
        "shared_positive/relu": ("cosine", {"start": "shared", "activation": "relu"}, 3, -1e-9),
        "other/tanh": ("cosine", {"start": "other", "activation": "tanh"}, ALL, 0.1),
    },
    "theorem_decrease": {
        "falls/linear": ("change", {"model": "linear"}, (0, 5), 1e-12),
        "falls/network": ("change", {"model": "network"}, (0, 5), 0.0),
    },
    "theorem_layers": {
        "auxiliary/class_head": ("share", {"logits": "auxiliary", "layer": "class_head"}, 0, 1e-300),
        "all/auxiliary_head": ("share", {"logits": "all", "layer": "auxiliary_head"}, 0, 1e-300),
        "auxiliary/class_logits": ("share_of_logit", {"logits": "auxiliary"}, (0, 2), 1e-300),
        "all/unexplained": ("share", {"logits": "all", "layer": "hidden_0"}, 0, 0.9),
        "auxiliary/unexplained": ("coefficient", {"logits": "auxiliary"}, 0, -1.0),
    },
    "theorem_mismatch": {"standard_errors/1": ("standard_errors", {"ratio": 1.0}, 0, -28.4)},
    "theorem_orthogonal": {
        "dead_units": ("alignment", {"case": "dead_units", "kind": "engineered"}, (1, 3), 1e-300),
        "one_logit/undone": ("alignment", {"case": "one_logit", "kind": "undone"}, (0, 0), 0.0),
        "class_bias/trait": ("teacher_length", {"case": "class_bias", "kind": "engineered"}, 0, 0.0),
    },
}
"""For each experiment: the condition that is missed where a variable, at a place and an index, has another value."""


def test_a_record_that_contradicts_the_claim_is_not_drawn(smoke, tmp_path):
    record = load(smoke[0])
    for condition, tampering in TAMPERED[record.experiment].items():
        with pytest.raises(figures.ClaimError, match="not drawn, for the record misses what is expected") as refusal:
            figures.save(changed(record, *tampering), tmp_path)
        assert condition in str(refusal.value).rpartition(": ")[2].split(", ")
    assert not list(tmp_path.iterdir())


def test_what_follows_from_the_numbers_is_in_the_record(smoke):
    record = load(smoke[0])
    name, at, index, _ = next(iter(TAMPERED[record.experiment].values()))
    same = changed(record, name, at, index, record.table[name].sel(at).values[index])
    assert same.table.identical(record.table)
    assert same.expectations == record.expectations


@pytest.mark.parametrize("smoke", ["theorem_layers"], indirect=True)
def test_the_command_reports_a_refused_figure_after_its_table(smoke, capsys, monkeypatch, tmp_path):
    record = changed(load(smoke[0]), "share", {"logits": "auxiliary", "layer": "class_head"}, 1, 1e-13)
    monkeypatch.setattr("experiments.experiment.run", lambda *_, **__: record)
    monkeypatch.setenv("COLUMNS", "140")
    assert cli.main(["reproduce", "theorem_layers", "--preset", "smoke", "--out", str(tmp_path)]) == 1
    shown, refused = capsys.readouterr()
    row = next(line for line in shown.splitlines() if "auxiliary/class_head" in line)
    assert "exactly 0.0" in row
    assert "1.00e-13" in row
    assert "missed" in row
    assert refused == "sublim: not drawn, for the record misses what is expected of it: auxiliary/class_head\n"
    folder = tmp_path / "theorem_layers-smoke"
    assert (folder / "summary.json").exists()
    assert not list(folder.glob("*.png"))


def test_a_bound_holds_for_every_seed_and_names_the_worst():
    def verdict(**values):
        made = {"auxiliary/class_logits": [0.0], "auxiliary/class_head": [0.0], "auxiliary/auxiliary_head": [0.0]}
        made |= {"all/auxiliary_head": [0.0], "all/unexplained": [0.0], "auxiliary/unexplained": [0.0]}
        summaries = {name: summarize(row) for name, row in (made | values).items()}
        verdicts = {row.condition: row for row in judge("theorem_layers", "custom", summaries)}
        assert len(verdicts) == len(summaries), "a star stands for all conditions that match, and nothing is left out"
        return verdicts

    good = verdict()
    assert all(row.holds and row.expected is None for row in good.values())
    assert good["all/unexplained"].low is None
    balanced = verdict(**{"all/auxiliary_head": [0.0, -1e-300, 1e-300]})["all/auxiliary_head"]
    assert not balanced.holds
    assert abs(balanced.produced) == 1e-300
    one_sided = verdict(**{"all/unexplained": [1e-16, 3e-12, 0.0]})["all/unexplained"]
    assert not one_sided.holds
    assert one_sided.produced == 3e-12
    assert verdict(**{"all/unexplained": [1e-16, 1e-12, 0.0]})["all/unexplained"].holds, "ends are included"
    with pytest.raises(ValueError, match=r"speaks of 'auxiliary/\*_head', but the conditions are nothing"):
        judge("theorem_layers", "custom", {"nothing": summarize([0.0])})


@pytest.mark.parametrize("smoke", ["theorem_layers"], indirect=True)
def test_a_seed_among_others_has_the_numbers_that_verify_finds_for_it_alone(smoke):
    table, protocol = load(smoke[0]).table.sel(logits="auxiliary", seed=2), theorem_layers.PRESETS["smoke"].protocol
    labelled = protocol.select(data.load("digits"))
    with jax.enable_x64(True):
        net = protocol.make_network(labelled, protocol.activation)
        inputs = theory.noise_images(protocol, labelled, 2)
        params, trait = theory.initial(net, 2), theory.teacher_loss(net, labelled)
    report = verify(net.apply, params, trait, inputs, logits=net.auxiliary, epsilons=[1e-6])
    assert report.holds
    assert table["coefficient"] == pytest.approx(report.first_order, rel=1e-12)
    for layer, share in report.by_layer.items():
        assert table["share"].sel(layer=layer) * report.first_order == pytest.approx(share, rel=1e-9)
    by_logit = table["share_of_logit"].values * report.first_order
    assert by_logit == pytest.approx(report.by_logit, rel=1e-9, abs=0)
