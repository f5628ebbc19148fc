"""Servers as people have them: what they refuse, how they fail, and what becomes of the row."""

from __future__ import annotations

import copy
import json
import types

import pytest

from malmat.answer import retry
from malmat.answer.gemini import Gemini
from malmat.answer.openai import OpenAI
from malmat.answer.request import JUDGED, NEEDED
from malmat.errors import StopRunning
from malmat.evaluate.results import read_answers
from malmat.lm import generate
from tests.small_server import SCHEMA, Server, ask, error, keys, question, said, spoken  # noqa: F401

# ------------------------------------------------------------------- finish reasons

FINISH = {
    None: "ok",
    **dict.fromkeys(["stop", "STOP", "end_turn", "eos", "eos_token", "stop_sequence"], "ok"),
    **dict.fromkeys(["length", "max_tokens", "model_length"], "truncated"),
    "model_context_window_exceeded": "truncated",
    **dict.fromkeys(["content_filter", "sensitive", "SAFETY"], "blocked"),
    **dict.fromkeys(["error", "insufficient_system_resource", "network_error"], "api_error"),
    **dict.fromkeys(["abort", "tool_calls", "something new"], "api_error"),
}


@pytest.mark.parametrize("reason", FINISH)
def test_only_a_known_end_is_an_end(tmp_path, reason):
    with Server(lambda _: (200, said("반쪽 답", reason))) as server:
        (record,) = ask(server, tmp_path)
    assert record["status"] == FINISH[reason]
    assert len(server.bodies) == (3 if record["status"] == "api_error" else 1)


def test_an_end_that_is_none_is_asked_again_and_can_be_mended(tmp_path):
    reasons = iter(["network_error", "stop"])
    with Server(lambda _: (200, said("답", next(reasons)))) as server:
        (record,) = ask(server, tmp_path)
    assert (record["status"], record["text"], record["attempts"]) == ("ok", "답", 2)


# --------------------------------------------------------------- thoughts and parts


@pytest.mark.parametrize(
    "message",
    [
        {"content": "<think>갓생을 쓸까</think>\n김밥 먹자"},
        {"content": "갓생을 쓸까\n</think>김밥 먹자"},
        {"content": "김밥 먹자", "reasoning_content": "갓생을 쓸까"},
        {"content": "김밥 먹자", "reasoning": "갓생을 쓸까"},
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": "갓생을 쓸까"}]},
                {"type": "text", "text": "김밥 "},
                {"type": "text", "text": "먹자"},
            ]
        },
        {"content": [{"type": "text", "text": "<think>갓생을 쓸까</think>김밥 먹자"}]},
    ],
)
def test_thoughts_have_a_field_of_their_own(tmp_path, message):
    with Server(lambda _: (200, said(**message))) as server:
        (record,) = ask(server, tmp_path)
    assert (record["status"], record["text"]) == ("ok", "김밥 먹자")
    assert record["thoughts"] == "갓생을 쓸까"


def test_thoughts_alone_are_no_answer(tmp_path):
    with Server(lambda _: (200, said("<think>갓생을 쓸까</think>"))) as server:
        (record,) = ask(server, tmp_path)
    assert (record["status"], record["text"]) == ("empty", "")


def test_a_tag_inside_json_is_text(tmp_path):
    reply = '{"reason": "</think>라고 썼다", "score": 1}'
    with Server(lambda _: (200, said(reply))) as server:
        (record,) = ask(server, tmp_path, question(schema=SCHEMA))
    assert record["text"] == reply


def test_thoughts_in_answers_made_elsewhere(tmp_path):
    texts = ["<think>갓생?</think>김밥 먹자", "[THINK]갓생?[/THINK]", "<think>갓생", "김밥"]
    rows = [{"question": f"{n}?", "answer": text} for n, text in enumerate(texts)]
    rows.append({"question": "5?", "answer": "<think>갓생</think>", "status": "ok"})
    path = tmp_path / "answers.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    found = read_answers(path)
    assert [row["answer"] for row in found] == ["김밥 먹자", "", "", "김밥", ""]
    assert [row["status"] for row in found] == ["ok", "empty", "truncated", "ok", "empty"]
    assert [row.get("thoughts") for row in found] == ["갓생?", "갓생?", "갓생", None, "갓생"]


# ------------------------------------------------------- replies that are asked again


@pytest.mark.parametrize(
    "bad",
    [
        said(""),
        said('{"score":', "length"),
        said(None, "content_filter"),
        said(None, refusal="아니요"),
        {**said(), "choices": []},
    ],
)
def test_a_judgement_that_is_none_is_asked_again_now_and_later(tmp_path, bad):
    replies = [bad] * 4 + [said('{"score": 3}')]
    request = question(schema=SCHEMA, again=JUDGED)
    with Server(lambda _: (200, replies.pop(0))) as server:
        (first,) = ask(server, tmp_path, request)
        assert first["status"] != "ok"
        assert first["attempts"] == 3
        (second,) = ask(server, tmp_path, request)
        assert (second["status"], second["attempts"]) == ("ok", 2)


@pytest.mark.parametrize("reason", ["STOP", "OTHER", "MALFORMED_RESPONSE", "UNEXPECTED_TOOL_CALL"])
def test_an_empty_reply_of_gemini_is_asked_again(tmp_path, reason):
    replies = [spoken("", reason)] * 4 + [spoken()]
    with Server(lambda _: (200, replies.pop(0))) as server:
        (first,) = ask(server, tmp_path, kind=Gemini)
        assert (first["status"], first["attempts"]) == ("api_error", 3)
        (second,) = ask(server, tmp_path, kind=Gemini)
        assert (second["status"], second["attempts"]) == ("ok", 2)


def test_a_block_is_asked_again_only_where_that_is_asked_for(tmp_path):
    block = spoken("", "SAFETY")
    feedback = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {}}
    replies = [block, feedback, spoken(), spoken()]
    requests = [question(0, again=NEEDED), question(1, again=JUDGED)]
    with Server(lambda _: (200, replies.pop(0))) as server:
        records = ask(server, tmp_path, *requests, kind=Gemini)
        assert [record["status"] for record in records] == ["blocked"] * 2
        ask(server, tmp_path, *requests, kind=Gemini)
        assert len(server.bodies) == 2
        requests = [question(n, again=NEEDED, ask_blocked=True) for n in (0, 1)]
        records = ask(server, tmp_path, *requests, kind=Gemini)
        assert [record["status"] for record in records] == ["ok"] * 2


# ------------------------------------------------------------- what servers refuse


def refusing(*rules):
    """Replies: the first (test of the body, error) whose test holds, else an answer."""

    def reply(body):
        for applies, refusal in rules:
            if applies(body):
                return refusal
        return 200, said('{"score": 3}')

    return reply


def has_format(name):
    return lambda body: body.get("response_format", {}).get("type") == name


def test_a_refused_schema_is_learnt_once(tmp_path, capsys):
    refusal = error("This response_format type is unavailable now", "invalid_request_error")
    requests = [question(n, schema=SCHEMA) for n in range(3)]
    with Server(refusing((has_format("json_schema"), refusal))) as server:
        assert {r["status"] for r in ask(server, tmp_path, *requests)} == {"ok"}
    forms = [body["response_format"]["type"] for body in server.bodies]
    assert forms == ["json_schema", *["json_object"] * 3]
    assert capsys.readouterr().out.count("refuses json_schema") == 1
    with Server(refusing((lambda b: "response_format" in b, refusal))) as server:
        assert {r["status"] for r in ask(server, tmp_path, *requests)} == {"ok"}
    assert len(server.bodies) == 5
    assert "response_format" not in server.bodies[-1]


TOO_OLD = "Unsupported parameter: 'max_tokens' is not supported with this model. "
FIXED = "Unsupported value: 'temperature' does not support 0.7 with this model. Only the default"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("max_tokens", TOO_OLD + "Use 'max_completion_tokens' instead."),
        ("temperature", FIXED + " (1) value is supported."),
        ("temperature", "`temperature` is deprecated for this model."),
        ("top_k", "Unrecognized request argument supplied: top_k"),
    ],
)
def test_a_refused_setting_is_learnt_once(tmp_path, capsys, name, message):
    extra = {"extra_body": {"top_k": 20}}
    sampling = {"temperature": 0.7, "max_tokens": 9, **extra}
    requests = [question(n, sampling=sampling) for n in range(3)]
    with Server(refusing((lambda body: name in body, error(message)))) as server:
        assert {r["status"] for r in ask(server, tmp_path, *requests)} == {"ok"}
    assert len(server.bodies) == 4
    last = server.bodies[-1]
    assert name not in last
    assert last.get("max_completion_tokens" if name == "max_tokens" else "max_tokens") == 9
    assert ("temperature" in last) == (name == "top_k")
    assert capsys.readouterr().out.count(f"{message[:40]}") == 1


def test_a_wrong_value_is_not_taken_for_a_refused_setting(tmp_path):
    refusal = error("max_tokens is too large: 9999. This model supports at most 4096 tokens.")
    with Server(lambda _: refusal) as server:
        (record,) = ask(server, tmp_path, question(sampling={"max_tokens": 9999}))
    assert (record["status"], len(server.bodies)) == ("api_error", 1)


def test_a_thinking_budget_that_is_refused(tmp_path, capsys):
    refusal = error("Budget 0 is invalid. This model only works in thinking mode.", 400)

    def reply(body):
        return refusal if "thinkingConfig" in body["generationConfig"] else (200, spoken())

    requests = [question(n, sampling={"thinking_budget": 0, "max_tokens": 9}) for n in (0, 1)]
    with Server(reply) as server:
        assert {r["status"] for r in ask(server, tmp_path, *requests, kind=Gemini)} == {"ok"}
    assert len(server.bodies) == 3
    assert capsys.readouterr().out.count("only works in thinking mode") == 1


@pytest.mark.parametrize("kind", [OpenAI, Gemini])
def test_what_a_server_asks_for_can_be_sent(tmp_path, capsys, kind):
    refusal = error("parameter.enable_thinking must be set to false for non-streaming calls")

    def reply(body):
        good = body.get("enable_thinking") is False
        return (200, said() if kind is OpenAI else spoken()) if good else refusal

    with Server(reply) as server:
        (record,) = ask(server, tmp_path, kind=kind)
        assert record["status"] == "api_error"
        shown = capsys.readouterr().out
        assert "enable_thinking must be set to false" in shown
        assert "--extra_body" in shown
        body = {"enable_thinking": False}
        (record,) = ask(server, tmp_path, kind=kind, extra_body=body)
        assert record["status"] == "ok"
    assert kind("m").identity() == {
        "provider": kind.provider, "model": "m", "base_url": None
    }  # fmt: skip
    assert kind("m", extra_body=body).identity()["extra_body"] == body


PROMPTS = {
    "blocked": [
        error("The response was filtered due to the prompt triggering …", "content_filter"),
        error("Input was flagged", 403, 403, metadata={"reasons": ["violence"]}),
        error("Invalid prompt: your prompt was flagged as violating", "invalid_prompt"),
        error("Content Exists Risk", "invalid_request_error"),
        error("系统检测到输入或生成内容可能包含不安全或敏感内容", "1301"),
    ],
    "truncated": [
        error("This model's maximum context length is 4096 tokens", "context_length_exceeded"),
        error("prompt is too long: 9000 tokens > 8000 maximum"),
        error("Range of input length should be [1, 30720]"),
    ],
}


@pytest.mark.parametrize(
    ("status", "refusal"), [(status, r) for status, found in PROMPTS.items() for r in found]
)
def test_a_prompt_that_is_refused_is_final_and_the_run_goes_on(tmp_path, status, refusal):
    def reply(body):
        return (200, said()) if "뭐 해 9" in body["messages"][0]["content"] else refusal

    requests = [question(n, again=JUDGED) for n in [*range(21, 46), 9]]
    with Server(reply) as server:
        records = ask(server, tmp_path, *requests)
        assert [r["status"] for r in records] == [status] * 25 + ["ok"]
        assert ask(server, tmp_path, *requests) == records
    assert len(server.bodies) == 26


def test_a_demand_for_money_stops_the_run(tmp_path):
    with (
        Server(lambda _: error("Insufficient Balance", status=402)) as server,
        pytest.raises(StopRunning, match="Insufficient Balance"),
    ):
        ask(server, tmp_path, *(question(n) for n in range(9)))
    assert len(server.bodies) == 1


# --------------------------------------------------------------- errors of all sorts


@pytest.mark.parametrize(
    ("within", "calls", "status"),
    [
        ({"error": {"code": 429, "message": "Rate limited"}}, 2, "ok"),
        ({"error": {"code": "rate_limit_exceeded", "message": "Slow down"}}, 2, "ok"),
        ({"choices": [{"error": {"code": 502, "message": "Bad gateway"}, "message": {}}]}, 2, "ok"),
        ({"error": {"code": 400, "message": "No such role"}}, 1, "api_error"),
        ({"error": {"code": 403, "message": "flagged by moderation"}}, 1, "blocked"),
    ],
)
def test_an_error_inside_a_success_goes_by_its_code(tmp_path, within, calls, status):
    replies = [{"id": "1", "model": "m", **within}, said()]
    with Server(lambda _: (200, replies.pop(0))) as server:
        (record,) = ask(server, tmp_path)
    assert (record["status"], len(server.bodies)) == (status, calls)


def test_the_cause_of_a_connection_error_is_told(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 1)
    with Server(lambda _: (200, said())) as server:
        pass
    (record,) = ask(server, tmp_path)
    assert "refused" in record["error"].lower()
    assert "refused" in capsys.readouterr().out.lower()


# -------------------------------------------------------------------- whose answers


@pytest.mark.parametrize(
    ("kind", "variable"), [(OpenAI, "OPENAI_BASE_URL"), (Gemini, "GOOGLE_GEMINI_BASE_URL")]
)
def test_a_server_of_the_environments_is_part_of_the_identity(monkeypatch, kind, variable):
    monkeypatch.delenv(variable, raising=False)
    plain = kind("m").identity()
    monkeypatch.setenv(variable, kind.own + "/")
    assert kind("m").identity() == plain
    monkeypatch.setenv(variable, "http://localhost:1/v1")
    assert kind("m").identity() == {**plain, "server": "http://localhost:1/v1"}
    assert kind("m").server == "http://localhost:1/v1"
    assert kind("m", "http://localhost:2/v1").server == "http://localhost:2/v1"
    assert "server" not in kind("m", "http://localhost:2/v1").identity()


def test_models_whose_names_end_alike_keep_their_answers(script, tmp_path):
    questions = tmp_path / "q.json"
    questions.write_text('{"questions": ["뭐 해?"]}', encoding="utf-8")
    with Server(lambda body: (200, said(f"나는 {body['model']}"))) as server:
        words = ("api", "usage", "--questions", questions, "--results_dir", tmp_path / "r")
        words = (*words, "--base_url", f"{server.url}/v1")
        run = lambda *more: script("src/eval/infer.py", *more, OPENAI_API_KEY="k")  # noqa: E731
        assert run("orgA/X", *words).returncode == 0
        (path,) = (tmp_path / "r/usage/infer_results").glob("*_results.json")
        before = path.read_bytes()
        second = run("orgB/X", *words)
        assert (second.returncode, path.read_bytes()) == (2, before)
        assert "orgA/X" in second.stderr
        assert "--name" in second.stderr
        assert run("orgB/X", *words, "--name", "X-of-B").returncode == 0
        assert run("orgA/X", *words).returncode == 0
    assert path.read_bytes() == before


# ------------------------------------------------------------- the scripts' exit codes


@pytest.fixture
def answers(tmp_path):
    rows = [{"title": "갓생", "question": f"질문 {n}?", "answer": f"답 {n}"} for n in range(3)]
    path, terms = tmp_path / "answers.json", tmp_path / "terms.json"
    path.write_text(json.dumps(rows), encoding="utf-8")
    term = {"title": "갓생", "description": "알차게 사는 생활", "conversations": []}
    terms.write_text(json.dumps([term]), encoding="utf-8")
    return ["--infer_results", path, "--terms", terms]


def score(script, server, tmp_path, answers, *more):
    output = tmp_path / "scores.json"
    result = script(
        *("src/eval/score.py", "--model_name", "m", "--score_mode", "understand", *answers),
        *("--scorer_name", "judge", "--base_url", f"{server.url}/v1", "--output", output, *more),
        OPENAI_API_KEY="k",
    )
    return result, json.loads(output.read_text())


def test_a_judgement_that_stays_away_leaves_with_1_and_comes_with_the_next_run(
    script, tmp_path, answers
):
    quiet = True

    def reply(body):
        silent = quiet and "답 1" in body["messages"][0]["content"]
        return 200, said("" if silent else '{"reason": "맞음", "score": 4}')

    with Server(reply) as server:
        result, found = score(script, server, tmp_path, answers)
        assert result.returncode == 1, result.stderr
        assert (found["n_scored"], found["n_total"], found["statuses"]) == (
            2, 3, {"ok": 2, "empty": 1}
        )  # fmt: skip
        assert "asks 1 of them again" in result.stdout
        assert len(server.bodies) == 2 + 3
        quiet = False
        result, found = score(script, server, tmp_path, answers)
    assert (result.returncode, found["n_scored"], len(server.bodies)) == (0, 3, 6)


def test_a_blocked_judgement_is_asked_again_on_request(script, tmp_path, answers):
    blocks = True

    def reply(body):
        if blocks and "답 1" in body["messages"][0]["content"]:
            return error("flagged", "content_filter")
        return 200, said('{"reason": "맞음", "score": 4}')

    with Server(reply) as server:
        result, found = score(script, server, tmp_path, answers)
        assert (result.returncode, found["statuses"]) == (1, {"ok": 2, "blocked": 1})
        assert "--ask_blocked" in result.stdout
        blocks = False
        result, _ = score(script, server, tmp_path, answers)
        assert (result.returncode, len(server.bodies)) == (1, 3)
        result, found = score(script, server, tmp_path, answers, "--ask_blocked")
        assert (result.returncode, found["n_scored"], len(server.bodies)) == (0, 3, 4)


def test_a_blocked_answer_is_asked_again_on_request(script, tmp_path):
    questions = tmp_path / "q.json"
    questions.write_text('{"questions": ["뭐 해?", "점심은?"]}', encoding="utf-8")
    blocks = True

    def reply(body):
        blocked = blocks and "점심은?" in body["messages"][0]["content"]
        return 200, said(None, "content_filter") if blocked else said("오늘도 잘 살았지")

    with Server(reply) as server:

        def statuses(*more):
            words = ("api", "usage", "--questions", questions, "--results_dir", tmp_path / "r")
            words = ("m", *words, "--base_url", f"{server.url}/v1", *more)
            result = script("src/eval/infer.py", *words, OPENAI_API_KEY="k")
            assert result.returncode in (0, 1), result.stderr
            [path] = (tmp_path / "r/usage/infer_results").glob("*_results.json")
            return [row["status"] for row in json.loads(path.read_text())], len(server.bodies)

        assert statuses() == (["ok", "blocked"], 2)
        assert statuses("--ask_blocked") == (["ok", "blocked"], 3)  # once a run
        blocks = False
        assert statuses() == (["ok", "blocked"], 3)
        assert statuses("--ask_blocked") == (["ok", "ok"], 4)


def test_a_server_of_the_environments_stands_in_the_records(script, tmp_path, answers):
    questions = tmp_path / "q.json"
    questions.write_text('{"questions": ["뭐 해?"]}', encoding="utf-8")
    with Server(lambda _: (200, said('{"reason": "맞음", "score": 4}'))) as server:
        there = {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": f"{server.url}/v1"}
        words = ("--questions", questions, "--results_dir", tmp_path / "r")
        result = script("src/eval/infer.py", "m", "api", "usage", *words, **there)
        assert result.returncode == 0, result.stderr
        [record] = (tmp_path / "r").rglob("*.run.json")
        settings = json.loads(record.read_text())["settings"]
        assert (settings["server"], settings["base_url"]) == (there["OPENAI_BASE_URL"], None)
        words = ("--model_name", "m", "--score_mode", "understand", *answers)
        words = (*words, "--scorer_name", "judge", "--output", tmp_path / "scores.json")
        result = script("src/eval/score.py", *words, **there)
        assert result.returncode == 0, result.stderr
        scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["settings"]["base_url"] == there["OPENAI_BASE_URL"]


def test_a_file_of_another_judge_of_that_name_is_kept(script, tmp_path, answers):
    with Server(lambda _: (200, said('{"score": 4}'))) as server:

        def judged(name):
            return script(
                *("src/eval/score.py", "--model_name", "m", "--score_mode", "understand"),
                *(*answers, "--scorer_name", name, "--base_url", f"{server.url}/v1"),
                *("--results_dir", tmp_path / "r"),
                OPENAI_API_KEY="k",
            )

        assert judged("orgA/judge").returncode == 0
        assert judged("orgA/judge").returncode == 0
        result = judged("orgB/judge")
    assert result.returncode == 2
    assert "orgA/judge" in result.stderr


def test_a_cut_reply_of_the_augmenter_is_asked_again(script, tmp_path):
    terms = tmp_path / "terms.csv"
    terms.write_text("title,content,example_q,example_a\n갓생,알찬 생활,뭐 해?,갓생 살아\n")
    turn = {"context": "", "q": "아침에 뭐 하고 지내?", "a": "운동하지, 요즘 갓생이거든"}
    good = spoken(json.dumps({"title": "", "description": "", "conversations": [turn]}))
    replies = [spoken('{"title": "갓생", "conv', "MAX_TOKENS")] * 4 + [good]
    with Server(lambda _: (200, replies.pop(0))) as server:

        def augment():
            return script(
                *("generate_augmented_pairs_gemini.py", "--input", terms, "--rounds", 1),
                *("--pairs_per_term", 1, "--output_dir", tmp_path / "out"),
                *("--base_url", server.url),
                GEMINI_API_KEY="k",
            )

        first = augment()
        assert (first.returncode, len(server.bodies)) == (1, 3), first.stderr
        second = augment()
        assert (second.returncode, len(server.bodies)) == (0, 5), second.stderr


def test_thoughts_are_never_judged(script, tmp_path):
    """The answers hold no slang, whatever was thought before them."""
    thought = "갓생이나 킹받네 같은 말을 쓸까"
    contents = [
        f"<think>\n{thought}\n</think>\n\n김밥 먹자.",
        f"{thought}\n</think>\n\n김밥 먹자.",
        f"<thought>{thought}</thought>김밥 먹자",
        f"[THINK]{thought}[/THINK]김밥 먹자",
        f"<|channel|>analysis<|message|>{thought}<|end|><|start|>assistant"
        "<|channel|>final<|message|>김밥 먹자",
    ]
    questions = tmp_path / "q.json"
    asked = [f"점심 뭐 먹지 {n}" for n in range(5)]
    questions.write_text(json.dumps({"questions": asked}), encoding="utf-8")

    def reply(body):
        return 200, said(contents[int(body["messages"][-1]["content"].strip()[-1])])

    with Server(reply) as server:
        words = ("m", "api", "usage", "--questions", questions, "--results_dir", tmp_path)
        words = (*words, "--base_url", f"{server.url}/v1")
        assert script("src/eval/infer.py", *words, OPENAI_API_KEY="k").returncode == 0
    (path,) = (tmp_path / "usage/infer_results").glob("*_results.json")
    rows = json.loads(path.read_text(encoding="utf-8"))
    assert {row["thoughts"].strip() for row in rows} == {thought}
    assert {row["answer"].strip(". ") for row in rows} == {"김밥 먹자"}
    elsewhere = tmp_path / "elsewhere.json"
    raw = [{"question": q, "answer": text} for q, text in zip(asked, contents, strict=True)]
    elsewhere.write_text(json.dumps(raw), encoding="utf-8")
    for answers in (path, elsewhere):
        result = script(
            *("src/eval/score.py", "--model_name", "m", "--score_mode", "usage"),
            *("--scorer_name", "lexicon", "--infer_results", answers),
            *("--output", tmp_path / "s.json"),
        )
        assert result.returncode == 0, result.stderr
        found = json.loads((tmp_path / "s.json").read_text(encoding="utf-8"))
        assert (found["total_usage_rate"], found["n_scored"]) == (0, 5)


def test_special_tokens_mark_thoughts_of_a_local_model(tokenizer):
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    end = tokenizer.convert_tokens_to_ids("<|im_end|>")
    ids = [*tokenizer.encode("[THINK]갓생을 쓸까[/THINK]김밥 먹자"), end]
    reply = generate._reply(tokenizer, ids, [end], set())
    assert (reply["text"], reply["thoughts"], reply["status"]) == (
        "김밥 먹자", "갓생을 쓸까", "ok"
    )  # fmt: skip
    cut = generate._reply(tokenizer, ids[:4], [end], set())
    assert (cut["text"], cut["status"]) == ("", "truncated")
    plain = [*tokenizer.encode("김밥 먹자"), end]
    assert "thoughts" not in generate._reply(tokenizer, plain, [end], set())


def test_a_failed_batch_says_why():
    class Batches:
        def retrieve(self, _):
            said = types.SimpleNamespace(message="Enqueued token limit reached for gpt-4o-mini.")
            errors = types.SimpleNamespace(data=[said])
            ids = {"output_file_id": None, "error_file_id": None}
            return types.SimpleNamespace(status="failed", errors=errors, **ids)

    model = OpenAI("m", "http://localhost:1/v1")
    model._clients = [types.SimpleNamespace(batches=Batches())]
    batch = model.poll("batch_1")
    assert batch.done
    assert "token limit reached" in batch.state


@pytest.mark.parametrize(
    "body",
    [
        {"detail": "response_format is not supported"},
        {"detail": [{"loc": ["body", "response_format"], "msg": "Extra inputs are not permitted"}]},
        {"error": "json_schema is not supported"},
        {"message": "json_schema is not supported", "code": 1},
        [{"error": {"code": 400, "message": "response_format is not supported"}}],
    ],
)
def test_a_refusal_is_understood_in_any_envelope(tmp_path, capsys, body):
    rule = (lambda sent: "response_format" in sent, (422, body))
    with Server(refusing(rule)) as server:
        (record,) = ask(server, tmp_path, question(schema=SCHEMA))
    assert (record["status"], len(server.bodies)) == ("ok", 3)
    shown = capsys.readouterr().out
    assert "not supported" in shown or "not permitted" in shown


def test_a_repeated_prompt_says_nothing_of_a_block(tmp_path):
    detail = [{"loc": ["body"], "msg": "wrong role", "input": "flagged by moderation"}]
    with Server(lambda _: (422, {"detail": detail})) as server:
        (record,) = ask(server, tmp_path)
    assert record["status"] == "api_error"
    assert record["error"] == "422: body: wrong role"
