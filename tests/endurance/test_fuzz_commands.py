"""Settings and the command line: whatever is given, it is taken or refused clearly, in bounded time and memory."""

import contextlib
import io
import json
import typing

import pytest
from fuzzing import bounded, examples, few_or_many
from hypothesis import given
from hypothesis import strategies as st

from experiments import EXPERIMENTS, command, experiment, sweep
from experiments.registry import find
from sublim_theory import cli, data, selfcheck
from sublim_theory.data import DataError
from sublim_theory.protocols import SublimError


@pytest.fixture(scope="module")
def configs():
    """Settings of each experiment by name; with them JAX is loaded and started, which is no input's doing."""
    return {name: find(name).presets["smoke"] for name in EXPERIMENTS}


TEXTS = st.sampled_from([
    "", "-", "--", "---", "=", "--=", "x", "64x64", "1e999", "nan", "-inf", "-1", "0", "1", "3", "2147483647",
    "9" * 400, "9" * 5000, "1e-400", "0x10", "none", "None", "True", "false", "uniform", "kl", "adam", "sgd", "digits",
    "mnist", "torch", "relu", "\0", "\udcff", "ü", "a b", "a\nb", "'", "[bold]", "%s", "{}", "/", "~nobody",
])  # fmt: skip
WORDS = st.one_of(TEXTS, TEXTS, st.text(max_size=6), st.integers().map(str), st.floats().map(str))


def options_of(name):
    return [f"--{setting.replace('_', '-')}" for setting in find(name).presets["smoke"].flat()]


@st.composite
def command_lines(draw):
    """Words of a command that begin right and go wrong anywhere."""
    if draw(st.integers(0, 9)) == 0:
        return draw(st.lists(WORDS | st.sampled_from(["data", "list", "verify", "reproduce", "--help"]), max_size=4))
    first = draw(st.sampled_from(["reproduce", "reproduce", "sweep", "sweep", "data", "list", "verify"]))
    if first in ("data", "list", "verify"):
        options = ["--fetch", "--dataset", "--data-dir", "--json", "--paper", "--help", "mnist", "--no-fetch"]
        return [first, *draw(st.lists(st.sampled_from(options) | WORDS, max_size=4))]
    name = draw(st.sampled_from([*EXPERIMENTS, "fig11", "all"]))
    names = options_of(name if name in EXPERIMENTS else "fig10")
    own = st.sampled_from([*names, "--preset", "--data-dir", "--out", "--nothing", "--help"])
    pairs = draw(st.lists(st.tuples(own, WORDS | st.sampled_from(["smoke", "paper"])), max_size=3))
    words = [word for pair in pairs for word in pair]
    if first == "sweep":
        for option in draw(st.lists(st.sampled_from(names), min_size=1, max_size=2)):
            words += ["--vary", f"{option.lstrip('-')}={','.join(draw(st.lists(WORDS, max_size=3)))}"]
    if draw(st.booleans()) and words:
        del words[draw(st.integers(0, len(words) - 1))]
    return [first, name, *words]


@pytest.mark.usefixtures("configs")
@few_or_many(100, 2000)
def test_command_lines(monkeypatch, inputs):
    """Parsed in full; what would run or download is left out."""

    def no_data(*_, **__):
        raise DataError("nothing is loaded here")

    monkeypatch.setattr(command, "_reproduce", lambda *_, **__: 0)
    monkeypatch.setattr(data, "load", no_data)
    monkeypatch.setattr(selfcheck, "quick", list)
    monkeypatch.setattr(selfcheck, "paper", lambda _: [])

    @examples(inputs)
    @given(command_lines())
    def check(words):
        out, err = io.StringIO(), io.StringIO()
        with bounded(), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                status, begins = cli.main(words), "sublim: "
            except SystemExit as stop:  # of --help, and of a value that does not fit, which tyro explains
                status, begins = stop.code or 0, ""
        assert status in (0, 2)
        if status:
            assert err.getvalue().strip()
            assert err.getvalue().startswith(begins)
            assert "Traceback" not in err.getvalue()

    check()


PLAIN = {
    int: st.integers(-2, 300) | st.integers(),
    float: st.floats() | st.sampled_from([0.1, 1.0]),
    bool: st.booleans(),
    str: TEXTS | st.text(max_size=6),
}


def values_of(hint):
    """Values of a type, small and absurd."""
    if typing.get_origin(hint) is tuple:
        return st.lists(values_of(typing.get_args(hint)[0]), max_size=3).map(tuple)
    choices = [each for each in typing.get_args(hint) if each is not type(None)]
    return st.none() | values_of(choices[0]) if choices else PLAIN[hint]


@few_or_many(200, 3000)
def test_configs(configs, inputs):
    given_values = {
        name: {
            key: values_of(hint)
            for part in (each, each.protocol, each.rates)
            for key, hint in typing.get_type_hints(type(part)).items()
            if key in each.flat()
        }
        for name, each in configs.items()
    }
    changes = st.sampled_from(list(configs)).flatmap(
        lambda name: st.tuples(st.just(name), st.fixed_dictionaries({}, optional=given_values[name]))
    )

    @examples(inputs)
    @given(changes)
    def check(change):
        name, values = change
        with bounded(), contextlib.suppress(ValueError, SublimError):
            json.dumps(configs[name].but(**values).flat())

    check()


@few_or_many(200, 3000)
def test_sweeps(configs, inputs):
    names = list(configs["fig10"].flat())
    words = st.lists(
        st.tuples(st.sampled_from([*names, "x", ""]), st.lists(WORDS, max_size=3)).map(
            lambda w: f"{w[0]}={','.join(w[1])}"
        )
        | WORDS,
        max_size=3,
    )

    @examples(inputs)
    @given(words)
    def check(vary):
        settings = configs["fig10"]
        with bounded(), contextlib.suppress(ValueError, SublimError):
            values = sweep.parse_vary(settings, vary)
            swept = sweep.over(find("fig10"), lambda _: values, name="sweep_fig10", summary="")
            experiment.points(swept, settings, "smoke")

    check()
