"""Append-only progress beside an output file: what is paid for is never lost or bought twice.

One JSON object a line, keyed by a hash of everything that determines the answer
(``key_of``). Killing the script at any point loses at most the work in flight;
the next run reads the journal and does what is missing. A key that no longer
matches (an edited prompt, another model) is simply not found, so no stale answer
survives an edit.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.files import digest


def key_of(**determinants: Any) -> str:
    """SHA-256 over all that determines an answer: model, prompt text, sampling, input …"""
    return digest(determinants)


def journal_path(output: str | Path) -> Path:
    """The journal of an output file: ``x.json`` → ``x.json.journal.jsonl`` beside it."""
    output = Path(output)
    return output.with_name(output.name + ".journal.jsonl")


def valid_text(text: str) -> str:
    """The text with each lone surrogate (half a character, which no file can hold) as ``?``."""
    return text.encode("utf-8", "replace").decode("utf-8")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps other processes out of an output folder, which is made if it does not exist.

    Raises:
        InputError: another process is working on it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)


def _lock(file: Any, path: Path) -> None:
    """Locks an open file or folder until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise InputError(
            "another process is working on this output",
            path=path,
            fix="Wait for it, or choose another output.",
        ) from None


class Journal:
    """A locked journal of finished items. Use it as a context manager.

    Args:
        path: the JSONL file; made, with its folder, if it does not exist.

    Raises:
        InputError: another process holds it, or a line in its middle is damaged.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.notice = ""
        # Where each record stands in the file: replies stay on the disk, so that a run over many
        # items needs no more memory than one over few.
        self._places: dict[str, tuple[int, int]] = {}
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = open(self.path.with_name(self.path.name + ".lock"), "w")  # noqa: SIM115
        try:
            _lock(self._lock, self.path)
            self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        except BaseException:
            self._lock.close()
            raise
        try:
            self._load()
        except BaseException:
            self.close()
            raise

    def _load(self) -> None:
        offset = 0
        with open(self.path, "rb") as lines:
            for number, line in enumerate(lines, 1):
                if not line.endswith(b"\n"):  # the write that a crash cut short
                    self.notice = (
                        f"{self.path}: cut off an unfinished last line ({len(line)} bytes)"
                    )
                    os.ftruncate(self._file, offset)
                    break
                try:
                    self._places[json.loads(line)["key"]] = (offset, len(line))
                except (ValueError, TypeError, KeyError, RecursionError):
                    raise InputError(
                        f"damaged at byte {offset}",
                        path=self.path,
                        line=number,
                        fix="Delete that line (its item is then done again).",
                    ) from None
                offset += len(line)
        self._end = offset

    def get(self, key: str) -> dict | None:
        """The record of a finished item, read from the file, or None."""
        return self.record(key) if key in self else None

    def record(self, key: str) -> dict:
        """The record of an item that is known to be finished.

        Raises:
            KeyError: it is not.
        """
        offset, length = self._places[key]
        return json.loads(os.pread(self._file, length, offset))

    def __contains__(self, key: object) -> bool:
        return key in self._places

    def __len__(self) -> int:
        return len(self._places)

    def __iter__(self) -> Iterator[str]:
        """The keys, in the order in which they were first written."""
        return iter(list(self._places))

    def append(self, *records: dict) -> None:
        """Add finished items in one durable write; all of them are kept or none.

        Raises:
            OSError: the disk is full or failing; the journal is as it was before.
        """
        self.extend(records)

    def extend(self, records: Iterable[dict]) -> None:
        """As ``append``, from an iterable."""
        records = list(records)
        lines = [
            json.dumps(record, ensure_ascii=False, allow_nan=False).encode() + b"\n"
            for record in records
        ]
        data = b"".join(lines)
        try:
            written = os.write(self._file, data)
            if written != len(data):
                raise OSError(28, "No space left on device", str(self.path))
            os.fsync(self._file)
        except OSError:
            os.ftruncate(self._file, self._end)
            raise
        for record, line in zip(records, lines, strict=True):
            self._places[record["key"]] = (self._end, len(line))
            self._end += len(line)

    def close(self) -> None:
        """Give the lock back. The file stays: it is what makes the next run cheap."""
        os.close(self._file)
        self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
