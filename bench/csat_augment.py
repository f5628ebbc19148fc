"""csat's augment.py against a fake server: wall time, and what faults and kills cost.

    python bench/csat_augment.py                        # about two minutes
    python bench/csat_augment.py --passages 120 --kills 5 --latency 0.5

Prints two tables; writes into a temporary folder alone.

wall    seconds against calls × latency ÷ concurrency: the whole process, and from its first call
        to its last; without faults, and with a third of the calls failing.
kills   a run under faults, killed and started again, against one without either: items lost,
        answers paid for twice beyond those under way, and whether the files are the same.
"""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from malmat.cli import parser, positive  # noqa: E402
from tests.fake_llm import FakeLLM  # noqa: E402

SYLLABLES = "가나다라마바사아자차카타파하고노도로모보소오조초코토포호"
FAULTS = {"503": 0.1, "500": 0.1, "reset": 0.1}
LIMITED = {"429": 0.1, "503": 0.1, "reset": 0.1}
"""With a rate limit too, at which fewer requests are kept under way: the server asked for that."""


def arguments():
    options = parser(__doc__)
    options.add_argument("--passages", type=positive, default=160)
    options.add_argument("--concurrency", type=positive, default=16)
    options.add_argument("--latency", type=float, default=0.5, help="seconds a call")
    options.add_argument("--kills", type=positive, default=3)
    options.add_argument("--seed", type=int, default=1)
    return options.parse_args()


def words_of(seed: object, count: int) -> str:
    draw = random.Random(str(seed))
    return " ".join("".join(draw.choices(SYLLABLES, k=3)) for _ in range(count))


def write_passages(path: Path, count: int) -> Path:
    rows = [{"paragraph": f"글{n:04d} {words_of(n, 60)}."} for n in range(count)]
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text(text, encoding="utf-8")
    return path


def answer(prompt: str, body: dict) -> str:
    """Two items of a passage; the right choice of an item is the one that begins with 참."""
    if "출제 위원" not in prompt:
        shown = prompt.rpartition("[선택지]")[2]
        (right,) = re.findall(r"^(\d+)\. 참", shown, re.MULTILINE)
        return json.dumps({"answer": int(right)})
    name = re.search(r"글\d{4}", prompt)[0]
    items = []
    for number in (1, 2):
        choices = [words_of((name, number, n), 6) for n in range(4)]
        place = random.Random(f"{name}{number}").randrange(5)
        choices.insert(place, f"참 {words_of((name, number), 6)}")
        question = f"{words_of((name, number, 'q'), 8)}은 무엇인가?"
        row = {"question": question, "question_plus": "", "choices": choices}
        items.append({**row, "answer": place + 1})
    return json.dumps({"items": items}, ensure_ascii=False)


def start(args, fake: FakeLLM, source: Path, output: Path) -> subprocess.Popen:
    words = ["--input", source, "--output", output, "--base_url", f"{fake.url}/v1"]
    words += ["--provider", "openai", "--model", "gpt-4o-mini", "--concurrency", args.concurrency]
    settings = {"PYTHONPATH": str(ROOT / "src"), "OPENAI_API_KEY": "sk", "MALMAT_RETRY_SCALE": "0"}
    return subprocess.Popen(
        [sys.executable, str(ROOT / "src/csat/augment.py"), *map(str, words)],
        env={**os.environ, **settings},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen) -> int:
    _, said = child.communicate()
    if child.returncode not in (0, 1):
        sys.exit(said[-2000:])
    return child.returncode


def files(output: Path) -> list[bytes]:
    return [output.read_bytes(), output.with_name(f"{output.name}.rejected.jsonl").read_bytes()]


def main() -> None:
    args = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        source = write_passages(folder / "passages.jsonl", args.passages)
        print(f"{args.passages} passages, latency {args.latency} s, concurrency {args.concurrency}")
        print("  faults  calls  paid  ideal s  process s  ratio  calls s  ratio  items")
        paid = [wall(args, source, folder / "calm.jsonl", {})]
        paid += [wall(args, source, folder / "storm.jsonl", FAULTS)]
        paid += [wall(args, source, folder / "limited.jsonl", LIMITED)]
        same = files(folder / "calm.jsonl") == files(folder / "storm.jsonl")
        twice = sum(paid[1:]) - 2 * paid[0]
        print(f"  paid twice under faults: {twice}; files the same: {same}")
        kills(args, source, folder, paid[0])


def wall(args, source: Path, output: Path, faults: dict[str, float]) -> int:
    """One run and its line in the table; the number of answers that it paid for."""
    with FakeLLM(answer, faults=faults, seed=args.seed, latency=args.latency) as fake:
        began = time.monotonic()
        code = finish(start(args, fake, source, output))
        took = time.monotonic() - began
        stage = fake.log[-1][0] + args.latency - fake.log[0][0]
        calls, paid = fake.calls, sum(fake.paid.values())
    ideal = calls * args.latency / args.concurrency
    items = len(output.read_text(encoding="utf-8").splitlines())
    print(
        f"  {sum(faults.values()):6.0%}  {calls:5}  {paid:4}  {ideal:7.1f}  {took:9.1f}  "
        f"{took / ideal:5.3f}  {stage:7.1f}  {stage / ideal:5.3f}  {items:5}"
        + ("" if code == 0 else "  (some to be run again)"),
        flush=True,
    )
    return paid


def kills(args, source: Path, folder: Path, calm: int) -> None:
    output, draw, killed = folder / "killed.jsonl", random.Random(args.seed), 0
    with FakeLLM(answer, faults=LIMITED, seed=args.seed, latency=0.05) as fake:
        for point in sorted(draw.randrange(calm) for _ in range(args.kills)):
            child = start(args, fake, source, output)
            while sum(fake.paid.copy().values()) < point and child.poll() is None:
                time.sleep(0.005)
            killed += child.poll() is None
            child.kill()
            child.communicate()
            while fake.active:
                time.sleep(0.005)
        while finish(start(args, fake, source, output)):
            pass
        paid = sum(fake.paid.values())
    same = files(folder / "calm.jsonl") == files(output)
    bound = killed * args.concurrency
    print(
        f"{killed} × kill -9 under faults: {paid - calm} paid twice, {bound} were under way at most"
    )
    print(f"  files the same: {same}")


if __name__ == "__main__":
    main()
