"""Which pieces of a text go first where a model cannot read the whole."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection
from itertools import pairwise

LEFT_OUT = "(중략)"
"""What stands where sentences were left out, as Korean quotations mark it."""

SENTENCE = re.compile(r"(?<=[.!?。…])[\"'”’」』)\]]*\s+|\n+")
"""The space behind a sentence."""


def kept(
    count: int, marked: Collection[int], left_out: int, late: Collection[int] = ()
) -> list[int]:
    """The places of pieces that stay where some are left out: never a marked one.

    The pieces farthest from the marked ones and from both ends go first, so that a gap grows in
    the middle; the ends go last. Late ones go when all others have gone.

    Args:
        count: pieces in all.
        marked: places of those that have to stay.
        left_out: how many go.
        late: places of those that go after the others.

    Raises:
        ValueError: there are fewer that may go.
    """
    anchors = {*marked, 0, count - 1}
    free = [place for place in range(count) if place not in marked]
    if left_out > len(free):
        raise ValueError(f"{left_out} of {len(free)} pieces that are not marked")
    first = sorted(
        free, key=lambda place: (place in late, -min(abs(place - a) for a in anchors), place)
    )
    gone = {*first[:left_out]}
    return [place for place in range(count) if place not in gone]


def without_sentences(
    text: str,
    left_out: int,
    is_marked: Callable[[str], bool] = lambda sentence: False,
    is_late: Callable[[str], bool] = lambda sentence: False,
) -> str:
    """A text without so many sentences of its middle, ``LEFT_OUT`` standing for each gap.

    Args:
        is_marked: whether a sentence has to stay.
        is_late: whether it goes after the others.

    Raises:
        ValueError: as ``kept``.
    """
    ends = [0, *(match.end() for match in SENTENCE.finditer(text)), len(text)]
    pieces = [text[a:b] for a, b in pairwise(ends) if text[a:b].strip()]
    marked, late = (
        {place for place, piece in enumerate(pieces) if holds(piece)}
        for holds in (is_marked, is_late)
    )
    parts: list[str] = []
    last = -1
    for place in kept(len(pieces), marked, left_out, late):
        if place > last + 1:
            parts.append(f"{LEFT_OUT} ")
        parts.append(pieces[place])
        last = place
    if last < len(pieces) - 1:
        parts.append(LEFT_OUT)
    return "".join(parts).strip()
