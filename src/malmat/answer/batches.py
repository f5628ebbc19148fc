"""Answers by a provider's batch API: half the price, within a day, safe to leave and come back to.

Each batch stands in a ledger beside the journal before it is submitted, and with the
provider's id as soon as there is one. A run that is killed finds its batches there; one that
was killed between the two asks the provider for the batch by its name. So no batch is paid
for twice, and none is forgotten. An entry's ``state`` is ``open``, ``gone`` (the provider has lost
it), or how it ended.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from malmat.answer.prices import Meter, estimate_tokens
from malmat.answer.provider import Model, NotFound
from malmat.answer.request import (
    Accept,
    Batch,
    Engine,
    Failed,
    Failures,
    Request,
    is_missing,
    no_answer,
    received,
    request_key,
    with_earlier_usage,
)
from malmat.answer.retry import retrying
from malmat.errors import InputError, StopRunning
from malmat.files import canonical, row_id
from malmat.journal import Journal

LEARNING_ROUNDS = 3
"""How often rows are submitted again without a setting that the server has refused."""


MOST_ROWS = 5000


MOST_BYTES = 15_000_000
"""Of a batch. Gemini takes 20 MB with the requests inline, OpenAI 200 MB and 50,000 rows."""


class BatchEngine(Engine):
    """An ``Engine`` that submits requests as batches.

    An unreadable reply is ``parse_error`` at once: asking again would be another batch, and
    the next run does that. Rows that failed for a setting which the server refuses are submitted
    again without it. ``answers`` raises StopRunning also where the provider refuses a batch
    or cannot be reached (the batches' ids are kept), and InputError as ``Model.submit``.

    Args:
        poll_s: seconds between two requests for a batch's status.
        output_tokens: what a reply is expected to take, for ``max_cost``: a batch that would go
            beyond the meter's limit is not submitted. The meter is one of ``BATCH_SHARE``.
    """

    def __init__(self, model: Model, poll_s: float, output_tokens: int):
        self.name, self.model = model.name, model
        self.poll_s, self.output_tokens = poll_s, output_tokens

    def identity(self) -> dict:
        return self.model.identity()

    def _records(
        self,
        requests: list[Request],
        journal: Journal,
        accept: Accept | None,
        meter: Meter | None,
        label: str,
    ) -> Iterator[dict]:
        meter = meter or Meter(self.name)
        identity = self.identity()
        keys = [request_key(identity, request) for request in requests]
        rows = dict(zip(keys, requests, strict=True))
        failures = Failures()
        with Journal(ledger_path(journal.path)) as ledger:
            waiting = open_batches(self.model, ledger, identity)
            for left in reversed(range(LEARNING_ROUNDS)):
                submitted = {key for entry in waiting.values() for key in entry["rows"]}
                missing = (
                    (key, request)
                    for key, request in rows.items()
                    if key not in submitted and is_missing(journal, key, request, accept)
                )
                problem = self._submit(missing, waiting, ledger, meter, label)
                learnt = False
                for entry, batch in self._finished(waiting, ledger):
                    records = batch_records(self.model, entry, batch, rows, accept)
                    for record in records:
                        meter.add(record["usage"], estimated="usage_estimated" in record)
                    journal.extend(with_earlier_usage(record, journal) for record in records)
                    ledger.append({**entry, "state": batch.state})
                    print(f"{label}: batch {entry['batch']} {batch.state}")
                    again = has_learnt(self.model, entry, batch) and left > 0 and not problem
                    learnt |= again
                    if not again:  # else what failed is submitted once more
                        for record in records:
                            failures.show(record, print)
                if problem or not learnt:
                    break
        if problem:
            raise StopRunning(f"{problem}. Progress is kept")
        for key in keys:
            yield journal.record(key)

    def _submit(
        self,
        missing: Iterator[tuple[str, Request]],
        waiting: dict[str, dict],
        ledger: Journal,
        meter: Meter,
        label: str,
    ) -> str | None:
        """Submit what is missing, as far as the limit of cost goes. Why no more, or None."""
        for chunk in chunks(missing):
            tokens = estimated(chunk, self.output_tokens)
            if problem := over_limit(meter, waiting, tokens, len(chunk)):
                return problem
            entry = submit_batch(self.model, ledger, chunk, tokens)
            waiting[entry["key"]] = entry
            print(f"{label}: submitted {len(chunk)} requests as batch {entry['batch']}")
        return None

    def _finished(self, waiting: dict[str, dict], ledger: Journal) -> Iterator[tuple[dict, Batch]]:
        """Ledger entries of batches that are under way, each with its results when it is done.

        Raises:
            StopRunning: the provider has lost one, or its results cannot be told apart.
        """
        while waiting:
            for name, entry in list(waiting.items()):
                try:
                    batch = retried(self.model.poll, entry["batch"])
                except NotFound:
                    ledger.append({**entry, "state": "gone"})
                    raise StopRunning(
                        f"batch {entry['batch']} of {len(entry['rows'])} requests, or its file, is "
                        "gone from the server. Progress is kept: the same command asks for them "
                        "again, and pays again"
                    ) from None
                if batch.done:
                    joined = joined_by_key(batch, entry)
                    yield waiting.pop(name), joined
            if waiting:
                time.sleep(self.poll_s)


def marks(model: Model, request: Request) -> dict:
    """What a record says of how it was asked for: its room for thoughts, what was left out."""
    room = {"room": request.room} if request.room else {}
    return {**room, **({"without": model.refused} if model.refused else {})}


def joined_by_key(batch: Batch, entry: dict) -> Batch:
    """A batch that is done, each result with its row's key.

    Results that came without keys are in the requests' order.

    Raises:
        StopRunning: they are not as many as there are rows.
    """
    rows = list(entry["rows"])
    if all(key in entry["rows"] for key, _ in batch.results):
        return batch
    if len(batch.results) != len(rows):
        raise StopRunning(
            f"batch {entry['batch']} came back with {len(batch.results)} results for {len(rows)} "
            "requests and does not say which is whose. Its id is kept, and nothing is asked again"
        )
    results = [reply for _, reply in batch.results]
    return Batch(batch.done, batch.state, tuple(zip(rows, results, strict=True)))


def has_learnt(model: Model, entry: dict, batch: Batch) -> bool:
    """Whether rows failed for a setting that the server refuses and is sent no more."""
    errors = [reply for _, reply in batch.results if isinstance(reply, Failed)]
    return any(model.learns(error, entry.get("sent", ())) for error in errors)


def ledger_path(journal: Path) -> Path:
    """The ledger of a journal's batches: ``x.jsonl`` → ``x.batches.jsonl`` beside it."""
    return journal.with_name(f"{journal.stem}.batches.jsonl")


def open_batches(model: Model, ledger: Journal, identity: dict) -> dict[str, dict]:
    """Name → ledger entry of this model's batches that an earlier run left under way."""
    waiting = {}
    for name in ledger:
        entry = ledger.record(name)
        if entry["identity"] != identity:
            continue
        model.without(entry.get("without", ()))
        if entry["state"] != "open":
            continue
        if entry["batch"] is None:  # killed while it was submitted: did it arrive?
            entry["batch"] = retried(model.find_batch, name)
            entry["state"] = "open" if entry["batch"] else "never arrived"
            ledger.append(entry)
        if entry["batch"]:
            waiting[name] = entry
            print(f"found batch {entry['batch']} of an earlier run again")
    return waiting


def rows_under_way(journal: Path, identity: dict) -> dict[str, str]:
    """Key → batch of the rows that this model's batches hold; {} where there is no ledger."""
    path = ledger_path(journal)
    if not path.exists():
        return {}
    with Journal(path) as ledger:
        entries = [entry for entry in map(ledger.record, ledger) if entry["state"] == "open"]
    entries = [entry for entry in entries if entry["identity"] == identity]
    return {key: entry["batch"] or entry["key"] for entry in entries for key in entry["rows"]}


def refuse_what_is_under_way(batches: dict[str, str], key: str, journal: Path) -> None:
    """Refuse to pay for a row that a batch holds.

    Raises:
        InputError: ``batches`` (of ``rows_under_way``) has the key.
    """
    if key in batches:
        count = sum(batch == batches[key] for batch in batches.values())
        raise InputError(
            f"batch {batches[key]} with {count} of these requests is under way",
            path=ledger_path(journal),
            fix="Fetch it with --batch, or delete that file to pay for its requests again.",
        )


def chunks(rows: Iterator[tuple[str, Request]]) -> Iterator[list[tuple[str, Request]]]:
    """The rows in batches that the providers take."""
    chunk: list[tuple[str, Request]] = []
    size = 0
    for key, request in rows:
        length = len(canonical(request.messages)) + len(canonical(request.schema)) + 500
        if chunk and (len(chunk) >= MOST_ROWS or size + length > MOST_BYTES):
            yield chunk
            chunk, size = [], 0
        chunk.append((key, request))
        size += length
    if chunk:
        yield chunk


def estimated(chunk: list[tuple[str, Request]], output_tokens: int) -> dict[str, int]:
    """The tokens that a batch is expected to take."""
    text = (m["content"] for _, request in chunk for m in request.messages)
    return {"input": sum(map(estimate_tokens, text)), "output": output_tokens * len(chunk)}


def over_limit(
    meter: Meter, waiting: dict[str, dict], tokens: dict[str, int], count: int
) -> str | None:
    """Why a batch of so many tokens may not be submitted, or None.

    Args:
        waiting: the batches under way, which will cost something too.
    """
    limit, due = meter.max_cost, [tokens, *(e.get("tokens", {}) for e in waiting.values())]
    total = {side: meter.usage[side] + sum(one.get(side, 0) for one in due) for side in tokens}
    cost = meter.cost_of(total)
    if limit is None or cost is None or cost <= limit:
        return None
    under_way = f" with {len(waiting)} under way" if waiting else ""
    return (
        f"--max_cost {limit}: a batch of {count} requests{under_way} would bring the run to "
        f"about ${cost:.4f}"
    )


def submit_batch(
    model: Model, ledger: Journal, chunk: list[tuple[str, Request]], tokens: dict[str, int]
) -> dict:
    """Submit a batch; its ledger entry ``key, state, batch, identity, rows: {key: id}``, with the
    ``tokens`` that it is expected to take and the settings that are ``sent`` and left out
    (``without``)."""
    keys = {key: request.id for key, request in chunk}
    name = f"malmat-{row_id(len(ledger), *keys)}"
    sent = sorted({setting for _, request in chunk for setting in model.sent(request)})
    entry: dict[str, Any] = {"key": name, "state": "open", "batch": None}
    entry["identity"] = model.identity()
    entry |= {"rows": keys, "tokens": tokens, "sent": sent, "without": model.refused}
    ledger.append(entry)
    tried = False

    def submit() -> str:
        nonlocal tried
        # A connection that broke does not say whether the batch arrived.
        arrived = model.find_batch(name) if tried else None
        tried = True
        return arrived or model.submit(name, chunk)

    entry = {**entry, "batch": retried(submit)}
    ledger.append(entry)
    return entry


def retried(call: Callable[..., Any], *arguments: Any) -> Any:
    """What ``call(*arguments)`` gives, tried again by the one retry policy.

    Raises:
        StopRunning: it failed to the end.
    """
    from tenacity import RetryError

    try:
        return retrying()(call, *arguments)
    except (RetryError, Failed) as error:
        cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
        raise StopRunning(f"the batch API failed ({cause}). The batches' ids are kept") from None


def batch_records(
    model: Model, entry: dict, batch: Batch, rows: dict[str, Request], accept: Accept | None
) -> list[dict]:
    """The journal's records of a batch that is done, joined by key.

    Rows of an earlier run that this one does not ask for (an edited prompt) have no request in
    ``rows``; they are kept as they came.
    """
    results = dict(batch.results)
    # A batch that failed, expired or was cancelled has no result for some or all of its rows.
    nothing = Failed(f"batch {batch.state}, and no result of this row in it")
    records = []
    for key, request_id in entry["rows"].items():
        reply = results.get(key, nothing)
        record = {"key": key, "id": request_id, "usage": {"input": 0, "output": 0}, "attempts": 1}
        if isinstance(reply, Exception):
            status = reply.status if isinstance(reply, Failed) else "parse_error"
            record |= no_answer(status, reply) | {"error": model.scrub(reply)}
        elif key in rows:
            record |= received(reply, rows[key], accept) | marks(model, rows[key])
        else:
            record |= received(reply, Request(request_id, []), None)
        records.append(record)
    return records
