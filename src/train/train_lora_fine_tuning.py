"""LoRA, rsLoRA and QLoRA fine-tuning with Transformers and PEFT.

    python src/train/train_lora_fine_tuning.py --model_name embedded --data_path data/train.jsonl
    python src/train/train_lora_fine_tuning.py --model_name Qwen/Qwen3-8B --option_4bit --merge

Reads   --data_path (pairs: merged_final.json, messages, prompt/completion; JSON, JSONL, CSV,
        Parquet, or a hub data set) and src/eval/prompt.py for the wording of the question.
Writes  --output_dir: the adapter, its tokenizer, run.json, loss_curve.png, README.md (a model
        card), with --merge the merged model in merged/, and checkpoint-N folders from which a
        killed run goes on by itself.
"""

from __future__ import annotations

import argparse

from evaluated import DEFAULTS, train

from malmat.cli import parser, run
from malmat.train import lora
from malmat.train.settings import add_arguments, quantization_of, settings_from


def build_parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    add_arguments(options, **DEFAULTS, learning_rate=2e-4)
    lora.add_arguments(options)
    help_ = "learn each weight's length apart from its direction"  # which Unsloth does not do
    options.add_argument("--use_dora", action="store_true", default=None, help=help_)
    return options


def main() -> None:
    args = build_parser().parse_args()
    method = quantization_of(args) or ("rslora" if args.use_rslora else "lora")
    train(settings_from(args, method), lora.base_and_adapter)


if __name__ == "__main__":
    run(main)
