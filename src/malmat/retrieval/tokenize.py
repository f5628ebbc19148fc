"""Texts as the terms of a lexical index: morphemes, syllable bigrams, words as they are spaced."""

from __future__ import annotations

import re
from collections.abc import Callable

from malmat.errors import InputError
from malmat.retrieval import morphology

_WORD = re.compile(r"[가-힣]+|[^\W\d_가-힣]+|\d+(?:[.,]\d+)*")


def _bigrams(text: str) -> list[str]:
    """Each two neighbouring syllables of a word (one alone as it is), other words and numbers."""
    terms: list[str] = []
    for word in _WORD.findall(text):
        pairs = [word[place : place + 2] for place in range(len(word) - 1)]
        terms += pairs if pairs and "가" <= word[0] <= "힣" else [word]
    return terms


def _both(text: str) -> list[str]:
    # Marked, or a bigram would count as the noun of two syllables that it is spelt like.
    return morphology.morphemes(text) + [f"_{pair}" for pair in _bigrams(text)]


_TOKENIZERS: dict[str, Callable[[str], list[str]]] = {
    "kiwi": morphology.morphemes,
    "bigram": _bigrams,
    "kiwi+bigram": _both,
    "whitespace": str.split,
}

TOKENIZERS = tuple(_TOKENIZERS)


def terms_of(text: str, tokenizer: str) -> list[str]:
    """The terms of a text, in small letters and normal form (NFC, full width folded)."""
    return _TOKENIZERS[tokenizer](morphology.comparable(text))


def identity(tokenizer: str) -> dict:
    """What determines a tokenizer's terms, for the manifest of an index.

    Raises:
        InputError: no tokenizer of that name.
    """
    if tokenizer not in _TOKENIZERS:
        fix = f"One of {', '.join(TOKENIZERS)}."
        raise InputError(f"no tokenizer '{tokenizer}'", field="bm25", fix=fix)
    return {
        "tokenizer": tokenizer,
        "version": morphology.version() if "kiwi" in tokenizer else "1",
    }
