"""Row schemas: pydantic models, whose errors come as one line with file, line and field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, ValidationError
from pydantic_core import PydanticCustomError

from malmat.errors import InputError


def unfit(problem: str, *, field: str | None = None, fix: str | None = None) -> Exception:
    """The error that a validator raises; ``validate`` says file and line.

    Args:
        field: the field to blame, in a validator of the whole row.
        fix: what the user can do about it.
    """
    return PydanticCustomError("unfit", "{problem}", {"problem": problem, "at": field, "fix": fix})


def _not_blank(text: str) -> str:
    if not text.strip():
        raise unfit("empty")
    return text


Text = Annotated[str, AfterValidator(_not_blank)]
"""A field of text that is not blank."""


OptionalText = Annotated[str, BeforeValidator(lambda value: str(value or ""))]
"""A field of text that may be missing or null: empty then. A number is taken as text."""


class Row(BaseModel):
    """The base of all row schemas: no value is converted, keys beyond the fields are kept."""

    # A schema is built when first used: no --help waits for it.
    model_config = ConfigDict(strict=True, extra="allow", defer_build=True)


Schema = TypeVar("Schema", bound=BaseModel)


def validate(
    model: type[Schema], row: Any, *, path: str | Path, line: int | None = None, where: str = ""
) -> Schema:
    """``row`` as an instance of ``model``.

    Args:
        where: the row's own place in the file, as ``conversations[2]``.

    Raises:
        InputError: naming file, line, the first field that does not fit, and the reason.
    """
    try:
        return model.model_validate(row)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
    context, field = first.get("ctx", {}), where
    for part in (*first["loc"], context.get("at")):
        if isinstance(part, int):
            field += f"[{part}]"
        elif part:
            field += f".{part}" if field else part
    reason, fix, loc = _reason(first), context.get("fix"), first["loc"]
    found = row if len(loc) == 1 else first["input"]
    if reason == "missing" and loc and isinstance(found, dict) and loc[-1] not in found:
        fix = f"Its keys are {', '.join(map(str, found))[:100] or 'none'}."
    raise InputError(reason, path=path, line=line, field=field or None, fix=fix)


_EXPECTED = {
    "model_type": "an object",
    "string_type": "str",
    "list_type": "list",
    "dict_type": "dict",
    "int_type": "int",
    "bool_type": "bool",
}
"""pydantic's types of error that say: the value is of another type."""


def _reason(error: Any) -> str:
    kind, value = error["type"], error["input"]
    if kind == "missing" or (error["loc"] and value is None):
        return "missing"
    if kind in _EXPECTED:
        return f"expected {_EXPECTED[kind]}, found {type(value).__name__}"
    if kind == "literal_error":
        return f"expected {error['ctx']['expected']}, found {value!r:.60}"
    return error["msg"]
