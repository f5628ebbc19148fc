"""A request to a model, its journal key, the engines that answer requests, and how one can fail."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from malmat.answer.prices import Meter, estimate_tokens
from malmat.answer.replies import without_thoughts
from malmat.journal import Journal, key_of, valid_text

ASK_AGAIN = ("api_error", "parse_error")
"""Statuses that the next run of the same command tries again."""


NEEDED = (*ASK_AGAIN, "empty", "truncated", "refused")
"""The same, of requests whose reply a run needs to go on (pairs, a question): what a model that
is tested may do, whatever comes of it, is no reply here."""


JUDGED = (*NEEDED, "blocked")
"""The same, of a judge's replies. A refused prompt (``PROMPT``) is another matter."""


PROMPT = "prompt "
"""The beginning of a finish reason that says that the provider refused the prompt itself."""


@dataclass(frozen=True)
class Request:
    """One question to a model.

    Args:
        id: the row it belongs to.
        messages: ``[{role, content}]``.
        sampling: temperature, top_p, max_tokens … (what the model's API takes).
        schema: JSON Schema of the reply, or None for free text.
        sample: index among repeated answers to one prompt.
        choices: what may be answered, or () for any text.
        targets: of labels: the answer that training writes for each choice ("A. text"), where
            that is more than the choice.
        shorter: the messages with so many pieces of their text left out; raises ValueError
            where there are no more to leave out. Of a model that reads no longer text.
        again: statuses that are no reply: it is asked for again.
        ask_blocked: ask again, once, what the provider has blocked in an earlier run.
        room: tokens for the model's thoughts, sent on top of ``max_tokens``. An answer that came
            to its end would be the same with more, so it is no part of the key; one that was
            cut is asked for again where there is more room than it had.
    """

    id: str
    messages: list[dict]
    sampling: dict = field(default_factory=dict)
    schema: dict | None = None
    sample: int = 0
    choices: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    shorter: Callable[[int], list[dict]] | None = None
    again: tuple[str, ...] = ASK_AGAIN
    ask_blocked: bool = False
    room: int = 0


def request_key(identity: dict, request: Request) -> str:
    """The journal key: everything that determines the answer. Equal requests to an API share
    one; where the id seeds the draw it stands in ``identity``."""
    return key_of(
        **identity,
        messages=request.messages,
        sampling=request.sampling,
        schema=request.schema,
        sample=request.sample,
        # Only where there are some: the keys of free text are as they were before choices.
        **({"choices": list(request.choices)} if request.choices else {}),
        **({"targets": list(request.targets)} if request.targets else {}),
    )


Accept = Callable[[Request, str], Any]
"""Reads a reply's text for its request. Raises ValueError where it cannot be read."""


class Engine(ABC):
    """Something that answers requests: an API, a batch API, a model on this machine.

    A subclass does all its work in ``_records``, or gives records as they come in its own
    ``answers``.
    """

    name: str

    @abstractmethod
    def identity(self) -> dict:
        """What of the model and its settings determines an answer, for the journal's key."""

    def answers(
        self,
        requests: Iterable[Request],
        journal: Journal,
        *,
        accept: Accept | None = None,
        meter: Meter | None = None,
        label: str = "",
        total: int | None = None,
    ) -> AbstractContextManager[Iterator[dict]]:
        """The requests' records in the requests' order, inside a ``with`` block.

        A record that the journal holds is not asked for again, unless its status is one of
        the request's ``again``. A record is ``key, id, status, text, finish_reason, usage,
        attempts, model_version, error``; ``usage`` is ``{input, output}`` in tokens of all that was
        paid for it, in earlier runs too. Where there are some: ``thoughts`` (what the model wrote
        before its answer), ``thinking_tokens``, ``room``, ``without`` (settings that the server
        refused) and ``usage_estimated``.

        Args:
            requests: may be a generator.
            accept: a reply that it cannot read is ``parse_error``.
            meter: counts tokens and cost. It may stop the run.
            label: names the progress bar.
            total: how many requests there are, where that is known.

        Raises (while iterating, after the records that came):
            StopRunning: the run cannot go on; progress is kept.
            InputError: wrong key, unknown model, a setting that the model does not know.
            KeyboardInterrupt: after what was in flight has been journaled.
        """
        return nullcontext(self._records(list(requests), journal, accept, meter, label))

    def _records(
        self,
        requests: list[Request],
        journal: Journal,
        accept: Accept | None,
        meter: Meter | None,
        label: str,
    ) -> Iterator[dict]:
        """As ``answers``, with all work done before the first record."""
        raise NotImplementedError


def answers_by_id(
    engine: Engine, requests: list[Request], journal: Journal, **options: Any
) -> dict[str, dict]:
    """All records of an engine at once: request id and sample (``id#sample``) → record.

    Args:
        options: as ``Engine.answers``.
    """
    with engine.answers(requests, journal, total=len(requests), **options) as records:
        return {
            f"{request.id}#{request.sample}": record
            for request, record in zip(requests, records, strict=True)
        }


def checked(record: dict, request: Request, accept: Accept | None) -> dict:
    """The record, or the same as ``parse_error`` where ``accept`` cannot read its text."""
    if record["status"] == "ok" and accept is not None:
        try:
            accept(request, record["text"])
        except ValueError as error:
            reason = " ".join(str(error).split())[:300]
            return record | {"status": "parse_error", "error": reason}
    return record


def received(reply: dict, request: Request, accept: Accept | None) -> dict:
    """The record of what a server sent: its thoughts apart from its text, and checked."""
    record = {"error": None, **reply, "text": valid_text(reply["text"])}
    refused = (record["finish_reason"] or "").startswith(PROMPT)
    if not record["usage"]["input"] and not refused:  # the server counts none
        record |= {"usage": estimated_usage(record, request), "usage_estimated": True}
    record["output_tokens"] = record["usage"]["output"]
    if request.schema is None:  # the reader of JSON knows thoughts, and tags inside strings
        record = without_thoughts(record)
    return checked(record, request, accept)


def estimated_usage(record: dict, request: Request) -> dict[str, int]:
    """Tokens by the length of what was sent and what came."""
    sent = sum(estimate_tokens(message["content"]) for message in request.messages)
    came = (record["text"], record.get("thoughts", ""))
    return {"input": sent, "output": sum(estimate_tokens(text) for text in came if text)}


def with_earlier_usage(record: dict, journal: Journal) -> dict:
    """The record with the tokens of the one that it replaces added: they were paid for, too."""
    earlier = journal.get(record["key"])
    if earlier is None:
        return record
    usage = {side: tokens + earlier["usage"][side] for side, tokens in record["usage"].items()}
    return {**record, "usage": usage}


def asked_otherwise(records: Iterable[dict]) -> dict[str, Any]:
    """What a result says of how its records came: the settings that a server refused
    (``without``), and whether tokens were estimated; only what there is."""
    records = list(records)
    without = sorted({name for record in records for name in record.get("without", ())})
    estimated = any("usage_estimated" in record for record in records)
    return {
        **({"without": without} if without else {}),
        **({"tokens_estimated": True} if estimated else {}),
    }


def has_failed(record: dict, request: Request) -> bool:
    """Whether a record is no reply, and another attempt may bring one."""
    refused = (record["finish_reason"] or "").startswith(PROMPT)
    return record["status"] in request.again and not refused


def is_missing(journal: Journal, key: str, request: Request, accept: Accept | None = None) -> bool:
    """Whether the journal holds no record of the key that can stand."""
    record = journal.get(key)
    if record is None:
        return True
    if request.ask_blocked and record["status"] == "blocked":
        return True
    if record["status"] == "truncated" and record.get("room", 0) < request.room:
        return True
    return has_failed(checked(record, request, accept), request)


def no_answer(status: str, error: object) -> dict:
    """The part of a record that stands for an answer where none came."""
    reason = getattr(error, "finish_reason", None)
    nothing = {"text": "", "finish_reason": reason, "model_version": None}
    return {**nothing, "status": status, "error": str(error)}


SHOWN_FAILURES = 3
"""How many different failures of a run are shown."""


class Failures:
    """The failures of a run that are shown: the first ``SHOWN_FAILURES`` that look different."""

    def __init__(self) -> None:
        self._shown: set[str] = set()

    def show(self, record: dict, write: Callable[[str], object]) -> None:
        """Write a failure that looks like none before."""
        error = record["error"]
        if not error or error[:60] in self._shown or len(self._shown) >= SHOWN_FAILURES:
            return
        self._shown.add(error[:60])
        hint = " (--extra_body sends further settings)" if error[:4] in ("400:", "422:") else ""
        write(f"  {record['id']}: {record['status']}: {error}{hint}")


class Retry(Exception):
    """A passing fault.

    Args:
        after: seconds that the server asked to wait.
        most: attempts after which to give up, where that is earlier than usual.
    """

    def __init__(self, kind: str, detail: str, after: float = 0.0, most: int | None = None):
        super().__init__(f"{kind}: {detail}")
        self.kind, self.after, self.most = kind, after, most


class Failed(Exception):
    """This item cannot be answered (a refused request); others may be.

    Args:
        status: what it is: ``api_error``, or what became of the prompt, with ``finish_reason``.
        code: HTTP status.
        param: the setting that the server names.
        details: the body of its reply.
    """

    def __init__(
        self,
        message: str,
        *,
        status: str = "api_error",
        finish_reason: str | None = None,
        code: int = 0,
        param: str | None = None,
        details: str = "",
    ):
        super().__init__(message)
        self.status, self.finish_reason = status, finish_reason
        self.code, self.param, self.details = code, param, details


@dataclass(frozen=True)
class Batch:
    """What a provider says of a batch. ``results``: (key, reply or the reason there is none)."""

    done: bool
    state: str
    results: tuple[tuple[str, dict | Exception], ...] = ()
