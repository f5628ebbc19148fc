"""LoRA and QLoRA fine-tuning with Transformers, PEFT and TRL.

    python src/train/train_lora_fine_tuning.py --model_name embedded --data_path data/train.jsonl
    python src/train/train_lora_fine_tuning.py --model_name Qwen/Qwen3-8B --option_4bit --merge

Reads   --data_path (pairs: merged_final.json, JSONL, CSV, Parquet, or a hub data set) and
        src/eval/prompt.py for the wording of the question.
Writes  --output_dir: the adapter, its tokenizer, run.json, README.md (a model card), and
        checkpoint-N folders from which a killed run goes on by itself.
"""

from __future__ import annotations

from malmat.cli import parser, positive, run
from malmat.training import add_arguments, fit

# The published Unsloth values of KoCulture; the same modules in every family it trains.
MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def arguments():
    options = parser(__doc__)
    add_arguments(options, learning_rate=2e-4)
    lora = options.add_argument_group("LoRA")
    lora.add_argument("--lora_r", type=positive, default=32)
    lora.add_argument("--lora_alpha", type=positive, default=32)
    lora.add_argument("--lora_dropout", type=float, default=0.0)
    lora.add_argument("--lora_modules", nargs="+", default=MODULES, help="or 'all-linear'")
    lora.add_argument("--use_rslora", action="store_true", help="scale by alpha / sqrt(r)")
    lora.add_argument("--option_4bit", action="store_true", help="QLoRA: NF4, double quantization")
    lora.add_argument("--option_8bit", action="store_true")
    lora.add_argument("--merge", action="store_true", help="also write the merged model")
    return options.parse_args()


def build(args):
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    from malmat.models import load_model

    quantization = "4bit" if args.option_4bit else "8bit" if args.option_8bit else None
    model = load_model(
        args.model_name, quantization=quantization, trust_remote_code=args.trust_remote_code
    ).train()
    if quantization:
        model = prepare_model_for_kbit_training(
            model, use_gradient_checkpointing=args.gradient_checkpointing
        )
    modules = args.lora_modules
    config = LoraConfig(
        task_type="CAUSAL_LM",
        r=args.lora_r,
        lora_alpha=args.lora_alpha,
        lora_dropout=args.lora_dropout,
        target_modules="all-linear" if modules == ["all-linear"] else modules,
        use_rslora=args.use_rslora,
    )
    return get_peft_model(model, config)


def main() -> None:
    args = arguments()
    fit(args, "4bit" if args.option_4bit else "8bit" if args.option_8bit else "lora", build)


if __name__ == "__main__":
    run(main)
