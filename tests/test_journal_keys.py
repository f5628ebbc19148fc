"""Journal keys stay what they are: an answer that was paid for is found by its key alone.

The constants were written by the code as it was before the library had subpackages. Each script
runs whole, with a fixed wording and with the model's one call replaced.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

import generate_augmented_pairs_gemini as augment
import infer
import malmat.lm.choice
import malmat.lm.generate
import malmat.lm.load
import score
import understanding_evaluation_augmenter as augment_questions
from malmat import prompts
from malmat.answer.gemini import Gemini
from malmat.answer.openai import OpenAI
from malmat.answer.request import Request, request_key
from malmat.text.terms import TermMatcher
from tasks import TASKS

PROMPTS = {
    "CHAT": "친구의 말에 답해.\n{question}",
    "AUGMENT": "{title}: {content} ({example_q} / {example_a}), {count}개{known}",
    "AUGMENT_KNOWN": "\n이미 있는 것:\n{pairs}",
    "AUGMENT_WORKED": (
        '{"title": "칼퇴", "content": "제때 퇴근하는 것", "example_q": "어디야?",'
        ' "example_a": "칼퇴했지", "conversations": [{"context": "", "q": "집?", "a": "칼퇴"}]}'
    ),
    "AUGMENT_QUESTION": "{title}: {content}, {example_q} 말고",
    "JUDGE_UNDERSTAND": "{title}: {content}\n{question}\n{answer}",
    "JUDGE_USAGE": "{terms}\n{question}\n{answer}",
    "JUDGE_UNDERSTAND_LOCAL": "{title}: {content}\n{question}\n{answer}\n점수:",
    "HARMFUL": "해로운가? {text}",
}
PAIRS = [
    ("주말에 뭐 하고 지냈어", "아침마다 운동했지, 갓생이야"),
    ("새벽부터 어디를 그렇게 가니", "도서관 가는 중, 나 갓생 살잖아"),
]
VERSION = "model-2030-01-02"


@pytest.fixture(autouse=True)
def _no_model_answers(monkeypatch, tmp_path):
    """Fixed wording, and in place of each kind of model a function."""
    wording = tmp_path / "prompt.py"
    wording.write_text("".join(f"{name} = {text!r}\n" for name, text in PROMPTS.items()))
    monkeypatch.setattr(prompts, "PROMPT_FILE", wording)
    for name, task in TASKS.items():
        monkeypatch.setitem(TASKS, name, replace(task, prompt_file=wording))
    monkeypatch.setenv("OPENAI_API_KEY", "sk-fake")
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaSyFake")
    for model in (OpenAI, Gemini):
        monkeypatch.setattr(model, "send", lambda _, request: reply(request.messages))
    for name in ("load_model", "load_tokenizer"):
        monkeypatch.setattr(malmat.lm.load, name, lambda *_, **__: None)
    monkeypatch.setattr(malmat.lm.generate, "answer_all", answer_all)
    monkeypatch.setattr(
        malmat.lm.choice,
        "choice_probabilities",
        lambda *words, **_: [[0.1, 0.2, 0.4, 0.2, 0.1]] * len(words[2]),
    )
    monkeypatch.setattr(TermMatcher, "find", lambda *_, **__: ["갓생"])  # without morphology


def reply(messages: list[dict]) -> dict:
    time.sleep(0.02)  # a run takes some time
    text = messages[-1]["content"]
    q, a = PAIRS["이미 있는 것" in text]
    values = {
        "conversations": [{"context": "", "q": q, "a": a}],
        **{"question": "오늘도 갓생 살았어?", "score": 3, "reason": "까닭", "label": 0},
    }
    return {
        "text": json.dumps(values, ensure_ascii=False),
        "finish_reason": "stop",
        "status": "ok",
        "usage": {"input": 1, "output": 1},
        "model_version": VERSION,
    }


def answer_all(model, tokenizer, requests, sampling, **_):
    for request in requests:
        tokens = {"input_tokens": 1, "output_tokens": 1, "batch_size": 1}
        yield [request | tokens | {k: reply(request["messages"])[k] for k in
               ("text", "status", "finish_reason")}]  # fmt: skip


@pytest.fixture
def keys(monkeypatch, tmp_path):
    """Run a script; the keys of its journal in the order in which they were written."""

    def run(module, *words: object, journal: str = "out.json.journal.jsonl") -> list[str]:
        monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
        assert module.main() == 0
        with open(tmp_path / journal, encoding="utf-8") as lines:
            rows = map(json.loads, lines)
            return [row["key"] for row in rows if "seconds" not in row]

    return run


def write(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.fixture
def questions(tmp_path):
    return write(tmp_path / "questions.json", {"questions": ["주말에 뭐 했어?"]})


@pytest.fixture
def terms(tmp_path):
    path = tmp_path / "terms.csv"
    path.write_text(
        "title,content,example_q,example_a\n갓생,부지런한 생활,뭐 해?,갓생 살아\n", encoding="utf-8"
    )
    return path


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "tiny"}')
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


OPENAI = "708377cfc345e3155450ad149581540a5225cd5cdf0670406614fbf370aab382"
SERVER = "6f637a3d9f9e1bb989c55c8a61538ff9994efc25f83b452115ac1dea37f1680e"


@pytest.mark.parametrize(
    ("servers", "key"),
    [
        ([], OPENAI),
        (["http://localhost:8000/v1"], SERVER),
        (["http://localhost:8000/v1,http://localhost:8001/v1"], SERVER),  # the first one counts
    ],
)
def test_infer_through_an_api(keys, tmp_path, questions, servers, key):
    words = ["gpt-4o", "api", "usage", "--questions", questions, "--output", tmp_path / "out.json"]
    assert keys(infer, *words, *(["--base_url", *servers] if servers else [])) == [key]


def test_infer_by_a_local_model(keys, tmp_path, questions, model):
    words = [model, "local", "usage", "--questions", questions, "--output", tmp_path / "out.json"]
    assert keys(infer, *words) == [
        "1b66282c29c39248742143ffad45d018d9631b8fbe3ca4d6562e43d2b840956c",
    ]


@pytest.fixture
def answers(tmp_path):
    row = {"title": "갓생", "question": "갓생 살아?", "answer": "응, 매일 운동해", "status": "ok"}
    return write(tmp_path / "answers.json", [{"id": "a1", **row}])


def score_words(tmp_path, answers, terms):
    paths = ["--infer_results", answers, "--terms", terms, "--output", tmp_path / "out.json"]
    return ["--model_name", "m", "--score_mode", "understand", *paths]


def test_score_by_an_api_judge(keys, tmp_path, answers, terms):
    words = score_words(tmp_path, answers, terms)
    words += ["--scorer_name", "gpt-4.1", "--n", 3, "--concurrency", 1]
    assert keys(score, *words) == [
        "a1d64a774195be4672faa08a9156090cc021fcb873784964cd603e0bc1746455",
        "350abb9287259132f9a0fc0c498b2a42249f3fca73b159d8ae486c1ff1452eca",
        "1241ebe6cdf65dbc655a55f43340aaeab2ac32ece8b06e900d9ed657c581d6a3",
    ]


def test_score_by_the_digits_of_a_local_judge(keys, tmp_path, answers, terms, model):
    words = score_words(tmp_path, answers, terms)
    assert keys(score, *words, "--scorer_name", f"local:{model}") == [
        "eaec6d621e2af23fdc94cb0c79462fc90c830fb1b5cd426ba18eaabb3fba7faf",
    ]


def test_augment_in_rounds_with_screening(keys, tmp_path, terms):
    words = ["--input", terms, "--output_dir", tmp_path, "--pairs_per_term", 2, "--screen"]
    assert keys(augment, *words, journal="journal.jsonl") == [
        "9d0f19d3b1b9ca906ff4ef4bf13b7d4c4afe9335ac35d9ef04ac91e519221aa7",
        "93935c97763bc460328869b1c0eb081d2a96db1322c045f98b7629b923616048",
        "2cab7cf876fb15dd57e54d3ab74b818dd96c93bf20835812339903dce9679acd",
        "f6fc9fdf291e34dc6fa64c8f443f1ef9d03d0271aff2cd17e5ce65b67474e23a",
    ]


def test_augment_through_the_other_protocol(keys, tmp_path, terms):
    words = ["--input", terms, "--output_dir", tmp_path, "--pairs_per_term", 1]
    words += ["--provider", "openai", "--model", "gpt-4o-mini"]
    assert keys(augment, *words, journal="journal.jsonl") == [
        "e8dfede9dda75b707d484a822b3bd8c4c19ee621fc18ec699aaf6e28ceb36fe4",
    ]


def test_augment_by_a_local_model(keys, tmp_path, terms, model):
    words = ["--input", terms, "--output_dir", tmp_path, "--pairs_per_term", 1]
    words += ["--provider", "local", "--model", model]
    assert keys(augment, *words, journal="journal.jsonl") == [
        "3c9a069ae004a84177c5b51eeb2ff5fcb56207f8b4edf9bffc28b9a56ab0c608",
    ]


def test_new_questions(keys, tmp_path, terms):
    row = {"title": "갓생", "content": "부지런한 생활", "question": "갓생 사는 사람 있어?"}
    write(tmp_path / "rows.jsonl", row)
    words = ["--input", tmp_path / "rows.jsonl", "--terms", terms]
    assert keys(augment_questions, *words, "--output", tmp_path / "out.json") == [
        "3ef56222c2790a3f42bcd33c4b4bb123fd07a21ef672cc23c38dbf625a98691d",
    ]


def test_a_request_by_itself():
    request = Request(
        "any id",
        [{"role": "user", "content": "뭐해?"}],
        sampling={"temperature": 0.5},
        schema={"type": "object"},
        sample=2,
    )
    identity = {"provider": "openai", "model": "m", "base_url": None}
    assert request_key(identity, request) == (
        "961b7d512106f45164d7846be08d93e5814f66fa95b587a8d57dc3196b31294f"
    )
    assert request_key(identity | {"id": "any id"}, request) == (
        "ccec8e649b71647846f08d84be1e4a47b21d2a0715c77f41b5da8eb0cb7897b2"
    )
