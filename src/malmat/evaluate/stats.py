"""Intervals, bounds and paired tests: a mean is never shown without them.

Percentile bootstrap as in Efron & Tibshirani (1993), *An Introduction to the
Bootstrap*, ch. 13; resampled by cluster (here: by slang term) where rows of one
term are not independent. Seeded, so that a figure is the same at every run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np


def bootstrap_interval(
    values: Sequence[float],
    clusters: Sequence[str] | None = None,
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 42,
) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean.

    Args:
        values: one number a row.
        clusters: the cluster of each row; None takes each row as its own.

    Returns:
        (low, high); (nan, nan) with fewer than two clusters, where the data say
        nothing about spread.
    """
    groups: dict[str, list[float]] = defaultdict(list)
    for index, value in enumerate(values):
        groups[str(index) if clusters is None else clusters[index]].append(value)
    if len(groups) < 2:
        return math.nan, math.nan
    sums = np.array([sum(group) for group in groups.values()])
    sizes = np.array([len(group) for group in groups.values()])
    generator = np.random.default_rng(seed)
    block = max(1, 2_000_000 // len(groups))  # draws are made in blocks, to keep memory flat
    means = np.concatenate(
        [
            sums[draws].sum(1) / sizes[draws].sum(1)
            for start in range(0, resamples, block)
            for draws in [
                generator.integers(0, len(groups), (min(block, resamples - start), len(groups)))
            ]
        ]
    )
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


FEWEST_FOR_BOOTSTRAP = 10


def mean_interval(
    values: Sequence[float], clusters: Sequence[str] | None, limits: tuple[float, float]
) -> tuple[float, float]:
    """95 % interval of a mean that stays honest with few rows.

    From 10 clusters on the bootstrap; below, where a bootstrap is too narrow,
    Student's t over the clusters' means, cut at the scale's ends; below two, where
    the data say nothing about spread, the whole scale.

    Args:
        limits: the ends of the scale that the mean lives on.
    """
    from scipy.stats import t

    groups: dict[str, list[float]] = defaultdict(list)
    for index, value in enumerate(values):
        groups[str(index) if clusters is None else clusters[index]].append(value)
    if len(groups) >= FEWEST_FOR_BOOTSTRAP:
        return bootstrap_interval(values, clusters)
    if len(groups) < 2:
        return float(limits[0]), float(limits[1])
    means = np.array([sum(group) / len(group) for group in groups.values()])
    half = t.ppf(0.975, len(means) - 1) * means.std(ddof=1) / math.sqrt(len(means))
    middle = sum(values) / len(values)
    return max(float(limits[0]), middle - half), min(float(limits[1]), middle + half)


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
    worst: float,
    best: float,
    clusters: Sequence[str] | None = None,
    rate: bool = False,
) -> dict:
    """The mean of the rows that were scored, with all that has to stand beside it.

    Args:
        values: a score a row, None where the row has none.
        worst, best: ends of the scale, for the bounds.
        clusters: the cluster of each row (see ``bootstrap_interval``).
        rate: values are 0 and 1; the interval is Wilson's.

    Returns:
        ``mean`` (None where nothing was scored), ``n_scored``, ``n_total``,
        ``interval`` [low, high] at 95 %, and ``bounds`` [low, high]: the
        mean if all missing rows were worst or best (equal to the mean where none
        is missing). The interval is None only where nothing was scored.
    """
    present = [index for index, value in enumerate(values) if value is not None]
    scored = [float(values[index]) for index in present]
    total, count = len(values), len(scored)
    if rate:
        interval = proportion_interval(int(sum(scored)), count)
    else:
        groups = None if clusters is None else [clusters[index] for index in present]
        interval = mean_interval(scored, groups, (worst, best)) if count else (math.nan, math.nan)
    missing = total - count
    return {
        "mean": sum(scored) / count if count else None,
        "n_scored": count,
        "n_total": total,
        "interval": None if any(map(math.isnan, interval)) else list(interval),
        "bounds": [
            (sum(scored) + missing * worst) / total if total else None,
            (sum(scored) + missing * best) / total if total else None,
        ],
    }


def paired_difference(
    before: dict[str, float],
    after: dict[str, float],
    clusters: dict[str, str] | None = None,
    *,
    scale: tuple[float, float],
) -> dict:
    """Difference of two models on the rows that both have a score for (after − before).

    Args:
        before, after: row id → score.
        clusters: row id → cluster.
        scale: the ends of the scores' scale.

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
    width = scale[1] - scale[0]
    low, high = mean_interval(differences, groups, (-width, width))
    return {
        "difference": sum(differences) / len(differences),
        "interval": [low, high],
        "n_pairs": len(common),
        "tied": low <= 0 <= high,
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

    groups: dict[str, list[float]] = defaultdict(list)
    for index, value in enumerate(differences):
        groups[str(index) if clusters is None else clusters[index]].append(value)
    # Rounded, or sums of floats that are equal on paper would get different ranks.
    means = [round(sum(group) / len(group), 9) for group in groups.values()]
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
        method 10 for rates). None where one of the two has no mean.
    """
    if first["mean"] is None or second["mean"] is None:
        return None
    gap = second["mean"] - first["mean"]
    down = math.hypot(second["mean"] - second["interval"][0], first["interval"][1] - first["mean"])
    up = math.hypot(second["interval"][1] - second["mean"], first["mean"] - first["interval"][0])
    return {"difference": gap, "interval": [gap - down, gap + up]}
