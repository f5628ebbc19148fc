"""Reads the JSON object of a model's reply."""

from __future__ import annotations

import json
import re
from typing import Any


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_number)


_OBJECT = re.compile(r'\{\s*["}]')


def parse_object(text: str, field: str) -> dict:
    """The JSON object of a model's reply: the last that has the field.

    What stands around it (a fence, a greeting) is passed over, and so is what comes
    before a verdict: thoughts in ``<think>``, objects quoted from what is judged.

    Raises:
        ValueError: no readable JSON object with that field in it.
    """
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    found, end = None, 0
    try:
        while start := _OBJECT.search(text, end):
            value, end = _DECODER.raw_decode(text, start.start())
            found = value if field in value else found
    except RecursionError:
        raise ValueError("the reply's JSON is nested too deep") from None
    if found is None:
        raise ValueError(f"no JSON object with '{field}' in the reply")
    return found
