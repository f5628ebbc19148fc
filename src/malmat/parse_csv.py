"""Parses CSV, with commas, tabs or semicolons: rows with their lines (``parse`` has the rest)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection
from pathlib import Path

from malmat.errors import InputError
from malmat.parse import Rows, renamed

_MISSING = {"#N/A", "#NA", "<NA>", "N/A", "NA", "n/a", "NULL", "null", "NaN", "nan", "None"}
_MISSING |= {"#REF!", "#VALUE!", "#NAME?", "#DIV/0!", "#NUM!", "#NULL!"}
"""Cells that spreadsheets, databases and pandas write for a missing value, and Excel's errors."""


def csv_rows(
    path: Path,
    text: str,
    required: Collection[str] | None = None,
    faults: list[InputError] | None = None,
) -> Rows:
    """The rows of a table as dicts by its header, without those that are blank.

    Its cells are separated by commas or, where the header has none, by tabs or semicolons.
    A missing value is None.

    Args:
        required: the columns that every row must reach; what a row leaves out behind them is
            empty. Without it a row must reach all columns.
        faults: takes what is wrong with single rows, which are left out; None raises the first.
    """
    told = re.match(r"sep=(.)(?=\r?\n)", text)  # Excel's own line
    text = text[told.end() :] if told else text
    header_line = re.split(r"[\r\n]", text.lstrip("\r\n"), maxsplit=1)[0]
    separators = [told[1]] if told else [mark for mark in ",\t;" if mark in header_line]
    reader = csv.reader(
        io.StringIO(text, newline=""), strict=True, delimiter=(separators or [","])[0]
    )
    rows: Rows = []
    header, start = None, 1
    try:
        for values in reader:
            filled = any(map(str.strip, values))
            try:
                if not filled:
                    pass
                elif header is None:
                    header = _header(path, values, start)
                else:
                    rows.append((start, _cells(path, values, header, required or header, start)))
            except InputError as fault:
                if faults is None or header is None:
                    raise
                faults.append(fault)
            start = reader.line_num + 1
    except csv.Error as error:
        problem, cut = f"not valid CSV ({error})", str(error) == "unexpected end of data"
        if faults is None or header is None or not cut:  # what is behind it would be lost
            raise InputError(problem, path=path, line=start) from None
        problem += ": a quote that opens in this row is never closed"
        faults.append(InputError(problem, path=path, line=start, fix="Close the quote."))
    if header is None:
        raise InputError("the file is empty", path=path)
    return rows


def _header(path: Path, names: list[str], line: int) -> list[str]:
    fields = renamed([name.strip() for name in names])
    header = [fields[name.strip()] for name in names]
    named = [name for name in header if name]
    if len(set(named)) != len(named):
        raise InputError("a column stands twice in the header", path=path, line=line)
    return header


def _cells(
    path: Path, values: list[str], header: list[str], required: Collection[str], line: int
) -> dict:
    while len(values) > len(header) and not values[-1].strip():
        values = values[:-1]  # Excel's trailing commas
    fewest = max((n for n, name in enumerate(header, 1) if name and name in required), default=1)
    if not fewest <= len(values) <= len(header):
        least = f" ({fewest} are needed)" if fewest < len(header) else ""
        fix = "Quote values that contain commas."
        raise InputError(
            f"{len(values)} columns where the header has {len(header)}{least}",
            path=path,
            line=line,
            fix=fix if len(values) > len(header) else "Fill in what is missing.",
        )
    values = values + [""] * (len(header) - len(values))
    # The first column of a table that pandas wrote is an index without a name.
    unnamed = (n for n, name in enumerate(header) if n and not name and values[n].strip())
    if (number := next(unnamed, None)) is not None:
        raise InputError(f"column {number + 1} has no name", path=path, line=line)
    cells = zip(header, values, strict=True)
    return {name: None if cell.strip() in _MISSING else cell for name, cell in cells if name}
