"""Choices after a thought: a model writes its reasoning, and is read at the label that ends it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from malmat.answer.choices import ChoiceEngine
from malmat.answer.local import LocalEngine
from malmat.answer.prices import Meter
from malmat.answer.request import Accept, Engine, Request, no_answer
from malmat.journal import Journal
from malmat.text.korean import fold

MARK = "정답"
"""The word that the line of the answer begins with."""


class ThinkingEngine(Engine):
    """An ``Engine`` for requests with choices: it lets the model write, and weighs the labels that
    could stand behind the mark that the model wrote.

    A record has the reasoning as ``thoughts`` and, of the labels, what ``ChoiceEngine`` measures,
    but not ``mass``. A reply without a label behind a mark is ``parse_error``, whatever numbers its
    reasoning holds; one that marks a label that is none of the choices is ``out_of_range``. What
    the model was stopped in (``truncated``) stays so.

    Args:
        writer: lets the model write.
        chooser: the same model's logits.
        mark: the word before the answer.
    """

    def __init__(self, writer: LocalEngine, chooser: ChoiceEngine, mark: str = MARK):
        self.name, self.writer, self.chooser, self.mark = writer.name, writer, chooser, mark

    def identity(self) -> dict:
        return {**self.writer.identity(), "mark": self.mark, "chooser": self.chooser.identity()}

    def _records(
        self,
        requests: list[Request],
        journal: Journal,
        accept: Accept | None,
        meter: Meter | None,
        label: str,
    ) -> Iterator[dict]:
        free = [replace(one, choices=(), targets=(), shorter=None) for one in requests]
        written = list(self.writer._records(free, journal, None, meter, f"{label} thinks"))
        asked: dict[int, Request] = {}
        for place, (request, record) in enumerate(zip(requests, written, strict=True)):
            if record["status"] != "ok":
                continue
            try:
                before = up_to_label(record["text"], request.choices, self.mark)
            except LookupError as error:
                written[place] = record | no_answer("out_of_range", error)
            except ValueError as error:
                written[place] = record | no_answer("parse_error", error)
            else:
                targets = tuple(before + choice for choice in request.choices)
                asked[place] = replace(request, targets=targets, shorter=None)
            written[place] |= {"thoughts": record["text"]}
        found = self.chooser._records(list(asked.values()), journal, accept, meter, label)
        for place, record in zip(asked, found, strict=True):
            usage = {"input": record["usage"]["input"], "output": written[place]["usage"]["output"]}
            record = {name: value for name, value in record.items() if name != "mass"}
            written[place] = record | {"usage": usage, "thoughts": written[place]["thoughts"]}
        yield from written


def up_to_label(text: str, labels: tuple[str, ...], mark: str = MARK) -> str:
    """A reply up to the label behind its last mark: ``… 정답: 3번`` → ``… 정답: ``.

    The mark begins a line and is followed by a colon, or by a label that ends the line.

    Raises:
        ValueError: no mark with a number or letter behind it. LookupError: one that is no label.
    """
    said = r"(?P<said>\d+(?![\d.,]*\d)|[①-⑩]|[A-Z](?![A-Za-z]))"
    line = re.compile(
        rf"^[^\w\n]*{re.escape(mark)}(?:[ \t*]*[:：][^\w\n①-⑩]*{said}"
        rf"|[ \t]*(?:은|는)?[^\w\n①-⑩]*{said.replace('said', 'last')}"
        rf"[^\w\n]*(?:번)?[^\w\n]*(?:입니다|이다)?[^\w\n]*$)",
        re.MULTILINE,
    )
    marks = list(line.finditer(text))
    if not marks:
        raise ValueError(f"no label behind '{mark}' in the reply: {text[-60:]!r}")
    name = "said" if marks[-1]["said"] else "last"
    if fold(marks[-1][name]) not in labels:
        raise LookupError(f"{marks[-1][name]} is none of {', '.join(labels)}")
    return text[: marks[-1].start(name)]
