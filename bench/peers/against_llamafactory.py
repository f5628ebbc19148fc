"""Training: LLaMA-Factory's LoRA on the CPU beside ours, on the same rows.

    bench/peers/run.sh llamafactory                        # three rounds of 48 examples
    bench/peers/run.sh llamafactory --rounds 1 --examples 16

Both train an adapter (rank 32, AdamW, a constant rate of 1e-4, one step for 8 examples) on the
embedded model in float32, in turns. LLaMA-Factory gets the messages that ours are rendered from
and its own template for Gemma. Prints  samples a second (its train_runtime; ours as
bench/train.py measures it), the peak memory of the process, and the loss on held rows, of both
adapters by one function.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

BENCH = Path(__file__).resolve().parents[1]
ROOT = BENCH.parent
sys.path[:0] = [str(ROOT / "src"), str(BENCH)]
PROJECT = os.environ["PROJECT_PYTHON"]
BATCH = 8


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--examples", type=int, default=48)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--prepare", metavar="FOLDER", help="(write the rows)")
    options.add_argument("--held", metavar="ADAPTER", help="(the loss of an adapter)")
    args = options.parse_args()
    if args.prepare:
        prepare(args, Path(args.prepare))
        return
    if args.held:
        print(held(args))
        return
    found: dict[str, list[dict]] = {"LLaMA-Factory": [], "malmat": []}
    with tempfile.TemporaryDirectory() as folder:
        own("--prepare", folder, "--examples", args.examples)
        for number in range(args.rounds):
            found["LLaMA-Factory"].append(theirs(args, Path(folder), number))
            found["malmat"].append(ours(args))
            for name, rounds in found.items():
                print(f"round {number + 1}, {name}: {rounds[-1]}", flush=True)
    for name, rounds in found.items():
        speeds = [one["speed"] for one in rounds]
        print(
            f"{name}: median {statistics.median(speeds):.2f} samples/s ({min(speeds):.2f} to "
            f"{max(speeds):.2f}), {max(one['memory'] for one in rounds):.2f} GiB, held loss "
            f"{rounds[-1]['held_loss']:.4f}"
        )


def rows_of(args) -> tuple:
    """(tokenizer, training examples, held examples), as bench/train.py takes them."""
    from train_ways import apart

    from malmat.lm.load import load_tokenizer

    tokenizer = load_tokenizer("embedded")
    settings = SimpleNamespace(data_path=None, max_seq_length=512, examples=args.examples)
    train, held_rows, _ = apart(tokenizer, settings)
    return tokenizer, train, held_rows


def prepare(args, folder: Path) -> None:
    """LLaMA-Factory's data set and settings."""
    from malmat.lm.load import resolve
    from malmat.train.lora import MODULES

    tokenizer, train, _ = rows_of(args)
    rows = []
    for example in train:
        first = next(n for n, label in enumerate(example["labels"]) if label != -100)
        asked, said = (
            tokenizer.decode(part, skip_special_tokens=True)
            for part in (example["input_ids"][:first], example["input_ids"][first:])
        )
        asked = asked.removeprefix("user\n").removesuffix("\nmodel\n")
        rows.append({"instruction": asked, "input": "", "output": said.strip()})
    (folder / "rows.json").write_text(json.dumps(rows, ensure_ascii=False))
    (folder / "dataset_info.json").write_text('{"rows": {"file_name": "rows.json"}}')
    settings = {
        "model_name_or_path": resolve("embedded"), "stage": "sft", "do_train": True,
        "finetuning_type": "lora", "lora_rank": 32, "lora_alpha": 32, "template": "gemma",
        "lora_target": ",".join(MODULES), "dataset": "rows", "dataset_dir": str(folder),
        "cutoff_len": 512, "per_device_train_batch_size": BATCH, "learning_rate": 1e-4,
        "gradient_accumulation_steps": 1, "num_train_epochs": 1, "weight_decay": 0.01,
        "lr_scheduler_type": "constant", "optim": "adamw_torch", "report_to": "none",
        "pure_bf16": False, "bf16": False, "fp16": False, "use_cpu": True, "seed": 3407,
        "preprocessing_num_workers": 1, "dataloader_num_workers": 0, "logging_steps": 1,
        "disable_gradient_checkpointing": True,
    }  # fmt: skip
    (folder / "settings.json").write_text(json.dumps(settings))


def theirs(args, folder: Path, number: int) -> dict:
    settings = json.loads((folder / "settings.json").read_text())
    output = folder / str(number)
    file = folder / f"{number}.yaml"
    file.write_text(json.dumps({**settings, "output_dir": str(output)}))
    command = [sys.executable, "-m", "llamafactory.cli", "train", str(file)]
    # Its check of versions refuses newer ones that do as well.
    env = {**os.environ, "DISABLE_VERSION_CHECK": "1", "USE_MODELSCOPE_HUB": "0"}
    # It imports torchaudio, of which no release loads beside this torch, for speech alone.
    (folder / "torchaudio.py").touch()
    env["PYTHONPATH"] = str(folder)
    said = folder / f"{number}.log"
    with said.open("w") as log:
        child = subprocess.Popen(command, stdout=log, stderr=log, env=env)
        _, status, used = os.wait4(child.pid, 0)
    if status:
        sys.exit(said.read_text()[-1500:])
    seconds = json.loads((output / "train_results.json").read_text())["train_runtime"]
    loss = own("--held", output, "--examples", args.examples)
    memory = used.ru_maxrss / 2**20
    return {"speed": args.examples / seconds, "memory": memory, "held_loss": float(loss)}


def ours(args) -> dict:
    command = [PROJECT, str(BENCH / "train.py"), "--way", "ours", "--examples", str(args.examples)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return json.loads(said.splitlines()[-1])


def own(*words: object) -> str:
    """This script with this project's own packages: they are others than LLaMA-Factory's."""
    command = [PROJECT, __file__, *map(str, words)]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def held(args) -> float:
    from peft import PeftModel
    from train_ways import held_loss

    from malmat.lm.load import load_model

    _, _, rows = rows_of(args)
    return held_loss(PeftModel.from_pretrained(load_model("embedded"), args.held).eval(), rows)


if __name__ == "__main__":
    main()
