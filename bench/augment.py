"""Augmentation against a fake Gemini: kills and faults, wall time, memory.

    python bench/augment.py                       # everything, about half an hour on 2 cores
    python bench/augment.py kills --terms 60 --kills 5 --sdk google-genai

Prints tables; writes into a temporary folder alone.

kills   a run under faults (a third of the calls), killed at random moments and started again,
        against one without either: terms lost, answers bought twice by the server's own count,
        and whether all files are the same.
wall    seconds against calls × latency ÷ concurrency, without faults; the whole process (Python,
        SDK and morphology loaded), and from its first call to its last.
memory  the largest resident size of a run over few terms and over many.
"""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "src")]

from malmat.cli import parser, positive  # noqa: E402
from tests.fake_gemini import dialogues  # noqa: E402
from tests.fake_llm import FakeLLM, storm  # noqa: E402

SDKS = ("google-genai", "google-generativeai")
SYLLABLES = "가나다라마바사아자차카타파하고노도로모보소오조초코토포호"


def arguments():
    options = parser(__doc__)
    options.add_argument("parts", nargs="*", help="kills, wall, memory (default: all)")
    options.add_argument("--terms", type=positive, default=354)
    options.add_argument("--kills", type=positive, default=20)
    options.add_argument("--sdk", choices=SDKS, help="only this one")
    options.add_argument("--latency", type=float, default=2.0, help="seconds, for wall")
    options.add_argument("--at", type=positive, nargs="+", default=[1, 8, 64], help="concurrencies")
    options.add_argument("--seconds", type=float, default=60, help="ideal length, for wall")
    options.add_argument("--sizes", type=positive, nargs="+", default=[100, 1000, 10000])
    options.add_argument("--seed", type=int, default=1)
    return options.parse_args()


def main() -> None:
    args = arguments()
    for sdk in [args.sdk] if args.sdk else SDKS:
        for part in args.parts or ("kills", "wall", "memory"):
            with tempfile.TemporaryDirectory() as folder:
                {"kills": kills, "wall": wall, "memory": memory}[part](args, sdk, Path(folder))


def write_terms(path: Path, count: int) -> Path:
    """Made-up terms, some with a title that is no file name."""
    draw = random.Random(7)
    with open(path, "w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["title", "content", "example_q", "example_a"])
        for number in range(count):
            word = "".join(draw.choice(SYLLABLES) for _ in range(4))
            title = f"{word}{number}" + (f"/{word}이{number}" if number % 50 == 7 else "")
            question = f"{word}{number} 요즘 그게 그렇게 유행이야?"
            writer.writerow(
                [title, f"{word}의 뜻이다.", question, "나도 어제 처음 들었어 웃기더라"]
            )
    return path


def start(fake: FakeLLM, sdk: str, terms: Path, output: Path, *more: object) -> subprocess.Popen:
    words = ["--input", terms, "--output_dir", output, "--base_url", fake.url, "--sdk", sdk, *more]
    return subprocess.Popen(
        [sys.executable, str(ROOT / "generate_augmented_pairs_gemini.py"), *map(str, words)],
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT / "src"),
            "GEMINI_API_KEY": "fake",
            "MALMAT_RETRY_SCALE": "0.01",
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(child: subprocess.Popen) -> int:
    _, said = child.communicate()
    if child.returncode not in (0, 1):
        sys.exit(said[-2000:])
    return child.returncode


def outputs(folder: Path) -> dict[str, bytes]:
    """All that a run writes for others to read."""
    names = [*folder.glob("*.json"), folder / "rejected.jsonl"]
    return {path.name: path.read_bytes() for path in names}


def kills(args, sdk: str, folder: Path) -> None:
    concurrency, terms = 8, write_terms(folder / "terms.csv", args.terms)
    runs, moments = {}, random.Random(args.seed)
    blocked = {"safety": storm()["safety"]}
    with FakeLLM(dialogues, faults=blocked, seed=args.seed, latency=0.1) as fake:
        finish(start(fake, sdk, terms, folder / "calm", "--concurrency", concurrency))
        calm = sum(fake.paid.values())
    runs["undisturbed"] = outputs(folder / "calm")
    points = sorted(moments.randrange(calm) for _ in range(args.kills))
    with FakeLLM(dialogues, faults=storm(), seed=args.seed, latency=0.1) as fake:
        killed = restarts = 0
        for point in points:
            child = start(fake, sdk, terms, folder / "wild", "--concurrency", concurrency)
            while sum(fake.paid.copy().values()) < point and child.poll() is None:
                time.sleep(0.005)
            time.sleep(moments.uniform(0, 0.5))
            killed += child.poll() is None
            child.kill()
            child.communicate()
            while fake.active:
                time.sleep(0.005)
        while finish(start(fake, sdk, terms, folder / "wild", "--concurrency", concurrency)):
            restarts += 1  # some calls failed eight times: the same command tries them again
        stormy, calls, counts = sum(fake.paid.values()), fake.calls, dict(fake.counts)
    runs["killed"] = outputs(folder / "wild")
    files = {name: len(found) - 1 for name, found in runs.items()}
    same = runs["undisturbed"] == runs["killed"]
    print(f"\nkills, {sdk}: {args.terms} terms, {killed} × kill -9, concurrency {concurrency}")
    print(f"  faults drawn            {counts}")
    print(f"  term files              {files['undisturbed']} undisturbed, {files['killed']} killed")
    print(f"  terms lost              {len(runs['undisturbed'].keys() - runs['killed'].keys())}")
    print(f"  answers bought          {calm} undisturbed, {stormy} killed ({calls} calls in all)")
    bound = killed * concurrency
    print(f"  bought twice            {stormy - calm}, allowed {bound} (kills × concurrency)")
    print(f"  runs after failures     {restarts}")
    print(f"  output identical        {'yes' if same else 'NO'}", flush=True)


def wall(args, sdk: str, folder: Path) -> None:
    print(f"\nwall, {sdk}: latency {args.latency} s, one round, no faults")
    print("  concurrency  calls  ideal s  process s  ratio  calls s  ratio")
    for concurrency in args.at:
        count = round(args.seconds / args.latency) * concurrency
        terms = write_terms(folder / f"{concurrency}.csv", count)
        output, words = folder / str(concurrency), ["--concurrency", concurrency, "--rounds", 1]
        with FakeLLM(dialogues, latency=args.latency) as fake:
            began = time.monotonic()
            finish(start(fake, sdk, terms, output, *words))
            took = time.monotonic() - began
            stage = fake.log[-1][0] + args.latency - fake.log[0][0]
            ideal = fake.calls * args.latency / concurrency
        print(
            f"  {concurrency:11}  {fake.calls:5}  {ideal:7.1f}  {took:9.1f}  {took / ideal:5.3f}  "
            f"{stage:7.1f}  {stage / ideal:5.3f}",
            flush=True,
        )


def memory(args, sdk: str, folder: Path) -> None:
    print(f"\nmemory, {sdk}: largest resident size of the process, no latency, concurrency 8")
    print("  terms    MiB  seconds  pairs a second")
    for count in args.sizes:
        terms = write_terms(folder / f"{count}.csv", count)
        with FakeLLM(dialogues) as fake:
            began = time.monotonic()
            child = start(fake, sdk, terms, folder / str(count), "--concurrency", 8)
            peak = 0
            while child.poll() is None:
                peak = max(peak, resident(child.pid))
                time.sleep(0.2)
            finish(child)
            took = time.monotonic() - began
        print(f"  {count:5}  {peak:5}  {took:7.1f}  {count * 10 / took:14.1f}", flush=True)


def resident(process: int) -> int:
    """MiB of its largest resident size so far; 0 where it has just ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM")), 0)


if __name__ == "__main__":
    main()
