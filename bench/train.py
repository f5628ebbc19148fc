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
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from train_ways import (  # noqa: E402
    CLUSTERS,
    WAYS,
    adapted,
    apart,
    clustered,
    held_loss,
    naive,
    trainer_of,
)

from malmat.cli import parser, positive, run, show_table  # noqa: E402
from malmat.errors import InputError  # noqa: E402


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


if __name__ == "__main__":
    run(main)
