"""Means with intervals, and bands for comparing two sample means (normal approximation, as in the paper)."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


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


def summarize(values: Sequence[float] | np.ndarray) -> Summary:
    """Summary of finite values [seeds]; the error bar is the paper's (figure 10: 1.96 sd / sqrt(n)).

    Raises:
        ValueError: for no values, or one that is not finite.
    """
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all():
        raise ValueError(f"need a non-empty list of finite values, got {values!r}")
    n = array.size
    sd = float(array.std(ddof=1)) if n > 1 else None
    ci95 = None if sd is None else float(stats.norm.ppf(0.975)) * sd / n**0.5
    return Summary(float(array.mean()), sd, ci95, n, tuple(float(value) for value in array))


def mean_band(
    mean: float, sd: float, n: int, *, ours: int, level: float, comparisons: int, degrees: float = math.inf
) -> tuple[float, float]:
    """Where the mean of `ours` new values lies, if they come from the population of an earlier sample.

    Both means vary: the half-width is `z sd sqrt(1/n + 1/ours)`, with z for `comparisons` such bands to hold
    together at `level` (Bonferroni).

    Args:
        mean: mean of the earlier sample.
        sd: its standard deviation.
        n: its size.
        ours: size of the new sample.
        level: probability that all bands hold, such as 0.95.
        comparisons: number of bands.
        degrees: degrees of freedom of `sd`, where it comes from a small sample: z is then Student's t.

    Returns:
        Lower and upper end.
    """
    z = float(stats.t.ppf(1 - (1 - level) / (2 * comparisons), degrees))
    half_width = z * sd * (1 / n + 1 / ours) ** 0.5
    return mean - half_width, mean + half_width
