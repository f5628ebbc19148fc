"""Talking with models: one message at a time, the answer as it comes, to be stopped at will.

A model on this machine is loaded once and writes as ``LocalEngine`` does, from the same prompts
and draws; a model behind an API is asked as ``ApiEngine`` asks, with its retries.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any

from malmat.answer.api import ask
from malmat.answer.local import LocalModel
from malmat.answer.provider import Model
from malmat.answer.replies import split_thoughts
from malmat.answer.request import Request
from malmat.answer.retry import Abandoned
from malmat.files import digest
from malmat.lm.sampling import Sampling
from malmat.prompts import fill

STOPPED = "stopped"
"""The finish reason of an answer that its reader has ended; its status is ``truncated``."""

Say = Callable[[str], None]
"""Takes the answer's text so far."""


class ChatModel(ABC):
    """A model to talk with.

    Args:
        name: as it is shown; the models of a conversation have different ones.
    """

    name: str

    @abstractmethod
    def identity(self) -> dict:
        """What of the model determines an answer."""

    @abstractmethod
    def prepare(self) -> None:
        """Load now what an answer will need."""

    @abstractmethod
    def _answer(
        self, messages: list[dict], sampling: Sampling, say: Say, stop: threading.Event
    ) -> dict:
        """The record of an answer; raises ``Abandoned`` once ``stop`` is set."""

    def stream(
        self, messages: list[dict], sampling: Sampling, stop: threading.Event
    ) -> Iterator[dict]:
        """An answer as it comes: ``{text}`` at each step, and last its record.

        Args:
            stop: set by the reader, it ends the answer: the record has what came until then.

        Yields:
            ``text``; the last with ``status``, ``finish_reason``, and ``output_tokens``, ``error``
            and ``thoughts`` where there are some.

        Raises:
            InputError, StopRunning: no request can succeed.
        """
        came: SimpleQueue[str | dict | BaseException] = SimpleQueue()

        def work() -> None:
            try:
                came.put(self._answer(messages, sampling, came.put, stop))
            except BaseException as error:
                came.put(error)

        threading.Thread(target=work, daemon=True).start()
        text = ""
        while not stop.is_set():
            try:
                new = came.get(timeout=0.05)
            except Empty:
                continue
            if isinstance(new, str):
                text = new
                yield {"text": text}
            elif isinstance(new, dict):
                yield {name: new[name] for name in _SHOWN if name in new}
                return
            elif not isinstance(new, Abandoned):
                raise new
        yield stopped(text)


def stopped(text: str) -> dict:
    """The record of an answer that its reader has ended."""
    return {"text": text, "status": "truncated", "finish_reason": STOPPED}


_SHOWN = ("text", "status", "finish_reason", "output_tokens", "error", "thoughts")


class LocalChat(ChatModel):
    """A model on this machine. It answers one message at a time."""

    def __init__(self, name: str, model: LocalModel):
        self.name, self.model = name, model
        self._lock = threading.Lock()
        self._loaded: tuple[Any, Any] | None = None

    def identity(self) -> dict:
        return self.model.identity()

    def prepare(self) -> None:
        with self._lock:
            self._loaded = self._loaded or self.model.load()

    def _answer(
        self, messages: list[dict], sampling: Sampling, say: Say, stop: threading.Event
    ) -> dict:
        from malmat.lm.chat import encode_prompt, terminators
        from malmat.lm.generate import generate

        self.prepare()
        assert self._loaded is not None
        model, tokenizer = self._loaded
        stops = set(terminators(tokenizer, model.generation_config))

        def heard(written: list[list[int]]) -> None:
            if stop.is_set():
                raise Abandoned
            ids = written[0]
            end = next((n for n, token in enumerate(ids) if token in stops), len(ids))
            text = tokenizer.decode(ids[:end], skip_special_tokens=True)
            # The last letter may be half written: a Hangul syllable is up to three tokens.
            say(split_thoughts(text).text.strip().rstrip("\ufffd"))

        prompt = encode_prompt(tokenizer, messages)
        with self._lock:  # the draws are the request's own: a conversation can be had again
            return generate(model, tokenizer, [prompt], [digest(messages)], sampling, heard)[0]


class ApiChat(ChatModel):
    """A model behind an API, whose answer comes whole.

    Args:
        options: sampling → what the API is sent of it.
        room: tokens for its thoughts.
    """

    def __init__(self, name: str, model: Model, options: Callable[[Sampling], dict], room: int = 0):
        self.name, self.model, self._options, self._room = name, model, options, room

    def identity(self) -> dict:
        return self.model.identity()

    def prepare(self) -> None:
        """Nothing: the first message shows whether the key and the model are right."""

    def _answer(
        self, messages: list[dict], sampling: Sampling, say: Say, stop: threading.Event
    ) -> dict:
        request = Request("chat", messages, self._options(sampling), room=self._room)
        return ask(self.model, request, stop)


@dataclass
class Conversation:
    """What was said: each turn the user's words, and each model's answer to them.

    Every model sees its own answers to the earlier turns, not another's, and not the turns that
    it had no answer to.

    Args:
        wording: what each of the user's messages is put into, with ``{question}`` in it.
        sampling: of the next turn, as ``wording``.
        system: a system message that goes before all turns; "" for none.
        turns: ``{question, wording, sampling, answers: {model name: record}}``.
    """

    wording: str = "{question}"
    sampling: Sampling = field(default_factory=Sampling)
    system: str = ""
    turns: list[dict] = field(default_factory=list)

    def begin(self, question: str) -> dict:
        """Add a turn, without answers, with the wording and the sampling as they are now."""
        self.turns.append(
            {
                "question": question,
                "wording": self.wording,
                "sampling": self.sampling.as_dict(),
                "answers": {},
            }
        )
        return self.turns[-1]

    def messages(self, name: str) -> list[dict]:
        """What a model is sent for its answer to the last turn."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        for turn in self.turns[:-1]:
            if answer := turn["answers"].get(name, {}).get("text"):
                messages += [_asked(turn), {"role": "assistant", "content": answer}]
        return [*messages, _asked(self.turns[-1])]

    def record(self, models: list[ChatModel]) -> dict:
        """The conversation as it is saved."""
        return {
            "models": [{"name": model.name, **model.identity()} for model in models],
            "system": self.system,
            "turns": self.turns,
        }


def _asked(turn: dict) -> dict:
    return {"role": "user", "content": fill(turn["wording"], question=turn["question"])}
