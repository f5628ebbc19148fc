"""What is paid for and what is kept: batches, tokens that nobody counts, runs cut short."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from malmat.answer import batches
from malmat.answer.batches import BatchEngine
from malmat.answer.gemini import Gemini
from malmat.answer.gemini_legacy import GeminiLegacy
from malmat.answer.open import room_for_thoughts
from malmat.answer.openai import OpenAI
from malmat.answer.prices import Meter
from malmat.answer.request import JUDGED, Batch, Failed, answers_by_id
from malmat.errors import InputError, StopRunning
from malmat.journal import Journal
from malmat.models import read_models
from tests.fake_llm import FakeLLM
from tests.small_server import (  # noqa: F401
    SCHEMA,
    Server,
    ask,
    error,
    keys,
    question,
    said,
    spoken,
)

ROOT = Path(__file__).parents[1]

# ----------------------------------------------------------------------------------- cost


def test_tokens_that_are_not_counted_are_estimated_and_said_once(tmp_path, capsys):
    requests = [question(n) for n in range(3)]
    with Server(lambda _: (200, said("오늘은 집에서 쉬어"))) as server:
        records = ask(server, tmp_path, *requests)
    assert all(record["usage_estimated"] for record in records)
    assert all(min(record["usage"].values()) >= 3 for record in records)
    assert capsys.readouterr().out.count("counts no tokens") == 1


def test_max_cost_holds_where_tokens_are_not_counted(tmp_path):
    with (
        Server(lambda _: (200, said("오늘은 집에서 쉬어" * 50))) as server,
        pytest.raises(StopRunning, match="max_cost"),
    ):
        ask(server, tmp_path, *map(question, range(50)), name="gpt-4o", max_cost=0.01)
    assert len(server.bodies) < 10


def test_a_judgement_asked_again_costs_what_all_its_replies_cost(tmp_path):
    usage = {"usage": {"prompt_tokens": 100, "completion_tokens": 10}}
    replies = [{**said(text), **usage} for text in ["", "", "", '{"score": 3}']]
    request = question(schema=SCHEMA, again=JUDGED)
    with Server(lambda _: (200, replies.pop(0))) as server:
        (first,) = ask(server, tmp_path, request)
        (second,) = ask(server, tmp_path, request)
    assert first["usage"] == {"input": 300, "output": 30}
    assert second["usage"] == {"input": 400, "output": 40}
    assert second["output_tokens"] == 10


# -------------------------------------------------------------------------------- thinking


@pytest.mark.parametrize(
    ("model", "thinks"),
    [
        *((name, True) for name in ("gemini-2.5-flash", "models/gemini-2.5-pro", "gemini-3-pro")),
        *((name, True) for name in ("o3", "gpt-5-mini", "openai/gpt-oss-20b", "deepseek-reasoner")),
        *((name, True) for name in ("Qwen/Qwen3-30B-A3B-Thinking-2507", "qwq-32b")),
        *((name, False) for name in ("gpt-4o", "gpt-5-chat-latest", "gemini-2.5-flash-lite")),
        *((name, False) for name in ("gemini-2.0-flash", "Qwen3-8B", "grok-4-fast-non-reasoning")),
    ],
)
def test_which_models_get_room_for_thoughts(model, thinks):
    assert (room_for_thoughts(model) > 0) == thinks
    assert room_for_thoughts(model, 0) == 0
    assert room_for_thoughts(model, 99) == 99
    assert room_for_thoughts(model, -1) == 8192


@pytest.mark.parametrize("kind", [OpenAI, Gemini, GeminiLegacy])
def test_room_is_sent_on_top_and_a_cut_answer_gets_more(tmp_path, kind):
    cut, whole = (
        [said("", "length"), said()] if kind is OpenAI else [spoken("", "MAX_TOKENS"), spoken()]
    )

    def limit(body):
        return body.get("max_tokens") or body["generationConfig"]["maxOutputTokens"]

    with Server(lambda body: (200, whole if limit(body) > 600 else cut)) as server:
        (first,) = ask(server, tmp_path, question(sampling={"max_tokens": 512}), kind=kind)
        again = question(sampling={"max_tokens": 512}, room=4096)
        (second,) = ask(server, tmp_path, again, kind=kind)
        (third,) = ask(server, tmp_path, again, kind=kind)
    assert [first["status"], second["status"]] == ["truncated", "ok"]
    assert [limit(body) for body in server.bodies] == [512, 4608]
    assert second["key"] == first["key"]
    assert third == second


def test_room_that_does_not_fit_is_left_out(tmp_path, capsys):
    refusal = error("'max_tokens' is too large: 8704. This model's maximum context length is 4096")

    def reply(body):
        return refusal if body["max_tokens"] > 4096 else (200, said())

    requests = [question(n, sampling={"max_tokens": 512}, room=8192) for n in (0, 1)]
    with Server(reply) as server:
        records = ask(server, tmp_path, *requests)
    assert [record["status"] for record in records] == ["ok", "ok"]
    assert [body["max_tokens"] for body in server.bodies] == [8704, 512, 512]
    assert capsys.readouterr().out.count("sent without") == 1


def test_the_command_of_the_readme_leaves_room_and_hints_where_it_was_too_little(script, tmp_path):
    questions = tmp_path / "q.json"
    questions.write_text('{"questions": ["뭐 해?"]}', encoding="utf-8")
    usage = {"promptTokenCount": 50, "thoughtsTokenCount": 512, "totalTokenCount": 562}
    eaten = {"candidates": [{"content": {"role": "model"}, "finishReason": "MAX_TOKENS"}]}
    words = ("src/eval/infer.py", "gemini-2.5-flash", "api", "usage", "--questions", questions)
    with Server(lambda _: (200, {**eaten, "usageMetadata": usage})) as server:
        run = lambda *more: script(  # noqa: E731
            *words, "--output", tmp_path / "o.json", *more,
            GEMINI_API_KEY="k", GOOGLE_GEMINI_BASE_URL=server.url,
        )  # fmt: skip
        result = run()
        assert "1 of the 1 cut answers spent their tokens on thinking" in result.stdout
        assert "--thinking_budget" in result.stdout
        assert run("--thinking_budget", 0).returncode == 0
    sent = [body["generationConfig"] for body in server.bodies]
    assert [one["maxOutputTokens"] for one in sent] == [512 + 8192, 512]
    assert "thinkingConfig" not in sent[0]
    assert [*sent[1]["thinkingConfig"].values()] == [0]
    (row,) = json.loads((tmp_path / "o.json").read_text())
    assert row["thinking_tokens"] == 512


def test_new_questions_leave_room_too(script, tmp_path):
    row = {"title": "갓생", "content": "알찬 생활", "question": "요즘 갓생 산다며?"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    text = json.dumps({"question": "아침마다 갓생 사는 사람 있어?"})
    words = ("src/eval/understanding_evaluation_augmenter.py", "--input", tmp_path / "rows.jsonl")
    with Server(lambda _: (200, spoken(text))) as server:
        for name, budget in (("a", ()), ("b", ("--thinking_budget", 100))):
            result = script(
                *words, "--output", tmp_path / name, "--base_url", server.url,
                *("--provider", "gemini", *budget), GEMINI_API_KEY="k",
            )  # fmt: skip
            assert result.returncode == 0, result.stderr
    sent = [body["generationConfig"] for body in server.bodies]
    assert [one["maxOutputTokens"] for one in sent] == [512 + 8192, 612]
    assert [*sent[1]["thinkingConfig"].values()] == [100]


# --------------------------------------------------------------------- runs that are stopped

QUOTA = error("You exceeded your current quota", "insufficient_quota", 429)


def files_in(folder):
    found = (p for p in folder.rglob("*.json") if p.is_file())
    return {path.name: path.read_bytes() for path in found}


@pytest.mark.parametrize("failure", [QUOTA, error("no such role", status=400)])
def test_a_stopped_run_changes_nothing_and_nothing_is_scored(tmp_path, failure):
    down = False

    def reply(_):
        return failure if down else (200, said("오늘도 갓생 살았지"))

    with Server(reply) as server:
        arguments = f"--base_url {server.url}/v1 --limit 3"

        def exp(more=""):
            environment = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
            environment |= {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT / "src")}
            environment |= {"RESULTS": str(tmp_path), "JUDGE": "lexicon", "ARGS": arguments + more}
            command = ["bash", str(ROOT / "src/eval/exp.sh"), "m", "api", "usage"]
            return subprocess.run(command, env=environment, capture_output=True, text=True)

        assert exp().returncode == 0
        before = files_in(tmp_path)
        assert {"m_usage_inference_results.json", "m_usage_inference_results.run.json"} < {*before}
        down = True
        result = exp(" --temperature 0.1")
        assert result.returncode == 1
        assert "failed: m usage (answers)" in result.stderr
        assert "scored" not in result.stdout
        assert files_in(tmp_path) == before
        down = False
        assert exp(" --temperature 0.1").returncode == 0
    record = json.loads(
        (tmp_path / "usage/infer_results/m_usage_inference_results.run.json").read_text()
    )
    assert record["settings"]["temperature"] == 0.1


def test_scores_and_questions_of_an_earlier_run_are_kept(script, tmp_path):
    rows = [{"title": "갓생", "question": f"질문 {n}?", "answer": f"답 {n}"} for n in range(3)]
    answers, terms = tmp_path / "a.json", tmp_path / "terms.json"
    answers.write_text(json.dumps(rows))
    terms.write_text(
        json.dumps([{"title": "갓생", "description": "알찬 생활", "conversations": []}])
    )
    row = {"title": "갓생", "content": "알찬 생활", "question": "요즘 갓생 산다며?"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    text = json.dumps({"question": "아침마다 갓생 사는 사람 있어?", "score": 4})
    replies = {"good": (200, said(text)), "quota": QUOTA, "bad": error("no such role")}
    now = "good"
    with Server(lambda _: replies[now]) as server:
        common = ("--base_url", f"{server.url}/v1")
        score = ("src/eval/score.py", "--model_name", "m", "--score_mode", "understand")
        score += ("--infer_results", answers, "--terms", terms, "--output", tmp_path / "s.json")
        ask_new = ("src/eval/understanding_evaluation_augmenter.py", "--input")
        ask_new += (tmp_path / "rows.jsonl", "--output", tmp_path / "new.json", "--model", "m")
        runs = [(*score, "--scorer_name", "judge", *common), (*ask_new, *common)]
        for words in runs:
            assert script(*words, OPENAI_API_KEY="k").returncode == 0
        before = files_in(tmp_path)
        runs = [(*runs[0], "--n", 3), (*runs[1], "--temperature", 0.1)]
        for now in ("quota", "bad"):  # noqa: B007
            for words in runs:
                result = script(*words, OPENAI_API_KEY="k")
                assert result.returncode == 1, result.stderr
                assert "stopped: " in result.stderr
    assert files_in(tmp_path) == before


def test_what_a_server_refused_stands_in_the_record(script, tmp_path):
    questions = tmp_path / "q.json"
    questions.write_text('{"questions": ["뭐 해?"]}', encoding="utf-8")

    def reply(body):
        refused = "Unrecognized request argument supplied: temperature"
        return error(refused) if "temperature" in body else (200, said())

    with Server(reply) as server:
        for _ in range(2):  # the second run asks nothing, and knows it from the journal
            result = script(
                "src/eval/infer.py", "m", "api", "usage", "--questions", questions,
                *("--output", tmp_path / "o.json", "--base_url", f"{server.url}/v1"),
                OPENAI_API_KEY="k",
            )  # fmt: skip
            assert result.returncode == 0, result.stderr
    run = json.loads((tmp_path / "o.run.json").read_text())["run"]
    assert (run["without"], run["tokens_estimated"]) == (["temperature"], True)
    assert len(server.bodies) == 2


def test_a_row_of_models_json_may_say_what_is_sent(tmp_path):
    answer = {"api": "m", "extra_body": {"enable_thinking": False}, "thinking_budget": 0}
    path = tmp_path / "models.json"
    path.write_text(json.dumps({"a": {"answer": answer}}))
    options = read_models(path)["a"].answer.options()
    assert options == {name: answer[name] for name in ("extra_body", "thinking_budget")}
    path.write_text(json.dumps({"a": {"answer": {"model": "embedded", "extra_body": {}}}}))
    with pytest.raises(InputError, match="extra_body"):
        read_models(path)


def test_the_older_sdk_learns_what_a_server_refuses(tmp_path, capsys):
    def reply(body):
        config = body["generationConfig"]
        if "responseSchema" in config:
            return error("response_schema is not supported by this model", 400)
        return error("temperature is unsupported") if "temperature" in config else (200, spoken())

    requests = [question(n, schema=SCHEMA, sampling={"temperature": 0.5}) for n in (0, 1)]
    with Server(reply) as server:
        records = ask(server, tmp_path, *requests, kind=GeminiLegacy)
    assert [record["status"] for record in records] == ["ok", "ok"]
    assert len(server.bodies) == 4
    assert records[0]["without"] == ["json_schema", "temperature"]


# --------------------------------------------------------------------------------- batches


class Batches(Gemini):
    """Gemini whose batches come back as ``ends`` says: rows → results, or an exception."""

    def __init__(self, *ends, name="gemini-2.5-flash"):
        super().__init__(name, "http://127.0.0.1:1")
        self.ends, self.submitted = list(ends), []

    def submit(self, name, requests):
        self.submitted.append([(key, self._arguments(row)["config"]) for key, row in requests])
        return f"b{len(self.submitted) - 1}"

    def find_batch(self, name):
        return None

    def poll(self, batch_id):
        rows = self.submitted[int(batch_id[1:])] if self.submitted else []
        end = self.ends.pop(0)
        if isinstance(end, BaseException):
            raise end
        return Batch(True, "succeeded", tuple(end(rows)))


def reply_of(text):
    usage = {"input": 5, "output": 1}
    return {"text": text, "finish_reason": "STOP", "status": "ok", "usage": usage,
            "model_version": None}  # fmt: skip


def fetch(model, path, count=2, max_cost=None, **options):
    requests = [question(n, **options) for n in range(count)]
    with Journal(path / "j") as journal:
        meter = Meter(model.name, max_cost=max_cost)
        engine = BatchEngine(model, 0.01, 10)
        return list(answers_by_id(engine, requests, journal, meter=meter).values())


def without_keys(rows):
    return [("", reply_of(f"답 {n}")) for n, _ in enumerate(rows)]


def test_results_without_keys_are_joined_by_order(tmp_path):
    model = Batches(without_keys)
    assert [record["text"] for record in fetch(model, tmp_path)] == ["답 0", "답 1"]
    assert len(fetch(model, tmp_path)) == 2
    assert len(model.submitted) == 1


def test_results_that_cannot_be_told_apart_are_kept_and_not_bought_again(tmp_path):
    short = lambda rows: without_keys(rows)[:1]  # noqa: E731
    model = Batches(short, short, without_keys)
    for _ in range(2):
        with pytest.raises(StopRunning, match="does not say which is whose"):
            fetch(model, tmp_path)
    assert len(fetch(model, tmp_path)) == 2
    assert len(model.submitted) == 1


def test_a_batch_that_is_gone_is_told_and_asked_anew_on_the_next_run(tmp_path):
    gone = Batches()._status_error(404, "Requested entity was not found.", None, {})
    model = Batches(gone, without_keys)
    with pytest.raises(StopRunning, match="gone"):
        fetch(model, tmp_path)
    assert len(model.submitted) == 1
    assert {record["status"] for record in fetch(model, tmp_path)} == {"ok"}
    assert len(model.submitted) == 2


class WithoutOutputs(dict):
    """The files of a server that has lost those of results."""

    def __setitem__(self, name, content):
        if not name.startswith("out-"):
            super().__setitem__(name, content)


def test_a_batch_whose_file_is_gone_is_told_as_one_that_is_gone(tmp_path):
    with FakeLLM() as fake:
        model, fake.files = OpenAI("m", f"{fake.url}/v1"), WithoutOutputs()
        with pytest.raises(StopRunning, match="or its file, is gone from the server"):
            fetch(model, tmp_path)
        fake.files = dict(fake.files)
        assert {record["status"] for record in fetch(model, tmp_path)} == {"ok"}
        assert fake.counts["batch"] == 2


def test_a_batch_under_way_is_not_paid_for_twice(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        fetch(Batches(KeyboardInterrupt(), name="m"), tmp_path)
    with Server(lambda _: (200, spoken())) as server:
        # The same model at the same address, asked without --batch.
        model = Batches(name="m")

        def single():
            with Journal(tmp_path / "j") as journal:
                engine = batches_free_engine(model)
                return answers_by_id(engine, [question(0), question(1)], journal)

        model.send = lambda _: server.bodies.append({}) or reply_of("응")
        with pytest.raises(InputError, match="2 of these requests is under way"):
            single()
        assert not server.bodies
        (tmp_path / "j.batches.jsonl").unlink()
        assert len(single()) == 2


def batches_free_engine(model):
    from malmat.answer.api import ApiEngine

    return ApiEngine(model, 1)


def test_a_limit_counts_the_batches_under_way(tmp_path, monkeypatch):
    monkeypatch.setattr(batches, "MOST_ROWS", 1)
    each = Meter("gpt-4o").cost_of(batches.estimated([("k", question(0))], 10))
    model = Batches(without_keys, without_keys, without_keys, name="gpt-4o")
    with pytest.raises(StopRunning, match=r"max_cost.*with 2 under way"):
        fetch(model, tmp_path, count=5, max_cost=each * 2.5)
    assert len(model.submitted) == 2


def test_a_batch_learns_what_its_rows_were_refused_for(tmp_path, capsys):
    refusal = Failed("400: response_schema is not supported", code=400)
    model = Batches(lambda rows: [(key, refusal) for key, _ in rows], without_keys)
    records = fetch(model, tmp_path, schema=SCHEMA)
    assert {record["status"] for record in records} == {"ok"}
    configs = [rows[0][1] for rows in model.submitted]
    assert [config.response_json_schema is None for config in configs] == [False, True]
    assert capsys.readouterr().out.count("sent without") == 1
    assert records[0]["without"] == ["json_schema"]
    later = Batches(without_keys)  # another run remembers it
    fetch(later, tmp_path, count=3, schema=SCHEMA)
    assert later.submitted[0][0][1].response_json_schema is None


def test_the_first_failures_of_a_batch_are_shown(tmp_path, capsys):
    def ends(rows):
        kinds = ["400: temperature has to be 1", "500: out of order", "", "503: busy", "504: late"]
        kinds[2] = kinds[0]
        return [(key, Failed(kind)) for (key, _), kind in zip(rows, kinds, strict=True)]

    model = Batches(ends)
    records = fetch(model, tmp_path, count=5)
    assert {record["status"] for record in records} == {"api_error"}
    shown = [line for line in capsys.readouterr().out.splitlines() if "api_error" in line]
    assert shown == [
        f"  {records[0]['id']}: api_error: 400: temperature has to be 1 "
        "(--extra_body sends further settings)",
        f"  {records[1]['id']}: api_error: 500: out of order",
        f"  {records[3]['id']}: api_error: 503: busy",
    ]


def test_a_failure_that_a_batch_learns_from_is_not_shown(tmp_path, capsys):
    refusal = Failed("400: response_schema is not supported", code=400)
    refused = lambda rows: [(key, refusal) for key, _ in rows]  # noqa: E731
    fetch(Batches(refused, without_keys), tmp_path, schema=SCHEMA)
    assert "api_error" not in capsys.readouterr().out


def test_a_row_that_a_batch_refused_has_its_code(tmp_path):
    body = {"error": {"message": "'max_tokens' is not supported. Use 'max_completion_tokens'."}}
    row = {"custom_id": "k", "response": {"status_code": 400, "body": body}}
    key, failed = OpenAI("m", "http://localhost:1/v1")._row(row)
    assert (key, failed.code) == ("k", 400)
    assert re.match("400: .*max_completion_tokens", str(failed))
