"""Exam items as contests publish them: a passage, a question, two to ten choices, one right number.

A table (or JSONL) with ``id, paragraph, problems, question_plus``: ``problems`` holds a dict
``{question, choices, answer}``, as an object or as text (``literals``); ``question_plus`` is a
second text that the question refers to (보기), beside the dict or in it. Test files have no answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malmat.contests.faults import BadRow, Fault, refuse_misread, sound_or_refused
from malmat.contests.literals import NoLiteral, read_literal
from malmat.errors import InputError
from malmat.files import read_rows, row_id
from malmat.text.duplicates import squeeze
from malmat.text.korean import fold, normalize

COLUMNS = ("id", "paragraph", "problems")
PLUS = "question_plus"
KEPT = ("licence", "evaluation_only", "topic", "hint", "rationale")
"""Columns that an item keeps where its file has them."""

FEWEST, MOST = 2, 10
"""Choices of an item."""

_BEGINNING = 40
"""Characters of a text that are looked at for a wrong encoding, which damages all of it."""


@dataclass(frozen=True)
class Exam:
    """An item, checked, its text in normal form.

    Args:
        line: of the file, where the row begins.
        passage: may be empty.
        plus: the text that the question refers to (보기), or "".
        answer: the number of the right choice, from 1; None in test files.
        source: where the item comes from.
        more: the columns of ``KEPT`` that the row has.
    """

    id: str
    line: int
    passage: str
    question: str
    plus: str
    choices: list[str]
    answer: int | None
    source: str
    more: dict[str, str] = field(default_factory=dict)

    @property
    def cluster(self) -> str:
        """The passage, by a digest of its letters; of an item without one, the question."""
        return row_id("passage", squeeze(self.passage or self.question))


def read_exams(
    path: str | Path, *, source: str | None = None, skip_bad: bool = False
) -> tuple[list[Exam], list[Fault]]:
    """The items of a file, and what is wrong with the rows that cannot be used.

    Args:
        source: what the file's rows come from; a row that says another source is faulty. None:
            what each row says.
        skip_bad: go on without faulty rows.

    Raises:
        InputError: a file of another layout, no row at all, or faulty rows without ``skip_bad``:
            one line that names them all.
    """
    broken: list[InputError] = []
    rows = read_rows(path, required=COLUMNS, as_typed=True, faults=broken)
    faults = [
        Fault("?", one.line or 1, "row", one.problem, one.fix or "Mend the row.") for one in broken
    ]
    _refuse_other_files(path, [row for _, row in rows], bool(faults))
    found: list[Exam] = []
    lines: dict[str, int] = {}
    for number, (line, row) in enumerate(rows, 1):
        name = f"number {number}"
        try:
            name = _id_of(row, name)
            if name in lines:
                raise BadRow("id", f"another row on line {lines[name]} has this id", "Keep one.")
            lines[name] = line
            found.append(_exam(name, row, line, source))
        except BadRow as bad:
            faults.append(bad.fault(name, line))
    if any(one.answer is not None for one in found):
        bad = "a training row without an answer"
        faults += [Fault(o.id, o.line, "problems.answer", bad) for o in found if o.answer is None]
        found = [one for one in found if one.answer is not None]
    faults.sort(key=lambda one: one.line)
    sound_or_refused(path, faults, left=len(found), skip=skip_bad)
    return found, faults


def _refuse_other_files(path: str | Path, rows: Sequence[Any], broken: bool) -> None:
    if not rows and not broken:
        raise InputError("no rows in it", path=path)
    first = next((row for row in rows if isinstance(row, dict)), {})
    missing = [name for name in COLUMNS if rows and not any(name in r for r in rows if r)]
    if missing:
        raise InputError(
            f"is a file of another layout: no '{missing[0]}'; it has {', '.join(first)[:100]}",
            path=path,
            line=1,
            field=missing[0],
            fix=f"Name the columns {', '.join((*COLUMNS, PLUS))}.",
        )


def _id_of(row: Any, name: str) -> str:
    if not isinstance(row, dict):
        raise BadRow(name, "expected an object")
    value = row.get("id")
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise BadRow("id", "expected text", "Give each row an id.")
    return str(value).strip()


def _exam(name: str, row: dict[str, Any], line: int, source: str | None) -> Exam:
    problems = _problems(row.get("problems"))
    for key in ("question", "choices"):
        if key not in problems:
            raise BadRow("problems", f"the key '{key}' is missing")
    choices = _choices(problems["choices"])
    said = _text(row.get("source"), "source") or source or "contest"
    if source and said != source:
        raise BadRow("source", f"is of {said}, where {source} was announced", "Give it apart.")
    question = _text(problems["question"], "problems.question")
    if not question:
        raise BadRow("problems.question", "an empty question")
    passage = _text(row.get("paragraph"), "paragraph")
    more = {key: text for key in KEPT if (text := _text(row.get(key), key))}
    return Exam(
        id=name,
        line=line,
        passage=passage,
        question=question,
        plus=_plus(row.get(PLUS), problems.get(PLUS)),
        choices=choices,
        answer=_answer(problems.get("answer"), len(choices)),
        source=said,
        more=more,
    )


def _problems(value: Any) -> dict[str, Any]:
    if isinstance(value, str) and value.strip():
        try:
            value = read_literal(value)
        except NoLiteral as error:
            fix = "Write {'question': '…', 'choices': ['…', '…'], 'answer': 1}."
            raise BadRow("problems", str(error), fix) from None
    if not isinstance(value, dict):
        kind = "empty" if value in (None, "") else type(value).__name__
        raise BadRow("problems", f"expected an object with question, choices and answer ({kind})")
    return value


def _text(value: Any, where: str) -> str:
    """A text in normal form; "" for a missing one."""
    if value is None or value != value:  # nan, which tables write for an empty cell
        return ""
    if not isinstance(value, str):
        raise BadRow(where, f"expected text, found {type(value).__name__}")
    refuse_misread({where: value[:_BEGINNING]})
    return normalize(value).strip()


def _plus(beside: Any, inside: Any) -> str:
    texts = [_text(beside, PLUS), _text(inside, f"problems.{PLUS}")]
    if all(texts) and squeeze(texts[0]) != squeeze(texts[1]):
        raise BadRow(PLUS, "two that differ, in the column and in problems", "Keep one of them.")
    return texts[0] or texts[1]


def _choices(value: Any) -> list[str]:
    where = "problems.choices"
    if not isinstance(value, list):
        raise BadRow(where, f"expected a list, found {type(value).__name__}")
    if not FEWEST <= len(value) <= MOST:
        raise BadRow(where, f"{len(value)} choices, where {FEWEST} to {MOST} can be")
    texts = []
    for number, one in enumerate(value, 1):
        plain = str(one) if type(one) in (int, float) and one == one else one
        if not (text := _text(plain, f"{where}[{number}]")):
            raise BadRow(where, f"choice {number} is empty")
        if text in texts:
            raise BadRow(where, f"choices {texts.index(text) + 1} and {number} are equal")
        texts.append(text)
    return texts


def _answer(value: Any, count: int) -> int | None:
    """The number of the right choice, from an integer, a digit or a circled digit."""
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return None
    number = value
    if isinstance(value, str):
        plain = fold(value).strip()
        number = int(plain) if plain.isdecimal() else value
    elif isinstance(value, float) and value.is_integer():
        number = int(value)
    if type(number) is not int or not 1 <= number <= count:
        fix = f"A whole number from 1 to {count}."
        raise BadRow("problems.answer", f"{value!r:.40} is none of the {count} choices", fix)
    return number
