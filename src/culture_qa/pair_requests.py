"""What make_dpo_pairs.py asks models: for wrong answers, and whether an answer is right."""

from __future__ import annotations

from functools import partial

from maker_options import Asking, request, said, shown
from malmat.answer.replies import parse_object
from malmat.answer.request import Request
from malmat.contests.makers import TEXT, schema_of
from malmat.contests.rejected_answers import CHECKED, Asked, Candidate, Pairs
from malmat.contests.typed_questions import CHOICE, LONG
from malmat.prompts import fill

WORDING = {
    "WRONG_SHORT": {"question", "answer", "count"},
    "WRONG_LONG": {"question", "answer", "count"},
    "CHECK": {"question", "answer"},
}
"""The constants that are used here, with their placeholders."""

ANSWERS = schema_of(answers={"type": "array", "items": TEXT})
VERDICT = schema_of(right={"type": "boolean"})


def writing(args, prompts: dict[str, str], rows: list[Asked]) -> list[Request]:
    """The requests for wrong answers; choices have their own."""
    made = []
    for one in (asked.question for asked in rows if asked.question.type != CHOICE):
        constant = "WRONG_LONG" if one.type == LONG else "WRONG_SHORT"
        values = {"question": shown(one), "answer": said(one), "count": args.count}
        text = fill(prompts[constant], **values)
        made.append(request(args, one.id, text, args.temperature, schema=ANSWERS))
    return made


def written(asked: Asking, requests: list[Request]) -> list[Candidate]:
    """What a model wrote; a reply that failed is no candidate."""
    records = asked.records(requests, lambda _, text: read_answers_of(text), "wrong answers")
    return [
        Candidate(one.id, text, "llm")
        for one, record in zip(requests, records, strict=True)
        if record["status"] == "ok"
        for text in read_answers_of(record["text"])
    ]


def read_answers_of(text: str) -> list[str]:
    """The answers of a reply.

    Raises:
        ValueError: it is no list of texts.
    """
    answers = parse_object(text, "answers")["answers"]
    if not isinstance(answers, list) or not all(isinstance(one, str) for one in answers):
        raise ValueError("the answers are no list of texts")
    return answers


def checked(
    args, prompts: dict[str, str], pairs: Pairs, sound: list[Candidate], asked: Asking
) -> list[tuple[Candidate, str | None]]:
    """Each candidate with the reason why the checker refuses it, or None."""
    if not args.checker:
        return [(one, None) for one in sound]
    make = partial(request, args, temperature=0.0, schema=VERDICT)
    requests = []
    for number, one in enumerate(sound):
        question = pairs.asked[one.question].question
        values = {"question": shown(question), "answer": said(question, one.text)}
        requests.append(make(f"{one.question} {number}", fill(prompts["CHECK"], **values)))
    records = asked.records(
        requests,
        lambda _, text: read_verdict(text),
        "checker",
        model=args.checker,
        temperature=0.0,
    )
    verdicts = [
        (CHECKED if read_verdict(record["text"]) else None)
        if record["status"] == "ok"
        else f"not checked ({record['status']})"
        for record in records
    ]
    return list(zip(sound, verdicts, strict=True))


def read_verdict(text: str) -> bool:
    """Whether a checker calls an answer right.

    Raises:
        ValueError: it does not say.
    """
    right = parse_object(text, "right")["right"]
    if not isinstance(right, bool):
        raise ValueError(f"neither true nor false: {right!r:.40}")
    return right
