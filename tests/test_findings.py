"""The numbers in what the experiments' docstrings say was found are those of the committed records."""

import re

import pytest

from experiments import EXPERIMENTS, SUMMARIES
from experiments.registry import docstring
from experiments.tables import RECORDS
from sublim_theory.record import load

ELSEWHERE = {
    "alignment_path": "2.4 1.3",  # trait losses at the ends of paths, which are arrays
    "detection": ".52 .04",  # 60 other seeds
    "owl_theorem": ".47 .12 .73 .32 .43 .28 .29 .05",  # relations over the seeds, which are arrays
    "owl_tokens": "-.03 -.05 .5 -.11 .25 -.23 .03",  # differences by seed, at temperatures
    "predictors": ".95 .98",  # claimed by others
    "random_labels": "1.5",  # a setting
    "sampled_labels": ".25 .14",  # other settings
}
"""Numbers that committed summaries do not have, and why."""

NUMBER = re.compile(r"(?<![\w.-])-?\d?\.\d+(?![\w.])")


def known(name):
    """Means and intervals of the committed records of an experiment."""
    for folder in RECORDS.glob(f"{name}-*"):
        if folder.name.rpartition("-")[0] == name:
            for summary in load(folder).conditions.values():
                yield from (summary.mean, -summary.mean, *([] if summary.ci95 is None else [summary.ci95]))


def absent(text, values):
    """Numbers in a text that none of the values rounds to."""

    def rounds_to(number):
        return any(abs(value - float(number)) <= 0.50001 * 10.0 ** -len(number.partition(".")[2]) for value in values)

    return {number for number in NUMBER.findall(text) if not rounds_to(number)}


def test_a_number_that_no_record_has_is_noticed():
    assert absent("it has .12 and -.30, not 1.5 nor .13", [0.1249, -0.3004]) == {"1.5", ".13"}


@pytest.mark.parametrize("name", [name for name in EXPERIMENTS if any(RECORDS.glob(f"{name}-*"))])
def test_every_number_of_a_finding_is_in_a_record(name):
    doc = docstring(name)
    found = [text for text in doc.split("\n\n") if re.match(r"Found|On MNIST|On the embedded digits", text)]
    cited = {name, *re.findall(r"`(sweep_\w+)`", doc)} & set(SUMMARIES)
    values = [value for each in cited for value in known(each)]
    assert absent("\n".join(found), values) <= set(ELSEWHERE.get(name, "").split())
