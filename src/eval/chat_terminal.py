"""Talking with models in a terminal: messages, commands, and a Ctrl-C that ends an answer."""

from __future__ import annotations

import signal
import threading
from argparse import ArgumentTypeError
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from chat_models import checked
from infer_options import SAMPLING
from malmat.answer.talk import ChatModel, Conversation, stopped
from malmat.cli import provenance, relative
from malmat.errors import InputError
from malmat.files import write_json
from malmat.journal import valid_text
from malmat.text.marks import Marker

COMMANDS = """\
/new                  forget what was said
/set NAME VALUE       temperature, top_p, top_k, min_p, repetition_penalty, max_new_tokens, seed
/wording [TEXT]       show the wording, or take TEXT, with {question} in it
/save [FILE]          write the conversation as JSON
//…                   a message that begins with a slash
/help  /quit          Ctrl-C ends an answer, Ctrl-D the program"""


def edit_lines() -> None:
    """Let ``input`` edit lines, keep the earlier ones, take what is pasted with its line breaks as
    one message, and a line of any length (a bare terminal cuts at 4,095 bytes)."""
    with suppress(ImportError):  # not on Windows, which does most of it itself
        import readline

        readline.parse_and_bind("set enable-bracketed-paste on")


def terminal(models: list[ChatModel], conversation: Conversation, marker: Marker) -> None:
    """Read messages and commands until the input ends."""
    edit_lines()
    print(COMMANDS)
    while True:
        try:
            print()
            said = valid_text(input("> ")).strip()
        except EOFError:
            print()
            return
        except KeyboardInterrupt:
            print("\n(Ctrl-D or /quit ends the program)")
            continue
        if said == "/quit":
            return
        if said.startswith("/") and not said.startswith("//"):
            try:
                print(obey(said, models, conversation))
            except (InputError, OSError) as error:
                print(f"error: {error}")
        elif said:
            try:
                answer(said.removeprefix("/"), models, conversation, marker)
            except KeyboardInterrupt:
                pass
            except (RuntimeError, MemoryError) as error:  # torch's, of memory above all
                print(f"\nerror: {(str(error).strip() or repr(error)).splitlines()[0]}")


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Let the first Ctrl-C raise KeyboardInterrupt and ignore those after it: pressed in haste,
    they are meant for the same answer."""

    def first(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def answer(
    question: str, models: list[ChatModel], conversation: Conversation, marker: Marker
) -> None:
    """Print the models' answers to a message, and the listed terms in them."""
    turn = conversation.begin(question)
    for model in models:
        print(f"\n{model.name}: ", end="", flush=True)
        with interrupted_once():
            record = turn["answers"][model.name] = streamed(model, conversation)
            print()
            if record["status"] != "ok":
                print(f"  ({record.get('error') or record['finish_reason'] or record['status']})")
            for mark in {mark.title: mark for mark in marker.marks(record["text"])}.values():
                print(f"  {mark.title}: {mark.meaning}")


def streamed(model: ChatModel, conversation: Conversation) -> dict:
    """A model's answer, printed while it comes; what there is of it after a Ctrl-C."""
    stop, printed = threading.Event(), ""
    record = stopped(printed)
    try:
        for record in model.stream(conversation.messages(model.name), conversation.sampling, stop):
            new = record["text"]
            fresh = new[len(printed) :] if new.startswith(printed) else f"\n{new}"
            print(fresh, end="", flush=True)
            printed = new
    except KeyboardInterrupt:
        record = stopped(printed)
    finally:
        stop.set()
    return record


def obey(command: str, models: list[ChatModel], conversation: Conversation) -> str:
    """Do what a command says; what there is to say of it comes back.

    Raises:
        InputError: an unknown command, setting or value.
    """
    name, _, rest = command.partition(" ")
    rest = rest.strip()
    if name == "/new":
        conversation.turns.clear()
        return "a new conversation"
    if name == "/wording":
        conversation.wording = checked(rest) if rest else conversation.wording
        return conversation.wording
    if name == "/save":
        path = rest or f"chat-{datetime.now():%Y%m%d-%H%M%S}.json"
        check_save(path)
        return f"wrote {save(path, models, conversation)}"
    if name == "/set":
        setting, _, value = rest.partition(" ")
        if setting not in SAMPLING:
            raise InputError(f"no setting '{setting}'", fix=f"One of {', '.join(SAMPLING)}.")
        try:
            read = SAMPLING[setting](value)
        except (ValueError, ArgumentTypeError):
            raise InputError(f"'{value}' is no value for it", field=setting) from None
        conversation.sampling = replace(conversation.sampling, **{setting: read})
        return str(conversation.sampling.as_dict())
    if name != "/help":
        raise InputError(f"no command {name}", fix="/help lists them.")
    return COMMANDS


def check_save(path: str) -> None:
    if Path(path).exists():
        raise InputError("is there already", path=path, fix="Name another file.")


def saved(models: list[ChatModel], conversation: Conversation) -> dict:
    return {**conversation.record(models), "provenance": provenance()}


def save(path: str, models: list[ChatModel], conversation: Conversation) -> str:
    write_json(path, saved(models, conversation))
    return relative(path)
