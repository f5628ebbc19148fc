"""Choices: lm-evaluation-harness beside our engine, on a task of ours.

    bench/peers/run.sh lm_eval                          # 64 items of reply, three rounds
    bench/peers/run.sh lm_eval --task apt --items 32 --rounds 1

The task's items are exported for the harness (src/data/export.py), both score the embedded model's
likelihood of each choice in float32, in turns, and bench/lm_eval_check.py compares the picks.
Prints  items a second of the whole process (model loaded) and of the scoring alone, the peak
memory, both accuracies and the picks that differ.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "src")]
PROJECT = os.environ["PROJECT_PYTHON"]


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--task", default="reply")
    options.add_argument("--items", type=int, default=64)
    options.add_argument("--batch_size", type=int, default=16, help="of the harness")
    options.add_argument("--rounds", type=int, default=3)
    args = options.parse_args()
    from malmat.lm.load import resolve

    found: dict[str, list[tuple[float, float]]] = {"lm-eval": [], "malmat": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export = [PROJECT, ROOT / "src/data/export.py", "--output_dir", folder / "export"]
        measured(export, folder)
        for number in range(args.rounds):
            place = folder / str(number)
            words = [
                "--model",
                "hf",
                "--model_args",
                f"pretrained={resolve('embedded')},dtype=float32",
            ]
            words += ["--include_path", folder / "export/lm_eval", "--tasks", f"malmat_{args.task}"]
            words += ["--apply_chat_template", "--log_samples", "--output_path", place / "theirs"]
            words += ["--limit", args.items, "--device", "cpu", "--batch_size", args.batch_size]
            found["lm-eval"].append(measured([sys.executable, "-m", "lm_eval", *words], folder))
            script = ROOT / "src/eval/infer.py"
            words = ["embedded", "local", args.task, "--limit", args.items]
            words += ["--results_dir", place / "ours"]
            found["malmat"].append(measured([PROJECT, script, *words], folder))
            print(
                f"round {number + 1}: {json.dumps({k: v[-1] for k, v in found.items()})}",
                flush=True,
            )
        for peer, rounds in found.items():
            speeds = [args.items / seconds for seconds, _ in rounds]
            print(
                f"{peer}: median {statistics.median(speeds):.2f} items/s ({min(speeds):.2f} to "
                f"{max(speeds):.2f}) of the whole process, {max(m for _, m in rounds):.2f} GiB"
            )
        answers = next((place / "ours").rglob("*_inference_results.json"))
        check = [PROJECT, ROOT / "bench/lm_eval_check.py", place / "theirs", "--task", args.task]
        subprocess.run([*map(str, check), "--answers", str(answers)], check=True)


def measured(command: list, folder: Path) -> tuple[float, float]:
    """(seconds, GiB) of a process; where it fails, its last lines are shown."""
    log = folder / "log"
    began = time.monotonic()
    with log.open("w") as said:
        child = subprocess.Popen([*map(str, command)], stdout=said, stderr=said)
        _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(log.read_text()[-1500:])
    return time.monotonic() - began, used.ru_maxrss / 2**20


if __name__ == "__main__":
    main()
