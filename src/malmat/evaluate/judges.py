"""How a model behind an API judges answers: what it is sent, what it says, the verdict.

A task names its judge. ``GradeJudge`` gives a grade of 1 to 5 to an answer about a term,
``TermJudge`` says whether an answer uses a listed term in its meaning. The term judge is sent
only the terms that may stand in the answer (``Candidates``), at a tenth of the tokens of a whole
list. What it names beside them in ``other`` counts where it turns out to be a listed term that
was not among the candidates; slang that is in no list is recorded and does not count, as the
rate is of *listed* terms.
"""

from __future__ import annotations

import contextlib
import threading
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Generic, TypeVar

from malmat.answer.api import ApiEngine
from malmat.answer.prices import Meter
from malmat.answer.provider import Model
from malmat.answer.replies import parse_object, whole_number
from malmat.answer.request import JUDGED, Request, answers_by_id, asked_otherwise
from malmat.evaluate.items import OutOfRange
from malmat.evaluate.task import Row
from malmat.files import digest
from malmat.journal import Journal
from malmat.prompts import fill
from malmat.text.candidates import Candidates, letters_of, listing


@dataclass(frozen=True)
class JudgeRequest(Request):
    """A request with what its reply is held against: the answer, and the titles shown beside it."""

    answer: str = ""
    shown: frozenset[str] = frozenset()


Said = TypeVar("Said")
"""What is read in a reply."""

Lookup = TypeVar("Lookup")
"""What a judge looks terms up in."""


@dataclass(frozen=True)
class Judge(ABC, Generic[Said, Lookup]):
    """How a language model judges a task's answers.

    Args:
        prompt: the constant of prompt.py that an API model is sent.
    """

    prompt: str
    local_prompt: str | None = field(default=None, init=False)
    """The short form for a model on this machine; None: only API models can judge."""

    placeholders: ClassVar[set[str]]
    """What each of these constants must have."""

    needs_meaning: ClassVar[bool]
    """Whether a row needs its term's ``title`` and meaning (``content``)."""

    can_tie: ClassVar[bool]
    """Whether an even number of judgements can have no result."""

    schema: ClassVar[dict]
    """JSON Schema of a reply."""

    @abstractmethod
    def read(self, text: str) -> Said:
        """Read a reply.

        Raises:
            ValueError: the reply is unreadable.
            OutOfRange: its number is not on the scale.
        """

    @abstractmethod
    def lookup(self, terms: list[dict]) -> Lookup:
        """Prepare the list for ``values`` and ``judgement``."""

    @abstractmethod
    def values(self, row: Row, terms: list[dict], lookup: Lookup | None) -> tuple[dict, list[dict]]:
        """Return the prompt's values beside question and answer, and the terms that it shows.

        Args:
            lookup: None shows the whole list.
        """

    @abstractmethod
    def judgement(self, said: Said, request: JudgeRequest, lookup: Lookup) -> dict:
        """Return what one reply comes to: its ``value``, and what else the judge says.

        Raises:
            ValueError: what it says cannot be looked up.
        """

    @abstractmethod
    def combine(self, judgements: list[dict]) -> dict | None:
        """Combine several judgements of an answer; None where they tie."""


@dataclass(frozen=True)
class GradeJudge(Judge[int, None]):
    """Grades how well an answer understands the term it is about, from 1 to 5.

    Args:
        prompt: as ``Judge``.
        local_prompt: the short form for a model on this machine, which answers with one digit.
    """

    local_prompt: str | None = None
    placeholders: ClassVar[set[str]] = {"title", "content", "question", "answer"}
    needs_meaning: ClassVar[bool] = True
    can_tie: ClassVar[bool] = False
    schema: ClassVar[dict] = {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "score": {"type": "integer"}},
        "required": ["reason", "score"],
        "additionalProperties": False,
    }

    def read(self, text: str) -> int:
        """Read the grade."""
        score = whole_number(parse_object(text, "score")["score"])
        if score is None:
            raise ValueError("no whole number in the judge's 'score'")
        if not 1 <= score <= 5:
            raise OutOfRange(str(score))
        return score

    def lookup(self, terms: list[dict]) -> None:
        """A grade needs no list."""

    def values(self, row: Row, terms: list[dict], lookup: None) -> tuple[dict, list[dict]]:
        """Return the row's term and its meaning; no listed term is shown."""
        return {"title": row["title"], "content": row["content"]}, []

    def judgement(self, said: int, request: JudgeRequest, lookup: None) -> dict:
        """The grade is the value."""
        return {"value": said}

    def combine(self, judgements: list[dict]) -> dict:
        """Return the mean."""
        return {"value": sum(one["value"] for one in judgements) / len(judgements)}


@dataclass(frozen=True)
class TermJudge(Judge[tuple[bool, str, str], Candidates]):
    """Says whether an answer uses a term of the list in its meaning.

    A use of what is no listed term is unreadable, as a use of nothing is.
    """

    placeholders: ClassVar[set[str]] = {"terms", "question", "answer"}
    needs_meaning: ClassVar[bool] = False
    can_tie: ClassVar[bool] = True
    schema: ClassVar[dict] = {
        "type": "object",
        "properties": {
            "used": {"type": "boolean"},
            "term": {"type": "string"},
            "other": {"type": "string"},
        },
        "required": ["used", "term", "other"],
        "additionalProperties": False,
    }

    def read(self, text: str) -> tuple[bool, str, str]:
        """Read ``used``, the ``term`` and the ``other`` slang ('' for none).

        A use of nothing is unreadable.
        """
        reply = parse_object(text, "used", "term", "other")
        used = {"true": True, "false": False}.get(str(reply["used"]).lower(), reply["used"])
        if not isinstance(used, bool):
            raise ValueError("no true or false in the judge's 'used'")
        named = (reply.get(name) for name in ("term", "other"))
        term, other = (word.strip() if isinstance(word, str) else "" for word in named)
        if used and not term and not other:
            raise ValueError("the judge's 'used' is true, but it names no term")
        return used, term, other

    def lookup(self, terms: list[dict]) -> Candidates:
        """Index the list by spelling and morphology."""
        return Candidates(terms)

    def values(
        self, row: Row, terms: list[dict], lookup: Candidates | None
    ) -> tuple[dict, list[dict]]:
        """Return the listing of the answer's candidates, and the candidates."""
        shown = terms if lookup is None else lookup.of(row["answer"])
        return {"terms": listing(shown, lookup is None)}, shown

    def judgement(
        self, said: tuple[bool, str, str], request: JudgeRequest, lookup: Candidates
    ) -> dict:
        """Look up what the reply names, in the list and in the answer."""
        used, term, other = said
        terms, beside = [], []
        if used and (title := lookup.named(term)):
            terms.append(title)
        elif used:
            beside.append(term)
        title = lookup.named(other)
        # Shown and not called used: the judge has seen its meaning and found that it does not fit.
        if title not in request.shown:
            beside.append(other)
        answer = letters_of(request.answer)
        beside = [word for word in beside if letters_of(word) and letters_of(word) in answer]
        if title and other in beside:
            terms.append(title)
        if used and not terms:
            raise ValueError(f"'{term or other}', which the judge calls used, is no listed term")
        return {"value": bool(terms), "terms": terms, "other": beside}

    def combine(self, judgements: list[dict]) -> dict | None:
        """Return what the majority says (an odd number ties where one is missing)."""
        uses = sum(one["value"] for one in judgements)
        if uses * 2 == len(judgements):
            return None
        named = (title for one in judgements for title in one["terms"])
        used = uses * 2 > len(judgements)
        return {"value": float(used), "terms": list(dict.fromkeys(named)) if used else []}


def judge_requests(
    judge: Judge,
    prompts: dict[str, str],
    rows: Sequence[Row],
    terms: list[dict],
    *,
    n: int = 1,
    full_list: bool = False,
    ask_blocked: bool = False,
) -> list[JudgeRequest]:
    """An API judge's requests, ``n`` a row.

    Args:
        rows: ``id, question, answer``, and ``title, content`` where the judge needs them.
        full_list: all ``terms`` are shown with each answer.
        ask_blocked: as ``Request``.
    """
    lookup = None if full_list else judge.lookup(terms)
    requests = []
    for row in rows:
        values, shown = judge.values(row, terms, lookup)
        values |= {"question": row["question"], "answer": fenced(row)}
        text = fill(prompts[judge.prompt], **values)
        requests += [
            JudgeRequest(
                id=row["id"],
                messages=[{"role": "user", "content": text}],
                sampling={"temperature": 0.0 if n == 1 else 1.0},
                schema=judge.schema,
                sample=sample,
                again=JUDGED,
                ask_blocked=ask_blocked,
                answer=row["answer"],
                shown=frozenset(term["title"] for term in shown),
            )
            for sample in range(n)
        ]
    return requests


def fenced(row: Row) -> str:
    """The answer between two marks that hold a hash of it, so that it cannot close them itself."""
    mark = digest([row["id"], row["answer"]])[:8]
    return f"<<{mark}>>\n{row['answer']}\n<</{mark}>>"


def judge_by_api(
    model: Model,
    judge: Judge,
    requests: list[JudgeRequest],
    journal: Journal,
    terms: list[dict],
    *,
    concurrency: int = 8,
    max_cost: float | None = None,
) -> dict[str, dict]:
    """Verdicts of an API model, each from all judgements of its row; replies are kept.

    Args:
        requests: as from ``judge_requests``.
        terms: the list in which a term judge's words are looked up.

    Returns:
        Row id → ``status``, ``value``, ``judge_values`` (a value a judgement),
        ``judge_statuses`` (how many judgements came to what), ``judge_replies``,
        ``judge_version``, ``judge_tokens``; of a term judge also ``terms`` (listed ones in use)
        and ``other`` (other slang).
    """

    lookup, one_at_a_time = judge.lookup(terms), threading.Lock()

    def accept(request: Request, text: str) -> None:
        assert isinstance(request, JudgeRequest)
        with contextlib.suppress(OutOfRange):  # read, and off the scale: no reason to ask again
            said = judge.read(text)
            with one_at_a_time:  # the morphology
                judge.judgement(said, request, lookup)

    records = answers_by_id(
        ApiEngine(model, concurrency),
        list(requests),
        journal,
        accept=accept,
        meter=Meter(model.name, max_cost=max_cost),
        label="judge",
    )
    grouped: dict[str, list[dict]] = {}
    for request in requests:
        record = dict(records[f"{request.id}#{request.sample}"])
        if record["status"] == "ok":
            try:
                record |= judge.judgement(judge.read(record["text"]), request, lookup)
            except OutOfRange:
                record["status"] = "out_of_range"
        grouped.setdefault(request.id, []).append(record)
    return {row_id: _verdict(judge, samples) for row_id, samples in grouped.items()}


def _verdict(judge: Judge, samples: list[dict]) -> dict:
    statuses = Counter(record["status"] for record in samples)
    good = [record for record in samples if record["status"] == "ok"]
    failures = sorted(statuses.keys() - {"ok"}, key=lambda name: (name == "out_of_range", name))
    combined = judge.combine(good) if good else None
    versions = {record["model_version"] for record in samples if record["model_version"]}
    verdict = {
        "status": "ok" if combined is not None else failures[0],
        "judge_replies": [record["text"] for record in samples],
        "judge_version": ", ".join(sorted(versions)) or None,
        "judge_tokens": {
            side: sum(record["usage"][side] for record in samples) for side in ("input", "output")
        },
        "judge_values": [record["value"] for record in good],
        "judge_statuses": dict(statuses),
        "n_judgements": len(good),
    }
    verdict |= {f"judge_{name}": value for name, value in asked_otherwise(samples).items()}
    if errors := [record["error"] for record in samples if record["error"]]:
        verdict["judge_error"] = errors[0]
    if others := list(dict.fromkeys(word for r in samples for word in r.get("other", ()))):
        verdict["other"] = others
    return verdict | (combined or {})
