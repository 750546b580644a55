"""Intervals, bands and rank correlations against tables and simulations; verdicts on a synthetic table of values."""

import numpy as np
import pytest
from scipy import stats

import experiments
from experiments.expectations import judge
from sublim_theory.statistics import mean_band, misses, rank_correlation, summarize

# Summaries


def test_summary_by_hand():
    summary = summarize([1, 2, 3, 4])
    assert summary.mean == 2.5
    assert summary.sd == pytest.approx((5 / 3) ** 0.5, rel=1e-12)  # n - 1 in the denominator
    assert summary.ci95 == pytest.approx(1.959963984540054 * (5 / 3) ** 0.5 / 2, rel=1e-9)
    assert summary.n == 4
    assert summary.values == (1.0, 2.0, 3.0, 4.0)


def test_summary_of_float32_seeds_is_computed_in_float64_and_holds_plain_floats():
    values = np.float32(1) + np.arange(1000, dtype=np.float32) * np.float32(1e-6)
    summary = summarize(values)
    assert summary.sd == pytest.approx(np.std(values.astype(np.float64), ddof=1), rel=1e-9)
    assert {type(summary.mean), type(summary.sd), type(summary.ci95), *map(type, summary.values)} == {float}
    assert type(summary.n) is int


def test_one_value_has_no_spread_and_equal_values_have_one_of_0():
    one, equal = summarize([0.25]), summarize([0.5, 0.5, 0.5])
    assert (one.mean, one.sd, one.ci95, one.n, one.values) == (0.25, None, None, 1, (0.25,))
    assert (equal.mean, equal.sd, equal.ci95) == (0.5, 0, 0)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("values", [[], [0.1, float("nan")], [float("inf")], [[0.1], [0.2]], 0.3])
def test_what_cannot_be_summarised_is_an_error(values):
    with pytest.raises(ValueError, match="finite"):
        summarize(values)


# Bands


@pytest.mark.parametrize(
    ("level", "comparisons", "z"),
    [
        (0.95, 1, 1.959964),
        (0.95, 2, 2.241403),  # each at 97.5%
        (0.95, 5, 2.575829),  # each at 99%
        (0.95, 6, 2.638257),
    ],
)
def test_band_is_z_from_the_tables_times_the_error_of_both_means(level, comparisons, z):
    low, high = mean_band(0.5, 2.0, 100, ours=25, level=level, comparisons=comparisons)
    half_width = z * 2.0 * (0.01 + 0.04) ** 0.5
    assert (low, high) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=1e-6)


def test_band_with_a_spread_from_few_values_is_that_of_students_t():
    few = mean_band(0.5, 0.1, 100, ours=10, level=0.95, comparisons=1, degrees=9)
    assert few[1] - 0.5 == pytest.approx(2.2621572 * 0.1 * (1 / 100 + 1 / 10) ** 0.5, rel=1e-6)


# Verdicts

TABLE = """
[lab.small]
source = "made up"
[lab.small.conditions]
a = { mean = 0.5, ci95 = 0.0196, n = 100 }
b = { mean = 0.2, sd = 0.3, n = 9 }
"""


@pytest.fixture
def table(tmp_path, monkeypatch):
    (tmp_path / "expected.toml").write_text(TABLE)
    monkeypatch.setattr(experiments, "__path__", [str(tmp_path)])


def seeds(mean, n):
    """n values with that mean and some spread."""
    return summarize(mean + 0.1 * (np.arange(n) - (n - 1) / 2))


@pytest.mark.usefixtures("table")
def test_verdicts_by_hand():
    a, b = judge("lab", "small", {"b": seeds(0.2, 16), "a": seeds(0.54, 25), "unexpected": seeds(0, 2)})
    assert (a.condition, b.condition, a.source, b.source) == ("a", "b", "made up", "made up")
    # a: sd = 0.0196 * 10 / 1.96 = 0.1; two bands at 95% together: z = 2.241403
    assert (a.expected, a.produced, a.ci95) == pytest.approx((0.5, 0.54, 0.0196))
    half_width = 2.241403 * 0.1 * (1 / 100 + 1 / 25) ** 0.5
    assert (a.low, a.high) == pytest.approx((0.5 - half_width, 0.5 + half_width), abs=1e-6)
    assert (b.expected, b.produced, b.ci95) == pytest.approx((0.2, 0.2, 1.96 * 0.3 / 3))
    half_width = 2.241403 * 0.3 * (1 / 9 + 1 / 16) ** 0.5
    assert (b.low, b.high) == pytest.approx((0.2 - half_width, 0.2 + half_width), abs=1e-6)
    assert a.holds
    assert b.holds


@pytest.mark.usefixtures("table")
def test_a_verdict_turns_at_the_ends_of_its_band_which_is_narrower_for_more_seeds():
    for mean, holds in ((0.4498, False), (0.4500, True), (0.5500, True), (0.5502, False)):
        a, _ = judge("lab", "small", {"a": seeds(mean, 25), "b": seeds(0.2, 2)})  # the band is 0.5 -+ 0.050120
        assert a.holds == holds
    widths = [judge("lab", "small", {"a": seeds(0.5, n), "b": seeds(0, n)})[0].high - 0.5 for n in (1, 4, 100, 10**4)]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(2.241403 * 0.01 * 1.01**0.5, rel=1e-5)
    assert judge("lab", "big", {}) == judge("other", "small", {}) == [], "nothing expected, no verdict"


def test_expected_values_of_the_paper_are_those_of_its_figure():
    published = {
        "reference": (0.0998, 0.0047),
        "teacher": (0.9434, 0.0004),
        "student_aux": (0.528, 0.022),
        "student_all": (0.9126, 0.0019),
        "cross_aux": (0.106, 0.010),
        "cross_all": (0.743, 0.010),
    }
    # An independent rerun of the published script, to be told apart from a run without transfer.
    rerun = dict(zip(published, (0.0998, 0.9434, 0.537, 0.9125, 0.100, 0.741), strict=True))
    verdicts = judge("fig10", "paper", {name: seeds(mean, 100) for name, mean in rerun.items()})
    for verdict in verdicts:
        assert (verdict.expected, verdict.ci95) == pytest.approx(published.pop(verdict.condition))
    assert not published
    assert all(verdict.holds for verdict in verdicts)
    no_transfer = {name: seeds(0.1, 100) for name in rerun}
    held = {verdict.condition for verdict in judge("fig10", "paper", no_transfer) if verdict.holds}
    assert held == {"reference", "cross_aux"}


# Rank correlation


def test_rank_correlation_by_hand_and_with_ties_as_scipy_has_it():
    assert rank_correlation([1, 2, 3, 4], [1, 3, 2, 4]).rho == pytest.approx(1 - 6 * 2 / (4 * 15))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 4, 60), rng.integers(0, 3, 60)
    found = rank_correlation(x, y)
    assert found.rho == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)
    assert found.low < found.rho < found.high
    assert found.n == 60
    assert {type(found.rho), type(found.low), type(found.high)} == {float}


def test_interval_is_that_of_resampled_pairs_one_at_a_time():
    rng = np.random.default_rng(1)
    x = rng.integers(0, 6, 40)
    y = x + rng.normal(0, 3, 40).round()
    rows = np.random.default_rng(7).integers(0, 40, (1500, 40))
    expected = np.quantile([stats.spearmanr(x[row], y[row]).statistic for row in rows], [0.05, 0.95])
    found = rank_correlation(x, y, level=0.9, resamples=1500, seed=3)
    assert (found.low, found.high) == pytest.approx(expected, abs=0.03)  # two sets of resamples
    assert found == rank_correlation(x, y, level=0.9, resamples=1500, seed=3)
    assert found != rank_correlation(x, y, level=0.9, resamples=1500, seed=4)


def test_rank_correlation_sees_order_alone():
    rng = np.random.default_rng(2)
    x = rng.normal(size=30)
    y = x + rng.normal(size=30)
    assert rank_correlation(np.exp(x), y**3) == rank_correlation(x, y)
    found = rank_correlation(x, -np.exp(x))
    assert (found.rho, found.low, found.high) == pytest.approx((-1, -1, -1))


def test_a_permuted_predictor_predicts_nothing():
    rng = np.random.default_rng(3)
    x = rng.normal(size=100)
    found, control = (rank_correlation(each, x + 0.5 * rng.normal(size=100)) for each in (x, rng.permutation(x)))
    assert found.low > 0.7
    assert control.low < 0 < control.high


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1, 2], [1, 2], "at least 3"),
        ([1, 2, 3], [1, 2], "shapes"),
        ([[1, 2, 3]], [[1, 2, 3]], "shapes"),
        ([1, 2, 3], [1, 2, np.nan], "finite"),
        ([2, 2, 2], [1, 2, 3], "not all the same"),
    ],
)
def test_what_cannot_be_ranked_is_an_error(x, y, message):
    with pytest.raises(ValueError, match=message):
        rank_correlation(x, y)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"mean": np.float32(np.nan)}, "mean must be finite, got nan"),
        ({"sd": -1.0}, "sd must be at least 0, got -1"),
        ({"sd": np.float32(np.inf)}, "sd must be finite, got inf"),
        ({"n": np.int64(0)}, "n must be at least 1, got 0"),
        ({"ours": 2.5}, "ours must be a whole number, got 2.5"),
        ({"comparisons": 0}, "comparisons must be at least 1, got 0"),
        ({"level": np.float32(1)}, "level must be between 0 and 1, got 1"),
        ({"level": "0.9"}, "level must be a number"),
        ({"degrees": np.float64(-1)}, "degrees must be positive and finite, got -1"),
    ],
)
def test_a_band_names_the_number_that_is_wrong(changed, message):
    usual = {"mean": 0.5, "sd": 0.1, "n": 10, "ours": 5, "level": 0.95, "comparisons": 1}
    with pytest.raises(ValueError, match=message):
        mean_band(**usual | changed)


@pytest.mark.usefixtures("unchecked")
def test_a_rank_correlation_names_the_setting_that_is_wrong():
    for changed in ({"level": np.float32(0)}, {"level": np.nan}, {"resamples": 1.5}, {"seed": -1}):
        with pytest.raises(ValueError, match=f"{next(iter(changed))} must be"):
            rank_correlation([1, 2, 3, 4], [1, 3, 2, 4], **changed)


# Few seeds


def test_intervals_from_few_seeds_miss_as_often_as_they_must():
    """Normal values: 1.96 standard errors hold Student's t with probability 81% from 3 seeds and 95% from many."""
    normal = np.random.default_rng(1).normal(size=500)
    assert misses(normal, 3) == pytest.approx(0.189, abs=0.015)
    assert misses(normal, 50) == pytest.approx(0.056, abs=0.015)
    assert misses(normal[:10], 10, draws=100) == 0
    for seeds in (1, 11):
        with pytest.raises(ValueError, match=f"at least 2 and at most the 10 values, got {seeds}"):
            misses(normal[:10], seeds)
