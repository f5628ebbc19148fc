"""Items answered back without their key: is it right, and does it take the passage?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from malmat.answer.replies import parse_object
from malmat.answer.request import NEEDED, Request
from malmat.contests.choice_order import rotated
from malmat.contests.makers import Draft, Prompts, one_of, read_number, schema_of, shown
from malmat.evaluate.items import numbered, numbers
from malmat.prompts import fill
from malmat.sources.row import Mcq


@dataclass(frozen=True)
class Probe:
    """One way in which each draft is answered back.

    Args:
        name: of the count of right answers in the row.
        prompt: the constants, a draft and its item with the choices in this vote's order → text.
        fails: (right answers, votes, right answers with everything shown) → why the draft is
            dropped, or None.
    """

    name: str
    prompt: Callable[[Prompts, Draft, Mcq], str]
    fails: Callable[[int, int, int], str | None]


def _asked(constant: str, *, passage: bool) -> Callable[[Prompts, Draft, Mcq], str]:
    def prompt(prompts: Prompts, draft: Draft, item: Mcq) -> str:
        whole, labels = shown(prompts, item, passage=passage), ", ".join(numbers(item.choices))
        return fill(prompts[constant], item=whole, numbers=labels)

    return prompt


def _by_hint(prompts: Prompts, draft: Draft, item: Mcq) -> str:
    labels = ", ".join(numbers(item.choices))
    values = {"hint": draft.more["hint"], "choices": numbered(item.choices), "numbers": labels}
    return fill(prompts["ANSWER_BY_HINT"], **values)


def with_passage(agree: int) -> Probe:
    """The whole item: at least ``agree`` votes must come to the key."""

    def fails(right: int, votes: int, _: int) -> str | None:
        return None if right >= agree else "the answers disagree with the key"

    return Probe("right", _asked("ANSWER_BACK", passage=True), fails)


def _needs_none(right: int, votes: int, whole: int) -> str | None:
    return "answered as well without the passage" if right >= whole else None


def _gives_away(right: int, votes: int, _: int) -> str | None:
    return "the hint gives the answer away" if right == votes else None


WITHOUT_PASSAGE = Probe("right_without_passage", _asked("ANSWER_BLIND", passage=False), _needs_none)
BY_HINT = Probe("right_by_hint", _by_hint, _gives_away)

WORDING = {
    "ITEM": {"passage", "question", "plus", "choices"},
    "ANSWER_BACK": {"item", "numbers"},
    "ANSWER_BLIND": {"item", "numbers"},
    "ANSWER_BY_HINT": {"hint", "choices", "numbers"},
}
"""The constants that are used here, with their placeholders."""


def item_of_vote(draft: Draft, vote: int) -> Mcq:
    """The draft's item as a vote sees it: the choices moved round by one place more each time,
    so that a model that prefers a place does not agree with a key that stands there."""
    assert draft.item is not None
    return rotated(draft.item, vote)


def answer_requests(
    prompts: Prompts,
    drafts: Sequence[Draft],
    probes: Sequence[Probe],
    votes: int,
    **settings: Any,
) -> Iterator[Request]:
    """The requests of all drafts, probe by probe, vote by vote; ``settings`` as ``Request``."""
    for draft in drafts:
        for probe in probes:
            for vote in range(votes):
                item = item_of_vote(draft, vote)
                yield Request(
                    id=f"{item.id} {probe.name} {vote + 1}",
                    messages=[{"role": "user", "content": probe.prompt(prompts, draft, item)}],
                    schema=schema_of(answer=one_of(len(item.choices))),
                    sample=vote,
                    again=NEEDED,
                    **settings,
                )


def read_vote(request: Request, text: str) -> int:
    """The number that a reply picks.

    Raises:
        ValueError: none, or beyond the choices.
    """
    assert request.schema is not None
    count = len(request.schema["properties"]["answer"]["enum"])
    return read_number(parse_object(text, "answer"), count)


@dataclass(frozen=True)
class Judged:
    """What the votes say of a draft.

    Args:
        right: probe's name → votes that came to the key.
        reason: why it is dropped, or None.
        missing: whether votes are missing, which the next run asks for again: the draft is
            neither kept nor dropped.
    """

    right: dict[str, int]
    reason: str | None
    missing: bool


def judged(
    draft: Draft,
    probes: Sequence[Probe],
    votes: int,
    records: Iterator[tuple[Request, dict]],
    statuses: Counter[str],
) -> Judged:
    """What a draft's votes say; takes their records, in the order of ``answer_requests``."""
    right: dict[str, int] = {}
    reason, missing = None, False
    for probe in probes:
        right[probe.name] = 0
        for vote in range(votes):
            request, record = next(records)
            statuses[record["status"]] += 1
            if record["status"] == "ok":
                said = read_vote(request, record["text"])
                right[probe.name] += said == item_of_vote(draft, vote).answer
            elif record["status"] in NEEDED:
                missing = True
            else:
                reason = reason or f"answering was {record['status']}"
    if not missing and reason is None:
        whole = right.get("right", votes)
        found = (probe.fails(right[probe.name], votes, whole) for probe in probes)
        reason = next((one for one in found if one), None)
    return Judged(right, reason, missing)
