"""Direct preference optimization: a new adapter learns to prefer the chosen answers.

    python src/train/train_dpo.py --model_name checkpoints/embedded-lora --data_path prefs.jsonl
    bash src/train/train_dpo.sh checkpoints/Qwen3-8B-4bit

Reads   --model_name (a model, or an adapter of train_lora_fine_tuning.py, which is merged first)
        and --data_path: rows with prompt, chosen and rejected (texts or messages; JSON, JSONL,
        Parquet, or a hub data set).
Writes  --output_dir: the new adapter, its tokenizer, run.json, loss_curve.png, README.md (a model
        card), and checkpoint-N folders from which a killed run goes on by itself; in base/ the
        merged model that the adapter stands on, where --model_name is an adapter.

The defaults are the published values of the culture QA system: learning rate 5e-7, beta 0.1,
sigmoid loss, 3 epochs, 2,048 tokens; r 64, alpha 64, all linear layers (its dropout of 0.1 is
for SFT; here it would make the policy differ from its reference before the first step).
"""

from __future__ import annotations

import argparse

from evaluated import DEFAULTS, train

from malmat.cli import parser, run
from malmat.train import lora
from malmat.train.settings import add_arguments, settings_from


def build_parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    add_arguments(options, **DEFAULTS, learning_rate=5e-7, max_seq_length=2048)
    lora.add_arguments(options)
    options.add_argument("--beta", type=float, default=0.1, help="weight of the reference")
    options.set_defaults(lora_r=64, lora_alpha=64, lora_modules=["all-linear"])
    return options


def main() -> None:
    train(settings_from(build_parser().parse_args(), "dpo"), lora.base_and_adapter)


if __name__ == "__main__":
    run(main)
