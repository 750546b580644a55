"""No false verdict: on random instances, a quarter of them sabotaged, `verify` gives the right branch or refuses.

A sound instance gets its branch, its A to 1e-7 and, where the theorem speaks, a report that holds. A sabotaged one is
a ValueError that names the argument at fault: never a verdict, never another exception.

    python tests/theorem/test_no_false_verdict.py FIRST LAST    # seeds FIRST to LAST - 1, a line for each failure
"""

import collections
import re
import sys
import time
import warnings

import jax
import pytest
import sabotage

from sublim_theory.theorem import verify

SEEDS, EACH, MANY = 24, 6, 2000


def failure(seed):
    """What is wrong with the verdict on the instance of this seed, or None."""
    instance = sabotage.draw(seed)
    try:
        with jax.numpy_rank_promotion("raise"), jax.numpy_dtype_promotion("strict"):
            report = verify(**instance.arguments)
    except ValueError as error:
        if instance.sabotage is None:
            return f"a sound instance was refused: {error}"
        if not re.search(rf"(?<![\w.]){instance.argument}(?!\w)", str(error)):
            return f"the refusal does not name {instance.argument}: {error}"
        return None
    except Exception as error:
        return f"{type(error).__name__} in place of a verdict or a ValueError: {error}"
    if instance.sabotage is not None:
        return f"a verdict on a sabotaged instance: {report.branch}, holds = {report.holds}, {report.failures[:1]}"
    return wrong(report, instance)


def wrong(report, instance):
    """What contradicts the oracle in the report on a sound instance, or None."""
    expected, seen = instance.coefficient, report.first_order
    if report.branch != instance.branch:
        return f"branch {report.branch}, not {instance.branch}; A = {seen:.6g}, expected {expected:.6g}"
    if abs(seen - expected) > (1e-7 * expected if expected else 1e-20):
        return f"A = {seen:.12g}, expected {expected:.12g}"
    if report.branch != "different-initialisation" and not report.holds:
        return f"the report does not hold: {report.failures[0]}"
    smallest = report.epsilons[0]
    if report.branch == "transfer" and not abs(report.alignment[0] / (smallest * expected) - 1) < 0.2:
        return f"d_S . d_T = {report.alignment[0]:.6g} at eps = {smallest:g}, expected eps A with A = {expected:.6g}"
    return None


def failures(seeds):
    found = ((seed, failure(seed)) for seed in seeds)
    return [f"seed {seed} ({sabotage.draw(seed).description}): {what}" for seed, what in found if what]


@pytest.mark.parametrize("first", range(0, SEEDS, EACH))
def test_no_false_verdict(first):
    found = failures(range(first, first + EACH))
    assert not found, "\n".join(found)


@pytest.mark.endurance
def test_no_false_verdict_on_two_thousand(capsys):
    began, found = time.perf_counter(), []
    for first in range(0, MANY, 50):
        found += failures(range(first, first + 50))
        jax.clear_caches()  # two thousand programs
        with capsys.disabled():
            seconds = time.perf_counter() - began
            print(f"\n{first + 50} of {MANY} instances in {seconds:.0f} s, {len(found)} false", end="", flush=True)
    assert not found, "\n".join(found)


def test_the_instances_are_of_every_kind():
    plans = [sabotage.plan(seed) for seed in range(MANY)]
    wrong = collections.Counter((it.group, it.argument, it.sabotage) for it in plans if it.sabotage)
    assert set(wrong) == set(sabotage.KINDS)
    assert min(wrong.values()) >= 5
    assert sum(wrong.values()) == MANY / 4
    sound = [it for it in plans if it.sabotage is None]
    assert {it.spelling for it in sound} == set(sabotage.LOSSES)
    assert {it.architecture for it in sound} == set(sabotage.ARCHITECTURES)
    assert {it.activation for it in sound} == set(sabotage.ACTIVATIONS)
    assert {it.teacher for it in sound} == {*sabotage.TEACHERS, *sabotage.ORTHOGONAL[:2]}
    assert {it.orthogonal for it in sound} == {None, *sabotage.ORTHOGONAL}
    assert {it.depth for it in sound} == {0, 1, 2, 3}


def test_an_instance_is_its_seed():
    first, second = (sabotage.draw(7) for _ in range(2))
    assert first.description == second.description
    assert jax.tree.all(
        jax.tree.map(lambda a, b: (a == b).all(), first.arguments["params"], second.arguments["params"])
    )


def main(first, last):
    warnings.simplefilter("error")
    began, false = time.perf_counter(), 0
    for seed in range(first, last):
        for line in failures([seed]):
            false += 1
            print(" ".join(line.split())[:600], flush=True)
        if seed % 50 == 49:
            jax.clear_caches()
    seconds = (time.perf_counter() - began) / max(last - first, 1)
    print(f"seeds {first} to {last - 1}: {false} false of {last - first}, {seconds:.2f} s an instance")
    return bool(false)


if __name__ == "__main__":
    sys.exit(main(*map(int, sys.argv[1:])))
