"""The guide of CONTRIBUTING.md, followed: an experiment in a folder of its own works without any other file touched."""

import json
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
SUBLIM = "import sys; from sublim_theory.cli import main; sys.exit(main())"


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with the files of the guide."""
    folder = tmp_path_factory.mktemp("own")
    for name, pattern in FILES.items():
        (text,) = re.findall(pattern, GUIDE, re.DOTALL)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    return folder


def sublim(folder, *words):
    environment = os.environ | {"SUBLIM_THEORY_OWN": str(folder), "COLUMNS": "140"}
    command = [sys.executable, "-c", SUBLIM, *map(str, words)]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def test_the_guide_costs_one_short_module_and_its_figure(own):
    module, figure = ((own / name).read_text("utf-8") for name in list(FILES)[:2])
    assert len(module.splitlines()) <= 100
    assert len(figure.splitlines()) <= 60


def test_it_is_listed_run_drawn_judged_and_reported(own):
    listed = sublim(own, "list")
    assert "mean_student" in listed.stdout, listed.stderr
    done = sublim(own, "reproduce", "mean_student", "--preset", "smoke")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("holds") == 5
    folder = own / "out" / "mean_student-smoke"
    assert {"summary.json", "mean_student.png", "mean_student.svg"} <= {path.name for path in folder.iterdir()}
    table = load(folder).table["accuracy"]
    assert table.dims == ("network", "seed")
    assert (table.sel(network="mean") > table.sel(network="reference")).all()
    reported = sublim(own, "report", "out")
    assert reported.returncode == 0, reported.stderr
    assert "The mean of two students" in (own / "report.html").read_text("utf-8")


def test_it_is_swept_and_drawn_by_its_axes_without_a_figure(own):
    (own / "figures" / "mean_student.py").unlink()
    quick = [
        "--seeds",
        "1",
        "--hidden",
        "8",
        "--noise-images",
        "64",
        "--teacher-epochs",
        "1",
        "--student-epochs",
        "1",
        "--preset",
        "smoke",
    ]
    swept = sublim(own, "sweep", "mean_student", *quick, "--vary", "auxiliary=2,3")
    assert swept.returncode == 0, swept.stderr
    summary = json.loads((own / "out" / "sweep_mean_student-smoke-auxiliary" / "summary.json").read_text())
    assert "auxiliary=3/mean" in summary["conditions"]
    again = sublim(own, "reproduce", "mean_student", *quick, "--out", "other")
    assert again.returncode == 0, again.stderr
    assert (own / "other" / "mean_student-smoke" / "mean_student.png").exists()
