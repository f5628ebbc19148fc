"""Items and training rows that are made of ``exams``' rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from malmat.contests.exams import KEPT, PLUS, Exam, read_exams
from malmat.contests.prepared import length_bin, prepared_items
from malmat.evaluate.items import numbers
from malmat.evaluate.task import Item
from malmat.files import read_rows
from malmat.text.shorten import without_sentences

LENGTHS = (300, 600, 1000)
"""Characters of a passage at which a length bin ends."""

WORD = re.compile(r"[가-힣A-Za-z0-9]{2,}")
STEM = 2
"""Letters by which words are compared: endings and particles come after them."""


def fields_of(one: Exam) -> dict[str, Any]:
    """The fields of an item that a file of prepared rows keeps; no ``answer`` in test rows."""
    answer = {} if one.answer is None else {"answer": str(one.answer)}
    return {
        "id": one.id,
        "cluster": one.cluster,
        "source": one.source,
        "paragraph": one.passage,
        "question": one.question,
        PLUS: one.plus,
        "choices": numbers(one.choices),
        "options": one.choices,
        **answer,
        "n_choices": len(one.choices),
        **one.more,
    }


def item_of(row: Mapping[str, Any]) -> Item:
    """The item of a row of ``fields_of``, with the ``variant`` of its wording where it names one.

    Beside the fields of every item it has ``question_plus`` and, for slices, ``source, n_choices,
    length`` (of the passage), ``plus`` (with or without), ``position`` (of the right choice).
    """
    item: dict[str, Any] = {
        "id": row["id"],
        "question": row["question"],
        "title": row["cluster"],
        "passage": row["paragraph"],
        PLUS: row[PLUS],
        "choices": row["choices"],
        "options": row["options"],
        "source": row["source"],
        "n_choices": len(row["choices"]),
        "length": length_bin(len(row["paragraph"]), LENGTHS),
        "plus": "with" if row[PLUS] else "without",
    }
    if row.get("answer") is not None:
        item |= {"target": row["answer"], "position": row["answer"]}
    item |= {name: row[name] for name in ("variant", *KEPT) if row.get(name)}
    return item  # type: ignore[return-value]  # a dict that has an Item's fields


def read_items(path: str | Path) -> list[Item]:
    """The items of a contest's file, or of rows that were prepared from one.

    Raises:
        InputError: as ``read_exams``, or a prepared row that lacks something.
    """
    rows = read_rows(path, as_typed=True, faults=[])
    if not any(isinstance(row, dict) and "cluster" in row for _, row in rows):
        return [item_of(fields_of(one)) for one in read_exams(path)[0]]
    return prepared_items(path, rows, item_of, {"source": str, "question": str})


def shorten(item: Item, left_out: int) -> Item:
    """The item without so many sentences of its passage's middle.

    Sentences that share words with the question, its second text or the choices go last.

    Raises:
        ValueError: the passage has fewer.
    """
    asked = [item["question"], item[PLUS], *item["options"]]  # type: ignore[literal-required]
    words = {word[:STEM] for text in asked for word in WORD.findall(text)} - COMMON

    def shares(sentence: str) -> bool:
        return any(word[:STEM] in words for word in WORD.findall(sentence))

    text = without_sentences(item["passage"], left_out, is_late=shares)
    return {**item, "passage": text}


COMMON = {"윗글", "다음", "대한", "것은", "가장", "적절", "내용", "설명", "옳은", "있는", "없는"}
"""Beginnings of words that every question asks with."""
