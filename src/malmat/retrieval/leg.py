"""A leg: one way to rank the chunks of an index for a query. Fusion puts several together."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

Ranking = list[tuple[int, float]]
"""(chunk number, score), the best first. A chunk without a score stands in none."""


class Leg(ABC):
    """Ranks chunks by ``scores``.

    Args:
        name: of its tokenizer or model.
    """

    name: str

    @abstractmethod
    def scores(self, query: str) -> np.ndarray:
        """(chunks,): 0 or less where a chunk has nothing of the query."""

    def search(self, query: str, k: int) -> Ranking:
        """Up to ``k`` chunks with a score above 0."""
        return best(self.scores(query), k)

    def confidence(self, query: str) -> float:
        """0 to 1: how well the best chunk fits, comparable between queries, for a gate."""
        return max(0.0, float(self.scores(query).max(initial=0.0)))


def best(scores: np.ndarray, k: int) -> Ranking:
    """The ``k`` highest scores above 0, ties in the chunks' order."""
    numbers = np.flatnonzero(scores > 0)
    if len(numbers) > k:
        # All that tie with the k-th, or which of them stay would be up to the partition.
        least = np.partition(scores[numbers], len(numbers) - k)[len(numbers) - k]
        numbers = numbers[scores[numbers] >= least]
    order = numbers[np.argsort(-scores[numbers], kind="stable")][:k]
    return [(int(number), float(scores[number])) for number in order]
