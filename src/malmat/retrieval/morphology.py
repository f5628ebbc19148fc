"""Kiwi, for indexing: the content words of a text, and where its sentences end."""

from __future__ import annotations

import functools
import importlib.metadata
import re
from collections.abc import Iterator
from typing import Any

from malmat.journal import valid_text
from malmat.text.korean import fold

LONGEST = 2_000
"""Characters that Kiwi is given at a time: its memory grows with the text, and 40,000 syllables
without a blank are one word to it."""

_CONTENT = ("NNG", "NNP", "NR", "VV", "VA", "XR", "SL", "SH", "SN", "W_")

_LIGHT = {"하", "되", "있", "없", "않", "같", "말", "싶", "보", "이르"}
"""Verbs that stand in any text."""


def version() -> str:
    """Which analysis this is: Kiwi's version, its model's, and that of the rules below."""
    names = ("kiwipiepy", "kiwipiepy_model")
    return "+".join([*map(importlib.metadata.version, names), "rules1"])


@functools.cache
def _kiwi() -> Any:
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


def sentence_ends(text: str) -> list[int]:
    """Where sentences end inside a text of up to ``LONGEST`` characters, the last left out."""
    return [sentence.end for sentence in _kiwi().split_into_sents(text)][:-1]


def morphemes(text: str) -> list[str]:
    """The content words of a text, in normal form and small letters.

    Nouns, roots, foreign words and numbers stay as they are, verbs and adjectives become their
    lemma. Nouns that are written as one word give this word, too. Kiwi takes words that it does
    not know for nouns.
    """
    plain = fold(valid_text(text)).lower()
    return [word for part in _parts(plain) for word in _content(_kiwi().tokenize(part))]


def _parts(text: str) -> Iterator[str]:
    """The text in parts of up to ``LONGEST`` characters, cut at blanks where there are some."""
    yield from re.findall(rf".{{1,{LONGEST}}}(?=\s|$)|.{{1,{LONGEST}}}", text, re.DOTALL)


def _content(tokens: list) -> Iterator[str]:
    nouns: list[Any] = []
    for token in tokens:
        if nouns and not (token.tag[:2] == "NN" and token.start == nouns[-1].end):
            yield from _compound(nouns)
            nouns = []
        if not token.tag.startswith(_CONTENT):
            continue
        if token.tag[0] == "V":
            if token.form not in _LIGHT:
                yield token.form + "다"
            continue
        yield token.form.lower().lstrip("#")
        if token.tag[:2] == "NN":
            nouns.append(token)
    yield from _compound(nouns)


def _compound(nouns: list) -> Iterator[str]:
    if len(nouns) > 1:
        yield "".join(noun.form for noun in nouns)
