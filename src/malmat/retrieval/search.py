"""Contexts for questions: rankings of all legs and queries fused, thinned out, gated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random
from typing import Any

from malmat.errors import InputError
from malmat.retrieval.chunks import Chunk
from malmat.retrieval.fuse import DEPTH, Fusion
from malmat.retrieval.index import Index
from malmat.retrieval.leg import Leg, Ranking
from malmat.retrieval.morphology import morphemes
from malmat.text.duplicates import shingles, similarity


@dataclass(frozen=True)
class Choosing:
    """Which of the ranked chunks become contexts.

    Args:
        k: how many, at the most.
        diversity: ``none``; ``page``, the best chunk of each document; ``mmr``, maximal marginal
            relevance (Carbonell & Goldstein 1998) with the overlap of 3-grams for similarity.
        relevance: of mmr: 1 is the ranking as it is, 0 the most different ones.
    """

    k: int = 3
    diversity: str = "none"
    relevance: float = 0.7


@dataclass
class Searcher:
    """Searches an index.

    Args:
        legs: some of the index's own.
        gate: the least confidence of the first leg with which a question gets contexts.
    """

    index: Index
    legs: Sequence[Leg]
    fusion: Fusion = field(default_factory=Fusion)
    gate: float = 0.0

    def ranking(self, query: str) -> Ranking:
        """The chunks for one query, the best first.

        A query of stop words alone finds nothing, whatever vector it has.
        """
        if not morphemes(query):
            return []
        return self.fusion.fuse([leg.search(query, DEPTH) for leg in self.legs])

    def merged(self, queries: Sequence[str]) -> Ranking:
        """One ranking for several queries, by reciprocal ranks."""
        return Fusion().fuse([self.ranking(query) for query in queries])

    def chunks(self, queries: Sequence[str], choosing: Choosing) -> list[tuple[Chunk, float]]:
        """Up to k chunks with their scores: [] where the gate lets none through.

        Args:
            queries: the last is the question itself, which the gate judges.
        """
        if self.gate and self.legs[0].confidence(queries[-1]) < self.gate:
            return []
        return chosen(self.index, self.merged(queries), choosing)


def contexts(chunks: Iterable[tuple[Chunk, float | None]]) -> list[dict[str, Any]]:
    """Chunks as they are handed on: ``id, title, text, score``."""
    return [
        {
            "id": chunk.id,
            "title": chunk.title,
            "text": chunk.text,
            "score": None if score is None else round(score, 6),
        }
        for chunk, score in chunks
    ]


def right_chunks(index: Index, right: Iterable[str], k: int) -> list[tuple[Chunk, None]]:
    """Up to k chunks of what is right."""
    return [(index.chunk(number), None) for number in index.numbers_of(right)[:k]]


def random_chunks(
    index: Index, right: Iterable[str], k: int, draw: Random
) -> list[tuple[Chunk, None]]:
    """Up to k chunks of what is not right."""
    others = set(index.numbers_of(right))
    drawn = draw.sample(range(len(index)), min(len(index), k + len(others)))
    return [(index.chunk(number), None) for number in drawn if number not in others][:k]


def chosen(index: Index, ranking: Ranking, choosing: Choosing) -> list[tuple[Chunk, float]]:
    """Up to k chunks of a ranking, with their scores."""
    if choosing.diversity == "none":
        return [(index.chunk(number), score) for number, score in ranking[: choosing.k]]
    found = [(index.chunk(number), score) for number, score in ranking]
    if choosing.diversity == "page":
        best: dict[str, tuple[Chunk, float]] = {}
        for chunk, score in found:
            best.setdefault(chunk.document, (chunk, score))
        return list(best.values())[: choosing.k]
    return _mmr(found, choosing)


def _mmr(found: list[tuple[Chunk, float]], choosing: Choosing) -> list[tuple[Chunk, float]]:
    """The chunk that weighs most, one after the other: its score against what is taken."""
    grams = [shingles(chunk.text) for chunk, _ in found]
    highest = found[0][1] if found else 1.0
    taken: list[int] = []
    nearest = [0.0] * len(found)
    while len(taken) < min(choosing.k, len(found)):
        place = max(
            (place for place in range(len(found)) if place not in taken),
            key=lambda p: (
                choosing.relevance * found[p][1] / highest - (1 - choosing.relevance) * nearest[p]
            ),
        )
        taken.append(place)
        nearest = [
            max(old, similarity(grams[place], own)) for old, own in zip(nearest, grams, strict=True)
        ]
    return [found[place] for place in taken]


def fit_gate(confidences: Sequence[float], answerable: Sequence[bool]) -> dict[str, float]:
    """The least confidence that best tells questions with a right context from those without.

    It maximizes Youden's J (1950), the share of the former that pass plus that of the latter that
    do not, less 1; of equal ones the lowest, which takes away least.

    Args:
        answerable: whether the right passage is among the contexts that a question would get.

    Returns:
        ``threshold, passing`` (share of the answerable), ``stopped`` (share of the others),
        ``n_answerable, n_others``.

    Raises:
        InputError: all questions are of one kind, and there is nothing to tell apart.
    """
    yes = [value for value, good in zip(confidences, answerable, strict=True) if good]
    no = [value for value, good in zip(confidences, answerable, strict=True) if not good]
    if not yes or not no:
        fix = "Give questions with a right passage in the corpus, and some without."
        raise InputError("nothing to fit a gate on", field="fit_gate", fix=fix)

    def shares(threshold: float) -> tuple[float, float]:
        passing = sum(value >= threshold for value in yes) / len(yes)
        return passing, sum(value < threshold for value in no) / len(no)

    values = sorted({*confidences})
    # Between two values, so that a rounded one falls on the same side.
    cuts = [0.0, *((low + high) / 2 for low, high in pairwise(values))]
    threshold = max(cuts, key=lambda cut: (round(sum(shares(cut)), 9), -cut))
    passing, stopped = shares(threshold)
    counts = {"n_answerable": len(yes), "n_others": len(no)}
    return {"threshold": threshold, "passing": passing, "stopped": stopped, **counts}
