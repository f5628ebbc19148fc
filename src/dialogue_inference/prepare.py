"""Render rows for training and answering, in one variant of the wording.

    python src/dialogue_inference/prepare.py --input train.json --output data/train.jsonl
    python src/dialogue_inference/prepare.py --input dev.json --output dev.jsonl --variant CustomRef
    python src/dialogue_inference/prepare.py --input train.json --refined refined.json \\
        --model NAME --output rows.jsonl

Reads   --input: the contest's file, or what refine.py made of it. With --model, the row of
        models.json says which variant, and whether --input or --refined.
Writes  --output: a chat row a line, with ``id, cluster, category, choices, options, answer,
        conversation, reference_id, variant, messages``; ``cluster`` is the dialogue, and test rows
        have no ``answer``. Where there is one, the messages end with it ("A. …"), to be trained;
        infer.py takes the same rows and asks without it.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.contests.dialogue_items import fields_of, item_of
from malmat.contests.dialogues import Dialogue, read_dialogues, show_lost
from malmat.contests.faults import show_skipped
from malmat.errors import InputError
from malmat.files import write_jsonl
from malmat.models import model_row
from task import CATEGORIES, DEFAULT, TASK, VARIANTS, option_line

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", required=True)
    options.add_argument("--output", required=True)
    options.add_argument("--variant", choices=tuple(VARIANTS), help=f"default: {DEFAULT}")
    options.add_argument("--model", help="a row of models.json, which says the variant")
    options.add_argument("--models", default=str(HERE / "models.json"))
    options.add_argument("--refined", help="what a row that wants refined data reads")
    options.add_argument("--skip_bad", action="store_true", help="go on without faulty rows")
    args = options.parse_args()
    if args.model:
        follow_model(args)
    args.variant = args.variant or DEFAULT
    return args


def follow_model(args) -> None:
    """Set the variant and the input that the model's row names."""
    if args.variant:
        raise InputError("is the model's row's", field="variant", fix="Leave it out.")
    wanted = model_row(args.model, args.models).rows
    if wanted is None or wanted.variant not in VARIANTS:
        known = f"One of {', '.join(VARIANTS)}."
        raise InputError(
            "names no variant", path=args.models, field=f"{args.model}.rows", fix=known
        )
    args.variant = wanted.variant
    if wanted.data == "refined":
        if not args.refined:
            raise InputError("the model's row wants refined data", field="refined")
        args.input = args.refined


def main() -> int:
    args = arguments()
    show_settings("prepare", vars(args))
    prompts = TASK.prompts()
    dialogues, faults = read_dialogues(args.input, CATEGORIES, skip_bad=args.skip_bad)
    write_jsonl(args.output, [chat_row(prompts, one, args.variant) for one in dialogues])
    show(dialogues)
    print(f"wrote {relative(args.output)}")
    return show_skipped(faults)


def chat_row(prompts: dict[str, str], one: Dialogue, variant: str) -> dict:
    """A row with its messages, which end with the answer where there is one."""
    row = fields_of(one)
    messages = VARIANTS[variant](prompts, item_of(row))
    if one.answer is not None:
        answer = option_line(item_of(row), one.answer)
        messages = [*messages, {"role": "assistant", "content": answer}]
    return {**row, "variant": variant, "messages": messages}


def show(dialogues: list[Dialogue]) -> None:
    """Print how many rows there are, of which kind, and which lost a marked utterance."""
    clusters = len({one.cluster for one in dialogues})
    counts = Counter(one.category for one in dialogues)
    answered = sum(one.answer is not None for one in dialogues)
    print(f"{len(dialogues)} rows of {clusters} dialogues, {answered} with an answer")
    print("  " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
    show_lost(dialogues)


if __name__ == "__main__":
    run(main)
