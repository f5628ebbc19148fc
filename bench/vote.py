"""Votes of many models: seconds and memory of reading, voting and writing.

    python bench/vote.py                          # 11 files of 605 rows, and of 100,000 (1 GB)
    python bench/vote.py --rows 605 --models 3

The files are made up, as infer.py writes them: three to five options of a sentence each, four or
five rows a dialogue, models that are right in some 0.6 of the rows. Each size runs in a process of
its own. Prints the seconds of each step without imports (on the clock, and of the processor, which
other work on the machine does not lengthen) and the most memory that was held. To be reached: 605
rows in 1 s, 100,000 rows in 20 s and 1 GB.
"""

from __future__ import annotations

import contextlib
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from malmat.cli import parser, positive, run
from malmat.evaluate import vote_table
from malmat.evaluate.vote import FITTED, vote, voted_rows
from malmat.evaluate.vote_fit import Weigher
from malmat.evaluate.vote_read import read_ballots
from malmat.files import write_json

TEXT = "어제 비가 많이 와서 늦게 집에 도착한 두 사람은 저녁 약속을 다음 주로 미루었다"
WORDS = TEXT.split()


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--rows", type=positive, nargs="+", default=[605, 100_000])
    options.add_argument("--models", type=positive, default=11)
    options.add_argument("--folder", help="of one size's files: measure these (a child's option)")
    args = options.parse_args()
    if args.folder:
        measure(Path(args.folder))
        return
    for rows in args.rows:
        with tempfile.TemporaryDirectory() as folder:
            for model in range(args.models):
                write_json(Path(folder) / f"m{model:02}.json", made_up(rows, model))
            size = sum(path.stat().st_size for path in Path(folder).iterdir()) / 1e6
            print(f"{args.models} files of {rows:,} rows, {size:,.0f} MB", flush=True)
            subprocess.run([sys.executable, __file__, "--folder", folder], check=True)


def made_up(count: int, model: int) -> list[dict]:
    """A model's answers; the items are the same for all models."""
    items, own = random.Random(0), random.Random(model + 1)
    skill, rows = 0.2 + 0.04 * model, []
    for number in range(count):
        size = items.choice((3, 3, 3, 4, 5))
        choices = [f"{place}: {' '.join(items.sample(WORDS, 8))}." for place in range(size)]
        target = items.randrange(size)
        scores = [own.random() + skill * (place == target) for place in range(size)]
        chances = [score / sum(scores) for score in scores]
        rows.append(
            {
                "id": f"row-{number:06}",
                "question": f"{number}번째 대화의 원인으로 알맞은 것은?",
                "title": f"dialogue-{number * 9 // 41:05}",
                "choices": choices,
                "target": choices[target],
                "answer": choices[chances.index(max(chances))],
                "status": "ok",
                "finish_reason": "stop",
                "output_tokens": 0,
                "probabilities": chances,
                "mass": 0.98,
            }
        )
    return rows


def measure(folder: Path) -> None:
    with timed("read") as whole:
        ballots = read_ballots({path.stem: path for path in sorted(folder.glob("*.json"))})
    titles = {title: place % 5 for place, title in enumerate(dict.fromkeys(ballots.clusters))}
    folds = {row["id"]: titles[row["title"]] for row in ballots.rows}
    with timed("hard vote, and its file"):
        write_json(folder / "out" / "hard.json", voted_rows(ballots, vote(ballots, "hard")))
    print(f"  together {time.perf_counter() - whole:.2f} s, {peak():,.0f} MiB", flush=True)
    for method in ("hard", "soft", "weighted", "stack"):
        with timed(method + " with weights fitted over five folds" * (method in FITTED)):
            tally = vote(ballots, method, Weigher(folds=folds).weights(ballots, method))
        right = (tally.picks == ballots.targets).mean()
        print(f"    {right:.3f} right, {tally.tied.sum()} ties")
    if len(ballots.rows) <= 20_000:
        with timed("table"):
            vote_table.table(ballots, Weigher())
    print(f"  at most {peak():,.0f} MiB")


@contextlib.contextmanager
def timed(what: str) -> Iterator[float]:
    clock, processor = time.perf_counter(), time.process_time()
    yield clock
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    print(f"  {what}: {clock:.2f} s ({processor:.2f} s of the processor)", flush=True)


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    run(main)
