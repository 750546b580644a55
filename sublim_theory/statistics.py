"""Means with intervals, bands for comparing two means (normal approximation, as in the paper), rank correlations."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Num
from scipy import special

from sublim_theory.protocols import require_count, require_number, require_positive

# Numbers of Python and numpy alone: who reads records and draws them imports this module, and no JAX.
Real: TypeAlias = float | int | np.floating | np.integer
Count: TypeAlias = int | np.integer


@dataclass(frozen=True)
class Summary:
    """One quantity over the seeds.

    Attributes:
        mean: sample mean.
        sd: sample standard deviation (n - 1), None for a single value.
        ci95: half-width of the 95% interval of the mean, 1.96 sd / sqrt(n), None for a single value.
        n: number of values.
        values: one value a seed.
    """

    mean: float
    sd: float | None
    ci95: float | None
    n: int
    values: tuple[float, ...]


def summarize(values: Sequence[Real] | Num[np.ndarray, "..."]) -> Summary:
    """Summary of finite values [seeds]; the error bar is the paper's (figure 10: 1.96 sd / sqrt(n)).

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"need a non-empty list of finite values, got {values!r}")
    n = array.size
    sd = float(array.std(ddof=1)) if n > 1 else None
    ci95 = None if sd is None else float(special.ndtri(0.975)) * sd / n**0.5
    return Summary(float(array.mean()), sd, ci95, n, tuple(float(value) for value in array))


def mean_band(
    mean: Real, sd: Real, n: Count, *, ours: Count, level: Real, comparisons: Count, degrees: Real = math.inf
) -> tuple[float, float]:
    """Lower and upper end of a band for the mean of `ours` new values from the population of an earlier sample.

    Both means vary: the half-width is `z sd sqrt(1/n + 1/ours)`, with z for `comparisons` such bands to hold
    together at `level` (Bonferroni).

    Args:
        mean: of the earlier sample.
        sd: its standard deviation.
        n: its size.
        ours: size of the new sample.
        level: probability that all bands hold, such as 0.95.
        comparisons: number of bands.
        degrees: degrees of freedom of `sd`, where it comes from a small sample: z is then Student's t.

    Raises:
        ValueError: for a number that is not finite or out of range.
    """
    centre, spread = require_number("mean", mean), require_number("sd", sd)
    if spread < 0:
        raise ValueError(f"sd must be at least 0, got {spread}")
    if degrees != math.inf:
        degrees = require_positive("degrees", degrees)
    tail = (1 - _level(level)) / (2 * require_count("comparisons", comparisons))
    z = float(special.stdtrit(degrees, 1 - tail))
    half_width = z * spread * (1 / require_count("n", n) + 1 / require_count("ours", ours)) ** 0.5
    return centre - half_width, centre + half_width


class Paired(NamedTuple):
    """Differences of two samples that belong together, over what they have in common.

    Attributes:
        mean: mean difference; NaN without pairs.
        ci95: half-width of its 95% interval by Student's t (the paired t-test); NaN for fewer than two pairs.
        n: number of pairs.
    """

    mean: Any
    ci95: Any
    n: Any


def paired(ours: Any, theirs: Any, axis: str = "seed") -> Paired:
    """Ours minus theirs, pair by pair along a named axis.

    Args:
        ours: an `xarray.DataArray`; entries are matched by coordinate, and those that only one has are left out, as are
            differences that are not finite.
        theirs: another with the same axes.
        axis: along which the pairs lie.

    Returns:
        Arrays over the other axes, float64.

    Raises:
        ValueError: if the axes differ, or one without coordinates has another length.
    """
    if set(ours.dims) != set(theirs.dims) or axis not in ours.dims:
        raise ValueError(f"need arrays with the axis {axis!r} and the same others, got {ours.dims} and {theirs.dims}")
    with np.errstate(over="ignore", invalid="ignore"):
        difference = ours.astype(np.float64) - theirs.astype(np.float64)
        difference = difference.where(abs(difference) < np.inf)
        n = difference.count(axis)
        quantile = n.copy(data=special.stdtrit(n.values - 1, 0.975))  # NaN for fewer than two
        return Paired(difference.mean(axis), quantile * difference.std(axis, ddof=1) / n**0.5, n)


def independent(ours: Summary, theirs: Summary, *, comparisons: Count = 1) -> tuple[float, float]:
    """Difference of the means of two independent samples, and half-width of its 95% interval (normal approximation).

    The half-width is NaN if either is a single value.

    Args:
        ours: one sample.
        theirs: the other.
        comparisons: number of such intervals that hold together with probability 95% (Bonferroni).
    """
    widths = (math.nan if each.ci95 is None else each.ci95 for each in (ours, theirs))
    wider = special.ndtri(1 - 0.025 / require_count("comparisons", comparisons)) / special.ndtri(0.975)
    return ours.mean - theirs.mean, float(wider) * math.hypot(*widths)


def misses(values: Sequence[Real] | Num[np.ndarray, "..."], seeds: Count, *, draws: Count = 20_000) -> float:
    """How often the 95% interval of the mean of some of the values misses the mean of all of them.

    Args:
        values: one a seed.
        seeds: how many of them a run has, at least 2.
        draws: random choices of that many.

    Raises:
        ValueError: for fewer than 2, or more than there are values.
    """
    every = np.asarray(values, np.float64)
    if not 2 <= seeds <= len(every):
        raise ValueError(f"seeds must be at least 2 and at most the {len(every)} values, got {seeds}")
    chosen = every[np.random.default_rng(0).random((draws, len(every))).argsort(axis=1)[:, :seeds]]
    half_widths = 1.96 * chosen.std(axis=1, ddof=1) / seeds**0.5
    return float(np.mean(np.abs(chosen.mean(axis=1) - every.mean()) > half_widths))


@dataclass(frozen=True)
class RankCorrelation:
    """Spearman's rank correlation of two quantities, with an interval.

    Attributes:
        rho: of the sample; ties have their mean rank.
        low: lower end of the interval.
        high: upper end.
        n: number of pairs.
    """

    rho: float
    low: float
    high: float
    n: int


def rank_correlation(
    x: Sequence[Real] | Num[np.ndarray, "..."],
    y: Sequence[Real] | Num[np.ndarray, "..."],
    *,
    level: Real = 0.95,
    resamples: Count = 2000,
    seed: Count = 0,
) -> RankCorrelation:
    """Spearman's rho of pairs [n], with the percentile interval of a bootstrap that draws whole pairs.

    It assumes that the pairs are independent, and nothing of their distribution. The usual formula (Fisher's z with the
    variance of Bonett and Wright 2000) needs something like the normal one: where half the pairs are a clump without
    correlation, its 95% interval covers 88%.

    Args:
        x: one of the quantities, finite.
        y: the other.
        level: probability that the interval covers the correlation of the population.
        resamples: bootstrap samples; one in which x or y is constant says nothing and counts as 0.
        seed: of the resampling, so that the same pairs give the same interval.

    Raises:
        ValueError: for fewer than 3 pairs, values that are not finite, a quantity that is the same everywhere, or a
            setting out of range.
    """
    from scipy import stats  # takes longer to load than all else that reads a record

    pairs = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if pairs[0].ndim != 1 or pairs[0].shape != pairs[1].shape or len(pairs[0]) < 3:
        raise ValueError(f"need two lists of at least 3 values, got the shapes {pairs[0].shape} and {pairs[1].shape}")
    for values in pairs:
        if not np.isfinite(values).all() or np.ptp(values) == 0:
            raise ValueError(f"need finite values that are not all the same, got {values}")
    found = stats.bootstrap(
        pairs,
        _spearman,
        paired=True,
        vectorized=True,
        n_resamples=require_count("resamples", resamples),
        batch=500,
        confidence_level=_level(level),
        method="percentile",
        random_state=np.random.default_rng(require_count("seed", seed, 0)),
    )
    low, high = found.confidence_interval
    return RankCorrelation(float(stats.spearmanr(*pairs).statistic), float(low), float(high), len(pairs[0]))


def _level(level: Real) -> float:
    number = require_number("level", level)
    if not 0 < number < 1:
        raise ValueError(f"level must be between 0 and 1, got {number}")
    return number


def _spearman(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """Many at once, which `scipy.stats.spearmanr` cannot; 0 where x or y is constant."""
    from scipy import stats

    a, b = (stats.rankdata(values, axis=axis) - (values.shape[axis] + 1) / 2 for values in (x, y))
    scale = np.sqrt(np.sum(a * a, axis) * np.sum(b * b, axis))
    return np.divide(np.sum(a * b, axis), scale, out=np.zeros_like(scale), where=scale > 0)
