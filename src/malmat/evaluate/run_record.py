"""The record beside a file of answers: its settings, time and cost, and whose answers they are."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from malmat.cli import provenance, relative
from malmat.errors import InputError, StopRunning
from malmat.evaluate.results import run_record
from malmat.files import read_json, write_json
from malmat.journal import Journal


@contextlib.contextmanager
def measured(output: Path, journal: Journal, configuration: str) -> Iterator[dict[str, Any]]:
    """Measure a run; what is given is filled at the end of the block.

    It holds ``seconds`` (wall time, loading included) and ``items`` (answers that came in it) of
    this run and of those before it that this one goes on from, with their ratio: those of the
    same ``configuration`` (model, prompt and sampling, as a digest). Only what a hard kill cut
    off is missing. A run that is cut short leaves them in a file of its own, and the record of an
    earlier one as it is.
    """
    before, start = len(journal), time.monotonic()
    run: dict[str, Any] = {"seconds": 0.0, "items": 0, "configuration": configuration}
    for path in (run_record(output), _cut_short(output)):
        earlier = read_json(path).get("run", {}) if before and path.exists() else {}
        if earlier.get("configuration") == configuration:
            run |= earlier
    finished = False
    try:
        yield run
        finished = True
    finally:
        if new := len(journal) - before:
            run["items"] += new
            run["seconds"] = round(run["seconds"] + time.monotonic() - start, 2)
            run["items_per_second"] = round(run["items"] / max(run["seconds"], 0.01), 3)
            if not finished:
                write_json(_cut_short(output), {"run": run})


def _cut_short(output: Path) -> Path:
    """Where the time of runs stands that did not come to their end."""
    return output.with_suffix(".run.part.json")


def save_record(output: Path, settings: dict, run: dict) -> None:
    """Write down a finished run's settings, provenance, and what was measured of it."""
    record = {"settings": settings, "provenance": provenance(), "run": run}
    write_json(run_record(output), record)
    _cut_short(output).unlink(missing_ok=True)


def keep_where_nothing_came(output: Path, rows: Iterable[dict]) -> None:
    """Keep an earlier file from being overwritten by a run in which nothing came.

    Raises:
        StopRunning: ``output`` exists, and no row (``status``, ``answer``, ``error``) has a reply.
    """
    rows = list(rows)
    lost = [r for r in rows if r["status"] in ("api_error", "parse_error") and not r["answer"]]
    if rows and len(lost) == len(rows) and output.exists():
        raise StopRunning(
            f"nothing came ({rows[0].get('error')}): {relative(output)} is left as it was. "
            "Progress is kept"
        )


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
