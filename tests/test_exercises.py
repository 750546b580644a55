"""Exercises: starters are not yet right, solutions are, usual mistakes get the hint that fits, and no answer can hurt.

Whole checks of the solutions take minutes and stand behind `endurance`; here their parts run, and everything small.
"""

import functools
import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jupytext
import nbformat
import numpy as np
import pytest

from exercises import EXERCISES, three_logits
from exercises.answer import Answer, AnswerError, Finding, read
from exercises.checks import predict_transfer, why_noise_works
from exercises.child import findings
from exercises.command import STARTERS, exercise
from experiments import predictors
from sublim_theory.cli import guard

SOLUTIONS = STARTERS.parent / "solutions"
MARK = "# sublim exercise: theorem_by_hand\n"

COSINE = "return geometry.cosine(update, displacement)"
RATE = "return learning_rate * geometry.cosine(update, displacement)"
LAPLACE = "return jax.random.laplace(key, (count, features)) / 2**0.5"
UNSEEDED = """import numpy as np
    return np.random.default_rng().normal(size=(count, features))"""
RESAMPLED = """from sublim_theory.data import load
    return jax.random.choice(key, load("digits").train_x, (count,))"""
BEST = 'BEST = {"learning_rate": 3e-3, "activation": "tanh", "noise": "bernoulli"}'


@pytest.fixture(autouse=True)
def float32():
    """Answers may set 64-bit JAX for their whole process; here it is that of the other tests."""
    yield
    jax.config.update("jax_enable_x64", False)


@pytest.fixture
def write(tmp_path):
    """`write(text)` is a path of a script with this text."""

    def script(text, name="mine.py"):
        path = tmp_path / name
        path.write_text(text, "utf-8")
        return path

    return script


def text(folder, name):
    return (folder / f"{name}.py").read_text("utf-8")


def changed(name, *replacements):
    """A solution with a mistake."""
    code = text(SOLUTIONS, name)
    for old, new in replacements:
        assert old in code
        code = code.replace(old, new)
    return code


def found(path, **size):
    """The findings of a check in this process."""
    return [each for each in findings(Answer(read(path)), **size) if isinstance(each, Finding)]


def first_wrong(path, **size):
    return next(each for each in findings(Answer(read(path)), **size) if isinstance(each, Finding) and not each.right)


def run(capsys, *words):
    """Exit status, standard output and standard error of `sublim exercise WORDS`."""
    try:
        status = guard(exercise, [str(word) for word in words])
    except SystemExit as stop:
        status = stop.code or 0
    return status, *capsys.readouterr()


# The command


def test_list_names_every_exercise_and_each_has_its_three_parts(capsys):
    status, out, _ = run(capsys, "list")
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(EXERCISES)
    for folder in (STARTERS, SOLUTIONS, STARTERS.parent / "checks"):
        assert {path.stem for path in folder.glob("*.py")} - {"__init__"} == set(EXERCISES)


@pytest.mark.parametrize("name", EXERCISES)
def test_start_writes_a_script_and_a_notebook_and_overwrites_nothing(capsys, tmp_path, name):
    out = tmp_path / "new" / "folder"
    for options, suffix in (((), ".py"), (("--notebook",), ".ipynb")):
        status, shown, _ = run(capsys, "start", name, "--out", out, *options)
        assert status == 0
        path = out / f"{name}{suffix}"
        assert str(path) in shown
        assert read(path).exercise == name
        before = path.read_bytes()
        status, _, err = run(capsys, "start", name, "--out", out, *options)
        assert status == 2
        assert "is there and is not overwritten" in err
        assert path.read_bytes() == before
    notebook = nbformat.read(out / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    assert {cell.cell_type for cell in notebook.cells} == {"markdown", "code"}
    assert notebook.cells[0].source.startswith("# ")


@pytest.mark.parametrize("name", EXERCISES)
def test_a_starter_runs_up_to_what_is_to_do_and_is_not_yet_right(capsys, write, name):
    path = write(text(STARTERS, name))
    with pytest.raises(NotImplementedError, match="TODO"):
        runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out
    every = found(path)
    assert not any(each.right for each in every)
    assert "still to do" in every[0].remark


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["start"], "name"),
        (["start", "theorem"], "unknown exercise 'theorem'; did you mean 'theorem_by_hand'?"),
        (["begin"], "unknown action 'begin'"),
        (["--json"], "list, start or check comes first"),
        (["check"], "file"),
        (["check", "nowhere.py"], "cannot read nowhere.py"),
        (["check", "answer.txt"], "an answer is a script (.py) or a notebook (.ipynb)"),
        (["check", "nowhere.py", "--limit", "0"], "--limit is a number of seconds, above 0"),
        (["list", "all"], "Unrecognized options: all"),
    ],
)
def test_a_mistake_on_the_command_line_exits_with_2_and_one_line(capsys, words, message):
    status, out, err = run(capsys, *words)
    assert status == 2
    assert message.lower() in err.lower()
    assert err.count("\n") == 1
    assert out == ""


def test_what_cannot_be_written_is_said(capsys, tmp_path):
    (tmp_path / "file").touch()
    status, _, err = run(capsys, "start", "three_logits", "--out", tmp_path / "file")
    assert status == 2
    assert "cannot write" in err
    assert "--out" in err


# Files that are no answers


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.py", "print(1)\n", "does not say which exercise it answers"),
        ("a.py", MARK + "# sublim exercise: three_logits\n", "names several exercises"),
        ("a.py", "# sublim exercise: theorem_by_hnad\n", "did you mean 'theorem_by_hand'?"),
        ("a.py", b"\xff\xfe", "cannot read"),
        ("a.ipynb", "{}", "is not a notebook"),
        ("a.ipynb", "[" * 100_000, "is not a notebook"),
        ("a.ipynb", json.dumps({"cells": [{"cell_type": "markdown", "source": [MARK]}]}), "does not say"),
    ],
)
def test_a_file_of_no_exercise_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(Exception, match=r"exercise|read|notebook") as raised:
        read(tmp_path / name)
    assert message in str(raised.value)


def test_a_notebook_is_an_answer_without_its_magics_and_is_cited_by_cell(tmp_path):
    cells = ["%matplotlib inline\n" + MARK + "!ls\nx = 1", "%%bash\nls", "if x:\n    %time x\ny = x + 1", "z = 1 / 0"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code) for code in cells[:3]])
    nbformat.write(notebook, tmp_path / "a.ipynb")
    assert Answer(read(tmp_path / "a.ipynb")).value("y") == 2
    notebook.cells.append(nbformat.v4.new_code_cell(cells[3]))
    nbformat.write(notebook, tmp_path / "a.ipynb")
    with pytest.raises(AnswerError, match="ZeroDivisionError: division by zero, cell 4, line 1: z = 1 / 0"):
        Answer(read(tmp_path / "a.ipynb"))


# Answers that do not want to be checked

ORPHAN = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("child", child.pid, flush=True)
"""


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("import time\nwhile True:\n    time.sleep(0.01)", "did not come to an end within 1.5 s (--limit), line "),
        ("import sys\nsys.exit(0)", "ends Python (sys.exit, exit or quit), line 3: sys.exit(0)"),
        ("import os\nos._exit(0)", "ended its own process (os._exit, status 0)"),
        ("raise KeyboardInterrupt('no')", "raised KeyboardInterrupt: no, line 2: raise KeyboardInterrupt"),
        ("import numpy_of_mine", "raised ModuleNotFoundError: No module named 'numpy_of_mine', line 2"),
        ("def f(:\n    pass", "does not compile: invalid syntax, line 2: def f(:"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)", "was ended by SIGSEGV, line 3: os.kill"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "was ended by SIGKILL, as a machine does"),
        ("class E(Exception):\n    def __str__(self):\n        raise E\nraise E", "raised E, line 5: raise E"),
    ],
)
def test_an_answer_that_hangs_exits_crashes_or_raises_gets_one_clear_line(capsys, write, code, message):
    began = time.monotonic()
    status, out, err = run(capsys, "check", write(MARK + code), "--limit", "1.5")
    assert status == 2
    assert message in err
    assert err.count("\n") == 1
    assert "could not be run" in out
    assert time.monotonic() - began < 60


def test_what_an_answer_prints_is_cut_and_cannot_steer_the_terminal(capsys, write):
    code = "print('\\x1b[2J' + 'x' * 10_000_000)\nprint('end')\n1 / 0"
    status, out, err = run(capsys, "check", write(MARK + code))
    assert status == 2
    assert "ZeroDivisionError" in err
    assert "\x1b" not in out
    assert len(out) < 3_000
    assert "bytes more" in out


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks into /proc")
def test_nothing_that_an_answer_starts_outlives_the_check(capsys, write):
    _, out, _ = run(capsys, "check", write(MARK + ORPHAN + "1 / 0"))
    number = out.split("child ")[1].split()[0]
    state, deadline = Path(f"/proc/{number}/stat"), time.monotonic() + 10
    while state.exists() and state.read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="POSIX signals")
def test_a_check_that_is_interrupted_ends_the_answer_too(write, tmp_path):
    code = f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"
    program = "import sys; from exercises.command import exercise; from sublim_theory.cli import guard; "
    words = [
        sys.executable,
        "-c",
        program + "sys.exit(guard(exercise, sys.argv[1:]))",
        "check",
        str(write(MARK + code)),
    ]
    root = str(STARTERS.parents[1])
    with subprocess.Popen(words, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, cwd=root) as process:
        deadline = time.monotonic() + 60
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 143
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_answer_cannot_pass_by_leaving_early(capsys, write):
    """Right functions that leave with status 0."""
    code = changed("theorem_by_hand", ("    labels = f(", "    import os; os._exit(0)\n    labels = f("))
    status, out, err = run(capsys, "check", write(code), "--json")
    assert status == 2
    row = json.loads(out)
    assert (row["right"], row["findings"]) == (False, [])
    assert "ended its own process" in row["error"]
    assert err == ""


# Theorem 1 by hand


def test_the_solution_is_right_in_a_process_of_its_own_as_a_notebook_too(capsys, write, tmp_path):
    status, out, err = run(capsys, "check", write(text(SOLUTIONS, "theorem_by_hand")), "--json")
    assert (status, err) == (0, "")
    row = json.loads(out)
    assert row["right"] is True
    assert row["exercise"] == "theorem_by_hand"
    assert len(row["findings"]) == 6
    notebook = jupytext.reads(text(SOLUTIONS, "theorem_by_hand"), fmt="py:percent")
    jupytext.write(notebook, tmp_path / "mine.ipynb")
    assert Answer(read(tmp_path / "mine.ipynb")).function("student_update")


def some_behind_endurance(table, *default):
    """Each case by its name; those that are not named only where there is time."""
    return [pytest.param(name, marks=[] if name in default else pytest.mark.endurance) for name in table]


MINUS = "return jax.tree.map(jnp.negative, jax.grad(imitation)(params))"
MISTAKES = {
    "sign": ([(MINUS, "return jax.grad(imitation)(params)")], "points the other way"),
    "sum": ([("jnp.mean(each)", "jnp.sum(each)")], "this looks like their sum"),
    "sum and sign": (
        [("jnp.mean(each)", "jnp.sum(each)"), (MINUS, "return jax.grad(imitation)(params)")],
        "points the other way: an update goes down the loss; and the theorem has the mean",
    ),
    "mean over outputs": ([("-jnp.sum(", "-jnp.mean(")], "over the outputs runs a sum"),
    "all outputs": ([("[:, logits]", "")], "the softmax runs over all outputs; choose"),
    "cut afterwards": (
        [
            ("labels = f(teacher_params, inputs)[:, logits]", "labels = f(teacher_params, inputs)"),
            ("outputs = f(student, inputs)[:, logits]", "outputs = f(student, inputs)"),
            ("(labels) * jax.nn.log_softmax(outputs)", "(labels)[:, logits] * jax.nn.log_softmax(outputs)[:, logits]"),
        ],
        "cut down afterwards",
    ),
    "places": (
        [("softmax(labels) * jax.nn.log_softmax(outputs)", "softmax(outputs) * jax.nn.log_softmax(labels)")],
        "changed places",
    ),
    "unmoved labels": ([("f(teacher_params, inputs)", "f(params, inputs)")], "it is 0, so student and teacher"),
    "at the teacher": (
        [
            (MINUS, "return jax.tree.map(jnp.negative, jax.grad(imitation)(teacher_params))"),
            ("f(teacher_params, inputs)", "f(params, inputs)"),
        ],
        "taken at the teacher's parameters",
    ),
    "single precision": (
        [("f(teacher_params, inputs)[:, logits]", "f(teacher_params, inputs)[:, logits].astype('float32')")],
        "single precision only",
    ),
    "nan": ([("jnp.mean(each)", "jnp.mean(each) * jnp.nan")], "not finite"),
    "shape": ([(MINUS, "return jax.grad(imitation)(params)['hidden_0']")], "must be a pytree like `params`"),
    "list": ([("labels = f(", "params['hidden_0']; labels = f(")], "raised TypeError"),
    "raises": ([("labels = f(", "missing; labels = f(")], "`student_update` raised NameError: name 'missing'"),
    "missing": ([("def student_update(", "def update(")], "the file defines no `student_update`"),
    "exits": ([("labels = f(", "exit(); labels = f(")], "ends Python"),
}


@pytest.mark.parametrize(
    "mistake",
    some_behind_endurance(
        MISTAKES,
        "sum and sign",
        "unmoved labels",
        "at the teacher",
        "cut afterwards",
        "nan",
        "shape",
        "raises",
        "missing",
    ),
)
def test_a_mistake_in_the_update_gets_the_hint_that_fits(write, mistake):
    replacements, hint = MISTAKES[mistake]
    wrong = first_wrong(write(changed("theorem_by_hand", *replacements)))
    assert hint in wrong.remark
    assert "theorem.imitation_update" not in wrong.remark


UPDATE = "d_student = student_update(f, params, teacher, inputs, loss, logits)"
VDOT = "sum(jnp.vdot(s, t)"
ALIGNMENT_MISTAKES = {
    "unmoved teacher": ([(UPDATE, UPDATE.replace("teacher,", "params,"))], "it is 0, so student and teacher"),
    "at the teacher": (
        [(UPDATE, UPDATE.replace("params, teacher", "teacher, params"))],
        "starts where the teacher ended",
    ),
    "uphill": ([("p + epsilon * d", "p - epsilon * d")], "the teacher has gone up its loss"),
    "sign": ([(VDOT, "sum(-jnp.vdot(s, t)")], "its sign is wrong"),
    "over eps": ([(VDOT, "sum(jnp.vdot(s, t) / epsilon")], "divided by eps"),
    "eps d_T": ([(VDOT, "sum(epsilon * jnp.vdot(s, t)")], "without eps"),
    "two numbers": ([("return sum(", "return 2 * [0.5] or sum(")], "must be one number"),
    "nan": ([(VDOT, "jnp.nan * sum(jnp.vdot(s, t)")], "it is nan"),
    "nonsense": ([(VDOT, "1.7 * sum(jnp.vdot(s, t)")], "none that a usual mistake gives"),
}


@pytest.mark.parametrize(
    "mistake", some_behind_endurance(ALIGNMENT_MISTAKES, "unmoved teacher", "uphill", "two numbers")
)
def test_a_mistake_in_the_alignment_gets_the_hint_that_fits(write, monkeypatch, mistake):
    monkeypatch.setattr("exercises.checks.theorem_by_hand._update_hint", lambda *_: "")
    replacements, hint = ALIGNMENT_MISTAKES[mistake]
    assert hint in first_wrong(write(changed("theorem_by_hand", *replacements))).remark


# Break the theorem


def one_function(code):
    """The starter with one of its functions filled in by `code`."""
    return text(STARTERS, "break_the_theorem") + "\n\n" + code


SLOW = [
    ("another_initialisation = lambda: {**sound(), 'student_params': sound()['params']}", "no other initialisation"),
    (
        "another_initialisation = lambda: {**sound(), 'student_params': {k: 0.99 * v for k, v in"
        " sound()['params'].items()}}",
        "that is a coin toss",
    ),
    (
        "another_initialisation = lambda: {**sound(), 'student_params': sound(1)['params'], 'logits': [2]}",
        "nothing transfers at all",
    ),
    (
        "violating_loss = lambda: {**sound(), 'imitation_loss': lambda z, y: jnp.sum(2 * (z - y) ** 2, -1)}",
        "fulfils every hypothesis",
    ),
    (
        "violating_loss = lambda: {**sound(), 'imitation_loss': lambda z, y: jnp.sum((z - y) * y, -1) ** 2}",
        "the loss fails the hypothesis 'the null space of M is constant', and yet the conclusion holds",
    ),
    ("exact_zero = lambda: {**sound(), 'teacher_loss': lambda p: jnp.sum(0 * p['head'])}", "no gradient here"),
    (
        "exact_zero = lambda: {**sound(), 'f': lambda p, x: jnp.ones((len(x), 5)) + 0 * x[:, :1]}",
        "the outputs do not depend on the parameters",
    ),
]
"""Those that take several reports each."""


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("code", "hint"),
    [
        *(pytest.param(*case, marks=pytest.mark.endurance) for case in SLOW),
        ("another_initialisation = sound", "has no `student_params`"),
        ("violating_loss = lambda: {**sound(), 'student_params': sound(1)['params']}", "the loss alone should be"),
        ("exact_zero = sound", "the student transfers: A = "),
        ("exact_zero = lambda: {**sound(), 'f': 3}", "f must be a function"),
        ("too_large_epsilon = lambda: {**sound(), 'epsilon': 1e-4}", "the student still goes with the teacher"),
        ("too_large_epsilon = lambda: {**sound(), 'epsilon': 1e9}", "at most 1000"),
        ("too_large_epsilon = sound", "returns no 'epsilon'"),
        ("too_large_epsilon = lambda: {**sound(), 'alpha': 9}", "returns no 'epsilon'"),
        ("exact_zero = lambda: {**sound(), 'alpha': 9}", "returns 'alpha', which is not asked for"),
        ("exact_zero = lambda: sound()['f']", "must return a dict of arguments"),
        ("exact_zero = lambda: {**sound(), 'inputs': np.ones((5000, 4))}", "at most 10000 and 1000"),
    ],
)
def test_an_instance_that_does_not_break_the_theorem_is_told_why(write, code, hint):
    name = code.split(" =")[0]
    remarks = [
        each.remark for each in found(write(one_function(code))) if each.what.startswith(name) and not each.right
    ]
    assert any(hint in remark for remark in remarks), remarks


# Why noise works, three logits, predict transfer: what is refused before anything is trained


@pytest.mark.parametrize(
    ("replacements", "hint"),
    [
        ([(COSINE, "return update")], "one finite number"),
        ([(COSINE, "return float('nan')")], "one finite number, got nan"),
        ([("def score", "def other")], "the file defines no `score`"),
        ([(LAPLACE, "return jax.numpy.ones((count, 3))")], "the shape (300, 3)"),
        ([("laplace(key", "laplace(jax.random.key(0)")], "another key gives the same images"),
        ([(LAPLACE, "return jax.numpy.ones((count, features)) + key.shape[0]")], "IndexError"),
        ([(LAPLACE, UNSEEDED)], "the same key gives other images"),
        ([(LAPLACE, RESAMPLED)], "digits of the training set"),
    ],
)
def test_a_sampler_or_score_that_cannot_be_right_is_told_before_training(write, replacements, hint):
    assert hint in first_wrong(write(changed("why_noise_works", *replacements))).remark


TABLE = np.linspace(0, 1, 9)[:, None] + np.array([[0.0, 0.001, 0.002]])


@pytest.mark.parametrize(
    ("scores", "right", "hint"),
    [
        (TABLE, [True, True], "rank correlation 1.00"),
        (TABLE**3, [True, True], "rank correlation 1.00"),
        (-TABLE, [False, False], "the wrong way round"),
        (TABLE[[0, 8, 2, 6, 4, 3, 5, 7, 1]], [False, False], "The order is not that of the students"),
    ],
)
def test_scores_are_judged_by_rank_beside_the_librarys(scores, right, hint):
    names = [f"distribution {i}" for i in range(9)]
    rows = {
        name: [{"accuracy": a, "coverage": a, "transfer_ratio": 0.5 - a} for a in row]
        for name, row in zip(names, TABLE, strict=True)
    }
    judged = list(why_noise_works._judge(scores, rows))
    assert [each.right for each in judged] == right
    assert hint in judged[0].remark


def test_a_sampler_is_judged_against_half_way_from_digits_to_noise():
    rows = {"images": [{"accuracy": 0.2}] * 3, "uniform": [{"accuracy": 0.6}] * 3}
    assert why_noise_works._sampler(rows | {"yours": [{"accuracy": 0.5}] * 3}).right
    assert not why_noise_works._sampler(rows | {"yours": [{"accuracy": 0.3}] * 3}).right


PLAN = '"because": "a smooth network is nearer to its linearisation, of which alone the theorem speaks",'


@pytest.mark.parametrize(
    ("replacements", "hint"),
    [
        ([(PLAN, '"because": "I think",')], "says in no sentence why"),
        ([('"value": 3e-3', '"value": 3e3')], "learning_rate must be a number from 1e-05 to 0.1, got 3000.0"),
        ([('"value": 3e-3', '"value": 3e-4')], "changes nothing"),
        ([('"activation": {\n', '"auxiliary": {\n')], "unknown setting that may be changed 'auxiliary'"),
        ([('"value": "tanh"', '"value": "relu6"')], "activation must be one of"),
        ([('"expected": "down"', '"expected": "lower"')], "it must be 'up', 'down' or 'none'"),
        ([('FOUND = {"learning_rate": "up", ', "FOUND = {")], "for each of learning_rate, activation, init_scale"),
        (
            [(BEST, 'BEST = {"student_epochs": 99}')],
            "'student_epochs'",
        ),
        ([(BEST, 'BEST = {"hidden": (999,)}')], "at most 128, got"),
        (
            [(BEST, 'BEST = {"momentum": 0.9}')],
            "momentum is for 'sgd'",
        ),
        ([("\nGAIN = (", "\nGAIN = (9, ")], "too many values"),
        ([("\nGAIN = (", "\nGAIN = 0 * (")], "not enough values"),
    ],
)
def test_a_plan_or_setting_that_is_not_allowed_is_told_before_any_run(write, monkeypatch, replacements, hint):
    monkeypatch.setattr("exercises.checks.three_logits.accuracies", lambda *_: pytest.fail("work began"))
    assert hint in first_wrong(write(changed("three_logits", *replacements))).remark


def test_findings_and_gain_are_held_against_hidden_seeds(write, monkeypatch):
    """Made-up accuracies: learning_rate does good, init_scale harm, and activation nothing."""
    effects = {"learning_rate": 0.2, "init_scale": -0.2, "activation": 0.0, "noise": 0.0}
    asked = []

    def made_up(settings, seeds, first_seed, baseline):
        asked.append((first_seed, baseline))
        noise = np.random.default_rng(len(asked)).normal(0, 0.01, seeds)
        return 0.4 + np.linspace(0, 0.3, seeds) + noise + sum(effects[name] for name in settings)

    monkeypatch.setattr("exercises.checks.three_logits.accuracies", made_up)
    gain = ("GAIN = (", "GAIN = (0.21, 0.05) or (")
    every = found(write(changed("three_logits", gain)))
    assert [each.right for each in every] == [True] * 6
    assert "the expected direction, up, held" in every[2].remark
    assert "the expected direction, up, is undecided" in every[3].remark  # no mistake
    assert min(first for first, _ in asked) >= three_logits.HIDDEN_SEEDS
    mistakes = {
        "which these seeds contradict": [('FOUND = {"learning_rate": "up"', 'FOUND = {"learning_rate": "down"'), gain],
        "do not fit together": [("GAIN = (", "GAIN = (0.6, 0.05) or (")],
        "no gain is shown": [
            (BEST, 'BEST = {"init_scale": 0.5}'),
            gain,
        ],
    }
    for hint, replacements in mistakes.items():
        assert hint in first_wrong(write(changed("three_logits", *replacements))).remark


TINY = predictors.PRESETS["smoke"].but(
    hidden=(8,), noise_images=256, teacher_epochs=1, student_epochs=1, groups=("base",)
)


@pytest.mark.parametrize(
    ("replacements", "hint"),
    [
        (
            [(RATE, "return 1.0")],
            "the same number for nearly every",
        ),
        (
            [(RATE, "return update")],
            "must return one finite number",
        ),
        (
            [(RATE, "import sublim_theory as st\n    return st.training.fit(None, None, None, None, None)")],
            "is known before any student is trained",
        ),
        ([("*, net, reference", "*, net, references")], "unexpected keyword argument 'reference'"),
    ],
)
def test_a_prediction_that_is_none_is_told_before_training(write, monkeypatch, replacements, hint):
    monkeypatch.setattr("exercises.students.distil", lambda *_: pytest.fail("a student was trained"))
    assert hint in first_wrong(write(changed("predict_transfer", *replacements)), settings=TINY).remark


def test_a_small_prediction_is_made_before_and_judged_after_training(write):
    (finding,) = found(write(text(SOLUTIONS, "predict_transfer")), settings=TINY)
    assert "over 6 students" in finding.remark


def test_predictions_are_judged_by_rank_beside_the_best_of_the_librarys():
    """One of the library's says as much as the accuracy itself, over students that share a start and that do not."""
    random = np.random.default_rng(1)
    accuracy, useless = random.uniform(size=(2, 40))
    distance = np.arange(40) % 2 * 0.5
    values = dict.fromkeys(predictors.BEFORE, useless) | {"coverage": accuracy, "accuracy": accuracy}
    judge = functools.partial(predict_transfer._judge, values=values | {"distance": distance})
    assert judge(np.exp(accuracy)).right
    assert "the wrong way round" in judge(-accuracy).remark
    shared = judge(np.where(distance > 0, accuracy, useless))
    moved = judge(np.where(distance > 0, useless, accuracy))
    assert not shared.right
    assert not moved.right
    assert "weakest among students that share" in shared.remark
    assert "weakest among those that start at a distance" in moved.remark


# The whole of it


@pytest.mark.endurance
@pytest.mark.parametrize("name", EXERCISES)
def test_every_solution_is_right(capsys, name):
    status, out, err = run(capsys, "check", SOLUTIONS / f"{name}.py")
    assert (status, err) == (0, ""), out


@pytest.mark.endurance
@pytest.mark.parametrize(
    ("name", "replacements", "hint"),
    [
        (
            "why_noise_works",
            [("return geometry.cosine(update", "return -geometry.cosine(update")],
            "the wrong way round",
        ),
        (
            "why_noise_works",
            [(COSINE, "return (inputs**2).mean()")],
            "The order is not that of the students",
        ),
        ("predict_transfer", [("return learning_rate * ", "return -learning_rate * ")], "the wrong way round"),
        (
            "predict_transfer",
            [(RATE, "return learning_rate")],
            "weakest",
        ),
        (
            "three_logits",
            [(BEST, 'BEST = {"init_scale": 0.5}')],
            "no gain is shown",
        ),
    ],
)
def test_a_wrong_answer_is_not_yet_right(capsys, write, name, replacements, hint):
    status, out, _ = run(capsys, "check", write(changed(name, *replacements)))
    assert status == 1
    assert hint in out
