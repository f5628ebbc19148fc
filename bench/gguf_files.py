"""GGUF files: llama.cpp against transformers in float32, the same questions, draws and threads.

    python bench/gguf_files.py --converter llama.cpp/convert_hf_to_gguf.py      # the embedded model
    python bench/gguf_files.py --model_name checkpoints/my-model --types f16

Makes the files that are not there yet in --folder: f16 by llama.cpp's converter, q8_0 and q4_k_m of
it by llama.cpp's quantizer. Each answers questions of usage_questions.json with the published
sampling, one at a time and 32 side by side (transformers also in batches of its own choice), and
greedily; and weighs the labels of made-up dialogue rows (bench/choice.py). Prints tokens a second,
the share of greedy answers that are transformers', rows a second, the share of equal picks and the
largest difference of two log-probabilities. The files take turns in --rounds; medians are shown.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

from choice import argmax, batched, labelled, made_up

from malmat.cli import ROOT, parser, positive, run
from malmat.errors import StopRunning
from malmat.formats import read_questions
from malmat.lm.generate import Sampling, answer_all
from malmat.lm.gguf_tokenizer import library
from malmat.lm.load import load_model, load_tokenizer, resolve
from malmat.prompts import load_prompts, user_message
from malmat.train.gguf import find_converter, write_gguf

QUANTIZED = {"q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0", "q4_k_m": "LLAMA_FTYPE_MOSTLY_Q4_K_M"}

SIDE_BY_SIDE = 32


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model_name", default="embedded", help="no adapter's")
    options.add_argument("--converter", help="llama.cpp's convert_hf_to_gguf.py")
    options.add_argument("--folder", default="exports/bench", help="of the GGUF files")
    options.add_argument("--types", nargs="+", default=["f16", *QUANTIZED])
    options.add_argument("--questions", type=positive, default=64)
    options.add_argument("--alone", type=positive, default=4, help="questions asked one at a time")
    options.add_argument("--max_new_tokens", type=positive, default=32)
    options.add_argument("--dialogues", type=positive, default=4)
    options.add_argument("--rounds", type=positive, default=3)
    args = options.parse_args()
    import torch

    folder = Path(args.folder)
    folder.mkdir(parents=True, exist_ok=True)
    files = {kind: str(made(folder, kind, args)) for kind in args.types}
    arms = {"transformers": opened(args.model_name)}
    arms |= {kind: opened(file) for kind, file in files.items()}
    print(f"{torch.get_num_threads()} threads", *(f"{k}: {v}" for k, v in files.items()), sep="\n")
    write(arms, args)
    weigh(arms, args)


def opened(name: str) -> tuple[Any, Any]:
    return load_tokenizer(name), load_model(name)


def made(folder: Path, kind: str, args: Any) -> Path:
    """The GGUF file of a kind, made where it is not there yet.

    Raises:
        StopRunning: it could not be made.
    """
    path = folder / f"{kind}.gguf"
    if path.exists():
        return path
    if kind not in QUANTIZED:
        converter = find_converter(args.converter)
        path, found = write_gguf(Path(resolve(args.model_name)), path, converter, kind)
        print(f"{kind} beside transformers: {found}", flush=True)
        return path
    whole, lib = made(folder, "f16", args), library()
    settings = lib.llama_model_quantize_default_params()
    settings.ftype = getattr(lib, QUANTIZED[kind])
    settings.nthread = 2
    if lib.llama_model_quantize(str(whole).encode(), str(path).encode(), settings):
        raise StopRunning(f"llama.cpp could not make {path}")
    return path


def write(arms: dict[str, tuple[Any, Any]], args: Any) -> None:
    """Tokens a second of each arm, and how many of its greedy answers are the first one's."""
    chat = load_prompts()["CHAT"]
    known = read_questions(ROOT / "src/eval/usage_questions.json")
    questions = (known * -(-args.questions // len(known)))[: args.questions]
    requests = [
        {"key": str(n), "id": str(n), "messages": user_message(chat, question=one["question"])}
        for n, one in enumerate(questions)
    ]
    few = requests[:: max(1, len(requests) // args.alone)][: args.alone]
    published = Sampling(max_new_tokens=args.max_new_tokens)
    speeds: dict[str, list[tuple[float, float, float]]] = {name: [] for name in arms}
    for arm in arms.values():
        answers(arm, requests[:2], published, 2)  # the first reading is slower
    for number in range(args.rounds):
        for name, arm in arms.items():
            alone = speed(arm, few, published, 1)
            together = speed(arm, requests, published, SIDE_BY_SIDE)
            own = speed(arm, requests, published, None) if name == "transformers" else together
            speeds[name].append((alone, together, own))
            print(f"round {number + 1}, {name}: {alone:.1f}, {together:.1f}, {own:.1f}", flush=True)
    # With the penalty for repetition: without it an untrained model writes its prompt once more,
    # the same to every question, and the answers of all files would be equal.
    greedy = Sampling(max_new_tokens=args.max_new_tokens, temperature=0.0)
    expected: dict[str, dict] = {}
    for name, arm in arms.items():
        found = answers(arm, requests, greedy, SIDE_BY_SIDE)
        expected = expected or found
        same = sum(found[key]["text"] == one["text"] for key, one in expected.items())
        different = len({one["text"] for one in expected.values()})
        alone, together, own = map(statistics.median, zip(*speeds[name], strict=True))
        print(
            f"{name}: {alone:.1f} tokens/s alone, {together:.1f} with {SIDE_BY_SIDE} side by side, "
            f"{own:.1f} in batches of its own choice; {same} of {len(expected)} greedy answers "
            f"({different} different ones) are transformers'",
            flush=True,
        )


def answers(
    arm: tuple[Any, Any], requests: list[dict], sampling: Sampling, size: int | None
) -> dict[str, dict]:
    tokenizer, model = arm
    batches = answer_all(
        model, tokenizer, requests, sampling, batch_size=size, done=lambda key: False
    )
    return {record["key"]: record for batch in batches for record in batch}


def speed(
    arm: tuple[Any, Any], requests: list[dict], sampling: Sampling, size: int | None
) -> float:
    """Tokens a second."""
    start = time.perf_counter()
    found = answers(arm, requests, sampling, size)
    tokens = sum(record["output_tokens"] for record in found.values())
    return tokens / (time.perf_counter() - start)


def weigh(arms: dict[str, tuple[Any, Any]], args: Any) -> None:
    """Rows a second of each arm, and how far its labels' log-probabilities are from the first's."""
    entries = made_up(arms["transformers"][0], args.dialogues)
    rows = [labelled(entry, (0, 1, 2)) for entry in entries]
    expected: list[list[float]] = []
    for name, (tokenizer, model) in arms.items():
        batched(model, tokenizer, rows[:2], "label", 64)
        times = []
        for _ in range(args.rounds):
            start = time.perf_counter()
            found = batched(model, tokenizer, rows, "label", 64)
            times.append(time.perf_counter() - start)
        expected = expected or found
        pairs = list(zip(expected, found, strict=True))
        same = sum(argmax(a) == argmax(b) for a, b in pairs)
        far = max(abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True))
        print(
            f"{name}: {len(rows) / statistics.median(times):.2f} rows/s, same pick in {same} of "
            f"{len(rows)} rows, max |difference| of log-probabilities {far:.1e}",
            flush=True,
        )


if __name__ == "__main__":
    run(main)
