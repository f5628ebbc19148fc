"""Checkpoints that can be trusted: sealed when whole, never resumed from when not."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

from malmat.cli import relative
from malmat.files import write_json

COMPLETE_FILE = "COMPLETE.json"


def seal(folder: Path, leave: tuple[str, ...] = ()) -> None:
    """Mark a folder as whole: fsync its files, then write their names and sizes last.

    Args:
        leave: names directly in the folder that the seal does not cover.
    """
    sizes = {}
    for file in sorted(folder.rglob("*")):
        name = file.relative_to(folder)
        if file.is_file() and name.parts[0] not in (COMPLETE_FILE, *leave):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            sizes[name.as_posix()] = file.stat().st_size
    write_json(folder / COMPLETE_FILE, sizes)


def is_whole(folder: Path) -> bool:
    """Whether every file that the seal names is there with its size."""
    try:
        sizes = json.loads((folder / COMPLETE_FILE).read_text())
    except (OSError, ValueError):
        return False
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in sizes.items()
    )


def clear(output: Path) -> None:
    """Remove what a run has left in its folder: a new one must not find pieces of it."""
    try:
        named = json.loads((output / COMPLETE_FILE).read_text())
    except (OSError, ValueError):
        named = {}
    (output / COMPLETE_FILE).unlink(missing_ok=True)
    for name in named:
        file = output / name
        if file.resolve().is_relative_to(output.resolve()):  # a seal that came with a download
            file.unlink(missing_ok=True)
    for folder in [*all_checkpoints(output), *(output / name for name in ("merged", "base"))]:
        shutil.rmtree(folder, ignore_errors=True)


def step_of(folder: Path) -> int:
    """The N of ``checkpoint-N``."""
    return int(folder.name.removeprefix("checkpoint-"))


def all_checkpoints(output: Path) -> list[Path]:
    """The run's ``checkpoint-N`` folders, oldest first."""
    found = [f for f in output.glob("checkpoint-*") if re.fullmatch(r"checkpoint-\d+", f.name)]
    return sorted(found, key=step_of)


def newest_checkpoint(output: Path) -> Path | None:
    """The newest whole ``checkpoint-N``; broken ones (a kill or full disk) are removed."""
    whole = []
    for folder in all_checkpoints(output):
        if is_whole(folder):
            whole.append(folder)
        else:
            print(f"  {relative(folder)} was not written to its end: removed")
            shutil.rmtree(folder, ignore_errors=True)
    return whole[-1] if whole else None
