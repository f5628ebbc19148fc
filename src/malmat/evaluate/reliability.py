"""Calibration of choices: is a model right as often as it says it is?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from malmat.evaluate.stats import proportion_interval
from malmat.evaluate.task import Row

BINS = 10
"""Intervals of equal width into which the probability of the picked choice falls."""


def reliability(rows: Sequence[Row], bins: int = BINS) -> list[dict[str, Any]]:
    """The rows by the probability of the choice that was picked.

    Args:
        rows: with ``target``, ``answer``, ``choices`` and ``probabilities``; others are left out.

    Returns:
        For each interval that holds rows ``low, high, n``, the mean ``confidence`` and
        ``accuracy`` with its 95 % ``interval`` (Wilson's).
    """
    found: dict[int, list[tuple[float, bool]]] = {}
    for row in rows:
        if row["status"] != "ok" or row.get("target") is None or not row.get("probabilities"):
            continue
        sure = row["probabilities"][row["choices"].index(row["answer"])]
        place = min(int(sure * bins), bins - 1)
        found.setdefault(place, []).append((sure, row["answer"] == row["target"]))
    lines = []
    for place, pairs in sorted(found.items()):
        right = sum(hit for _, hit in pairs)
        lines.append(
            {
                "low": place / bins,
                "high": (place + 1) / bins,
                "n": len(pairs),
                "confidence": sum(sure for sure, _ in pairs) / len(pairs),
                "accuracy": right / len(pairs),
                "interval": list(proportion_interval(right, len(pairs))),
            }
        )
    return lines


def calibration_error(lines: Sequence[dict[str, Any]]) -> float | None:
    """The expected calibration error of ``reliability``'s lines; None without any.

    The mean gap of confidence and accuracy, weighted by rows: Guo et al. (2017), *On Calibration
    of Modern Neural Networks*, formula 3.
    """
    if not (total := sum(line["n"] for line in lines)):
        return None
    return sum(line["n"] * abs(line["confidence"] - line["accuracy"]) for line in lines) / total
