"""The stages of the chain at tiny sizes: what each is run with, what it writes, what it asks."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import PAIRS
from tests.fake_gemini import dialogues
from tests.test_augment import TITLES, write_terms
from tests.test_training import command, write_pairs

CONCURRENCY = 4


@dataclass(frozen=True)
class Stage:
    """A stage.

    Args:
        words: (data folder, output folder, the server's address) → the command.
        results: patterns of the files, in the output folder, that must come out the same.
        answer: what the server answers, of a stage that asks one; as of ``FakeLLM``.
        calls: prompts that an undisturbed run pays for.
        limit: bytes that a file may have on the full disk: less than the results need.
    """

    name: str
    words: Callable[[Path, Path, str], list[object]]
    results: tuple[str, ...]
    answer: Callable[[str, dict], str] | None = None
    calls: int = 0
    limit: int = 3000

    def found(self, output: Path) -> dict[str, bytes]:
        """The results, without what may differ (``PASSING``)."""
        paths = [path for pattern in self.results for path in sorted(output.glob(pattern))]
        return {str(path.relative_to(output)): _lasting(path) for path in paths}


PASSING = ("seconds", "base_url", "usage", "judge_tokens", "output_tokens")
"""What may differ between runs: times, the server's port, what replies without text have cost."""


def _lasting(path: Path) -> bytes:
    if path.suffix != ".json":
        return path.read_bytes()

    def without(value: object) -> object:
        if isinstance(value, dict):
            return {name: without(part) for name, part in value.items() if name not in PASSING}
        return [without(part) for part in value] if isinstance(value, list) else value

    return json.dumps(without(json.loads(path.read_text("utf-8"))), ensure_ascii=False).encode()


QUESTIONS, CHOICES, ROWS = 24, 24, 32


def make_data(folder: Path, model_folder: Path) -> Path:
    """The files that the stages read."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model").symlink_to(model_folder)
    write_terms(folder / "terms.csv", TITLES)
    write_pairs(folder / "pairs.jsonl")
    questions = [f"{q} {n}" for n in range(3) for q, _ in PAIRS]
    _write(folder / "questions.json", {"questions": questions})
    replies = [answer for _, answer in PAIRS]
    chosen = [
        {"question": q, "choices": [replies[(n + i) % 8] for i in range(4)], "target": replies[n]}
        for q in ("", "그래서 ", "근데 ")
        for n, q in enumerate(q + one for one, _ in PAIRS)
    ]
    _write(folder / "choices.json", chosen)
    answers = [
        {"title": TITLES[n % 10], "question": f"질문 {n}", "answer": f"답변번호{n}. 갓생 산다"}
        for n in range(ROWS)
    ]
    _write(folder / "answers.json", answers)
    for voter in range(3):
        _write(folder / f"voter{voter}.json", [_vote(n, voter) for n in range(200)])
    return folder


def _vote(number: int, voter: int) -> dict:
    choices = ["가", "나", "다", "라"]
    row = {"id": f"r{number}", "question": f"질문 {number}", "choices": choices, "target": "가"}
    shares = [0.1, 0.2, 0.3, 0.4]
    picked = choices[number * (voter + 1) % 4]
    return row | {"title": "", "answer": picked, "status": "ok", "probabilities": shares}


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def _judge(prompt: str, _: dict) -> str:
    number = int(prompt.split("답변번호")[1].split(".")[0])
    return json.dumps({"reason": "이유", "score": number % 5 + 1})


def _infer(model: object, kind: str, task: str, questions: str, *more: object):
    def words(data: Path, output: Path, url: str) -> list[object]:
        served = ["--base_url", f"{url}/v1", "--concurrency", CONCURRENCY]
        return [
            *("src/eval/infer.py", data / "model" if kind == "local" else model, kind, task),
            *("--questions", data / questions, "--output", output / "answers.json"),
            *(served if kind == "api" else ["--batch_size", 2]),
            *more,
        ]

    return words


def _augment(data: Path, output: Path, url: str) -> list[object]:
    return [
        *("generate_augmented_pairs_gemini.py", "--provider", "openai", "--model", "writer"),
        *("--input", data / "terms.csv", "--output_dir", output, "--base_url", f"{url}/v1"),
        *("--concurrency", CONCURRENCY, "--pairs_per_term", 3, "--screen"),
    ]


def _train(data: Path, output: Path, _: str) -> list[object]:
    options = {"max_steps": 8, "save_steps": 2, "learning_rate": "1e-2", "lora_r": 4}
    script = "train_lora_fine_tuning.py"
    return command(data / "model", data / "pairs.jsonl", output / "lora", script, **options)


def _score(data: Path, output: Path, url: str) -> list[object]:
    return [
        *("src/eval/score.py", "--model_name", "m", "--score_mode", "understand"),
        *("--infer_results", data / "answers.json", "--terms", data / "terms.csv"),
        *("--output", output / "scores.json", "--scorer_name", "judge"),
        *("--base_url", f"{url}/v1", "--concurrency", CONCURRENCY),
    ]


def _vote_words(data: Path, output: Path, _: str) -> list[object]:
    voters = [data / f"voter{n}.json" for n in range(3)]
    return [
        *("src/eval/vote.py", "--task", "reply", *voters, "--name", "vote"),
        *("--output", output / "vote.json"),
    ]


STAGES = {
    stage.name: stage
    for stage in (
        Stage("augment", _augment, ("*.json", "rejected.jsonl"), dialogues, 45, 2000),
        Stage("train", _train, ("lora/adapter_model.safetensors",), limit=30_000),
        Stage(
            "infer_local",
            _infer(None, "local", "usage", "questions.json", "--max_new_tokens", 8),
            ("answers.json",),
        ),
        Stage(
            "infer_api",
            _infer("writer", "api", "usage", "questions.json"),
            ("answers.json",),
            lambda prompt, _: f"대답 {prompt[-20:]}",
            QUESTIONS,
        ),
        Stage("choose", _infer(None, "local", "reply", "choices.json"), ("answers.json",)),
        Stage("score", _score, ("scores.json",), _judge, ROWS),
        Stage("vote", _vote_words, ("vote.json",)),
    )
}
