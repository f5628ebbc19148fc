"""What a training run is: its identity, its record, and its place among processes."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path

from malmat.errors import InputError
from malmat.files import digest, file_digest
from malmat.lm.load import OWN_BASE, base_of, fingerprint
from malmat.prompts import load_prompts
from malmat.train.lora import is_adapter

RUN_FILE = "run.json"


ASIDE = ("dry_run", "resume", "overwrite")
"""Options that say what to do now, not what the run is."""


def run_identity(args: argparse.Namespace, method: str) -> str:
    """What determines the trained weights; a run resumes only where this is the same."""
    # Where the result goes, how it is looked at, and how much memory it takes does not change the
    # weights; model and data are named by their content below.
    aside = {*ASIDE, "output_dir", "logging_steps", "report_to", "push_to_hub", "private"}
    aside |= {"gradient_checkpointing", "save_steps", "merge", "allow_leaks", "batch_size"}
    aside |= {"gradient_accumulation_steps", "model_name", "data_path", "eval_data_path"}
    knobs = {name: value for name, value in vars(args).items() if name not in aside}
    return digest(
        {
            "method": method,
            "model": fingerprint(args.model_name),
            "data": data_identity(args.data_path),
            "eval_data": args.eval_data_path and data_identity(args.eval_data_path),
            "prompt": load_prompts()["CHAT"],
            "effective_batch": args.batch_size * args.gradient_accumulation_steps,
            **knobs,
        }
    )


def data_identity(path: str) -> str:
    """``sha256:…`` of a data file; a hub data set goes by its name."""
    return f"sha256:{file_digest(path)}" if Path(path).is_file() else f"hub:{path}"


def root_of(model_name: str) -> str:
    """The model at the bottom of adapters on adapters."""
    while is_adapter(model_name):
        own = json_of(Path(model_name) / OWN_BASE / "malmat.json")
        model_name = own.get("merged_from") or base_of(model_name)
    return model_name


def read_run(output: Path) -> dict:
    """The folder's run.json, empty where there is none that can be read."""
    return json_of(output / RUN_FILE)


def json_of(path: Path) -> dict:
    """A JSON file's object, empty where there is none that can be read."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


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
