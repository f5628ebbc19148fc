"""Messages of conversations, in the forms in which this field writes them."""

from __future__ import annotations

import ast
import itertools
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from malmat.parse import cleaned
from malmat.schema import Row, Text, unfit

_SPEAKERS = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "model", "bot"), "assistant"),
    "system": "system",
    **dict.fromkeys(("tool", "observation", "function_response"), "tool"),
}
"""Speakers of ShareGPT's ``from``, and their roles."""

_ROLES = {**_SPEAKERS, "developer": "system", "function": "tool"}
"""The same, and OpenAI's and Google's other names of roles."""

_WEIGHTS: dict[str, Literal[0] | None] = {
    **dict.fromkeys(("0", "0.0", "false"), 0),
    **dict.fromkeys(("1", "1.0", "true", "none", ""), None),
}
"""What an answer's weight may be, as text."""


class Message(Row, extra="ignore"):
    """A message; OpenAI's ``weight: 0`` says of an answer that it is not to be trained."""

    role: Literal["system", "user", "assistant", "tool"]
    content: Text
    weight: Literal[0] | None = None

    @model_validator(mode="before")
    @classmethod
    def _in_one_form(cls, message: Any) -> Any:
        if not isinstance(message, dict):
            return message
        speaker = message.get("from")
        if isinstance(speaker, str) and message.get("role") is None:
            role = _SPEAKERS.get(speaker.casefold(), speaker)
            message = {**message, "role": role, "content": message.get("value")}
        role, content = message.get("role"), message.get("content")
        if not content and (message.get("tool_calls") or message.get("function_call")):
            fix = "Leave out conversations with tool calls."
            raise unfit("a tool call instead of text", field="content", fix=fix)
        role = _ROLES.get(role.strip().casefold(), role) if isinstance(role, str) else role
        weight = str(message.get("weight")).strip().casefold() if role == "assistant" else ""
        if weight not in _WEIGHTS:
            raise unfit(
                "expected 0 or 1", field="weight", fix="An answer is trained, or it is not."
            )
        return {
            **message,
            "role": role,
            "content": _text_of_parts(content) if isinstance(content, list) else content,
            "weight": _WEIGHTS[weight],
        }

    def plain(self) -> dict:
        return {"role": self.role, "content": self.content}


def _text_of_parts(parts: list) -> str:
    """The text of a content given in parts, of which none may be a picture or a sound."""
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    found = [text for text in texts if isinstance(text, str)]
    if len(found) < len(texts):
        raise unfit("holds a part that is no text", field="content")
    return "".join(found)


def decoded(value: Any, path: str | Path, line: int) -> Any:
    """A list of objects that a table's cell holds as JSON, or as Python prints it; else as is."""
    if not isinstance(value, str) or not value.strip().startswith("["):
        return value
    for read in (lambda text: json.loads(text, strict=False), ast.literal_eval):
        try:
            found = read(value.strip())
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, list) and found and all(isinstance(one, dict) for one in found):
            return cleaned(found, Path(path), line)
    return value


def spoken(messages: Any) -> Any:
    """Without empty system messages, which say nothing."""
    if not isinstance(messages, list):
        return messages
    return [
        one
        for one in messages
        if not isinstance(one, dict)
        or "system" not in (one.get("role"), one.get("from"))
        or one.get("content")
        or one.get("value")
    ]


def _messages_of(role: str) -> BeforeValidator:
    """A field of messages may be a text or a lone message: the one message of ``role``."""

    def messages(value: Any) -> Any:
        if isinstance(value, str) and not value.strip():
            raise unfit("empty")
        if isinstance(value, str):
            return [{"role": role, "content": value.strip()}]
        if isinstance(value, dict):
            return [value]
        if not isinstance(value, list):
            raise unfit(f"expected str or list, found {type(value).__name__}")
        return spoken(value)

    return BeforeValidator(messages)


Prompt = Annotated[list[Message], _messages_of("user")]
Answer = Annotated[list[Message], _messages_of("assistant")]


ASKS = ("user", "tool")
"""Roles that an answer follows."""


def check_last_answer(messages: list[Message], field: str) -> None:
    if not messages or messages[-1].role != "assistant":
        fix = "Leave out what follows the last answer."
        raise unfit("the last message must be the assistant's", field=field, fix=fix)
    if len(messages) < 2 or messages[-2].role not in ASKS:
        raise unfit("the last answer must follow a message of the user", field=field)


def trained_turns(messages: list[dict]) -> list[int]:
    """The places of the answers that are trained: each that follows a message of the user or a
    tool, but for those of ``weight: 0``."""
    return [
        number
        for number, (asked, one) in enumerate(itertools.pairwise(messages), 1)
        if one["role"] == "assistant" and asked["role"] in ASKS and one.get("weight") != 0
    ]
