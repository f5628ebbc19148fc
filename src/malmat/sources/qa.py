"""Published sets of questions with short or long answers, and of choices, in one form.

A function a set: a row → its questions. What cannot be used is left out with its reason, and
counted: an answer is never guessed and never empty.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malmat.contests.faults import BadRow, Fault, sound_or_refused
from malmat.errors import InputError
from malmat.sources.layouts import LAYOUTS
from malmat.sources.open import has_columns, read_source
from malmat.sources.row import choices_of, matched
from malmat.sources.squad import articles_of, questions_of
from malmat.text.korean import hangul_share

MOST_SHORT = 60
"""Characters of a short answer; a longer one is a sentence."""


class LeftOut(Exception):
    """A row that cannot be used for a reason that its set is known for."""


@dataclass(frozen=True)
class Qa:
    """A question.

    Args:
        answers: all that count; of choices the number of the right one. Never empty.
        choices: texts; [] for a question that is answered in writing.
        is_long: whether the answer is a paragraph.
        title: what it is about, by the set's own word; "" for none.
        context: the passage or table that answers it; "" for none.
        field: the set's own category.
    """

    question: str
    answers: list[str]
    choices: list[str] = field(default_factory=list)
    is_long: bool = False
    title: str = ""
    context: str = ""
    field: str = ""


@dataclass
class Found:
    """What files gave: questions, faults of rows, and reason → questions that were left out."""

    questions: list[Qa] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


Maker = Callable[[], Qa]
"""Makes a question, or raises LeftOut or BadRow."""


def read_qa(path: str | Path, source: str, *, skip_bad: bool = False) -> Found:
    """The questions of a file of the set ``source`` (a key of ``SETS``).

    Raises:
        InputError: a file of another set, or rows that lack a column without ``skip_bad``.
    """
    columns, read = SETS[source]
    rows, faults = read_source(path, cp949=source == "etri_qa")
    articles = [(line, one) for line, row in rows for one in articles_of(row)]
    if articles and not any(_fits(one, columns) for _, one in articles):
        line, one = articles[0]
        keys = ", ".join(map(str, one))[:100] if isinstance(one, Mapping) else type(one).__name__
        wanted = " or ".join(", ".join(sorted(names)) for names in columns)
        raise InputError(
            f"is no file of {source}: its first row has {keys}",
            path=path,
            line=line,
            fix=f"Its rows have {wanted}.",
        )
    found = Found(faults=faults)
    for number, (line, one) in enumerate(articles, 1):
        try:
            if not _fits(one, columns):
                raise BadRow("row", f"lacks a column of {source}", "Take it out.")
            for make in read(one):
                try:
                    found.questions.append(make())
                except LeftOut as reason:
                    found.left_out[str(reason)] += 1
        except BadRow as bad:
            found.faults.append(bad.fault(f"number {number}", line))
    used = len(found.questions) + found.left_out.total()
    sound_or_refused(path, found.faults, left=used, skip=skip_bad)
    return found


def _fits(row: Any, columns: Sequence[frozenset[str]]) -> bool:
    return any(has_columns(row, names) for names in columns)


# ------------------------------------------------------------------------------ answers


def _text(value: Any) -> str:
    return " ".join(str(value).split()) if isinstance(value, (str, int, float)) else ""


def _asked(value: Any) -> str:
    """A question's text.

    Raises:
        LeftOut: it is empty, or holds an HTML entity.
    """
    text = _text(value)
    if not text:
        raise LeftOut("no question")
    return _without_entities(text)


def _without_entities(text: str) -> str:
    if html.unescape(text) != text:
        raise LeftOut("an HTML entity")
    return text


def _short(values: Sequence[Any]) -> list[str]:
    """The alternatives of a short answer, each once.

    Raises:
        LeftOut: none, or one of them is no short answer.
    """
    texts = list(dict.fromkeys(text for value in values if (text := _text(value))))
    if not texts:
        raise LeftOut("no answer")
    for text in map(_without_entities, texts):
        if "#" in text:  # it divides alternatives
            raise LeftOut("an answer with #")
        if len(text) > MOST_SHORT:
            raise LeftOut(f"an answer above {MOST_SHORT} characters")
    return texts


def _long(value: Any) -> list[str]:
    if isinstance(value, bool) or (value and not isinstance(value, (str, int, float))):
        raise LeftOut("an answer that is no text")
    if not (text := str(value or "").strip()):
        raise LeftOut("no answer")
    return [_without_entities(text)]


# -------------------------------------------------------------------- a function a set


def extractive(row: Mapping[str, Any], *, korean: bool = False) -> Iterator[Maker]:
    """KorQuAD 1.0, KLUE-MRC, ETRI MRC, TyDiQA: nested or flat rows of a passage with questions.

    Args:
        korean: the set has other languages, too: only ids that say so, or rows in Hangul.
    """
    names = {"context": "passage_text", "question": "question_text", "title": "document_title"}
    row = {**row, **{name: row[old] for name, old in names.items() if old in row}}
    for context, question in questions_of(row):
        if question is None:
            continue
        if not isinstance(question, Mapping):
            raise BadRow("qas", "expected objects")
        yield _extracted(context, question, str(row.get("title") or ""), korean)


def _extracted(context: str, asked: Mapping[str, Any], title: str, korean: bool) -> Maker:
    def make() -> Qa:
        name = str(asked.get("id") or asked.get("guid") or "")
        if korean and not _is_korean(name, _text(asked.get("question"))):
            raise LeftOut("not Korean")
        if asked.get("is_impossible") in (True, 1, "true", "True"):
            raise LeftOut("impossible question")
        texts = _pointed_at(context, asked.get("answers"))
        question = _asked(asked.get("question"))
        return Qa(question, _short(texts), title=title, context=context.strip())

    return make


def _is_korean(name: str, question: str) -> bool:
    language = re.match(r"([a-z]{4,})-", name)
    return language[1] == "korean" if language else hangul_share(question) > 0.5


def _pointed_at(context: str, answers: Any) -> list[str]:
    """The texts of answers (``[{text, answer_start}]``, ``{text: [], answer_start: []}``, texts).

    Raises:
        LeftOut: ``answer_start`` of one of them is no number, or points at another text.
    """
    if isinstance(answers, Mapping):
        texts, starts = (answers.get(name) for name in ("text", "answer_start"))
        texts = [texts] if isinstance(texts, str) else list(texts or [])
        starts = list(starts) if isinstance(starts, (list, tuple)) else [starts] * bool(texts)
        pairs = list(zip(texts, [*starts, *[None] * len(texts)], strict=False))
    else:
        some = answers if isinstance(answers, list) else [answers]
        pairs = [
            (one.get("text"), one.get("answer_start")) if isinstance(one, Mapping) else (one, None)
            for one in some
        ]
    for text, start in pairs:
        if start not in (None, "") and isinstance(text, str) and text.strip():
            try:
                place = int(float(start))
            except (ValueError, TypeError, OverflowError):
                raise LeftOut("answer_start is no number") from None
            if place < 0 or context[place : place + len(text)] != text:
                raise LeftOut("answer_start points at another text")
    return [text for text, _ in pairs if isinstance(text, str)]


def tydiqa(row: Mapping[str, Any]) -> Iterator[Maker]:
    return extractive(row, korean=True)


ETRI_QUESTION, ETRI_ANSWER, ETRI_CHOICE = "질문(Q_string)", "정답(A_ans)", "보기()E_string"
ETRI_TITLE = "위키피디아 제목(AP_title)"


def etri_qa(row: Mapping[str, Any]) -> Iterator[Maker]:
    """ETRI QA: 객관식 with equal headers for its choices, 연상형 and 주관식."""

    def make() -> Qa:
        question, title = _asked(row[ETRI_QUESTION]), _text(row.get(ETRI_TITLE))
        columns = [name for name in row if name.startswith(ETRI_CHOICE)]
        if not columns:
            return Qa(question, _short([row[ETRI_ANSWER]]), title=title)
        texts = {name: text for name in columns if (text := _text(row[name]))}
        if not _text(row[ETRI_ANSWER]):
            raise LeftOut("no answer")
        try:
            choices = choices_of(list(map(_without_entities, texts.values())), list(texts))
            number = matched(_text(row[ETRI_ANSWER]), choices, ETRI_ANSWER)
        except (BadRow, ValueError) as bad:
            field = getattr(bad, "field", ETRI_CHOICE)
            what = "the answer is no choice" if field == ETRI_ANSWER else "choices that are none"
            raise LeftOut(what) from None
        return Qa(question, [str(number)], choices, title=title)

    yield make


def korwikitq(row: Mapping[str, Any]) -> Iterator[Maker]:
    """KorWikiTQ: a table with a question, or several."""
    asked = row["QAS"] if isinstance(row["QAS"], list) else [row["QAS"]]
    title = _text(row.get("T"))
    table = as_text(row["TBL"], title)
    for question in asked:
        if not isinstance(question, Mapping):
            raise BadRow("QAS", "expected an object")
        answers = question.get("answer")
        values = answers if isinstance(answers, list) else [answers]
        yield _of_table(question, values, title, table)


def _of_table(question: Mapping[str, Any], values: Sequence[Any], title: str, table: str) -> Maker:
    def make() -> Qa:
        if not table:
            raise LeftOut("an empty table")
        return Qa(_asked(question.get("question")), _short(values), title=title, context=table)

    return make


def as_text(table: Any, title: str = "") -> str:
    """A table as text, a line a row: ``이름: 단오, 날: 5월 5일``.

    A row may be shorter or longer than the header, whose blank names become 열 1, 열 2 …; of a
    table that has no more than its header that is the text.
    """
    rows = [list(map(_text, one)) for one in table or [] if isinstance(one, (list, tuple))]
    rows = [one for one in rows if any(one)]
    if not rows:
        return ""
    width = max(map(len, rows))
    head, *body = [one + [""] * (width - len(one)) for one in rows]
    if not body:
        return ", ".join(filter(None, head))
    names = [name or f"열 {place}" for place, name in enumerate(head, 1)]
    lines = (
        ", ".join(f"{name}: {cell}" for name, cell in zip(names, one, strict=True) if cell)
        for one in body
    )
    return "\n".join([title, *lines] if title else lines)


def koalpaca(row: Mapping[str, Any]) -> Iterator[Maker]:
    """KoAlpaca v1.1a (``instruction, output``) and RealQA (``custom_id, question, answer``)."""
    names = ("instruction", "output") if "instruction" in row else ("question", "answer")

    def make() -> Qa:
        return Qa(_asked(row[names[0]]), _long(row[names[1]]), is_long=True)

    yield make


def multiple_choice(source: str) -> Callable[[Mapping[str, Any]], Iterator[Maker]]:
    """A set of ``layouts``, its paragraph before the question."""

    def read(row: Mapping[str, Any]) -> Iterator[Maker]:
        item = LAYOUTS[source].read(row)

        def make() -> Qa:
            if item.answer is None:
                raise LeftOut("no answer")
            parts = (item.paragraph, item.plus, item.question)
            question = "\n".join(filter(None, parts))
            return Qa(question, [str(item.answer)], item.choices, field=item.category)

        yield make

    return read


_FLAT = frozenset({"context", "question", "answers"})
_NESTED = frozenset({"paragraphs"})
_PASSAGE = frozenset({"passage_text", "question_text"})
SETS: dict[str, tuple[tuple[frozenset[str], ...], Callable[[Mapping[str, Any]], Iterator[Maker]]]]
SETS = {
    **{name: (LAYOUTS[name].columns, multiple_choice(name)) for name in ("click", "kmmlu")},
    "etri_qa": ((frozenset({ETRI_QUESTION, ETRI_ANSWER}),), etri_qa),
    "etri_mrc": ((_NESTED, _FLAT), extractive),
    "korquad": ((_NESTED, _FLAT), extractive),
    "klue_mrc": ((_NESTED, _FLAT), extractive),
    "tydiqa": ((_NESTED, _FLAT, _PASSAGE), tydiqa),
    "korwikitq": ((frozenset({"TBL", "QAS"}),), korwikitq),
    "koalpaca": ((frozenset({"instruction", "output"}),), koalpaca),
    "koalpaca_realqa": ((frozenset({"question", "answer"}),), koalpaca),
}
"""Set → the columns of its rows (alternatives), and what reads one."""
