"""Predictions for a contest's questions: as answers of ours, or as a submission, joined by id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.evaluate.task import Item, Row
from malmat.files import read_rows
from malmat.formats import STATUSES
from malmat.text.korean import normalize

KEPT = ("raw_answer", "steps", "finish_reason", "contexts", "probabilities")
"""What a row of answers says of its answer, beside it."""


def read_predictions(paths: Sequence[str | Path]) -> dict[str, Row]:
    """Id → ``answer`` and ``status`` of the rows of all files, in their order.

    A row has ``answer`` (and ``status``), or ``output``: a text, or an object with ``answer``.
    An answer that is missing or blank is ``empty``.

    Raises:
        InputError: another layout, or an id that stands twice.
    """
    found: dict[str, Row] = {}
    first: dict[str, str] = {}
    for path in paths:
        for line, row in read_rows(path, as_typed=True):
            name, answer = _id_and_answer(row, path, line)
            if name in first:
                problem = f"the id {name} stands on {first[name]} already"
                raise InputError(problem, path=path, line=line, field="id", fix="Keep one.")
            first[name] = f"line {line} of {path}"
            status = row.get("status") or "ok"
            if status not in STATUSES:
                raise InputError(f"unknown status {status!r}", path=path, line=line, field="status")
            text = normalize(answer or "")
            if status == "ok" and not text.strip():
                status = "empty"
            found[name] = {"answer": text, "status": status}
            found[name] |= {key: row[key] for key in KEPT if key in row}
    return found


def _id_and_answer(row: Any, path: str | Path, line: int) -> tuple[str, str | None]:
    if not isinstance(row, Mapping) or not isinstance(row.get("id"), (str, int)):
        raise InputError("a row without an id", path=path, line=line, field="id")
    output = row["answer"] if "answer" in row else row.get("output")
    answer = output.get("answer") if isinstance(output, Mapping) else output
    if isinstance(answer, int) and not isinstance(answer, bool):
        answer = str(answer)
    if not isinstance(answer, (str, type(None))):
        raise InputError("expected text", path=path, line=line, field="answer")
    return normalize(str(row["id"])), answer


def joined(items: Sequence[Item], found: Mapping[str, Row], path: str | Path) -> list[Row]:
    """The items with their predictions, by id.

    Args:
        path: of the predictions, for the message.

    Raises:
        InputError: ids that are missing or foreign: all in one line.
    """
    ids = {item["id"] for item in items}
    faults = {
        "are missing": [item["id"] for item in items if item["id"] not in found],
        "are none of the questions": [one for one in found if one not in ids],
    }
    if any(faults.values()):
        parts = (
            f"{len(some)} ids {what}: {', '.join(some[:20])}{' …' * (len(some) > 20)}"
            for what, some in faults.items()
            if some
        )
        fix = "Give a prediction for every question, and for no other."
        raise InputError("; ".join(parts), path=path, field="id", fix=fix)
    return [{**item, **found[item["id"]]} for item in items]


def out_of_order(items: Sequence[Item], found: Mapping[str, Row]) -> str:
    """The first id from which on predictions stand in another order; "" for none."""
    asked = [item["id"] for item in items]
    known = set(asked)
    pairs = zip(asked, (one for one in found if one in known), strict=False)
    return next((other for one, other in pairs if one != other), "")
