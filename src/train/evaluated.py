"""What the training scripts know of the evaluation and of the data: the tasks whose questions must
not be trained on, and the wording and card of the slang rows.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.files import read_rows
from malmat.formats import read_questions, read_terms
from malmat.train.loop import Build
from malmat.train.run import fit
from malmat.train.settings import TrainSettings

EVAL = ROOT / "src" / "eval"
QUESTIONS = {
    "understand": EVAL / "understand_questions.json",
    "usage": EVAL / "usage_questions.json",
}
TERMS_ASKED = EVAL / "meme_sample_with_questions.jsonl"
TERMS = ROOT / "src" / "data" / "terms.csv"

DEFAULTS = {
    "wording": "src/eval/prompt.py:CHAT",
    "tasks": list(QUESTIONS),
    "card": "src/train/card.json",
}
"""Defaults of the options that all training scripts share."""


def evaluation_items(names: Iterable[str]) -> list[dict]:
    """The items of the named tasks, and the terms (``title, split``) that they keep apart.

    Raises:
        InputError: no such task.
    """
    items = []
    for name in names:
        if name not in QUESTIONS:
            raise InputError(
                f"no task '{name}'", field="tasks", fix=f"One of {', '.join(QUESTIONS)}."
            )
        if QUESTIONS[name].is_file():
            items += read_questions(QUESTIONS[name])
    if items and TERMS_ASKED.is_file():
        rows = (row for _, row in read_rows(TERMS_ASKED))
        items += [{"title": row["title"], "split": row.get("split")} for row in rows]
    return items


def known_terms() -> list[dict]:
    """``{title, forms}`` of the terms that the data knows."""
    return read_terms(TERMS) if TERMS.is_file() else []


def train(settings: TrainSettings, build: Build, **options: Any) -> None:
    """Train (``run.fit``) on rows that hold nothing of the settings' tasks."""
    items = evaluation_items(settings.tasks)
    fit(settings, build, items=items, terms=known_terms(), **options)
