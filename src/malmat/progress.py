"""How far a long stage is: a bar on a terminal, lines with rate and time left in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

EVERY = 30.0
"""Seconds between two lines of a log, and before the first: short stages say nothing."""

One = TypeVar("One")


class Log:
    """Lines on the standard output, where that is no terminal.

    Args:
        total: how many there are to do; None if that is not known.
        done: how many an earlier run has done.
    """

    def __init__(self, total: int | None, *, done: int = 0, label: str = "", unit: str = "item"):
        self._total, self._begun, self._n = total, done, done
        self._label, self._unit = label, unit
        self._start = self._said = time.monotonic()
        self._silent = sys.stdout.isatty()

    def update(self, count: int = 1) -> None:
        """Count what was done; say so where ``EVERY`` seconds have passed."""
        self._n += count
        if not self._silent and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            print(self._line(), flush=True)

    def _line(self) -> str:
        """``answers: 120/400 items, 2.31 items/s, 2:01 left``."""
        from tqdm import tqdm

        rate = (self._n - self._begun) / (time.monotonic() - self._start)
        line = f"  {self._label}: {self._n:,}" + (f"/{self._total:,}" if self._total else "")
        line += f" {self._unit}s, {rate:,.3g} {self._unit}s/s"
        if self._total and rate:
            line += f", {tqdm.format_interval((self._total - self._n) / rate)} left"
        return line


class Progress(Log):
    """A bar on the standard error, where that is a terminal, and a ``Log``; a context manager."""

    def __init__(self, total: int | None, *, done: int = 0, label: str = "", unit: str = "item"):
        from tqdm import tqdm

        super().__init__(total, done=done, label=label, unit=unit)
        # What is over in half a second shows no bar. ``disable=None``: none without a terminal.
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=label,
            unit=unit,
            mininterval=0.5,
            delay=0.5,
            disable=None,
        )

    def update(self, count: int = 1) -> None:
        super().update(count)
        self._bar.update(count)

    def note(self, text: str) -> None:
        """What stands behind the bar, as the cost so far."""
        self._bar.set_postfix_str(text, refresh=False)

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        self._bar.write(line)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()


def tracked(rows: Collection[One], label: str, unit: str = "row") -> Iterator[One]:
    """The rows one by one, with their progress."""
    with Progress(len(rows), label=label, unit=unit) as progress:
        for row in rows:
            yield row
            progress.update()
