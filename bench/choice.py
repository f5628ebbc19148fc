"""Choices by logits: batches of malmat against one row at a time with the logits of all positions.

    python bench/choice.py                      # the embedded model, CPU or GPU
    python bench/choice.py --rows train.json --dialogues 6 --alone 30   # published rows
    python bench/choice.py --model_name Qwen/Qwen3-8B --dialogues 40

The rows are those of a file of the dialogue inference contest, or made up in their shape: 4 or 5
questions about a dialogue of some 320 tokens, 3 options, some 400 tokens a row. ``label`` reads
A, B or C; ``orders`` does so in all six orders of the options; ``text`` adds up the tokens of each
option. The slow way scores some of the rows. The two take turns, and both run once before it
counts. Prints rows a second (and rows a CPU second, which neighbours on the machine disturb less),
the ratios, whether all picks agree, and the largest difference of two log-probabilities.
"""

from __future__ import annotations

import random
import statistics
import time
from itertools import permutations
from typing import Any

from malmat.cli import ROOT, parser, positive, run
from malmat.files import read_json, write_json
from malmat.formats import read_pairs
from malmat.lm.chat import encode_answers
from malmat.lm.choice import Encoder, score_choices
from malmat.lm.load import load_model, load_tokenizer

Rows = list[tuple[list[dict], tuple[str, ...]]]

CATEGORIES = ("원인", "후행사건", "전제", "동기", "반응")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--model_name", default="embedded")
    options.add_argument("--rows", help="a file of the contest; default: made-up rows")
    options.add_argument("--dialogues", type=positive, default=4)
    options.add_argument("--alone", type=positive, default=4, help="rows scored one at a time")
    options.add_argument("--batch_size", type=positive, default=64)
    options.add_argument("--rounds", type=positive, default=2)
    options.add_argument("--arms", nargs="+", default=["label", "orders", "text"])
    options.add_argument("--output", help="a JSON file for the figures")
    args = options.parse_args()

    tokenizer, model = load_tokenizer(args.model_name), load_model(args.model_name)
    entries = published(args) if args.rows else made_up(tokenizer, args.dialogues)
    arms = {
        "label": ("label", [labelled(entry, (0, 1, 2)) for entry in entries]),
        "orders": ("label", [labelled(e, o) for e in entries for o in permutations(range(3))]),
        "text": ("text", [(ask(question_of(entry)), options_of(entry)) for entry in entries]),
    }
    sizes = [len(encode_answers(tokenizer, messages, [])[0]) for messages, _ in arms["label"][1]]
    print(f"{len(sizes)} rows of {min(sizes)} to {max(sizes)} tokens on {model.device}")
    figures = {a: compare(model, tokenizer, a, *arms[a], len(entries), args) for a in args.arms}
    if args.output:
        write_json(args.output, figures)


def compare(
    model: Any, tokenizer: Any, arm: str, score: str, rows: Rows, count: int, args: Any
) -> dict:
    """One kind of scoring both ways; ``count`` rows are asked about, each in several orders."""
    slow = label_alone if score == "label" else text_alone
    few = random.Random(2).sample(range(len(rows)), min(args.alone, len(rows)))
    slow(model, tokenizer, *rows[few[0]])
    batched(model, tokenizer, rows[:2], score, args.batch_size)
    ratios, speeds = [], []
    parts = [few[n :: args.rounds] for n in range(args.rounds)]
    differences, same = [], 0
    for number, part in enumerate(filter(None, parts), 1):
        expected, alone = timed(lambda part=part: [slow(model, tokenizer, *rows[i]) for i in part])
        found, whole = timed(lambda: batched(model, tokenizer, rows, score, args.batch_size))
        alone = [len(part) / len(rows) * count / seconds for seconds in alone]
        together = [count / seconds for seconds in whole]
        speeds.append(together[0])
        ratios.append([b / a for a, b in zip(alone, together, strict=True)])
        print(
            f"{arm}, round {number}: one at a time {alone[0]:.3f} rows/s ({alone[1]:.3f} a CPU "
            f"second), batches {together[0]:.3f} ({together[1]:.3f}), "
            f"ratio {ratios[-1][0]:.2f} ({ratios[-1][1]:.2f})",
            flush=True,
        )
        for index, one in zip(part, expected, strict=True):
            same += argmax(one) == argmax(found[index])
            differences += [abs(a - b) for a, b in zip(one, found[index], strict=True)]
    wall, processor = (statistics.median(column) for column in zip(*ratios, strict=True))
    print(
        f"{arm}: median ratio {wall:.2f} ({processor:.2f} in CPU seconds), same pick in {same} of "
        f"{len(few)} rows, max |difference| of log-probabilities {max(differences):.1e}"
    )
    figures = {"rows_per_s": statistics.median(speeds), "ratio": wall, "processor_ratio": processor}
    return {**figures, "same": same, "of": len(few), "difference": max(differences)}


def timed(work: Any) -> tuple[Any, tuple[float, float]]:
    """What it returns, and its wall and CPU seconds."""
    wall, processor = time.perf_counter(), time.process_time()
    result = work()
    return result, (time.perf_counter() - wall, time.process_time() - processor)


def argmax(values: list[float]) -> int:
    return values.index(max(values))


def published(args: Any) -> list[dict]:
    """The rows of the first dialogues of a file."""
    rows = [row["input"] for row in read_json(args.rows)]
    groups: dict[str, list[dict]] = {}
    for row in rows:
        dialogue = ids_of(row["conversation"][0])[0].rpartition(".")[0]
        groups.setdefault(dialogue, []).append(row)
    some = random.Random(3).sample(sorted(groups), min(args.dialogues, len(groups)))
    return [row for name in some for row in groups[name]]


def ids_of(utterance: dict) -> list[str]:
    """Utterances that were merged have a list of ids."""
    ids = utterance["utterance_id"]
    return ids if isinstance(ids, list) else [ids]


def made_up(tokenizer: Any, dialogues: int) -> list[dict]:
    """Rows in the contest's layout, of sentences of the published pairs."""
    draw = random.Random(1)
    pairs = read_pairs(ROOT / "merged_final.json")
    entries = []
    for number in range(dialogues):
        lines: list[str] = []
        while len(tokenizer("\n".join(lines))["input_ids"]) < 290:
            pair = draw.choice(pairs)
            lines += [pair["question"], pair["answer"]]
        conversation = [
            {"speaker": 1 + place % 2, "utterance": text, "utterance_id": f"{number}.1.{place}"}
            for place, text in enumerate(lines)
        ]
        for category in CATEGORIES[: 4 + number % 2]:
            texts = {f"inference_{n}": draw.choice(pairs)["answer"] for n in (1, 2, 3)}
            marked = [draw.choice(conversation)["utterance_id"]]
            entries.append(
                {"conversation": conversation, "reference_id": marked, "category": category} | texts
            )
    return entries


def options_of(entry: dict) -> tuple[str, ...]:
    return tuple(entry[f"inference_{n}"] for n in (1, 2, 3))


def question_of(entry: dict) -> str:
    said = [(f"화자{u['speaker']}: {u['utterance']}", u) for u in entry["conversation"]]
    marked = "\n".join(text for text, u in said if {*ids_of(u)} & {*entry["reference_id"]})
    dialogue = "\n".join(text for text, _ in said)
    return (
        f"[대화]\n{dialogue}\n\n[발화]\n{marked}\n\n"
        f"[질문]\n위 발화의 {entry['category']}에 알맞은 것은?"
    )


def labelled(entry: dict, order: tuple[int, ...]) -> tuple[list[dict], tuple[str, ...]]:
    texts = [options_of(entry)[place] for place in order]
    listed = "\n".join(f"{label}. {text}" for label, text in zip("ABC", texts, strict=True))
    return ask(f"{question_of(entry)}\n\n[선택지]\n{listed}"), tuple("ABC")


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


def all_logits(model: Any, ids: list[int]) -> Any:
    import torch

    with torch.inference_mode():
        return model(torch.tensor([ids], device=model.device)).logits[0]


def label_alone(
    model: Any, tokenizer: Any, messages: list[dict], choices: tuple[str, ...]
) -> list[float]:
    prompt, targets = encode_answers(tokenizer, messages, list(choices))
    logits = all_logits(model, prompt)[-1].float()
    return logits[[target[0] for target in targets]].log_softmax(-1).tolist()


def text_alone(
    model: Any, tokenizer: Any, messages: list[dict], choices: tuple[str, ...]
) -> list[float]:
    prompt, targets = encode_answers(tokenizer, messages, list(choices))
    sums = []
    for target in targets:
        logs = all_logits(model, prompt + target)[len(prompt) - 1 : -1].float().log_softmax(-1)
        sums.append(float(logs[range(len(target)), target].sum()))
    return sums


if __name__ == "__main__":
    run(main)
