"""The project's own files (terms, pairs, preferences, questions), in every shape the field uses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from malmat.dialogues import QUESTION, pairs_of_row, preference_of_row
from malmat.errors import InputError
from malmat.files import kind_of, read_dataset, read_rows, row_id
from malmat.schema import OptionalText, Row, Text, unfit, validate

STATUSES = (
    *("ok", "api_error", "blocked", "refused", "truncated"),
    *("empty", "parse_error", "out_of_range", "leaked"),
)
"""What can have happened to a row. Only ``ok`` rows enter an average."""


def _listed(rows: Iterable[dict], what: str, path: str | Path) -> list[dict]:
    rows = list(rows)
    if not rows:
        raise InputError(f"no {what} in it", path=path)
    return rows


# ------------------------------------------------------------------------------- terms


def _split(value: Any) -> Any:
    if not isinstance(value, str):
        return value or []
    return [part.strip() for part in value.split(";") if part.strip()]


def _regular_expressions(forms: list[str]) -> list[str]:
    for form in forms:
        try:
            re.compile(form)
        except re.error as error:
            raise unfit(f"not a regular expression ({error})") from None
        if re.search(form, ""):
            raise unfit(f"'{form}' fits every text")
    return forms


class Term(Row):
    """A slang term; ``src/data/README.md`` describes the fields."""

    title: Annotated[Text, AfterValidator(str.strip)]
    content: Annotated[Text, AfterValidator(str.strip)]
    example_q: OptionalText
    example_a: OptionalText
    gloss: OptionalText = ""
    forms: Annotated[list[str], BeforeValidator(_split), AfterValidator(_regular_expressions)]
    near: Annotated[list[str], BeforeValidator(_split)]
    aliases: Annotated[list[str], BeforeValidator(_split)]
    opposite: Annotated[list[str], BeforeValidator(_split)]

    @model_validator(mode="before")
    @classmethod
    def _other_names(cls, row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        names = {"content": "description", "example_q": "question", "example_a": "answer"}
        found = {name: row.get(name) or row.get(other) for name, other in names.items()}
        lists = dict.fromkeys(("forms", "near", "aliases", "opposite"), "")
        return {**lists, **row, **found}


TERM_COLUMNS = ("title", "content", "example_q", "example_a")
"""The columns of a CSV file of terms that every row has; it may leave out those behind them."""


def read_terms(path: str | Path) -> list[dict]:
    """Slang terms from ``terms.csv``, ``merged_final.json`` or ``meme_sample…jsonl``.

    Returns:
        The fields of ``Term`` and what else a row holds, a term once. ``forms`` are
        regular expressions on text without spaces that show the term, ``near`` the
        titles of terms that mean nearly the same; ``aliases`` and ``opposite`` are lists, too.
    """
    terms: dict[str, tuple[int, dict]] = {}
    for line, row in read_rows(path, required=TERM_COLUMNS):
        term = validate(Term, row, path=path, line=line).model_dump(exclude={"conversations"})
        first, _ = terms.setdefault(term["title"], (line, term))
        if first != line and kind_of(path) in (".csv", ".tsv"):
            problem = f"'{term['title']}' stands on line {first} already"
            raise InputError(problem, path=path, line=line, field="title")
    return _listed((term for _, term in terms.values()), "terms", path)


# ------------------------------------------------------------- pairs and preferences


def read_pairs(path: str | Path) -> list[dict]:
    """Dialogue pairs from any shape this field uses, flattened.

    Nested ``merged_final.json`` (``title, description, conversations: [{context, q,
    a, model}]``), flat rows (``title, question, answer``, under the names that
    ``dialogues.QUESTION`` and ``ANSWER`` list), ``messages`` rows, ShareGPT's
    ``conversations``, prompt/completion rows (text, or lists of messages), Alpaca's, or
    the name of a Hugging Face data set (its ``train`` split): ``docs/data-formats.md``.
    Keys beyond these are passed over. A conversation ends with its last answer that is to be
    trained: one of OpenAI's ``weight: 0`` keeps it in ``messages``, and is not.

    Returns:
        ``[{id, title, question, answer, …}]``; a row of messages keeps its
        ``messages`` (its ``title`` may be empty). Exact repeats of a row share an
        id and are returned once.
    """
    pairs: dict[str, dict] = {}
    for line, row in read_dataset(path):
        for pair in pairs_of_row(row, path, line):
            _add(pairs, pair, path, line)
    return _listed(pairs.values(), "dialogue pairs", path)


def _add(rows: dict[str, dict], row: dict, path: str | Path, line: int) -> None:
    """Add a row under its id, unless one of the same content has it."""
    first = rows.setdefault(row["id"], row)
    if any(
        first.get(key) != row.get(key) for key in ("messages", "question", "chosen", "rejected")
    ):
        problem = f"{row['id']!r} is the id of another row already"
        raise InputError(problem, path=path, line=line, field="id")


def read_preferences(path: str | Path) -> list[dict]:
    """Preference rows: a prompt, the answer to be preferred and the one to be avoided.

    In JSON, JSONL, CSV, Parquet or a Hugging Face data set, as TRL defines them:
    ``prompt, chosen, rejected`` as text or as lists of messages, or, without a
    prompt, ``chosen`` and ``rejected`` as two whole conversations that differ in
    their last answer.

    Returns:
        ``[{id, title, messages, chosen, rejected, …}]``; ``messages`` is the prompt,
        ``chosen`` and ``rejected`` are text. A row whose prompt was plain text has it
        as ``question``, too, to be worded as the questions of pairs are. Exact repeats
        are returned once.
    """
    rows: dict[str, dict] = {}
    for line, row in read_dataset(path):
        _add(rows, preference_of_row(row, path, line), path, line)
    return _listed(rows.values(), "preference rows", path)


# --------------------------------------------------------------------------- questions


class Question(Row):
    question: Text = Field(validation_alias=AliasChoices(*QUESTION))


class QuestionList(Row):
    questions: list[Text]


def read_questions(path: str | Path) -> list[dict]:
    """Evaluation questions: ``{"questions": [str]}``, ``[{title, question}]``, a list of texts, or
    a text file of a question a line.

    Returns:
        ``[{id, question, title?, …}]`` in file order; ids are unique.
    """
    questions: dict[Any, tuple[str, dict]] = {}
    for place, row in _question_rows(path):
        row = {
            name: value for name, value in row.items() if name != "id" or value not in ("", None)
        }
        row = {"id": row_id("question", row["question"]), **row}
        if not isinstance(row["id"], str | int):
            problem = f"expected a text or a number, found {row['id']!r} ({place})"
            raise InputError(problem, path=path, field="id")
        first, known = questions.setdefault(row["id"], (place, row))
        if known is not row:
            same = row["question"] == known["question"]
            what = f"the question {row['question'][:40]!r}" if same else f"the id {row['id']!r}"
            raise InputError(f"{what} stands in it twice ({first}, {place})", path=path)
    return _listed((row for _, row in questions.values()), "questions", path)


def _question_rows(path: str | Path) -> Iterator[tuple[str, dict]]:
    """The rows of a file of questions, each with its place in words."""
    for line, row in read_rows(path):
        listed = row.get("questions") if isinstance(row, dict) else None
        if isinstance(listed, list) and listed and all(isinstance(one, dict) for one in listed):
            for n, one in enumerate(listed):
                place = f"questions[{n}]"
                question = validate(Question, one, path=path, line=line, where=place)
                yield place, question.model_dump()
        elif isinstance(row, dict) and "questions" in row:
            texts = validate(QuestionList, row, path=path, line=line).questions
            yield from ((f"questions[{n}]", {"question": text}) for n, text in enumerate(texts))
        else:
            row = {"question": row} if isinstance(row, str) else row
            yield f"line {line}", validate(Question, row, path=path, line=line).model_dump()
