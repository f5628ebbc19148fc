"""Items and training rows that are made of ``dialogues``' rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from malmat.contests.dialogues import LABELS, Dialogue, Utterance, is_marked, read_dialogues
from malmat.contests.prepared import length_bin, prepared_items
from malmat.evaluate.task import Item
from malmat.files import read_rows
from malmat.prompts import inert

LENGTHS = (250, 350, 450)
"""Characters of a dialogue at which a length bin ends."""


def spoken(turn: Utterance) -> str:
    """An utterance as a line of a prompt: ``화자1: …``."""
    speaker = inert(str(turn["speaker"]))
    name = f"화자{speaker}" if speaker.isdecimal() else speaker
    return f"{name}: {inert(turn['utterance'])}"


def fields_of(one: Dialogue) -> dict[str, Any]:
    """The fields of an item that a file of prepared rows keeps; no ``answer`` in test rows."""
    answer = {} if one.answer is None else {"answer": one.answer}
    return {
        "id": one.id,
        "cluster": one.cluster,
        "category": one.category,
        "choices": list(LABELS),
        "options": one.options,
        **answer,
        "conversation": one.conversation,
        "reference_id": one.reference_id,
    }


def item_of(row: Mapping[str, Any]) -> Item:
    """The item of a row of ``fields_of``, with the ``variant`` of its wording where it names one.

    Beside the fields of every item it has ``category``, ``n_marked`` and ``length`` for slices,
    ``conversation`` and ``reference_id``.
    """
    turns, references = row["conversation"], row["reference_id"]
    marked = [spoken(turn) for turn in turns if is_marked(turn, references)]
    item: dict[str, Any] = {
        "id": row["id"],
        "question": f"{row['category']}: {' / '.join(marked)}",
        "title": row["cluster"],
        "passage": "\n".join(map(spoken, turns)),
        "choices": row["choices"],
        "options": row["options"],
        "category": row["category"],
        "n_marked": len(marked),
        "length": length_bin(sum(len(turn["utterance"]) for turn in turns), LENGTHS),
        "conversation": turns,
        "reference_id": references,
    }
    if row.get("answer") is not None:
        item["target"] = row["answer"]
    if row.get("variant"):
        item["variant"] = row["variant"]
    return item  # type: ignore[return-value]  # a dict that has an Item's fields


def read_items(path: str | Path, categories: Collection[str]) -> list[Item]:
    """The items of a contest's file, or of rows that were prepared from one.

    Raises:
        InputError: as ``read_dialogues``, or a prepared row that lacks something.
    """
    rows = read_rows(path, as_typed=True)
    if any(isinstance(row, dict) and "input" in row for _, row in rows) or not rows:
        dialogues, _ = read_dialogues(path, categories)
        return [item_of(fields_of(one)) for one in dialogues]
    fields = {"category": str, "conversation": list, "reference_id": list}
    return prepared_items(path, rows, item_of, fields)
