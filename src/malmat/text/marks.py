"""Where listed terms stand in a text, with what they mean."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from malmat.text.candidates import first_sentences
from malmat.text.korean import normalize
from malmat.text.lexicon import SlangLexicon
from malmat.text.terms import surface_pattern


class Mark(NamedTuple):
    """A term in a text: its place (character indices), and its title and meaning.

    ``start`` is None where the term is used in a form that has no place of its own (폼이 많이
    미쳤네 for 폼 미쳤다).
    """

    start: int | None
    end: int | None
    title: str
    meaning: str


class Marker:
    """Marks the terms of a list in texts.

    Args:
        terms: rows with ``title``, ``content`` and, optionally, ``forms``.
    """

    def __init__(self, terms: Iterable[dict]):
        terms = list(terms)
        self._lexicon = SlangLexicon(terms)
        self._terms = {term["title"]: term for term in terms}

    def marks(self, text: str) -> list[Mark]:
        """The marks of a normalized text, which do not overlap: by place, those without one last.

        Where two terms claim the same letters, the longer one has them.
        """
        found: list[Mark] = []
        for title in self._lexicon.find(text):
            meaning = first_sentences(self._terms[title].get("content") or "")
            places = sorted(set(self._places(title, text)))
            found += [Mark(*place, title, meaning) for place in places]
            if not places:
                found.append(Mark(None, None, title, meaning))
        return _apart(found)

    def _places(self, title: str, text: str) -> Iterator[tuple[int, int]]:
        for spelling in self._lexicon.spellings_of(title):
            yield from (match.span() for match in surface_pattern(spelling).finditer(text))
        letters = [index for index, letter in enumerate(text) if not letter.isspace()]
        squeezed = "".join(text[index] for index in letters)
        for form in self._terms[title].get("forms") or ():  # they are written for such a text
            for match in re.finditer(form, squeezed):
                if match.group():
                    yield letters[match.start()], letters[match.end() - 1] + 1

    def pieces(self, text: str) -> Iterator[tuple[str, Mark | None]]:
        """A text, normalized, cut at its marks: each piece with its mark, or None."""
        text, end = normalize(text), 0
        for mark in self.marks(text):
            if mark.start is not None:
                yield text[end : mark.start], None
                yield text[mark.start : mark.end], mark
                end = mark.end or end
        yield text[end:], None


def _apart(marks: list[Mark]) -> list[Mark]:
    """The marks without those whose letters a longer one has, in the order of their places."""
    kept: list[Mark] = []
    placed = [mark for mark in marks if mark.start is not None]
    for mark in sorted(placed, key=lambda m: ((m.start or 0) - (m.end or 0), m.start)):
        if all(mark.end <= other.start or other.end <= mark.start for other in kept):  # type: ignore[operator]
            kept.append(mark)
    kept.sort(key=lambda mark: mark.start or 0)
    shown = {mark.title for mark in kept}
    return kept + [m for m in marks if m.start is None and m.title not in shown]
