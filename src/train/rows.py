"""Turn rows of models.json into training commands, one a line (train_all.sh runs them).

    python src/train/rows.py                         # the rows that fit this machine
    python src/train/rows.py Qwen3-8B-malmat-full embedded-malmat-lora
    python src/train/rows.py --table Qwen3-8B-malmat-full      # what came of them

Reads   models.json: a name → {script, model_name, options of that script …}; ``cpu: true``
        marks a row for machines without a GPU. With --table checkpoints/NAME/run.json.
Prints  NAME<tab>COMMAND a line, or a table. An unknown key is refused, with file and line.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

from malmat.cli import ROOT, parser, run, show_table
from malmat.errors import InputError
from malmat.files import check_fields, read_json, read_text
from malmat.train.record import read_run

HERE = Path(__file__).parent


def main() -> None:
    options = parser(__doc__)
    options.add_argument("names", nargs="*", help="rows to train")
    options.add_argument("--models", default=str(HERE / "models.json"))
    options.add_argument("--gpu", action="store_true", help="with no names: the GPU rows")
    options.add_argument("--table", action="store_true", help="what came of the named runs")
    options.add_argument("--failed", nargs="*", default=[], help="of those, the ones that failed")
    args = options.parse_args()
    if args.table:
        head = ("run", "status", "steps", "loss", "held out", "tokens/s", "GiB", "minutes")
        show_table([head, *(outcome(name, name in args.failed) for name in args.names)])
        return
    rows = read_json(args.models)
    if not isinstance(rows, dict):
        raise InputError("expected an object of rows", path=args.models, line=1)
    for name, row in rows.items():
        check_fields({"row": row}, {"row": dict}, path=args.models, line=line_of(args.models, name))
    names = args.names or [n for n, row in rows.items() if bool(row.get("cpu")) != args.gpu]
    for name in names:
        if name not in rows:
            raise InputError(f"no row '{name}'", path=args.models, fix=f"One of {', '.join(rows)}.")
        print(f"{name}\t{command(name, rows[name], args.models)}")


def outcome(name: str, failed: bool) -> tuple[str, ...]:
    """A run's line in the table, from its run.json."""
    record = read_run(ROOT / "checkpoints" / name)
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


def command(name: str, row: dict, path: str) -> str:
    line = line_of(path, name)
    check_fields(row, {"script": str, "model_name": str}, path=path, line=line)
    script = HERE / row["script"]
    if not re.fullmatch(r"train_\w+\.py", row["script"]) or not script.is_file():
        raise InputError("no such training script", path=path, line=line, field="script")
    known = options_of(script)
    words = ["--output_dir", f"checkpoints/{name}"]
    for key, value in row.items():
        if key in ("script", "cpu"):
            continue
        if key not in known:
            raise InputError(
                f"not an option of {row['script']}",
                path=path,
                line=line_of(path, key, line),
                field=key,
                fix=f"See python src/train/{row['script']} --help.",
            )
        if value is True:
            words.append(f"--{key}")
        elif value is not False:
            words += [f"--{key}", *map(str, value if isinstance(value, list) else [value])]
    return shlex.join([row["script"], *words])


def options_of(script: Path) -> set[str]:
    """The option names that a script's own --help lists."""
    shown = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"--(\w+)", shown.stdout))


def line_of(path: str, key: str, start: int = 1) -> int:
    lines = read_text(path).split("\n")
    for number in range(start, len(lines) + 1):
        if f'"{key}"' in lines[number - 1]:
            return number
    return start


if __name__ == "__main__":
    run(main)
