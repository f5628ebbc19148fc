"""What the plots of the report stand on: axes with round ends, and histograms."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

from malmat.evaluate.results import Run
from malmat.evaluate.task import Scale


def axis(scale: Scale, summaries: list[dict]) -> dict:
    """``{low, high, ticks}``: the scale's own, or what holds the data where it has no end."""
    if scale.high is not None:
        return {"low": scale.low, "high": scale.high, "ticks": scale.ticks}
    ends = [end for one in summaries for end in [one["mean"], *(one["interval"] or ())]]
    ends = [end for end in ends if end is not None] or [scale.low, scale.low + 1]
    step = round_up(max(max(ends) - min(ends), 0.1) / 4)
    low = max(scale.low, math.floor(min(ends) / step) * step)
    count = max(1, math.ceil(round((max(ends) - low) / step, 9)))
    ticks = [round(low + step * place, 9) for place in range(count + 1)]
    return {"low": low, "high": ticks[-1], "ticks": ticks}


def round_up(value: float) -> float:
    """The first of 1, 2, 5, 10, 20 … (and 0.1, 0.05 …) that is not below ``value``."""
    power = 10 ** math.floor(math.log10(value))
    return next(s * power for s in (1, 2, 5, 10) if s * power >= value - 1e-9)


def round_limit(gaps: list[dict], widest: float) -> float:
    """A symmetric axis for differences: the first of 0.1, 0.2, 0.5, 1 … that holds them all.

    Args:
        widest: the largest difference that the scale allows; infinite where it has no end.
    """
    fallback = widest if math.isfinite(widest) else 1.0
    reach = max((abs(end) for gap in gaps for end in gap["interval"] or ()), default=fallback)
    return min(widest, round_up(max(reach, 0.1)))


def distributions(runs: list[Run]) -> dict | None:
    """Histograms, one a model: of values, or of terms an answer where the scorer names them.

    Returns:
        ``{of, figures: [{name, n, bars: [{label, count, share, height}]}]}``; ``height`` is the
        share against the largest of all models. None where there is nothing to count, or where
        a rate says it all.
    """
    good = {run.model: [r for r in run.rows.values() if r["status"] == "ok"] for run in runs}
    named = any(row.get("terms") for rows in good.values() for row in rows)
    values = {
        name: [min(3, len(row.get("terms") or [])) if named else row["value"] for row in rows]
        for name, rows in good.items()
    }
    everything = [value for some in values.values() for value in some]
    scale = runs[0].task.scale
    if not everything or (scale.kind == "rate" and not named):
        return None
    bins: list[tuple[float, str]] = [(0, "0"), (1, "1"), (2, "2"), (3, "3+")]
    if not named:
        bins = [(start, f"{start:g}") for start in bin_starts(scale, everything)]
    figures: list[dict[str, Any]] = []
    for name, some in values.items():
        count = Counter(max(s for s, _ in bins if s <= value + 1e-9) for value in some)
        bars = [
            {"label": text, "count": count[start], "share": count[start] / max(1, len(some))}
            for start, text in bins
        ]
        figures.append({"name": name, "n": len(some), "bars": bars})
    every = [bar for figure in figures for bar in figure["bars"]]
    most = max(bar["share"] for bar in every)
    for bar in every:
        bar["height"] = bar["share"] / most
    return {"of": "Terms an answer" if named else "Values", "figures": figures}


def bin_starts(scale: Scale, values: list[float]) -> list[float]:
    """Where the bins of a histogram begin; the last one holds the scale's upper end too.

    Whole grades where all are whole, else half ones; tenths of a share; about eight round steps
    of a loss.
    """
    if scale.high is not None:
        if scale.kind == "grade" and all(value == int(value) for value in values):
            return [scale.low + place for place in range(round(scale.high - scale.low) + 1)]
        step = 0.5 if scale.kind == "grade" else (scale.high - scale.low) / 10
        count = round((scale.high - scale.low) / step)
        return [round(scale.low + step * place, 9) for place in range(count)]
    step = round_up(max(max(values) - min(values), 0.1) / 8)
    first, last = (math.floor(end / step) for end in (min(values), max(values)))
    return [round(step * place, 9) for place in range(first, last + 1)]
