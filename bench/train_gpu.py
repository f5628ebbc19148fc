"""Training on a GPU: malmat's and Unsloth's scripts against plain TRL.

    python bench/train_gpu.py                            # 1.5B and 8B, all ways: about 40 minutes
    python bench/train_gpu.py --sizes 1.5B --ways lora trl-lora unsloth-lora --steps 20
    python bench/train_gpu.py --sizes embedded --ways lora full --against_cpu

Needs a card and requirements-gpu.txt; no network: the models are made on the spot, with Qwen's
shapes, random weights and the embedded model's tokenizer (``embedded`` is that model itself).
Every way trains the same rows of merged_final.json in a process of its own, in turns, so that one
that runs out of memory costs only its own line, and so is each model made (bench/gpu_child.py);
the contests' ways (bench/gpu_ways.py) have rows of their shape.

Prints  tokens a second (of the data, padding not counted) from step 5 to the last, without warm-up,
        compilation and checkpoints, the share of the card's bf16 peak, the peak memory and what
        was estimated, and the first and last loss (--against_cpu: and the mean difference from
        the CPU's at the same steps). Useful operations a token: 6 × parameters for full
        fine-tuning, 4 × for adapters (no weight gradients), without attention and embeddings
        (Kaplan et al. 2020, *Scaling Laws*, 2.1); the output head counts at labelled tokens only,
        for all ways alike.
Writes  --output, the figures as JSON (optional). Leaves with 1 where a way failed.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from gpu_child import SHAPES, SIZES, TIMING  # noqa: E402
from gpu_ways import CHILD, WAYS, command, write_rows  # noqa: E402

from malmat.cli import COMPLETE, FAILURES, parser, positive, run, show_table  # noqa: E402
from malmat.errors import InputError  # noqa: E402
from malmat.files import write_json  # noqa: E402

PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165, "3090": 71}
"""Dense bf16 TFLOP/s by the makers' data sheets."""
SMALL = ("tiny", "embedded")
"""Models that a machine without a card trains, too."""


def arguments():
    options = parser(__doc__)
    sizes = (*SHAPES, "embedded")
    options.add_argument("--sizes", nargs="+", choices=sizes, default=["1.5B", "8B"])
    options.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options.add_argument("--steps", type=positive, default=30, help="more than 5")
    options.add_argument("--batch_size", type=positive, default=16)
    options.add_argument("--peak_tflops", type=float, help="of a card that is not in the table")
    options.add_argument("--models_dir", help="keep the models that are made here")
    options.add_argument("--args", default="", help="more options for every script of ours")
    options.add_argument("--against_cpu", action="store_true", help="the same again on the CPU")
    options.add_argument("--output", help="a JSON file for the figures")
    return options.parse_args()


def main() -> int:
    import torch

    args = arguments()
    has_card = torch.cuda.is_available()
    if not has_card and set(args.sizes) - set(SMALL):
        raise InputError("no GPU here", field="bench/train_gpu.py", fix="Run it on a GPU box.")
    card = torch.cuda.get_device_name() if has_card else "CPU"
    peak = args.peak_tflops or next((t for name, t in PEAKS.items() if name in card), None)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        models = Path(args.models_dir or folder)
        for size in args.sizes:
            model = size if size == "embedded" else made(size, models)
            for way in args.ways if model else ():
                place = Path(folder) / f"{size}-{way}"
                figures = {"size": size, "way": way, **measured(args, way, model, place, peak)}
                shutil.rmtree(place, ignore_errors=True)
                found.append(figures)
                print("  ".join(line_of(figures)), flush=True)
    print(f"\n{card}, {peak or '?'} TFLOP/s, batches of {args.batch_size}, {args.steps} steps")
    head = ("size", "way", "tokens/s", "of bf16 peak", "GiB", "estimated", "losses", "seconds")
    show_table([head, *map(line_of, found)])
    failed = [one for one in found if "tokens_per_s" not in one]
    if args.output and not failed and found:
        write_json(args.output, {"card": card, "figures": found})
    return FAILURES if failed or not found else COMPLETE


def line_of(figures: dict) -> tuple[str, ...]:
    if "tokens_per_s" not in figures:
        return (figures["size"], figures["way"], "failed (its last lines are above)", *[""] * 5)
    share, estimate = figures["share_of_peak"], figures["estimate_gib"]
    losses = [f"{loss:.3f}" for loss in figures["losses"][:1] + figures["losses"][-1:]]
    said = " → ".join(losses)
    if "from_the_cpus" in figures:
        said += f" (mean difference from the CPU's {figures['from_the_cpus']:.4f})"
    return (
        figures["size"],
        figures["way"],
        f"{figures['tokens_per_s']:,.0f}",
        f"{share:.1%}" if share else "?",
        f"{figures['peak_memory_gib']:.1f}",
        f"{estimate:.1f}" if estimate else "?",
        said,
        f"{figures['seconds']:.0f}",
    )


def made(size: str, models: Path) -> str | None:
    """The folder of a model of this size; None where it cannot be made."""
    folder = models / size
    if not (folder / SIZES).exists():
        print(f"making {size}", flush=True)
        if run_child([sys.executable, CHILD, "make", size, str(folder)]):
            return None
    return str(folder)


def measured(args, way: str, model: str, place: Path, peak: float | None) -> dict:
    """The figures of a way; none where it failed."""
    began = time.monotonic()
    place.mkdir()
    data = place / "rows.jsonl"
    rows = write_rows(way, args.steps * args.batch_size, data)
    whole = model == "embedded"
    losses = []
    for device in ("cuda", "cpu") if args.against_cpu else ("cuda",):
        output = place / device
        words = command(way, model, data, output, args, whole=whole)
        if run_child(words, {"CUDA_VISIBLE_DEVICES": ""} if device == "cpu" else {}):
            return {}
        losses.append(json.loads((output / TIMING).read_text())["losses"])
    figures = json.loads((place / "cuda" / TIMING).read_text())
    if args.against_cpu:
        gaps = [abs(one - other) for one, other in zip(*losses, strict=True)]
        figures["from_the_cpus"] = statistics.fmean(gaps)
    share = None
    if peak and not whole and "question" in rows[0]:
        sizes = json.loads((Path(model) / SIZES).read_text())
        parameters = sizes["body"] + labelled_share(rows) * sizes["head"]
        work = figures["tokens_per_s"] * parameters * (6 if "full" in way else 4)
        share = work / peak / 1e12
    return {**figures, "share_of_peak": share, "seconds": time.monotonic() - began}


def labelled_share(rows: list[dict]) -> float:
    """The share of tokens that carry loss."""
    from malmat.lm.load import load_tokenizer
    from malmat.train.examples import Examples, read_wording

    wording = read_wording("src/eval/prompt.py:CHAT")
    rows = [{"id": str(n), "title": "", **row} for n, row in enumerate(rows)]
    texts = Examples(rows, load_tokenizer("embedded"), 4096, wording=wording).texts()
    labels = [label for text in texts for label in text["labels"]]
    return sum(label != -100 for label in labels) / len(labels)


def run_child(command: list[str], more: dict[str, str] | None = None) -> int:
    """Run a process; where it fails, its last lines are shown."""
    result = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **(more or {})}
    )
    if result.returncode:
        said = (result.stdout + result.stderr).strip().splitlines()
        print("\n".join(said[-5:]), flush=True)
    return result.returncode


if __name__ == "__main__":
    run(main)
