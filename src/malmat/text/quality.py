"""Checks of dialogue pairs and of a term list: each yields what it is named for, row by row."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from malmat.dialogues import is_nested, pairs_of_row
from malmat.errors import InputError
from malmat.files import read_rows
from malmat.parse import named
from malmat.progress import tracked
from malmat.schema import Row, Text, validate
from malmat.text.duplicates import NearDuplicates, squeeze
from malmat.text.korean import EMOJI, hangul_share, normalize
from malmat.text.pairs import MAX_CHARACTERS
from malmat.text.terms import TermMatcher, plain_text, spellings

Fault = tuple[str, dict]
"""The name of a check, and the row that it found."""

PAIR_KEYS = {"context", "q", "a", "model"}
TERM_KEYS = {"title", "description", "conversations"}
FEWEST_PAIRS = 8
SHORTEST = 2
GLOSS_CHARACTERS = 40

OPENING = 4
"""Letters of an opening."""

SAME_OPENING, SAME_SETTING, SAME_POSITION = 0.35, 0.5, 0.9
"""Shares of a term's pairs above which a sameness is a pattern."""


class NestedRow(Row):
    title: Text
    conversations: list[dict]


def read_terms_with_pairs(path: str | Path) -> tuple[list[dict], bool]:
    """The terms of a file of any shape that ``formats.read_pairs`` takes, in the nested one.

    Returns:
        The terms, their text as it is typed, and whether the file has them in the nested
        shape, in which pairs may lack keys. Rows without a title are under "".

    Raises:
        InputError: no dialogue pairs in it, or a row of no shape that is known.
    """
    rows = read_rows(path, as_typed=True)
    nested = bool(rows) and all(is_nested(row) for _, row in rows)
    terms: dict[str, dict] = {}
    for line, row in rows if not nested else []:
        for pair in pairs_of_row(named(row), path, line):
            title = pair["title"]
            term = terms.setdefault(title, {"title": title, "conversations": []})
            turn = {"q": pair["question"], "a": pair["answer"]}
            term["conversations"].append({**pair, **turn})
    for line, row in rows if nested else []:
        validate(NestedRow, row, path=path, line=line)
    found = [row for _, row in rows] if nested else list(terms.values())
    if not any(term["conversations"] for term in found):
        raise InputError("no dialogue pairs in it", path=path)
    return found, nested


def pairs_of(terms: Iterable[dict]) -> list[dict]:
    """The pairs, as text, with their term's ``title`` and their ``number`` in it (from 1)."""
    return [
        {name: str(turn.get(name) or "") for name in PAIR_KEYS}
        | {"title": term["title"], "number": number}
        for term in terms
        for number, turn in enumerate(term["conversations"], 1)
    ]


def _row(pair: dict, **more: object) -> dict:
    return {name: pair[name] for name in ("title", "number", "q", "a")} | more


def key_faults(terms: list[dict], pairs: list[dict]) -> Iterator[Fault]:
    """Keys that a term or a pair lacks, and keys that do not belong there."""
    for term in terms:
        if not term.get("description"):
            yield "missing key", {"title": term["title"], "keys": ["description"]}
        if extra := sorted(set(term) - TERM_KEYS):
            yield "stray key", {"title": term["title"], "keys": extra}
    turns = [turn for term in terms for turn in term["conversations"]]
    for turn, pair in zip(turns, pairs, strict=True):
        if lacking := sorted(name for name in ("context", "q", "a") if not pair[name].strip()):
            yield "missing key", _row(pair, keys=lacking)
        if extra := sorted(set(turn) - PAIR_KEYS):
            yield "stray key", _row(pair, keys=extra)


def text_faults(pairs: list[dict]) -> Iterator[Fault]:
    """Texts that are not Korean, hold stray characters, or are too short or long."""
    for pair in pairs:
        texts = (pair["q"], pair["a"])
        if not all(map(str.strip, texts)):
            continue  # a missing key
        if min(map(hangul_share, texts)) < 0.5:
            yield "not Korean", _row(pair)
        if any(re.search("[\u1100-\u11ff]", normalize(t)) or normalize(t) != t for t in texts):
            yield "conjoining jamo", _row(pair)
        if any(EMOJI.search(text) for text in texts):
            yield "emoji", _row(pair)
        if not all(SHORTEST <= len(text.strip()) <= MAX_CHARACTERS for text in texts):
            yield "too short or long", _row(pair, lengths=[len(text) for text in texts])


def term_positions(pairs: list[dict], listed: list[dict]) -> list[str]:
    """Where each pair has its term: ``q``, ``a``, ``both`` or ``none``.

    Args:
        listed: the term list; a title that is not in it is looked for by morphology.
    """
    known = {term["title"]: term for term in listed}
    titles = dict.fromkeys(pair["title"].strip() for pair in pairs)
    matcher = TermMatcher(known.get(title, {"title": title}) for title in titles)
    positions = []
    for pair in tracked(pairs, "terms", "pair"):
        in_q, in_a = (matcher.find(pair[name], only=pair["title"].strip()) for name in ("q", "a"))
        positions.append("both" if in_q and in_a else "q" if in_q else "a" if in_a else "none")
    return positions


def position_faults(pairs: list[dict], positions: list[str]) -> Iterator[Fault]:
    """Pairs that do not hold the term that they are of."""
    for pair, position in zip(pairs, positions, strict=True):
        if position == "none" and pair["title"]:
            yield "term not found", _row(pair)


def duplicate_faults(pairs: list[dict], threshold: float) -> Iterator[Fault]:
    """Pairs that repeat an earlier one, to the letter or nearly (Jaccard ≥ ``threshold``)."""
    index, indexed, exact = NearDuplicates(threshold), list[dict](), dict[str, str]()
    for pair in tracked(pairs, "duplicates", "pair"):
        key = squeeze(pair["q"]) + "\0" + squeeze(pair["a"])
        if key in exact:
            yield "exact duplicate", _row(pair, of=exact[key])
            continue
        exact[key] = f"{pair['title']} {pair['number']}"
        earlier = index.add(pair["q"] + pair["a"])
        indexed.append(pair)
        if earlier:
            number, similarity = earlier[0]
            other = indexed[number]
            where = "in the term" if other["title"] == pair["title"] else "across terms"
            of = f"{other['title']} {other['number']}: {other['q']} / {other['a']}"
            row = _row(pair, of=of, similarity=round(similarity, 3))
            yield f"near-duplicate {where}", row


def _opening(text: str, title: str) -> str:
    """The first letters; behind the term, where that is so long that it would be all of them."""
    start, term = squeeze(text), squeeze(plain_text(title))
    return (start.removeprefix(term) if len(term) >= OPENING else start)[:OPENING]


def balance_faults(pairs: list[dict], positions: list[str]) -> Iterator[Fault]:
    """Terms most of whose pairs are alike in something, or that have too few."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        if pair["title"]:
            groups[pair["title"]].append(index)
    for title, members in groups.items():
        count = len(members)
        samenesses = [
            ("repeated opening", SAME_OPENING, [_opening(pairs[i]["q"], title) for i in members]),
            ("repeated opening", SAME_OPENING, [_opening(pairs[i]["a"], title) for i in members]),
            ("one setting for most", SAME_SETTING, [pairs[i]["context"].strip() for i in members]),
            ("one position for most", SAME_POSITION, [positions[i] for i in members]),
        ]
        for name, share, values in samenesses:
            value, times = Counter(values).most_common(1)[0]
            if value and times > 2 and times / count > share:
                yield name, {"title": title, "value": value, "times": f"{times}/{count}"}
        if count < FEWEST_PAIRS:
            yield "too few pairs", {"title": title, "value": str(count)}


COLUMN_VALUES = {
    "status": ("current", "dated", "ironic", "everyday"),
    "confidence": ("high", "medium", "low"),
    "register": ("casual", "casual-polite", "any"),
    "polarity": ("positive", "negative", "neutral", "mixed"),
    "intensity": ("1", "2", "3"),
    "safety": ("safe", "teasing", "vulgar-mild", "sneering"),
}
"""What a term list's column may say; empty is fine, too."""


def column_faults(listed: list[dict]) -> Iterator[Fault]:
    """Values that a column of the term list does not have."""
    for term in listed:
        for name, known in COLUMN_VALUES.items():
            value = str(term.get(name) or "")
            if value and value not in known:
                yield "unknown value", {"title": term["title"], "column": name, "value": value}


def gloss_faults(listed: list[dict]) -> Iterator[Fault]:
    """Glosses that are too long or give their term away; near terms that are not mutual."""
    matcher = TermMatcher(listed)
    near = {term["title"]: term["near"] for term in listed}
    for term in listed:
        title, gloss = term["title"], term["gloss"]
        if len(gloss) > GLOSS_CHARACTERS:
            yield "gloss too long", {"title": title, "gloss": gloss, "length": len(gloss)}
        words = filter(None, (squeeze(plain_text(spelling)) for spelling in spellings(title)))
        if matcher.find(gloss, only=title) or any(word in squeeze(gloss) for word in words):
            yield "gloss holds its term", {"title": title, "gloss": gloss}
        for other in near[title]:
            if other == title or title not in near.get(other, ()):
                problem = "not mutual" if other in near else "no such term"
                yield "near term not mutual", {"title": title, "near": other, "problem": problem}
