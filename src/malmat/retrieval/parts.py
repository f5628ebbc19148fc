"""Results for many texts, computed in parts that a killed run leaves behind for the next."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

PART = 2_048
"""Texts a part: a multiple of the legs' batches, so that a run that goes on cuts the same ones
(another batch moves the last digits of a vector)."""


def in_parts(
    folder: Path,
    texts: list[str],
    compute: Callable[[list[str]], Iterable[Any]],
    save: Callable[[Path, list[Any]], None],
    size: int = PART,
) -> list[Path]:
    """A file a part, of which those that are there are not computed again.

    Args:
        folder: named after all that determines the results.
        compute: texts → a result each, in their order.
        save: writes a part's results to a path, at once or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [folder / f"{number:06}" for number in range(-(-len(texts) // size))]
    missing = next((n for n, path in enumerate(parts) if not path.exists()), len(parts))
    if missing < len(parts):
        results = iter(compute(texts[missing * size :]))
        for path in parts[missing:]:
            save(path, list(islice(results, size)))
    return parts


def save_array(path: Path, array: np.ndarray) -> None:
    """Write an array at once or not at all."""
    temporary = path.with_name(f".{path.name}.tmp")
    with open(temporary, "wb") as handle:
        np.save(handle, array)
        handle.flush()
        os.fsync(handle.fileno())
    os.replace(temporary, path)


def save_rows(path: Path, arrays: list[np.ndarray]) -> None:
    """Write arrays of one width, one below the other."""
    save_array(path, np.vstack(arrays))


def joined(parts: list[Path], path: Path) -> None:
    """Write the rows of all parts as one array, a part in memory at a time."""
    maps: Iterator[np.ndarray] = (np.load(part, mmap_mode="r") for part in parts)
    shapes = [array.shape for array in maps]
    rows, width = sum(shape[0] for shape in shapes), shapes[0][1]
    whole = np.lib.format.open_memmap(path, "w+", dtype=np.float32, shape=(rows, width))
    start = 0
    for part in parts:
        array = np.load(part)
        whole[start : start + len(array)] = array
        start += len(array)
    whole.flush()
