"""What the training scripts know of the evaluation and of the data: the tasks whose questions must
not be trained on, and the wording and card of the slang rows.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from malmat.cli import ROOT, relative
from malmat.errors import InputError
from malmat.evaluate.items import held_back
from malmat.evaluate.task import registered_tasks
from malmat.files import file_digest
from malmat.formats import read_terms
from malmat.train.loop import Build
from malmat.train.record import json_of, rank
from malmat.train.run import fit
from malmat.train.settings import TrainSettings

TERMS = ROOT / "src" / "data" / "terms.csv"

DEFAULTS = {
    "wording": "src/eval/prompt.py:CHAT",
    "tasks": ["all"],
    "card": "src/train/card.json",
}
"""Defaults of the options that all training scripts share."""


def evaluation_items(names: Iterable[str]) -> list[dict]:
    """What the named tasks ask, which may not be trained on (``all``: every task's).

    Raises:
        InputError: no such task.
    """
    tasks = registered_tasks()
    names = list(names)
    for name in names:
        if name not in (*tasks, "all"):
            raise InputError(f"no task '{name}'", field="tasks", fix=f"One of {', '.join(tasks)}.")
    return held_back(tasks.values() if "all" in names else [tasks[name] for name in names])


def known_terms() -> list[dict]:
    """``{title, forms}`` of the terms that the data knows."""
    return read_terms(TERMS) if TERMS.is_file() else []


def stale_split(data_path: str) -> str | None:
    """A line that says so where the rows were split from a file that has changed since; split.json
    beside them has that file's SHA-256 (an older one: its time counts)."""
    record = Path(data_path).parent / "split.json"
    if Path(data_path).name not in ("train.jsonl", "heldout.jsonl") or not record.is_file():
        return None
    split = json_of(record)
    given = split.get("input") or {"path": split.get("settings", {}).get("input", "")}
    inputs = given if isinstance(given, list) else [given]
    changed = [one["path"] for one in inputs if _has_changed(one, record)]
    if not changed:
        return None
    folder = shlex.quote(relative(record.parent))
    sources = " ".join(shlex.quote(one["path"]) for one in inputs)
    return (
        f"warning: {' and '.join(changed)} has changed since {relative(data_path)} was split from "
        "it: this trains on the old rows. Split anew with python src/data/split.py "
        f"--input {sources} --output_dir {folder}"
    )


def _has_changed(given: dict, record: Path) -> bool:
    """Whether a file that was split is another one now; False where it is not there."""
    source = ROOT / given["path"]
    if not source.is_file():
        return False
    if "sha256" in given:
        return given["sha256"] != file_digest(source)
    return source.stat().st_mtime > record.stat().st_mtime


def train(settings: TrainSettings, build: Build, **options: Any) -> None:
    """Train (``run.fit``) on rows that hold nothing of the settings' tasks."""
    if rank() == 0 and (line := stale_split(settings.data_path)):
        print(line, flush=True)
    items = evaluation_items(settings.tasks)
    fit(settings, build, items=items, terms=known_terms(), **options)
