"""Opens a published data set's file by what it holds, whatever its name ends in."""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from malmat.contests.faults import Fault
from malmat.errors import InputError
from malmat.files import read_parquet, read_text
from malmat.parse import Rows, cleaned, json_rows
from malmat.text.korean import normalize

BROKEN = "columns"
"""The field that a fault of a table's row names where its cells do not fit the header."""


def read_source(path: str | Path, *, cp949: bool = False) -> tuple[Rows, list[Fault]]:
    """The rows of a CSV, TSV, JSON, JSONL or Parquet file (gzipped or not), told by its content.

    Names of columns and cells stay as they are, but for the text's normal form: an answer
    ``None`` or ``NULL`` is text. Columns of one name are numbered as pandas does (``x``, ``x.1``).

    Args:
        cp949: as in ``read_text``.

    Returns:
        The rows with their lines, and the rows of a table whose cells do not fit its header.

    Raises:
        InputError: none of these formats, no row in it, or a table that ends inside a quoted cell.
    """
    path = Path(path)
    faults: list[Fault] = []
    try:
        with open(path, "rb") as handle:
            mark = handle.read(4)
    except OSError:
        mark = b""  # read_text says why it cannot be read
    if mark == b"PAR1":
        rows = read_parquet(path)
    elif mark[:2] == b"PK":
        raise InputError("a zip archive", path=path, fix="Unpack it, and name the file in it.")
    else:
        text = read_text(path, cp949=cp949).replace("\ufeff", "")
        if text.lstrip()[:1] in ("[", "{"):
            rows = json_rows(path, text)
        else:
            rows, faults = _table(path, text)
    if not rows and not faults:
        raise InputError("no rows in it", path=path)
    return [(n, in_normal_form(cleaned(row, path, n, as_typed=True))) for n, row in rows], faults


def in_normal_form(value: Any) -> Any:
    """A value with all text in it in normal form (``korean.normalize``)."""
    if isinstance(value, dict):
        return {normalize(str(key)): in_normal_form(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [in_normal_form(one) for one in value]
    return normalize(value) if isinstance(value, str) else value


def has_columns(row: Any, columns: Collection[str]) -> bool:
    """Whether a row is an object that has all these columns."""
    return isinstance(row, Mapping) and all(name in row for name in columns)


def _table(path: Path, text: str) -> tuple[Rows, list[Fault]]:
    header_line = next((line for line in text.splitlines() if line.strip()), "")
    mark = next((mark for mark in "\t,;" if mark in header_line), ",")
    try:
        records = _records(text, mark, csv.QUOTE_MINIMAL)
    except csv.Error as error:
        # Tab-separated sets hold lone quotes; they are text where each line has all columns.
        columns = {line.count("\t") for line in text.splitlines() if line.strip()}
        if mark != "\t" or len(columns) > 1:
            line, reason = error.args[-1], error.args[0]
            raise InputError(f"not valid CSV ({reason})", path=path, line=line) from None
        records = _records(text, mark, csv.QUOTE_NONE)
    if len(records) < 1:
        raise InputError("the file is empty", path=path)
    header = _numbered([name.strip() for name in records[0][1]])
    rows: Rows = []
    faults: list[Fault] = []
    for number, (line, cells) in enumerate(records[1:], 1):
        while len(cells) > len(header) and not cells[-1].strip():
            cells = cells[:-1]  # Excel's trailing commas
        if len(cells) == len(header):
            rows.append((line, dict(zip(header, cells, strict=True))))
        else:
            problem = f"{len(cells)} columns where the header has {len(header)}"
            fix = "A comma is missing, or a cell with a comma is not quoted."
            faults.append(Fault(f"number {number}", line, BROKEN, problem, fix))
    return rows, faults


def _records(text: str, mark: str, quoting: Any) -> list[tuple[int, list[str]]]:
    """The records of a table that are not blank, each with the line it begins on.

    Raises:
        csv.Error: with the reason, and the line on which the record begins.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=mark, quoting=quoting)
    records, start = [], 1
    try:
        for cells in reader:
            if any(map(str.strip, cells)):
                records.append((start, cells))
            start = reader.line_num + 1
    except csv.Error as error:
        raise csv.Error(str(error), start) from None
    return records


def _numbered(names: list[str]) -> list[str]:
    """Names of which none stands twice: the second ``x`` is ``x.1``."""
    seen: Counter[str] = Counter()
    numbered = []
    for name in names:
        numbered.append(f"{name}.{seen[name]}" if seen[name] else name)
        seen[name] += 1
    return numbered
