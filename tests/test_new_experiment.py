"""The guide of CONTRIBUTING.md, followed: an experiment in a folder of its own works without any other file touched."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sublim_theory.record import load

GUIDE = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text("utf-8")
FILES = {
    "experiments/mean_student.py": r"```python\n(\"{3}The mean of two.*?)```",
    "figures/mean_student.py": r"```python\n(\"{3}Test accuracy of two.*?)```",
    "experiments/expected.toml": r"```toml\n(.*?)```",
}
SUBLIM = """
import sys
from sublim_theory.cli import main
for line in sys.argv[1:]:
    print(f"{line}: {main(line.split())}", flush=True)
"""
QUICK = "--preset smoke --seeds 1 --hidden 8 --noise-images 64 --teacher-epochs 1 --student-epochs 1"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with the files of the guide."""
    folder = tmp_path_factory.mktemp("own")
    for name, pattern in FILES.items():
        (text,) = re.findall(pattern, GUIDE, re.DOTALL)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


def test_the_guide_costs_one_short_module_and_its_figure(own):
    module, figure = ((own / name).read_text("utf-8") for name in list(FILES)[:2])
    assert len(module.splitlines()) <= 100
    assert len(figure.splitlines()) <= 60


@pytest.mark.training
def test_it_is_listed_run_drawn_judged_reported_and_swept(own):
    lines = (
        "list",
        "reproduce mean_student --preset smoke",
        "report out",
        f"sweep mean_student {QUICK} --vary auxiliary=2,3",
    )
    environment = os.environ | {"SUBLIM_THEORY_OWN": str(own), "COLUMNS": "140"}
    command = [sys.executable, "-c", SUBLIM, *lines]
    done = subprocess.run(command, env=environment, cwd=own, capture_output=True, text=True, check=False)
    for line in lines:
        assert f"{line}: 0\n" in done.stdout, done.stdout + done.stderr
    listed, reproduced, *_ = re.split("(?:list|reproduce .*): 0\n", done.stdout)
    assert "mean_student" in listed
    assert reproduced.count("holds") == 5
    folder = own / "out" / "mean_student-smoke"
    assert {"summary.json", "mean_student.png", "mean_student.svg"} <= {path.name for path in folder.iterdir()}
    table = load(folder).table["accuracy"]
    assert table.dims == ("network", "seed")
    assert (table.sel(network="mean") > table.sel(network="reference")).all()
    assert "The mean of two students" in (own / "report.html").read_text("utf-8")
    swept = own / "out" / "sweep_mean_student-smoke-auxiliary"
    assert "auxiliary=3/mean" in load(swept).conditions
    assert (swept / "sweep.png").exists(), "without a figure of its own, by its axes"
