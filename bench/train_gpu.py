"""Training on a GPU: malmat's and Unsloth's scripts against plain TRL, on random weights.

    python bench/train_gpu.py                            # 1.5B and 8B, all ways: about 20 minutes
    python bench/train_gpu.py --sizes 1.5B --ways lora trl-lora unsloth-lora --steps 20

Needs a card and requirements-gpu.txt; no network: the models are made on the spot, with Qwen's
shapes, random weights and the embedded model's tokenizer. Every way trains the same rows of
merged_final.json in a process of its own, in turns, so that one that runs out of memory costs only
its own line, and so is each model made (bench/gpu_child.py).

Prints  tokens a second (of the data, padding not counted) from step 5 to the last, without warm-up,
        compilation and checkpoints, the share of the card's bf16 peak, and the peak memory. Useful
        operations a token: 6 × parameters for full fine-tuning, 4 × for
        adapters (no weight gradients), without attention and embeddings (Kaplan et al. 2020,
        *Scaling Laws*, 2.1); the output head counts at labelled tokens only, for all ways alike.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from gpu_child import SHAPES, TIMING  # noqa: E402

from malmat.cli import parser, positive, run, show_table  # noqa: E402
from malmat.errors import InputError  # noqa: E402
from malmat.formats import read_pairs  # noqa: E402

PEAKS = {"H200": 989, "H100": 989, "A100": 312, "L40S": 362, "L4": 121, "4090": 165, "3090": 71}
"""Dense bf16 TFLOP/s by the makers' data sheets."""
SCRIPTS = {
    "lora": ("train_lora_fine_tuning.py",),
    "4bit": ("train_lora_fine_tuning.py", "--option_4bit"),
    "full": ("train_transformers_full_fine_tuning.py",),
    "unsloth-lora": ("train_unsloth_fine_tuning.py",),
    "unsloth-4bit": ("train_unsloth_fine_tuning.py", "--option_4bit"),
    "unsloth-full": ("train_unsloth_fine_tuning.py", "--option_full"),
}
WAYS = [*SCRIPTS, "trl-lora", "trl-full"]


def arguments():
    options = parser(__doc__)
    options.add_argument("--sizes", nargs="+", choices=tuple(SHAPES), default=["1.5B", "8B"])
    options.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    options.add_argument("--steps", type=positive, default=30)
    options.add_argument("--batch_size", type=positive, default=16)
    options.add_argument("--peak_tflops", type=float, help="of a card that is not in the table")
    return options.parse_args()


def main() -> None:
    import torch

    args = arguments()

    if not torch.cuda.is_available():
        raise InputError("no GPU here", field="bench/train_gpu.py", fix="Run it on a GPU box.")
    card = torch.cuda.get_device_name()
    peak = args.peak_tflops or next((t for name, t in PEAKS.items() if name in card), None)
    lines = [("size", "way", "tokens/s", "of bf16 peak", "GiB", "seconds")]
    with tempfile.TemporaryDirectory() as folder:
        rows = read_pairs(ROOT / "merged_final.json")[: args.steps * args.batch_size]
        data = Path(folder) / "rows.jsonl"
        data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
        for size in args.sizes:
            model = Path(folder) / size
            made = child("make", size, model)
            if made.returncode:
                continue
            sizes = json.loads(made.stdout.splitlines()[-1])
            parameters = sizes["body"] + labelled_share(rows) * sizes["head"]
            for way in args.ways:
                began = time.monotonic()
                speed = measure(args, way, model, data, Path(folder) / f"{size}-{way}")
                line = (size, way, "failed (its last lines are above)", "", "", "")
                if speed:
                    work = speed["tokens_per_s"] * parameters * (6 if "full" in way else 4)
                    line = (
                        size,
                        way,
                        f"{speed['tokens_per_s']:,.0f}",
                        f"{work / peak / 1e12:.1%}" if peak else "?",
                        f"{speed['peak_memory_gib']:.1f}",
                        f"{time.monotonic() - began:.0f}",
                    )
                lines.append(line)
                print("  ".join(line), flush=True)
    print(f"\n{card}, {peak or '?'} TFLOP/s, batches of {args.batch_size}, {args.steps} steps")
    show_table(lines)


def labelled_share(rows: list[dict]) -> float:
    """The share of tokens that carry loss."""
    from malmat.lm.load import load_tokenizer
    from malmat.train.examples import Examples, read_wording

    wording = read_wording("src/eval/prompt.py:CHAT")
    texts = Examples(rows, load_tokenizer("embedded"), 4096, wording=wording).texts()
    labels = [label for text in texts for label in text["labels"]]
    return sum(label != -100 for label in labels) / len(labels)


def measure(args, way: str, model: Path, data: Path, output: Path) -> dict | None:
    """``{tokens_per_s, peak_memory_gib}`` of a way, None where it failed."""
    if way in SCRIPTS:
        script, *options = SCRIPTS[way]
        words = ["time", ROOT / "src/train" / script, "--model_name", model, "--data_path", data]
        words += ["--output_dir", output, "--max_steps", args.steps, "--report_to", "none"]
        words += ["--batch_size", args.batch_size, "--gradient_accumulation_steps", 1]
        words += ["--save_steps", args.steps, "--allow_leaks", "--gradient_checkpointing", "off"]
        words += options
    else:
        words = ["trl", model, way, args.steps, args.batch_size, data, output]
    if child(*words).returncode:
        return None
    return json.loads((output / TIMING).read_text())


def child(*words: object) -> subprocess.CompletedProcess:
    """Run a part of gpu_child.py; where it fails, its last lines are shown."""
    command = [sys.executable, str(Path(__file__).with_name("gpu_child.py")), *map(str, words)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        print("\n".join(result.stderr.strip().splitlines()[-5:]), flush=True)
    return result


if __name__ == "__main__":
    run(main)
