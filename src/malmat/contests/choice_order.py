"""Other orders of an item's choices, with the key moved along."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import replace

from malmat.sources.row import Mcq
from malmat.text.korean import normalize

_NAMES_OTHERS = re.compile(
    r"[ㄱ-ㅎ]"  # ㄱ, ㄴ과 ㄷ, ㄱㄴ
    r"|[①-⑳]|[㉠-㉻]|\([1-9]\)|\b[1-9]번"
    r"|[A-E]\s*(?:와|과|및|,|and|&)\s*[A-E]\b"
    r"|(?:위|앞|이상|상기)(?:의)?\s*(?:보기|선지|선택지|내용|것)?\s*(?:이|가|은|는)?\s*모두"
    r"|모두\s*(?:맞|옳|틀|해당|정답|아니|아님|다)"
    r"|(?:정답|해당|답|옳은 것|맞는 것)\s*(?:이|은|는|가)?\s*없"
    r"|(?:다른|나머지)\s*(?:보기|선지|선택지)"
    r"|(?:all|none|both|neither) of the",
    re.IGNORECASE,
)
"""In a choice: a label, or words, that name other choices or the statements of a box."""

_NUMBERED = re.compile(r"[①-⑩]|\b[1-9]\s*번\s*(?:선지|선택지|보기)")
"""In a question: it names choices by their numbers."""


def stays_in_order(item: Mcq) -> bool:
    """Whether the choices cannot change places: one names others, or the question names them."""
    if _NUMBERED.search(normalize(item.question)):
        return True
    return any(_NAMES_OTHERS.search(normalize(text)) for text in item.choices)


def reordered(item: Mcq, order: Sequence[int]) -> Mcq:
    """The item with ``choices[order[0]], choices[order[1]] …``; its answer is the same choice."""
    answer = None if item.answer is None else order.index(item.answer - 1) + 1
    return replace(item, choices=[item.choices[place] for place in order], answer=answer)


def rotated(item: Mcq, steps: int) -> Mcq:
    """The item with its choices moved round by so many places, where they can be."""
    if stays_in_order(item):
        return item
    count = len(item.choices)
    return reordered(item, [(place + steps) % count for place in range(count)])


def shuffled(item: Mcq, copies: int, seed: int) -> list[Mcq]:
    """Up to ``copies`` different other orders; [] where the choices stay in order.

    The same item and seed give the same orders. The key's place is not the item's own.
    """
    if stays_in_order(item) or item.answer is None:
        return []
    count, draw = len(item.choices), random.Random(f"{seed} {item.id}")
    places = [place for place in range(count) if place != item.answer - 1]
    draw.shuffle(places)
    found = []
    for place in places[:copies]:
        order = [one for one in range(count) if one != item.answer - 1]
        draw.shuffle(order)
        order.insert(place, item.answer - 1)
        found.append(reordered(item, order))
    return found
