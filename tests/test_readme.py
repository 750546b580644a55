"""Every command and code block of the README runs, and its table is that of the committed record."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.tables import filled
from sublim_theory.record import load

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
COMMANDS = [line.split("  #")[0].strip() for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]

SET_UP = {"make reproduce", "make test", "pip install -c constraints.txt -e ."}
"""Run by `.ci/run`, in an environment that it builds with them; they cannot run inside their own tests."""


def test_the_set_up_commands_are_those_of_the_makefile_and_of_ci():
    assert set(COMMANDS) >= SET_UP
    ci, makefile = ((ROOT / name).read_text("utf-8") for name in (".ci/run", "Makefile"))
    for command in ("make test", "make reproduce"):
        assert re.search(rf"^{command}$", ci, re.MULTILINE)
        assert re.search(rf"^{command.split()[1]}:", makefile, re.MULTILINE)
    assert "CONSTRAINTS ?= constraints.txt" in makefile
    assert "--constraint $(CONSTRAINTS) --editable" in makefile.replace("\\\n\t\t\t", "")


def test_every_other_command_runs_in_the_order_of_the_page(tmp_path):
    for line in COMMANDS:
        if line in SET_UP:
            continue
        words = shlex.split(line)
        if "DATA" in words:  # half an hour on downloaded data: here the options are read, the data are not there
            words[words.index("DATA")] = str(tmp_path / "nowhere")
            expected, status = "Cannot list the data folder", 2
        else:
            expected, status = "", 0
        command = (
            [sys.executable, *words[1:]]
            if words[0] == "python"
            else [Path(sys.executable).parent / words[0], *words[1:]]
        )
        run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == status, f"{line}\n{run.stdout}{run.stderr}"
        assert expected in run.stderr


@pytest.mark.parametrize("code", [text for kind, text in BLOCKS if kind == "python"])
def test_python_blocks_run_and_show_what_they_say(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    shown = capsys.readouterr().out
    if "Chance" in code:
        assert int(re.search(r"(\d+)%\. Chance", shown)[1]) > 25
    if "print(report)" in code:
        assert "Theorem 1: holds, branch: transfer" in shown


def test_the_table_is_that_of_the_committed_record():
    record = load(ROOT / "figures" / "fig10-paper")
    assert filled(README) == README, "run `python -m experiments.tables`"
    student = record.conditions["student_aux"]
    assert f"| {student.mean:.4f} ± {student.ci95:.4f} |" in README


def test_linked_files_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
