"""Answers by a model behind an API, several requests at a time.

There is one retry layer (the SDKs' own are off). A failure is a status, never an
answer. The SDKs themselves are in ``malmat.answer.provider`` and its subclasses.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

from malmat.answer.batches import marks, refuse_what_is_under_way, rows_under_way
from malmat.answer.prices import Meter
from malmat.answer.provider import Model
from malmat.answer.request import (
    Accept,
    Engine,
    Failed,
    Failures,
    Request,
    Retry,
    has_failed,
    is_missing,
    no_answer,
    received,
    request_key,
    with_earlier_usage,
)
from malmat.answer.retry import Abandoned, retrying
from malmat.errors import StopRunning
from malmat.journal import Journal
from malmat.progress import Progress

UNREADABLE_TRIES = 3


class ApiEngine(Engine):
    """An ``Engine`` that asks a model ``concurrency`` requests at a time.

    Inside its ``with`` block the workers ask, whatever the caller does with the records that
    have come. Replies lie in the journal, not in memory, and requests are drawn as workers
    become free, so a run over many items takes no more memory than one over few. Equal
    requests are asked once. A reply that is none (unreadable, or of a status in the request's
    ``again``) is asked for again twice. The first failures are shown as they come.
    """

    def __init__(self, model: Model, concurrency: int = 8):
        self.name, self.model, self.concurrency = model.name, model, concurrency

    def identity(self) -> dict:
        return self.model.identity()

    @contextlib.contextmanager
    def answers(
        self,
        requests: Iterable[Request],
        journal: Journal,
        *,
        accept: Accept | None = None,
        meter: Meter | None = None,
        label: str = "",
        total: int | None = None,
    ) -> Iterator[Iterator[dict]]:
        """As ``Engine.answers``. StopRunning: quota spent, the breaker, or ``max_cost``."""
        workers = self.concurrency if total is None else max(1, min(self.concurrency, total))
        bar = Progress(total, label=label)
        meter = meter or Meter(self.name)
        run = _Run(self.model, requests, journal, accept, meter, bar, workers)
        with (
            bar,
            _interruptible(run.stop) as interrupted,
            ThreadPoolExecutor(workers, thread_name_prefix="llm") as pool,
        ):
            try:
                for _ in range(workers):
                    pool.submit(run.work)
                yield run.records(interrupted)
            finally:
                run.stop.set()
        if interrupted.is_set():  # after the last record was taken
            raise KeyboardInterrupt


class _Run:
    """What the workers of one run share: requests still to be drawn, those under way, the order."""

    def __init__(
        self,
        model: Model,
        requests: Iterable[Request],
        journal: Journal,
        accept: Accept | None,
        meter: Meter,
        bar: Progress,
        workers: int,
    ):
        self.stop = threading.Event()
        self._model, self._journal, self._accept = model, journal, accept
        self._requests, self._identity = iter(requests), model.identity()
        self._meter, self._bar, self._workers = meter, bar, workers
        self._gate, self._breaker = _Gate(workers), _Breaker()
        self._in_batches = rows_under_way(journal.path, self._identity)
        self._failure: BaseException | None = None
        self._failures = Failures()
        self._lock = threading.Lock()
        # Of each request in order its key and, if it is asked, what tells that its record is in
        # the journal; None of each worker that has ended.
        self._order: SimpleQueue[tuple[str, Future | None] | None] = SimpleQueue()
        self._under_way: dict[str, Future] = {}

    def work(self) -> None:
        """Answer requests until there are none left or the run stops."""
        try:
            while (drawn := self._draw()) is not None:
                key, request, answered = drawn
                try:
                    record = _ask(self._model, request, self._accept, self._gate, self.stop)
                    self._keep({"key": key, "id": request.id, **record})
                finally:
                    answered.cancel()  # without effect where the record was kept
        except Abandoned:
            pass
        except BaseException as error:
            with self._lock:
                self._failure = self._failure or error
            self.stop.set()
        finally:
            self._order.put(None)

    def _draw(self) -> tuple[str, Request, Future] | None:
        """The next request that has to be asked; None at the end."""
        while not self.stop.is_set():
            with self._lock:
                request = next(self._requests, None)
                if request is None:
                    return None
                key = request_key(self._identity, request)
                answered = self._under_way.get(key)
                if answered is None and is_missing(self._journal, key, request, self._accept):
                    refuse_what_is_under_way(self._in_batches, key, self._journal.path)
                    self._stop_at(self._meter.problem())  # reached in an earlier run
                    answered = self._under_way[key] = Future()
                    self._order.put((key, answered))
                    return key, request, answered
                self._order.put((key, answered))
                self._bar.update()
        return None

    def _keep(self, record: dict) -> None:
        with self._lock:
            self._meter.add(record["usage"], estimated="usage_estimated" in record)
            self._journal.append(with_earlier_usage(record, self._journal))
            self._under_way.pop(record["key"]).set_result(None)
            if self._meter.cost is not None:
                self._bar.note(f"${self._meter.cost:.4f}")
            self._bar.update()
            self._failures.show(record, self._bar.write)
            self._stop_at(self._breaker.problem(record) or self._meter.problem())

    @staticmethod
    def _stop_at(problem: str | None) -> None:
        if problem:
            raise StopRunning(f"{problem}. Progress is kept")

    def records(self, interrupted: threading.Event) -> Iterator[dict]:
        """The records in order up to the first that did not come, then why it did not."""
        running, unbroken = self._workers, True
        while running:
            if (entry := self._order.get()) is None:
                running -= 1
            elif unbroken := unbroken and _has_come(entry[1]):
                yield self._journal.record(entry[0])
        if self._failure is not None:
            raise self._failure
        if interrupted.is_set():
            raise KeyboardInterrupt


def _has_come(answered: Future | None) -> bool:
    """Waits for a record; False if the run stopped before it came."""
    with contextlib.suppress(CancelledError):
        if answered is not None:
            answered.result()
        return True
    return False


@contextlib.contextmanager
def _interruptible(stop: threading.Event) -> Iterator[threading.Event]:
    """Ctrl-C sets ``stop`` and the event that is given; a second one leaves at once."""
    seen = threading.Event()

    def handle(*_: object) -> None:
        if seen.is_set():
            os._exit(130)
        seen.set()
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield seen
        return
    before = signal.signal(signal.SIGINT, handle)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


class _Gate:
    """How many requests may be under way: ×0.8 at a 429 (once in 15 s), +5 % a clean round."""

    def __init__(self, limit: int):
        self._most = limit
        self._limit = float(limit)
        self._active = self._clean = 0
        self._quiet_until = 0.0
        self._condition = threading.Condition()

    def __enter__(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._active < max(1, int(self._limit)))
            self._active += 1

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self._condition:
            self._active -= 1
            if isinstance(error, Retry) and error.kind == "429":
                self._clean = 0
                if time.monotonic() >= self._quiet_until:
                    self._limit = max(1.0, self._limit * 0.8)
                    self._quiet_until = time.monotonic() + 15
            elif error is None:
                self._clean += 1
                if self._clean >= self._limit:
                    self._clean = 0
                    self._limit = min(self._most, self._limit * 1.05)
            self._condition.notify_all()


class _Breaker:
    """Ends a run in which nothing works: 20 like failures in a row, or over 10 % after 50."""

    def __init__(self) -> None:
        self._seen = self._row = 0
        self._last = ""
        self._kinds: Counter[str] = Counter()

    def problem(self, record: dict) -> str | None:
        """Why the run has to end with this record, or None."""
        self._seen += 1
        # A server that sends no reply at all, as a web page at a wrong address, fails too; a
        # reply whose text could not be read is the model's doing.
        lost = record["status"] == "parse_error" and not record["text"]
        if record["status"] != "api_error" and not lost:
            self._row = 0
            return None
        kind = (record["error"] or "").split(":")[0]
        self._row = self._row + 1 if kind == self._last else 1
        self._last = kind
        self._kinds[kind] += 1
        failed = sum(self._kinds.values())
        if self._row >= 20:
            return f"20 failures of one kind in a row ({record['error']})"
        if self._seen >= 50 and failed > self._seen * 0.1:
            return f"{failed} of {self._seen} requests failed (last: {record['error']})"
        return None


def ask(model: Model, request: Request, stop: threading.Event) -> dict:
    """The record of one request that goes through no journal, with the retries of any other.

    Raises:
        Abandoned: ``stop`` was set. StopRunning, InputError: no request can succeed.
    """
    return _ask(model, request, None, _Gate(1), stop)


def _ask(
    model: Model, request: Request, accept: Accept | None, gate: _Gate, stop: threading.Event
) -> dict:
    """One item to its end: answered, refused, or given up on after the allowed attempts."""
    from tenacity import RetryError

    usage = {"input": 0, "output": 0}
    no_replies = attempts = 0

    def retry_unless_last(result: dict) -> dict:
        nonlocal no_replies
        no_replies += 1
        if no_replies < UNREADABLE_TRIES:
            raise Retry("no reply", result["error"] or result["status"])
        return result

    def attempt() -> dict:
        nonlocal attempts
        try:
            with gate:
                if stop.is_set():
                    raise Abandoned
                attempts += 1
                reply = model.send(request)
        except Retry as error:
            if error.kind != "unreadable":
                raise
            return retry_unless_last(no_answer("parse_error", error))
        model.has_answered = True
        result = received(reply, request, accept)
        for name, tokens in result.pop("usage").items():
            usage[name] += tokens
        return retry_unless_last(result) if has_failed(result, request) else result

    try:
        for trial in retrying(stop):
            with trial:
                result = attempt()
    except RetryError as error:
        result = no_answer("api_error", error.last_attempt.exception())
    except Failed as error:
        result = no_answer(error.status, error)
    if result["error"] is not None:
        result["error"] = model.scrub(result["error"])
    return {**result, **marks(model, request), "usage": usage, "attempts": attempts}
