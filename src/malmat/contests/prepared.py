"""Rows that a ``prepare.py`` wrote: what each of them has, whatever its contest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.evaluate.task import Item
from malmat.files import check_fields
from malmat.parse import Rows

SHARED = {"id": str, "cluster": str, "choices": list, "options": list, "messages": list}
"""Fields of every prepared row."""


def prepared_items(
    path: str | Path,
    rows: Rows,
    item_of: Callable[[Mapping[str, Any]], Item],
    fields: Mapping[str, type],
) -> list[Item]:
    """The items of prepared rows.

    Args:
        fields: of the contest's rows, beside ``SHARED``.

    Raises:
        InputError: a row that lacks something, an answer that is none of the choices, or an id
            that stands twice.
    """
    first: dict[str, int] = {}
    for line, row in rows:
        _check(row, path, line, fields)
        if (known := first.setdefault(row["id"], line)) != line:
            problem = f"the row {row['id']} stands on line {known} already"
            raise InputError(problem, path=path, line=line, field="id", fix="Keep one.")
    return [item_of(row) for _, row in rows]


def _check(row: Any, path: str | Path, line: int, fields: Mapping[str, type]) -> None:
    check_fields(row, {**SHARED, **fields}, path=path, line=line)
    if len(row["choices"]) != len(row["options"]) or not row["messages"]:
        problem, field = f"the row {row['id']} has not one for each choice", "options"
        if not row["messages"]:
            problem, field = f"the row {row['id']} has none", "messages"
        raise InputError(problem, path=path, line=line, field=field, fix="Prepare the rows anew.")
    if row.get("answer") not in (None, *row["choices"]):
        problem = f"the row {row['id']}: {row['answer']!r} is none of its choices"
        raise InputError(problem, path=path, line=line, field="answer")


def length_bin(characters: int, ends: Sequence[int]) -> str:
    """As ``250–349``: in which part of ``ends`` a number of characters falls."""
    low = max((end for end in ends if end <= characters), default=0)
    high = min((end for end in ends if end > characters), default=None)
    return f"{low} or more" if high is None else f"{low}–{high - 1}"
