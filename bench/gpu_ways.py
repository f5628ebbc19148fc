"""What bench/train_gpu.py trains: the ways, their rows, and the commands."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from train_ways import dialogues

from malmat.cli import ROOT
from malmat.formats import read_pairs
from malmat.models import read_models, row_of, training_command

sys.path.append(str(ROOT / "src" / "train"))
from rows import options_of

CHILD = str(Path(__file__).with_name("gpu_child.py"))
LORA, FULL, UNSLOTH, DPO = (
    f"train_{name}.py"
    for name in (
        *("lora_fine_tuning", "transformers_full_fine_tuning", "unsloth_fine_tuning"),
        "dpo",
    )
)
SCRIPTS: dict[str, tuple[str, ...]] = {
    "lora": (LORA,),
    "4bit": (LORA, "--option_4bit"),
    "full": (FULL,),
    "unsloth-lora": (UNSLOTH,),
    "unsloth-4bit": (UNSLOTH, "--option_4bit"),
    "unsloth-full": (UNSLOTH, "--option_full"),
    "dpo": (DPO,),
    "fsdp2-full": (FULL, "--optim", "adamw_torch_fused"),
    "zero3-full": (FULL, "--optim", "adamw_torch"),
    "contest-dpo": (DPO, "--batch_size", "1", "--gradient_accumulation_steps", "4"),
}
"""Way → script and options. The last is the culture QA's preferences: long ones, one at a time."""

ROWS = {
    "contest-dialogue": (
        "src/dialogue_inference/models.json",
        "POLAR-14B-v0.2-qlora-2e-4-CustomRefOfficialTerm-raw",
    ),
    "contest-csat": ("src/csat/models.json", "Qwen2.5-7B-Instruct-kowiki-qa-context"),
}
"""Way → the contest's row of models.json, as it is trained: QLoRA with packed dialogues and an
adapted head; 4-bit rsLoRA at 2,048 tokens. Only the model, its data and the steps are others."""

TRL = ("trl-lora", "trl-full")
WAYS = (*SCRIPTS, *ROWS, *TRL)


def write_rows(way: str, count: int, path: Path) -> list[dict]:
    """Write so many rows that the way takes; they come back as pairs where they are such."""
    pairs = read_pairs(ROOT / "merged_final.json")[: 4 * count]
    rows = [{"question": p["question"], "answer": p["answer"]} for p in pairs[:count]]
    if way == "contest-dialogue":
        rows = dialogues(max(2, count // 4))
    elif way in ("contest-csat", "contest-dpo"):
        texts = [f"{p['question']} {p['answer']}" for p in pairs]
        rows = [
            {"question": " ".join(texts[n % 97 : n % 97 + 45]), "answer": row["answer"]}
            for n, row in enumerate(rows)
        ]
    if way in ("dpo", "contest-dpo"):
        others = [row["answer"] for row in rows[1:] + rows[:1]]
        rows = [
            {"prompt": row["question"], "chosen": row["answer"], "rejected": other}
            for row, other in zip(rows, others, strict=True)
            if row["answer"] != other
        ]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return rows


def command(way: str, model: str, data: Path, output: Path, args, *, whole: bool) -> list[str]:
    """The process that trains one way.

    Args:
        whole: to the end, with checkpoints; else it ends with its last step.
    """
    steps, size = args.steps, args.batch_size
    if way in TRL:
        words = ["trl", model, way, steps, size, data, output]
        return [sys.executable, CHILD, *map(str, words)]
    words = ["--gradient_accumulation_steps", 1, "--batch_size", size]
    if way in ROWS:
        path, name = ROWS[way]
        row = row_of(read_models(ROOT / path), name, ROOT / path)
        script, *options = training_command(name, row, options_of)
        words = [*options, "--gradient_accumulation_steps", 4, "--tasks"]
    else:
        script, *options = SCRIPTS[way]
        words += ["--gradient_checkpointing", "off", *options]
    words += ["--model_name", model, "--data_path", data, "--output_dir", output]
    words += ["--max_steps", steps, "--save_steps", steps, "--logging_steps", 1]
    words += ["--report_to", "none", "--allow_leaks", *args.args.split()]
    starter = [sys.executable]
    if way in ("fsdp2-full", "zero3-full"):
        config = ROOT / "src/train/accelerate" / f"{way.partition('-')[0]}.yaml"
        launch = ["-m", "accelerate.commands.launch", "--num_processes", 1]
        starter += [*launch, "--config_file", config]
    mode = "whole" if whole else "time"
    return [*map(str, starter), CHILD, mode, str(ROOT / "src/train" / script), *map(str, words)]
