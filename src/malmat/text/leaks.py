"""Looks for evaluation questions and held-out terms in training rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.files import read_rows
from malmat.formats import read_questions, read_terms
from malmat.text.duplicates import THRESHOLD, NearDuplicates
from malmat.text.terms import TermMatcher

EVAL = ROOT / "src" / "eval"


QUESTION_FILES = (EVAL / "understand_questions.json", EVAL / "usage_questions.json")


TERMS_ASKED = EVAL / "meme_sample_with_questions.jsonl"


TERMS = ROOT / "src" / "data" / "terms.csv"


def find_leaks(
    train: Iterable[dict],
    *,
    terms: Iterable[dict] = (),
    questions: Iterable[str] = (),
    held: Iterable[dict] = (),
    threshold: float = THRESHOLD,
) -> list[dict]:
    """Training rows that must not be there.

    Args:
        train: pairs (``id, title, question, answer``; a conversation's ``messages`` are
            looked through as a whole).
        terms: held-out terms, ``{title, forms}``, that no training row may hold.
        questions: evaluation questions.
        held: held-out pairs.
        threshold: Jaccard similarity from which a text is a near-duplicate.

    Returns:
        ``{id, title, question, answer, kind, found}`` each; ``kind`` is ``held-out term``,
        ``evaluation question`` or ``held-out row``.
    """
    leaks: list[dict] = []
    matcher = TermMatcher(terms)
    index, sources = NearDuplicates(threshold), []
    for question in questions:
        index.add(question)
        sources.append(("evaluation question", question))
    for pair in held:
        index.add(pair["question"] + pair["answer"])
        sources.append(("held-out row", f"{pair['question']} / {pair['answer']}"))
    for pair in train:
        row = {name: pair[name] for name in ("id", "title", "question", "answer")}
        turns = [message["content"] for message in pair.get("messages") or ()]
        turns = turns or [pair["question"], pair["answer"]]
        for title in matcher.find("\n".join(turns)):
            leaks.append({**row, "kind": "held-out term", "found": title})
        if sources:
            texts = dict.fromkeys([*turns, *(one + two for one, two in pairwise(turns))])
            for number in sorted({n for text in texts for n, _ in index.find(text)}):
                kind, found = sources[number]
                leaks.append({**row, "kind": kind, "found": found})
    return leaks


def leak_gate(
    train: list[dict],
    *,
    held: Sequence[dict] = (),
    path: str | Path | None = None,
    allow: bool = False,
) -> list[dict]:
    """Stop training on what it will be judged by.

    Looked for are the evaluation questions and the terms marked ``split: unseen`` in
    ``src/eval``, and the pairs and terms of the held-out rows.

    Args:
        train: the pairs (or preference rows) to be trained on.
        held: the held-out ones.
        path: the training file, for the message.
        allow: return the leaks instead of stopping.

    Raises:
        InputError: there are leaks; up to five are shown.
    """
    train, held = [_as_pair(row) for row in train], [_as_pair(row) for row in held]
    titles = [pair["title"] for pair in held if pair["title"]]
    if TERMS_ASKED.is_file():
        rows = [row for _, row in read_rows(TERMS_ASKED)]
        titles += [row["title"] for row in rows if row.get("split") == "unseen"]
    forms = {term["title"]: term["forms"] for term in read_terms(TERMS)} if TERMS.is_file() else {}
    leaks = find_leaks(
        train,
        terms=[{"title": t, "forms": forms.get(t, [])} for t in dict.fromkeys(titles)],
        questions=[
            row["question"]
            for file in QUESTION_FILES
            if file.is_file()
            for row in read_questions(file)
        ],
        held=held,
    )
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
    if "chosen" not in row:
        return row
    messages = [*row["messages"], {"role": "assistant", "content": row["chosen"]}]
    question = row["messages"][-1]["content"]
    return {
        "id": row["id"],
        "title": row.get("title", ""),
        "question": question,
        "answer": row["chosen"],
        "messages": messages,
    }
