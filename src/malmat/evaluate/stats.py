"""Intervals, bounds and paired tests: a mean is never shown without them.

Percentile bootstrap as in Efron & Tibshirani (1993), *An Introduction to the
Bootstrap*, ch. 13; resampled by cluster (here: by slang term) where rows of one
term are not independent. Seeded, so that a figure is the same at every run.
"""

from __future__ import annotations

import math
import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np


def cluster_bootstrap(
    sums: np.ndarray,
    statistic: Callable[[np.ndarray], np.ndarray],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 42,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a statistic of sums, by scipy.

    Args:
        sums: (clusters, k): what each cluster adds to the k sums that the statistic needs.
        statistic: (…, k) sums over all clusters → (…) values; nan where it has none.

    Returns:
        (low, high); (nan, nan) with fewer than two clusters, where the data say nothing about
        spread.
    """
    if len(sums) < 2:
        return math.nan, math.nan

    def of_draws(*columns: np.ndarray, axis: int) -> np.ndarray:
        return statistic(np.stack([column.sum(axis) for column in columns], -1))

    return _percentiles(tuple(sums.T), of_draws, level, resamples, seed, vectorized=True)


def _percentiles(
    samples: tuple,
    statistic: Callable,
    level: float,
    resamples: int,
    seed: int,
    *,
    vectorized: bool,
) -> tuple[float, float]:
    """Percentile interval of a statistic of paired samples, by scipy's bootstrap."""
    from scipy.stats import bootstrap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a distribution without spread, which is an answer
        drawn = bootstrap(
            samples,
            statistic,
            paired=vectorized,
            vectorized=vectorized,
            method="percentile",
            n_resamples=resamples,
            batch=max(1, 2_000_000 // len(samples[0])),  # keeps memory flat
            rng=np.random.default_rng(seed),
        ).bootstrap_distribution
    low, high = np.nanquantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def sums_by_cluster(columns: np.ndarray, clusters: Sequence[str] | None) -> np.ndarray:
    """The rows' sums, a line a cluster in the order in which the clusters come up."""
    if clusters is None:
        return columns
    places: dict[str, int] = {}
    index = [places.setdefault(name, len(places)) for name in clusters]
    sums = np.zeros((len(places), columns.shape[1]))
    np.add.at(sums, index, columns)
    return sums


def bootstrap_interval(
    values: Sequence[float], clusters: Sequence[str] | None = None, *, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean of ``values``; (nan, nan) below two clusters.

    Args:
        values: one number a row.
        clusters: the cluster of each row; None takes each row as its own.
    """
    column = np.asarray(values, float)
    sums = sums_by_cluster(np.stack([column, np.ones_like(column)], -1), clusters)
    return cluster_bootstrap(sums, lambda total: total[..., 0] / total[..., 1], level=level)


FEWEST_FOR_BOOTSTRAP = 10


def mean_interval(
    values: Sequence[float],
    clusters: Sequence[str] | None,
    limits: tuple[float | None, float | None],
) -> tuple[float, float]:
    """95 % interval of a mean that stays honest with few rows.

    From 10 clusters on it is the bootstrap; below, where a bootstrap is too narrow, Student's t
    over the clusters' means, cut at the scale's ends; below two, where the data say nothing
    about spread, the whole scale (nan where the scale has no end).

    Args:
        limits: the ends of the scale that the mean lives on; None where it has none.
    """
    from scipy.stats import t

    groups = _grouped(values, clusters)
    low, high = (
        sign * math.inf if end is None else end for sign, end in zip((-1, 1), limits, strict=True)
    )
    if len(groups) >= FEWEST_FOR_BOOTSTRAP:
        return bootstrap_interval(values, clusters)
    if len(groups) < 2:
        whole = (float(low), float(high))
        return whole if all(map(math.isfinite, whole)) else (math.nan, math.nan)
    means = np.array([sum(group) / len(group) for group in groups])
    half = t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means))
    middle = sum(values) / len(values)
    return float(max(low, middle - half)), float(min(high, middle + half))


def rate_interval(values: Sequence[float], clusters: Sequence[str] | None) -> tuple[float, float]:
    """95 % interval of a rate: Wilson's where each row is a cluster of its own.

    Where rows share clusters it is the clustered interval (``mean_interval``), but never narrower
    than Wilson's over the rows; where all rows are alike, and resampling shows no spread, it is
    Wilson's over the clusters, as if each were one row.
    """
    count = int(sum(values))
    if clusters is None or len(set(clusters)) == len(values):
        return proportion_interval(count, len(values))
    if count in (0, len(values)):
        groups = len(set(clusters))
        return proportion_interval(groups if count else 0, groups)
    ends = zip(
        mean_interval(values, clusters, (0.0, 1.0)),
        proportion_interval(count, len(values)),
        strict=True,
    )
    (low, high) = (side(end) for side, end in zip((min, max), ends, strict=True))
    return low, high


def _grouped(values: Sequence[float], clusters: Sequence[str] | None) -> list[list[float]]:
    """The values of each cluster, in the order in which the clusters come up."""
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for index, value in enumerate(values):
        groups[index if clusters is None else clusters[index]].append(value)
    return list(groups.values())


def proportion_interval(successes: int, total: int, *, level: float = 0.95) -> tuple[float, float]:
    """Wilson score interval of a rate, which stays inside [0, 1] and does not collapse at 0 or 1.

    Wilson (1927), *Probable inference …*, JASA 22:209, by way of statsmodels.
    """
    from statsmodels.stats.proportion import proportion_confint

    if total == 0:
        return math.nan, math.nan
    low, high = proportion_confint(successes, total, alpha=1 - level, method="wilson")
    return float(low), float(high)


def summarize(
    values: Sequence[float | None],
    *,
    low: float | None,
    high: float | None,
    clusters: Sequence[str] | None = None,
    rate: bool = False,
) -> dict:
    """The mean of the rows that were scored, with all that has to stand beside it.

    Args:
        values: a score a row, None where the row has none.
        low, high: the ends of the scale, for the bounds; None where it has no end.
        clusters: the cluster of each row (see ``bootstrap_interval``).
        rate: values are 0 and 1 (``rate_interval``).

    Returns:
        ``mean`` (None where nothing was scored), ``n_scored``, ``n_total``, ``interval``
        [low, high] at 95 % (None where nothing was scored, or where one cluster stands alone on
        a scale without end), and ``bounds`` [low, high]: the mean if all missing rows were at
        the scale's one end or the other (equal to the mean where none is missing).
    """
    present = [index for index, value in enumerate(values) if value is not None]
    scored = [float(value) for value in values if value is not None]
    total, count = len(values), len(scored)
    groups = None if clusters is None else [clusters[index] for index in present]
    interval = (math.nan, math.nan)
    if count:
        interval = (
            rate_interval(scored, groups) if rate else mean_interval(scored, groups, (low, high))
        )
    missing = total - count
    return {
        "mean": sum(scored) / count if count else None,
        "n_scored": count,
        "n_total": total,
        "interval": None if any(map(math.isnan, interval)) else list(interval),
        "bounds": [
            None
            if not total or (missing and end is None)
            else (sum(scored) + missing * (end or 0)) / total
            for end in (low, high)
        ],
    }


def figure_interval(
    rows: Sequence[Any], figure: Callable[[list], float], clusters: Sequence[str]
) -> dict:
    """A figure of all rows, such as macro-F1, with its bootstrap interval over clusters.

    Args:
        figure: rows → the figure; it is computed anew for each of 1,000 resamples.

    Returns:
        ``value`` and ``interval`` [low, high] at 95 % (None below two clusters).
    """
    groups: dict[str, list] = defaultdict(list)
    for row, name in zip(rows, clusters, strict=True):
        groups[name].append(row)
    names = list(groups)
    value = float(figure(list(rows)))
    if len(names) < 2:
        return {"value": value, "interval": None}

    def of_places(places: np.ndarray) -> float:
        return figure([row for place in places for row in groups[names[int(place)]]])

    # scipy's bootstrap takes numbers only: it resamples the clusters' places.
    interval = _percentiles((np.arange(len(names)),), of_places, 0.95, 1_000, 42, vectorized=False)
    return {"value": value, "interval": list(interval)}


def paired_difference(
    before: dict[str, float],
    after: dict[str, float],
    clusters: dict[str, str] | None = None,
    *,
    scale: tuple[float, float | None],
) -> dict:
    """Difference of two models on the rows that both have a score for (after − before).

    Args:
        before, after: row id → score.
        clusters: row id → cluster.
        scale: the ends of the scores' scale; the upper one may be None.

    Returns:
        ``difference`` (None without common rows), ``interval`` (``mean_interval`` over
        the paired differences), ``n_pairs``, and ``tied``: whether the interval holds
        0 (None without common rows).
    """
    common = [key for key in before if key in after]
    if not common:
        return {"difference": None, "interval": None, "n_pairs": 0, "tied": None}
    differences = [after[key] - before[key] for key in common]
    groups = None if clusters is None else [clusters[key] for key in common]
    width = None if scale[1] is None else scale[1] - scale[0]
    low, high = mean_interval(differences, groups, (width and -width, width))
    known = not math.isnan(low)
    return {
        "difference": sum(differences) / len(differences),
        "interval": [low, high] if known else None,
        "n_pairs": len(common),
        "tied": low <= 0 <= high if known else None,
    }


def signed_rank(differences: Sequence[float], clusters: Sequence[str] | None = None) -> float:
    """Two-sided p of Wilcoxon's signed-rank test: are the differences centred on 0?

    Wilcoxon (1945), *Individual comparisons by ranking methods*, Biometrics 1:80, by way
    of scipy (exact where it can be; differences of 0 are left out, all of them 0 is p = 1).

    Args:
        differences: one number a pair, at least one.
        clusters: the cluster of each pair; a cluster enters once, with its mean.
    """
    from scipy.stats import wilcoxon

    # Rounded, or sums of floats that are equal on paper would get different ranks.
    means = [round(sum(group) / len(group), 9) for group in _grouped(differences, clusters)]
    return float(wilcoxon(means).pvalue) if any(means) else 1.0


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact p of McNemar's test.

    McNemar (1947), *Note on the sampling error of the difference between correlated
    proportions*, Psychometrika 12:153, by way of statsmodels.

    Args:
        gained, lost: pairs that went from no to yes, and from yes to no.
    """
    from statsmodels.stats.contingency_tables import mcnemar as test

    return min(1.0, float(test([[0, gained], [lost, 0]], exact=True).pvalue))


def holm(p_values: Sequence[float]) -> list[float]:
    """The p values corrected for their number (the chance of one false finding among all).

    Holm (1979), *A simple sequentially rejective multiple test procedure*, Scandinavian
    Journal of Statistics 6:65, by way of statsmodels.
    """
    from statsmodels.stats.multitest import multipletests

    return [float(p) for p in multipletests(p_values, method="holm")[1]] if p_values else []


def independent_difference(first: dict, second: dict) -> dict | None:
    """Difference of the means of two separate sets of rows (second − first).

    Args:
        first, second: what ``summarize`` gives.

    Returns:
        ``difference`` and its 95 % ``interval``, recovered from the two means'
        own intervals: Zou & Donner (2008), *Construction of confidence limits about
        effect measures*, Statistics in Medicine 27:1693, formula 4 (Newcombe's
        method 10 for rates). None where one of the two has no mean or no interval.
    """
    if not first["interval"] or not second["interval"]:
        return None
    gap = second["mean"] - first["mean"]
    down = math.hypot(second["mean"] - second["interval"][0], first["interval"][1] - first["mean"])
    up = math.hypot(second["interval"][1] - second["mean"], first["mean"] - first["interval"][0])
    return {"difference": gap, "interval": [gap - down, gap + up]}
