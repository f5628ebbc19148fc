"""The record beside a file of answers: its settings, time and cost, and whose answers they are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from malmat.cli import provenance, relative
from malmat.errors import InputError
from malmat.evaluate.results import run_record
from malmat.files import read_json, write_json
from malmat.journal import Journal


@contextlib.contextmanager
def measured(output: Path, journal: Journal, settings: dict, configuration: str) -> Iterator[None]:
    """Write down settings, provenance and time of a run, also of one that is cut short.

    ``run`` in the file: ``seconds`` (wall time, loading included) and ``items`` (answers that
    came in it) of this run and of those before it that this one goes on from, with their ratio:
    those of the same ``configuration`` (model, prompt and sampling, as a digest). Only what a
    hard kill cut off is missing from it.
    """
    path, before, start = run_record(output), len(journal), time.monotonic()
    known: dict[str, Any] = {"seconds": 0.0, "items": 0, "configuration": configuration}
    if before and path.exists():
        earlier = read_json(path).get("run", {})
        if earlier.get("configuration") == configuration:
            known |= earlier
    try:
        yield
    finally:
        run = dict(known)
        if new := len(journal) - before:
            run["items"] += new
            run["seconds"] = round(run["seconds"] + time.monotonic() - start, 2)
            run["items_per_second"] = round(run["items"] / max(run["seconds"], 0.01), 3)
        write_json(path, {"settings": settings, "provenance": provenance(), "run": run})


def refuse_another_models(output: Path, settings: dict, *, named: bool) -> None:
    """Keep a file of answers from being overwritten with those of a model whose name ends alike.

    Args:
        settings: of this run, with ``model`` and ``adapter``.
        named: the user chose the file's name, so that its answers may be replaced, which is said.

    Raises:
        InputError: the record beside ``output`` names another model, and ``named`` is False.
    """
    path = run_record(output)
    if not path.exists() or not output.exists():
        return
    earlier = read_json(path).get("settings", {})
    if all(_place(earlier.get(n)) == _place(settings.get(n)) for n in ("model", "adapter")):
        return
    whose = str(earlier.get("adapter") or earlier.get("model"))
    if not named:
        raise InputError(
            f"holds the answers of {whose}, another model of that name",
            path=output,
            field="name",
            fix="Give this model a name of its own with --name.",
        )
    print(f"  {relative(output)} holds the answers of {whose}: they are replaced")


def _place(name: object) -> str:
    """A model's name; a folder's, however it is written."""
    return str(Path(str(name)).resolve()) if Path(str(name)).exists() else str(name)


def refuse_another_scorers(output: Path, scorer: str) -> None:
    """As ``refuse_another_models``, of verdicts.

    Raises:
        InputError: ``output`` holds the verdicts of a scorer whose name only ends alike.
    """
    try:
        earlier = read_json(output)
    except InputError:
        return
    other = earlier.get("scorer_name") if isinstance(earlier, dict) else None
    if other and other != scorer:
        raise InputError(
            f"holds the verdicts of {other}, another scorer of that name",
            path=output,
            field="scorer_name",
            fix="Give another file with --output.",
        )
