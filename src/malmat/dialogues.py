"""The shapes in which this field writes dialogues and preferences, each a schema of its rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import AliasChoices, BeforeValidator, Field, model_validator

from malmat.errors import InputError
from malmat.files import row_id
from malmat.messages import (
    Answer,
    Message,
    Prompt,
    check_last_answer,
    decoded,
    spoken,
    trained_turns,
)
from malmat.schema import OptionalText, Row, Text, unfit, validate
from malmat.text.mojibake import damage

QUESTION = ("question", "q", "prompt", "instruction", "query", "input")
ANSWER = ("answer", "a", "completion", "response", "output")
"""What a flat row may call its question and its answer; the first of them counts."""

DIALOGUE = {"messages", "conversations", *QUESTION, *ANSWER}
"""The fields of which a row of dialogues has one or more."""

_SHAPES = (
    "Read are question, answer; messages; conversations of {from, value} or {q, a}; prompt, "
    "completion; instruction, input, output: docs/data-formats.md."
)


# ---------------------------------------------------------------------------- dialogues


class Conversation(Row):
    """A row of ``messages``."""

    field: ClassVar = "messages"

    id: OptionalText = ""
    title: OptionalText = ""
    messages: Annotated[list[Message], BeforeValidator(spoken)]

    @model_validator(mode="after")
    def _ends_on_answer(self) -> Conversation:
        check_last_answer(self.messages, self.field)
        return self

    def pairs(self) -> list[dict]:
        """The conversation up to its last answer that is to be trained; [] where none is."""
        messages = [message.model_dump(exclude_none=True) for message in self.messages]
        turns = trained_turns(messages)
        if not turns:
            return []
        messages = messages[: turns[-1] + 1]
        plain = [message.plain() for message in self.messages[: len(messages)]]
        pair = {
            "id": self.id or row_id("messages", plain),
            "title": self.title,
            "question": messages[-2]["content"],
            "answer": messages[-1]["content"],
            "messages": messages,
        }
        return [pair]


class ShareGPT(Conversation):
    """A row of ``conversations: [{from, value}]``."""

    field: ClassVar = "conversations"

    messages: Annotated[list[Message], BeforeValidator(spoken)] = Field(
        validation_alias="conversations"
    )


class Completion(Row):
    """A row of ``prompt`` and ``completion``, one of them or both lists of messages."""

    id: OptionalText = ""
    title: OptionalText = ""
    prompt: Prompt
    completion: Answer = Field(validation_alias=AliasChoices("completion", "response"))

    @model_validator(mode="after")
    def _ends_on_answer(self) -> Completion:
        check_last_answer(self.prompt + self.completion, "completion")
        return self

    def pairs(self) -> list[dict]:
        messages = [one.model_dump() for one in (*self.prompt, *self.completion)]
        return Conversation(id=self.id, title=self.title, messages=messages).pairs()  # type: ignore[arg-type]


class Pair(Row):
    """A flat row."""

    title: OptionalText = ""
    question: Text = Field(validation_alias=AliasChoices(*QUESTION))
    answer: Text = Field(validation_alias=AliasChoices(*ANSWER))

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


def is_nested(row: Any) -> bool:
    """Whether a row is a term with its conversations, and not one conversation of messages."""
    if not isinstance(row, dict) or "conversations" not in row or row.get("messages"):
        return False
    turns = row["conversations"]
    if not isinstance(turns, list) or not turns:
        return not isinstance(turns, str)
    return isinstance(turns[0], dict) and not turns[0].keys() & {"from", "role"}


def _shape_of(row: dict) -> type[Conversation | Nested | Completion | Pair] | None:
    if is_nested(row):
        return Nested
    if "messages" in row:
        return Conversation
    if "conversations" in row:
        turns = row["conversations"]
        return ShareGPT if isinstance(turns, list) and isinstance(turns[0], dict) else None
    texts = any(isinstance(row.get(name), str) for name in ANSWER)
    if "prompt" in row and "question" not in row:
        return Pair if texts and isinstance(row["prompt"], str) else Completion
    return Pair if row.keys() & {*QUESTION, *ANSWER} else None


def pairs_of_row(row: Any, path: str | Path, line: int) -> list[dict]:
    """The pairs of a row, whatever its shape (``formats.read_pairs``).

    Raises:
        InputError: a row of no shape that is known, one that is incomplete, or an answer that its
            row calls a bad one (KTO's ``label: false``).
    """
    if not isinstance(row, dict):
        problem = f"expected an object, found {type(row).__name__}"
        raise InputError(problem, path=path, line=line, fix=_SHAPES)
    if row.get("label") is False:
        problem, fix = "false: an answer to be avoided", "Leave such rows out."
        raise InputError(problem, path=path, line=line, field="label", fix=fix)
    row = _as_one_conversation(_joined(row, path, line), path, line)
    shape = _shape_of(row)
    if shape is None:
        problem = f"a row with the keys {', '.join(row)[:60]} is no dialogue"
        raise InputError(problem, path=path, line=line, fix=_SHAPES)
    pairs = validate(shape, row, path=path, line=line).pairs()
    for pair in pairs:
        said = {f"messages[{n}]": one["content"] for n, one in enumerate(pair.get("messages", ()))}
        for field, text in ({name: pair[name] for name in ("question", "answer")} | said).items():
            refuse_damaged(text, path, line, field)
    if row.get("cluster") in (None, ""):
        return pairs
    return [{**pair, "cluster": str(row["cluster"])} for pair in pairs]


def refuse_damaged(text: Any, path: str | Path, line: int, field: str) -> None:
    """Stop at a text that holds letters of an encoding misread, which would be trained.

    Raises:
        InputError: ``mojibake.damage``.
    """
    if isinstance(text, str) and _ODD.search(text) and (how := damage(text)):
        problem, fix = f"damaged letters: {how} ({text[:12]!r})", "Read the original as UTF-8."
        raise InputError(problem, path=path, line=line, field=field, fix=fix)


_ODD = re.compile("[\x80-\xff\ufffd]")
"""Without one of these a text is sound, or cannot be told from it, at no cost."""


def as_answer(row: Any) -> Any:
    """A row of answers made elsewhere, with ``question`` and ``answer`` under these names."""
    if not isinstance(row, dict):
        return row
    answers = ("answer", "predict", *ANSWER)  # what is predicted, before an output that may be gold
    for field, names in (("question", QUESTION), ("answer", answers)):
        name = next((name for name in names if name in row), field)
        row = {**row, field: row[name]} if name in row else row
    return row


def _joined(row: dict, path: str | Path, line: int) -> dict:
    """A row with its cells decoded and, of Alpaca's, the input behind the instruction."""
    row = {name: decoded(value, path, line) for name, value in row.items()}
    instruction, given = row.get("instruction"), row.get("input")
    if given is None and "instruction" in row:  # as Dolly calls it
        given = row.get("context")
    if isinstance(instruction, str) and isinstance(given, str) and given.strip():
        row["instruction"] = f"{instruction.strip()}\n\n{given.strip()}"
    return _without_spare_nulls(row)


def _without_spare_nulls(row: dict) -> dict:
    """A row without the empty columns that it does not need, as tables of mixed rows have them."""
    spare: set[str] = set()
    for names, others in (
        (("messages", "conversations"), DIALOGUE),
        (QUESTION, QUESTION),
        (ANSWER, ANSWER),
    ):
        if any(row.get(name) is not None for name in others):
            spare.update(name for name in names if row.get(name) is None)
    return {name: value for name, value in row.items() if name not in spare}


def _as_one_conversation(row: dict, path: str | Path, line: int) -> dict:
    """A row of ShareGPT's or Alpaca's whose system prompt or earlier turns (``history``) stand in
    fields of their own, as messages; others as they are."""
    system, history = row.get("system"), row.get("history") or []
    shared = isinstance(row.get("conversations"), list) and not is_nested(row)
    if not (system or history) or not (shared or "instruction" in row) or "messages" in row:
        return row
    if not isinstance(history, list) or any(
        not isinstance(turn, list) or len(turn) != 2 for turn in history
    ):
        problem = "expected a list of [question, answer]"
        raise InputError(problem, path=path, line=line, field="history")
    turns = [("system", system)] if system else []
    for question, answer in history:
        turns += [("user", question), ("assistant", answer)]
    if not shared:
        sides = (("user", QUESTION), ("assistant", ANSWER))
        turns += [(role, next((row[n] for n in names if n in row), None)) for role, names in sides]
    messages = [{"role": role, "content": text} for role, text in turns]
    return {**row, "messages": messages + (row["conversations"] if shared else [])}


# -------------------------------------------------------------------------- preferences


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
        check_last_answer(chosen, "chosen")
        check_last_answer(rejected, "rejected")
        if chosen[:-1] != rejected[:-1]:
            problem = "is not the conversation of 'chosen' up to the last answer"
            fix = "The two may differ in the last answer only."
            raise unfit(problem, field="rejected", fix=fix)
        if chosen[-1].content.strip() == rejected[-1].content.strip():
            raise unfit("is the same text as 'chosen'", field="rejected")
        return self


def preference_of_row(row: Any, path: str | Path, line: int) -> dict:
    """A preference row as ``formats.read_preferences`` returns it."""
    if isinstance(row, dict):
        row = _joined(row, path, line)
        prompts = ("prompt", "question", "instruction", "messages", "conversations")
        found = next((row[name] for name in prompts if row.get(name) is not None), None)
        row = {**row, "prompt": found}
    valid = validate(Preference, row, path=path, line=line)
    count = len(valid.prompt)
    if valid.chosen[:count] == valid.prompt == valid.rejected[:count]:  # whole conversations
        valid.prompt = []
    messages = [message.plain() for message in (*valid.prompt, *valid.chosen[:-1])]
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
    return preference
