"""Rankings put together: by reciprocal ranks, or by points for ranks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from malmat.errors import InputError
from malmat.retrieval.leg import Ranking

DEPTH = 100
"""Ranks of each leg that count."""


@dataclass(frozen=True)
class Fusion:
    """How rankings are put together.

    Args:
        method: ``rrf``, reciprocal rank fusion (Cormack, Clarke & Büttcher 2009): 1 / (k + rank);
            ``points``: the depth's points for the first rank, one less for each below it.
        k: of rrf.
        alpha: the weight of the last ranking; the others share the rest. 0.5 of two is the
            published hybrid. None: all weigh the same.
    """

    method: Literal["rrf", "points"] = "rrf"
    k: int = 60
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.alpha is not None and not 0 <= self.alpha <= 1:
            raise InputError("not between 0 and 1", field="alpha")

    def weights(self, count: int) -> list[float]:
        """The weight of each of ``count`` rankings."""
        if self.alpha is None or count == 1:
            return [1 / count] * count
        return [(1 - self.alpha) / (count - 1)] * (count - 1) + [self.alpha]

    def fuse(self, rankings: Sequence[Ranking], depth: int = DEPTH) -> Ranking:
        """One ranking of several. A chunk that a ranking does not hold has no rank in it; one
        that ties with another stands where the first ranking has it, then by its number."""
        if len(rankings) == 1:
            return rankings[0][:depth]
        totals: dict[int, float] = defaultdict(float)
        for ranking, weight in zip(rankings, self.weights(len(rankings)), strict=True):
            for rank, (number, _) in enumerate(ranking[:depth], 1):
                points = 1 / (self.k + rank) if self.method == "rrf" else (depth - rank + 1) / depth
                totals[number] += weight * points
        first = {number: rank for rank, (number, _) in enumerate(rankings[0])}
        ordered = sorted(totals, key=lambda n: (-round(totals[n], 12), first.get(n, len(first)), n))
        return [(number, totals[number]) for number in ordered if totals[number] > 0]
