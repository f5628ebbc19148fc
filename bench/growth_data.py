"""What bench/growth.py measures on: made-up pairs, terms and answers, alike at each run."""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterator
from pathlib import Path

from malmat.cli import ROOT
from malmat.files import write_json
from malmat.formats import read_pairs

PAIRS_A_TERM = 10
NEAR, COPIES, SAME = 0.01, 0.005, 0.001
"""Shares of pairs that are nearly like the one before, copies of it, and one and the same message:
what costs little among few pairs, and much where each is held against all that are like it."""

PARTICLES = ("", "이", "은", "인데", "ㅋㅋ", "했어", "이야")


def words_and_syllables() -> tuple[list[str], list[str]]:
    """Those of the published pairs, as often as they stand there."""
    texts = [text for p in read_pairs(ROOT / "merged_final.json") for text in _sides(p)]
    words = [word for text in texts for word in text.split()]
    return words, [letter for word in words for letter in word if "가" <= letter <= "힣"]


def _sides(pair: dict) -> tuple[str, str]:
    return pair["question"], pair["answer"]


def titles(count: int, syllables: list[str], draw: random.Random) -> list[str]:
    """Different made-up words of three to five syllables."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(draw.choices(syllables, k=draw.choice((3, 4, 5))))] = None
    return list(found)


def write_pairs(folder: Path, count: int) -> None:
    """Write ``pairs.json`` (the nested shape), the same in halves that overlap (``half-1.json``,
    ``half-2.json``), ``terms.csv`` and ``evaluated.jsonl``, one in fifty of its terms unseen."""
    draw = random.Random(count)
    words, syllables = words_and_syllables()
    names = titles(max(1, count // PAIRS_A_TERM), syllables, draw)
    terms = [
        {"title": name, "description": " ".join(draw.choices(words, k=8)), "conversations": talks}
        for name, talks in zip(names, _conversations(names, count, words, draw), strict=True)
    ]
    middle, overlap = len(terms) // 2, len(terms) // 100
    for name, part in (
        ("pairs", terms),
        ("half-1", terms[: middle + overlap]),
        ("half-2", terms[middle:]),
    ):
        write_json(folder / f"{name}.json", part)
    with (folder / "terms.csv").open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["title", "content", "example_q", "example_a"])
        for term in terms:
            writer.writerow([term["title"], term["description"], "", ""])
    with (folder / "evaluated.jsonl").open("w", encoding="utf-8") as handle:
        for number, name in enumerate(names):
            row = {"title": name, "split": "seen" if number % 50 else "unseen"}
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def _conversations(
    names: list[str], count: int, words: list[str], draw: random.Random
) -> Iterator[list[dict]]:
    for place, name in enumerate(names):
        talks: list[dict] = []
        for _ in range(count // len(names) + (place < count % len(names))):
            kind = draw.random()
            question = draw.choices(words, k=draw.randint(4, 9))
            answer = draw.choices(words, k=draw.randint(4, 12))
            side = draw.choice((question, answer))
            side.insert(draw.randrange(len(side)), name + draw.choice(PARTICLES))
            talk = {"q": " ".join(question), "a": " ".join(answer)}
            if kind < SAME:
                talk = {"q": "ㅋㅋㅋ 이거 진짜야?", "a": "ㅇㅇ 나도 방금 봤어 대박"}
            elif talks and kind < SAME + COPIES:
                talk = {side: talks[-1][side] for side in talk}
            elif talks and kind < SAME + COPIES + NEAR:
                talk = {"q": talks[-1]["q"] + " ㅋㅋ", "a": talks[-1]["a"] + " 그치"}
            talks.append({"context": draw.choice(words), **talk, "model": "made-up"})
        yield talks


def write_answers(folder: Path, task: str, models: int, count: int) -> list[Path]:
    """Files of made-up answers: to ``usage`` texts, to ``reply`` one of four choices, right in
    half of the rows and a little more in each further model."""
    words, _ = words_and_syllables()
    paths = []
    for number in range(models):
        items, draw = random.Random(count), random.Random(f"{count} {number}")
        rows = []
        for place in range(count):
            choices = [" ".join(items.choices(words, k=6)) + f" {n}" for n in range(4)]
            row = {"id": f"r{place}", "title": f"용어{place // 2}", "status": "ok"}
            row["question"] = " ".join(items.choices(words, k=8))
            if task == "reply":
                right = draw.random() < 0.5 + 0.01 * number
                pick = 0 if right else draw.randint(1, 3)
                weights = [0.5 if n == pick else 0.5 / 3 for n in range(4)]
                row |= {"choices": choices, "target": choices[0], "answer": choices[pick]}
                row["probabilities"] = weights
            else:
                row["answer"] = " ".join(draw.choices(words, k=20))
            rows.append(row)
        paths.append(folder / f"model-{number:02}_{task}_inference_results.json")
        write_json(paths[-1], rows)
    return paths
