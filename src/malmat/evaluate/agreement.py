"""How far a judge agrees with the right verdicts, and raters with one another.

Intervals are percentile bootstraps over clusters (rows of one slang term, ratings of one
answer), as in ``stats.py``; there is none below ten clusters, where it would be too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from malmat.evaluate.stats import (
    FEWEST_FOR_BOOTSTRAP,
    cluster_bootstrap,
    proportion_interval,
    rate_interval,
    summarize,
    sums_by_cluster,
)


def of_scores(
    right: Sequence[float], given: Sequence[float | None], clusters: Sequence[str]
) -> dict:
    """Scores of 1–5 against the right grades.

    Args:
        right: the grades, row by row.
        given: the judge's scores, None where a row has none.
        clusters: the term of each row.

    Returns:
        ``n_scored``, ``n_total``, ``kappa`` with ``interval`` (``weighted_kappa``),
        ``exact`` (share of scores that round to the grade; interval: the wider of Wilson's and
        the one over clusters), ``error`` (given − right) and
        ``absolute_error`` (both as from ``stats.summarize``).
    """
    pairs = [(r, g, c) for r, g, c in zip(right, given, clusters, strict=True) if g is not None]
    errors = [None if g is None else g - r for r, g in zip(right, given, strict=True)]
    absolute = [None if error is None else abs(error) for error in errors]
    hits = [
        None if g is None else float(math.floor(g + 0.5) == math.floor(r + 0.5))
        for r, g in zip(right, given, strict=True)
    ]
    exact = share(int(sum(hit or 0 for hit in hits)), len(pairs))
    if pairs:
        scored = [hit for hit in hits if hit is not None]
        exact["interval"] = list(rate_interval(scored, [c for _, _, c in pairs]))
    return {
        "n_scored": len(pairs),
        "n_total": len(errors),
        **weighted_kappa(*_columns(pairs)),
        "exact": exact,
        "error": summarize(errors, low=-4, high=4, clusters=clusters),
        "absolute_error": summarize(absolute, low=0, high=4, clusters=clusters),
    }


def of_verdicts(
    right: Sequence[bool], given: Sequence[bool | None], clusters: Sequence[str]
) -> dict:
    """True/false verdicts against the right ones; arguments as in ``of_scores``.

    Returns:
        ``n_scored``, ``n_total``, ``kappa`` with ``interval`` (Cohen's), and as from
        ``share``: ``exact``, ``precision`` and ``recall`` of true.
    """
    pairs = [(r, g, c) for r, g, c in zip(right, given, clusters, strict=True) if g is not None]
    both = sum(r and g for r, g, _ in pairs)
    return {
        "n_scored": len(pairs),
        "n_total": len(right),
        **weighted_kappa(*_columns(pairs)),
        "exact": share(sum(r == g for r, g, _ in pairs), len(pairs)),
        "precision": share(both, sum(g for _, g, _ in pairs)),
        "recall": share(both, sum(r for r, _, _ in pairs)),
    }


def _columns(pairs: list[tuple]) -> tuple:
    return tuple(zip(*pairs, strict=True)) or ((), (), ())


def share(count: int, total: int) -> dict:
    """``count/total`` as ``rate`` with its Wilson ``interval``; None where the total is 0."""
    return {
        "rate": count / total if total else None,
        "count": count,
        "total": total,
        "interval": list(proportion_interval(count, total)) if total else None,
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
