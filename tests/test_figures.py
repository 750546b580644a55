"""Figures come from the record alone."""

import dataclasses
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

import figures
from experiments import fig10
from sublim_theory.results import Result
from sublim_theory.statistics import summarize


@pytest.fixture
def folder(tiny_result, tmp_path):
    tiny_result.save(tmp_path)
    return tmp_path


def test_drawing_a_saved_record_imports_no_training_code(folder):
    code = f"""
import sys, pathlib, figures
from sublim_theory.results import Result
folder = pathlib.Path({str(folder)!r})
print(*sorted(path.name for path in figures.save(Result.load(folder), folder)))
print(*sorted({{"jax", "flax", "optax", "sublim_theory.training", "experiments"}} & set(sys.modules)))
"""
    shown = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert shown.splitlines() == ["fig10a.png fig10a.svg fig10b.png fig10b.svg", ""]


def test_the_same_record_gives_the_same_bytes(folder, tmp_path):
    first = [path.read_bytes() for path in figures.save(Result.load(folder), tmp_path / "1")]
    second = [path.read_bytes() for path in figures.save(Result.load(folder), tmp_path / "2")]
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


def test_bars_points_and_published_values_are_those_of_the_record(tiny_result):
    published = {"condition": "student_aux", "expected": 0.528, "ci95": 0.022}
    record = dataclasses.replace(tiny_result, preset="paper", expectations=[published])
    axes = figures.importlib.import_module("figures.fig10").draw(record)["fig10b"].axes[0]
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([tiny_result.conditions[name].mean for name in fig10.CONDITIONS])
    points = [
        collection.get_offsets()[:, 1].tolist() for collection in axes.collections if collection.get_zorder() == 3
    ]
    assert points == [pytest.approx(tiny_result.conditions[name].values) for name in fig10.CONDITIONS]
    diamonds = [line for line in axes.lines if line.get_marker() == "D"]
    assert [line.get_ydata().tolist() for line in diamonds] == [[0.528]]
    dotted = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert dotted[0].get_ydata()[0] == tiny_result.conditions["reference"].mean


def test_one_seed_is_drawn_without_intervals_and_svg_text_stays_text(tiny_result, tmp_path):
    single = {name: summarize(summary.values[:1]) for name, summary in tiny_result.conditions.items()}
    figures.save(dataclasses.replace(tiny_result, conditions=single), tmp_path)
    text = svg_text(tmp_path / "fig10b.svg")
    assert "1 seeds" in text
    assert f"{single['teacher'].mean:.3f}" in text
    assert "is no control" in text


def test_some_of_the_students_are_drawn_alone_and_another_data_set_is_not_called_digits(tiny_result):
    few = {name: tiny_result.conditions[name] for name in ("reference", "teacher", "cross_aux")}
    config = tiny_result.config | {"dataset": "fashion_mnist"}
    drawn = figures.importlib.import_module("figures.fig10").draw(
        dataclasses.replace(tiny_result, conditions=few, config=config)
    )
    labels = [text.get_text() for text in drawn["fig10b"].axes[0].get_xticklabels()]
    assert [label.split("\n")[0] for label in labels] == ["reference", "teacher", "cross-model"]
    texts = [text.get_text() for axes in drawn["fig10a"].axes for text in axes.texts]
    assert texts[0] == "1. train the teacher:\nimages and labels"
    assert not any("digits" in text for text in texts)
