"""Choices by logits: batches of malmat against one row at a time with the logits of all positions.

    python bench/choice.py                      # the embedded model, CPU or GPU
    python bench/choice.py --model_name Qwen/Qwen3-8B --dialogues 40

The rows are made up in the shape of dialogue inference: 4 or 5 questions about a dialogue of some
320 tokens, 3 options, some 400 tokens a row. Label scoring reads A, B or C; text scoring adds up
the tokens of each option (and of each option without the question, which the slow way leaves out).
Prints rows a second of each, the ratio, whether all picks agree, and the largest difference
between two log-probabilities. Both run once before it counts.
"""

from __future__ import annotations

import random
import statistics
import time
from typing import Any

from malmat.cli import ROOT, parser, positive, run
from malmat.formats import read_pairs
from malmat.lm.chat import encode_answers
from malmat.lm.choice import Encoder, score_choices
from malmat.lm.load import load_model, load_tokenizer

Rows = list[tuple[list[dict], tuple[str, ...]]]

RELATIONS = ("원인으로", "후행 사건으로", "전제 조건으로", "동기로", "반응으로")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model_name", default="embedded")
    options.add_argument("--dialogues", type=positive, default=4)
    options.add_argument("--alone", type=positive, default=4, help="rows scored one at a time")
    options.add_argument("--batch_size", type=positive, default=16)
    options.add_argument("--rounds", type=positive, default=2)
    args = options.parse_args()

    tokenizer, model = load_tokenizer(args.model_name), load_model(args.model_name)
    labelled, texts = made_up(tokenizer, args.dialogues)
    sizes = [len(encode_answers(tokenizer, messages, [])[0]) for messages, _ in labelled]
    print(f"{len(sizes)} rows of {min(sizes)} to {max(sizes)} tokens on {model.device}")
    for score, rows, slow in (("label", labelled, label_alone), ("text", texts, text_alone)):
        few = rows[:: max(1, len(rows) // args.alone)][: args.alone]
        slow(model, tokenizer, *few[0])
        batched(model, tokenizer, rows[:2], score, args.batch_size)
        ratios = []
        for number in range(1, args.rounds + 1):
            start = time.perf_counter()
            expected = [slow(model, tokenizer, *row) for row in few]
            alone = len(few) / (time.perf_counter() - start)
            start = time.perf_counter()
            found = batched(model, tokenizer, rows, score, args.batch_size)
            together = len(rows) / (time.perf_counter() - start)
            ratios.append(together / alone)
            print(
                f"{score}, round {number}: one at a time {alone:.3f} rows/s, "
                f"batches {together:.3f} rows/s, ratio {ratios[-1]:.2f}",
                flush=True,
            )
        mine = [found[rows.index(row)] for row in few]
        same = sum(a.index(max(a)) == b.index(max(b)) for a, b in zip(mine, expected, strict=True))
        gap = max(
            abs(a - b)
            for one, other in zip(mine, expected, strict=True)
            for a, b in zip(one, other, strict=True)
        )
        print(
            f"{score}: median ratio {statistics.median(ratios):.2f}, same pick in {same} of "
            f"{len(few)} rows, max |difference| of log-probabilities {gap:.1e}"
        )


def made_up(tokenizer: Any, dialogues: int) -> tuple[Rows, Rows]:
    """Rows for label and for text scoring, from sentences of the published pairs."""
    draw = random.Random(1)
    pairs = read_pairs(ROOT / "merged_final.json")
    labelled, texts = [], []
    for number in range(dialogues):
        lines: list[str] = []
        while len(tokenizer("\n".join(lines))["input_ids"]) < 315:
            pair = draw.choice(pairs)
            lines += [f"화자1: {pair['question']}", f"화자2: {pair['answer']}"]
        dialogue = "\n".join(lines)
        for relation in RELATIONS[: 4 + number % 2]:
            answers = tuple(draw.choice(pairs)["answer"] for _ in range(3))
            question = f"[대화]\n{dialogue}\n\n[질문]\n위 대화의 {relation} 올바른 것은?"
            listed = "\n".join(f"{label}. {a}" for label, a in zip("ABC", answers, strict=True))
            labelled.append((ask(f"{question}\n\n[선택지]\n{listed}"), tuple("ABC")))
            texts.append((ask(question), answers))
    return labelled, texts


def ask(text: str) -> list[dict]:
    return [{"role": "user", "content": text}]


def batched(model: Any, tokenizer: Any, rows: Rows, score: str, size: int) -> list[list[float]]:
    """Log-probabilities of each row's choices, by malmat; encoding is part of the time."""
    encode = Encoder(tokenizer, score)
    questions = [encode(messages, choices) for messages, choices in rows]
    found: dict[int, list[float]] = {}
    for batch, scores, _ in score_choices(model, tokenizer, questions, batch_size=size):
        for index, row in zip(batch, scores, strict=True):
            texts = row.get("likelihoods")
            found[index] = [t["sum"] for t in texts] if texts else row["log_probabilities"]
    return [found[index] for index in range(len(rows))]


def all_logs(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        logits = model(torch.tensor([ids], device=model.device)).logits[0]
        return logits.float().log_softmax(-1)


def label_alone(
    model: Any, tokenizer: Any, messages: list[dict], choices: tuple[str, ...]
) -> list[float]:
    prompt, targets = encode_answers(tokenizer, messages, list(choices))
    logs = all_logs(model, prompt)[-1]
    return logs[[target[0] for target in targets]].log_softmax(-1).tolist()


def text_alone(
    model: Any, tokenizer: Any, messages: list[dict], choices: tuple[str, ...]
) -> list[float]:
    prompt, targets = encode_answers(tokenizer, messages, list(choices))
    sums = []
    for target in targets:
        logs = all_logs(model, prompt + target)[len(prompt) - 1 : -1]
        sums.append(float(logs[range(len(target)), target].sum()))
    return sums


if __name__ == "__main__":
    run(main)
