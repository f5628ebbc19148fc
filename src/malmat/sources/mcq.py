"""Multiple-choice sets in their published layouts → items of one form, one function a layout.

An answer that is a choice's text is matched after normalization, and never guessed: an answer
that is empty, no choice, or beyond the choices is a fault of its row.
"""

from __future__ import annotations

import ast
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malmat.contests.faults import BadRow, Fault, sound_or_refused
from malmat.errors import InputError
from malmat.files import row_id
from malmat.sources.open import has_columns, read_source
from malmat.text.korean import fold

MOST_CHOICES = 10
CIRCLED = "①②③④⑤⑥⑦⑧⑨⑩"
LETTERS = "ABCDEFGHIJ"


@dataclass(frozen=True)
class Mcq:
    """One question.

    Args:
        id: the set's own, or a hash of the content.
        choices: two to ten, none equal after normalization.
        answer: the number of the right one, from 1; None where the set hides it.
        paragraph: what is to be read first; "" for none.
        plus: the box between question and choices (보기); "" for none.
        category: the set's own word for what the row is of; "" for none.
        is_exam: whether it is an item of the real 수능.
    """

    id: str
    question: str
    choices: list[str]
    answer: int | None
    paragraph: str = ""
    plus: str = ""
    category: str = ""
    is_exam: bool = False


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


@dataclass
class Converted:
    """What a file gave: items, faults of rows, and reason → rows that were left out."""

    items: list[Mcq] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_mcq(path: str | Path, source: str, *, skip_bad: bool = False) -> Converted:
    """The items of a file of the set ``source`` (a key of ``LAYOUTS``).

    Rows that repeat another one are left out and counted.

    Raises:
        InputError: a file of another set, or faulty rows without ``skip_bad``: one line that
            names them all.
    """
    rows, faults = read_source(path)
    layout = LAYOUTS[source]
    if rows and not any(layout.fits(row) for _, row in rows):
        raise _of_another_set(path, layout, rows[0])
    found = Converted(faults=faults)
    first: dict[str, tuple[int, Mcq]] = {}
    for number, (line, row) in enumerate(rows, 1):
        name = str(row.get("id") or f"number {number}") if isinstance(row, dict) else str(number)
        try:
            item = _item(layout, row)
            known_line, known = first.setdefault(item.id, (line, item))
            if known is item:
                found.items.append(item)
            elif known == item:
                found.left_out["repeats another row"] += 1
            else:
                raise BadRow("id", f"the row on line {known_line} has this id", "Keep one.")
        except BadRow as bad:
            found.faults.append(bad.fault(name, line))
    found.faults.sort(key=lambda fault: fault.line)
    sound_or_refused(path, found.faults, left=len(found.items), skip=skip_bad)
    return found


def _item(layout: Layout, row: Any) -> Mcq:
    if not isinstance(row, dict):
        raise BadRow("row", "expected an object")
    if not layout.fits(row):
        missing = min((sorted(c - set(row)) for c in layout.columns), key=len)
        raise BadRow(missing[0], "missing", "A row of another set? Take it out.")
    return layout.read(row)


def _of_another_set(path: str | Path, layout: Layout, first: tuple[int, Any]) -> InputError:
    line, row = first
    others = [other.title for other in LAYOUTS.values() if other.fits(row)]
    keys = ", ".join(map(str, row))[:100] if isinstance(row, dict) else type(row).__name__
    looks = f", and looks like {' or '.join(others)}" if others else ""
    wanted = " or ".join(", ".join(sorted(columns)) for columns in layout.columns)
    return InputError(
        f"is no file of {layout.title}: its first row has {keys}{looks}",
        path=path,
        line=line,
        fix=f"Rows of {layout.title} have {wanted}.",
    )


# ------------------------------------------------------------------- parts of a row


def text_of(row: Mapping[str, Any], name: str, *, needed: bool = True) -> str:
    """A field's text, stripped; a number as text; "" where it may be missing and is."""
    value = row.get(name)
    if isinstance(value, bool) or not isinstance(value, (str, int, float, type(None))):
        raise BadRow(name, f"expected text, found {type(value).__name__}")
    text = "" if value is None else str(value).strip()
    if needed and not text:
        raise BadRow(name, "empty")
    return text


def plain(text: str) -> str:
    """A text for comparison: folded, its spaces single."""
    return " ".join(fold(text).split())


def choices_of(values: list[Any], names: str | list[str]) -> list[str]:
    """The texts of choices.

    Args:
        names: the field that holds them all, or the field of each.

    Raises:
        BadRow: fewer than two, more than ten, a blank one, or two that are equal.
    """
    where = [f"{names}[{n}]" for n in range(len(values))] if isinstance(names, str) else names
    texts = [text_of({name: value}, name) for name, value in zip(where, values, strict=True)]
    whole = names if isinstance(names, str) else names[0] if names else "choices"
    if not 2 <= len(texts) <= MOST_CHOICES:
        raise BadRow(whole, f"{len(texts)} choices; 2 to {MOST_CHOICES} are read")
    first: dict[str, int] = {}
    for number, text in enumerate(texts, 1):
        if (same := first.setdefault(plain(text), number)) != number:
            raise BadRow(where[number - 1], f"choices {same} and {number} are equal")
    return texts


def matched(answer: str, choices: list[str], name: str = "answer") -> int:
    """The number of the choice whose text the answer is, after normalization.

    Raises:
        BadRow: it is empty, or none of them.
    """
    if not answer.strip():
        raise BadRow(name, "no answer")
    found = [n for n, text in enumerate(choices, 1) if plain(text) == plain(answer)]
    if len(found) != 1:
        raise BadRow(name, f"{answer[:40]!r} is none of the {len(choices)} choices")
    return found[0]


def numbered(value: Any, count: int, name: str = "answer", *, base: int = 1) -> int:
    """The number, from 1, that an answer names: 3, "3", 3.0, "③", "(3)".

    Args:
        base: what the set calls its first choice.

    Raises:
        BadRow: empty, no whole number, or beyond the choices.
    """
    text = fold(text_of({name: value}, name, needed=False)).strip("() .")
    if not text:
        raise BadRow(name, "no answer")
    found = re.fullmatch(r"(\d{1,3})(?:\.0+)?", text)
    if not found:
        raise BadRow(name, f"{text[:40]!r} is no whole number")
    number = int(found[1]) - base + 1
    if not 1 <= number <= count:
        raise BadRow(name, f"{text} is beyond the {count} choices")
    return number


def lettered(value: Any, count: int, name: str = "answer") -> int:
    """The number, from 1, of a letter: "B", "(B)", "b.".

    Raises:
        BadRow: empty, no letter, or beyond the choices.
    """
    text = fold(text_of({name: value}, name, needed=False)).strip("() .").upper()
    if not text:
        raise BadRow(name, "no answer")
    if len(text) != 1 or text not in LETTERS:
        raise BadRow(name, f"{text[:40]!r} is no letter of a choice")
    if (number := LETTERS.index(text) + 1) > count:
        raise BadRow(name, f"{text} is beyond the {count} choices")
    return number


def _made(source: str, question: str, choices: list[str], answer: int | None, **more: Any) -> Mcq:
    """An item with a content hash for its id."""
    key = row_id(source, more.get("paragraph", ""), question, choices, more.get("category", ""))
    return Mcq(f"{source}-{key}", question, choices, answer, **more)


# ------------------------------------------------------------ one function a layout


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
    more = {"paragraph": paragraph, "category": category, "is_exam": category.startswith("csat")}
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
