"""What makes a dialogue pair fit to be learned from: the checks of augmentation and of the data."""

from __future__ import annotations

import functools
import json
from typing import Any

from malmat.answer.replies import parse_object, whole_number
from malmat.journal import valid_text
from malmat.text.duplicates import THRESHOLD, NearDuplicates, shingles, similarity, squeeze
from malmat.text.korean import EMOJI, hangul_share
from malmat.text.terms import TermMatcher

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


VERDICT_SCHEMA = {
    "type": "object",
    "properties": {"label": {"type": "integer"}, "reason": {"type": "string"}},
    "required": ["label", "reason"],
    "additionalProperties": False,
}
"""The reply to ``HARMFUL``, as JSON Schema."""


VERDICTS = {0: None, 1: "harmful", -1: "unclear"}
"""What the labels of ``HARMFUL`` say against a text: safe, harmful, cannot be told."""


def parse_reply(text: str) -> list[dict]:
    """The conversations of a reply to ``AUGMENT``, as ``[{context, q, a}]``.

    One that is not of that shape is ``{context, q, a, raw}``: all empty, and what it was.

    Raises:
        ValueError: no readable JSON of the asked shape in it.
    """
    turns = parse_object(text, "conversations")["conversations"]
    if not isinstance(turns, list) or not turns:
        raise ValueError("no conversations in the reply")
    pairs = [_pair(turn) for turn in turns]
    if all("raw" in pair for pair in pairs):
        raise ValueError("no conversation in the reply has a context, a q and an a")
    return pairs


def _pair(turn: Any) -> dict:
    names = ("context", "q", "a")
    if isinstance(turn, dict) and all(isinstance(turn.get(name), str) for name in names):
        return {name: valid_text(turn[name]).strip() for name in names}
    raw = valid_text(json.dumps(turn, ensure_ascii=False))
    return {**dict.fromkeys(names, ""), "raw": raw}


def parse_verdict(text: str) -> int:
    """The label of a reply to ``HARMFUL``: 0 safe, 1 harmful, -1 unclear.

    Raises:
        ValueError: unreadable, or another label.
    """
    said = parse_object(text, "label")["label"]
    label = whole_number(said)
    if label not in tuple(VERDICTS):
        raise ValueError(f"not a label: {valid_text(repr(said))[:40]}")
    return label


def pair_problems(pair: dict, term: dict, matcher: TermMatcher) -> list[str]:
    """Why a pair (``q, a``) is not fit for the term (``title, example_q, example_a``); [] if it is.

    Args:
        matcher: knows the term (and may know others).
    """
    question, answer = pair["q"], pair["a"]
    problems = []
    if "raw" in pair:
        return ["malformed"]
    if not question or not answer:
        return ["empty"]
    if max(len(question), len(answer)) > MAX_CHARACTERS:
        problems.append("too long")
    if hangul_share(question) < 0.5 or hangul_share(answer) < 0.5:
        problems.append("not Korean")
    if "\ufffd" in question + answer:
        problems.append("damaged text")
    if EMOJI.search(question + answer):
        problems.append("emoji")
    if squeeze(question) == squeeze(answer):
        problems.append("answer repeats the question")
    examples = [term.get("example_q", ""), term.get("example_a", "")]
    if any(copies(text, example) for text in (question, answer) for example in examples):
        problems.append("copies the example")
    if not matcher.find(f"{question}\n{answer}", only=term["title"]):
        problems.append("term not found")
    return problems


LONG_EXAMPLE = 10
"""Letters from which an example that stands whole inside a text counts as copied."""


def copies(text: str, example: str) -> bool:
    """Whether the text is the example, nearly the example, or holds all of a longer one."""
    (plain, grams), (other, others) = _outline(text), _outline(example)
    if not other:
        return False
    if plain == other or (len(other) >= LONG_EXAMPLE and other in plain):
        return True
    return similarity(grams, others) >= THRESHOLD


@functools.lru_cache(maxsize=256)  # a term's examples meet all of its pairs
def _outline(text: str) -> tuple[str, frozenset[int]]:
    return squeeze(text), shingles(text)


def filter_pairs(
    pairs: list[dict], term: dict, room: int, matcher: TermMatcher, index: NearDuplicates
) -> tuple[list[dict], list[dict]]:
    """The pairs of a reply that pass, and those that do not, each with its ``reasons``.

    Args:
        room: how many pairs the term can still take.
        index: of all pairs that passed before; those that pass now are added.
    """
    good: list[dict] = []
    bad: list[dict] = []
    for pair in pairs:
        reasons = pair_problems(pair, term, matcher)
        if not reasons and len(good) >= room:
            reasons = ["more than asked for"]
        if not reasons and index.add(pair["q"] + pair["a"], only_new=True):
            reasons = ["near-duplicate"]
        if reasons:
            bad.append({**pair, "reasons": reasons})
        else:
            good.append(pair)
    return good, bad
