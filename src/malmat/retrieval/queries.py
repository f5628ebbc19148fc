"""Search queries that a model writes for a question."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress

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
            values = json.loads(listed[0])
            if values and all(isinstance(value, str) for value in values):
                return values
    return re.sub(r"```\w*", "", text).splitlines()
