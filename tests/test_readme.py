"""Every command and code block of the README runs, and its table is that of the committed records."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.tables import PAGES, filled
from sublim_theory import cli
from sublim_theory.record import load

ROOT = Path(__file__).parent.parent
README, HOW_TO_CI = ((ROOT / name).read_text("utf-8") for name in ("README.md", "docs/how_to_ci.md"))


def blocks(page, kind):
    """The code blocks of a language in a page."""
    return re.findall(rf"^```{kind}\n(.*?)^```", page, re.DOTALL | re.MULTILINE)


COMMANDS = [line.split("  #")[0].strip() for text in blocks(README, "bash") for line in text.splitlines()]

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


@pytest.mark.parametrize("line", [line for line in COMMANDS if line not in SET_UP])
def test_every_other_command_runs(line, tmp_path):
    words = shlex.split(line)
    command = [Path(sys.executable).parent / words[0], *words[1:]]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, f"{line}\n{run.stdout}{run.stderr}"


@pytest.mark.parametrize("code", blocks(README, "python"))
def test_python_blocks_run_and_show_what_they_say(code, capsys):
    exec(compile(code, "README.md", "exec"), {})
    shown = capsys.readouterr().out
    if "Chance" in code:
        assert int(re.search(r"(\d+)%\. Chance", shown)[1]) > 25
    if "print(report)" in code:
        assert "Theorem 1: holds, branch: transfer" in shown


def test_the_tables_are_those_of_the_committed_records():
    record = load(ROOT / "figures" / "fig10-paper")
    pages = {name: (ROOT / name).read_text("utf-8") for name in PAGES}
    assert {name: filled(page) for name, page in pages.items()} == pages, "run `python -m experiments.tables`"
    student = record.conditions["student_aux"]
    assert f"| {student.mean:.4f} ± {student.ci95:.4f} |" in pages["docs/experiments.md"]
    assert f"| 100 | {record.wall_seconds / 60:.0f} min on 2 cores |" in pages["README.md"]


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 130


def test_the_instance_of_the_workflow_is_verified_as_the_page_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (code,), (workflow,) = blocks(HOW_TO_CI, "py"), blocks(HOW_TO_CI, "yaml")
    Path(code.splitlines()[0].removeprefix("# ")).write_text(code)
    (command,) = re.findall(r"run: sublim (.*)", workflow)
    assert f"sublim {command}\n" in HOW_TO_CI
    assert cli.main(command.split()) == 0


def test_linked_files_exist():
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
