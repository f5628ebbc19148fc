"""Rationales for typed questions: right ones to train on, and ones that lead to a wrong answer."""

from __future__ import annotations

import re

from malmat.answer.replies import split_thoughts
from malmat.contests.typed_questions import CHOICE, LONG, Question
from malmat.evaluate.items import OutOfRange, read_label
from malmat.journal import valid_text
from malmat.text.alternatives import IS, Alternatives
from malmat.text.answer_steps import stepped
from malmat.text.korean import hangul_share, normalize

MARK = "정답:"
"""What stands before the answer in a row that reasons first (the wording's mark)."""

LONGEST = 600
"""Characters of a rationale."""

_TELLS = re.compile(
    r"(?:정답|답)(?:은|이|는)?\s*[:：]?|[①-⑩]|(?<!\d)\d\s*번(?!째)|(?:따라서|그러므로)\s*답"
)


def read_rationale(text: str) -> str:
    """The rationale of a reply, on one line, without the sentences that tell the answer outright
    (its number, "정답은 …"): whoever reads it must come to the answer by it.

    Raises:
        ValueError: nothing is left of it, it is no Korean, or far too long.
    """
    plain = " ".join(normalize(valid_text(split_thoughts(text).text)).split())
    sentences = re.findall(r".+?(?:[.!?](?=\s|$)|$)", plain)
    kept = "".join(one for one in sentences if not _TELLS.search(one)).strip()
    if not kept:
        raise ValueError("no rationale beside the answer")
    if hangul_share(kept) < 0.5:
        raise ValueError("no Korean")
    if len(kept) > 2 * LONGEST:
        raise ValueError(f"{len(kept)} characters")
    return kept


def read_reading(one: Question, text: str) -> str:
    """What a second reading answers: the label of a choice, or a short answer.

    Raises:
        ValueError: no answer can be read from it.
    """
    plain, _ = stepped(split_thoughts(text).text, [])
    if one.type == CHOICE:
        try:
            return read_label(plain, one.labels)
        except OutOfRange as error:
            raise ValueError(str(error)) from None
    if not plain:
        raise ValueError("empty")
    return plain


def comes_to(one: Question, reading: str, answer: str) -> bool:
    """Whether a second reading comes to an answer (the key, or the wrong one that a rationale was
    written for)."""
    if one.type == CHOICE:
        return reading == answer
    wanted = one.answers if answer == one.answer else [answer]
    return Alternatives(wanted).reason(reading) == IS


def reasoned(rationale: str, answer: str) -> str:
    """The answer of a row that reasons first."""
    return f"{rationale}\n{MARK} {answer}"


def can_reason(one: Question) -> bool:
    """Whether a question has an answer that a second reading can come to: a paragraph is none."""
    return one.type != LONG and bool(one.answers)
