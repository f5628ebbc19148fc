"""Augmentation: distilabel's pipeline beside ours, against a fake OpenAI server.

    bench/peers/run.sh distilabel                         # without faults, then with 30 %
    bench/peers/run.sh distilabel --terms 40 --faults 0.3

Both ask the same number of prompts of the server in tests/fake_llm.py, which answers after
--latency seconds and fails a share of the calls as servers do (429, 500, 503, connections that
break). Prints  seconds against calls × latency ÷ concurrency, and how many terms have no reply in
the end. Ours is generate_augmented_pairs_gemini.py in one round; distilabel is TextGeneration by
OpenAILLM in batches of the same size, with the retries that it comes with.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "src"), str(ROOT / "bench")]

from augment import write_terms  # noqa: E402

from tests.fake_gemini import dialogues  # noqa: E402
from tests.fake_llm import FakeLLM  # noqa: E402

KINDS = ("429", "500", "503", "reset", "drop")
"""Faults that pass: who asks again is answered."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--terms", type=int, default=96)
    options.add_argument("--latency", type=float, default=0.5)
    options.add_argument("--concurrency", type=int, default=8)
    options.add_argument("--faults", type=float, nargs="+", default=[0.0, 0.3])
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--child", nargs=2, metavar=("URL", "PROMPTS"), help="(one pipeline)")
    args = options.parse_args()
    if args.child:
        pipeline(*args.child, args.concurrency)
        return
    for share in args.faults:
        for name, ask in (("distilabel", ask_distilabel), ("malmat", ask_ours)):
            rounds = [ask(args, share, seed) for seed in range(args.rounds)]
            seconds, ratios, lost = zip(*rounds, strict=True)
            print(
                f"{share:.0%} faults, {name}: median {statistics.median(seconds):.1f} s "
                f"({min(seconds):.1f} to {max(seconds):.1f}), {statistics.median(ratios):.2f} × "
                f"the ideal; terms without a reply: {', '.join(map(str, lost))} of {args.terms}",
                flush=True,
            )


def server(args, share: float, seed: int) -> FakeLLM:
    faults = dict.fromkeys(KINDS, share / len(KINDS)) if share else {}
    return FakeLLM(dialogues, faults=faults, seed=seed, latency=args.latency, retry_after=1)


def ideal(args) -> float:
    return args.terms * args.latency / args.concurrency


def ask_ours(args, share: float, seed: int) -> tuple[float, float, int]:
    """(seconds, seconds over the ideal, terms without a reply)."""
    with tempfile.TemporaryDirectory() as folder, server(args, share, seed) as fake:
        terms, output = write_terms(Path(folder) / "t.csv", args.terms), Path(folder) / "out"
        words = ["--input", terms, "--output_dir", output, "--base_url", f"{fake.url}/v1"]
        words += ["--provider", "openai", "--model", "fake", "--rounds", 1]
        words += ["--concurrency", args.concurrency]
        script = ROOT / "generate_augmented_pairs_gemini.py"
        seconds = timed([script, *words])
        files = [path for path in output.glob("*.json") if "run" not in path.stem]
    return seconds, seconds / ideal(args), args.terms - len(files)


def ask_distilabel(args, share: float, seed: int) -> tuple[float, float, int]:
    with tempfile.TemporaryDirectory() as folder, server(args, share, seed) as fake:
        words = ["--child", f"{fake.url}/v1", args.terms, "--concurrency", args.concurrency]
        done = Path(folder) / "done"
        os.environ["DONE"] = str(done)
        seconds = timed([Path(__file__), *words])
        answered = int(done.read_text()) if done.exists() else 0
    return seconds, seconds / ideal(args), args.terms - answered


def timed(words: list) -> float:
    began = time.monotonic()
    result = subprocess.run(
        [sys.executable, *map(str, words)],
        env={**os.environ, "OPENAI_API_KEY": "fake", "MALMAT_RETRY_SCALE": "1"},
        capture_output=True,
        text=True,
    )
    if result.returncode not in (0, 1):
        sys.exit(result.stderr[-1500:])
    return time.monotonic() - began


def pipeline(url: str, count: str, concurrency: int) -> None:
    """One run of distilabel; the number of generations goes to the file DONE."""
    from distilabel.models import OpenAILLM
    from distilabel.pipeline import Pipeline
    from distilabel.steps import LoadDataFromDicts
    from distilabel.steps.tasks import TextGeneration

    rows = [
        {"instruction": f"[신조어] 갓생{n}\n[뜻] 부지런한 삶\n[예시 질문] 뭐 해\n대화를 10개 써 줘"}
        for n in range(int(count))
    ]
    with Pipeline(name="augment") as pipe:
        load = LoadDataFromDicts(data=rows, batch_size=concurrency)
        llm = OpenAILLM(model="fake", base_url=url, api_key="fake")
        task = TextGeneration(llm=llm, input_batch_size=concurrency)
        load >> task
    found = pipe.run(use_cache=False)
    texts = found["default"]["train"]["generation"]
    Path(os.environ["DONE"]).write_text(str(sum(bool(text) for text in texts)))


if __name__ == "__main__":
    main()
