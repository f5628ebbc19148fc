"""One door to every model that answers: Gemini, OpenAI, compatible servers, local models.

``complete`` takes requests and gives back a record for each, through a journal:
what was answered before is not asked again. There is one retry layer (the SDKs'
own are off). A failure is a status, never an answer. The SDKs themselves are
``malmat.answer.provider``'s.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from malmat.answer.prices import Meter
from malmat.answer.provider import Model
from malmat.answer.request import ASK_AGAIN, Failed, Request, Retry, request_key
from malmat.errors import StopRunning
from malmat.journal import Journal, whole

ATTEMPTS = 8


PATIENCE_S = 600.0


UNREADABLE_TRIES = 3


def complete(
    model: Model,
    requests: list[Request],
    journal: Journal,
    *,
    accept: Callable[[Request, str], Any] | None = None,
    concurrency: int = 8,
    max_cost: float | None = None,
    label: str = "",
) -> dict[str, dict]:
    """Answer all requests through the journal; as ``Stream``, but all at once.

    Returns:
        Request id and sample (``id#sample``) → record.
    """
    meter = Meter(model.name, max_cost=max_cost)
    with Stream(
        model,
        requests,
        journal,
        accept=accept,
        concurrency=concurrency,
        meter=meter,
        label=label,
        total=len(requests),
    ) as records:
        return {
            f"{request.id}#{request.sample}": record
            for request, record in zip(requests, records, strict=True)
        }


class Stream:
    """Answers requests through the journal and gives their records in the requests' order.

    A context manager: inside it the workers ask, whatever the caller does with what
    has come so far. Replies lie in the journal, not in memory, and ``requests`` may
    be a generator, so a run over many items takes no more memory than one over few.

    Args:
        accept: turns a reply's text into a value, raising ValueError where it is
            unreadable; such a reply is asked for again twice, then ``parse_error``.
        meter: counts tokens and cost; it may stop the run.
        total: how many requests there are, for the progress bar.

    Iterating gives records: ``key, id, status, text, finish_reason, usage, attempts,
    model_version, error``. After the last one that came it raises:
        StopRunning: quota spent, the circuit breaker, or ``max_cost``; progress kept.
        InputError: wrong key or unknown model.
        KeyboardInterrupt: after what was in flight has been journaled.
    """

    def __init__(
        self,
        model: Model,
        requests: Iterable[Request],
        journal: Journal,
        *,
        accept: Callable[[Request, str], Any] | None = None,
        concurrency: int = 8,
        meter: Meter | None = None,
        label: str = "",
        total: int | None = None,
    ):
        self._model, self._journal, self._accept = model, journal, accept
        self._source = iter(requests)
        self._meter = meter or Meter(model.name)
        self._label, self._total = label, total
        self._identity = model.identity()
        self._gate, self._breaker = _Gate(concurrency), _Breaker()
        self._stop = threading.Event()
        self._interrupt = _interruptible(self._stop)
        self._failure: BaseException | None = None
        self._bar: Any = None
        # Guards all that follows; notified when the next record in order may be there.
        self._changed = threading.Condition()
        self._order: deque[list] = deque()  # [key, whether its record is in the journal]
        self._asking: dict[str, list[list]] = {}  # key → entries that wait for its one answer
        self._passed = 0
        workers = concurrency if total is None else min(concurrency, total)
        self._threads = [
            threading.Thread(target=self._work, name=f"llm-{n}", daemon=True)
            for n in range(workers)
        ]

    def __enter__(self) -> Stream:
        self._interrupted = self._interrupt.__enter__()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()
        if self._bar is not None:
            self._bar.close()
        self._interrupt.__exit__(kind, error, trace)
        # Ctrl-C after the last record was taken still counts.
        if error is None and self._interrupted.is_set():
            raise KeyboardInterrupt

    def __iter__(self) -> Iterator[dict]:
        while True:
            with self._changed:
                while not (self._order and self._order[0][1]):
                    if not any(thread.is_alive() for thread in self._threads):
                        break
                    self._changed.wait(0.2)
                if not (self._order and self._order[0][1]):
                    break
                key = self._order.popleft()[0]
            yield self._journal.get(key)
        if self._failure is not None:
            raise self._failure
        if self._interrupted.is_set():
            raise KeyboardInterrupt

    def _work(self) -> None:
        try:
            while (taken := self._take()) is not None:
                entry, request = taken
                record = _ask(self._model, request, self._accept, self._gate, self._stop)
                self._keep({"key": entry[0], "id": request.id, **record})
        except _Abandoned:
            pass
        except BaseException as error:
            with self._changed:
                self._failure = self._failure or error
                self._stop.set()
        finally:
            with self._changed:
                self._changed.notify_all()

    def _take(self) -> tuple[list, Request] | None:
        """The next request that the journal has no answer to; None at the end."""
        while not self._stop.is_set():
            with self._changed:
                request = next(self._source, None)
                if request is None:
                    return None
                entry = [request_key(self._identity, request), False]
                self._order.append(entry)
                known = self._journal.get(entry[0])
                if entry[0] in self._asking:  # an equal request is under way
                    self._asking[entry[0]].append(entry)
                elif known is None or known["status"] in ASK_AGAIN:
                    if problem := self._meter.problem():  # reached in an earlier round
                        raise StopRunning(f"{problem}. Progress is kept")
                    self._asking[entry[0]] = [entry]
                    return entry, request
                else:
                    entry[1] = True
                    self._changed.notify_all()
                self._passed += 1
        return None

    def _keep(self, record: dict) -> None:
        with self._changed:
            self._journal.append(record)
            for entry in self._asking.pop(record["key"]):
                entry[1] = True
            self._meter.add(record["usage"])
            self._show()
            problem = self._breaker.see(record) or self._meter.problem()
            if problem and self._failure is None:
                self._failure = StopRunning(f"{problem}. Progress is kept")
                self._stop.set()
            self._changed.notify_all()

    def _show(self) -> None:
        from tqdm import tqdm

        if self._bar is None:
            self._bar = tqdm(total=self._total, desc=self._label, unit="item", mininterval=0.5)
        self._bar.update(self._passed + 1)
        self._passed = 0
        if self._meter.cost is not None:
            self._bar.set_postfix_str(f"${self._meter.cost:.4f}", refresh=False)


class _Abandoned(Exception):
    """The run stopped while this item was waiting to be tried again."""


class _interruptible:
    """Ctrl-C sets the event (what is in flight is drained); a second one leaves at once."""

    def __init__(self, stop: threading.Event):
        self._stop, self._seen = stop, threading.Event()

    def __enter__(self) -> threading.Event:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._old = signal.signal(signal.SIGINT, self._handle)
        return self._seen

    def _handle(self, *_: object) -> None:
        if self._seen.is_set():
            os._exit(130)
        self._seen.set()
        self._stop.set()

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._old)


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

    def see(self, record: dict) -> str | None:
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


def retrying(stop: threading.Event) -> Any:
    """tenacity's loop over the attempts at something that raises ``Retry``, by our policy.

    Setting ``stop`` ends a wait at once.
    """
    from tenacity import (
        Retrying,
        retry_if_exception_type,
        stop_after_attempt,
        stop_before_delay,
    )

    def pause(state: Any) -> float:
        backoff = min(60.0, 2.0 ** (state.attempt_number - 1)) * random.uniform(0.5, 1.0)
        return max(backoff * RETRY_SCALE, state.outcome.exception().after)

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise _Abandoned

    return Retrying(
        retry=retry_if_exception_type(Retry),
        # Before: a server that asks for a wait beyond all patience is not waited for.
        stop=stop_after_attempt(ATTEMPTS) | stop_before_delay(PATIENCE_S),
        wait=pause,
        sleep=sleep,
    )


def no_answer(status: str, error: object) -> dict:
    """The part of a record that stands for an answer where none came."""
    nothing = {"text": "", "finish_reason": None, "model_version": None}
    return {**nothing, "status": status, "error": str(error)}


def _ask(
    model: Model,
    request: Request,
    accept: Callable[[Request, str], Any] | None,
    gate: _Gate,
    stop: threading.Event,
) -> dict:
    """One item to its end: answered, refused, or given up on after the allowed attempts."""
    from tenacity import RetryError

    usage = {"input": 0, "output": 0}
    unreadable = attempts = 0

    def attempt() -> dict:
        nonlocal unreadable, attempts
        try:
            with gate:
                if stop.is_set():
                    raise _Abandoned
                attempts += 1
                reply = model.send(request)
        except Retry as error:
            if error.kind != "unreadable":
                raise
            unreadable += 1
            if unreadable >= UNREADABLE_TRIES:
                return no_answer("parse_error", error)
            raise
        for name, tokens in reply.pop("usage").items():
            usage[name] += tokens
        reply["text"] = whole(reply["text"])
        if reply["status"] == "ok" and accept is not None:
            try:
                accept(request, reply["text"])
            except ValueError as error:
                unreadable += 1
                if unreadable >= UNREADABLE_TRIES:
                    return {**reply, "status": "parse_error", "error": model.scrub(error)}
                raise Retry("unreadable", model.scrub(error)) from None
        return {**reply, "error": None}

    try:
        for trial in retrying(stop):
            with trial:
                result = attempt()
    except RetryError as error:
        result = no_answer("api_error", model.scrub(error.last_attempt.exception()))
    except Failed as error:
        result = no_answer("api_error", model.scrub(error))
    return {**result, "usage": usage, "attempts": attempts}


RETRY_SCALE = float(os.environ.get("MALMAT_RETRY_SCALE", "1"))
"""Scales the backoff (not what a server asks for); tests make it small."""


def failures(records: Iterator[dict] | list[dict]) -> Counter[str]:
    """How many records of each status other than ``ok``."""
    return Counter(record["status"] for record in records if record["status"] != "ok")
