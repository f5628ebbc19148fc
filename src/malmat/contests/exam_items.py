"""Multiple-choice items of an exam in their contest's layout, as rows that are read and written.

``{id, paragraph, problems: {question, choices, answer}, question_plus}`` and fields of our own
(``source``, ``licence`` …). The contest's CSV holds ``problems`` as a Python literal. Rows that
are prepared for training (``question, choices, answer`` beside ``paragraph``) are read too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from malmat.contests.faults import BadRow, Fault, sound_or_refused
from malmat.errors import InputError
from malmat.files import kind_of, row_id, write_csv, write_jsonl
from malmat.sources.open import read_source
from malmat.sources.row import Mcq, choices_of, numbered, text_of

COLUMNS = ("id", "paragraph", "problems", "question_plus")


def contest_row(item: Mcq, **more: Any) -> dict[str, Any]:
    """An item in the contest's layout, with fields of our own; no answer where it has none."""
    problems: dict[str, Any] = {"question": item.question, "choices": item.choices}
    if item.answer is not None:
        problems["answer"] = item.answer
    values = (item.id, item.paragraph, problems, item.plus)
    return {**dict(zip(COLUMNS, values, strict=True)), **more}


def check_output(path: str | Path) -> None:
    """Refuse an output whose name says neither CSV nor JSONL."""
    if kind_of(path) not in (".csv", ".jsonl"):
        fix = "Name it .jsonl or .csv."
        raise InputError("is written as JSONL or CSV", path=path, field="output", fix=fix)


def write_contest_rows(path: str | Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows as JSONL, or as the contest's CSV where the name ends so."""
    if kind_of(path) == ".csv":
        fields = list(dict.fromkeys([*COLUMNS, *(name for row in rows for name in row)]))
        write_csv(path, fields, ({**row, "problems": repr(row["problems"])} for row in rows))
    else:
        write_jsonl(path, rows)


def read_exam_items(
    path: str | Path, *, answered: bool, skip_bad: bool = False
) -> tuple[list[tuple[Mcq, dict[str, Any]]], list[Fault]]:
    """The items of a JSONL (JSON, Parquet) file, each with its row, and its faulty rows.

    Args:
        answered: whether every row must have an answer.
        skip_bad: go on without faulty rows.

    Raises:
        InputError: a contest's CSV, which is prepared first, or faulty rows without ``skip_bad``.
    """
    rows, faults = read_source(path)
    found: list[tuple[Mcq, dict[str, Any]]] = []
    first: dict[str, int] = {}
    for number, (line, row) in enumerate(rows, 1):
        if isinstance(row, dict) and isinstance(row.get("problems"), str):
            fix = "Prepare it first (prepare.py), and give the rows that it writes."
            raise InputError("problems is text", path=path, line=line, field="problems", fix=fix)
        name = f"number {number}"
        try:
            item = item_of(row, answered=answered)
            name = item.id
            if (known := first.setdefault(name, line)) != line:
                raise BadRow("id", f"another row on line {known} has this id", "Keep one.")
            found.append((item, row))
        except BadRow as bad:
            faults.append(bad.fault(name, line))
    sound_or_refused(path, faults, left=len(found), skip=skip_bad)
    return found, faults


def item_of(row: Any, *, answered: bool) -> Mcq:
    """The item of a row of either shape.

    Raises:
        BadRow: something is missing, or, of an ``answered`` row, the answer.
    """
    if not isinstance(row, dict):
        raise BadRow("row", "expected an object")
    asked = row["problems"] if isinstance(row.get("problems"), dict) else row
    values = asked.get("options") or asked.get("choices")
    if not isinstance(values, list):
        raise BadRow("choices", "missing" if values is None else "expected a list")
    choices = choices_of(values, "choices")
    question, answer = text_of(asked, "question"), asked.get("answer")
    paragraph = text_of(row, "paragraph", needed=False)
    plus = text_of(row, "question_plus", needed=False)
    return Mcq(
        id=str(row.get("id") or row_id("item", paragraph, question, choices)),
        question=question,
        choices=choices,
        answer=None if answer in (None, "") and not answered else numbered(answer, len(choices)),
        paragraph=paragraph,
        plus=plus or text_of(asked, "question_plus", needed=False),
    )


def with_content_id(prefix: str, item: Mcq) -> Mcq:
    """The item with an id that is a hash of what it asks."""
    key = row_id(item.paragraph, item.question, item.plus, item.choices, item.answer)
    return replace(item, id=f"{prefix}-{key}")
