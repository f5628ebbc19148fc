"""Wrong answers to typed questions, for preference pairs: which of them are wrong for certain.

A pair teaches what its two sides differ in. A rejected answer that is right teaches an error, one
of another type or of another length teaches the type or the length, which DPO learns first.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from malmat.contests.typed_questions import CHOICE, LONG, SHORT, Question
from malmat.errors import InputError
from malmat.files import row_id
from malmat.journal import valid_text
from malmat.text.alternatives import SPELLING, Alternatives
from malmat.text.duplicates import squeeze
from malmat.text.korean import normalize
from malmat.text.readings import read_alike, script_of

EMPTY, TYPE, LENGTH, SCRIPT, TWICE, CHECKED, FAILED, MORE, UNJUDGED, OWN = (
    "empty",
    "of another type",
    "of another length",
    "in another script",
    "stands twice",
    "called right by the checker",
    "no answer",
    "more than asked for",
    "needs --qrels or --checker",
    "of the question's own keyword",
)

RATIO = (0.5, 2.0)
"""The length of the chosen answer over that of the rejected one, in characters: from … to."""

_LONGEST_SHORT, _WORDS_SHORT = 40, 6
"""Characters and words of a short answer, where no accepted one has more."""

_SHORTEST_LONG = 40
"""Characters of a paragraph."""

_NUMBER = re.compile(r"(?:약|제)?\s*\d[\d.,]*\s*[가-힣%]{0,2}")
_LABEL = re.compile(r"\(?\d{1,2}\s*(?:번|\)|\.)\)?|[①-⑩]")
_SENTENCE = re.compile(r"(?:다|요|죠|음)[.!]?$|[.!?]$")


@dataclass(frozen=True)
class Candidate:
    """A wrong answer that was found for a question.

    Args:
        question: the question's id.
        source: where it comes from, for the report.
        reason: why it cannot be used, where that is known already.
    """

    question: str
    text: str
    source: str
    reason: str | None = None


@dataclass(frozen=True)
class Asked:
    """A question with the messages that a model is asked it with, and its chosen answer."""

    question: Question
    messages: list[dict]
    chosen: str


def asked_rows(questions: Iterable[Question], path: str) -> list[Asked]:
    """The questions of a file of prepared rows.

    Raises:
        InputError: a row without messages, or without an answer: a test row.
    """
    found = []
    for one in questions:
        messages = one.more.get("messages")
        if not isinstance(messages, list) or not messages:
            fix = "Give rows of prepare.py."
            raise InputError("missing", path=path, line=one.line, field="messages", fix=fix)
        if one.answer is None or messages[-1]["role"] != "assistant":
            fix = "Give training rows alone."
            problem = f"the row {one.id} has no answer"
            raise InputError(problem, path=path, line=one.line, field="answer", fix=fix)
        found.append(Asked(one, messages[:-1], str(messages[-1]["content"])))
    return found


# ------------------------------------------------------------------------------ sources


def from_options(asked: Asked) -> Iterator[Candidate]:
    """The other choices."""
    one = asked.question
    for label in one.labels:
        if label != one.answer:
            yield Candidate(one.id, label, "options")


def from_contexts(
    asked: Asked,
    contexts: Sequence[Mapping[str, Any]],
    *,
    judged: bool = True,
    checked: bool = False,
) -> Iterator[Candidate]:
    """What stands near the question in a corpus: of a short answer the titles, of a long one as
    many whole sentences as come near its length.

    Args:
        judged: right passages are known, and left out. Where they are not, a passage on the
            question's keyword may be right, and so may any other that a paragraph is taken from.
        checked: a model reads the candidates.
    """
    one = asked.question
    unread = None if checked else UNJUDGED
    for context in contexts:
        if one.type == SHORT and str(context.get("title") or "").strip():
            yield Candidate(one.id, str(context["title"]), "neighbours")
        elif one.type == LONG:
            text = _sentences(str(context["text"]), len(asked.chosen))
            is_own = squeeze(str(context.get("title") or "")) == squeeze(one.keyword) != ""
            reason = None if judged else OWN if is_own else unread
            yield Candidate(one.id, text, "neighbours", reason)


def _sentences(text: str, length: int) -> str:
    """The first sentences of a text, up to the one that passes ``length`` characters."""
    parts = re.findall(r".+?(?:[.!?](?=\s|$)|$)", " ".join(text.split()))
    kept = ""
    for part in parts:
        if kept and len(kept) + len(part) > length * 1.2:
            break
        kept += part
    return kept.strip()


def from_answers(rows: Iterable[Mapping[str, Any]], source: str) -> Iterator[Candidate]:
    """Answers of a model (rows of infer.py), or rejected answers of a file; those that failed are
    none."""
    for row in rows:
        text = row.get("rejected", row.get("answer"))
        status = row.get("status", "ok")
        reason = None if status == "ok" and isinstance(text, str) else FAILED
        name = str(row.get("source") or source)
        yield Candidate(str(row["id"]), text if isinstance(text, str) else "", name, reason)


# ------------------------------------------------------------------------------- checks


def problem(asked: Asked, text: str, ratio: tuple[float, float] = RATIO) -> str | None:
    """Why a text is no wrong answer to be rejected, or None."""
    one, plain = asked.question, normalize(valid_text(text)).strip()
    if not plain:
        return EMPTY
    if one.type == CHOICE:
        if plain not in one.labels:
            return TYPE
        return "is an accepted answer" if plain == one.answer else None
    if reason := Alternatives(one.answers).reason(plain):
        return reason
    if any(read_alike(plain, answer) for answer in one.answers):
        return SPELLING
    if is_of_another_type(one, plain):
        return TYPE
    scripts = [script_of(answer) for answer in one.answers]
    if script_of(plain) and all(scripts) and script_of(plain) not in scripts:
        return SCRIPT
    if not ratio[0] <= len(asked.chosen.strip()) / len(plain) <= ratio[1]:
        return LENGTH
    return None


def is_of_another_type(one: Question, text: str) -> bool:
    """Whether a text answers another type of question than this: a sentence where a word is asked
    for, a word where a paragraph is, the number of a choice, a word for a number."""
    if one.type == LONG:
        return len(text) < _SHORTEST_LONG or bool(_LABEL.fullmatch(text))
    answers = one.answers
    longest = max(_LONGEST_SHORT, *map(len, answers))
    words = max(_WORDS_SHORT, *(len(answer.split()) for answer in answers))
    if "\n" in text or len(text) > longest or len(text.split()) > words:
        return True
    if _LABEL.fullmatch(text) and not any(map(_LABEL.fullmatch, answers)):
        return True
    if any(bool(_NUMBER.fullmatch(a)) for a in answers) != bool(_NUMBER.fullmatch(text)):
        return True
    several = len(text.split()) > 2 and bool(_SENTENCE.search(text))
    return several and not any(_SENTENCE.search(answer) for answer in answers)


# ------------------------------------------------------------------------------- pairs


@dataclass
class Pairs:
    """The pairs that stand, and what was refused, by source and reason.

    Args:
        asked: question id → question.
        ratio: bounds of chosen over rejected, in characters.
        most: pairs a question.
    """

    asked: Mapping[str, Asked]
    ratio: tuple[float, float] = RATIO
    most: int = 4
    rows: list[dict[str, Any]] = field(default_factory=list)
    refused: list[dict[str, Any]] = field(default_factory=list)
    counts: dict[str, Counter[str]] = field(default_factory=dict)

    def sound(self, candidates: Iterable[Candidate]) -> list[Candidate]:
        """The candidates that no check of their text refuses, each text once a question, the
        sources taking turns."""
        seen: set[tuple[str, str]] = set()
        taken: Counter[str] = Counter()
        found = []
        for one in in_turns(candidates):
            text = " ".join(normalize(valid_text(one.text)).split())
            reason = one.reason or problem(self.asked[one.question], one.text, self.ratio)
            if reason is None and (one.question, text) in seen:
                reason = TWICE
            if reason is None and taken[one.question] >= self.most:
                reason = MORE
            seen.add((one.question, text))
            if reason:
                self.refuse(one, reason)
            else:
                taken[one.question] += 1
                found.append(one)
        return found

    def refuse(self, one: Candidate, reason: str) -> None:
        """Count a candidate that is not used."""
        self.counts.setdefault(one.source, Counter())[reason] += 1
        row = {"id": one.question, "source": one.source, "reason": reason, "rejected": one.text}
        asked = self.asked[one.question]
        self.refused.append({**row, "chosen": asked.chosen, "question": asked.question.text})

    def add(self, one: Candidate) -> None:
        """Make a pair of a candidate."""
        asked, text = self.asked[one.question], normalize(valid_text(one.text)).strip()
        self.counts.setdefault(one.source, Counter())["pairs"] += 1
        self.rows.append(
            {
                "id": row_id("preference", asked.messages, asked.chosen, text),
                "question_id": one.question,
                "cluster": asked.question.cluster,
                "type": asked.question.type,
                "source": one.source,
                "ratio": round(len(asked.chosen.strip()) / len(text), 3),
                "prompt": asked.messages,
                "chosen": asked.chosen,
                "rejected": text,
            }
        )

    def report(self) -> dict[str, Any]:
        """Counts by source and reason, by type, and the lengths of the two sides."""
        mean = {
            side: round(sum(len(row[side]) for row in self.rows) / max(1, len(self.rows)), 1)
            for side in ("chosen", "rejected")
        }
        return {
            "pairs": len(self.rows),
            "refused": len(self.refused),
            "questions": len({row["question_id"] for row in self.rows}),
            "by_source": {source: dict(found) for source, found in sorted(self.counts.items())},
            "by_type": dict(Counter(row["type"] for row in self.rows)),
            "mean_characters": mean,
        }

    def table(self) -> list[tuple[str, ...]]:
        """The counts by source and reason, as rows of cells."""
        reasons = Counter[str]()
        for found in self.counts.values():
            reasons.update(found)
        names = sorted(reasons, key=lambda name: (name != "pairs", -reasons[name], name))
        lines = [("source", *names)]
        for source, found in sorted(self.counts.items()):
            lines.append((source, *(str(found[name]) for name in names)))
        return [*lines, ("all", *(str(reasons[name]) for name in names))]


def in_turns(candidates: Iterable[Candidate]) -> list[Candidate]:
    """The candidates, ordered so that of each question each source's first comes before each
    source's second."""
    places: Counter[tuple[str, str]] = Counter()
    ordered = []
    for one in candidates:
        key = (one.question, one.source)
        ordered.append((places[key], one))
        places[key] += 1
    return [one for _, one in sorted(ordered, key=lambda pair: pair[0])]
