"""Two sets of dialogues side by side: pairs drawn for raters, and which set they prefer."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from malmat.evaluate import stats
from malmat.evaluate.ratings import between_raters, read_records
from malmat.evaluate.task import SHARE, Row
from malmat.files import digest, row_id
from malmat.journal import key_of
from malmat.text.korean import fold

LEFT, RIGHT, SAME = CHOICES = "left", "right", "same"
"""What a rater can say of two dialogues; None passes a question over."""

Sets = Mapping[str, Sequence[Mapping[str, Any]]]
"""Name → dialogues, as ``formats.read_pairs`` gives them. There are two."""


@dataclass(frozen=True)
class Preference:
    """What raters are asked about two dialogues.

    Args:
        name: of its folder in the results.
        questions: name → question.
    """

    name: str
    questions: dict[str, str]


def draw(sets: Sets, seed: int, limit: int | None = None) -> list[Row]:
    """Pairs of dialogues, one of each set; whoever draws with one seed gets the same.

    The two are of one term where the sets share terms: one pair of each shared term comes first,
    then a second pair of each. Where they share none, each set's dialogues are drawn apart, term
    by term too. Dialogues of one text are no pair.

    Args:
        limit: how many; None draws one pair of each term.

    Returns:
        ``[{id, title, dialogues}]``: ``title`` is the shared term, or "" where there is none;
        ``dialogues`` maps a set's name to ``{id, title, turns}`` (``turns_of``), in which the id
        depends on term and text alone.
    """
    first, second = (_by_term(dialogues, seed) for dialogues in sets.values())
    if shared := first.keys() & second.keys():
        groups = [zip(first[t], second[t], strict=False) for t in _drawn(shared, seed)]
        pairs, terms = _in_turns(groups), len(shared)
    else:
        columns = [_in_turns(part[t] for t in _drawn(part, seed)) for part in (first, second)]
        pairs, terms = list(zip(*columns, strict=False)), min(len(first), len(second))
    rows = [
        {
            "id": row_id("side by side", *sorted((one["id"], other["id"]))),
            "title": one["title"] if shared else "",
            "dialogues": dict(zip(sets, (one, other), strict=True)),
        }
        for one, other in pairs
        if one["turns"] != other["turns"]
    ]
    return rows[: terms if limit is None else limit]


def turns_of(pair: Mapping[str, Any]) -> list[dict]:
    """What the two of a dialogue say, as ``{role, content}``: system messages are left out."""
    asked = {"role": "user", "content": pair["question"]}
    spoken = pair.get("messages") or [asked, {"role": "assistant", "content": pair["answer"]}]
    return [
        {"role": turn["role"], "content": turn["content"]}
        for turn in spoken
        if turn["role"] in ("user", "assistant")
    ]


def term_key(title: str) -> str:
    """What titles of one term share, however they are spaced and whatever their case."""
    return "".join(fold(title).casefold().split())


def text_id(pair: Mapping[str, Any]) -> str:
    """The id of a dialogue's term and text, whatever file it stands in."""
    return row_id("dialogue", term_key(pair["title"]), turns_of(pair))


def _by_term(dialogues: Iterable[Mapping[str, Any]], seed: int) -> dict[str, list[Row]]:
    """Term → its dialogues in the drawn order. A dialogue without a title stands alone."""
    found: dict[str, dict[str, Row]] = defaultdict(dict)
    for pair in dialogues:
        one = {"id": text_id(pair), "title": pair["title"], "turns": turns_of(pair)}
        found[term_key(one["title"]) or one["id"]].setdefault(one["id"], one)
    return {
        term: [ones[name] for name in _drawn(ones, seed)] for term, ones in sorted(found.items())
    }


def _drawn(names: Iterable[str], seed: int) -> list[str]:
    return sorted(names, key=lambda name: digest([seed, name]))


def _in_turns(groups: Iterable[Iterable[Any]]) -> list[Any]:
    """The first of each group, then the second of each …"""
    return [one for turn in zip_longest(*groups) for one in turn if one is not None]


def for_rater(rows: Iterable[Row], preference: Preference, rater: str, seed: int) -> list[Row]:
    """A rater's questions: a row a pair and question, a pair's questions one behind the other.

    The order is the rater's own, and so is the side of each set, which depends on nothing else:
    a second start shows a pair as it was rated.

    Returns:
        ``draw``'s rows with ``key``, ``question`` (its name), ``asked``, ``number`` (of the
        question, from 1) and ``left`` (the set).
    """
    ordered = sorted(rows, key=lambda row: digest([seed, rater, row["id"]]))
    return [
        {
            **row,
            "key": key_of(task=preference.name, question=name, pair=row["id"]),
            "question": name,
            "asked": asked,
            "number": number,
            "left": sorted(row["dialogues"])[int(digest([rater, row["id"]])[0], 16) % 2],
        }
        for row in ordered
        for number, (name, asked) in enumerate(preference.questions.items(), 1)
    ]


def record_of(item: Row, rater: str) -> dict:
    """What a line of the ratings' file says of a question: which texts, and who stood where."""
    kept = {name: item[name] for name in ("key", "id", "title", "question", "left")}
    texts = {name: one["id"] for name, one in item["dialogues"].items()}
    return {**kept, "dialogues": texts, "rater": rater}


# ------------------------------------------------------------------------------- summary


def read_preferences(path: str | Path) -> list[dict]:
    """A rater's file: the last record of each question.

    Raises:
        InputError: a line that is no rating, or several raters in one file.
    """
    fields = dict.fromkeys(("key", "id", "question", "left", "rater"), str)
    _, records = read_records(path, fields | {"dialogues": dict}, CHOICES.__contains__)
    return list(records.values())


def of_sets(records: Iterable[dict], sets: Sets) -> list[dict]:
    """The records of two sets, and of texts that still stand in them."""
    texts = {name: {text_id(one) for one in ones} for name, ones in sets.items()}
    return [
        record
        for record in records
        if record["dialogues"].keys() == sets.keys()
        and all(text in texts[name] for name, text in record["dialogues"].items())
    ]


def summarize(preference: Preference, records: Iterable[Mapping[str, Any]]) -> dict:
    """What the raters prefer, for each two sets and each question.

    Returns:
        ``task`` and ``comparisons``, each with ``sets`` (two names) and ``questions``: name →
        ``shares`` (set → ``stats.summarize`` of the share of pairs in which it is preferred,
        ties half, several raters of a pair averaged, clustered by term), ``counts`` (how often
        raters said what), ``left`` (the same share for the left side, whichever set stood there:
        far from a half it shows a habit of the raters), ``alpha`` and ``pairs``
        (``ratings.between_raters``).
    """
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = defaultdict(list)
    for record in records:
        groups[tuple(sorted(record["dialogues"]))].append(record)
    return {
        "task": preference.name,
        "comparisons": [
            {
                "sets": list(names),
                "questions": {
                    question: _summary(names, [r for r in group if r["question"] == question])
                    for question in preference.questions
                },
            }
            for names, group in sorted(groups.items())
        ],
    }


def _summary(names: Sequence[str], records: list[Mapping[str, Any]]) -> dict:
    clusters = {record["id"]: record.get("title") or record["id"] for record in records}
    columns: dict[str, dict[str, float | None]] = defaultdict(dict)
    for record in records:
        columns[record["rater"]][record["id"]] = _share(record, names[0])
    lefts: dict[str, list[float]] = defaultdict(list)
    for record in records:
        if record["rating"] is not None:
            lefts[record["id"]].append(_share(record, record["left"]) or 0.0)
    means = {row: _mean([column.get(row) for column in columns.values()]) for row in clusters}
    about = list(clusters.values())

    def of(values: Iterable[float | None]) -> dict:
        return stats.summarize(list(values), low=0, high=1, clusters=about)

    other = (None if value is None else 1 - value for value in means.values())
    return {
        "shares": {names[0]: of(means.values()), names[1]: of(other)},
        "counts": dict(Counter(_said(record) for record in records)),
        "left": of(_mean(lefts[row]) for row in clusters),
        **between_raters(SHARE, columns, clusters),
    }


def _share(record: Mapping[str, Any], name: str) -> float | None:
    """1 where the record prefers the set of that name, 0 where the other, a half for a tie."""
    if record["rating"] is None:
        return None
    if record["rating"] == SAME:
        return 0.5
    return float((record["rating"] == LEFT) == (record["left"] == name))


def _said(record: Mapping[str, Any]) -> str:
    """The name of the set that a record prefers, ``same``, or ``skipped``."""
    if record["rating"] in (None, SAME):
        return record["rating"] or "skipped"
    return next(name for name in record["dialogues"] if _share(record, name))


def _mean(values: Iterable[float | None]) -> float | None:
    given = [value for value in values if value is not None]
    return sum(given) / len(given) if given else None
