"""Choices that stand inside a question's text: the run of numbers 1 … n that covers its tail."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MOST_CHOICES = 10

PUBLISHED = re.compile(r"(?<!\d)(?<!\d\.)(\d{1,2}) ?\t")
"""A number before a tab, as the contest publishes choices: ``1\\t설날 2\\t단오``."""

OTHERS = (
    re.compile(r"([①-⑩])"),
    re.compile(r"(?<!\w)\((\d{1,2})\)(?=\s|\D)"),
    re.compile(r"(?<![\d.])(\d{1,2})[.)](?=\s)"),
    re.compile(r"^[^\S\n]*(\d{1,2})[^\S\n]+(?=\S)", re.MULTILINE),
)
"""Other ways to number choices, which count from three choices on: ``①``, ``(1)``, ``1.``, ``1``
at the beginning of a line."""


@dataclass(frozen=True)
class Split:
    """A question's text and its choices.

    Args:
        stem: the text before the choices; all of it where there are none.
        choices: their texts, each on one line; [] where there is no whole run.
        numbers: of a run that is not whole, as they stand.
        problem: why there are no choices; "" where there are.
    """

    stem: str
    choices: list[str]
    numbers: tuple[int, ...] = ()
    problem: str = ""


def unescaped(text: str) -> str:
    """The text with a literal ``\\n`` or ``\\t`` (backslash and letter) as what it means."""
    return text.replace("\\r", "").replace("\\n", "\n").replace("\\t", "\t").replace("\r", "")


def split_choices(text: str) -> Split:
    """Find the choices at the end of a question.

    They are the last run of numbers from 1 on that reaches the end of the text, so that years,
    points and numbers inside of a choice are text. A run with a number missing, twice or out of
    order is no run, and is left as text.
    """
    text = unescaped(text)
    marks = list(PUBLISHED.finditer(text))
    patterns = [(PUBLISHED, 2), *((pattern, 3) for pattern in OTHERS)]
    if len(marks) > 1:  # numbered as published: another numbering is part of a choice
        patterns = patterns[:1]
    for pattern, least in patterns:
        found = list(pattern.finditer(text))
        run = _run([_number(one[1]) for one in found])
        if len(run) >= least:
            return _split(text, [found[place] for place in run])
    numbers = tuple(_number(one[1]) for one in marks)
    listed = " ".join(map(str, numbers))
    problem = f"the numbers {listed} are no run from 1" if len(marks) > 1 else "no choices in it"
    return Split(tidy(text), [], numbers, problem)


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else ord(text) - ord("①") + 1


def _run(numbers: Sequence[int]) -> list[int]:
    """The places of the last run 1 … n to the end; [] for none.

    A number between two of its members may only be one that the run could not go on with.
    """
    starts = [place for place, number in enumerate(numbers) if number == 1]
    for start in reversed(starts):
        run = [start]
        for place in range(start + 1, len(numbers)):
            if numbers[place] == len(run) + 1:
                run.append(place)
        left = [n for place, n in enumerate(numbers) if place > start and place not in run]
        if 2 <= len(run) <= MOST_CHOICES and not any(n <= len(run) + 1 for n in left):
            return run
    return []


def _split(text: str, marks: list[re.Match[str]]) -> Split:
    ends = [*(mark.start() for mark in marks[1:]), len(text)]
    choices = [
        " ".join(text[mark.end() : end].split()) for mark, end in zip(marks, ends, strict=True)
    ]
    stem = tidy(text[: marks[0].start()])
    numbers = tuple(range(1, len(marks) + 1))
    problem = (
        "a choice is empty" if not all(choices)
        else "two choices are equal" if len(set(choices)) < len(choices)
        else "" if stem
        else "nothing stands before the choices"
    )  # fmt: skip
    return Split(tidy(text), [], numbers, problem) if problem else Split(stem, choices, numbers)


def tidy(text: str) -> str:
    """The text's lines without blanks around them, and without empty ones."""
    lines = (" ".join(line.split()) for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def joined(stem: str, choices: Sequence[str]) -> str:
    """A question with its choices as the contest publishes it, its breaks and tabs literal."""
    listed = "".join(f" \\n {number}\\t{text}" for number, text in enumerate(choices, 1))
    return stem.replace("\n", " \\n ") + listed
