"""build_index.py and retrieve.py as a user runs them, on a corpus of some passages."""

from __future__ import annotations

import json
import shutil

import pytest

from malmat.retrieval.chunks import Cutting
from malmat.retrieval.index import Plan, build
from tests.conftest import ROOT
from tests.fake_llm import FakeLLM

BUILD, RETRIEVE = "src/culture_qa/build_index.py", "src/culture_qa/retrieve.py"
SAMPLE = ROOT / "src" / "culture_qa" / "sample"
SPLITS = [SAMPLE / f"{name}.json" for name in ("train", "dev", "test")]
PASSAGES = [
    {"id": "dano", "title": "단오", "text": "창포를 삶은 물에 머리를 감고 그네를 뛰었다."},
    {"id": "kimjang", "title": "김장", "text": "겨울 동안 먹을 김치를 한꺼번에 담그는 일이다."},
    {"id": "ondol", "title": "온돌", "text": "아궁이의 열로 방바닥을 데우는 난방 방식이다."},
]
QUESTIONS = [
    ("q1", "단답형", "창포를 삶은 물에 머리를 감던 명절은 무엇인가요?", "단오#단옷날", ["dano"]),
    ("q2", "서술형", "김치를 한꺼번에 담그는 일에 대해 서술하세요.", "김장이라 한다.", ["kimjang"]),
    ("q3", "선다형", "방바닥을 데우는 방식은? \\n 1\\t난로 \\n 2\\t온돌", "2", ["ondol"]),
    ("q4", "단답형", "블록체인에 쓰이는 자료 구조는 무엇인가요?", "해시", []),
]


def written(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def save(folder):
    """The corpus, its questions and what is right."""
    asked = {"category": "문화 지식", "domain": "역사", "topic_keyword": "말"}
    questions = [
        {
            "id": name,
            "input": {**asked, "question_type": kind, "question": text},
            "output": {"answer": answer},
        }
        for name, kind, text, answer, _ in QUESTIONS
    ]
    written(folder / "q.json", questions)
    written(folder / "qrels.json", {name: right for name, *_, right in QUESTIONS})
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in PASSAGES)
    (folder / "p.jsonl").write_text("".join(lines), encoding="utf-8")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with an index ``i`` of one leg."""
    folder = tmp_path_factory.mktemp("made")
    save(folder)
    build([folder / "p.jsonl"], folder / "i", Plan(Cutting(), {"bm25": ["kiwi"]}))
    return folder


@pytest.fixture
def index(made, tmp_path):
    """The same, to be changed at will."""
    return shutil.copytree(made, tmp_path, dirs_exist_ok=True)


def retrieve(script, *words, **environment):
    return script(RETRIEVE, "--index", "i", "--questions", "q.json", *words, **environment)


def refused(done, *expected):
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.count("\n") == 1
    for part in expected:
        assert part in done.stderr


def test_contexts_by_question_id(index, script):
    done = retrieve(script, "--output", "c.jsonl", "--k", 50)
    assert done.returncode == 0, done.stderr
    rows = rows_of(index / "c.jsonl")
    assert [row["id"] for row in rows] == ["q1", "q2", "q3", "q4"]
    assert [row["contexts"][0]["id"] for row in rows[:3]] == ["dano", "kimjang", "ondol"]
    assert rows[3]["contexts"] == []
    assert set(rows[0]["contexts"][0]) == {"id", "title", "text", "score"}
    assert "1 without any" in done.stdout
    before = (index / "c.jsonl").read_bytes()
    retrieve(script, "--output", "c.jsonl", "--k", 50)
    assert (index / "c.jsonl").read_bytes() == before


def test_gold_and_random_contexts(index, script):
    retrieve(script, "--output", "g.jsonl", "--by", "gold", "--qrels", "qrels.json")
    found = [[one["id"] for one in row["contexts"]] for row in rows_of(index / "g.jsonl")]
    assert found == [["dano"], ["kimjang"], ["ondol"], []]
    retrieve(script, "--output", "r.jsonl", "--by", "random", "--qrels", "qrels.json", "--k", 2)
    for row, (*_, right) in zip(rows_of(index / "r.jsonl"), QUESTIONS, strict=True):
        assert len(row["contexts"]) == 2
        assert not {one["id"] for one in row["contexts"]} & {*right}


def test_a_gate_is_fitted_and_used(index, script):
    # A question that is nearly in the corpus, so that there is something to tell apart.
    rows = json.loads((index / "q.json").read_text(encoding="utf-8"))
    rows[3]["input"]["question"] = "겨울 올림픽에서 블록체인으로 파는 표는 무엇인가요?"
    written(index / "q.json", rows)
    fitted = retrieve(script, "--fit_gate", "gate.json", "--qrels", "qrels.json")
    assert fitted.returncode == 0, fitted.stderr
    gate = json.loads((index / "gate.json").read_text())
    assert (gate["passing"], gate["stopped"]) == (1, 1)
    retrieve(script, "--output", "c.jsonl", "--gate", "gate.json")
    assert [len(row["contexts"]) > 0 for row in rows_of(index / "c.jsonl")] == [True] * 3 + [False]
    retrieve(script, "--output", "open.jsonl", "--gate", "0")
    assert rows_of(index / "open.jsonl")[3]["contexts"]
    written(index / "gate.json", gate | {"leg": "embedded"})
    refused(retrieve(script, "--output", "c.jsonl", "--gate", "gate.json"), "gate.json", "leg")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), ["output"]),
        (("--output", "c", "--by", "gold"), ["qrels"]),
        (("--output", "c", "--legs", "bigram"), ["bigram", "kiwi"]),
        (("--output", "c", "--gate", "2"), ["gate"]),
        (("--output", "c", "--alpha", "1.5"), ["alpha"]),
        (("--output", "c", "--qrels", "q.json"), ["q.json", "question id"]),
    ],
)
def test_bad_options(index, script, words, expected):
    refused(retrieve(script, *words), *expected)
    assert not (index / "c").exists()


def copied_leg(folder):
    other = folder / "other"
    rows = [{"id": str(n), "text": f"바람이 {n}번 불고 꽃이 진다."} for n in range(9)]
    path = folder / "other.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    build([path], other, Plan(Cutting(), {"bm25": ["kiwi"]}))
    shutil.rmtree(folder / "i" / "kiwi")
    shutil.copytree(other / "kiwi", folder / "i" / "kiwi")


def emptied(folder):
    for path in (folder / "i" / "kiwi").iterdir():
        path.write_bytes(b"")


def unstamped(folder):
    """An index from before the legs had stamps."""
    path = folder / "i" / "manifest.json"
    manifest = json.loads(path.read_text("utf-8"))
    del manifest["leg_stamps"]
    path.write_text(json.dumps(manifest), encoding="utf-8")


DAMAGES = {
    "a leg is gone": (lambda f: shutil.rmtree(f / "i" / "kiwi"), "kiwi"),
    "a leg is emptied": (emptied, "kiwi"),
    "an old leg is gone": (lambda f: (unstamped(f), shutil.rmtree(f / "i" / "kiwi")), "damaged"),
    "an old leg is emptied": (lambda f: (unstamped(f), emptied(f)), "damaged"),
    "a leg of another index": (copied_leg, "not the one that was indexed"),
    "a list": (lambda f: (f / "i" / "manifest.json").write_text("[]"), "manifest"),
    "no fields": (lambda f: (f / "i" / "manifest.json").write_text('{"format": 1}'), "manifest"),
    "cut": (lambda f: (f / "i" / "manifest.json").write_text("{"), "manifest.json"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_index_is_refused_and_made_again(index, script, name):
    harm, expected = DAMAGES[name]
    harm(index)
    refused(retrieve(script, "--output", "c.jsonl"), expected)
    assert not (index / "c.jsonl").exists()
    if not name.startswith("an old leg is emptied"):
        build([index / "p.jsonl"], index / "i", Plan(Cutting(), {"bm25": ["kiwi"]}))
        assert retrieve(script, "--output", "c.jsonl").returncode == 0


def test_an_index_without_stamps_is_read(index, script):
    unstamped(index)
    assert retrieve(script, "--output", "c.jsonl").returncode == 0


def test_vectors_that_are_no_array_are_refused(script, tmp_path):
    save(tmp_path)
    build([tmp_path / "p.jsonl"], tmp_path / "i", Plan(Cutting(), {"dense": ["embedded"]}))
    (tmp_path / "i" / "embedded" / "vectors.npy").write_text("x")
    refused(retrieve(script, "--output", "c.jsonl"), "embedded")
    unstamped(tmp_path)
    refused(retrieve(script, "--output", "c.jsonl"), "embedded", "damaged")


def test_an_index_is_made_left_alone_and_refused_where_its_corpus_changed(script, tmp_path):
    save(tmp_path)
    words = (BUILD, "p.jsonl", "--output", "i", "--bm25", "bigram", "--dense")
    done = script(*words)
    assert done.returncode == 0, done.stderr
    assert "3 documents, 3 chunks" in done.stdout
    before = (tmp_path / "i" / "manifest.json").read_bytes()
    assert script(*words).returncode == 0
    assert (tmp_path / "i" / "manifest.json").read_bytes() == before
    (tmp_path / "p.jsonl").write_text('{"id": "x", "text": "새 글이다."}\n', encoding="utf-8")
    done = retrieve(script, "--output", "c.jsonl")
    refused(done, "p.jsonl", "has changed", "build_index.py")
    assert not (tmp_path / "c.jsonl").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("none.jsonl",), ["none.jsonl", "no such file"]),
        (("p.jsonl", "--bm25", "mecab"), ["mecab", "kiwi, bigram"]),
        (("p.jsonl", "--bm25"), ["no leg"]),
        (("p.jsonl", "--overlap", "256"), ["overlap"]),
        (("p.jsonl", "--overlap", "-1"), ["overlap"]),
        (("p.jsonl", "--late", "nlpai-lab/KURE-v2"), ["pylate"]),
    ],
)
def test_bad_options_of_an_index(script, tmp_path, words, expected):
    save(tmp_path)
    refused(script(BUILD, *words, "--output", "i", "--dense"), *expected)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.jsonl", "q.json", "qrels.json"]


def test_questions_without_qrels_are_named(index, script):
    written(index / "qrels.json", {"q1": ["dano"]})
    done = retrieve(script, "--evaluate", "--qrels", "qrels.json")
    refused(done, "3 questions", "q2")


def test_answers_are_judged_where_no_right_passages_are_known(index, script):
    done = retrieve(script, "--evaluate", "--report", "r.json")
    assert done.returncode == 0, done.stderr
    report = json.loads((index / "r.json").read_text("utf-8"))
    assert report["judged_by"] == "answer@3"
    figures = next(iter(report["systems"].values()))["all"]
    assert figures["recall@3"] == {"mean": None, "interval": None, "n": 0}
    assert figures["answer@3"]["n"] == report["counts"]["all"] > 0
    assert "95 % interval of answer@3" in done.stdout


def test_right_passages_that_the_index_does_not_hold_are_said(index, script):
    qrels = json.loads((index / "qrels.json").read_text("utf-8"))
    written(index / "qrels.json", {name: [*some, "elsewhere"] for name, some in qrels.items()})
    done = retrieve(script, "--evaluate", "--qrels", "qrels.json")
    assert "right passages are not in the index, as elsewhere" in done.stdout
    written(index / "qrels.json", {name: ["elsewhere"] for name in qrels})
    done = retrieve(script, "--evaluate", "--qrels", "qrels.json")
    refused(done, "qrels.json", "none of its 1 passages")


def test_queries_of_a_model_and_the_question_itself(index, script):
    """The model's queries find what the question does not; a failed one is asked for again."""

    def answer(prompt, body):
        return "1. 온돌 난방\n2. 그네 뛰기\n3. 김치" if "블록체인" in prompt else "없음 검색어"

    with FakeLLM(answer, script=["ok", "ok", "ok", "400"]) as server:
        words = (
            "--queries",
            "model",
            "--type",
            "api",
            "--model",
            "gpt-4o-mini",
            "--concurrency",
            1,
        )
        words += ("--base_url", f"{server.url}/v1", "--output", "c.jsonl")
        first = retrieve(script, *words, OPENAI_API_KEY="sk-fake")
        assert first.returncode == 1, first.stdout + first.stderr
        row = rows_of(index / "c.jsonl")[3]
        assert (row["status"], row["queries"]) == ("api_error", [QUESTIONS[3][2]])
        again = retrieve(script, *words, OPENAI_API_KEY="sk-fake")
        assert again.returncode == 0, again.stdout + again.stderr
        assert server.calls == 5
    rows = rows_of(index / "c.jsonl")
    assert rows[3]["queries"] == ["온돌 난방", "그네 뛰기", "김치", QUESTIONS[3][2]]
    assert {one["id"] for one in rows[3]["contexts"]} == {"dano", "kimjang", "ondol"}
    assert rows[0]["queries"][-1] == QUESTIONS[0][2]
    assert rows[0]["contexts"][0]["id"] == "dano"


def test_queries_of_a_local_model(index, script, model_folder):
    done = retrieve(
        script, "--queries", "model", "--model", model_folder, "--output", "c.jsonl",
        "--max_new_tokens", 8,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(index / "c.jsonl")
    assert [row["queries"][-1] for row in rows[:2]] == [QUESTIONS[0][2], QUESTIONS[1][2]]
    assert (index / "c.jsonl.journal.jsonl").exists()


@pytest.mark.slow
def test_the_sample_is_found(script, tmp_path):
    """Lexical questions by their words; the fusion is not below its best leg."""
    corpus = SAMPLE / "passages.jsonl"
    done = script(BUILD, corpus, "--output", "i", "--bm25", "kiwi", "bigram", "whitespace")
    assert done.returncode == 0, done.stderr
    done = script(
        RETRIEVE, "--index", "i", "--questions", *SPLITS, "--qrels", SAMPLE / "qrels.json",
        "--evaluate", "--report", "r.json", "--legs", "kiwi", "bigram", "embedded", "whitespace",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["counts"] == {"all": 80, "lexical": 50, "paraphrased": 30}
    found = {
        (name, group): figures["recall@3"]["mean"]
        for name, groups in report["systems"].items()
        for group, figures in groups.items()
    }
    assert found["kiwi", "lexical"] >= 0.9 > found["whitespace", "lexical"]
    assert found["embedded", "paraphrased"] > found["kiwi", "paraphrased"]
    assert len(report["fusions"]) == 22
    below = {
        name
        for name, groups in report["fusions"].items()
        for group in ("lexical", "paraphrased")
        if groups[group]["recall@3"]["below"]
    }
    assert all("whitespace" in name for name in below)
