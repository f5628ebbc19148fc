"""Reads what a model wrote: the JSON object that it was asked for, and its thoughts apart."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from malmat.text.korean import is_blank

_NAMES = r"(?:think(?:ing)?|thoughts?|reason(?:ing)?|analysis|scratchpad|reflection)"

_TAG = re.compile(
    rf"(?P<opens><(?:seed:)?{_NAMES}(?:\s[^<>]*)?>|<\|(?:begin_of_)?{_NAMES}\|>|◁think▷"
    r"|\[THINK\]|<\|START_THINKING\|>|<\|channel>thought\b)"
    rf"|</(?:seed:)?{_NAMES}\s*>|<\|(?:/|end_of_){_NAMES}\|>|◁/think▷"
    r"|\[/THINK\]|<\|END_THINKING\|>|<channel\|>",
    re.IGNORECASE,
)
"""Where thoughts begin and end: Qwen, DeepSeek, EXAONE, Seed; Sky-T1; Kimi; Mistral; Command;
Gemma 4."""

_FRAME = re.compile(
    r"<\|(?:START|END)_RESPONSE\|>|<\|(?:begin|end)_of_solution\|>|^\s*<answer>|</answer>\s*$",
    re.IGNORECASE,
)
"""What stands around an answer that follows thoughts: Command, Sky-T1, models in R1's manner."""

_HARMONY = re.compile(r"<\|channel\|>\s*(?P<channel>\w+)[^<]*<\|message\|>")
"""The head of a message in OpenAI's harmony format, which gpt-oss writes."""

_HARMONY_END = re.compile(r"<\|(?:end|return|call|start)\|>")

_HARMONY_BARE = re.compile(r"analysis(?P<thoughts>.*?)assistant\s*final(?P<text>.*)", re.DOTALL)
"""The same, without its special tokens, as some servers pass it on."""


class Parts(NamedTuple):
    """A model's text: the answer, its thoughts ("" for none), whether they reached their end."""

    text: str
    thoughts: str
    whole: bool = True


def split_thoughts(text: str) -> Parts:
    """Split a model's text into its answer and the thoughts that stand in it.

    Thoughts are ``<think>…</think>``, ``<thought>``, ``[THINK]`` and their like, all that comes
    before a lone closing tag, and the channels of the harmony format other than ``final``.
    A text without any of them comes back as it is.
    """
    if _HARMONY.search(text):
        return _split_harmony(text)
    if bare := _HARMONY_BARE.fullmatch(text.strip()):
        return Parts(bare["text"].strip(), bare["thoughts"].strip())
    kept: list[str] = []
    thoughts: list[str] = []
    end, inside = 0, False
    for tag in _TAG.finditer(text):
        opens = tag["opens"] is not None
        if inside and opens:
            continue
        part, end = text[end : tag.start()], tag.end()
        if inside:
            thoughts.append(part)
        elif opens:
            kept.append(part)
        else:  # the opening stands in the prompt
            thoughts.append("".join([*kept, part]))
            kept = []
        inside = opens
    if not end:
        return Parts(text, "")
    (thoughts if inside else kept).append(text[end:])
    answer = _FRAME.sub("", "".join(kept)).strip()
    return Parts(answer, _joined(thoughts), whole=not inside)


def _split_harmony(text: str) -> Parts:
    heads = list(_HARMONY.finditer(text))
    said: dict[bool, list[str]] = {True: [], False: []}
    for head, following in zip(heads, [*heads[1:], None], strict=True):
        body = text[head.end() : following.start() if following else len(text)]
        said[head["channel"] == "final"].append(_HARMONY_END.split(body, maxsplit=1)[0])
    return Parts(_joined(said[True]), _joined(said[False]), whole=bool(said[True]))


def _joined(texts: Iterable[str]) -> str:
    return "\n\n".join(text for part in texts if (text := part.strip()))


def without_thoughts(record: dict) -> dict:
    """A reply's record with the thoughts in its ``text`` moved into ``thoughts``.

    One that is ``ok`` and holds nothing else is ``empty``, or ``truncated`` where the thoughts do
    not come to an end.
    """
    parts = split_thoughts(record["text"])
    if not parts.thoughts and parts.text == record["text"]:
        return record
    thoughts = _joined([record.get("thoughts") or "", parts.thoughts])
    record = {**record, "text": parts.text} | ({"thoughts": thoughts} if thoughts else {})
    if record["status"] == "ok" and is_blank(parts.text):
        record["status"] = "empty" if parts.whole else "truncated"
    return record


def thoughts_apart(row: dict) -> dict:
    """As ``without_thoughts``, of a row with an ``answer`` and, it may be, without a ``status``."""
    status = row.get("status", "ok")
    record = without_thoughts({**row, "text": row["answer"], "status": status})
    if record["text"] == row["answer"]:
        return row
    changed = {name: record[name] for name in ("thoughts",) if name in record}
    if record["status"] != status:
        changed["status"] = record["status"]
    return {**row, "answer": record["text"], **changed}


# --------------------------------------------------------------------------- JSON


class _Doubled(dict):
    """An object in which one key has two values."""


def _object(pairs: list[tuple[str, Any]]) -> dict:
    """An object with its keys in lower case."""
    found: dict[str, Any] = {}
    doubled = False
    for name, value in ((name.strip().lower(), value) for name, value in pairs):
        doubled = doubled or (name in found and not _same(found[name], value))
        found[name] = value
    return _Doubled(found) if doubled else found


def _same(one: Any, other: Any) -> bool:
    """Whether two values are one as JSON, where 1 is not true."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_no_number, strict=False)

_MARK = re.compile(rf"(?P<object>{{\s*[\"}}])|{_TAG.pattern}", re.IGNORECASE)

_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'

_TOKEN = re.compile(_STRING + r'|[{}\[\]"]', re.DOTALL)

_MENDABLE = re.compile(
    rf"(?P<string>{_STRING})|(?P<word>\b(?:True|False|None)\b)|(?P<mark>[：，])"
    r"|(?P<blank>[\u00a0\u2000-\u200b\u2060\u3000\ufeff])|,(?=\s*[}\]])",
    re.DOTALL,
)

_MENDED = {"True": "true", "False": "false", "None": "null", "：": ":", "，": ","}

_BAD_ESCAPE = re.compile(r'(\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))|\\(?!u)')


def _end_of(text: str, start: int) -> int | None:
    """The index behind the object that begins at ``start``; None where it does not end."""
    depth = 0
    for token in _TOKEN.finditer(text, start):
        if token[0] == '"':
            return None
        depth += (token[0] in "{[") - (token[0] in "}]")
        if not depth:
            return token.end()
    return None


def _mended(text: str) -> str:
    """JSON without the commas before a closing bracket and the backslashes that escape nothing,
    with JSON's own blanks, marks and words for other ones outside strings."""

    def mend(found: re.Match) -> str:
        if (string := found["string"]) is not None:
            return _BAD_ESCAPE.sub(lambda m: m[1] or "", string)
        return " " if found["blank"] else _MENDED.get(found[0], "")

    return _MENDABLE.sub(mend, text)


def _objects(text: str) -> list[dict | str]:
    """The outermost objects of a text, each one that cannot be read as the text that it is.

    What stands in thoughts does not count. A tag inside an object is text of its.
    """
    end, inside, found = 0, False, list[dict | str]()
    for mark in _MARK.finditer(text):
        if mark.start() < end:
            continue
        if mark["opens"]:
            inside = True
        elif not mark["object"]:
            found, inside = ([] if not inside else found), False
        elif not inside:
            end = _end_of(text, mark.start()) or len(text)
            found.append(_read(text[mark.start() : end]))
    return found


def _decoded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except RecursionError:
        raise ValueError("nested too deep") from None


def read_json(text: str) -> Any:
    """A JSON value that a model wrote, the keys of its objects in lower case.

    Line breaks in strings, a comma before a bracket and a backslash that escapes nothing do not
    matter.

    Raises:
        ValueError: it cannot be read.
    """
    try:
        return _decoded(text)
    except ValueError:
        return _decoded(_mended(text))


def _read(text: str) -> dict | str:
    with contextlib.suppress(ValueError):
        return read_json(text)
    return text


def _fault(text: str) -> str:
    """Why a text is no JSON."""
    try:
        _decoded(text)
    except ValueError as error:
        return str(error)
    return ""


def _holders(value: Any, field: str) -> Iterator[dict]:
    """The objects that have the field, at any depth."""
    if isinstance(value, dict):
        if field in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from _holders(part, field)


def _any_doubled(value: Any) -> bool:
    if isinstance(value, dict):
        return isinstance(value, _Doubled) or any(map(_any_doubled, value.values()))
    return isinstance(value, list) and any(map(_any_doubled, value))


def parse_object(text: str, field: str, *beside: str) -> dict:
    """The JSON object of a model's reply: the one that has the field, its keys in lower case.

    What stands around it (a fence, a greeting) is passed over, thoughts and objects without the
    field too. Line breaks in strings, a comma before a bracket, a backslash that escapes nothing,
    and an object around the one with the field do not matter.

    Args:
        beside: further fields that are read. Objects that differ in one of them contradict.

    Raises:
        ValueError: no readable object with that field, or it cannot be said which one counts:
            two differ, a key stands twice with two values, or another one that cannot be read
            gives the field another number, true or false.
    """
    if _HARMONY.search(text):
        text = split_thoughts(text).text
    objects = _objects(text)
    found = [holder for value in objects for holder in _holders(value, field)]
    # The form repeated with words for its values ("score": "1 to 5") is no second reply.
    worded = [isinstance(_plain(one[field]), str) for one in found]
    if not all(worded):
        found = [one for one, is_worded in zip(found, worded, strict=True) if not is_worded]
    if not found:
        unread = [_fault(value) for value in objects if isinstance(value, str)]
        reason = f" ({unread[-1]})" if unread else ""
        raise ValueError(f"no JSON object with '{field}' in the reply{reason}")
    if any(map(_any_doubled, found)):
        raise ValueError("a key stands twice in the reply's JSON")
    first = found[0]
    said = {_verdict(one, field, beside) for one in found}
    for value in objects:
        if isinstance(value, str):
            said |= {_verdict(first | {field: v}, field, beside) for v in _stated(value, field)}
    if len(said) > 1:
        raise ValueError(f"two JSON objects with '{field}' in the reply, which differ")
    return first


def _plain(value: Any) -> Any:
    """A number, true or false that is written as text, as what it is."""
    with contextlib.suppress(ValueError, RecursionError):
        read = json.loads(value.lower()) if isinstance(value, str) else value
        return read if isinstance(read, (bool, int, float)) else value
    return value


def _verdict(found: dict, field: str, beside: tuple[str, ...]) -> str:
    """What is compared of an object."""
    values = [_plain(found[field]), *(found.get(name) or "" for name in beside)]
    return json.dumps(values, sort_keys=True)


def _stated(text: str, field: str) -> list[str]:
    """The numbers, true or false that JSON which cannot be read gives the field."""
    plain = r"-?\d+(?:\.\d+)?|true|false"
    return re.findall(rf'"{field}"\s*:\s*"?({plain})"?\s*[,}}]', text, re.IGNORECASE)


def whole_number(value: Any) -> int | None:
    """A whole number, also one that is written as text; None for anything else."""
    if isinstance(value, str) and re.fullmatch(r"\s*-?\d{1,9}(\.0+)?\s*", value):
        value = float(value)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or value % 1:
        return None
    return int(value)
