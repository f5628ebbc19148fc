"""Training: a plain loop, TRL as it comes, and ours, on the same rows.

    python bench/train.py                                   # embedded model on the CPU, 3 rounds
    python bench/train.py --adapter full --examples 16
    python bench/train.py --model_name Qwen/Qwen3-8B --examples 256 --batch_size 16   # a GPU
    python bench/train.py --pack_by cluster [--data_path rows.jsonl]   # packed dialogues

Every way trains the same model from the same start on the same examples, with AdamW and one step
for --batch_size examples, in a process of its own, in turn within each round, so that a machine
that is busy is busy for all:

    naive            batch 1, the model's own loss over every token, logits for all positions,
                     gradients added up to a step (what the published scripts come to)
    trl nll          SFTTrainer, loss on the answers, padded batches, logits for all positions
    trl chunked_nll  the same with TRL's loss in chunks of labelled positions
    trl packed       the same on padding-free batches (rows laid end to end)
    ours             trainers.AnswerTrainer
    ours, row by row the same with one row a forward pass, accumulated: the fastest for long rows
                     on a CPU, where attention pays for rows that are laid end to end
    clusters         trainers.AnswerTrainer on clusters.sequences: --pack_by cluster, which compares
                     the last three on the rows of --examples whole clusters

Without --data_path, --pack_by makes up dialogues of the shape of the published ones (about 300
tokens shared by four or five questions of about 110).

Prints  a way's examples a second of each round and their median, its ratio to the naive loop, the
        processor seconds an example takes (steadier on a busy machine), the peak memory (of the
        process, or of the card), and the loss on the answers of the same held examples after
        training, which has to be no worse.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from malmat.cli import parser, positive, run, show_table  # noqa: E402
from malmat.errors import InputError  # noqa: E402

TRL = {
    "trl nll": {"loss_type": "nll"},
    "trl chunked_nll": {"loss_type": "chunked_nll"},
    "trl packed": {"loss_type": "chunked_nll", "padding_free": True},
}
ROW, CLUSTERS = "ours, row by row", "clusters"
WAYS = ("naive", *TRL, "ours", ROW, CLUSTERS)


def arguments():
    options = parser(__doc__)
    options.add_argument("--model_name", default="embedded")
    options.add_argument("--data_path", help="default: merged_final.json, or made-up dialogues")
    options.add_argument("--pack_by", choices=["cluster"])
    options.add_argument("--max_seq_length", type=positive, help="default: 512, packed 2048")
    options.add_argument("--adapter", choices=("lora", "full"), default="lora")
    options.add_argument("--ways", nargs="+", choices=WAYS)
    options.add_argument("--examples", type=positive, default=48, help="a round and way (clusters)")
    options.add_argument("--batch_size", type=positive, default=8)
    options.add_argument("--learning_rate", type=float, default=1e-4)
    options.add_argument("--rounds", type=positive, default=3)
    options.add_argument("--seed", type=int, default=3407)
    options.add_argument("--way", choices=WAYS, help="(the process that trains one)")
    args = options.parse_args()
    args.max_seq_length = args.max_seq_length or (2048 if args.pack_by else 512)
    args.ways = args.ways or (WAYS[-3:] if args.pack_by else WAYS[:-2])
    if CLUSTERS in (*args.ways, args.way) and not args.pack_by:
        raise InputError("needs --pack_by cluster", field="ways")
    return args


def main() -> None:
    args = arguments()
    if args.way:
        print(json.dumps(train(args)))
        return
    found = {way: [] for way in args.ways}
    for number in range(args.rounds):
        for way, figures in found.items():
            figures.append(measure(way))
            said = "{speed:.3f} examples/s, {work:.2f} CPU s an example".format(**figures[-1])
            print(f"  round {number + 1}, {way}: {said}", flush=True)
    against = "naive" if "naive" in found else args.ways[0]
    medians = {w: statistics.median(f["speed"] for f in figures) for w, figures in found.items()}
    work = {w: statistics.median(f["work"] for f in figures) for w, figures in found.items()}
    lines = [
        ("way", "examples/s", "median", f"× {against}", "× CPU s", "CPU s", "GiB", "held loss")
    ]
    for way, figures in found.items():
        lines.append(
            (
                way,
                " ".join(f"{f['speed']:.2f}" for f in figures),
                f"{medians[way]:.2f}",
                f"{medians[way] / medians[against]:.2f}",
                f"{work[against] / work[way]:.2f}",
                f"{work[way]:.2f}",
                f"{max(f['memory'] for f in figures):.1f}",
                f"{figures[-1]['held_loss']:.4f}",
            )
        )
    print(f"\n{args.model_name} ({args.adapter}), {figures[-1]['about']}")
    show_table(lines)


def measure(way: str) -> dict:
    """``{speed, work, memory, held_loss, about}`` of a way, trained in a process of its own."""
    words = [sys.executable, __file__, *sys.argv[1:], "--way", way]
    result = subprocess.run(words, capture_output=True, text=True)
    if result.returncode:
        raise InputError(f"'{way}' failed: {result.stderr.strip()[-500:]}", field="ways")
    return json.loads(result.stdout.splitlines()[-1])


def train(args) -> dict:
    import torch
    from transformers import set_seed

    from malmat.lm.load import load_model, load_tokenizer
    from malmat.train.loop import peak_memory

    set_seed(args.seed)
    tokenizer = load_tokenizer(args.model_name)
    examples, held, clusters = (clustered if args.pack_by else apart)(tokenizer, args)
    model = adapted(load_model(args.model_name).train(), args)
    trainer = trainer_of(args.way, model, tokenizer, examples, clusters, args)
    began, worked = time.perf_counter(), time.process_time()
    if trainer:
        trainer.train()
    else:
        naive(model, examples, args)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    seconds, memory = time.perf_counter() - began, peak_memory()
    worked = time.process_time() - worked
    tokens = sum(len(example["input_ids"]) for example in examples)
    labelled = sum(label != -100 for example in examples for label in example["labels"])
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    return {
        "speed": len(examples) / seconds,
        "work": worked / len(examples),
        "memory": memory,
        "held_loss": held_loss(model.eval(), held),
        "about": f"{len(examples)} examples, {tokens:,} tokens, {labelled / tokens:.0%} of them "
        f"labelled, {args.batch_size} at once, {torch.get_num_threads()} threads, {device}",
    }


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


if __name__ == "__main__":
    run(main)
