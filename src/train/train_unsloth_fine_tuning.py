"""LoRA, QLoRA and full fine-tuning with Unsloth: faster, less memory, one NVIDIA GPU.

    bash src/train/train_unsloth_fine_tuning.sh unsloth/Qwen3-32B-bnb-4bit
    python src/train/train_unsloth_fine_tuning.py --model_name Qwen/Qwen3-8B --option_4bit

Reads   --data_path (pairs: merged_final.json, messages, prompt/completion; JSON, JSONL, CSV,
        Parquet, or a hub data set) and src/eval/prompt.py for the wording of the question.
Writes  --output_dir: the adapter or model, run.json, loss_curve.png, README.md (a model card), with
        --merge the merged model in merged/, and checkpoint-N folders from which a killed run goes
        on by itself.

The defaults are the published hyper-parameters of KoCulture. Needs requirements-gpu.txt.
"""

from __future__ import annotations

import argparse
from typing import Any

from evaluated import DEFAULTS, train

from malmat.cli import parser, run
from malmat.errors import InputError
from malmat.train import lora
from malmat.train.record import world_size
from malmat.train.settings import TrainSettings, add_arguments, quantization_of, settings_from


def build_parser() -> argparse.ArgumentParser:
    options = parser(__doc__)
    add_arguments(
        options,
        **DEFAULTS,
        max_seq_length=1024,
        batch_size=2,
        gradient_accumulation_steps=32,
        learning_rate=2e-4,
    )
    choice = lora.add_arguments(options)
    choice.add_argument("--option_full", action="store_true", help="every weight, no adapter")
    return options


def check_unsloth() -> None:
    """Import Unsloth, which patches transformers and so comes before it does its work."""
    if world_size() > 1:
        raise InputError(
            "Unsloth trains on one GPU", field="LAUNCH", fix="Leave the launcher out, or use LoRA."
        )
    try:
        import unsloth  # noqa: F401
    except (ImportError, NotImplementedError) as error:
        raise InputError(
            f"Unsloth cannot run here ({error})",
            field="train_unsloth_fine_tuning.py",
            fix="It needs an NVIDIA GPU and requirements-gpu.txt; "
            "train_lora_fine_tuning.py does without.",
        ) from None


def build(settings: TrainSettings) -> tuple[Any, None]:
    """Unsloth's model, which puts its adapter on itself."""
    from unsloth import FastLanguageModel

    from malmat.lm.load import resolve

    options = settings.lora
    checkpointing = "unsloth" if settings.gradient_checkpointing == "on" else False
    model, _ = FastLanguageModel.from_pretrained(
        model_name=resolve(lora.merged_base(settings)),
        use_exact_model_name=True,  # not another upload of the model that Unsloth prefers
        max_seq_length=settings.max_seq_length,
        use_gradient_checkpointing=checkpointing,
        load_in_4bit=options.option_4bit,
        load_in_8bit=options.option_8bit,
        full_finetuning=settings.option_full,
        trust_remote_code=settings.trust_remote_code,
    )
    if not settings.option_full:
        model = FastLanguageModel.get_peft_model(
            model,
            r=options.lora_r,
            lora_alpha=options.lora_alpha,
            lora_dropout=options.lora_dropout,
            target_modules=lora.target_modules(options),
            use_rslora=options.use_rslora,
            bias="none",
            use_gradient_checkpointing=checkpointing,
            random_state=settings.seed,
        )
    return model, None


def main() -> None:
    args = build_parser().parse_args()
    method = "full" if args.option_full else quantization_of(args) or "lora"
    check_unsloth()
    train(settings_from(args, f"unsloth-{method}"), build, own_loss=True)


if __name__ == "__main__":
    run(main)
