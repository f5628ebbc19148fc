"""Answers on disk."""

from __future__ import annotations

import re
from pathlib import Path

from malmat.errors import InputError
from malmat.files import check_fields, read_rows, row_id
from malmat.formats import STATUSES
from malmat.lm.chat import run_on


def status_of(answer: str) -> str:
    """What an older row, that does not say it itself, holds: an answer, or what became of it."""
    if not answer.strip():
        return "empty"
    if re.match(r"\s*Error in \w+", answer):
        return "api_error"
    return "ok" if run_on(answer.strip()) is None else "leaked"


def read_answers(path: str | Path) -> list[dict]:
    """Answers written by ``infer.py``, or the older ``{question, answer}`` rows.

    Older rows get an id from their question and are ``ok`` unless the answer is
    empty, runs on past the end of its turn, or is an error message that an older
    script saved as an answer.
    """
    rows = []
    for line, row in read_rows(path):
        check_fields(row, {"question": str}, path=path, line=line)
        if not isinstance(row.get("answer"), (str, type(None))):
            raise InputError("expected text or null", path=path, line=line, field="answer")
        row = dict(row)
        row.setdefault("id", row_id("question", row["question"]))
        if "status" not in row:
            row["status"] = status_of(row.get("answer") or "")
        elif row["status"] not in STATUSES:
            raise InputError(
                f"unknown status {row['status']!r}",
                path=path,
                line=line,
                field="status",
                fix=f"One of {', '.join(STATUSES)}.",
            )
        elif row["status"] == "ok" and not (row.get("answer") or "").strip():
            raise InputError("no answer, though the status is ok", path=path, line=line)
        rows.append(row)
    if not rows:
        raise InputError("no answers in it", path=path)
    return rows
