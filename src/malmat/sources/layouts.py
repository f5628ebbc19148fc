"""The published layouts of multiple-choice sets: one function a set, a row → its item."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from malmat.contests.faults import BadRow
from malmat.files import row_id
from malmat.sources.open import has_columns
from malmat.sources.row import LETTERS, Mcq, choices_of, lettered, matched, numbered, plain, text_of


@dataclass(frozen=True)
class Layout:
    """How a set is published.

    Args:
        columns: alternatives, each of them columns that stand in every row.
        read: a row → its item. Raises BadRow.
    """

    title: str
    columns: tuple[frozenset[str], ...]
    read: Callable[[Mapping[str, Any]], Mcq]

    def fits(self, row: Any) -> bool:
        return any(has_columns(row, columns) for columns in self.columns)


def _made(source: str, question: str, choices: list[str], answer: int | None, **more: Any) -> Mcq:
    """An item with a content hash for its id."""
    key = row_id(source, more.get("paragraph", ""), question, choices, more.get("category", ""))
    return Mcq(f"{source}-{key}", question, choices, answer, **more)


def click(row: Mapping[str, Any]) -> Mcq:
    """CLIcK: the answer is a choice's text, at times with a trailing blank; ids that hold CSAT
    are of the real 수능, and have five choices."""
    values = row["choices"]
    if not isinstance(values, list):
        raise BadRow("choices", f"expected a list, found {type(values).__name__}")
    choices = choices_of(values, "choices")
    return Mcq(
        id=(name := text_of(row, "id")),
        question=text_of(row, "question"),
        choices=choices,
        answer=matched(text_of(row, "answer"), choices),
        paragraph=text_of(row, "paragraph", needed=False),
        category=re.split(r"[_\d]", name)[0],
        is_exam="CSAT" in name.upper(),
    )


def kmmlu(row: Mapping[str, Any]) -> Mcq:
    """KMMLU and KMMLU-Redux: A to D, the answer 1 to 4; the earlier release has option#1 to 4."""
    names = list("ABCD") if "A" in row else [f"option#{n}" for n in range(1, 5)]
    choices = choices_of([row[name] for name in names], names)
    category = text_of(row, "Category" if "Category" in row else "category", needed=False)
    answer = numbered(row["answer"], len(choices))
    return _made("kmmlu", text_of(row, "question"), choices, answer, category=category)


def mmmlu(row: Mapping[str, Any]) -> Mcq:
    """MMMLU: A to D, the answer a letter, below a first column without a name."""
    choices = choices_of([row[name] for name in "ABCD"], list("ABCD"))
    answer = lettered(row["Answer"], len(choices), "Answer")
    subject = text_of(row, "Subject", needed=False)
    return _made("mmmlu", text_of(row, "Question"), choices, answer, category=subject)


def haerae(row: Mapping[str, Any]) -> Mcq:
    """HAE-RAE Bench: a prompt that ends with "(A) … (B) …" and "### 정답:", the answer "(B)"."""
    name = "query" if "query" in row else "question"
    query = re.sub(r"\s*#+\s*정답\s*:?.*\Z", "", text_of(row, name), flags=re.DOTALL)
    stem, listed = _marked_choices(query)
    values = _listed_options(row.get("options")) or listed
    choices = choices_of(values, "options")
    if listed and [plain(one) for one in listed] != [plain(one) for one in choices]:
        raise BadRow("options", "differ from the choices in the query")
    paragraph, question = _sections(stem)
    category = text_of(row, "category", needed=False)
    answer = lettered(row["answer"], len(choices))
    more = {"paragraph": paragraph, "category": category, "is_exam": category.startswith("csat_")}
    return _made("haerae", question, choices, answer, **more)


_HEADING = re.compile(r"^#+\s*([^\s:#][^:\n]*?)\s*:", re.MULTILINE)
_QUESTION = re.compile(r"질문|문제|question", re.IGNORECASE)


def _marked_choices(query: str) -> tuple[str, list[str]]:
    """A prompt's text before its choices, and those: the last run of (A), (B) … to its end."""
    marks = list(re.finditer(r"\(([A-J])\)", query))
    start = max((n for n, mark in enumerate(marks) if mark[1] == "A"), default=None)
    run = marks[start:] if start is not None else []
    if len(run) < 2 or "".join(mark[1] for mark in run) != LETTERS[: len(run)]:
        return query.strip(), []
    ends = [*(mark.start() for mark in run[1:]), len(query)]
    texts = [query[mark.end() : end].strip(" \n,;") for mark, end in zip(run, ends, strict=True)]
    stem = query[: run[0].start()].rstrip()
    return re.sub(r"#+\s*(?:선택지|옵션|보기|options?)\s*:?\s*\Z", "", stem).rstrip(), texts


def _listed_options(value: Any) -> list[str]:
    """Options as a list, the text of one (JSON or Python's), or "(A) … (B) …"."""
    if isinstance(value, list):
        return value
    text = (value or "").strip() if isinstance(value, (str, type(None))) else ""
    for read in (json.loads, ast.literal_eval):
        try:
            found = read(text) if text.startswith("[") else None
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list):
            return found
    return _marked_choices(text)[1]


def _sections(stem: str) -> tuple[str, str]:
    """The paragraph and the question of a prompt with headings; without one it is the question."""
    parts = _HEADING.split(stem)
    sections = list(zip(parts[1::2], (part.strip() for part in parts[2::2]), strict=True))
    asked = [text for name, text in sections if _QUESTION.search(name)]
    if len(asked) != 1:
        return "", _HEADING.sub("", stem).strip() if len(sections) == 1 else stem
    read = [text for name, text in sections if not _QUESTION.search(name)]
    return "\n\n".join(filter(None, read)), asked[0]


def csatqa(row: Mapping[str, Any]) -> Mcq:
    """CSATQA: items of the real 수능, five options, ``gold`` from 1."""
    names = [f"option#{n}" for n in range(1, 6)]
    choices = choices_of([row[name] for name in names], names)
    return _made(
        "csatqa",
        text_of(row, "question"),
        choices,
        numbered(row["gold"], len(choices), "gold"),
        paragraph=text_of(row, "context", needed=False),
        category=text_of(row, "category", needed=False),
        is_exam=True,
    )


KOBEST: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "boolq": (("paragraph", "question", "label"), ("Text", "Question", "Answer")),
    "copa": (
        ("premise", "question", "alternative_1", "alternative_2", "label"),
        ("sentence", "question", "1", "2", "Answer"),
    ),
    "wic": (
        ("word", "context_1", "context_2", "label"),
        ("Target", "SENTENCE1", "SENTENCE2", "ANSWER"),
    ),
    "hellaswag": (
        ("context", "ending_1", "ending_2", "ending_3", "ending_4", "label"),
        ("context", "choice1", "choice2", "choice3", "choice4", "label"),
    ),
    "sentineg": (("sentence", "label"), ("Text", "Label")),
}
"""KoBEST's parts: their columns in JSONL, and in the older TSV, part by part the same. A part
comes before those whose columns are some of its own."""

COPA_QUESTIONS = {
    "원인": "위 문장의 원인으로 알맞은 것은?",
    "결과": "위 문장의 결과로 알맞은 것은?",
}


def kobest(row: Mapping[str, Any]) -> Mcq:
    """KoBEST BoolQ, COPA, WiC, HellaSwag or SentiNeg, in JSONL (label from 0) or the older TSV
    (True and False; COPA's answer from 1)."""
    part, names, is_old = next(
        (part, names, names is forms[1])
        for part, forms in KOBEST.items()
        for names in forms
        if has_columns(row, names)
    )
    *fields, label = names
    texts = [text_of(row, name) for name in fields]
    more: dict[str, Any] = {"category": part}
    if part == "copa":
        asked = next((text for name, text in COPA_QUESTIONS.items() if name in texts[1]), None)
        if asked is None:
            raise BadRow(fields[1], f"{texts[1][:20]!r} is neither 원인 nor 결과")
        choices = choices_of(texts[2:], fields[2:])
        answer = numbered(row[label], 2, label, base=1 if is_old else 0)
        return _made("kobest", asked, choices, answer, paragraph=texts[0], **more)
    if part == "hellaswag":
        choices = choices_of(texts[1:], fields[1:])
        answer, asked = (
            numbered(row[label], 4, label, base=0),
            "다음에 이어질 문장으로 알맞은 것은?",
        )
        return _made("kobest", asked, choices, answer, paragraph=texts[0], **more)
    answer = _two_way(row[label], label)
    if part == "boolq":
        return _made("kobest", texts[1], ["아니오", "예"], answer, paragraph=texts[0], **more)
    if part == "wic":
        asked = f"두 문장에서 '{texts[0]}'의 뜻이 같은가?"
        paragraph = f"{texts[1]}\n{texts[2]}"
        return _made("kobest", asked, ["아니오", "예"], answer, paragraph=paragraph, **more)
    asked = "이 문장의 감정은?"
    return _made("kobest", asked, ["부정", "긍정"], answer, paragraph=texts[0], **more)


def _two_way(value: Any, name: str) -> int:
    """1 for 0 and False, 2 for 1 and True, also as text."""
    words = {"false": 0, "true": 1}
    text = str(value).strip().lower()
    return numbered(words.get(text, value), 2, name, base=0)


LAYOUTS = {
    "click": Layout("CLIcK", (frozenset({"id", "question", "choices", "answer"}),), click),
    "kmmlu": Layout(
        "KMMLU",
        (
            frozenset({"question", "answer", *"ABCD"}),
            frozenset({"question", "answer", *(f"option#{n}" for n in range(1, 5))}),
        ),
        kmmlu,
    ),
    "mmmlu": Layout("MMMLU", (frozenset({"Question", *"ABCD", "Answer"}),), mmmlu),
    "haerae": Layout(
        "HAE-RAE Bench",
        (frozenset({"query", "answer"}), frozenset({"question", "options", "answer"})),
        haerae,
    ),
    "csatqa": Layout(
        "CSATQA", (frozenset({"question", "gold", *(f"option#{n}" for n in range(1, 6))}),), csatqa
    ),
    "kobest": Layout(
        "KoBEST", tuple(frozenset(names) for forms in KOBEST.values() for names in forms), kobest
    ),
}
