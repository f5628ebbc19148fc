"""A function over many arguments in several processes, in their order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain, islice
from multiprocessing.connection import wait
from typing import Any

BATCH = 500
"""Calls that a process is given at a time. Fewer are not worth a second process, which loads
the morphology for itself."""


def mapped(
    function: Callable[..., Any], arguments: Iterable[tuple], processes: int
) -> Iterator[Any]:
    """``function(*argument)`` for each argument, in their order."""
    batches = _batches(arguments)
    first = list(islice(batches, 2))
    if processes < 2 or len(first) < 2:
        for batch in chain(first, batches):
            yield from map(function, *zip(*batch, strict=True))
        return
    # Started anew: a fork of a process with threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, context, initializer=_end_with_the_parent) as pool:
        waiting = deque[Future]()
        for batch in chain(first, batches):
            waiting.append(pool.submit(_apply, function, batch))
            if len(waiting) > 2 * processes:  # what is finished and not fetched stays in memory
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _end_with_the_parent() -> None:
    """Leave Ctrl-C to the parent; end where it was killed, or its children would wait for ever."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _batches(arguments: Iterable[tuple]) -> Iterator[list[tuple]]:
    rest = iter(arguments)
    return iter(lambda: list(islice(rest, BATCH)), [])


def _apply(function: Callable[..., Any], batch: list[tuple]) -> list:
    return [function(*argument) for argument in batch]
