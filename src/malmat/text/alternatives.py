"""Whether a text could be one of the answers that count, though it is not written like one.

For answers that are to be wrong: what is equal to an accepted answer, holds one, is a part of one
or a spelling of one is refused, so that what is left differs from all of them in substance. It
errs on the side of refusing. A synonym that the alternatives do not list is beyond it.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from malmat.evaluate.korean_metrics import relaxed, relaxed_form
from malmat.text.duplicates import THRESHOLD, shingles, similarity
from malmat.text.korean import fold

IS, HOLDS, PART, SPELLING, NEARLY = (
    "is an accepted answer",
    "holds an accepted answer",
    "is a part of an accepted answer",
    "is a spelling of an accepted answer",
    "is nearly an accepted answer",
)

JAMO = 0.2
"""Share of a word's jamo (but always one) in which another spelling may differ: 강강수월래 and
강강술래 differ in two of thirteen."""

_SHORT_WORD = 2
"""Syllables up to which two words of the dictionary are two words, however alike: 백자, 백제."""

_UNKNOWN = (2, 3)
"""Kiwi's ids of morphemes that its dictionary does not have."""

_PARAGRAPH = 60
"""Characters from which a text is compared by its 3-grams, and not as a word."""


def _sounds(*words: str) -> dict[int, str]:
    """Each word's first jamo → the second word's, at the beginning and at the end of a syllable."""
    table = {}
    for pair in words:
        for one, other in zip(*(unicodedata.normalize("NFD", c) for c in pair), strict=True):
            table[ord(one)] = other
    return table


_CONFUSED = _sounds(
    "까가", "따다", "빠바", "싸사", "짜자", "애에", "얘예", "왜외", "웨외", "깎각", "있잇"
)
"""Jamo that are written for each other (떡볶이, 떡뽁이; 찌개, 찌게) → the one that both become."""


class Alternatives:
    """The answers that count.

    Args:
        answers: all of them, as published.
    """

    def __init__(self, answers: Iterable[str]):
        self.answers = list(answers)
        self._forms = [form for one in self.answers if (form := relaxed_form(one))]

    def reason(self, text: str) -> str | None:
        """Why ``text`` may be right, or None where it differs from all answers in substance."""
        form = relaxed_form(text)
        if not form:
            return None
        if form in self._forms or relaxed({"answer": text, "target": self.answers})["value"]:
            return IS
        if any(_holds(text, form, one) for one in self._forms):
            return HOLDS
        if any(len(form) > 1 and form in one for one in self._forms):
            return PART
        if len(form) >= _PARAGRAPH:
            grams = shingles(text)
            near = any(similarity(grams, shingles(one)) >= THRESHOLD for one in self.answers)
            return NEARLY if near else None
        if any(is_spelling(text, one) for one in self.answers):
            return SPELLING
        return None


def _holds(text: str, form: str, answer: str) -> bool:
    """Whether a text holds an answer; one of one syllable as a word: 김 in 김을, not in 김치."""
    if len(answer) > 1:
        return answer in form
    return any(token.form.casefold() == answer for token in _tokens(text))


def is_spelling(one: str, other: str) -> bool:
    """Whether two words or names are one, spelt or inflected in two ways.

    Their content morphemes are the same, or their jamo are nearly. Two numbers are two facts, and
    so are two short words that the dictionary has both: 1443년 and 1446년, 세종 and 세조.
    """
    if re.findall(r"\d+", fold(one)) != re.findall(r"\d+", fold(other)):
        return False
    first, second = _content(one), _content(other)
    if first and [t.form for t in first] == [t.form for t in second]:
        return True
    if _without_particles(one) == _without_particles(other):
        return True
    if not _alike(relaxed_form(one), relaxed_form(other)):
        return False
    if len(first) != len(second):
        return True
    pairs = [(a, b) for a, b in zip(first, second, strict=True) if a.form != b.form]
    return not any(_are_two_words(a, b) for a, b in pairs)


def _alike(one: str, other: str) -> bool:
    from rapidfuzz.distance import Levenshtein

    first, second = (
        unicodedata.normalize("NFD", text).translate(_CONFUSED) for text in (one, other)
    )
    allowed = max(1, int(JAMO * max(len(first), len(second))))
    return Levenshtein.distance(first, second, score_cutoff=allowed) <= allowed


def _are_two_words(one: Any, other: Any) -> bool:
    short = max(len(one.form), len(other.form)) <= _SHORT_WORD
    nouns = all(t.tag[:2] == "NN" and t.id not in _UNKNOWN for t in (one, other))
    return short and nouns


@functools.lru_cache(maxsize=4096)  # one question's answers meet many texts
def _tokens(text: str) -> tuple:
    return tuple(_kiwi().tokenize(fold(text)))


@functools.cache
def _kiwi() -> Any:
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1)


def _without_particles(text: str) -> str:
    plain = fold(text)
    parts = (plain[t.start : t.end] for t in _tokens(text) if t.tag[0] != "J")
    return relaxed_form("".join(parts))


def _content(text: str) -> list:
    """Morphemes that carry meaning: no particles, endings, marks."""
    return [
        t for t in _tokens(text) if t.tag[0] in "NVMX" or t.tag in ("SL", "SH", "SN", "W_EMOJI")
    ]
