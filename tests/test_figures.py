"""Figures come from the record alone."""

import dataclasses
import importlib
import os
import runpy
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

import figures
from experiments import fig10
from figures import any_record, plots
from sublim_theory.record import load

COMMITTED = Path(figures.__file__).parent / "fig10-default"


@pytest.fixture(scope="module")
def record():
    """Of figure 10, ten seeds of everything that it draws."""
    return load(COMMITTED)


def test_the_same_record_gives_the_same_bytes_without_training_code_whatever_the_user_has_configured(record, tmp_path):
    first = {path.name: path.read_bytes() for path in figures.save(record, tmp_path)}
    (tmp_path / "matplotlibrc").write_text("font.size: 20\naxes.facecolor: black\nsavefig.dpi: 30\nfigure.dpi: 300\n")
    code = f"""
import sys, pathlib, figures
from sublim_theory.record import load
print(*sorted(path.name for path in figures.save(load({str(COMMITTED)!r}), pathlib.Path({str(tmp_path)!r}))))
print(*sorted({{"jax", "flax", "optax", "sublim_theory.training", "experiments"}} & set(sys.modules)))
"""
    configured = os.environ | {"MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=configured)
    assert shown.stdout.splitlines() == ["fig10a.png fig10a.svg fig10b.png fig10b.svg", ""]
    assert {name: (tmp_path / name).read_bytes() for name in first} == first


def test_the_command_draws_again_and_names_a_folder_without_record(record, tmp_path, monkeypatch, capsys):
    record.save(tmp_path)
    monkeypatch.setattr(sys, "argv", ["figures", str(tmp_path)])
    runpy.run_module("figures")
    assert capsys.readouterr().out.count("wrote ") == 4
    monkeypatch.setattr(sys, "argv", ["figures", str(tmp_path / "no")])
    with pytest.raises(SystemExit, match="cannot read the record"):
        runpy.run_module("figures")


def svg_text(path):
    return " ".join("".join(node.itertext()) for node in ElementTree.parse(path).iter() if node.tag.endswith("text"))


def test_bars_points_and_published_values_are_those_of_the_record(record):
    published = {"condition": "student_aux", "expected": 0.528, "ci95": 0.022, "holds": True}
    judged = dataclasses.replace(record, preset="paper", expectations=[published])
    axes = importlib.import_module("figures.fig10").draw(judged)["fig10b"].axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([record.conditions[name].mean for name in fig10.NETWORKS])
    points = [
        collection.get_offsets()[:, 1].tolist() for collection in axes.collections if collection.get_zorder() == 3
    ]
    assert points == [pytest.approx(record.conditions[name].values) for name in fig10.NETWORKS]
    diamonds = [line for line in axes.lines if line.get_marker() == "D"]
    assert [line.get_ydata().tolist() for line in diamonds] == [[0.528]]
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted[0].get_ydata()[0] == record.conditions["reference"].mean


def test_one_seed_is_drawn_without_intervals_and_svg_text_stays_text(record, tmp_path):
    single = dataclasses.replace(record, table=record.table.isel(seed=slice(1)))
    figures.save(single, tmp_path)
    text = svg_text(tmp_path / "fig10b.svg")
    assert "1 seed," in text
    assert f"{single.conditions['teacher'].mean:.3f}" in text
    assert "is no control" in text


def test_some_of_the_students_are_drawn_alone_and_another_data_set_is_not_called_digits(record):
    few = record.table.sel(network=["reference", "teacher", "cross_aux"])
    config = record.config | {"dataset": "fashion_mnist"}
    drawn = importlib.import_module("figures.fig10").draw(dataclasses.replace(record, table=few, config=config))
    labels = [text.get_text() for text in drawn["fig10b"].axes[0].get_xticklabels()]
    assert [label.split("\n")[0] for label in labels] == ["reference", "teacher", "cross-model"]
    texts = [text.get_text() for axes in drawn["fig10a"].axes for text in axes.texts]
    assert texts[0] == "1. train the teacher:\nimages and labels"
    assert not any("digits" in text for text in texts)


def test_a_record_that_misses_what_is_expected_of_it_is_not_drawn(record, tmp_path):
    missed = {"condition": "student_aux", "expected": 0.9, "ci95": 0.0, "holds": False}
    with pytest.raises(figures.ClaimError, match="misses what is expected of it: student_aux"):
        figures.save(dataclasses.replace(record, expectations=[missed]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_an_experiment_without_a_figure_of_its_own_is_drawn_by_its_axes(record):
    other = dataclasses.replace(record, experiment="of_somebody_else")
    (axes,) = any_record.draw(other)["of_somebody_else"].axes
    assert len(axes.patches) == len(fig10.NETWORKS)


def test_what_others_report_is_read_where_it_is_a_number_and_of_that_record_alone():
    assert plots.reported("saturation-fifty_thousand")["student_aux/5"] == 0.451
    words = plots.reported("shared_parts-paper")  # "chance", "transfers"
    assert "redrawn/class_head" not in words
    assert plots.reported("sweep_init-fashion")["init=torch,auxiliary=10/student_aux"] == 0.47
    assert plots.reported("saturation-mine") == {}
