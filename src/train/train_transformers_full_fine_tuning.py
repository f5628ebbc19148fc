"""Full fine-tuning with Transformers and TRL: every weight is trained.

    python src/train/train_transformers_full_fine_tuning.py --model_name Qwen/Qwen3-8B
    bash src/train/train_transformers_full_fine_tuning.sh kakaocorp/kanana-1.5-8b-instruct-2505

Reads   --data_path (pairs: merged_final.json, JSONL, CSV, Parquet, or a hub data set) and
        src/eval/prompt.py for the wording of the question.
Writes  --output_dir: the model, its tokenizer, run.json, README.md (a model card), and
        checkpoint-N folders from which a killed run goes on by itself.

The defaults are the published hyper-parameters of KoCulture.
"""

from __future__ import annotations

from malmat.cli import parser, run
from malmat.training import add_arguments, fit


def arguments():
    options = parser(__doc__)
    add_arguments(options)
    return options.parse_args()


def build(args):
    from malmat.models import load_model

    return load_model(args.model_name, trust_remote_code=args.trust_remote_code).train()


if __name__ == "__main__":
    run(lambda: fit(arguments(), "full", build))
