"""Korean SAT questions: choosing, checking rows, and splitting scores, on the sample set's texts.

    python bench/csat.py choose                    # 600 rows, each way
    python bench/csat.py choose --apart --rows 64  # copies of a passage are told apart by a number
    python bench/csat.py prepare                   # 100,000 rows of passages of their own
    python bench/csat.py simulate                  # 20 models, 2,000 rows, 1,000 splits

``choose`` repeats the sample set and sets batches of malmat against one row at a time with the
logits of all positions, in one order and in all cyclic ones; --apart lets no copy of a passage be
read for another. ``prepare`` makes up passages of sentences of the sample, one in a hundred of them
nearly like another, and runs prepare.py. Prints seconds on the clock and of the processor, which
neighbours on the machine disturb less, and the most memory. To be reached: 4 times the rows a
second, 6 times with cyclic orders, the same picks; 60 s and 2 GB; 10 s.
"""

from __future__ import annotations

import csv
import random
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from choice import compare

from malmat.cli import ROOT, parser, positive, run
from malmat.evaluate.orders import orders_of, permuted
from malmat.evaluate.task import registered_tasks
from malmat.files import write_json

SAMPLE = ROOT / "src" / "csat" / "sample"
TASK = registered_tasks()["csat"]


def main() -> None:
    options = parser(__doc__)
    options.add_argument("what", choices=("choose", "prepare", "simulate"))
    options.add_argument("--rows", type=positive, help="600, 100,000 or 2,000")
    options.add_argument("--model_name", default="embedded")
    options.add_argument("--alone", type=positive, default=6, help="rows scored one at a time")
    options.add_argument("--batch_size", type=positive, default=64)
    options.add_argument("--rounds", type=positive, default=2)
    options.add_argument("--apart", action="store_true", help="no copy is read for another")
    options.add_argument("--output", help="a JSON file for what choose finds")
    args = options.parse_args()
    {"choose": choose, "prepare": prepare, "simulate": simulate}[args.what](args)


def sample() -> list[Any]:
    return [
        item for split in ("train", "dev", "test") for item in TASK.read(SAMPLE / f"{split}.csv")
    ]


def choose(args: Any) -> None:
    from malmat.lm.load import load_model, load_tokenizer

    prompts, items = TASK.prompts(), []
    count = args.rows or 600
    for number, item in enumerate(islice(cycle(sample()), count)):
        copy = f"({number // len(sample())}) " if args.apart else ""
        items.append({**item, "passage": copy + item["passage"]})
    tokenizer, model = load_tokenizer(args.model_name), load_model(args.model_name)
    figures = {}
    for name, permute in (("one order", None), ("cyclic orders", "cyclic")):
        rows = [
            (TASK.render(prompts, permuted(item, order), []), tuple(item["choices"]))
            for item in items
            for order in orders_of(len(item["choices"]), permute)
        ]
        print(f"{name}: {len(items)} items, {len(rows)} rows")
        figures[name] = compare(model, tokenizer, name, "label", rows, len(items), args)
    if args.output:
        write_json(args.output, figures)


def prepare(args: Any) -> None:
    count, draw = args.rows or 100_000, random.Random(0)
    items = sample()
    sentences = list({s.strip() for i in items for s in i["passage"].split(".") if s.strip()})
    with tempfile.TemporaryDirectory() as folder:
        path, passage = Path(folder) / "rows.csv", ""
        with path.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(["id", "paragraph", "problems", "question_plus"])
            for number in range(count):
                if number % 100:
                    passage = ". ".join(draw.sample(sentences, draw.randint(4, 14))) + "."
                item = draw.choice(items)
                problems = {"question": item["question"], "choices": item["options"]}
                problems["answer"] = int(item["target"])
                text = f"{number} {passage}"
                writer.writerow([f"r{number}", text, str(problems), item["question_plus"]])
        size = path.stat().st_size / 1e6
        start = time.perf_counter()
        command = [sys.executable, str(ROOT / "src" / "csat" / "prepare.py"), "--input", str(path)]
        command += ["--output", str(Path(folder) / "rows.jsonl")]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - start
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(*(line for line in done.stdout.splitlines() if line.startswith("note")), sep="\n")
    processor = used.ru_utime + used.ru_stime
    print(
        f"prepare: {count:,} rows, {size:.0f} MB in {seconds:.1f} s ({processor:.1f} of the "
        f"processor), {used.ru_maxrss / 2**20:.2f} GiB"
    )


def simulate(args: Any) -> None:
    import numpy as np

    from malmat.evaluate.luck import simulate as split
    from malmat.evaluate.vote_read import Ballots

    n, m, rng = args.rows or 2000, 20, np.random.default_rng(0)
    targets = rng.integers(0, 5, n)
    picks = np.where(rng.random((m, n)) < 0.7, targets, (targets + 1) % 5)
    rows = [{"id": str(number), "question": ""} for number in range(n)]
    chances = np.full((m, n, 5), np.nan)
    names = [f"m{number}" for number in range(m)]
    ballots = Ballots(
        names, [Path(name) for name in names], rows, np.full(n, 5), picks, chances, targets, [], []
    )
    for metric in ("accuracy", "macro_f1"):
        wall, processor = time.perf_counter(), time.process_time()
        luck = split(ballots, splits=1000, public=0.5, metric=metric)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        hit = luck.sent(1)["hit"]
        print(f"simulate, {metric}: {wall:.2f} s ({processor:.2f} of the processor), hit {hit:.3f}")


if __name__ == "__main__":
    run(main)
