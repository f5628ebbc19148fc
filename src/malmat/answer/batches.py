"""Answers by a provider's batch API: half the price, within a day, safe to leave and come back to.

Each batch stands in a ledger beside the journal before it is handed in, and with the
provider's id as soon as there is one. A run that is killed finds its batches there; one that
was killed between the two asks the provider for the batch by its name. So no batch is paid
for twice, and none is forgotten.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from malmat.answer.api import no_answer, retrying
from malmat.answer.prices import Meter, estimate_tokens
from malmat.answer.provider import Model
from malmat.answer.request import ASK_AGAIN, Batch, Failed, Request, Retry, request_key
from malmat.errors import StopRunning
from malmat.files import canonical, row_id
from malmat.journal import Journal, whole

MOST_ROWS = 5000


MOST_BYTES = 15_000_000
"""Of a batch. Gemini takes 20 MB with the requests inline, OpenAI 200 MB and 50,000 rows."""


def ledger_path(journal: Path) -> Path:
    """The ledger of a journal's batches: ``x.jsonl`` → ``x.batches.jsonl`` beside it."""
    return journal.with_name(f"{journal.stem}.batches.jsonl")


def complete_in_batches(
    model: Model,
    requests: list[Request],
    journal: Journal,
    *,
    accept: Callable[[Request, str], Any] | None = None,
    meter: Meter,
    output_tokens: int,
    poll_s: float,
    label: str = "",
) -> Iterator[dict]:
    """Answer requests through the journal; their records come in the requests' order.

    Args:
        accept: as ``Stream``; an unreadable reply is ``parse_error`` at once, since asking
            again would be another batch: the next run does that.
        meter: made with ``share=BATCH_SHARE``. A batch that would go beyond its limit is not
            handed in.
        output_tokens: what a reply is expected to take, for that.
        poll_s: seconds between two looks at the batches.

    Raises:
        StopRunning: the limit; the provider refused the batch or cannot be reached. The
            batches' ids are kept.
        InputError: as ``Model.submit``.
    """
    identity = model.identity()
    keys = [request_key(identity, request) for request in requests]
    rows = dict(zip(keys, requests, strict=True))
    problem = None
    with Journal(ledger_path(journal.path)) as ledger:
        waiting = reattach(model, ledger, identity)
        held = {key for entry in waiting.values() for key in entry["rows"]}
        for chunk in chunks(missing(rows, journal, held)):
            problem = over_limit(meter, chunk, output_tokens)
            if problem:
                break
            entry = hand_in(model, ledger, identity, chunk)
            waiting[entry["key"]] = entry
            print(f"{label}: handed in {len(chunk)} requests as batch {entry['batch']}")
        while waiting:
            for name, entry in list(waiting.items()):
                batch = patiently(lambda entry=entry: model.look(entry["batch"]))
                if batch.done:
                    records = collect(model, entry, batch, rows, accept)
                    journal.extend(records)
                    ledger.append({**waiting.pop(name), "state": batch.state})
                    for record in records:
                        meter.add(record["usage"])
                    print(f"{label}: batch {entry['batch']} {batch.state}")
            if waiting:
                time.sleep(poll_s)
    if problem:
        raise StopRunning(f"{problem}. Progress is kept")
    for key in keys:
        yield journal.get(key)


def reattach(model: Model, ledger: Journal, identity: dict) -> dict[str, dict]:
    """Name → entry of this model's batches that are under way."""
    waiting = {}
    for name in ledger:
        entry = ledger.get(name)
        if entry["state"] != "open" or entry["identity"] != identity:
            continue
        if entry["batch"] is None:  # killed while it was handed in: did it arrive?
            entry["batch"] = patiently(lambda name=name: model.find_batch(name))
            entry["state"] = "open" if entry["batch"] else "never arrived"
            ledger.append(entry)
        if entry["batch"]:
            waiting[name] = entry
            print(f"found batch {entry['batch']} of an earlier run again")
    return waiting


def missing(rows: dict[str, Request], journal: Journal, held: set) -> Iterator[tuple]:
    """(key, request) of what neither the journal nor a batch under way answers."""
    for key, request in rows.items():
        record = None if key in held else journal.get(key)
        if key not in held and (record is None or record["status"] in ASK_AGAIN):
            yield key, request


def chunks(rows: Iterator[tuple[str, Request]]) -> Iterator[list[tuple[str, Request]]]:
    """The rows in batches that the providers take."""
    chunk, size = [], 0
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
    """Why this batch may not be handed in, or None."""
    if meter.max_cost is None:
        return None
    text = (m["content"] for _, request in chunk for m in request.messages)
    tokens = {"input": sum(map(estimate_tokens, text)), "output": output_tokens * len(chunk)}
    cost = meter.cost + meter.cost_of(tokens)
    if cost <= meter.max_cost:
        return None
    return (
        f"--max_cost {meter.max_cost}: a batch of {len(chunk)} requests would bring the run to "
        f"about ${cost:.4f}"
    )


def hand_in(
    model: Model, ledger: Journal, identity: dict, chunk: list[tuple[str, Request]]
) -> dict:
    """Hand in a batch; its ledger entry ``key, state, batch, identity, rows: {key: id}``."""
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

    entry = {**entry, "batch": patiently(submit)}
    ledger.append(entry)
    return entry


def patiently(call: Callable[[], Any]) -> Any:
    """What the call gives, tried again by the one retry policy."""
    from tenacity import RetryError

    try:
        for trial in retrying(threading.Event()):
            with trial:
                result = call()
    except (RetryError, Failed) as error:
        cause = error.last_attempt.exception() if isinstance(error, RetryError) else error
        raise StopRunning(f"the batch API failed ({cause}). The batches' ids are kept") from None
    return result


def collect(
    model: Model,
    entry: dict,
    batch: Batch,
    rows: dict[str, Request],
    accept: Callable[[Request, str], Any] | None,
) -> list[dict]:
    """The journal's records of a batch that is done, joined by key."""
    results = dict(batch.results)
    # A batch that failed, expired or was cancelled has no result for some or all of its rows.
    nothing = Failed(f"batch {batch.state}, and no result of this row in it")
    records = []
    for key, request_id in entry["rows"].items():
        reply = results.get(key, nothing)
        record = {"key": key, "id": request_id, "usage": {"input": 0, "output": 0}, "attempts": 1}
        if isinstance(reply, Exception):
            status = "parse_error" if isinstance(reply, Retry) else "api_error"
            record |= no_answer(status, model.scrub(reply))
        else:
            record |= reply | {"text": whole(reply["text"]), "error": None}
            record |= refused(model, record, rows.get(key), accept)
        records.append(record)
    return records


def refused(
    model: Model,
    record: dict,
    request: Request | None,
    accept: Callable[[Request, str], Any] | None,
) -> dict:
    """``parse_error`` and the reason where the caller cannot read the reply, else {}.

    Rows of an earlier run that this one does not ask for (an edited prompt) have no request.
    """
    if record["status"] == "ok" and accept is not None and request is not None:
        try:
            accept(request, record["text"])
        except ValueError as error:
            return {"status": "parse_error", "error": model.scrub(error)}
    return {}
