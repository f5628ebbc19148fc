"""The leak gate of multiple-choice items: nothing that is kept may be like a held-out item."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from malmat.contests.makers import Seed
from malmat.contests.mcq_rows import read_exam_items
from malmat.sources.row import Mcq
from malmat.text.duplicates import NearDuplicates
from malmat.text.overlap import Overlaps

PASSAGE = "leaks a held-out passage"


class HeldBack:
    """The passages and questions of held-out files (test, dev), to look new ones up in.

    A passage leaks that is nearly one of theirs, is cut from one, or quotes one. A question leaks
    with its choices: "윗글의 내용과 일치하는 것은?" alone says nothing.
    """

    def __init__(self, paths: Iterable[str | Path]):
        self._passages, self._stretches = NearDuplicates(), Overlaps()
        self._questions = NearDuplicates()
        self._seen: set[str] = set()
        self.items = 0
        for path in paths:
            for item, _ in read_exam_items(path, answered=False)[0]:
                self._add(item)

    def _add(self, item: Mcq) -> None:
        self.items += 1
        self._questions.add(question_of(item))
        if item.paragraph and item.paragraph not in self._seen:
            self._seen.add(item.paragraph)
            self._passages.add(item.paragraph)
            self._stretches.add(item.paragraph)

    def holds_passage(self, text: str) -> bool:
        """Whether a passage is, in whole or in large part, a held-out one."""
        if not text.strip():
            return False
        return bool(self._passages.find(text) or self._stretches.find(text))

    def seed_reason(self, seed: Seed) -> str | None:
        """Why nothing may be made of a passage or an item, or None."""
        if seed.item is not None:
            return self.reason(seed.item)
        return PASSAGE if self.holds_passage(seed.paragraph) else None

    def reason(self, item: Mcq) -> str | None:
        """Why an item may not be kept, or None."""
        if self.holds_passage(item.paragraph):
            return PASSAGE
        return "leaks a held-out question" if self._questions.find(question_of(item)) else None


def question_of(item: Mcq) -> str:
    """A question with its box and choices, in one order: a shuffled copy is the same question."""
    return " ".join([item.question, item.plus, *sorted(item.choices)])
