"""Reads the items of tasks: questions with choices, and which terms are held out of training."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.evaluate.task import Item, Row, Task
from malmat.files import check_fields, read_rows
from malmat.formats import read_questions


def read_choices(path: str | Path) -> list[Item]:
    """Questions with choices: ``[{question, choices, target, title?, split?}]``.

    Raises:
        InputError: fewer than two choices, one that is blank or stands twice, or a target that
            is none of them (the row without a target is one of a test set, and may be).
    """
    lines, questions = [line for line, _ in read_rows(path)], read_questions(path)
    if len(lines) != len(questions):  # all in one object
        lines = lines[:1] * len(questions)
    items: list[Item] = []
    for line, row in zip(lines, questions, strict=True):
        check_fields(row, {"choices": list}, path=path, line=line)
        choices = row["choices"]
        if len(choices) < 2 or not all(isinstance(text, str) and text.strip() for text in choices):
            problem = "expected two choices or more, each with text"
        elif len({text.strip() for text in choices}) < len(choices):
            problem = "a choice stands in it twice"
        elif row.get("target") is not None and row["target"] not in choices:
            problem = f"the target {row['target']!r} is none of them"
        else:
            items.append(row)  # type: ignore[arg-type]  # a dict that has an Item's fields
            continue
        raise InputError(problem, path=path, line=line, field="choices")
    return items


def held_back(tasks: Iterable[Task]) -> list[dict]:
    """What must not be trained on, for the leak gate: each task's questions, the right replies
    among its choices, and the titles that are to stay unseen (``question, title, split``)."""
    found: list[dict] = []
    for path, task in {task.questions: task for task in tasks}.items():
        for item in task.read(path) if path.is_file() else []:
            row: Row = dict(item)
            title = {name: row[name] for name in ("title", "split") if row.get(name)}
            # A question that is no more than its term stands in any row about it.
            texts = [row["question"]] if row["question"] != row.get("title") else []
            if task.choose == "text" and texts and row.get("target"):
                texts.append(row["target"])
            found += [{"question": text, **title} for text in texts] or [title]
    return found


def read_splits(path: str | Path) -> dict[str, str]:
    """Title → ``seen`` or ``unseen``: whether a term stands in the training data."""
    splits = {}
    for line, row in read_rows(path):
        check_fields(row, {}, path=path, line=line)
        if row.get("title") and row.get("split"):
            check_fields(row, {"title": str, "split": str}, path=path, line=line)
            splits[row["title"]] = row["split"]
    return splits


def items_of(task: Task, questions: str | Path | None = None) -> list[Item]:
    """The task's items, or those of another file of questions; none where there is no file."""
    path = Path(questions or task.questions)
    return task.read(path) if path.is_file() else []


def complete(answers: Iterable[Row], items: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The answers with what their items know and they do not (title, target, slices), by id."""
    known = {item["id"]: item for item in items}
    return [{**known.get(row["id"], {}), **row} for row in answers]


def numbered(choices: list[str]) -> str:
    """The choices, one a line, each behind its number."""
    return "\n".join(f"{number}. {text}" for number, text in enumerate(choices, 1))


class OutOfRange(Exception):
    """An answer that is not on the scale, or none of the options: the model's doing, not a
    parse failure."""


def numbers(choices: list[str]) -> list[str]:
    """The labels "1", "2" … of choices."""
    return [str(number) for number in range(1, len(choices) + 1)]


def read_label(text: str, labels: list[str]) -> str:
    """The label that a reply picks: the one after a mark such as 정답, or the only one in it.

    Args:
        labels: all numbers ("1" "2" …), all capital letters ("A" "B" …), or words.

    Raises:
        ValueError: no label, or several. OutOfRange: a number or a letter beyond the labels.
    """
    if all(label.isdecimal() for label in labels):
        kind = r"\d+"
    elif all(re.fullmatch("[A-Z]", label) for label in labels):
        kind = "[A-Z]"
    else:
        kind = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
    label = rf"(?<![A-Za-z0-9.,])({kind})(?![A-Za-z0-9]|[.,]\d)"
    marked = re.findall(rf"(?:정답|답|[Aa]nswer)[^A-Za-z0-9]{{0,6}}?{label}", text)
    found = list(dict.fromkeys(marked or re.findall(label, text)))
    if len(found) != 1:
        raise ValueError(f"no single choice in the reply: {text[:60]!r}")
    if found[0] not in labels:
        raise OutOfRange(f"{found[0]} is none of {', '.join(labels)}")
    return found[0]
