"""The documentation: every file that it links to exists, and every name of the library that it mentions does."""

import re
from pathlib import Path

import pytest

from experiments.tables import filled, verdict
from sublim_theory import theorem
from sublim_theory.results import Result
from sublim_theory.statistics import summarize

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").glob("**/*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    assert links
    missing = [link for link in links if not link.startswith("http") and not (page.parent / link).exists()]
    assert missing == []


def test_the_twelve_facts_name_code_and_tests_that_exist():
    rows = re.findall(r"^\| (\d+) \|.*\| (.*) \| \[.*$", (ROOT / "docs/theorem.md").read_text("utf-8"), re.M)
    assert [int(number) for number, _ in rows] == list(range(1, 13))
    for _, code in rows:
        names = re.findall(r"`(\w+)`", code)
        assert names
        assert all(hasattr(theorem, name) or name == "exact" for name in names), names


def test_the_table_of_reported_values_is_that_of_the_committed_records():
    page = (ROOT / "docs/experiments.md").read_text("utf-8")
    assert filled(page) == page, "run `python -m experiments.tables`"
    assert page.count("| agrees |") + page.count("| differs |") > 20


@pytest.mark.parametrize(
    ("values", "row", "expected"),
    [
        ([0.1, 0.2, 0.3], {"agrees": [0.2, 0.5]}, "agrees"),
        ([0.1, 0.2, 0.3], {"agrees": [0.31, 0.5]}, "agrees"),  # the interval is .087 to .313
        ([0.1, 0.2, 0.3], {"agrees": [0.32, 0.5]}, "differs"),
        ([0.1, 0.2, 0.3], {"agrees": [0.0, 0.08]}, "differs"),
        ([0.2], {"agrees": [0.2, 0.5]}, "agrees"),
        ([0.2], {"agrees": [0.21, 0.5]}, "differs"),
        ([0.2], {}, "differs"),
    ],
)
def test_a_verdict_compares_our_interval_with_the_reported_range(values, row, expected):
    expectations = [{"condition": "c", "holds": False}]
    record = Result("e", "paper", {}, {"c": summarize(values)}, {}, 0.0, expectations, {})
    assert verdict(record, {"condition": "c", **row}) == expected
