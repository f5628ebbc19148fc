"""Intervals against hand-computed and library values."""

import math
import random

import numpy as np
import pytest
import scipy.stats
from statsmodels.stats.proportion import proportion_confint

from malmat.evaluate import stats


def test_two_rows_by_hand():
    # The mean of two draws from {0, 1} is 0, ½, 1 with chances ¼, ½, ¼.
    assert stats.bootstrap_interval([0, 1]) == (0, 1)
    assert stats.bootstrap_interval([0, 1], level=0.4) == (0.5, 0.5)


def test_clusters_of_unequal_size_by_hand():
    # Drawing both clusters gives 1/10, the mean over rows, not ½, the mean of the means.
    values, clusters = [0] * 9 + [1], ["a"] * 9 + ["b"]
    assert stats.bootstrap_interval(values, clusters) == (0, 1)
    assert stats.bootstrap_interval(values, clusters, level=0.4) == (0.1, 0.1)


def test_against_scipy():
    values = np.random.default_rng(1).normal(3, 2, 80)
    expected = scipy.stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=10_000, rng=0
    ).confidence_interval
    assert stats.bootstrap_interval(list(values)) == pytest.approx(tuple(expected), abs=0.05)


def test_repeating_each_row_of_a_cluster_tells_nothing_new():
    draw = random.Random(2)
    values = [draw.random() for _ in range(30)]
    names = [f"t{n}" for n in range(30)]
    once = stats.bootstrap_interval(values)
    four_times = stats.bootstrap_interval(values * 4, names * 4)
    assert four_times == pytest.approx(once)
    low, high = stats.bootstrap_interval(values * 4)  # as if they were independent
    assert high - low < 0.6 * (once[1] - once[0])


def test_the_same_figure_at_every_run_and_in_any_naming():
    values = [1, 5, 3, 4, 2]
    assert stats.bootstrap_interval(values) == stats.bootstrap_interval(values)
    assert stats.bootstrap_interval(values) == stats.bootstrap_interval(values, list("vwxyz"))


@pytest.mark.parametrize(("values", "clusters"), [([], None), ([3], None), ([1, 2, 3], ["a"] * 3)])
def test_one_cluster_says_nothing_about_spread(values, clusters):
    assert all(map(math.isnan, stats.bootstrap_interval(values, clusters)))


@pytest.mark.parametrize(("successes", "total"), [(0, 10), (8, 10), (10, 10), (1, 1), (37, 100)])
def test_wilson_by_its_formula_and_by_statsmodels(successes, total):
    z, p = 1.959963984540054, successes / total
    middle = (p + z**2 / (2 * total)) / (1 + z**2 / total)
    half = z * math.sqrt(p * (1 - p) / total + z**2 / (4 * total**2)) / (1 + z**2 / total)
    interval = stats.proportion_interval(successes, total)
    assert interval == pytest.approx((middle - half, middle + half), abs=1e-12)
    assert interval == pytest.approx(proportion_confint(successes, total, method="wilson"))
    assert 0 <= interval[0] < interval[1] <= 1


def test_wilson_of_nothing():
    assert all(map(math.isnan, stats.proportion_interval(0, 0)))


def test_summary_counts_what_is_missing():
    summary = stats.summarize([4, None, 2, None], low=1, high=5)
    assert summary["mean"] == 3
    assert (summary["n_scored"], summary["n_total"]) == (2, 4)
    assert summary["bounds"] == [(6 + 2) / 4, (6 + 10) / 4]
    assert summary["interval"] == [1, 5]  # two rows: t reaches beyond the scale, and is cut


def test_summary_with_all_scored_is_bounded_by_its_mean():
    summary = stats.summarize([1, 2, 3], low=1, high=5)
    assert summary["bounds"] == [2, 2]
    assert summary["interval"][0] < 2 < summary["interval"][1]


def test_summary_of_a_rate():
    summary = stats.summarize([1, 0, 1, None, True, False], low=0, high=1, rate=True)
    assert summary["mean"] == 0.6
    assert summary["interval"] == pytest.approx(list(stats.proportion_interval(3, 5)))
    assert summary["bounds"] == [3 / 6, 4 / 6]


@pytest.mark.parametrize("rate", [True, False])
def test_summary_where_nothing_was_scored(rate):
    summary = stats.summarize([None, None], low=0, high=1, rate=rate)
    assert summary["mean"] is None
    assert summary["interval"] is None
    assert (summary["n_scored"], summary["n_total"]) == (0, 2)
    assert summary["bounds"] == [0, 1]


def test_summary_of_no_rows():
    summary = stats.summarize([], low=0, high=1)
    assert summary["mean"] is summary["interval"] is None
    assert summary["bounds"] == [None, None]
    assert summary["n_total"] == 0


def test_summary_drops_the_clusters_of_missing_rows():
    values, clusters = [1, None, 2, 3, *range(12)], ["a", "z", "b", "b", *"cdefghijklmn"]
    summary = stats.summarize(values, low=0, high=15, clusters=clusters)
    kept = [value for value in values if value is not None]
    assert summary["interval"] == list(stats.bootstrap_interval(kept, ["a", *clusters[2:]]))
    one = stats.summarize(values[:4], low=1, high=5, clusters=["a"] * 4)
    assert (one["mean"], one["interval"]) == (2, [1, 5])  # one cluster says nothing: the scale


def test_few_clusters_get_students_t_of_their_means():
    from scipy.stats import ttest_1samp

    values, clusters = [1.0, 3.0, 2.0, 4.0, 2.5], ["a", "a", "b", "c", "d"]
    expected = ttest_1samp([2.0, 2.0, 4.0, 2.5], 0).confidence_interval()
    half = (expected.high - expected.low) / 2
    middle = sum(values) / 5
    assert stats.mean_interval(values, clusters, (-99, 99)) == pytest.approx(
        (middle - half, middle + half)
    )
    many = list(range(10))
    assert stats.mean_interval(many, None, (0, 9)) == stats.bootstrap_interval(many)


def test_paired_difference_joins_by_id():
    before = {"a": 1, "b": 2, "c": 3, "only": 5}
    after = {"c": 4, "b": 3, "a": 2, "other": 1}
    result = stats.paired_difference(before, after, scale=(1, 5))
    assert result == {"difference": 1, "interval": [1, 1], "n_pairs": 3, "tied": False}


def test_paired_difference_by_clusters():
    before = dict.fromkeys("abcd", 0)
    after = {"a": 1, "b": 1, "c": -1, "d": -1}
    clusters = {"a": "x", "b": "x", "c": "y", "d": "y"}
    result = stats.paired_difference(before, after, clusters, scale=(-1, 1))
    assert (result["difference"], result["interval"], result["tied"]) == (0, [-2, 2], True)


def test_paired_difference_without_ground():
    nothing = {"difference": None, "interval": None, "n_pairs": 0, "tied": None}
    assert stats.paired_difference({"a": 1}, {"b": 1}, scale=(1, 5)) == nothing
    one = stats.paired_difference({"a": 1}, {"a": 3}, scale=(1, 5))
    assert one == {"difference": 2, "interval": [-4, 4], "n_pairs": 1, "tied": True}


@pytest.mark.parametrize(("gained", "lost"), [(6, 0), (5, 1), (12, 3), (4, 4), (1, 0)])
def test_mcnemar_is_a_fair_coin(gained, lost):
    n, k = gained + lost, min(gained, lost)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    assert stats.mcnemar(gained, lost) == pytest.approx(min(1, 2 * tail))
    assert stats.mcnemar(lost, gained) == stats.mcnemar(gained, lost)


def test_mcnemar_without_a_change():
    assert stats.mcnemar(0, 0) == 1


def test_signed_rank_by_hand():
    # Of the 2⁵ ways to sign five different sizes one is all plus and one is all minus.
    assert stats.signed_rank([1, 2, 3, 4, 5]) == pytest.approx(2 / 32)
    assert stats.signed_rank([1, 2, 3, -4, 5]) == pytest.approx(
        scipy.stats.wilcoxon([1, 2, 3, -4, 5]).pvalue
    )
    assert stats.signed_rank([0, 0, 0]) == 1


def test_signed_rank_takes_a_cluster_once():
    clusters = [name for name in "abcde" for _ in range(4)]
    differences = [size for size in (1, 2, 3, 4, 5) for _ in range(4)]
    assert stats.signed_rank(differences, clusters) == pytest.approx(2 / 32)
    assert stats.signed_rank(differences) < 0.001
    # 0.1 + 0.2 and 0.3 are one size: ranks are tied, whatever the floats say.
    assert stats.signed_rank([0.3, -(0.1 + 0.2)]) == 1


def test_holm_by_hand():
    assert stats.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert stats.holm([0.5, 0.6]) == [1, 1]
    assert stats.holm([]) == []


def test_difference_of_independent_means():
    first = {"mean": 4.0, "interval": [3.7, 4.2]}
    second = {"mean": 3.0, "interval": [2.6, 3.3]}
    result = stats.independent_difference(first, second)
    assert result["difference"] == -1
    assert result["interval"] == pytest.approx(
        [-1 - math.hypot(0.4, 0.2), -1 + math.hypot(0.3, 0.3)]
    )
    nothing = {"mean": None, "interval": None}
    assert stats.independent_difference(first, nothing) is None
    assert stats.independent_difference(nothing, first) is None


def test_difference_of_independent_rates_is_newcombes():
    from statsmodels.stats.proportion import confint_proportions_2indep

    first, second = (stats.summarize([1] * k + [0] * (n - k), low=0, high=1, rate=True)
                     for k, n in ((12, 50), (25, 60)))  # fmt: skip
    expected = confint_proportions_2indep(25, 60, 12, 50, method="newcomb", compare="diff")
    assert stats.independent_difference(first, second)["interval"] == pytest.approx(list(expected))
