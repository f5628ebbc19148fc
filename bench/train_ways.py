"""What bench/train.py compares: the rows, and each way to train on them."""

from __future__ import annotations

import tempfile
from pathlib import Path

from malmat.errors import InputError

ROOT = Path(__file__).resolve().parents[1]
TRL = {
    "trl nll": {"loss_type": "nll"},
    "trl chunked_nll": {"loss_type": "chunked_nll"},
    "trl packed": {"loss_type": "chunked_nll", "padding_free": True},
}
"""TRL's trainer as it comes: way → its options."""

ROW, CLUSTERS = "ours, row by row", "clusters"
WAYS = ("naive", *TRL, "ours", ROW, CLUSTERS)


def apart(tokenizer, args) -> tuple[list[dict], list[dict], None]:
    """Rows to train on, rows to be tested on, and no clusters."""
    from malmat.train.examples import Examples, read_training_rows, read_wording

    path = args.data_path or str(ROOT / "merged_final.json")
    rows = read_training_rows(path, preferences=False)
    wording = read_wording("src/eval/prompt.py:CHAT")
    rows = rows[:: max(1, len(rows) // 500)]
    examples = Examples(rows, tokenizer, args.max_seq_length, wording=wording).encoded
    if len(examples) < 2 * args.examples:
        raise InputError(f"{2 * args.examples} rows are needed", path=path)
    examples = examples[:: len(examples) // (2 * args.examples)]
    return examples[: args.examples], examples[args.examples : 2 * args.examples], None


def clustered(tokenizer, args) -> tuple[list[dict], list[dict], list[str]]:
    """The rows of so many clusters, those of one more to be tested on, and the rows' clusters."""
    from malmat.train.examples import Examples, read_training_rows

    rows = dialogues(args.examples + 1)
    if args.data_path:
        rows = read_training_rows(args.data_path, preferences=False)
    names = list(dict.fromkeys(row["cluster"] for row in rows))[: args.examples + 1]
    train = [row for row in rows if row["cluster"] in names[:-1]]
    kept = Examples(train, tokenizer, args.max_seq_length)
    held = Examples([row for row in rows if row["cluster"] == names[-1]], tokenizer, 10**6)
    return kept.encoded, held.encoded, [row["cluster"] for row in kept.kept]


def dialogues(number: int) -> list[dict]:
    """Made-up dialogues of the published ones' shape, four or five questions each."""
    from random import Random

    from malmat.formats import read_pairs

    random = Random(0)
    said = [pair["answer"] for pair in read_pairs(ROOT / "merged_final.json")[:400]]
    rows = []
    for name in range(number):
        lines = [f"화자{n % 2 + 1}: {text}" for n, text in enumerate(random.sample(said, 12))]
        for _ in range(random.choice((4, 5))):
            options = random.sample(said, 3)
            listed = [f"{label}. {text}" for label, text in zip("ABC", options, strict=True)]
            asked = [*lines, "", random.choice(lines), "이 말의 원인은 무엇인가?", *listed]
            turns = (("user", "\n".join(asked)), ("assistant", random.choice(listed)))
            messages = [{"role": role, "content": text} for role, text in turns]
            rows.append({"messages": messages, "answer": turns[1][1], "cluster": str(name)})
    return rows


def adapted(model, args):
    if args.adapter == "full":
        return model
    from peft import LoraConfig, get_peft_model

    from malmat.train.lora import MODULES

    config = LoraConfig(task_type="CAUSAL_LM", r=32, lora_alpha=32, target_modules=MODULES)
    return get_peft_model(model, config)


def trainer_of(way: str, model, tokenizer, examples: list[dict], clusters, args):
    """TRL's trainer, or ours, in the examples' order; None for the naive loop.

    With clusters, all examples make one step, so that every way ends at the same weights.
    """
    if way == "naive":
        return None
    import torch
    from trl import SFTConfig, SFTTrainer

    from malmat.train.cluster_batches import Clusters, prepare
    from malmat.train.clusters import sequences
    from malmat.train.trainers import AnswerTrainer, data_set

    rows, options = examples, {}
    if way == CLUSTERS:
        rows = sequences(examples, clusters, args.max_seq_length)
        if why := prepare(model, rows[0], tokenizer.pad_token_id):
            raise InputError(why, field="model_name")
        options["data_collator"] = Clusters(tokenizer.pad_token_id, padding_free=True)
    size = 1 if way in (ROW, CLUSTERS) else args.batch_size
    config = SFTConfig(
        output_dir=tempfile.mkdtemp(), max_length=None, num_train_epochs=1, report_to="none",
        per_device_train_batch_size=size, learning_rate=args.learning_rate,
        gradient_accumulation_steps=len(rows) if clusters else args.batch_size // size,
        lr_scheduler_type="constant", optim="adamw_torch", weight_decay=0.01, save_strategy="no",
        logging_strategy="no", train_sampling_strategy="sequential", gradient_checkpointing=False,
        bf16=torch.cuda.is_available(), use_cpu=not torch.cuda.is_available(), disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(), **TRL.get(way, {"loss_type": "nll"}),
    )  # fmt: skip
    return (SFTTrainer if way in TRL else AnswerTrainer)(
        model=model, args=config, train_dataset=data_set(rows), processing_class=tokenizer,
        **options,
    )  # fmt: skip


def naive(model, examples: list[dict], args) -> None:
    """One example a forward pass, loss on every token, all logits."""
    import torch

    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=args.learning_rate)
    for number, example in enumerate(examples, 1):
        ids = torch.tensor([example["input_ids"]], device=model.device)
        (model(input_ids=ids, labels=ids).loss / args.batch_size).backward()
        if number % args.batch_size == 0 or number == len(examples):
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)


def held_loss(model, examples: list[dict]) -> float:
    """Mean loss a labelled token, one example at a time with full logits."""
    import torch
    from torch.nn.functional import cross_entropy

    total, count = 0.0, 0
    for example in examples:
        ids = torch.tensor([example["input_ids"]], device=model.device)
        labels = torch.tensor(example["labels"], device=model.device)[1:]
        with torch.no_grad():
            logits = model(ids).logits[0, :-1][labels != -100].float()
        total += cross_entropy(logits, labels[labels != -100], reduction="sum").item()
        count += len(logits)
    return total / count
