"""Multiple-choice items of an exam in their contest's layout, as rows that are read and written.

``{id, paragraph, problems: {question, choices, answer}, question_plus}`` and fields of our own
(``source``, ``licence`` …); the contest's CSV holds ``problems`` as a Python literal (``exams``
reads either). Rows that are prepared for training are read too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from malmat.contests.exams import Exam, read_exams
from malmat.contests.faults import BadRow, Fault, sound_or_refused
from malmat.errors import InputError
from malmat.files import kind_of, read_rows, row_id, write_csv, write_jsonl
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
    """The items of a contest's file or of prepared rows, each with its row, and faulty rows.

    Args:
        answered: whether every row must have an answer.
        skip_bad: go on without faulty rows.

    Raises:
        InputError: another layout, or faulty rows without ``skip_bad``.
    """
    rows = read_rows(path, as_typed=True, faults=[])
    if any(isinstance(row, dict) and "cluster" in row for _, row in rows):
        read, faults = [], []
        for number, (line, row) in enumerate(rows, 1):
            try:
                read.append((line, item_of(row), row))
            except BadRow as bad:
                faults.append(bad.fault(str(row.get("id") or f"number {number}"), line))
    else:
        exams, faults = read_exams(path, skip_bad=True)
        read = [(one.line, _item_of_exam(one), {"source": one.source} | one.more) for one in exams]
    first: dict[str, int] = {}
    found: list[tuple[Mcq, dict[str, Any]]] = []
    for line, item, row in read:
        if (known := first.setdefault(item.id, line)) != line:
            problem = f"another row on line {known} has this id"
            faults.append(Fault(item.id, line, "id", problem, "Keep one."))
        elif answered and item.answer is None:
            faults.append(Fault(item.id, line, "answer", "no answer"))
        else:
            found.append((item, row))
    faults.sort(key=lambda fault: fault.line)
    sound_or_refused(path, faults, left=len(found), skip=skip_bad)
    return found, faults


def _item_of_exam(one: Exam) -> Mcq:
    return Mcq(one.id, one.question, one.choices, one.answer, one.passage, one.plus)


def item_of(row: Any) -> Mcq:
    """The item of a row whose fields stand side by side: a prepared one, or a model's.

    Raises:
        BadRow: something is missing, or is none of what it should be.
    """
    if not isinstance(row, dict):
        raise BadRow("row", "expected an object")
    values = row.get("options") or row.get("choices")
    if not isinstance(values, list):
        raise BadRow("choices", "missing" if values is None else "expected a list")
    choices = choices_of(values, "choices")
    question, answer = text_of(row, "question"), row.get("answer")
    paragraph = text_of(row, "paragraph", needed=False)
    return Mcq(
        id=str(row.get("id") or row_id("item", paragraph, question, choices)),
        question=question,
        choices=choices,
        answer=None if answer in (None, "") else numbered(answer, len(choices)),
        paragraph=paragraph,
        plus=text_of(row, "question_plus", needed=False),
    )


def with_content_id(prefix: str, item: Mcq) -> Mcq:
    """The item with an id that is a hash of what it asks."""
    key = row_id(item.paragraph, item.question, item.plus, item.choices, item.answer)
    return replace(item, id=f"{prefix}-{key}")
