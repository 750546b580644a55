"""The command line: help that a newcomer understands, a clear line for every mistake, statuses, any surrounding."""

import importlib.metadata
import json
import os
import shlex
import signal
import subprocess
import sys
import time

import pytest

import sublim_theory
from sublim_theory import cli, files
from sublim_theory.console import console, progress
from sublim_theory.record import load


def run(capsys, line):
    """Exit status, standard output and standard error of `sublim LINE`."""
    try:
        status = cli.main(line.split())
    except SystemExit as stop:
        status = stop.code or 0
    return status, *capsys.readouterr()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("reproduc fig10", "unknown command 'reproduc'; did you mean 'reproduce'?"),
        ("reproduce fig1", "unknown experiment 'fig1'; did you mean 'fig10'?"),
        ("reproduce --preset smoke", "the experiment comes first"),
        ("reproduce fig10 --preset papr", "unknown preset 'papr'; did you mean 'paper'?"),
        ("reproduce fig10 --sedes 3", "unknown option '--sedes'; did you mean '--seeds'?"),
        ("reproduce fig10 3", "sublim reproduce fig10 takes no 3"),
        ("reproduce fig10 --seeds 0", "seeds must be at least 1, got 0"),
        ("reproduce fig10 --first-seed -1", "first_seed -1 and the 10 seeds from there must lie in [0, 2**31)"),
        ("reproduce fig10 --dataset mnits", "unknown dataset 'mnits'; did you mean 'mnist'?"),
        ("reproduce fig10 --hidden 16 -1", "hidden[1] must be at least 1, got -1"),
        ("reproduce fig10 --activation rleu", "unknown activation 'rleu'; did you mean 'relu'?"),
        ("reproduce fig10 --optimizer adam --momentum 0.9", "momentum is for 'sgd', not 'adam'"),
        ("reproduce fig10 --loss huber --temperature 2", "'huber' has no temperature"),
        ("reproduce fig10 --learning-rate nan", "learning_rate must be positive and finite, got nan"),
        ("reproduce fig10 --noise-scale -1", "noise_scale must be positive and finite, got -1"),
        ("sweep fig10", "varies one setting or two, not 0"),
        ("sweep fig10 --vary seeds=1,2", "unknown setting 'seeds'"),
        ("sweep fig10 --vary hiden=1,2", "unknown setting 'hiden'; did you mean 'hidden'?"),
        ("list fig10", "sublim list takes no fig10"),
        ("verify a.py b.py", "one file at a time"),
        ("verify a.py --paper", "--paper and --data-dir belong to the check without a file"),
        ("verify nowhere.py", "there is no file nowhere.py"),
        ("report nowhere", "no record in nowhere"),
        ("data --dataset mnits", "unknown dataset with files 'mnits'; did you mean 'mnist'?"),
    ],
)
def test_a_mistake_exits_with_2_and_one_line(capsys, line, message):
    status, out, err = run(capsys, line)
    assert status == 2
    assert message in err
    assert err.startswith("sublim: ")
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize(
    ("line", "message"),
    [("reproduce fig10 --preset", "--preset"), ("reproduce fig10 --seeds three", "--seeds: invalid literal for int")],
)
def test_a_value_that_cannot_be_read_exits_with_2_and_names_the_option(capsys, line, message):
    status, out, err = run(capsys, line)
    assert status == 2
    assert message in err
    assert out == ""


def sublim(*words, **environment):
    """A process `sublim WORDS`, finished."""
    start = [sys.executable, "-c", "import sys; from sublim_theory.cli import main; sys.exit(main())"]
    return subprocess.run([*start, *words], capture_output=True, env=os.environ | environment, check=False)


LIGHT = """
import shlex, sys
for name in ("jax", "xarray", "flax", "optax", "scipy", "sklearn", "matplotlib", "distributed", "pytest"):
    sys.modules[name] = None  # importing it raises
from sublim_theory.cli import main
for line in sys.stdin.read().splitlines():
    try:
        status = main(shlex.split(line))
    except SystemExit as stop:
        status = stop.code or 0
    print(f"status {status}: {line}")
"""


def test_help_lists_and_refusals_import_nothing_heavy():
    right = ["list", "--help", "--version", "reproduce --help", "sweep --help", "verify --help", "data --help"]
    right += ["report --help", "exercise --help", "exercise list", "data --data-dir ."]
    wrong = ["nosuch", "reproduce nosuch", "reproduce fig10 --preset nosuch", "reproduce fig10 --workers 0"]
    wrong += ["reproduce fig10 --workers 2 --cluster a:1", "reproduce fig10 --cluster nowhere", "reproduce --seeds 3"]
    wrong += [
        "reproduce fig10 --coordinator 127.0.0.1:1",
        "sweep fig10",
        "sweep nosuch --vary width=1",
        "report",
        "report nowhere",
    ]
    wrong += [
        "verify a.py b.py",
        "verify nowhere.py",
        "data --dataset nosuch",
        "exercise nosuch",
        "exercise start nosuch",
    ]
    run = subprocess.run([sys.executable, "-c", LIGHT], input="\n".join(right + wrong), capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    said = [line for line in run.stdout.splitlines() if line.startswith("status ")]
    assert said == [f"status 0: {line}" for line in right] + [f"status 2: {line}" for line in wrong], run.stderr
    assert "Traceback" not in run.stderr


def test_a_pipe_gets_whole_tables_in_its_own_encoding():
    run = sublim("list", PYTHONIOENCODING="ascii", COLUMNS="40", TERM="dumb")
    assert run.returncode == 0
    assert any("sweep_second_width" in row and "frozen" in row for row in run.stdout.decode("ascii").splitlines())


def test_a_closed_pipe_ends_a_command_without_a_word():
    command = shlex.join([sys.executable, "-m", "experiments"])
    code = f"{command} --help | true; echo ${{PIPESTATUS[0]}}"
    run = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() in ("0", "141")  # the reader may be late
    assert run.stderr == ""


def test_a_log_gets_no_progress_bar_whatever_is_forced(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    with progress("seeds", 2) as advance:
        advance(1)
    assert capsys.readouterr() == ("", "")


def test_brackets_are_text(capsys):
    console().print("wrote out[red]/:smile:[/]")
    assert capsys.readouterr().out == "wrote out[red]/:smile:[/]\n"


def test_a_tilde_that_no_shell_expands_is_the_home_folder(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cli.parse(cli.Data, ["--data-dir=~/data"], prog="sublim data").data_dir == tmp_path / "data"


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["list"], ["data", "--help"]])
def test_no_command_needs_docstrings(words):
    run = sublim(*words, PYTHONOPTIMIZE="2")
    assert run.returncode == 0, run.stderr
    assert b"sublim" in run.stdout or b"fig10" in run.stdout


INSTANCE = """
import jax.numpy as jnp
import numpy as np
from beside import scale

rng = np.random.default_rng(0)
params = {"hidden": rng.normal(size=(4, 8)) / 2, "head": rng.normal(size=(8, 5)) / 3}
inputs = rng.uniform(-1, 1, (50, 4))
logits = [2, 3, 4]


def f(params, x):
    return jnp.tanh(scale * x @ params["hidden"]) @ params["head"]


def teacher_loss(params):
    return jnp.mean(f(params, inputs)[:, 0] ** 2)
"""


@pytest.fixture
def instance(tmp_path):
    """A file with an instance, beside a module that it imports."""
    (tmp_path / "beside.py").write_text("scale = 1.0")
    path = tmp_path / "my instance.py"
    path.write_text(INSTANCE)
    return path


def test_a_files_instance_is_verified(instance, capsys):
    assert cli.main(["verify", str(instance)]) == 0
    assert "Theorem 1: holds, branch: transfer" in capsys.readouterr().out
    assert cli.main(["verify", str(instance), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["branch"] == "transfer"
    instance.write_text(INSTANCE + "student_params = {name: 2 * value for name, value in params.items()}\n")
    assert cli.main(["verify", str(instance)]) == 1
    assert "DOES NOT HOLD" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("teacher_loss(params)", "teachers_loss(params)", "defines no teacher_loss"),
        ("logits = [2, 3, 4]", "logits = [2, 3, 5]", "cannot be checked: logits"),
        ("logits = [2, 3, 4]", "1 / 0", "cannot be run: line 9: ZeroDivisionError"),
        ("jnp.tanh(", "jnp.tangh(", "cannot be checked: line 13: AttributeError"),
        ("def f(params, x):", "def f(params, x)", "cannot be run: line 12: SyntaxError"),
        ("logits = [2, 3, 4]", "raise SystemExit(3)", "ended by itself, with status 3"),
        (
            "jnp.tanh(",
            "__import__('jax').lax.stop_gradient(",
            "has a derivative that is not that of its values",
        ),
    ],
)
def test_an_instance_that_cannot_be_checked_is_refused_in_one_line(instance, capsys, old, new, message):
    assert old in INSTANCE
    instance.write_text(INSTANCE.replace(old, new))
    assert cli.main(["verify", str(instance)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("sublim: ")
    assert err.count("\n") == 1
    assert message in err


def test_an_output_folder_that_takes_no_files_is_refused_before_any_work(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("experiments.experiment.run", lambda *_, **__: pytest.fail("work began"))
    (tmp_path / "file").touch()
    status, _, err = run(capsys, f"reproduce fig10 --preset smoke --out {tmp_path / 'file'}")
    assert status == 2
    assert "cannot write" in err
    assert "--out" in err


def test_missing_data_are_named_with_the_way_out(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MIRRORS", {"mnist": ()})
    status, _, err = run(capsys, f"reproduce fig10 --preset paper --data-dir {tmp_path} --out {tmp_path / 'out'}")
    assert status == 2
    assert "train-images-idx3-ubyte.gz: missing" in err
    assert files.ENVIRONMENT in err


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"sublim_theory {sublim_theory.__version__}\n", "")


@pytest.mark.parametrize("line", ["", "--help"])
def test_help_lists_every_command_with_its_purpose(capsys, line):
    status, out, _ = run(capsys, line)
    assert status == 0
    for command in ("data", "reproduce", "list"):
        assert any(row.split()[:1] == [command] and len(row.split()) > 4 for row in out.splitlines())


def test_help_of_an_experiment_shows_its_options_with_the_defaults_of_the_preset(capsys):
    status, out, _ = run(capsys, "reproduce fig10 --preset paper --help")
    assert status == 0
    for text in ("--preset", "--data-dir", "--out", "--seeds", "(default: 100)", "--noise-images", "(default: 60000)"):
        assert text in out
    _, out, _ = run(capsys, "reproduce fig10 --help")
    assert "(default: digits)" in out


def test_list_names_experiments_and_presets(capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0
    assert "fig10" in out
    assert "smoke, default, paper" in out


def test_data_shows_the_state_of_each_file(capsys, tmp_path):
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-labels-idx1-ubyte.gz").write_bytes(b"not it")
    status, out, _ = run(capsys, f"data --dataset mnist --data-dir {tmp_path}")
    assert status == 2
    assert out.count("missing") == 3
    assert "corrupt" in out


def test_a_wheel_without_the_experiments_says_where_they_are(capsys, monkeypatch):
    entry = importlib.metadata.EntryPoint("reproduce", "not_installed.command:reproduce", cli.GROUP)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry] if group == cli.GROUP else [])
    status, _, err = run(capsys, "reproduce fig10")
    assert status == 2
    assert "lives in the repository" in err
    assert err.count("\n") == 1
    assert "repository" in run(capsys, "--help")[1]


def test_an_interrupt_says_how_to_go_on(capsys, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "data", interrupted)
    status, _, err = run(capsys, "data")
    assert status == 130
    assert "the same command goes on" in err


def test_a_missed_expectation_exits_with_1_and_changed_settings_give_no_verdict(
    capsys, monkeypatch, tmp_path, tiny_record
):
    monkeypatch.setattr("experiments.experiment.run", lambda *_, **__: tiny_record)
    monkeypatch.setenv("COLUMNS", "140")
    status, out, _ = run(capsys, f"reproduce fig10 --preset smoke --out {tmp_path}")
    assert status == 1
    assert "missed" in out
    missed = [row["condition"] for row in load(tmp_path / "fig10-smoke").expectations if not row["holds"]]
    assert "teacher" in missed
    status, out, _ = run(capsys, f"reproduce fig10 --preset smoke --hidden 16 --out {tmp_path}")
    assert status == 0
    assert "No verdict: --hidden" in out
    assert load(tmp_path / "fig10-smoke").expectations == []


def test_a_batch_systems_signal_ends_a_command_as_ctrl_c_does(capsys):
    def command(_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    before = signal.getsignal(signal.SIGTERM)
    assert cli.guard(command, []) == 143
    assert "interrupted; finished seeds are kept" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before
