"""The documentation: every file that it links to exists, and every name of the library that it mentions does."""

import re
from pathlib import Path

import pytest

from sublim_theory import theorem

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
