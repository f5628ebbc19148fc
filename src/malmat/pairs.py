"""What makes a dialogue pair fit to be learned from: the checks of augmentation and of the data."""

from __future__ import annotations

import json
import re

from malmat.korean import EMOJI, TermMatcher, hangul_share, normalize

MAX_CHARACTERS = 300
"""Longest question or answer: 99 % of the published pairs stay within 158 tokens."""

REPLY_SCHEMA = {
    "type": "object",
    "properties": {
        "title": {"type": "string"},
        "description": {"type": "string"},
        "conversations": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "context": {"type": "string"},
                    "q": {"type": "string"},
                    "a": {"type": "string"},
                },
                "required": ["context", "q", "a"],
                "additionalProperties": False,
            },
        },
    },
    "required": ["title", "description", "conversations"],
    "additionalProperties": False,
}
"""The reply to ``AUGMENT``, as JSON Schema."""


def parse_reply(text: str) -> list[dict]:
    """The conversations of a reply to ``AUGMENT``.

    Text around the JSON (a code fence, a greeting) is passed over.

    Raises:
        ValueError: no readable JSON of the asked shape in it.
    """
    start = text.find("{")
    if start < 0:
        raise ValueError("no JSON object in the reply")
    try:
        value, _ = json.JSONDecoder().raw_decode(text, start)
    except RecursionError:
        raise ValueError("the reply's JSON is nested too deep") from None
    turns = value.get("conversations")
    if not isinstance(turns, list) or not turns:
        raise ValueError("no conversations in the reply")
    kept = [
        {name: str(turn.get(name) or "").strip() for name in ("context", "q", "a")}
        for turn in turns
        if isinstance(turn, dict) and isinstance(turn.get("q"), str)
    ]
    if not kept:
        raise ValueError("no conversation in the reply has a question")
    return kept


def pair_problems(pair: dict, term: dict, matcher: TermMatcher) -> list[str]:
    """Why a pair (``q, a``) is not fit for the term (``title, example_q, example_a``); [] if it is.

    Args:
        matcher: knows the term (and may know others).
    """
    question, answer = pair["q"], pair["a"]
    problems = []
    if not question or not answer:
        return ["empty"]
    if max(len(question), len(answer)) > MAX_CHARACTERS:
        problems.append("too long")
    if hangul_share(question) < 0.5 or hangul_share(answer) < 0.5:
        problems.append("not Korean")
    if EMOJI.search(question + answer):
        problems.append("emoji")
    if squeeze(question) == squeeze(answer):
        problems.append("answer repeats the question")
    examples = {squeeze(term.get("example_q", "")), squeeze(term.get("example_a", ""))} - {""}
    if squeeze(question) in examples or squeeze(answer) in examples:
        problems.append("copies the example")
    if not matcher.find(f"{question}\n{answer}", only=term["title"]):
        problems.append("term not found")
    return problems


def squeeze(text: str) -> str:
    """Text for comparison: normalised, letters only, so that spacing and ㅋㅋ do not count."""
    return re.sub(r"[\W_ㅋㅎㅠㅜ]+", "", normalize(text)).lower()
