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

_NOUNS = ("NNG", "NNP")

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


def comparable(text: str) -> str:
    """The text as it is indexed: folded, in small letters."""
    return fold(valid_text(text)).lower()


def sentence_ends(text: str) -> list[int]:
    """Where sentences end inside a text of up to ``LONGEST`` characters, the last left out."""
    return [sentence.end for sentence in _kiwi().split_into_sents(text)][:-1]


def morphemes(text: str) -> list[str]:
    """The content words of a text, in normal form and small letters.

    Nouns, roots, foreign words and numbers stay as they are, verbs and adjectives become their
    lemma. A compound gives its nouns and itself, whether or not the dictionary has it. Words that
    Kiwi does not know are nouns to it.
    """
    return [word for part in _parts(comparable(text)) for word in _content(_kiwi().tokenize(part))]


def _parts(text: str) -> Iterator[str]:
    """The text in parts of up to ``LONGEST`` characters, cut at blanks where there are some."""
    yield from re.findall(rf".{{1,{LONGEST}}}(?=\s|$)|.{{1,{LONGEST}}}", text, re.DOTALL)


def _content(tokens: list) -> Iterator[str]:
    nouns: list[Any] = []  # of one word
    for token in tokens:
        if nouns and not (token.tag in _NOUNS and token.start == nouns[-1].end):
            yield from _joined(nouns)
            nouns = []
        if not token.tag.startswith(_CONTENT):
            continue
        if token.tag[0] == "V":
            if token.form not in _LIGHT:
                yield token.form + "다"
            continue
        yield token.form.lower().lstrip("#")
        if token.tag in _NOUNS:
            yield from _inside(token.form)
            nouns.append(token)
    yield from _joined(nouns)


def _joined(nouns: list) -> Iterator[str]:
    if len(nouns) > 1:
        yield "".join(noun.form for noun in nouns)


@functools.lru_cache(maxsize=100_000)
def _inside(noun: str) -> tuple[str, ...]:
    """The nouns that a compound of the dictionary is made of (조선어학회: 조선어, 학회).

    Parts of one syllable are left alone: 텔레비전 is no 텔레비 with a 전.
    """
    if len(noun) < 4:
        return ()
    parts = _kiwi().tokenize(noun, blocklist=[(noun, tag) for tag in _NOUNS])
    whole = len(parts) > 1 and all(p.tag in _NOUNS and len(p.form) > 1 for p in parts)
    return tuple(part.form for part in parts) if whole else ()
