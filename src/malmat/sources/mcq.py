"""Reads files of published multiple-choice sets (``layouts``): items, faulty rows, counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malmat.contests.faults import BadRow, Fault, sound_or_refused
from malmat.errors import InputError
from malmat.sources.layouts import LAYOUTS, Layout
from malmat.sources.open import read_source
from malmat.sources.row import Mcq


@dataclass
class Converted:
    """What a file gave: items, faults of rows, and reason → rows that were left out."""

    items: list[Mcq] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_mcq(path: str | Path, source: str, *, skip_bad: bool = False) -> Converted:
    """The items of a file of the set ``source`` (a key of ``LAYOUTS``).

    Rows that repeat another one are left out and counted.

    Raises:
        InputError: a file of another set, or faulty rows without ``skip_bad``: one line that
            names them all.
    """
    rows, faults = read_source(path)
    layout = LAYOUTS[source]
    if rows and not any(layout.fits(row) for _, row in rows):
        raise _of_another_set(path, layout, rows[0])
    found = Converted(faults=faults)
    first: dict[str, tuple[int, Mcq]] = {}
    for number, (line, row) in enumerate(rows, 1):
        name = str(row.get("id") or f"number {number}") if isinstance(row, dict) else str(number)
        try:
            item = _item(layout, row)
            known_line, known = first.setdefault(item.id, (line, item))
            if known is item:
                found.items.append(item)
            elif known == item:
                found.left_out["repeats another row"] += 1
            else:
                raise BadRow("id", f"the row on line {known_line} has this id", "Keep one.")
        except BadRow as bad:
            found.faults.append(bad.fault(name, line))
    found.faults.sort(key=lambda fault: fault.line)
    sound_or_refused(path, found.faults, left=len(found.items), skip=skip_bad)
    return found


def _item(layout: Layout, row: Any) -> Mcq:
    if not isinstance(row, dict):
        raise BadRow("row", "expected an object")
    if not layout.fits(row):
        missing = min((sorted(c - set(row)) for c in layout.columns), key=len)
        raise BadRow(missing[0], "missing", "A row of another set? Take it out.")
    return layout.read(row)


def _of_another_set(path: str | Path, layout: Layout, first: tuple[int, Any]) -> InputError:
    line, row = first
    others = [other.title for other in LAYOUTS.values() if other.fits(row)]
    keys = ", ".join(map(str, row))[:100] if isinstance(row, dict) else type(row).__name__
    looks = f", and looks like {' or '.join(others)}" if others else ""
    wanted = ", ".join(sorted(layout.columns[0]))
    return InputError(
        f"is no file of {layout.title}: its first row has {keys}{looks}",
        path=path,
        line=line,
        fix=f"Rows of {layout.title} have columns such as {wanted}.",
    )


def read_mcq_files(paths: list[str], source: str, *, skip_bad: bool = False) -> Converted:
    """As ``read_mcq``, of several files together.

    Raises:
        InputError: as ``read_mcq``, or two files have different rows of one id.
    """
    together = Converted()
    known: dict[str, tuple[str, Mcq]] = {}
    for path in paths:
        found = read_mcq(path, source, skip_bad=skip_bad)
        together.faults += found.faults
        together.left_out += found.left_out
        for item in found.items:
            other, same = known.setdefault(item.id, (path, item))
            if same is item:
                together.items.append(item)
            elif same == item:
                together.left_out["repeats another row"] += 1
            else:
                problem = f"the row {item.id} is another one in {other}"
                raise InputError(problem, path=path, field="id", fix="Keep one.")
    return together
