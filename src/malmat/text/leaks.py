"""Looks for evaluation questions and held-out terms in training rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from malmat.errors import InputError
from malmat.progress import tracked
from malmat.text.duplicates import THRESHOLD, NearDuplicates
from malmat.text.terms import TermMatcher

MOST = 5
"""Texts named that one of a row's is like: among many like ones, all would be as many as rows times
held-out rows."""


def find_leaks(
    train: Iterable[dict],
    *,
    terms: Iterable[dict] = (),
    questions: Iterable[str] = (),
    held: Iterable[dict] = (),
    threshold: float = THRESHOLD,
) -> Iterator[dict]:
    """Training rows that must not be there, one by one: there may be more than memory holds.

    Args:
        train: pairs (``id, title, question, answer``; a conversation's ``messages`` are
            looked through as a whole).
        terms: held-out terms, ``{title, forms}``, that no training row may hold.
        questions: evaluation questions.
        held: held-out pairs.
        threshold: Jaccard similarity from which a text is a near-duplicate.

    Yields:
        ``{id, title, question, answer, kind, found}``; ``kind`` is ``held-out term``,
        ``evaluation question`` or ``held-out row``. Of texts that one of the row's is like, the
        ``MOST`` that are most alike are named.
    """
    matcher, index = TermMatcher(terms), NearDuplicates(threshold)
    shown = {("evaluation question", question): question for question in questions}
    for pair in held:
        for one, two in pairwise(_turns(pair)):
            shown.setdefault(("held-out row", one + two), f"{one} / {two}")
    for _, text in shown:
        index.add(text)
    sources = [(kind, found) for (kind, _), found in shown.items()]
    for pair in tracked(list(train), "leaks", "pair"):
        row = {name: pair[name] for name in ("id", "title", "question", "answer")}
        turns = _turns(pair)
        for title in matcher.find("\n".join(turns)):
            yield {**row, "kind": "held-out term", "found": title}
        if sources:
            texts = dict.fromkeys([*turns, *(one + two for one, two in pairwise(turns))])
            for number in sorted({n for text in texts for n, _ in index.find(text)[:MOST]}):
                kind, found = sources[number]
                yield {**row, "kind": kind, "found": found}


def _turns(pair: dict) -> list[str]:
    """What is said: all of a conversation's messages, else the question and the answer."""
    turns = [message["content"] for message in pair.get("messages") or ()]
    return turns or [pair["question"], pair["answer"]]


def leak_gate(
    train: Iterable[dict],
    items: Iterable[dict] = (),
    *,
    terms: Iterable[dict] = (),
    held: Iterable[dict] = (),
    path: str | Path | None = None,
    allow: bool = False,
) -> list[dict]:
    """Stop training on what it will be judged by.

    Looked for are the questions of the evaluation's items, the titles of those that are to stay
    unseen, and the pairs and titles of the held-out rows.

    Args:
        train: the pairs (or preference rows) to be trained on.
        items: of the evaluation: ``{question?, title?, split?}``; ``split: unseen`` says that
            its title is not in the training rows.
        terms: ``{title, forms}`` of the titles that have forms of their own.
        held: the held-out rows.
        path: the training file, for the message.
        allow: return the leaks instead of stopping.

    Raises:
        InputError: there are leaks; up to five are shown.
    """
    items, pairs = list(items), [_as_pair(row) for row in held]
    titles = [pair["title"] for pair in pairs if pair["title"]]
    titles += [item["title"] for item in items if item.get("split") == "unseen"]
    forms = {term["title"]: term["forms"] for term in terms}
    found = find_leaks(
        map(_as_pair, train),
        terms=[{"title": t, "forms": forms.get(t, [])} for t in dict.fromkeys(titles)],
        questions=[item["question"] for item in items if item.get("question")],
        held=pairs,
    )
    leaks = list(found)
    if leaks and not allow:
        shown = "; ".join(
            f"{leak['kind']} {leak['found'][:40]!r} in {leak['question'][:40]!r}"
            for leak in leaks[:5]
        )
        more = f"; and {len(leaks) - 5} more" if len(leaks) > 5 else ""
        raise InputError(
            f"{len(leaks)} leaks from evaluation into training: {shown}{more}",
            path=path,
            fix="Take the rows out (src/data/split.py --leaks drop), or --allow_leaks.",
        )
    return leaks


def _as_pair(row: dict) -> dict:
    """A preference row as a pair with its preferred answer, the other one behind it to be looked
    through as well; a pair as it is."""
    if "chosen" not in row:
        return row
    answers = [{"role": "assistant", "content": row[side]} for side in ("chosen", "rejected")]
    messages = [*row["messages"], *answers]
    question = row["messages"][-1]["content"]
    return {
        "id": row["id"],
        "title": row.get("title", ""),
        "question": question,
        "answer": row["chosen"],
        "messages": messages,
    }
