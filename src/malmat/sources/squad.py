"""Reading-comprehension sets: KLUE-MRC, KorQuAD 1.0 and others of SQuAD's layout, nested or flat.

Nested: ``data[].paragraphs[].{context, qas[]}``. Flat, as the Hugging Face hub has them: a row a
question, with ``context, question, answers{text[], answer_start[]}``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malmat.contests.faults import BadRow, Fault, sound_or_refused
from malmat.errors import InputError
from malmat.files import row_id
from malmat.sources.open import has_columns, read_source
from malmat.text.duplicates import squeeze


@dataclass
class Passage:
    """A paragraph, with its questions ``{id, question, answers}`` that can be answered."""

    id: str
    title: str
    text: str
    questions: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Passages:
    """What a file gave: passages, faults of rows, and reason → questions that were left out."""

    passages: list[Passage] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_passages(path: str | Path, *, skip_bad: bool = False) -> Passages:
    """The paragraphs of a file, each once.

    Left out and counted are questions marked as impossible, and those without an answer (of
    KLUE's third type, which has plausible answers alone).

    Raises:
        InputError: a file of another layout, or faulty rows without ``skip_bad``.
    """
    rows, faults = read_source(path)
    articles = [(line, one) for line, row in rows for one in articles_of(row)]
    if articles and not any(_fits(one) for _, one in articles):
        keys = ", ".join(map(str, articles[0][1]))[:100] if articles[0][1] else "nothing"
        raise InputError(
            f"is no file of paragraphs with questions: its first row has {keys}",
            path=path,
            line=articles[0][0],
            fix="Give data[].paragraphs[].qas[], or rows of context, question, answers.",
        )
    found, known = Passages(faults=faults), dict[str, Passage]()
    for line, article in articles:
        try:
            for context, question in questions_of(article):
                _add(found, known, article, context, question)
        except BadRow as bad:
            found.faults.append(bad.fault(str(article.get("title", "")) or f"line {line}", line))
    sound_or_refused(path, found.faults, left=len(found.passages), skip=skip_bad)
    return found


def articles_of(row: Any) -> list[Any]:
    """The articles of a row: those of a whole file's object, or the row itself."""
    data = row.get("data") if isinstance(row, dict) else None
    return data if isinstance(data, list) else [row]


def _fits(row: Any) -> bool:
    return has_columns(row, ("paragraphs",)) or has_columns(row, ("context", "question"))


def questions_of(article: Any) -> Iterator[tuple[str, Mapping[str, Any] | None]]:
    """(context, question) pairs of an article; None for a paragraph without questions."""
    if not _fits(article):
        raise BadRow("paragraphs", "missing", "A row of another set? Take it out.")
    if "paragraphs" not in article:
        yield _context(article), article
        return
    for paragraph in article["paragraphs"] or []:
        if not isinstance(paragraph, dict):
            raise BadRow("paragraphs", "expected objects")
        questions = paragraph.get("qas") or []
        for question in questions or [None]:
            yield _context(paragraph), question


def _context(row: Mapping[str, Any]) -> str:
    text = row.get("context")
    if not isinstance(text, str) or not text.strip():
        raise BadRow("context", "empty")
    return text


def _add(
    found: Passages,
    known: dict[str, Passage],
    article: Mapping[str, Any],
    context: str,
    question: Mapping[str, Any] | None,
) -> None:
    context = context.strip()  # not before: answers are found by their place in it
    passage = known.get(key := squeeze(context))
    if passage is None:
        title = str(article.get("title") or "")
        passage = known[key] = Passage(row_id("passage", context), title, context)
        found.passages.append(passage)
    if question is None:
        return
    if not isinstance(question, Mapping):
        raise BadRow("qas", "expected objects")
    answers = answer_texts(question)
    if question.get("is_impossible") in (True, 1, "true", "True"):
        found.left_out["impossible question"] += 1
    elif not answers:
        found.left_out["no answer"] += 1
    else:
        name = str(question.get("id") or question.get("guid") or row_id(context, question))
        asked = str(question.get("question") or "")
        passage.questions.append({"id": name, "question": asked, "answers": answers})


def answer_texts(question: Mapping[str, Any]) -> list[str]:
    """The texts of a question's answers, each once: [] for none."""
    answers = question.get("answers") or []
    if isinstance(answers, Mapping):
        texts = answers.get("text") or []
        texts = [texts] if isinstance(texts, str) else texts
    else:
        texts = [one.get("text") for one in answers if isinstance(one, Mapping)]
    return list(dict.fromkeys(t.strip() for t in texts if isinstance(t, str) and t.strip()))
