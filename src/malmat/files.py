"""JSON, JSONL, CSV and Parquet in and out: rows with their lines, stable ids, atomic writes.

Every reader either returns complete, valid rows or raises ``InputError`` with one
line that names the file, the line, the field and the way out. Every writer writes
to a temporary name in the same folder and moves the file into place, so a reader
never sees half a file and a full disk leaves the old one.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import json
import os
import re
import tempfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import create_model

from malmat.errors import InputError
from malmat.schema import Row, Text, validate


def canonical(value: Any) -> bytes:
    """The one byte string of a JSON value: sorted keys, no spaces, UTF-8."""
    return json.dumps(
        value, ensure_ascii=False, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode("utf-8", "surrogatepass")


def digest(value: Any) -> str:
    """SHA-256 (64 hex digits) of the canonical JSON of ``value``."""
    return hashlib.sha256(canonical(value)).hexdigest()


def row_id(*parts: Any) -> str:
    """A row's id: 16 hex digits over its content, the same on every machine."""
    return digest(list(parts))[:16]


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_text(path: str | Path) -> str:
    """A UTF-8 file as text, with or without a byte order mark.

    Raises:
        InputError: no such file, a folder, or not UTF-8 (the line is named).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", path=path, fix="Check the path.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"cannot be read ({error.strerror})", path=path) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            "not UTF-8 text",
            path=path,
            line=data.count(b"\n", 0, error.start) + 1,
            fix="Save it as UTF-8 (Excel: 'CSV UTF-8').",
        ) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _bad_json(path: Path, line: int, error: Exception) -> InputError:
    reason = error.msg if isinstance(error, json.JSONDecodeError) else str(error)
    return InputError(f"not valid JSON ({reason})", path=path, line=line, fix="Mend that line.")


_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _whole(value: Any, text: str, path: Path, line: int | None) -> Any:
    """``value``, parsed from ``text``, if no string in it holds half a character.

    JSON can spell a lone surrogate as an escape, and no UTF-8 file can hold it: it
    would be read and paid for, and fail when the result is written.
    """
    stack = [("", value)] if _HALF.search(text) else []
    while stack:
        where, part = stack.pop()
        if isinstance(part, dict):
            stack += [(f"{where}.{name}" if where else name, item) for name, item in part.items()]
            part = "".join(part)
        elif isinstance(part, list):
            stack += [(f"{where}[{index}]", item) for index, item in enumerate(part)]
        if isinstance(part, str):
            try:
                part.encode()
            except UnicodeEncodeError:
                raise InputError(
                    "holds half a character (a lone surrogate)",
                    path=path,
                    line=line,
                    field=where.encode("utf-8", "replace").decode() or None,
                ) from None
    return value


def read_json(path: str | Path) -> Any:
    """A JSON file's value."""
    path, text = Path(path), read_text(path)
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        raise _bad_json(path, error.lineno, error) from None
    except (ValueError, RecursionError) as error:
        raise _bad_json(path, 1, error) from None
    return _whole(value, text, path, None)


SUFFIXES = (".json", ".jsonl", ".csv", ".parquet")
"""What names of data files end in."""


def read_rows(
    path: str | Path, *, required: Collection[str] | None = None
) -> list[tuple[int, Any]]:
    """The rows of a JSON list, JSONL, CSV or Parquet file, each with its line number.

    A JSON file whose top value is a list gives its items; a JSONL file a row a
    line (blank lines are passed over); a CSV file dicts by its header. Parquet
    rows are numbered from 1.

    Args:
        required: the columns of a CSV file that every row must reach; what a row leaves
            out behind them is empty. Without it a row must reach all columns.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return _read_parquet(path)
    text = read_text(path)
    if suffix == ".csv":
        return _read_csv(path, text, required)
    if suffix == ".json" or text.lstrip()[:1] == "[":
        return list(_json_items(path, text))
    rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = _DECODER.decode(line)
            except (ValueError, RecursionError) as error:
                raise _bad_json(path, number, error) from None
            rows.append((number, _whole(row, line, path, number)))
    return rows


def _past_space(text: str, position: int) -> int:
    """Where JSON's white space from ``position`` on ends."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _json_items(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    """The items of a top-level list with the line each begins on."""
    position = _past_space(text, 0)
    if text[position : position + 1] != "[":
        read_json(path)  # names the line if it is not JSON at all
        raise InputError("the file must hold a list", path=path, line=1)
    position = _past_space(text, position + 1)
    line, counted = text.count("\n", 0, position) + 1, position
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        try:
            item, end = _DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise _bad_json(path, error.lineno, error) from None
        except (ValueError, RecursionError) as error:
            raise _bad_json(path, line, error) from None
        yield line, _whole(item, text[position:end], path, line)
        position = _past_space(text, end)
        if text[position : position + 1] == ",":
            position = _past_space(text, position + 1)
        elif text[position : position + 1] != "]":
            raise InputError(
                "not valid JSON (expected ',' or ']')",
                path=path,
                line=text.count("\n", 0, position) + 1,
                fix="Mend that line.",
            )
    if _past_space(text, position + 1) < len(text):
        raise InputError(
            "not valid JSON (text after the list)",
            path=path,
            line=text.count("\n", 0, position) + 1,
            fix="Remove what follows the closing bracket.",
        )


def _read_csv(path: Path, text: str, required: Collection[str] | None) -> list[tuple[int, Any]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows, header, start = [], None, 1
    try:
        for values in reader:
            if header is None:
                header = [name.strip() for name in values]
                if len(set(header)) != len(header):
                    raise InputError("a column stands twice in the header", path=path, line=1)
                needed = [i for i, name in enumerate(header, 1) if name in (required or header)]
                fewest = max(needed, default=1)
            elif values:
                if not fewest <= len(values) <= len(header):
                    least = f" ({fewest} are needed)" if fewest < len(header) else ""
                    raise InputError(
                        f"{len(values)} columns where the header has {len(header)}{least}",
                        path=path,
                        line=start,
                        fix="Quote values that contain commas.",
                    )
                values += [""] * (len(header) - len(values))
                rows.append((start, dict(zip(header, values, strict=True))))
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"not valid CSV ({error})", path=path, line=start) from None
    if header is None:
        raise InputError("the file is empty", path=path)
    return rows


def _read_parquet(path: Path) -> list[tuple[int, Any]]:
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise InputError("no such file", path=path, fix="Check the path.")
    try:
        table = pyarrow.parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"not a Parquet file ({error})", path=path) from None
    return list(enumerate(table.to_pylist(), 1))


def read_dataset(path: str | Path) -> list[tuple[int, Any]]:
    """The rows of a file, or of the Hugging Face data set ``owner/name`` (its ``train`` split)."""
    is_file = Path(path).exists() or Path(path).suffix.lower() in SUFFIXES
    if is_file or not re.fullmatch(r"[\w.-]+/[\w.-]+", str(path)):
        return read_rows(path)
    from datasets import load_dataset

    try:
        return list(enumerate(load_dataset(str(path), split="train"), 1))
    except Exception as error:
        raise InputError(
            f"no such file, and no such Hugging Face data set could be loaded "
            f"({type(error).__name__}: {error})",
            path=path,
            fix="Check the name, or the network.",
        ) from None


def check_fields(
    row: Any, fields: Mapping[str, type], *, path: str | Path, line: int, where: str = ""
) -> dict:
    """``row`` if it is an object that has every field with its type, non-empty if text.

    Args:
        where: prefix for nested field names, as ``conversations[2].``.

    Raises:
        InputError: see ``validate``.
    """
    validate(_schema_of(tuple(fields.items())), row, path=path, line=line, where=where[:-1])
    return row


@functools.cache
def _schema_of(fields: tuple[tuple[str, type], ...]) -> type[Row]:
    kinds: dict[str, Any] = {name: (Text if kind is str else kind, ...) for name, kind in fields}
    return create_model("Row", __base__=Row, **kinds)


def write_text(path: str | Path, text: str) -> None:
    """Write a file atomically and durably (same folder, fsync, replace, fsync of the folder)."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: str | Path) -> None:
    """Make the folder's entries durable, where the system allows it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_json(path: str | Path, value: Any) -> None:
    """Write JSON, readable by people: Korean as Korean, two spaces of indent."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line."""
    write_text(
        path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows)
    )


def write_csv(path: str | Path, fields: list[str], rows: Iterable[dict]) -> None:
    """Write dicts under a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())
