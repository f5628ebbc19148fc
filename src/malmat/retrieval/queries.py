"""Search queries that a model writes for a question."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress

from malmat.answer.prices import Meter
from malmat.answer.replies import read_json
from malmat.answer.request import Engine, Request
from malmat.journal import Journal
from malmat.prompts import inert, user_message
from malmat.text.korean import normalize

MOST = 3
"""Queries of a model for a question. The question itself is always one more, the last."""

_MARK = re.compile(
    r"^(?:[-*•·>#]+|\(?\d{1,2}[.):]|[①-⑨]|(?:검색어|질의|쿼리|query)\s*\d*\s*[:.)])\s*",
    re.IGNORECASE,
)
_LONGEST = 200


def read_queries(text: str, most: int = MOST) -> list[str]:
    """Up to ``most`` queries of a reply: a line each, or a JSON list, each once.

    Numbers, bullets, quotes and labels ("검색어 1:") go; a line that announces them ("…:") and one
    that is too long for a query are passed over.

    Raises:
        ValueError: it holds none.
    """
    found: dict[str, None] = {}
    for line in _lines(text):
        query = " ".join(normalize(line).split())
        while (plain := _MARK.sub("", query).strip("\"'“”‘’`* ")) != query:
            query = plain
        announces = query.endswith(":") or not any(map(str.isalnum, query))
        if not announces and len(query) <= _LONGEST:
            found.setdefault(query)
    if not found:
        raise ValueError("no query in the reply")
    return list(found)[:most]


def _lines(text: str) -> Iterable[str]:
    listed = re.search(r"\[.*\]", text, re.DOTALL)
    if listed:
        with suppress(ValueError):
            values = read_json(listed[0])
            if values and all(isinstance(value, str) for value in values):
                return values
    return re.sub(r"```\w*", "", text).splitlines()


def ask_for_queries(
    engine: Engine,
    questions: Mapping[str, str],
    prompt: str,
    journal: Journal,
    *,
    sampling: dict | None = None,
    meter: Meter | None = None,
) -> dict[str, tuple[str, list[str]]]:
    """Question id → (status, the queries to search with).

    The question itself is always the last query, and the only one where none could be read.

    Args:
        questions: id → question.
        prompt: the wording, with {question}.
        sampling: of an API's request.
    """
    requests = [
        Request(name, user_message(prompt, question=inert(text)), sampling or {})
        for name, text in questions.items()
    ]

    def accept(_: Request, text: str) -> list[str]:
        return read_queries(text)

    found = {}
    with engine.answers(requests, journal, accept=accept, meter=meter, label="queries") as records:
        for request, record in zip(requests, records, strict=True):
            question, status = questions[request.id], record["status"]
            own = read_queries(record["text"]) if status == "ok" else []
            found[request.id] = status, [*(one for one in own if one != question), question]
    return found
