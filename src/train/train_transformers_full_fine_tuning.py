"""Full fine-tuning with Transformers: every weight is trained.

    python src/train/train_transformers_full_fine_tuning.py --model_name Qwen/Qwen3-8B
    bash src/train/train_transformers_full_fine_tuning.sh kakaocorp/kanana-1.5-8b-instruct-2505

Reads   --data_path (pairs: merged_final.json, messages, prompt/completion; JSON, JSONL, CSV,
        Parquet, or a hub data set) and src/eval/prompt.py for the wording of the question.
Writes  --output_dir: the model, its tokenizer, run.json, loss_curve.png, README.md (a model
        card), and checkpoint-N folders from which a killed run goes on by itself.

The defaults are the published hyper-parameters of KoCulture.
"""

from __future__ import annotations

import argparse
from typing import Any

from evaluated import DEFAULTS, train

from malmat.cli import parser, run
from malmat.train.settings import TrainSettings, add_arguments, settings_from


def build_parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    add_arguments(options, **DEFAULTS)
    return options


def build(settings: TrainSettings) -> tuple[Any, None]:
    from malmat.lm.device import default_dtype
    from malmat.lm.load import load_model

    # Gradients in float16 cannot be scaled back; older cards train float32 weights under autocast.
    dtype = "float32" if default_dtype() == "float16" else "auto"
    options = {"dtype": dtype, "trust_remote_code": settings.trust_remote_code}
    return load_model(settings.model_name, packed=True, **options).train(), None


def main() -> None:
    train(settings_from(build_parser().parse_args(), "full"), build)


if __name__ == "__main__":
    run(main)
