"""Questions of three types (선다형, 단답형, 서술형) as their contest publishes them.

``{id, input: {category, domain, question_type, topic_keyword, question}, output: {answer}}``; the
choices stand inside the question (``choices_in_text``), and the alternatives of a short answer
are divided by ``#``. Rows that were prepared from such a file are read too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malmat.contests.choices_in_text import joined, split_choices, tidy, unescaped
from malmat.contests.faults import BadRow, Fault, refuse_misread, sound_or_refused
from malmat.errors import InputError
from malmat.evaluate.items import numbers
from malmat.evaluate.task import Item
from malmat.files import row_id
from malmat.sources.open import read_source
from malmat.sources.row import numbered, text_of

CHOICE, SHORT, LONG = "선다형", "단답형", "서술형"
TYPES = (CHOICE, SHORT, LONG)
AS_PUBLISHED = "published"
"""A field of prepared rows whose choices are left in the text: that, with its tabs and breaks."""

UNREAD_CHOICES = 5
"""How many choices a question is taken to have where they could not be told from its text."""


@dataclass(frozen=True)
class Question:
    """A row, checked, its text in normal form.

    Args:
        text: the question; where choices could not be told from it, with them.
        choices: their texts; [] where there are none, or they are left in the text.
        labels: "1", "2" … of the choices, those left in the text too; [] of other types.
        answer: a choice's label, or the answer as published, ``#`` included; None in test rows.
        answers: its alternatives; [] in test rows.
        problem: why the choices are left in the text; "" otherwise.
        more: fields beyond the contest's.
    """

    id: str
    line: int
    type: str
    category: str
    domain: str
    keyword: str
    text: str
    choices: list[str] = field(default_factory=list)
    labels: list[str] = field(default_factory=list)
    answer: str | None = None
    answers: list[str] = field(default_factory=list)
    problem: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def cluster(self) -> str:
        """What the question is about; questions without a keyword stand alone."""
        return "".join(self.keyword.split()) or self.id


def read_typed(path: str | Path, *, skip_bad: bool = False) -> tuple[list[Question], list[Fault]]:
    """The questions of a file, and what is wrong with the rows that cannot be used.

    Args:
        skip_bad: go on without faulty rows.

    Raises:
        InputError: a file of another layout, or faulty rows without ``skip_bad``: one line that
            names them all.
    """
    rows, faults = read_source(path)
    layouts = [isinstance(row, dict) and ("input" in row or "type" in row) for _, row in rows]
    if rows and not any(layouts):
        first = rows[0][1]
        keys = ", ".join(map(str, first))[:100] if isinstance(first, dict) else type(first).__name__
        fix = "Rows have id, input {question_type, question …} and output."
        raise InputError(
            f"is no file of typed questions: its first row has {keys}",
            path=path,
            line=rows[0][0],
            fix=fix,
        )
    answered = any(_answer_of(row) is not None for _, row in rows)
    found: list[Question] = []
    lines: dict[str, int] = {}
    for number, (line, row) in enumerate(rows, 1):
        name = f"number {number}"
        try:
            if not isinstance(row, dict):
                raise BadRow("row", "expected an object")
            name = text_of(row, "id")
            if name in lines:  # of a file on one line all rows are on it
                raise BadRow("id", f"another row on line {lines[name]} has this id", "Keep one.")
            lines[name] = line
            found.append(_question(row, name, line, answered=answered))
        except BadRow as bad:
            faults.append(bad.fault(name, line))
    sound_or_refused(path, faults, left=len(found), skip=skip_bad)
    return found, faults


def _answer_of(row: Any) -> Any:
    """A row's answer as it stands; None for none."""
    if not isinstance(row, Mapping):
        return None
    output = row.get("output") if "input" in row else row.get("answer")
    value = output.get("answer") if isinstance(output, Mapping) else output
    return None if isinstance(value, str) and not value.strip() else value


def _question(row: Mapping[str, Any], name: str, line: int, *, answered: bool) -> Question:
    if "input" not in row:
        return _prepared(row, line)
    asked = row["input"]
    if not isinstance(asked, Mapping):
        raise BadRow("input", "expected an object")
    kind = "".join(text_of(asked, "question_type").split())
    if kind not in TYPES:
        fix = f"One of {', '.join(TYPES)}."
        raise BadRow("input.question_type", f"{kind!r} is no type of question", fix)
    text = unescaped(text_of(asked, "question"))
    refuse_misread({"input.question": text})
    split = split_choices(text)
    if kind != CHOICE and len(split.choices) > 1 and (kind == SHORT or "\t" in text):
        raise BadRow("input.question", f"choices in a question of the type {kind}")
    labels: list[str] = []
    if kind == CHOICE:
        count = len(split.choices) or _count(split.numbers)
        labels = [str(number) for number in range(1, count + 1)]
    answer = _checked_answer(_answer_of(row), kind, len(labels), name, answered=answered)
    texts = {name: text_of(asked, name, needed=False) for name in _TEXTS}
    more = {name: value for name, value in row.items() if name not in ("id", "input", "output")}
    if kind == CHOICE and split.problem:
        more[AS_PUBLISHED] = text_of(asked, "question")
    return Question(
        id=name,
        line=line,
        type=kind,
        category=texts["category"],
        domain=texts["domain"],
        keyword=texts["topic_keyword"],
        text=split.stem if kind == CHOICE else tidy(text),
        choices=split.choices if kind == CHOICE else [],
        labels=labels,
        answer=answer,
        answers=alternatives(answer, kind),
        problem=split.problem if kind == CHOICE else "",
        more=more,
    )


_TEXTS = ("category", "domain", "topic_keyword")


def _count(numbers_: Sequence[int]) -> int:
    """How many choices numbers out of order stand for."""
    whole = sorted(set(numbers_)) == list(range(1, max(numbers_, default=0) + 1))
    return len(set(numbers_)) if whole and len(set(numbers_)) > 1 else UNREAD_CHOICES


def _checked_answer(value: Any, kind: str, count: int, name: str, *, answered: bool) -> str | None:
    """The answer as text; of a choice its label.

    Raises:
        BadRow: it is no choice, has no alternative, or is missing in a file that has answers.
    """
    if value is None:
        if answered and "-test-" not in name:
            raise BadRow("output.answer", "a training row without an answer")
        return None
    if kind == CHOICE:
        return str(numbered(value, count, "output.answer"))
    text = text_of({"output.answer": value}, "output.answer")
    refuse_misread({"output.answer": text})
    if not alternatives(text, kind):
        raise BadRow("output.answer", "no answer beside its #")
    return text


def alternatives(answer: str | None, kind: str) -> list[str]:
    """What counts as the answer: the parts between ``#`` of a short one, each once."""
    if answer is None:
        return []
    parts = answer.split("#") if kind == SHORT else [answer]
    return list(dict.fromkeys(part.strip() for part in parts if part.strip()))


def _prepared(row: Mapping[str, Any], line: int) -> Question:
    kind = text_of(row, "type")
    if kind not in TYPES:
        raise BadRow("type", f"{kind!r} is no type of question", f"One of {', '.join(TYPES)}.")
    lists = {}
    for name in ("choices", "options", "answers"):
        value = row.get(name) or []
        if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
            raise BadRow(name, "expected a list of texts")
        lists[name] = value
    labels, options = lists["choices"], lists["options"]
    if kind != CHOICE and (labels or options):
        raise BadRow("choices", f"choices in a question of the type {kind}")
    if kind == CHOICE and (labels != numbers(labels) or len(labels) < 2):
        raise BadRow("choices", 'expected the numbers "1", "2" …')
    if options and len(options) != len(labels):
        raise BadRow("options", "not one for each choice")
    answer = row.get("answer")
    if answer is not None and (not isinstance(answer, str) or not answer.strip()):
        raise BadRow("answer", "expected text")
    if answer is not None and kind == CHOICE and answer not in labels:
        raise BadRow("answer", f"{answer!r} is none of its choices")
    known = {*_PREPARED, "id", "type"}
    return Question(
        id=text_of(row, "id"),
        line=line,
        type=kind,
        category=text_of(row, "category", needed=False),
        domain=text_of(row, "domain", needed=False),
        keyword=text_of(row, "keyword", needed=False),
        text=text_of(row, "question"),
        choices=options,
        labels=labels,
        answer=answer,
        answers=lists["answers"] or alternatives(answer, kind),
        more={name: value for name, value in row.items() if name not in known},
    )


_PREPARED = (
    *("cluster", "category", "domain", "keyword", "question"),
    *("choices", "options", "answer", "answers"),
)


def prepared_row(one: Question) -> dict[str, Any]:
    """The fields of a question that a file of prepared rows keeps; no answer in test rows."""
    answer = {} if one.answer is None else {"answer": one.answer, "answers": one.answers}
    options = {"options": one.choices} if one.choices else {}
    choices = {"choices": one.labels, **options} if one.labels else {}
    return {
        "id": one.id,
        "cluster": one.cluster,
        "type": one.type,
        "category": one.category,
        "domain": one.domain,
        "keyword": one.keyword,
        "question": one.text,
        **choices,
        **answer,
        **one.more,
    }


def item_of(one: Question) -> Item:
    """A question as an item: its target is a label, the alternatives, or a reference text."""
    row = {**prepared_row(one), "title": one.cluster, "category": "".join(one.category.split())}
    del row["cluster"]
    if (answer := row.pop("answer", None)) is not None:
        row["target"] = row.pop("answers") if one.type == SHORT else answer
        row.pop("answers", None)
    return row  # type: ignore[return-value]  # a dict that has an Item's fields


def published_row(
    kind: str,
    question: str,
    answer: str | None,
    *,
    choices: Sequence[str] = (),
    id: str = "",
    category: str = "",
    domain: str = "",
    keyword: str = "",
    **more: Any,
) -> dict[str, Any]:
    """A row in the contest's layout; its id is a hash of its content where none is given."""
    text = joined(question, choices)
    asked = {
        "category": category,
        "domain": domain,
        "question_type": kind,
        "topic_keyword": keyword,
        "question": text,
    }
    output = {} if answer is None else {"output": {"answer": answer}}
    return {"id": id or row_id(kind, text), "input": asked, **output, **more}
