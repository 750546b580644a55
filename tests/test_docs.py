"""The documentation: links lead somewhere, names exist, code blocks run, and tables are those of the records."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from statistics import NormalDist

import pytest

from experiments.tables import compared, difference, filled, verdict
from sublim_theory.record import load
from sublim_theory.statistics import summarize

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("**/*.md"))
BLOCKS = [
    (page, kind, text)
    for page in PAGES
    for kind, text in re.findall(r"^```(\w+)\n(.*?)^```", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)
]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert missing == []


def test_every_page_is_in_the_navigation():
    named = re.findall(r"^ +- .+: ([\w/]+)\.md$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.M)
    written = [*PAGES, *(ROOT / "docs/notebooks").glob("*.ipynb")]
    assert sorted(named) == sorted(page.relative_to(ROOT / "docs").with_suffix("").as_posix() for page in written)


@pytest.mark.parametrize("code", [pytest.param(text, id=page.stem) for page, kind, text in BLOCKS if kind == "python"])
def test_python_blocks_run(code, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    exec(compile(code, "a page", "exec"), {})
    assert capsys.readouterr().out or ".require()" in code, "a block shows something, or would raise"


@pytest.mark.parametrize("text", [pytest.param(text, id=page.stem) for page, kind, text in BLOCKS if kind == "bash"])
def test_commands_run_in_the_order_of_the_page(text, tmp_path):
    """Each ends with status 0, or with the one that a comment at its end tells: `# status 1`."""
    for line in text.splitlines():
        command, _, comment = line.partition("  #")
        told = re.search(r"status (\d)", comment)
        words = shlex.split(command)
        words[0] = str(Path(sys.executable).parent / words[0])
        run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert run.returncode == (int(told[1]) if told else 0), f"{line}\n{run.stdout}{run.stderr}"
        assert "Traceback" not in run.stderr


def test_the_table_of_reported_values_is_that_of_the_committed_records():
    page = (ROOT / "docs/experiments.md").read_text("utf-8")
    assert filled(page) == page, "run `python -m experiments.tables`"
    assert page.count("| agrees |") + page.count("| differs |") > 20


@pytest.mark.parametrize(
    ("values", "row", "expected"),
    [
        ([0.1, 0.2, 0.3], {"range": [0.2, 0.5]}, "agrees"),
        ([0.1, 0.2, 0.3], {"range": [0.31, 0.5]}, "agrees"),  # the interval is .087 to .313
        ([0.1, 0.2, 0.3], {"range": [0.32, 0.5]}, "differs"),
        ([0.1, 0.2, 0.3], {"range": [0.0, 0.08]}, "differs"),
        ([0.2], {"range": [0.2, 0.5]}, "agrees"),
        ([0.2], {"range": [0.21, 0.5]}, "differs"),
        ([0.1, 0.2, 0.3], {"sample": {"mean": 0.33, "ci95": 0.07}}, "agrees"),  # -.13 ± .133
        ([0.1, 0.2, 0.3], {"sample": {"mean": 0.34, "ci95": 0.07}}, "differs"),
        ([0.1, 0.2, 0.3], {"sample": {"mean": 0.36, "n": 3}}, "agrees"),  # -.16 ± .160, with our spread
        ([0.1, 0.2, 0.3], {"sample": {"mean": 0.37, "n": 3}}, "differs"),
        ([0.2], {"sample": {"mean": 0.2, "ci95": 0.1}}, "agrees"),
        ([0.2], {"sample": {"mean": 0.25, "ci95": 0.1}}, "differs"),  # a single value has no interval
    ],
)
def test_a_verdict_compares_our_mean_with_a_reported_sample_or_range(values, row, expected):
    assert verdict(summarize(values), row) == expected


def test_a_rank_correlation_is_judged_by_the_ends_of_its_interval():
    record = load(ROOT / "figures" / "predictors-source")
    low, high = record.table["pooled"].sel(subset="all", predictor="coverage", end=["low", "high"]).values
    row = {"text": "coverage", "reported": "", "condition": "within/coverage"}
    said = {(high - 1e-6, 1.0): "agrees", (high + 1e-6, 1.0): "differs", (-1.0, low - 1e-6): "differs"}
    for reported, said_of_it in said.items():
        written = compared(record, "#", row | {"range": reported})
        assert written.endswith(f"| {said_of_it} |")
        assert f"{low:.2f} to {high:.2f}, n = 50" in written


def test_intervals_of_differences_that_hold_together_are_wider():
    ours, theirs = summarize([0.1, 0.2, 0.3]), {"mean": 0.1, "ci95": 0.1}
    alone, together = (difference(ours, theirs, count) for count in (1, 10))
    assert alone[0] == together[0] == pytest.approx(0.1)
    assert alone[1] == pytest.approx((ours.ci95**2 + 0.1**2) ** 0.5)
    assert together[1] == pytest.approx(alone[1] * NormalDist().inv_cdf(0.9975) / NormalDist().inv_cdf(0.975))
