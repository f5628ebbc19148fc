"""Seconds and memory of src/culture_qa/score.py on made-up 서술형 answers of real length.

    python bench/culture_scores.py                 # 10,000 answers of about 340 characters
    python bench/culture_scores.py --answers 1000 --kiwi on

Prints a line; writes into a temporary folder alone. The words are drawn from the sample set's
answers, so that each text is another one and MeCab has real morphemes to cut.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from malmat.cli import parser, positive  # noqa: E402
from malmat.contests.typed_questions import LONG, published_row, read_typed  # noqa: E402

FOLDER = ROOT / "src" / "culture_qa"
LENGTH = 340


def arguments():
    options = parser(__doc__)
    options.add_argument("--answers", type=positive, default=10_000)
    options.add_argument("--kiwi", choices=("auto", "on", "off"), default="auto")
    options.add_argument("--seed", type=int, default=1)
    return options.parse_args()


def main() -> None:
    args = arguments()
    draw = random.Random(args.seed)
    known = [one for part in ("train", "dev", "test") for one in sample(part)]
    words = [word for one in known if one.type == LONG for word in one.answers[0].split()]

    def text() -> str:
        made = ""
        while len(made) < LENGTH:
            made += draw.choice(words) + " "
        return made.strip()

    gold = [
        published_row(LONG, f"{n}번 물음을 서술하세요.", text(), keyword=f"주제 {n // 2}")
        for n in range(args.answers)
    ]
    answers = [{"id": row["id"], "answer": text()} for row in gold]
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("gold.json", "answers.json")]
        for path, rows in zip(paths, (gold, answers), strict=True):
            path.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
        command = [sys.executable, str(FOLDER / "score.py"), "--gold", str(paths[0])]
        command += ["--predictions", str(paths[1]), "--name", "bench", "--kiwi", args.kiwi]
        command += ["--results_dir", folder]
        start = time.monotonic()
        child = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(ROOT / "src")}
        )
        _, status, usage = os.wait4(child.pid, 0)
        seconds = time.monotonic() - start
    print(
        f"{args.answers:,} answers of {LENGTH} characters: {seconds:.1f} s, of the processor "
        f"{usage.ru_utime + usage.ru_stime:.1f} s, {usage.ru_maxrss / 1024:.0f} MiB, "
        f"exit code {os.waitstatus_to_exitcode(status)}"
    )


def sample(part: str):
    return read_typed(FOLDER / "sample" / f"{part}.json")[0]


if __name__ == "__main__":
    main()
