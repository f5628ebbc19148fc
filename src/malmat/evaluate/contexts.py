"""Passages found for questions, by question id: what a retriever writes and ``render`` is given.

A line a question: ``{id, contexts: [{title, text, id, score}, …]}``, the best one first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.evaluate.task import Item
from malmat.files import check_fields, read_rows


def read_contexts(path: str | Path) -> dict[str, list[dict[str, Any]]]:
    """Question id → its contexts; [] for a question that nothing was found for.

    Raises:
        InputError: another layout, or an id that stands twice.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for line, row in read_rows(path):
        check_fields(row, {"id": str, "contexts": list}, path=path, line=line)
        if row["id"] in found:
            problem = f"the id {row['id']} stands in it twice"
            raise InputError(problem, path=path, line=line, field="id", fix="Keep one.")
        for number, one in enumerate(row["contexts"]):
            check_fields(one, {"text": str}, path=path, line=line, where=f"contexts[{number}].")
        found[row["id"]] = row["contexts"]
    if not found:
        raise InputError("no contexts in it", path=path)
    return found


def passage_of(context: Mapping[str, Any]) -> str:
    """A context as ``render`` is given it: its title on the first line, where it has one."""
    title = " ".join(str(context.get("title") or "").split())
    return f"{title}\n{context['text']}" if title else str(context["text"])


def with_contexts(
    items: Iterable[Item], path: str | Path
) -> tuple[list[Item], dict[str, list[str]]]:
    """The items, each with the ids of its ``contexts``, and the passages by item id.

    Raises:
        InputError: a question that the file does not hold: one that nothing was found for
            stands in it with an empty list.
    """
    known, items = read_contexts(path), list(items)
    missing = [item["id"] for item in items if item["id"] not in known]
    if missing:
        problem = f"{len(missing)} of {len(items)} questions are not in it, as {missing[0]}"
        raise InputError(problem, path=path, field="id", fix="Retrieve for all of them.")
    passages = {item["id"]: [passage_of(one) for one in known[item["id"]]] for item in items}
    named: list[Any] = [
        {**item, "contexts": [str(one.get("id") or "") for one in known[item["id"]]]}
        for item in items
    ]
    return named, passages
