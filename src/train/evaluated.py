"""What the training scripts know of the evaluation and of the data: the tasks whose questions must
not be trained on, and the wording and card of the slang rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.evaluate.items import held_back
from malmat.evaluate.task import registered_tasks
from malmat.formats import read_terms
from malmat.train.loop import Build
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


def train(settings: TrainSettings, build: Build, **options: Any) -> None:
    """Train (``run.fit``) on rows that hold nothing of the settings' tasks."""
    items = evaluation_items(settings.tasks)
    fit(settings, build, items=items, terms=known_terms(), **options)
