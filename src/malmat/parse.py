"""Parses JSON and lines of JSON: rows with their lines, and their text in normal form.

What has one meaning is read, however it is spelt; what could mean two things is refused
with the line that says it. ``docs/data-formats.md`` lists both.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.text.korean import fold, normalize

Rows = list[tuple[int, Any]]
"""Rows, each with the line it begins on."""

# ----------------------------------------------------------------------- names and text

NAMES = {
    "id": "",
    "title": "신조어 단어 용어 표제어",
    "content": "뜻 의미 설명 정의",
    "description": "",
    "question": "질문 문항",
    "answer": "답변 대답 답",
    "example_q": "예시질문 예시_질문 예문질문",
    "example_a": "예시답변 예시_답변 예시답 예문답변",
    "context": "상황",
    "forms": "",
    "gloss": "",
    "near": "",
    "model": "모델",
    "split": "",
    "status": "",
    "choices": "선택지 보기",
    "target": "정답",
    "messages": "",
    "conversations": "",
    "q": "",
    "a": "",
    "prompt": "프롬프트",
    "completion": "",
    "response": "응답",
    "instruction": "지시 지시문",
    "input": "입력",
    "output": "출력",
    "chosen": "",
    "rejected": "",
}
"""The fields that are known, with their Korean names."""

_FIELDS = {n: name for name, others in NAMES.items() for n in (name, *others.split())}


def _field(name: str) -> str:
    """The field that a column or key names, in any case, width or language; else as it is."""
    plain = re.sub(r"[\s_-]+", "_", fold(name).strip().casefold())
    return _FIELDS.get(plain, name.strip())


def renamed(names: Collection[str]) -> dict[str, str]:
    """Name → field, for all names of a row; a field that stands there already keeps its name."""
    taken, fields = set(names), {}
    for name in names:
        field = _field(name)
        fields[name] = name if field in taken and field != name else field
        taken.add(fields[name])
    return fields


def named(row: Any) -> Any:
    """A row with the known fields for its keys."""
    if not isinstance(row, dict):
        return row
    fields = renamed(row)
    return {fields[key]: value for key, value in row.items()}


# A backslash and an n before a small letter may be a path or a formula.
_SPELT_BREAK = re.compile(r"(?<![\\:])(?:\\r)?\\n(?![a-z])")


def _in_normal_form(text: str) -> str:
    return normalize(_SPELT_BREAK.sub("\n", text) if "\\n" in text else text)


def cleaned(value: Any, path: Path, line: int | None, *, as_typed: bool = False) -> Any:
    """A row as it is compared and trained: its text in normal form, its keys the known fields.

    Args:
        as_typed: leave text and keys as they are, and only check the text.

    Raises:
        InputError: half a character (a lone surrogate, which JSON can spell and no file can
            hold: it would be paid for, and fail when the result is written) or a NUL.
    """

    def clean(part: Any, where: str) -> Any:
        if isinstance(part, dict):
            row = {text(key, where): clean(one, _inside(where, key)) for key, one in part.items()}
            return row if where or as_typed else named(row)
        if isinstance(part, list):
            return [clean(one, f"{where}[{index}]") for index, one in enumerate(part)]
        if isinstance(part, float):
            return number(part, where)
        if isinstance(part, bytes):  # of a Parquet table: text, or a picture
            part = None if b"\0" in part else part.decode("utf-8", "replace")
        return part if part is None or isinstance(part, (bool, int)) else text(part, where)

    def number(part: float, where: str) -> float | None:
        if math.isinf(part):  # how 1e999 is read, and no file can hold it
            raise InputError("a number without end", path=path, line=line, field=where or None)
        return None if math.isnan(part) else part  # a Parquet table's missing value

    def text(part: Any, where: str) -> str:
        part = str(part)
        if _UNREADABLE.search(part):
            problem = "a NUL" if "\0" in part else "half a character (a lone surrogate)"
            field, fix = where.encode("utf-8", "replace").decode() or None, "Take it out."
            raise InputError(f"holds {problem}", path=path, line=line, field=field, fix=fix)
        return part if as_typed else _in_normal_form(part)

    try:
        return clean(value, "")
    except RecursionError:
        raise InputError("not valid JSON (nested too deep)", path=path, line=line) from None


_UNREADABLE = re.compile("[\0\ud800-\udfff]")


def _inside(where: str, key: Any) -> str:
    return f"{where}.{key}" if where else str(key)


# --------------------------------------------------------------------------------- JSON


class _DoubledKey(ValueError):
    def __init__(self, key: Any):
        self.key = key


def _unique(pairs: list[tuple[str, Any]]) -> dict:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise _DoubledKey(next(key for n, key in enumerate(keys) if key in keys[:n]))
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant, object_pairs_hook=_unique)


def _decode(path: Path, text: str, start: int = 0, line: int = 1) -> tuple[Any, int]:
    """The JSON value that begins at ``start``, on ``line``, and where it ends."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        place, problem = error.pos, f"not valid JSON ({error.msg})"
    except _DoubledKey as error:
        place = _second_place(error.key, text, start)
        problem = f"not valid JSON (the key '{error.key}' stands twice in one object)"
    except (ValueError, RecursionError) as error:
        place, problem = start, f"not valid JSON ({error})"
    line += text.count("\n", start, place)
    raise InputError(problem, path=path, line=line, fix="Mend that line.")


def _second_place(key: str, text: str, start: int) -> int:
    """Where a key stands for the second time in its object; ``start`` if escapes hide it.

    Every place of the key gets a number instead of it, and is decoded anew.
    """
    spelt = re.compile(re.escape(json.dumps(key, ensure_ascii=False)) + r"(?=\s*:)")
    numbers = itertools.count()
    numbered = spelt.sub(lambda _: f'"\ue000{next(numbers)}"', text[start:])

    def look(pairs: list[tuple[str, Any]]) -> None:
        found = [int(name[1:]) for name, _ in pairs if name[:1] == "\ue000"]
        if len(found) > 1:
            raise _DoubledKey(found[1])

    try:
        json.JSONDecoder(object_pairs_hook=look).raw_decode(numbered)
    except _DoubledKey as second:
        return next(itertools.islice(spelt.finditer(text, start), second.key, None)).start()
    except ValueError:
        pass
    return start


def _past_space(text: str, position: int) -> int:
    """Where JSON's white space from ``position`` on ends."""
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _nothing_behind(path: Path, text: str, position: int, problem: str) -> None:
    position = _past_space(text, position)
    if position < len(text):
        line = text.count("\n", 0, position) + 1
        raise InputError(f"not valid JSON ({problem})", path=path, line=line, fix="Mend that line.")


def json_value(path: Path, text: str) -> Any:
    """The one value of a text."""
    start = _past_space(text, 0)
    value, end = _decode(path, text, start, text.count("\n", 0, start) + 1)
    _nothing_behind(path, text, end, "text after the value")
    return value


_WRAPPED = re.compile(
    r'\s*\{\s*"(?:data|rows|train|examples|items|results|terms|pairs)"\s*:\s*(?=\[)'
)


def json_rows(path: Path, text: str) -> Rows:
    """The rows of a text: the items of a list, or of lists, or values one behind the other.

    Rows may also be the only thing in an object (``{"data": [...]}``), or stand in it column by
    column, as pandas writes a table.
    """
    start = _past_space(text, 0)
    if text[start : start + 1] == "[":
        return _lists(path, text, start)
    if wrapped := _WRAPPED.match(text):
        rows, end = _items(path, text, wrapped.end())
        if text[end:].strip(" \t\r\n,") == "}":
            return rows
    rows = _values(path, text)
    if len(rows) == 1 and (columns := _columns(rows[0][1])):
        return [(rows[0][0], row) for row in columns]
    return rows


def _columns(value: Any) -> list[dict]:
    """The rows of ``{column: {index: cell}}`` or ``{column: [cell]}``; [] if it is none of them."""
    columns = list(value.values()) if isinstance(value, dict) else []
    if {*map(type, columns)} == {list} and value.keys() & NAMES.keys():
        nested = any(isinstance(cell, (dict, list)) for cells in columns for cell in cells)
        columns = [] if nested else [dict(enumerate(cells)) for cells in columns]
    if len(columns) < 2 or not all(isinstance(one, dict) and one for one in columns):
        return []
    if any(list(one) != list(columns[0]) for one in columns):
        return []
    return [dict(zip(value, (one[n] for one in columns), strict=True)) for n in columns[0]]


def _values(path: Path, text: str) -> Rows:
    """A value a line; or, if lines do not end with values, values one behind the other."""
    rows: Rows = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            value, end = _decode(path, line, _past_space(line, 0), number)
            if _past_space(line, end) < len(line):
                problem = "not valid JSON (text after the value)"
                raise InputError(problem, path=path, line=number, fix="Mend that line.")
        except InputError as error:
            try:
                return list(_one_behind_the_other(path, text))
            except InputError as other:
                raise (error if rows else other) from None
        rows.append((number, value))
    return rows


def _one_behind_the_other(path: Path, text: str) -> Iterator[tuple[int, Any]]:
    position, line, counted = _past_space(text, 0), 1, 0
    while position < len(text):
        line, counted = line + text.count("\n", counted, position), position
        value, end = _decode(path, text, position, line)
        yield line, value
        position = _past_space(text, end)
        if text[position : position + 1] == ",":
            position = _past_space(text, position + 1)


def _lists(path: Path, text: str, start: int) -> Rows:
    """The items of the list that begins at ``start``, and of those that follow it."""
    rows: Rows = []
    while text[start : start + 1] == "[":
        found, end = _items(path, text, start)
        rows += found
        start = _past_space(text, end)
    _nothing_behind(path, text, start, "text after the list")
    return rows


def _items(path: Path, text: str, start: int) -> tuple[Rows, int]:
    """The items of a list with the line each begins on, and where the list ends."""
    rows: Rows = []
    position = _past_space(text, start + 1)
    line, counted = text.count("\n", 0, position) + 1, position
    while text[position : position + 1] != "]":
        line, counted = line + text.count("\n", counted, position), position
        item, end = _decode(path, text, position, line)
        rows.append((line, item))
        position = _past_space(text, end)
        if text[position : position + 1] == ",":
            position = _past_space(text, position + 1)
        elif text[position : position + 1] != "]":
            line = text.count("\n", 0, position) + 1
            problem = "not valid JSON (expected ',' or ']')"
            raise InputError(problem, path=path, line=line, fix="Mend that line.")
    return rows, position + 1
