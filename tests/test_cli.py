"""The command line: help that a newcomer understands, one clear line for every mistake, exit statuses."""

import importlib.metadata
import os
import signal
import time

import pytest

import sublim_theory
from sublim_theory import cli, files
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
        ("reproduce fig10 --preset", "expected one argument"),
        ("reproduce fig10 --sedes 3", "--sedes, 3; did you mean --seeds?"),
        ("reproduce fig10 --seeds three", "--seeds: invalid literal for int"),
        ("reproduce fig10 --seeds 0", "seeds must be at least 1, got 0"),
        ("reproduce fig10 --first-seed -1", "first_seed -1 and the 10 seeds from there must lie in [0, 2**31)"),
        ("reproduce fig10 --dataset mnits", "unknown dataset 'mnits'; did you mean 'mnist'?"),
        ("reproduce fig10 --hidden 16 -1", "hidden[1] must be at least 1, got -1"),
        ("reproduce fig10 --activation rleu", "unknown activation 'rleu'; did you mean 'relu'?"),
        ("reproduce fig10 --optimizer adam --momentum 0.9", "momentum is for 'sgd', not 'adam'"),
        ("reproduce fig10 --loss huber --temperature 2", "'huber' has no temperature"),
        ("reproduce fig10 --learning-rate nan", "learning_rate must be positive and finite, got nan"),
        ("reproduce fig10 --noise-scale -1", "noise_scale must be positive and finite, got -1"),
        ("list fig10", "Unrecognized options: fig10"),
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
