"""Train rows of models.json, one after the other, and show what came of them.

    python src/train/rows.py                       # the rows that fit this machine
    python src/train/rows.py Qwen3-8B-malmat-full embedded-malmat-lora
    python src/train/rows.py --args="--max_steps 2" --dry_run    # only the commands

Reads   models.json: a name → {script, model_name, options of that script …}; ``cpu: true``
        marks a row for machines without a GPU. Everything is checked before anything runs.
Writes  checkpoints/NAME (or --output_dir/NAME), by the row's script; a table of the runs, from their run.json, is
        printed at the end. A row that fails does not stop the others.
"""

from __future__ import annotations

import argparse
import importlib
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

from evaluated import stale_split

from malmat.cli import BAD_INPUT, COMPLETE, FAILURES, INTERRUPTED, ROOT, parser, run, show_table
from malmat.errors import InputError
from malmat.models import MODELS_FILE, Row, read_models, row_of, training_command
from malmat.train.record import read_run

HERE = Path(__file__).parent
DATA = "data/train.jsonl"
HELD_OUT = ("--eval_data_path", "data/heldout.jsonl", "--eval_limit", "200")


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("names", nargs="*", help="rows to train")
    options.add_argument("--models", default=str(MODELS_FILE))
    options.add_argument("--data_path", default=DATA, help="training rows")
    options.add_argument("--output_dir", default="checkpoints", help="the runs' folder")
    options.add_argument("--args", default="", help="more options for every row")
    options.add_argument("--launch", default="", help="a launcher, as 'accelerate launch …'")
    options.add_argument("--dry_run", action="store_true", help="show the commands, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    rows = read_models(args.models)
    names = args.names or [name for name, row in rows.items() if fits(row)]
    chosen = {name: row_of(rows, name, args.models) for name in names}
    commands = {name: training_command(name, row, options_of) for name, row in chosen.items()}

    if line := stale_split(args.data_path):
        print(line, flush=True)
    launcher = args.launch.split() or [sys.executable]
    more = ["--data_path", args.data_path]
    if args.data_path == DATA and (ROOT / HELD_OUT[1]).is_file():
        more += HELD_OUT
    more += args.args.split()
    failed = []
    for name, (script, *words) in commands.items():
        own = ["--output_dir", f"{args.output_dir}/{name}"]
        command = [*launcher, f"src/train/{script}", *words, *own, *more]
        print(f"\n=== {name}", flush=True)
        if args.dry_run:
            print(shlex.join(command))
        elif status := exit_code(command):
            if status in (INTERRUPTED, -signal.SIGINT):
                return INTERRUPTED
            failed.append(name)
    if args.dry_run:
        return COMPLETE
    print("\n=== result")
    head = ("run", "status", "steps", "loss", "held out", "tokens/s", "GiB", "minutes")
    show_table([head, *(outcome(Path(args.output_dir) / n, n in failed) for n in names)])
    return FAILURES if failed else COMPLETE


def fits(row: Row) -> bool:
    """Whether a row is trained, on a machine of this kind."""
    return row.script is not None and row.cpu != has_gpu()


def has_gpu() -> bool:
    found = shutil.which("nvidia-smi")
    return found is not None and subprocess.run([found], capture_output=True).returncode == 0


def options_of(script: str) -> argparse.ArgumentParser:
    """The argument parser of a training script beside this one."""
    if not (HERE / script).is_file():
        raise InputError("no such training script", path=HERE / script, field="script")
    return importlib.import_module(script.removesuffix(".py")).build_parser()


def exit_code(command: list[str]) -> int:
    """Run a command from the repository and wait for its end.

    A Ctrl-C reaches the command too, which saves what it has before it ends.
    """
    try:
        child = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.DEVNULL)
    except OSError as error:
        print(f"error: {command[0]}: {error.strerror}", file=sys.stderr)
        return BAD_INPUT
    try:
        return child.wait()
    except KeyboardInterrupt:
        child.wait()
        return INTERRUPTED


def outcome(folder: Path, failed: bool) -> tuple[str, ...]:
    """A run's line in the table, from its run.json."""
    name, record = folder.name, read_run(ROOT / folder)
    if failed:  # whatever an earlier run has left there
        return (name, "failed", *[""] * 6)
    if record.get("status") != "done":
        return (name, "unfinished" if record else "not begun", *[""] * 6)
    speed, held = record["speed"], record["heldout_loss"]
    losses = [row["loss"] for row in record["losses"] if "loss" in row]
    return (
        name,
        "stopped early" if record["stopped_early"] else "trained",
        str(record["losses"][-1]["step"] if record["losses"] else speed["steps"]),
        f"{losses[-1]:.3f}" if losses else "",
        "" if held is None else f"{held:.3f}",
        f"{speed['tokens_per_s']:,.0f}",
        f"{speed['peak_memory_gib']:.1f}",
        f"{speed['seconds'] / 60:.1f}",
    )


if __name__ == "__main__":
    run(main)
