"""Terms whose titles are spelling variants of each other fall on one side of a split."""

from __future__ import annotations

import random
from collections import defaultdict

from malmat.formats import read_terms
from malmat.text.duplicates import squeeze


def variant(title: str) -> str:
    """What the spelling variants of a title share: letters only (또간집 = 또 간 집 = '또간집~')."""
    return squeeze(title) or title


def draw(titles: list[str], unseen: list[str], share: float, seed: int) -> set[str]:
    """The titles to hold out: the unseen ones and a seeded share of the rest, variants together."""
    groups: dict[str, list[str]] = defaultdict(list)
    for title in titles:
        groups[variant(title)].append(title)
    held = {variant(title) for title in unseen}
    rest = [name for name in groups if name not in held]
    held.update(random.Random(seed).sample(rest, round(len(rest) * share)))
    return {title for name in held for title in groups.get(name, [])}


def with_forms(titles: list[str], path: str) -> list[dict]:
    """A term for all variants of a title, with the forms that the term list has for it."""
    forms = {variant(term["title"]): term["forms"] for term in read_terms(path)} if titles else {}
    first = {variant(title): title for title in reversed(titles)}
    return [{"title": title, "forms": forms.get(name, [])} for name, title in first.items()]
