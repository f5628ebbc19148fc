"""Answers by a provider's batch API: half the price, within a day, safe to leave and come back to.

Each batch stands in a ledger beside the journal before it is submitted, and with the
provider's id as soon as there is one. A run that is killed finds its batches there; one that
was killed between the two asks the provider for the batch by its name. So no batch is paid
for twice, and none is forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from malmat.answer.prices import Meter, estimate_tokens
from malmat.answer.provider import Model
from malmat.answer.request import (
    Accept,
    Batch,
    Engine,
    Failed,
    Request,
    is_missing,
    no_answer,
    received,
    request_key,
)
from malmat.answer.retry import retrying
from malmat.errors import StopRunning
from malmat.files import canonical, row_id
from malmat.journal import Journal

MOST_ROWS = 5000


MOST_BYTES = 15_000_000
"""Of a batch. Gemini takes 20 MB with the requests inline, OpenAI 200 MB and 50,000 rows."""


class BatchEngine(Engine):
    """An ``Engine`` that submits requests as batches.

    An unreadable reply is ``parse_error`` at once: asking again would be another batch, and
    the next run does that. ``answers`` raises StopRunning also where the provider refuses a batch
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
        with Journal(ledger_path(journal.path)) as ledger:
            waiting = open_batches(self.model, ledger, identity)
            submitted = {key for entry in waiting.values() for key in entry["rows"]}
            missing = (
                (key, request)
                for key, request in rows.items()
                if key not in submitted and is_missing(journal, key, request, accept)
            )
            problem = None
            for chunk in chunks(missing):
                if problem := over_limit(meter, chunk, self.output_tokens):
                    break
                entry = submit_batch(self.model, ledger, identity, chunk)
                waiting[entry["key"]] = entry
                print(f"{label}: submitted {len(chunk)} requests as batch {entry['batch']}")
            for entry, batch in self._finished(waiting):
                records = batch_records(self.model, entry, batch, rows, accept)
                journal.extend(records)
                ledger.append({**entry, "state": batch.state})
                for record in records:
                    meter.add(record["usage"])
                print(f"{label}: batch {entry['batch']} {batch.state}")
        if problem:
            raise StopRunning(f"{problem}. Progress is kept")
        for key in keys:
            yield journal.record(key)

    def _finished(self, waiting: dict[str, dict]) -> Iterator[tuple[dict, Batch]]:
        """Ledger entries of batches that are under way, each with its results when it is done."""
        while waiting:
            for name, entry in list(waiting.items()):
                batch = retried(self.model.poll, entry["batch"])
                if batch.done:
                    yield waiting.pop(name), batch
            if waiting:
                time.sleep(self.poll_s)


def ledger_path(journal: Path) -> Path:
    """The ledger of a journal's batches: ``x.jsonl`` → ``x.batches.jsonl`` beside it."""
    return journal.with_name(f"{journal.stem}.batches.jsonl")


def open_batches(model: Model, ledger: Journal, identity: dict) -> dict[str, dict]:
    """Name → ledger entry of this model's batches that an earlier run left under way."""
    waiting = {}
    for name in ledger:
        entry = ledger.record(name)
        if entry["state"] != "open" or entry["identity"] != identity:
            continue
        if entry["batch"] is None:  # killed while it was submitted: did it arrive?
            entry["batch"] = retried(model.find_batch, name)
            entry["state"] = "open" if entry["batch"] else "never arrived"
            ledger.append(entry)
        if entry["batch"]:
            waiting[name] = entry
            print(f"found batch {entry['batch']} of an earlier run again")
    return waiting


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


def over_limit(meter: Meter, chunk: list[tuple[str, Request]], output_tokens: int) -> str | None:
    """Why this batch may not be submitted, or None."""
    limit = meter.max_cost
    if limit is None:
        return None
    text = (m["content"] for _, request in chunk for m in request.messages)
    tokens = {"input": sum(map(estimate_tokens, text)), "output": output_tokens * len(chunk)}
    spent, more = meter.cost, meter.cost_of(tokens)
    if spent is None or more is None or spent + more <= limit:
        return None
    return (
        f"--max_cost {limit}: a batch of {len(chunk)} requests would bring the run to "
        f"about ${spent + more:.4f}"
    )


def submit_batch(
    model: Model, ledger: Journal, identity: dict, chunk: list[tuple[str, Request]]
) -> dict:
    """Submit a batch; its ledger entry ``key, state, batch, identity, rows: {key: id}``."""
    keys = {key: request.id for key, request in chunk}
    name = f"malmat-{row_id(len(ledger), *keys)}"
    entry = {"key": name, "state": "open", "batch": None, "identity": identity, "rows": keys}
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
            record |= received(reply, rows[key], accept)
        else:
            record |= received(reply, Request(request_id, []), None)
        records.append(record)
    return records
