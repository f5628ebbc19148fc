"""The project's own files (terms, pairs, preferences, questions), in every shape the field uses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, AliasChoices, BeforeValidator, Field, model_validator

from malmat.errors import InputError
from malmat.files import read_dataset, read_json, read_rows, row_id
from malmat.schema import Row, Text, unfit, validate

STATUSES = (
    *("ok", "api_error", "blocked", "refused", "truncated"),
    *("empty", "parse_error", "out_of_range", "leaked"),
)
"""What can have happened to a row. Only ``ok`` rows enter an average."""


OptionalText = Annotated[str, BeforeValidator(lambda value: str(value or ""))]
"""A field of text that may be missing or null: empty then. A number is taken as text."""


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

    @model_validator(mode="before")
    @classmethod
    def _other_names(cls, row: Any) -> Any:
        if not isinstance(row, dict):
            return row
        names = {"content": "description", "example_q": "question", "example_a": "answer"}
        found = {name: row.get(name) or row.get(other) for name, other in names.items()}
        return {"forms": "", "near": "", **row, **found}


TERM_COLUMNS = ("title", "content", "example_q", "example_a")
"""The columns of a CSV file of terms that every row has; it may leave out those behind them."""


def read_terms(path: str | Path) -> list[dict]:
    """Slang terms from ``terms.csv``, ``merged_final.json`` or ``meme_sample…jsonl``.

    Returns:
        The fields of ``Term`` and what else a row holds, a term once. ``forms`` are
        regular expressions on text without spaces that show the term, ``near`` the
        titles of terms that mean nearly the same.
    """
    terms: dict[str, tuple[int, dict]] = {}
    for line, row in read_rows(path, required=TERM_COLUMNS):
        term = validate(Term, row, path=path, line=line).model_dump(exclude={"conversations"})
        first, _ = terms.setdefault(term["title"], (line, term))
        if first != line and Path(path).suffix == ".csv":
            problem = f"'{term['title']}' stands on line {first} already"
            raise InputError(problem, path=path, line=line, field="title")
    return _listed((term for _, term in terms.values()), "terms", path)


# ------------------------------------------------------------------------------- pairs


class Message(Row, extra="ignore"):
    role: Literal["system", "user", "assistant", "tool"]
    content: Text


def _messages_of(role: str) -> BeforeValidator:
    """A field of messages may be a text: the one message of ``role``."""

    def messages(value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise unfit("empty")
        if isinstance(value, str):
            return [{"role": role, "content": value.strip()}]
        if not isinstance(value, list):
            raise unfit(f"expected str or list, found {type(value).__name__}")
        return value

    return BeforeValidator(messages)


Prompt = Annotated[list[Message], _messages_of("user")]
Answer = Annotated[list[Message], _messages_of("assistant")]


def _check_last_answer(messages: list[Message], field: str) -> None:
    if not messages or messages[-1].role != "assistant":
        raise unfit("the last message must be the assistant's", field=field)
    if len(messages) < 2 or messages[-2].role not in ("user", "tool"):
        raise unfit("the last answer must follow a message of the user", field=field)


class Conversation(Row):
    """A row of ``messages``."""

    id: OptionalText = ""
    title: OptionalText = ""
    messages: list[Message]

    @model_validator(mode="after")
    def _ends_on_answer(self) -> Conversation:
        _check_last_answer(self.messages, "messages")
        return self

    def pairs(self) -> list[dict]:
        messages = [message.model_dump() for message in self.messages]
        pair = {
            "id": self.id or row_id("messages", messages),
            "title": self.title,
            "question": messages[-2]["content"],
            "answer": messages[-1]["content"],
            "messages": messages,
        }
        return [pair]


class Completion(Row):
    """A row of ``prompt`` and ``completion``, one of them or both lists of messages."""

    id: OptionalText = ""
    title: OptionalText = ""
    prompt: Prompt
    completion: Answer

    @model_validator(mode="after")
    def _ends_on_answer(self) -> Completion:
        _check_last_answer(self.prompt + self.completion, "completion")
        return self

    def pairs(self) -> list[dict]:
        messages = [*self.prompt, *self.completion]
        return Conversation(id=self.id, title=self.title, messages=messages).pairs()


class Pair(Row):
    """A flat row; a prompt and its completion may be text, too."""

    title: OptionalText = ""
    question: Text = Field(validation_alias=AliasChoices("question", "prompt"))
    answer: Text = Field(validation_alias=AliasChoices("answer", "completion"))

    def pairs(self) -> list[dict]:
        return [_pair(self.title, self.question, self.answer, self.model_extra or {})]


class Turn(Row):
    q: Text
    a: Text


class Nested(Row):
    """A term with its conversations, as in ``merged_final.json``."""

    title: Text
    conversations: list[Turn]

    def pairs(self) -> list[dict]:
        return [
            _pair(self.title, turn.q, turn.a, turn.model_extra or {}) for turn in self.conversations
        ]


def _pair(title: str, question: str, answer: str, extra: dict) -> dict:
    pair = {"title": title.strip(), "question": question.strip(), "answer": answer.strip()}
    extra = {key: extra[key] for key in ("context", "model") if extra.get(key)}
    return {"id": row_id("pair", *pair.values()), **pair, **extra}


def _shape_of(row: Any) -> type[Conversation | Nested | Completion | Pair]:
    keys = row if isinstance(row, dict) else {}
    if "messages" in keys:
        return Conversation
    if "conversations" in keys:
        return Nested
    texts = isinstance(keys.get("prompt"), str) and isinstance(keys.get("completion"), str)
    return Completion if "prompt" in keys and "question" not in keys and not texts else Pair


def read_pairs(path: str | Path) -> list[dict]:
    """Dialogue pairs from any shape this field uses, flattened.

    Nested ``merged_final.json`` (``title, description, conversations: [{context, q,
    a, model}]``), flat rows (``title, question, answer``) in JSON, JSONL, CSV or
    Parquet, ``messages`` rows, prompt/completion rows (text, or lists of messages),
    or the name of a Hugging Face data set (its ``train`` split). Keys beyond these
    are passed over. Of a conversation of several turns the last answer is the one
    to be trained (see ``chat.encode_example``).

    Returns:
        ``[{id, title, question, answer, …}]``; a row of messages keeps its
        ``messages`` (its ``title`` may be empty). Exact repeats of a row share an
        id and are returned once.
    """
    pairs: dict[str, dict] = {}
    for line, row in read_dataset(path):
        for pair in validate(_shape_of(row), row, path=path, line=line).pairs():
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


# ------------------------------------------------------------------------- preferences


class Preference(Row):
    id: OptionalText = ""
    title: OptionalText = ""
    prompt: Prompt
    chosen: Answer
    rejected: Answer

    @model_validator(mode="before")
    @classmethod
    def _text_needs_a_prompt(cls, row: Any) -> Any:
        if not isinstance(row, dict) or row.get("prompt") is not None:
            return row
        if isinstance(row.get("chosen"), str):
            fix = "Only whole conversations (lists of messages) need no prompt."
            raise unfit("missing", field="prompt", fix=fix)
        return {**row, "prompt": []}

    @model_validator(mode="after")
    def _differ_in_the_last_answer(self) -> Preference:
        chosen, rejected = self.prompt + self.chosen, self.prompt + self.rejected
        _check_last_answer(chosen, "chosen")
        _check_last_answer(rejected, "rejected")
        if chosen[:-1] != rejected[:-1]:
            problem = "is not the conversation of 'chosen' up to the last answer"
            fix = "The two may differ in the last answer only."
            raise unfit(problem, field="rejected", fix=fix)
        if chosen[-1].content.strip() == rejected[-1].content.strip():
            raise unfit("is the same text as 'chosen'", field="rejected")
        return self


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
        valid = validate(Preference, row, path=path, line=line)
        messages = [message.model_dump() for message in (*valid.prompt, *valid.chosen[:-1])]
        chosen, rejected = (side[-1].content.strip() for side in (valid.chosen, valid.rejected))
        preference = {
            "id": valid.id or row_id("preference", messages, chosen, rejected),
            "title": valid.title,
            "messages": messages,
            "chosen": chosen,
            "rejected": rejected,
        }
        if isinstance(row.get("prompt"), str):
            preference["question"] = messages[-1]["content"]
        _add(rows, preference, path, line)
    return _listed(rows.values(), "preference rows", path)


# --------------------------------------------------------------------------- questions


class Question(Row):
    question: Text


class QuestionList(Row):
    questions: list[Text]


def read_questions(path: str | Path) -> list[dict]:
    """Evaluation questions: ``{"questions": [str]}`` or ``[{title, question}]``.

    Returns:
        ``[{id, question, title?, …}]`` in file order; ids are unique.
    """
    value = read_json(path) if Path(path).suffix.lower() == ".json" else None
    if isinstance(value, dict):
        rows = [{"question": text} for text in validate(QuestionList, value, path=path).questions]
    else:
        rows = [
            validate(Question, row, path=path, line=line).model_dump()
            for line, row in read_rows(path)
        ]
    questions: dict[str, dict] = {}
    for row in rows:
        row = {"id": row_id("question", row["question"]), **row}
        if questions.setdefault(row["id"], row) is not row:
            problem = f"the same question stands in it twice: {row['question'][:40]!r}"
            raise InputError(problem, path=path)
    return _listed(questions.values(), "questions", path)
