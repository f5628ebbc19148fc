"""BM25 by bm25s over the terms of a tokenizer.

bm25s (Lù 2024, arXiv:2407.03618) computes all scores when it indexes, by Lucene's formula (k1 1.5,
b 0.75). It raises where k is larger than the corpus or no text has a term, and gives documents
with the score 0 for a query that has none: ``Leg`` gives what there is instead.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from malmat.errors import InputError
from malmat.files import read_json, write_json
from malmat.retrieval.leg import Leg
from malmat.retrieval.parts import in_parts
from malmat.retrieval.processes import mapped
from malmat.retrieval.tokenize import identity, terms_of

__all__ = ["Bm25", "build", "identity"]


def build(name: str, texts: list[str], work: Path, folder: Path, processes: int = 1) -> None:
    """Index texts into ``folder``.

    Args:
        name: of the tokenizer.
        work: a folder for what a killed run leaves.

    Raises:
        InputError: no text has a term.
    """
    import bm25s

    def compute(some: list[str]) -> Any:
        return mapped(partial(terms_of, tokenizer=name), ((text,) for text in some), processes)

    vocabulary: dict[str, int] = {}
    ids: list[list[int]] = []
    for path in in_parts(work, texts, compute, write_json):
        for terms in read_json(path):
            ids.append([vocabulary.setdefault(term, len(vocabulary)) for term in terms])
    if not vocabulary:
        problem = f"no chunk has a word that '{name}' indexes"
        raise InputError(problem, field="bm25", fix="Give a corpus with words.")
    index = bm25s.BM25()
    index.index((ids, vocabulary), show_progress=False)
    index.save(folder, show_progress=False)


class Bm25(Leg):
    """A lexical leg, mapped from its folder.

    Args:
        name: of the tokenizer.
    """

    def __init__(self, name: str, folder: Path):
        import bm25s

        self.name = name
        self._index = bm25s.BM25.load(folder, mmap=True, show_progress=False)

    def scores(self, query: str) -> np.ndarray:
        return self.scores_of(terms_of(query, self.name))

    def scores_of(self, terms: list[str]) -> np.ndarray:
        """As ``scores``, of a query's terms."""
        ids = self._index.get_tokens_ids(terms)
        if not ids:
            return np.zeros(self._index.scores["num_docs"], np.float32)
        return self._index.get_scores_from_ids(ids)

    def confidence(self, query: str) -> float:
        """The best chunk's share of what the query's terms could score, each at its best.

        A term that no chunk has counts as the rarest would: its weight is known to be missing.
        """
        terms = terms_of(query, self.name)
        ids = self._index.get_tokens_ids(terms)
        data, starts = (self._index.scores[name] for name in ("data", "indptr"))
        most = sum(float(data[starts[i] : starts[i + 1]].max(initial=0.0)) for i in ids)
        rarest = math.log(1 + (self._index.scores["num_docs"] + 0.5) / 0.5)
        possible = most + (len(terms) - len(ids)) * rarest
        best = float(self.scores_of(terms).max(initial=0.0))
        return best / possible if possible else 0.0
