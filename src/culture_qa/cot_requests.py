"""What make_cot.py asks models: for a rationale, a shorter one, and a second reading of it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from maker_options import Asking, request, said, shown
from malmat.answer.request import Request
from malmat.contests.rationales import LONGEST, comes_to, read_rationale, read_reading
from malmat.contests.typed_questions import Question
from malmat.files import row_id
from malmat.prompts import fill

WORDING = {
    "RATIONALE": {"question", "answer"},
    "REFINE": {"question", "rationale"},
    "SECOND_READING": {"question", "rationale"},
}
"""The constants that are used here, with their placeholders."""


@dataclass(frozen=True)
class Draft:
    """A rationale for an answer, which is the key or a wrong one; "" where none came."""

    question: Question
    answer: str
    text: str = ""
    reason: str | None = None

    @property
    def id(self) -> str:
        return row_id(self.question.id, self.answer)

    @property
    def is_right(self) -> bool:
        return self.answer == self.question.answer

    def values(self) -> dict[str, str]:
        return {"question": shown(self.question), "rationale": self.text}


def writing(args, prompts: dict[str, str], one: Draft) -> Request:
    """The request for a draft's rationale."""
    answer = one.question.answers[0] if one.is_right else one.answer
    values = {"question": shown(one.question), "answer": said(one.question, answer)}
    text = fill(prompts["RATIONALE"], **values)
    return request(args, f"{one.id} rationale", text, args.temperature)


def with_text(one: Draft, record: dict) -> Draft:
    """The draft with the rationale of a record, or with why there is none."""
    if record["status"] != "ok":
        return replace(one, reason=f"no rationale ({record['status']})")
    return replace(one, text=read_rationale(record["text"]))


def refined(args, prompts: dict[str, str], drafts: list[Draft], asked: Asking) -> list[Draft]:
    """The drafts, shortened; one stays as it is where what comes is not shorter."""
    some = [one for one in drafts if one.reason is None]
    requests = [
        request(args, f"{one.id} refine", fill(prompts["REFINE"], **one.values()), args.temperature)
        for one in some
    ]
    records = asked.records(requests, lambda _, text: read_rationale(text), "shortened")
    shorter = {}
    for one, record in zip(some, records, strict=True):
        text = read_rationale(record["text"]) if record["status"] == "ok" else one.text
        shorter[one.id] = replace(one, text=min(text, one.text, key=len))
    return [shorter.get(one.id, one) for one in drafts]


def read_again(args, prompts: dict[str, str], drafts: list[Draft], asked: Asking) -> list[Draft]:
    """The drafts, each with its reason where a second reading does not come to its answer."""
    some = [one for one in drafts if one.reason is None]
    by_id = {f"{one.id} reading": one for one in some}
    requests = [
        request(args, name, fill(prompts["SECOND_READING"], **one.values()), 0.0)
        for name, one in by_id.items()
    ]
    accept = {"accept": lambda r, text: read_reading(by_id[r.id].question, text)}
    options = {"label": "second readings", "model": args.checker, "temperature": 0.0}
    judged = {}
    for one, record in zip(some, asked.records(requests, **accept, **options), strict=True):
        reason = None if len(one.text) <= LONGEST else f"longer than {LONGEST} characters"
        if record["status"] != "ok":
            reason = f"not read again ({record['status']})"
        elif not comes_to(one.question, read_reading(one.question, record["text"]), one.answer):
            reason = "the second reading comes to another answer"
        judged[one.id] = replace(one, reason=reason)
    return [judged.get(one.id, one) for one in drafts]
