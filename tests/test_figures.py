"""Figures come from the record alone."""

import dataclasses
import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import figures
from experiments import fig10
from figures import any_record
from sublim_theory.record import load


@pytest.fixture
def folder(tiny_record, tmp_path):
    tiny_record.save(tmp_path)
    return tmp_path


def test_drawing_a_saved_record_imports_no_training_code(folder):
    code = f"""
import sys, pathlib, figures
from sublim_theory.record import load
folder = pathlib.Path({str(folder)!r})
print(*sorted(path.name for path in figures.save(load(folder), folder)))
print(*sorted({{"jax", "flax", "optax", "sublim_theory.training", "experiments"}} & set(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.splitlines() == ["fig10a.png fig10a.svg fig10b.png fig10b.svg", ""]


def test_the_same_record_gives_the_same_bytes(folder, tmp_path):
    first = [path.read_bytes() for path in figures.save(load(folder), tmp_path / "1")]
    second = [path.read_bytes() for path in figures.save(load(folder), tmp_path / "2")]
    assert first == second


def test_the_command_draws_again_and_names_a_folder_without_record(folder, tmp_path):
    run = subprocess.run([sys.executable, "-m", "figures", folder], capture_output=True, text=True, check=False)
    assert run.returncode == 0
    assert run.stdout.count("wrote ") == 4
    run = subprocess.run(
        [sys.executable, "-m", "figures", tmp_path / "no"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 1
    assert "cannot read the record" in run.stderr
    assert "Traceback" not in run.stderr


def svg_text(path):
    return " ".join("".join(node.itertext()) for node in ElementTree.parse(path).iter() if node.tag.endswith("text"))


def test_bars_points_and_published_values_are_those_of_the_record(tiny_record):
    published = {"condition": "student_aux", "expected": 0.528, "ci95": 0.022, "holds": True}
    record = dataclasses.replace(tiny_record, preset="paper", expectations=[published])
    axes = figures.importlib.import_module("figures.fig10").draw(record)["fig10b"].axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([tiny_record.conditions[name].mean for name in fig10.NETWORKS])
    points = [
        collection.get_offsets()[:, 1].tolist() for collection in axes.collections if collection.get_zorder() == 3
    ]
    assert points == [pytest.approx(tiny_record.conditions[name].values) for name in fig10.NETWORKS]
    diamonds = [line for line in axes.lines if line.get_marker() == "D"]
    assert [line.get_ydata().tolist() for line in diamonds] == [[0.528]]
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted[0].get_ydata()[0] == tiny_record.conditions["reference"].mean


def test_one_seed_is_drawn_without_intervals_and_svg_text_stays_text(tiny_record, tmp_path):
    single = dataclasses.replace(tiny_record, table=tiny_record.table.isel(seed=slice(1)))
    figures.save(single, tmp_path)
    text = svg_text(tmp_path / "fig10b.svg")
    assert "1 seed," in text
    assert f"{single.conditions['teacher'].mean:.3f}" in text
    assert "is no control" in text


def test_some_of_the_students_are_drawn_alone_and_another_data_set_is_not_called_digits(tiny_record):
    few = tiny_record.table.sel(network=["reference", "teacher", "cross_aux"])
    config = tiny_record.config | {"dataset": "fashion_mnist"}
    drawn = figures.importlib.import_module("figures.fig10").draw(
        dataclasses.replace(tiny_record, table=few, config=config)
    )
    labels = [text.get_text() for text in drawn["fig10b"].axes[0].get_xticklabels()]
    assert [label.split("\n")[0] for label in labels] == ["reference", "teacher", "cross-model"]
    texts = [text.get_text() for axes in drawn["fig10a"].axes for text in axes.texts]
    assert texts[0] == "1. train the teacher:\nimages and labels"
    assert not any("digits" in text for text in texts)


def test_a_record_that_misses_what_is_expected_of_it_is_not_drawn(tiny_record, tmp_path):
    missed = {"condition": "student_aux", "expected": 0.9, "ci95": 0.0, "holds": False}
    with pytest.raises(figures.ClaimError, match="misses what is expected of it: student_aux"):
        figures.save(dataclasses.replace(tiny_record, expectations=[missed]), tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_the_user_has_configured_changes_no_byte(folder, tmp_path):
    expected = {path.name: path.read_bytes() for path in figures.save(load(folder), tmp_path / "ours")}
    configured = tmp_path / "matplotlibrc"
    configured.write_text(
        "font.size: 20\naxes.facecolor: black\nlines.linewidth: 9\nsavefig.dpi: 30\nfigure.dpi: 300\n"
    )
    command = [sys.executable, "-m", "figures", str(folder)]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"MATPLOTLIBRC": str(configured)})
    assert {name: (folder / name).read_bytes() for name in expected} == expected


def test_an_experiment_without_a_figure_of_its_own_is_drawn_by_its_axes(tiny_record):
    record = dataclasses.replace(tiny_record, experiment="of_somebody_else")
    (axes,) = any_record.draw(record)["of_somebody_else"].axes
    assert len(axes.patches) == len(fig10.NETWORKS)
