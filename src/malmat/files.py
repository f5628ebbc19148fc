"""JSON, JSONL, CSV and Parquet in and out: rows with their lines, stable ids, atomic writes.

Every reader either returns complete, valid rows or raises ``InputError`` with one
line that names the file, the line, the field and the way out. Every writer writes
to a temporary name in the same folder and moves the file into place, so a reader
never sees half a file and a full disk leaves the old one.
"""

from __future__ import annotations

import csv
import functools
import gzip
import hashlib
import io
import json
import os
import re
import tempfile
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import create_model

from malmat.errors import InputError
from malmat.parse import Rows, cleaned, json_rows, json_value
from malmat.parse_csv import csv_rows
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


def plain_name(name: str) -> str:
    """A name that becomes part of a file's name, as it is.

    Raises:
        InputError: it would lead to another folder, or no file can have it.
    """
    fault = (
        "empty" if not name.strip(" .")
        else "longer than 150 bytes" if len(name.encode("utf-8", "replace")) > 150
        else "a name with / or a control character" if re.search(r"[/\\\x00-\x1f\x7f]", name)
        else None
    )  # fmt: skip
    if fault:
        problem = f"{name[:60]!r} cannot be part of a file's name ({fault})"
        raise InputError(problem, field="name", fix="Take another name (--name).")
    return name


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def read_text(path: str | Path, *, cp949: bool = False) -> str:
    """A UTF-8 file as text, with or without a byte order mark, gzipped or not.

    Args:
        cp949: read a file that is not UTF-8 in the encoding of Korean Windows, if it fits.

    Raises:
        InputError: no such file, a folder, a broken gzip file, not UTF-8 or with a NUL (the
            line is named).
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such file", path=path, fix="Check the path.") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"cannot be read ({error.strerror})", path=path) from None
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"not a whole gzip file ({error})", path=path) from None
    for start, (name, way_out) in _BINARY.items():
        if data.startswith(start):
            raise InputError(f"is {name}, and no text", path=path, fix=way_out)
    place, problem, fix = data.find(b"\0"), "holds a NUL", "Take it out, or save as UTF-8."
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if cp949 and _encoding_of(data).endswith("(of Korean Windows)"):
            return data.decode("cp949")
        place, problem = error.start, f"not UTF-8 text{_encoding_of(data)}"
        fix = "Save it as UTF-8 (Excel: 'CSV UTF-8')."
        if "CP949" in problem:
            fix += f" Or: iconv -f CP949 -t UTF-8 {path} -o utf8-{path.name}"
    if place < 0:
        return text
    raise InputError(problem, path=path, line=data.count(b"\n", 0, place) + 1, fix=fix)


_EXCEL = "Save it as 'CSV UTF-8', or take the file out of the archive."
_PACKED = "Unpack it, or pack it with gzip."
_BINARY = {
    b"PK\x03\x04": ("an Excel file or a ZIP archive", _EXCEL),
    b"\xd0\xcf\x11\xe0": ("an old Excel or Word file", _EXCEL),
    b"PAR1": ("a Parquet table", "Let its name end in .parquet."),
    b"BZh": ("a bzip2 file", _PACKED),
    b"\xfd7zXZ": ("an xz file", _PACKED),
    b"\x28\xb5\x2f\xfd": ("a Zstandard file", _PACKED),
}
"""What a file's first bytes say it is, where it is not text."""


def _encoding_of(data: bytes) -> str:
    """What bytes that are not UTF-8 seem to be, for the message."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in data:
        return ", but UTF-16"
    try:
        data.decode("cp949")
    except UnicodeDecodeError:
        return ""
    return ", but CP949 (of Korean Windows)"


def read_json(path: str | Path) -> Any:
    """A JSON file's value, its text as it is."""
    path = Path(path)
    return cleaned(json_value(path, read_text(path)), path, None, as_typed=True)


SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".txt", ".parquet", ".gz")
"""What names of data files end in."""


def kind_of(path: str | Path) -> str:
    """The suffix that says what a file holds, in small letters: ``a.JSONL.gz`` → ``.jsonl``."""
    path = Path(path)
    return Path(path.stem if path.suffix.lower() == ".gz" else path).suffix.lower()


def read_rows(
    path: str | Path,
    *,
    required: Collection[str] | None = None,
    as_typed: bool = False,
    faults: list[InputError] | None = None,
) -> Rows:
    """The rows of a JSON, JSONL, CSV, TSV, text or Parquet file, each with its line number.

    JSON may be a list, a row a line (blank lines are passed over) or a lone row; a CSV file
    gives dicts by its header, a text file its lines. Parquet rows are numbered from 1. Text and
    keys are normalized (``parse.cleaned``).

    Args:
        required: the columns of a CSV file that every row must reach; what a row leaves
            out behind them is empty. Without it a row must reach all columns.
        as_typed: leave text and keys as they are.
        faults: takes what is wrong with single rows of a CSV file, which are left out; None
            raises the first.
    """
    path, kind = Path(path), kind_of(path)
    if kind == ".parquet":
        rows = read_parquet(path)
    else:
        text = read_text(path).replace("\ufeff", "")
        if kind == ".txt" and not re.match(r'\s*[\[{]\s*["{\[]', text):
            kind = ".tsv" if "\t" in text.partition("\n")[0] else "lines"
        if kind in (".csv", ".tsv"):
            rows = csv_rows(path, text, required, faults)
        elif kind == "lines":
            lines = enumerate(re.split(r"\r\n?|\n", text), 1)
            rows = [(number, line.strip()) for number, line in lines if line.strip()]
        elif kind == ".json" and not text.strip():
            raise InputError("the file is empty", path=path)
        else:
            rows = json_rows(path, text)
    return [(line, cleaned(row, path, line, as_typed=as_typed)) for line, row in rows]


def read_parquet(path: Path) -> Rows:
    """The rows of a Parquet file, numbered from 1."""
    import pyarrow
    import pyarrow.parquet

    if not path.is_file():
        raise InputError("no such file", path=path, fix="Check the path.")
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        raise InputError(f"not a Parquet file ({error})", path=path) from None
    return list(enumerate(rows, 1))


def read_dataset(path: str | Path) -> Rows:
    """The rows of a file, or of the Hugging Face data set ``owner/name`` or, of one that has
    several parts, ``owner/name:config`` (its ``train`` split)."""
    is_file = Path(path).exists() or Path(path).suffix.lower() in SUFFIXES
    named = re.fullmatch(r"([\w.-]+/[\w.-]+)(?::([\w.-]+))?", str(path))
    if is_file or not named:
        return read_rows(path)
    from datasets import load_dataset

    try:
        rows = list(enumerate(load_dataset(*filter(None, named.groups()), split="train"), 1))
    except Exception as error:
        raise InputError(
            f"no such file, and no such Hugging Face data set could be loaded "
            f"({type(error).__name__}: {error})",
            path=path,
            fix="Check the name, or the network.",
        ) from None
    return [(number, cleaned(row, Path(path), number)) for number, row in rows]


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


def write_text(path: str | Path, text: str | Iterable[str]) -> None:
    """Write a file atomically and durably (same folder, fsync, replace, fsync of the folder).

    Args:
        text: or its parts, one behind the other.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as handle:
            handle.writelines([text] if isinstance(text, str) else text)
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
    write_text(path, _json_parts(value))


def _json_parts(value: Any) -> Iterator[str]:
    """JSON with two spaces of indent, a list's items one by one: as a whole, the text of many
    rows takes ten times their memory."""

    def text(part: Any) -> str:
        return json.dumps(part, ensure_ascii=False, indent=2, allow_nan=False)

    if isinstance(value, list) and value:
        for place, item in enumerate(value):
            yield (",\n  " if place else "[\n  ") + text(item).replace("\n", "\n  ")
        yield "\n]\n"
    else:
        yield text(value) + "\n"


def write_jsonl(path: str | Path, rows: Iterable[Any]) -> None:
    """Write one JSON value a line."""
    write_text(path, (json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def write_csv(path: str | Path, fields: list[str], rows: Iterable[dict]) -> None:
    """Write dicts under a header."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fields, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, buffer.getvalue())
