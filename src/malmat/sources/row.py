"""One multiple-choice item, and how the parts of a published row are read.

An answer that is a choice's text is matched after normalization, and never guessed: an answer
that is empty, no choice, or beyond the choices is a fault of its row.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from malmat.contests.faults import BadRow
from malmat.text.korean import fold

MOST_CHOICES = 10
LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Mcq:
    """One question.

    Args:
        id: the set's own, or a hash of the content.
        choices: two to ten, none equal after normalization.
        answer: the number of the right one, from 1; None where the set hides it.
        paragraph: what is to be read first; "" for none.
        plus: the box between question and choices (보기); "" for none.
        category: the set's own word for what the row is of; "" for none.
        is_exam: whether it is an item of the real 수능.
    """

    id: str
    question: str
    choices: list[str]
    answer: int | None
    paragraph: str = ""
    plus: str = ""
    category: str = ""
    is_exam: bool = False


def text_of(row: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    """A field's text, stripped; a number as text; "" where it may be missing and is."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
        raise BadRow(name, f"expected text, found {type(value).__name__}")
    text = "" if value is None else str(value).strip()
    if needed and not text:
        raise BadRow(name, "empty")
    return text


def plain(text: str) -> str:
    """A text for comparison: folded, its spaces single."""
    return " ".join(fold(text).split())


def choices_of(values: list[Any], names: str | list[str]) -> list[str]:
    """The texts of choices.

    Args:
        names: the field that holds them all, or the field of each.

    Raises:
        BadRow: fewer than two, more than ten, a blank one, or two that are equal.
    """
    where = [f"{names}[{n}]" for n in range(len(values))] if isinstance(names, str) else names
    texts = [text_of({name: value}, name) for name, value in zip(where, values, strict=True)]
    whole = names if isinstance(names, str) else names[0] if names else "choices"
    if not 2 <= len(texts) <= MOST_CHOICES:
        raise BadRow(whole, f"{len(texts)} choices; 2 to {MOST_CHOICES} are read")
    first: dict[str, int] = {}
    for number, text in enumerate(texts, 1):
        if (same := first.setdefault(plain(text), number)) != number:
            raise BadRow(where[number - 1], f"choices {same} and {number} are equal")
    return texts


def matched(answer: str, choices: list[str], name: str = "answer") -> int:
    """The number of the choice whose text the answer is, after normalization.

    Raises:
        BadRow: it is empty, or none of them.
    """
    if not answer.strip():
        raise BadRow(name, "no answer")
    found = [n for n, text in enumerate(choices, 1) if plain(text) == plain(answer)]
    if len(found) != 1:
        raise BadRow(name, f"{answer[:40]!r} is none of the {len(choices)} choices")
    return found[0]


def numbered(value: Any, count: int, name: str = "answer", *, base: int = 1) -> int:
    """The number, from 1, that an answer names: 3, "3", 3.0, "③", "(3)".

    Args:
        base: what the set calls its first choice.

    Raises:
        BadRow: empty, no whole number, or beyond the choices.
    """
    text = fold(text_of({name: value}, name, needed=False)).strip("() .")
    if not text:
        raise BadRow(name, "no answer")
    found = re.fullmatch(r"(\d{1,3})(?:\.0+)?", text)
    if not found:
        raise BadRow(name, f"{text[:40]!r} is no whole number")
    number = int(found[1]) - base + 1
    if not 1 <= number <= count:
        raise BadRow(name, f"{text} is beyond the {count} choices")
    return number


def lettered(value: Any, count: int, name: str = "answer") -> int:
    """The number, from 1, of a letter: "B", "(B)", "b.".

    Raises:
        BadRow: empty, no letter, or beyond the choices.
    """
    text = fold(text_of({name: value}, name, needed=False)).strip("() .").upper()
    if not text:
        raise BadRow(name, "no answer")
    if len(text) != 1 or text not in LETTERS:
        raise BadRow(name, f"{text[:40]!r} is no letter of a choice")
    if (number := LETTERS.index(text) + 1) > count:
        raise BadRow(name, f"{text} is beyond the {count} choices")
    return number
