"""What a rater of ``human.py`` is shown, and where the ratings go."""

from __future__ import annotations

import datetime
import html
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from malmat.evaluate.pairwise import LEFT, RIGHT, SAME, term_key
from malmat.evaluate.task import Asked, Row
from malmat.journal import Journal
from malmat.text.candidates import Candidates, listing

DONE = '<div class="done">모두 마쳤습니다. 고맙습니다!<br>이제 창을 닫으셔도 됩니다.</div>'
SIDES = {LEFT: "왼쪽", RIGHT: "오른쪽", SAME: "비슷함"}
"""What a rater says of two dialogues → the text of its button."""


@dataclass
class Session:
    """Answers to be rated one by one. A visitor's place among them is the page's.

    Args:
        asked: how the task asks.
        rules: Markdown that says when to choose what.
        items: the answers in the rater's order, each with its ``key``.
        journal: of the ratings.
        record: an item → what a line of the ratings' file says of it.
        terms: the term list.
    """

    asked: Asked
    rules: str
    items: list[Row]
    journal: Journal
    record: Callable[[Row], dict]
    terms: list[dict]
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self._candidates = Candidates(self.terms) if self.asked.shows_terms else None

    @property
    def rated(self) -> int:
        return sum(self.journal.get(item["key"]) is not None for item in self.items)

    def first_open(self) -> int:
        """The place of the first answer that is not rated; behind the last where all are."""
        places = enumerate(self.items)
        open_ones = (n for n, item in places if self.journal.get(item["key"]) is None)
        return next(open_ones, len(self.items))

    def rating(self, place: int) -> dict | None:
        return self.journal.get(self.items[place]["key"]) if place < len(self.items) else None

    def rate(self, place: int, value: Any) -> int:
        """Save a rating (None skips the answer); the next place comes back."""
        if place < len(self.items):
            now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
            with self._lock:
                more = {"rating": value, "time": now}
                self.journal.append(self.record(self.items[place]) | more)
        return min(place + 1, len(self.items))

    def card(self, place: int) -> str:
        """What is rated at a place, as HTML."""
        return self._card(self.items[place]) if place < len(self.items) else DONE

    def question(self, place: int) -> str:
        """What is asked at a place, as HTML."""
        asked = self._asked(self.items[place]) if place < len(self.items) else ""
        return f'<div class="ask">{html.escape(asked)}</div>'

    def _asked(self, item: Row) -> str:
        return self.asked.question

    def _card(self, item: Row) -> str:
        """An answer with what belongs to it."""
        talk = chat([("question", item["question"]), ("answer", item["answer"])])
        term = term_of(item["title"], item["content"]) if item.get("content") else ""
        return f"{term}{talk}{self._meanings(item)}"

    def _meanings(self, item: Row) -> str:
        """The listed terms that may stand in the answer, as a judge is given them."""
        if self._candidates is None:
            return ""
        lines = html.escape(listing(self._candidates.of(item["answer"]))).replace("\n", "<br>")
        return f'<div class="term">답변에 쓰였을 수 있는 신조어<p>{lines}</p></div>'

    def progress(self) -> str:
        rated, total = self.rated, len(self.items)
        return (
            f'<div class="progress">{total}개 중 {rated}개를 평가했습니다'
            f'<div class="bar"><i style="width:{100 * rated / total:.1f}%"></i></div></div>'
        )


class PairSession(Session):
    """Two dialogues side by side, of sets that are not named: ``pairwise.for_rater``'s rows."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self._meaning_of = {term_key(term["title"]): term["content"] for term in self.terms}

    def _asked(self, item: Row) -> str:
        return f"{item['number']}. {item['asked']}"

    def _card(self, item: Row) -> str:
        sides = sorted(item["dialogues"].items(), key=lambda side: side[0] != item["left"])
        columns = "".join(
            f'<section aria-label="{SIDES[side]}"><h2>{SIDES[side]}</h2>'
            f"{'' if item['title'] else self._term(one)}{_spoken(one['turns'])}</section>"
            for side, (_, one) in zip((LEFT, RIGHT), sides, strict=True)
        )
        return f'{self._term(item)}<div class="sides">{columns}</div>'

    def _term(self, row: Row) -> str:
        """The row's term and, where it is listed, its meaning; nothing where there is none."""
        title = row["title"]
        return term_of(title, self._meaning_of.get(term_key(title), "")) if title else ""


def term_of(title: str, meaning: str) -> str:
    """A term with what it means, as HTML."""
    title, meaning = (html.escape(text.strip()) for text in (title, meaning))
    return f'<div class="term"><b>{title}</b><p>{meaning}</p></div>'


def _spoken(turns: list[dict]) -> str:
    classes = {"user": "question", "assistant": "answer"}
    return chat((classes[turn["role"]], turn["content"]) for turn in turns)


def chat(bubbles: Iterable[tuple[str, str]]) -> str:
    """Texts as a chat's bubbles, each of a class."""
    shown = (f'<div class="{name}">{html.escape(text.strip())}</div>' for name, text in bubbles)
    return f'<div class="chat">{"".join(shown)}</div>'
