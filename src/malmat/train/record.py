"""What a training run is: its identity, its record, and its place among processes."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from malmat.errors import InputError
from malmat.files import digest, file_digest
from malmat.lm.load import OWN_BASE, RUN_FILE, base_of, fingerprint
from malmat.train.settings import ASIDE, TrainSettings

_NO_KNOBS = {
    *ASIDE,
    # Where the result goes, how it is looked at and described, what is checked beforehand, and how
    # much memory it takes does not change the weights.
    *("output_dir", "logging_steps", "report_to", "push_to_hub", "private", "card", "merge"),
    *("tasks", "allow_leaks", "gradient_checkpointing", "save_steps"),
    # These are part of the identity by what they stand for.
    *("batch_size", "gradient_accumulation_steps", "wording", "model_name"),
    *("data_path", "eval_data_path"),
}


_LOGGED = {  # as the trainers log it → in run.json
    "loss": "loss",
    "eval_loss": "eval_loss",
    "learning_rate": "learning_rate",
    "rewards/accuracies": "reward_accuracy",
    "rewards/margins": "reward_margin",
    "eval_rewards/accuracies": "eval_reward_accuracy",
    "eval_rewards/margins": "eval_reward_margin",
}


_AT_START = ("log_ratio", "chosen_tokens", "rejected_tokens")
"""What ``reference.BeginsAsReference`` logs of preference rows before the first step."""


def losses_of(log: list[dict]) -> list[dict]:
    """The steps of a trainer's log that have a loss, in the names of run.json."""
    return [
        {"step": row["step"], **{to: row[name] for name, to in _LOGGED.items() if name in row}}
        for row in log
        if "loss" in row or "eval_loss" in row
    ]


def reference_of(log: list[dict]) -> dict | None:
    """What a trainer's log says of policy and reference before the first step, or None."""
    found = (row for row in log if "log_ratio" in row)
    return next(({name: row[name] for name in _AT_START} for row in found), None)


def counted(facts: dict) -> str:
    """The training rows that ``checks.check`` counted, in words: ``1,234 examples``.

    ``facts["unit"]`` is ``pairs`` where two examples, the better and the worse, are a row; runs of
    before have no unit.
    """
    unit = facts.get("unit", "examples")
    return f"{facts['examples'] // (2 if unit == 'pairs' else 1):,} {unit}"


def run_identity(settings: TrainSettings, wording: str | None) -> str:
    """What determines the trained weights; a run resumes only where this is the same.

    Args:
        wording: the text that bare questions are put into; None where the data has none,
            so that its edits do not touch the run.
    """
    knobs = {name: v for name, v in settings.options().items() if name not in _NO_KNOBS}
    if wording is not None:
        knobs["prompt"] = wording
    return digest(
        {
            "model": fingerprint(settings.model_name),
            "data": data_identity(settings.data_path),
            "eval_data": settings.eval_data_path and data_identity(settings.eval_data_path),
            "effective_batch": settings.batch_size * settings.gradient_accumulation_steps,
            **knobs,
        }
    )


def data_identity(path: str) -> str:
    """``sha256:…`` of a data file; a hub data set goes by its name."""
    return f"sha256:{file_digest(path)}" if Path(path).is_file() else f"hub:{path}"


def root_of(model_name: str) -> str:
    """The model at the bottom of adapters on adapters."""
    while (base := base_of(model_name)) is not None:
        own = json_of(Path(model_name) / OWN_BASE / "malmat.json")
        model_name = own.get("merged_from") or base
    return model_name


def wording_note(model: str, asked: Mapping[str, str]) -> str | None:
    """A line where a model of ours is asked in other words than it was trained with.

    Args:
        model: its folder, its merged model's, or a checkpoint's; other models are passed over.
        asked: what bare questions are put into now, by the constants' names.
    """
    record = run_of(model)
    trained = record.get("wording")
    if "wording" not in record or not asked or trained in asked.values():
        return None
    names = " or ".join(asked)
    if trained is None:
        return f"note: {model} was trained on messages as they stand, without {names}, used here"
    return f"note: {model} was trained with another wording than {names} is now: {trained[:80]!r} …"


def run_of(model: str) -> dict:
    """The run.json of the run that left a model, its merged model or a checkpoint; empty for
    other models."""
    folder = Path(model)
    return next(filter(None, (read_run(f) for f in (folder, folder.parent))), {})


def read_run(output: Path) -> dict:
    """The folder's run.json, empty where there is none that can be read."""
    return json_of(output / RUN_FILE)


def json_of(path: Path) -> dict:
    """A JSON file's object, empty where there is none that can be read."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def world_size() -> int:
    """Processes of the launcher (Accelerate, torchrun), 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process's number among them; 0 speaks and writes."""
    return int(os.environ.get("RANK", "0"))


def batch_shape(batch_size: int, accumulation: int, processes: int) -> tuple[int, int]:
    """(examples a device, accumulation steps) that keep the effective batch on any number of
    processes: ``batch_size × accumulation``, with at most ``batch_size`` on a device.

    Raises:
        InputError: the effective batch cannot be shared out evenly.
    """
    effective = batch_size * accumulation
    for size in range(batch_size, 0, -1):
        if effective % (size * processes) == 0:
            return size, effective // (size * processes)
    raise InputError(
        f"an effective batch of {effective} cannot be shared out to {processes} processes",
        field="gradient_accumulation_steps",
        fix=f"Make batch_size × gradient_accumulation_steps a multiple of {processes}.",
    )
