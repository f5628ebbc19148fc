"""Uses of terms that are wrong, each beside the apt one in the same situation and with a reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from malmat.errors import InputError
from malmat.files import read_rows
from malmat.schema import Row, Text, validate
from malmat.text.duplicates import NearDuplicates
from malmat.text.terms import TermMatcher

KINDS = ("wrong_sense", "wrong_register", "literal", "dated", "wrong_form")
"""What is wrong: the sense; the person or the tone; a homograph or the literal sense; the time;
the form of the word or its place in the sentence."""

LENGTHS = (0.7, 1.43)
"""How far the lengths of the two answers may lie apart: which is longer must say nothing."""

FEWEST = 3
"""Rows that a term has."""

MAY_LACK = {"apt": ("wrong_register", "literal"), "misuse": ("wrong_form", "literal")}
"""Kinds of which an answer may lack the term: where no use of it would be apt (a death, the literal
thing), and where its wrong form is the fault."""


class Misuse(Row):
    """A row: two answers to one message, of which ``apt`` uses the term as it is used."""

    id: Text
    title: Text
    kind: Literal["wrong_sense", "wrong_register", "literal", "dated", "wrong_form"]
    context: Text
    question: Text
    apt: Text
    misuse: Text
    reason: Text


def read_misuse(path: str | Path) -> list[dict]:
    """The rows of a file of misuses, each once.

    Raises:
        InputError: a row that is none, or an id that stands twice.
    """
    rows: dict[str, dict] = {}
    for line, row in read_rows(path):
        found = validate(Misuse, row, path=path, line=line).model_dump()
        if rows.setdefault(found["id"], found) is not found:
            problem = f"{found['id']!r} is the id of another row already"
            raise InputError(problem, path=path, line=line, field="id")
    return list(rows.values())


def asked(row: dict) -> str:
    """The message with its situation, as a model is asked for an answer."""
    return f"({row['context']}) {row['question']}"


def misuse_faults(rows: list[dict], listed: Iterable[dict]) -> Iterator[tuple[str, dict]]:
    """Rows that do not fit (the name of a check, and what it found), in their order."""
    listed = list(listed)
    matcher, titles = TermMatcher(listed), {term["title"] for term in listed}
    index, counts = NearDuplicates(), Counter(row["title"] for row in rows)
    for row in rows:
        title, low, high = row["title"], *LENGTHS
        shown = {name: row[name] for name in ("title", "question", "apt", "misuse")}
        if title not in titles:
            yield "misuse of no listed term", shown
            continue
        for side, kinds in MAY_LACK.items():
            if row["kind"] not in kinds and not matcher.find(row[side], only=title):
                yield "misuse without its term", {**shown, "side": side}
        if not low <= len(row["misuse"]) / len(row["apt"]) <= high:
            yield "misuse of another length", shown
        if row["apt"] == row["misuse"] or index.add(row["question"] + row["apt"]):
            yield "misuse repeated", shown
    for title in titles:
        if counts[title] < FEWEST:
            yield "too few misuses", {"title": title, "value": str(counts[title])}
