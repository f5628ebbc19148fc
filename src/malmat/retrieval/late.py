"""Late interaction: a vector a token, by PyLate if it is installed (ColBERT-like: KURE-v2).

The score of a chunk is the sum, over the query's tokens, of the most similar token in the chunk
(MaxSim; Khattab & Zaharia 2020, arXiv:2004.12832), computed for every chunk.
"""

from __future__ import annotations

import functools
import importlib.metadata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from malmat.errors import InputError
from malmat.journal import valid_text
from malmat.lm.hub import check_hub
from malmat.retrieval.leg import Leg
from malmat.retrieval.parts import in_parts, joined, save_array, save_rows
from malmat.text.korean import normalize

BATCH = 32


def identity(name: str) -> dict:
    """As ``dense.identity``."""
    try:
        version = importlib.metadata.version("pylate")
    except importlib.metadata.PackageNotFoundError:
        raise InputError(
            f"'{name}' needs pylate", field="late", fix="pip install pylate."
        ) from None
    return {"model": name, "version": f"pylate {version}"}


@functools.cache
def _model(name: str) -> Any:
    from pylate import models

    check_hub(name, "late")
    return models.ColBERT(model_name_or_path=name)


def _encode(name: str, texts: list[str], *, is_query: bool) -> list[np.ndarray]:
    """For each text (tokens, dimensions), each vector of length 1."""
    texts = [normalize(valid_text(text)) for text in texts]
    vectors = _model(name).encode(texts, is_query=is_query, show_progress_bar=False)
    return [np.asarray(array, np.float32) for array in vectors]


def build(name: str, texts: list[str], work: Path, folder: Path, processes: int = 1) -> None:
    """Write the tokens' vectors of texts into ``folder``. See ``bm25.build``."""

    def compute(some: list[str]) -> Iterator[np.ndarray]:
        for start in range(0, len(some), BATCH):
            yield from _encode(name, some[start : start + BATCH], is_query=False)

    def save(path: Path, arrays: list[np.ndarray]) -> None:
        save_array(path.with_suffix(".lengths"), np.array([len(array) for array in arrays]))
        save_rows(path, arrays)

    folder.mkdir(parents=True)
    parts = in_parts(work, texts, compute, save)
    joined(parts, folder / "vectors.npy")
    lengths = np.concatenate([np.load(path.with_suffix(".lengths")) for path in parts])
    save_array(folder / "starts.npy", np.concatenate([[0], np.cumsum(lengths)[:-1]]))


class Late(Leg):
    """A leg of late interaction, mapped from its folder.

    Args:
        name: of the model.
    """

    def __init__(self, name: str, folder: Path):
        self.name = name
        self._vectors = np.load(folder / "vectors.npy", mmap_mode="r")
        self._starts = np.load(folder / "starts.npy")

    def scores(self, query: str) -> np.ndarray:
        tokens = _encode(self.name, [query], is_query=True)[0]
        similar = self._vectors @ tokens.T  # (tokens of all chunks, tokens of the query)
        return np.maximum.reduceat(similar, self._starts, axis=0).sum(axis=1)

    def confidence(self, query: str) -> float:
        """The mean over the query's tokens."""
        tokens = len(_encode(self.name, [query], is_query=True)[0])
        return super().confidence(query) / tokens
