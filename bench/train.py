"""Training: ours against a loop of one example a step, full logits, loss on every token.

    python bench/train.py                                   # embedded model on the CPU, 3 rounds
    python bench/train.py --adapter full --examples 16
    python bench/train.py --model_name Qwen/Qwen3-8B --examples 256 --batch_size 16   # a GPU

Both sides train the same model with the same optimizer on the same examples, in turn within each
round, so that a machine that is busy is busy for both. The plain loop is what the published
scripts come to: a batch of 1 at the model's own loss over all tokens, logits for all positions,
the gradients of --accumulation examples added up to a step.

Prints  examples a second of each round and the ratio of the medians; the loss on the answers of
        the same held examples after equal training, which has to be no worse.
"""

from __future__ import annotations

import copy
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from malmat.cli import parser, positive, run  # noqa: E402
from malmat.errors import InputError  # noqa: E402


def arguments():
    options = parser(__doc__)
    options.add_argument("--model_name", default="embedded")
    options.add_argument("--data_path", default=str(ROOT / "merged_final.json"))
    options.add_argument("--adapter", choices=("lora", "full"), default="lora")
    options.add_argument("--examples", type=positive, default=64, help="a round and side")
    options.add_argument("--batch_size", type=positive, default=8)
    options.add_argument("--accumulation", type=positive, default=8, help="of the plain loop")
    options.add_argument("--learning_rate", type=float, default=1e-4)
    options.add_argument("--rounds", type=positive, default=3)
    options.add_argument("--seed", type=int, default=3407)
    return options.parse_args()


def main() -> None:
    args = arguments()
    import torch
    from transformers import set_seed

    from malmat.lm.load import load_model, load_tokenizer
    from malmat.train.examples import Rows

    set_seed(args.seed)
    tokenizer = load_tokenizer(args.model_name)
    total = args.examples * (args.rounds + 1)
    examples = Rows(args.data_path, tokenizer, 512).examples
    if len(examples) < total:
        raise InputError(f"{total} rows are needed", path=args.data_path, field="examples")
    examples = examples[:: len(examples) // total][:total]
    held, examples = examples[-args.examples :], examples[: args.examples * args.rounds]
    tokens = sum(len(example["input_ids"]) for example in examples)
    labelled = sum(label != -100 for example in examples for label in example["labels"])
    print(f"{args.model_name} ({args.adapter}): {len(examples)} examples, {tokens:,} tokens, "
          f"{labelled / tokens:.0%} of them labelled; {torch.get_num_threads()} threads, "
          f"{torch.cuda.get_device_name() if torch.cuda.is_available() else 'CPU'}")  # fmt: skip
    base = load_model(args.model_name).train()
    sides = {}
    for name in ("plain", "ours"):
        model = adapted(copy.deepcopy(base), args)
        optimizer = torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad], lr=args.learning_rate
        )
        sides[name] = (model, optimizer, [])
    del base
    ways = {"plain": plain, "ours": ours}
    for number in range(args.rounds):
        part = examples[number * args.examples : (number + 1) * args.examples]
        for name, (model, optimizer, speeds) in sides.items():
            synchronize()
            began = time.perf_counter()
            ways[name](model, optimizer, part, args)
            synchronize()
            speeds.append(len(part) / (time.perf_counter() - began))
        shown = "   ".join(f"{name} {speeds[-1]:.3f}" for name, (*_, speeds) in sides.items())
        print(f"  round {number + 1}: examples a second   {shown}", flush=True)
    median = {name: statistics.median(speeds) for name, (*_, speeds) in sides.items()}
    print(f"ratio of medians: {median['ours'] / median['plain']:.2f}×")
    for name, (model, *_) in sides.items():
        print(f"  loss on held answers after {name}: {held_loss(model, held):.4f}")


def synchronize() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def adapted(model, args):
    if args.adapter == "full":
        return model
    from peft import LoraConfig, get_peft_model

    from malmat.train.lora import MODULES

    config = LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=32, target_modules=MODULES)
    return get_peft_model(model, config)


def plain(model, optimizer, examples: list[dict], args) -> None:
    """One example a forward pass, loss on every token, all logits."""
    import torch

    for number, example in enumerate(examples, 1):
        ids = torch.tensor([example["input_ids"]], device=model.device)
        (model(input_ids=ids, labels=ids).loss / args.accumulation).backward()
        if number % args.accumulation == 0 or number == len(examples):
            step(model, optimizer)


def ours(model, optimizer, examples: list[dict], args) -> None:
    """Batches laid end to end, the loss and the output head at labelled positions only."""
    trainer = open_trainer(model)
    for start in range(0, len(examples), args.batch_size):
        batch = trainer.data_collator(examples[start : start + args.batch_size])
        batch = {name: value.to(model.device) for name, value in batch.items()}
        trainer.compute_loss(model, batch).backward()
        step(model, optimizer)


def step(model, optimizer) -> None:
    import torch

    torch.nn.utils.clip_grad_norm_([p for p in model.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def open_trainer(model):
    """The trainer of the scripts, for its collator and its loss."""
    import tempfile

    import torch
    from transformers import TrainingArguments

    from malmat.train.trainers import AnswerTrainer

    return AnswerTrainer(
        model=model,
        args=TrainingArguments(
            output_dir=tempfile.mkdtemp(), report_to="none", use_cpu=not torch.cuda.is_available()
        ),
        examples=[{"input_ids": [0], "labels": [0]}],
        held=None,
        tokenizer=None,
    )


def held_loss(model, examples: list[dict]) -> float:
    """Mean loss a labelled token."""
    import torch

    trainer, total, count = open_trainer(model.eval()), 0.0, 0
    with torch.no_grad():
        for start in range(0, len(examples), 8):
            batch = trainer.data_collator(examples[start : start + 8])
            batch = {name: value.to(model.device) for name, value in batch.items()}
            losses, number, _ = trainer.summed_loss(model, batch)
            total, count = total + losses.item(), count + number.item()
    return total / count


if __name__ == "__main__":
    run(main)
