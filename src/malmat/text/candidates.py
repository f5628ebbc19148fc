"""Which slang terms may stand in an answer, and how they are listed for a judge or a rater."""

from __future__ import annotations

import re
import unicodedata

from malmat.text.korean import fold
from malmat.text.lexicon import SlangLexicon
from malmat.text.terms import plain_text

CANDIDATES = 12
"""Terms that a judge is shown with an answer, at most."""


_GLOSS = 60
"""Characters of a candidate's explanation."""


_NEAR, _SAME = 65, 85
"""Likeness in per cent of letters (jamo): of a spelling to a part of the answer, to a word."""


def listing(terms: list[dict], full: bool = False) -> str:
    """Terms with their explanations, one a line."""
    lines = []
    for term in terms:
        gloss = first_sentences(term["content"])
        if not full and len(gloss) > _GLOSS:
            gloss = gloss[:_GLOSS].rsplit(" ", 1)[0] + "…"
        lines.append(f"- {term['title']}: {gloss}")
    return "\n".join(lines) or "(없음)"


def first_sentences(text: str, count: int = 2) -> str:
    """The first sentences of a text, on one line."""
    return " ".join(re.split(r"(?<=[.!?다])\s+", text.replace("\n", " "))[:count])


class Candidates:
    """Which of the listed terms may stand in an answer: by morphology, then by near spelling.

    Near spellings are compared by letters (jamo) with rapidfuzz: a spelling against the
    part of the answer that is most like it.
    """

    def __init__(self, terms: list[dict]):
        self._terms = {term["title"]: term for term in terms}
        self._lexicon = SlangLexicon(terms, lenient=True)
        self._spelt = {
            letters_of(plain_text(surface)): title
            for title in reversed(self._terms)  # of two terms spelt alike the first
            for surface in (title, *self._lexicon.spellings_of(title))
        }
        self._letters = {
            title: [
                letters
                for surface in self._lexicon.spellings_of(title)
                if len(letters := letters_of(plain_text(surface))) > 3
            ]
            for title in self._terms
        }

    def of(self, answer: str, most: int = CANDIDATES) -> list[dict]:
        """The terms, the likeliest first."""
        from rapidfuzz.fuzz import partial_ratio

        found = self._lexicon.find(answer)
        found.sort(key=lambda title: len(plain_text(title)) < 2)  # 각, 보: seldom what is meant
        text = letters_of(answer)
        scores = {
            title: max(
                (partial_ratio(letters, text, score_cutoff=_NEAR) for letters in spelled),
                default=0,
            )
            for title, spelled in self._letters.items()
            if title not in found
        }
        near = sorted((t for t in scores if scores[t]), key=lambda t: -scores[t])
        return [self._terms[title] for title in [*found, *near][:most]]

    def named(self, word: str) -> str | None:
        """The listed term that a judge means by a word, or None."""
        from rapidfuzz.fuzz import ratio

        letters = letters_of(word)
        if not letters or letters in self._spelt:
            return self._spelt.get(letters)
        likeness = {
            title: max((ratio(letters, one) for one in spelled), default=0)
            for title, spelled in self._letters.items()
        }
        best = max(likeness, key=lambda title: likeness[title])
        if likeness[best] >= _SAME:
            return best
        ends = (word[:1], word[-1:])  # one syllable, as 각 in 치킨각, is no more than an end of it
        found = self._lexicon.find(word)
        return next((t for t in found if len(s := plain_text(t)) > 1 or s in ends), None)


def letters_of(text: str) -> str:
    return unicodedata.normalize("NFD", re.sub(r"[^\w]", "", fold(text)).casefold())
