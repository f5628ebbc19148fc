"""Rows of models.json: how a model is trained and how it answers, under one name.

A row is ``"NAME": {"script": …, options of that script …, "cpu": …, "answer": {…}}``. Without
``answer`` a trained row answers as the folder ``checkpoints/NAME``; without ``script`` the row
is only answered with. ``"defaults": {…}`` holds what all rows with a ``model_name`` share, and
``rows`` says which training rows a contest's model is given.
"""

from __future__ import annotations

import argparse
import difflib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, ValidationError, model_validator

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.files import read_json, read_text
from malmat.lm.gguf_tokenizer import is_gguf
from malmat.lm.load import short_name

MODELS_FILE = ROOT / "src" / "train" / "models.json"
CHECKPOINTS = ROOT / "checkpoints"

DEFAULTS = "defaults"

API_NAMES = re.compile(r"gemini-|(chat)?gpt-|codex-|ft:|o\d+(-|$)")
"""What the names of Google's and OpenAI's models begin with."""

Kind = Literal["api", "local"]
Count = Annotated[int, Field(ge=1)]
Number = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Above = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Part = Annotated[float, Field(ge=0, le=1)]
Share = Annotated[float, Field(gt=0, le=1)]
Option = bool | int | float | str | list[int | float | str] | None


class Answer(BaseModel):
    """How a row's model answers: what it is, and options of infer.py under their names."""

    model_config = ConfigDict(extra="forbid", strict=True)

    api: str | None = None
    """The name an API, or the server at ``base_url``, knows the model by."""
    model: str | None = None
    """Hub id, folder, or ``embedded``; default for a trained row: its checkpoint."""

    base_url: str | None = None
    extra_body: dict[str, Any] | None = None
    thinking_budget: Annotated[int, Field(ge=-1)] | None = None
    ask_blocked: bool | None = None
    concurrency: Count | None = None
    max_cost: Number | None = None

    adapter: str | None = None
    quantization: Literal["4bit", "8bit"] | None = None
    batch_size: Count | Literal["auto"] | None = None
    trust_remote_code: bool | None = None
    score: Literal["label", "text", "number"] | None = None
    normalization: str | None = None
    until: Literal["turn", "line"] | None = None
    cot: str | None = None

    max_new_tokens: Count | None = None
    temperature: Number | None = None
    top_p: Share | None = None
    top_k: Count | None = None
    min_p: Part | None = None
    repetition_penalty: Above | None = None
    seed: int | None = None

    @property
    def kind(self) -> Kind:
        return "api" if self.api or self.base_url else "local"

    @model_validator(mode="after")
    def _one_kind(self) -> Answer:
        others = {
            "local": (
                *("extra_body", "thinking_budget", "ask_blocked", "concurrency", "max_cost"),
            ),
            "api": (
                *("model", "adapter", "quantization", "batch_size", "trust_remote_code"),
                *("score", "normalization", "until", "cot"),
            ),
        }[self.kind]
        if wrong := [name for name in others if getattr(self, name) is not None]:
            raise ValueError(f"'{wrong[0]}' is not for {self.kind} models")
        return self

    def options(self) -> dict[str, Any]:
        """The options of infer.py that the row gives."""
        return self.model_dump(exclude={"api", "model"}, exclude_none=True)


class Rows(BaseModel):
    """Which rows a model is trained and asked with, where a task can make several."""

    model_config = ConfigDict(extra="forbid", strict=True)

    variant: str
    """Of the task's wording."""

    data: Literal["raw", "refined"] = "raw"


class Row(BaseModel):
    """A row; keys beyond the fields below are options of its training script."""

    model_config = ConfigDict(extra="allow", strict=True, protected_namespaces=())
    __pydantic_extra__: dict[str, Option]

    script: Annotated[str, Field(pattern=r"^train_\w+\.py$")] | None = None
    model_name: str | None = None
    cpu: bool = False
    answer: Answer | None = None
    rows: Rows | None = None
    _path: Path = PrivateAttr(default=MODELS_FILE)

    @model_validator(mode="after")
    def _is_complete(self) -> Row:
        if self.script and not self.model_name:
            raise ValueError("'model_name' is missing")
        if not self.script and not self.answer:
            raise ValueError("neither 'script' nor 'answer' is there")
        if not self.script and (self.model_extra or self.model_name):
            name = next(iter(self.model_extra or {}), "model_name")
            raise ValueError(f"'{name}' is for training, and no 'script' is there")
        if self.answer and self.answer.kind == "local" and not (self.script or self.answer.model):
            raise ValueError("'answer' says neither 'api', 'base_url' nor 'model'")
        return self

    def training_options(self) -> dict[str, Any]:
        """The options of the training script that the row gives."""
        own = {"model_name": self.model_name, **(self.model_extra or {})}
        return {name: value for name, value in own.items() if value is not None}


@dataclass(frozen=True)
class Answering:
    """How a model answers.

    Args:
        name: the model's name in files and reports.
        kind: ``api`` or ``local``.
        model: an API model's name, a hub id, a folder, or ``embedded``.
        options: options of infer.py under their names; the command line goes before them.
    """

    name: str
    kind: Kind
    model: str
    options: dict[str, Any] = field(default_factory=dict)


def read_models(path: str | Path = MODELS_FILE) -> dict[str, Row]:
    """The rows of a models.json by name.

    Raises:
        InputError: naming the file, the line and the field.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError("expected an object of rows", path=path, line=1)
    defaults = values.pop(DEFAULTS, {})
    if not isinstance(defaults, dict):
        line = line_of(path, DEFAULTS)
        raise InputError("expected an object", path=path, line=line, field=DEFAULTS)
    rows = {}
    for name, value in values.items():
        if isinstance(value, dict) and "model_name" in value:
            value = {**defaults, **value}
        try:
            rows[name] = Row.model_validate(value)
        except ValidationError as error:
            raise _refused(path, name, value, error) from None
        rows[name]._path = Path(path)
    return rows


def row_of(rows: dict[str, Row], name: str, path: str | Path) -> Row:
    """One of a file's rows.

    Raises:
        InputError: there is no such row.
    """
    if name not in rows:
        raise InputError(f"no row '{name}'", path=path, fix=f"One of {', '.join(rows)}.")
    return rows[name]


def model_row(name: str, path: str | Path = MODELS_FILE) -> Row:
    """One row of a models.json, read for it alone (``read_models``, ``row_of``)."""
    return row_of(read_models(path), name, path)


def training_command(
    name: str, row: Row, options_of: Callable[[str], argparse.ArgumentParser]
) -> list[str]:
    """A row's training script and its options, as words of a command line.

    Args:
        options_of: a training script's file name → its argument parser.

    Raises:
        InputError: the row has no script, or an option that its script does not take.
    """
    if row.script is None:
        raise _bad_row(row, name, None, "is not trained: it has no 'script'")
    parser = options_of(row.script)
    see = f"See python src/train/{row.script} --help."
    flags = parser._option_string_actions
    words = ["--output_dir", f"checkpoints/{name}"]
    for key, value in row.training_options().items():
        flag = f"--{key}"
        if flag not in flags:
            raise _bad_row(row, name, key, f"not an option of {row.script}", see)
        if flags[flag].nargs == 0 and not isinstance(value, bool):
            raise _bad_row(row, name, key, "expected true or false", see)
        if value is True:
            words.append(flag)
        elif value is False and flags[flag].nargs == 0:
            words += [f"--no-{key}"] if f"--no-{key}" in flags else []
        else:
            words += [flag, *map(str, value if isinstance(value, list) else [value])]
    parser.exit_on_error = False
    try:
        parser.parse_args(words)
    except argparse.ArgumentError as error:
        key = (error.argument_name or "").rpartition("--")[2]
        raise _bad_row(row, name, key, error.message, see) from None
    return [row.script, *words]


def answering(name: str, row: Row) -> Answering:
    """How a row's model answers."""
    own = row.answer or Answer()
    options = own.options()
    if own.kind == "api":
        return Answering(name, "api", own.api or name, options)
    if own.model:
        return Answering(name, "local", own.model, options)
    if (row.model_extra or {}).get("trust_remote_code"):  # the checkpoint has the base's code
        options.setdefault("trust_remote_code", True)
    return Answering(name, "local", str(CHECKPOINTS / name), options)


def answering_for(
    model: str,
    *,
    kind: Kind | None = None,
    base_url: str | None = None,
    path: str | Path = MODELS_FILE,
) -> Answering:
    """How ``model``, as given on a command line, answers.

    ``embedded`` is the embedded model, of whatever rows have that name, too. Another row's name
    means that row, unless it is asked for in another way than the row says: a trained model that
    a server at ``base_url`` answers for is an API model. All else is a local model if it is
    ``embedded``, a path or a hub id, and an API model if there is a server for it or it has a name
    of Google's or OpenAI's.

    Args:
        kind: what the command line says, None where it says nothing.
        base_url: a server of one's own.

    Raises:
        InputError: models.json cannot be read, or the name says nothing of where the model is.
    """
    server = base_url or os.environ.get("OPENAI_BASE_URL")
    kind = kind or ("api" if base_url else None)
    rows = {} if model == "embedded" else read_models(path)
    if model in rows:
        how = answering(model, rows[model])
        if kind in (None, how.kind):
            return how
    name = short_name(model)
    if kind is None:
        is_path = model.startswith((".", "/", "~")) or is_gguf(model) or Path(model).is_dir()
        hub_id = "/" in model and not name.startswith("gemini") and not server
        kind = "local" if model == "embedded" or is_path or hub_id else "api"
        if kind == "api" and not (server or API_NAMES.match(name)):
            raise _unknown(model, rows, path)
    return Answering(name, kind, model)


def _unknown(model: str, rows: dict[str, Row], path: str | Path) -> InputError:
    known = {folder.name: f"checkpoints/{folder.name}" for folder in CHECKPOINTS.glob("*/")}
    known |= {name: name for name in ("embedded", *rows)}
    near = difflib.get_close_matches(model, known, 1, cutoff=0.7)
    guess = f"Did you mean {known[near[0]]}? " if near else ""
    problem = f"'{model}' is no row of {Path(path).name}, folder, hub id or known API model"
    fix = f"{guess}What another server or API knows needs --base_url or --type api."
    return InputError(problem, field="model", fix=fix)


def _bad_row(
    row: Row, name: str, key: str | None, problem: str, fix: str | None = None
) -> InputError:
    line = line_of(row._path, name, *([key] if key else []))
    return InputError(problem, path=row._path, line=line, field=key or name, fix=fix)


def _refused(path: str | Path, name: str, value: Any, error: ValidationError) -> InputError:
    """The first of pydantic's errors about a row, with its place in the file."""
    first, keys = error.errors()[0], []
    for part in first["loc"]:  # pydantic adds the branches of a union to the keys
        if not isinstance(value, dict) or part not in value:
            break
        keys.append(str(part))
        value = value[part]
    problem, fix = first["msg"].removeprefix("Value error, "), None
    if first["type"] == "extra_forbidden":
        known = Rows if keys[:1] == ["rows"] else Answer
        problem, fix = "no such key", f"One of {', '.join(known.model_fields)}."
    return InputError(
        problem, path=path, line=line_of(path, name, *keys), field=".".join(keys) or name, fix=fix
    )


def line_of(path: str | Path, *keys: str) -> int:
    """The line of a nested key: each of ``keys`` is looked for from the one before it on."""
    lines, found = read_text(path).split("\n"), 1
    for key in keys:
        for number in range(found, len(lines) + 1):
            if re.search(rf'"{re.escape(key)}"\s*:', lines[number - 1]):
                found = number
                break
    return found
