"""One table and one file of what bench/gpu.sh's steps found.

    python bench/gpu_table.py runs/gpu --output runs/gpu/all.json

Reads   the folder's JSON files, one a step.
Prints  a line a way that was trained, then a line a figure of the other steps.
Writes  --output: step → its figures, with the machine and the versions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from train_gpu import line_of

from malmat.cli import parser, provenance, relative, run, show_table
from malmat.files import read_json, write_json


def main() -> None:
    options = parser(__doc__)
    options.add_argument("folder")
    options.add_argument("--output", required=True)
    args = options.parse_args()
    import torch

    files = sorted(Path(args.folder).glob("*.json"))
    found = {p.stem: read_json(p) for p in files if p.resolve() != Path(args.output).resolve()}
    trained = {step: one for step, one in found.items() if "card" in one}
    if trained:
        head = ("step", "way", "tokens/s", "of bf16 peak", "GiB", "estimated", "losses", "seconds")
        lines = [
            (step, *line_of(row)[1:]) for step, one in trained.items() for row in one["figures"]
        ]
        show_table([head, *lines])
    others = {step: one for step, one in found.items() if step not in trained}
    lines = [(step, name, said) for step, one in others.items() for name, said in figures(one)]
    if lines:
        print()
        show_table([("step", "figure", "value"), *lines])
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    write_json(args.output, {"card": card, "steps": found, "provenance": provenance()})
    print(f"wrote {relative(args.output)}")


def figures(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """The numbers in a step's figures, each under the names that lead to it."""
    if isinstance(value, dict):
        labels = [str(value[key]) for key in ("rate", "way") if key in value]
        inside = " ".join([name, *labels]).strip()
        for key, part in value.items():
            if key not in ("rate", "way"):
                yield from figures(part, f"{inside} {key}".strip())
    elif isinstance(value, list) and all(isinstance(part, dict) for part in value):
        for part in value:
            yield from figures(part, name)
    elif isinstance(value, (int, float)):
        yield name, f"{value:,.4g}"


if __name__ == "__main__":
    run(main)
