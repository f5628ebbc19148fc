"""Figures of answers that are one of a few classes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence

from malmat.evaluate.task import Row


def macro_f1(rows: Sequence[Row], classes: Collection[str] | None = None) -> float:
    """The mean over classes of F1 = 2 tp / (2 tp + fp + fn), 0 for one that never occurs.

    As scikit-learn's ``f1_score(average="macro", labels=classes, zero_division=0)``.

    Args:
        rows: each with ``target`` and ``answer``.
        classes: over which the mean is taken, whether they occur or not; None: those that are a
            target or an answer.
    """
    pairs = [(str(row["target"]), str(row["answer"])) for row in rows]
    right = Counter(target for target, answer in pairs if target == answer)
    seen = Counter(target for target, _ in pairs) + Counter(answer for _, answer in pairs)
    counted = seen if classes is None else classes
    scores = [2 * right[one] / seen[one] if seen[one] else 0.0 for one in counted]
    return sum(scores) / len(scores)
