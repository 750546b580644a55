"""The engine: from what happens to one seed to a table with named axes; settings, points, what is refused."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

from experiments import fig10, sweep
from experiments.experiment import Context, Experiment, Settings, Variable, points, run
from sublim_theory import ensemble
from sublim_theory.training import NonFiniteLossError


@dataclass(frozen=True)
class Protocol:
    """Static settings of a toy."""

    parts: tuple[str, ...] = ("a", "b")
    power: int = 2

    def check(self, rates):
        if rates.rate <= 0:
            raise ValueError(f"rate must be positive, got {rates.rate}")

    def select(self, dataset):
        return dataset.classes


@dataclass(frozen=True)
class Rates:
    """A traced number of a toy."""

    rate: float = 0.5


jax.tree_util.register_dataclass(Rates, ["rate"], [])
SETTINGS = Settings.of(Protocol, Rates, seeds=3, first_seed=5, dataset="digits")


def run_seed(protocol, rates, data, seed):
    value = {part: rates.rate * (seed + i) ** protocol.power for i, part in enumerate(protocol.parts)}
    return {
        "value": value,
        "some": {protocol.parts[-1]: rates.rate},
        "path_loss": value[protocol.parts[0]] * jnp.ones(4),
        "classes": data,
    }


TOY = Experiment(
    name="toy",
    summary="A toy",
    presets={"smoke": SETTINGS},
    run_seed=run_seed,
    axes=lambda settings: {"part": settings.protocol.parts, "step": (10, 20, 30, 40)},
    variables={
        "total": Variable(condition="total"),
        "value": Variable(("part",), condition="value/{part}"),
        "some": Variable(("part",), condition="some/{part}"),
        "path_loss": Variable(inner=("step",), loss=True),
        "classes": Variable(),
    },
    conclude=lambda _, table: {"total": table["value"].sum("part"), "classes": None},
)


def test_what_a_seed_returns_becomes_a_table_with_named_axes():
    record = run(TOY, SETTINGS, Context("smoke"))
    table = record.table
    assert list(table.data_vars) == ["total", "value", "some", "path_loss"]
    assert table["value"].dims == ("part", "seed")
    assert table["path_loss"].dims == ("seed", "step")
    assert table["step"].values.tolist() == [10, 20, 30, 40]
    assert table["value"].sel(part="b", seed=6).item() == 0.5 * 7**2
    assert table["total"].values.tolist() == [0.5 * (s**2 + (s + 1) ** 2) for s in (5, 6, 7)]
    assert record.conditions["value/a"].values == (12.5, 18.0, 24.5)
    assert record.config == {
        "seeds": 3,
        "first_seed": 5,
        "dataset": "digits",
        "parts": ["a", "b"],
        "power": 2,
        "rate": 0.5,
    }
    assert record.provenance["seeds"] == [5, 6, 7]


def test_a_place_without_a_value_is_nan_and_no_condition():
    record = run(TOY, SETTINGS)
    assert np.isnan(record.table["some"].sel(part="a")).all()
    assert list(record.conditions) == ["total", "value/a", "value/b", "some/b"]


def test_a_sweep_has_an_axis_for_its_setting_and_its_points_are_the_experiments_own():
    swept = sweep.over(TOY, lambda _: {"rate": (0.5, 2.0), "parts": (("a", "b"), ("b", "c"))}, name="s", summary="")
    ensemble._compile.cache_clear()
    record = run(swept, SETTINGS)
    assert ensemble._compile.cache_info().misses == 2, "one program for both rates"
    value = record.table["value"]
    assert value.dims == ("rate", "parts", "part", "seed")
    assert value["part"].values.tolist() == ["a", "b", "c"]
    assert value["parts"].values.tolist() == ["axb", "bxc"]
    assert np.isnan(value.sel(rate=2.0, parts="axb", part="c")).all()
    alone = run(TOY, SETTINGS.but(rate=2.0, parts=("b", "c")))
    xr.testing.assert_equal(
        value.sel(rate=2.0, parts="bxc", part=["b", "c"], drop=True), alone.table["value"].drop_attrs()
    )
    assert record.conditions["rate=2,parts=bxc/value/c"] == alone.conditions["value/c"]


def test_a_setting_that_is_called_like_an_axis_can_be_swept():
    swept = sweep.over(fig10.EXPERIMENT, lambda _: {"network": ("mlp", "cnn")}, name="s", summary="")
    assert list(swept.vary(fig10.PRESETS["smoke"], "smoke")) == ["setting_network"]


def test_an_experiment_that_varies_by_itself_keeps_its_variables_and_concludes_over_all_points():
    several = Experiment(
        name="several",
        summary="",
        presets=TOY.presets,
        run_seed=run_seed,
        axes=TOY.axes,
        variables={
            "value": Variable(("part",), condition="{group}/{part}"),
            "path_loss": Variable(inner=("step",), loss=True),
            "some": Variable(("part",)),
            "classes": Variable(),
            "best": Variable(("part",), condition="best/{part}", over="group"),
        },
        vary=lambda *_: {"group": {"slow": {}, "fast": {"rate": 2.0}}},
        point="",
        conclude=lambda _, table: {"best": table["value"].max("seed")},
    )
    record = run(several, SETTINGS)
    assert record.table["value"].dims == ("group", "part", "seed")
    assert "path_loss" not in record.table, "training losses may differ in length"
    assert record.conditions["best/a"].values == (24.5, 98.0)
    assert record.conditions["fast/a"].values == (50.0, 72.0, 98.0)


def test_an_experiment_that_cannot_be_traced_gets_plain_numbers(tmp_path):
    seeds = []

    def plain(*given):
        seeds.append((given[-1], jax.config.jax_enable_x64))
        if len(seeds) == 3:
            raise KeyboardInterrupt
        return {"value": {"a": given[-1] / 3, "b": 0.0}}

    untraced = {"traced": False, "dtype": "float64"}
    toy = Experiment("plain", "", TOY.presets, plain, axes=TOY.axes, variables=TOY.variables, **untraced)
    with pytest.raises(KeyboardInterrupt):
        run(toy, SETTINGS, Context(chunks=tmp_path))
    record = run(toy, SETTINGS, Context(chunks=tmp_path))
    assert seeds == [(5, True), (6, True), (7, True), (7, True)]
    assert record.provenance["resumed_seeds"] == 2
    np.testing.assert_array_equal(record.table["value"].sel(part="a"), np.arange(5, 8) / 3)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ({"value": {"c": 1.0}}, r"value has \['c'\] where the axis 'part' has \['a', 'b'\]"),
        ({"value": {}}, "value has no values over the axis 'part'"),
        ({"nothing": 1.0}, r"run_seed returns \['nothing'\], which are no variables"),
    ],
)
def test_what_does_not_fit_the_axes_is_named(returned, message):
    toy = Experiment("toy", "", TOY.presets, lambda *_: returned, axes=TOY.axes, variables=TOY.variables)
    with pytest.raises(ValueError, match=message):
        run(toy, SETTINGS)


def test_a_loss_that_is_not_finite_stops_the_run_by_the_name_of_its_training_run():
    losses = Variable(("part", "width"), ("step",), loss=True)
    path = jnp.array([1.0, jnp.inf, 1.0])
    toy = Experiment(
        "toy", "", TOY.presets, lambda *_: {"path_loss": {"a": {8: jnp.ones(3)}, "b": {8: path}}},
        axes=lambda _: {"part": ("a", "b"), "width": (8,)}, variables={"path_loss": losses},
    )  # fmt: skip
    with pytest.raises(NonFiniteLossError, match=r"the loss of b/8 became inf at step 1 of seed 5.*rate=0\.5"):
        run(toy, SETTINGS)


def test_settings_are_changed_by_name_wherever_they_live():
    changed = SETTINGS.but(rate=2.0, power=3, seeds=1)
    assert (changed.rates.rate, changed.protocol.power, changed.seeds) == (2.0, 3, 1)
    assert SETTINGS.rates.rate == 0.5
    with pytest.raises(ValueError, match="unknown setting 'powr'; did you mean 'power'"):
        SETTINGS.but(powr=1)
    with pytest.raises(ValueError, match="rate must be positive, got -1"):
        SETTINGS.but(rate=-1.0)
    with pytest.raises(ValueError, match="rate must be positive"):
        points(sweep.over(TOY, lambda _: {"rate": (1.0, -1.0)}, name="s", summary=""), SETTINGS, "smoke")


def test_a_protocol_is_static_and_rates_are_arguments():
    seen = []

    def look(protocol, rates, *_):
        seen.append((protocol, rates))
        return {"value": {"a": rates.rate, "b": rates.rate}}

    run(Experiment("toy", "", TOY.presets, look, axes=TOY.axes, variables=TOY.variables), SETTINGS)
    ((protocol, rates),) = seen
    assert hash(protocol) == hash(SETTINGS.protocol)
    assert not isinstance(rates.rate, float), "it is an argument of the program"
