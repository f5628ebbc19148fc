"""How far two columns of verdicts agree: a judge's with the right ones, two raters' …

Intervals are percentile bootstraps over clusters (rows about one thing, ratings of one answer),
as in ``stats.py``; kappa and alpha have none below ten clusters, where it would be too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import numpy as np

from malmat.evaluate.stats import (
    FEWEST_FOR_BOOTSTRAP,
    cluster_bootstrap,
    rate_interval,
    summarize,
    sums_by_cluster,
)
from malmat.evaluate.task import Scale

Place = TypeVar("Place", bound=Hashable)


def agreement(
    scale: Scale,
    right: Mapping[Place, float | None],
    given: Mapping[Place, float | None],
    clusters: Mapping[Place, str],
) -> dict:
    """How far two columns of verdicts agree: judge and anchor, judge and rater, two raters.

    Args:
        scale: that both stand on.
        right: row → verdict. Rows without one here are no part of the comparison.
        given: row → verdict to be compared, None where it is missing. Joined by the row.
        clusters: row → what it is about.

    Returns:
        ``n_scored``, ``n_total``, ``kappa`` with ``interval`` (``weighted_kappa``: Cohen's where
        the scale is a rate), ``exact`` (the ``share`` that is alike, grades rounded), and of a
        rate ``precision`` and ``recall`` of 1, else ``error`` (given − right) and
        ``absolute_error`` (both as from ``stats.summarize``).
    """
    rows = {row: float(value) for row in given if (value := right.get(row)) is not None}
    scored = {row: float(value) for row in rows if (value := given[row]) is not None}
    names = [clusters[row] for row in scored]
    first, second = [rows[row] for row in scored], list(scored.values())
    figures = {
        "n_scored": len(scored),
        "n_total": len(rows),
        **weighted_kappa(first, second, names),
        "exact": share([_alike(scale, x, y) for x, y in zip(first, second, strict=True)], names),
    }
    if scale.kind == "rate":
        said = [(x, name) for x, y, name in zip(first, second, names, strict=True) if y]
        meant = [(y, name) for x, y, name in zip(first, second, names, strict=True) if x]
        return figures | {
            label: share([hit for hit, _ in part], [name for _, name in part])
            for label, part in (("precision", said), ("recall", meant))
        }
    width = None if scale.high is None else scale.high - scale.low
    errors = dict(zip(scored, np.subtract(second, first).tolist(), strict=True))
    values, about = [errors.get(row) for row in rows], [clusters[row] for row in rows]
    absolute = [None if error is None else abs(error) for error in values]
    return figures | {
        "error": summarize(values, low=width and -width, high=width, clusters=about),
        "absolute_error": summarize(absolute, low=0, high=width, clusters=about),
    }


def _alike(scale: Scale, first: float, second: float) -> bool:
    """Whether two values are nearest to one grade; on other scales, whether they are equal."""
    if scale.kind == "grade":
        return math.floor(first + 0.5) == math.floor(second + 0.5)
    return first == second


def share(hits: Sequence[float], clusters: Sequence[str]) -> dict:
    """The ``rate`` of hits, their ``count``, the ``total``, and the ``interval`` of the rate
    (``stats.rate_interval``); rate and interval are None where there is nothing to count."""
    count, total = int(sum(hits)), len(hits)
    return {
        "rate": count / total if total else None,
        "count": count,
        "total": total,
        "interval": list(rate_interval(hits, clusters)) if total else None,
    }


def text_of(figure: dict, name: str = "mean", sign: str = "") -> str:
    """A figure with its interval as people read it: ``0.83 [0.75, 0.89]``, ``5/8 = 0.62 […]``."""
    if "rate" in figure:
        name = "rate"
    if figure[name] is None:
        return "–"
    text = f"{figure['count']}/{figure['total']} = " if name == "rate" else ""
    text += f"{figure[name]:{sign}.2f}"
    if interval := figure["interval"]:
        text += f" [{interval[0]:{sign}.2f}, {interval[1]:{sign}.2f}]"
    return text


def weighted_kappa(
    first: Sequence[float],
    second: Sequence[float],
    clusters: Sequence[str] | None = None,
    *,
    seed: int = 42,
) -> dict:
    """Cohen's kappa with quadratic weights: 1 − mean (x − y)² ÷ what chance would give.

    Cohen (1968), *Weighted kappa*, Psychological Bulletin 70:213. With two categories it
    is the unweighted kappa. Scores need not be whole (a mean of several judgements): it is
    then Lin's concordance correlation (1989, Biometrics 45:255), of which the weighted
    kappa is the case of whole scores.

    Args:
        first, second: the two judges' scores, row by row.
        clusters: the cluster of each row; None takes each row as its own.

    Returns:
        ``kappa`` (None without rows, or where both gave one and the same score to all) and
        ``interval`` [low, high] at 95 % (None as above, or with too few clusters).
    """
    x, y = np.asarray(first, float), np.asarray(second, float)
    rows = np.stack([np.ones_like(x), x, y, x * x, y * y, x * y], axis=-1)
    return _with_interval("kappa", _kappa, sums_by_cluster(rows, clusters), seed)


def _kappa(sums: np.ndarray) -> np.ndarray:
    n, x, y, xx, yy, xy = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = (xx + yy - 2 * xy) / n
        expected = (xx + yy) / n - 2 * x * y / n**2
        return np.where(expected > 1e-12, 1 - observed / expected, np.nan)


def krippendorff_alpha(units: Sequence[Sequence[float]], *, seed: int = 42) -> dict:
    """Krippendorff's alpha of any number of raters, who need not all rate everything.

    With squared differences, which is the interval metric for grades and the nominal one
    for 0 and 1. Krippendorff (2011), *Computing Krippendorff's Alpha-Reliability*.

    Args:
        units: the ratings of each answer, in any order; fewer than two do not count.

    Returns:
        ``alpha`` (None where nothing was rated twice or all ratings are the same),
        ``interval`` as above, over answers, and ``n_units``, the answers rated twice.
    """
    rows = np.array(
        [
            [len(v), v.sum(), (v * v).sum(), 2 * (len(v) * (v * v).sum() - v.sum() ** 2) / m]
            for v in (np.asarray(unit, float) for unit in units)
            if (m := len(v) - 1) > 0
        ]
    ).reshape(-1, 4)
    return {**_with_interval("alpha", _alpha, rows, seed), "n_units": len(rows)}


def _alpha(sums: np.ndarray) -> np.ndarray:
    n, total, squares, within = np.moveaxis(sums, -1, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        observed = within / n
        expected = 2 * (n * squares - total**2) / (n * (n - 1))
        return np.where(expected > 1e-12, 1 - observed / expected, np.nan)


def _with_interval(
    name: str, statistic: Callable[[np.ndarray], np.ndarray], sums: np.ndarray, seed: int
) -> dict:
    value = float(statistic(sums.sum(0)))
    found = not np.isnan(value)
    interval = None
    if found and len(sums) >= FEWEST_FOR_BOOTSTRAP:
        interval = list(cluster_bootstrap(sums, statistic, resamples=2_000, seed=seed))
    return {name: value if found else None, "interval": interval}
