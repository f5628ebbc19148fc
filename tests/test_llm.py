"""Every fault of both providers, by the count of a server that speaks their protocols."""

import copy
import functools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from malmat.answer import retry
from malmat.answer.api import ApiEngine
from malmat.answer.gemini import Gemini
from malmat.answer.gemini_legacy import GeminiLegacy
from malmat.answer.local import LocalEngine, LocalModel
from malmat.answer.open import provider_of
from malmat.answer.openai import OpenAI
from malmat.answer.prices import Meter, price
from malmat.answer.provider import Model, api_key
from malmat.answer.request import ASK_AGAIN, Failed, Request, answers_by_id, request_key
from malmat.errors import InputError, StopRunning
from malmat.journal import Journal
from malmat.lm.generate import Sampling
from tests.conftest import ending
from tests.fake_llm import FakeLLM, schema_of

GOOGLE = ("gemini", "legacy")  # google-genai and google-generativeai, which speak to one server
KEYS = dict.fromkeys(GOOGLE, "AIzaSyFake-0123456789") | {"openai": "sk-fake-0123456789"}
VARIABLES = dict.fromkeys(GOOGLE, "GEMINI_API_KEY") | {"openai": "OPENAI_API_KEY"}
MODELS = dict.fromkeys(GOOGLE, "gemini-2.5-flash") | {"openai": "gpt-4o-mini"}
SCHEMA = {
    "type": "object",
    "properties": {"used": {"type": "boolean"}, "why": {"type": "string"}},
    "required": ["used", "why"],
    "additionalProperties": False,
}


@pytest.fixture(autouse=True)
def _keys_and_short_waits(monkeypatch, one_certificate):
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))
    monkeypatch.setattr(retry, "RETRY_SCALE", 0.001)
    monkeypatch.setenv("GEMINI_API_KEY", KEYS["gemini"])
    monkeypatch.setenv("GOOGLE_API_KEY", "another-key-that-must-not-be-taken")
    monkeypatch.setenv("OPENAI_API_KEY", KEYS["openai"] + "\n")  # as pasted from a file


@pytest.fixture(params=["gemini", "legacy", "openai"])
def provider(request):
    return request.param


@functools.cache  # making a client costs more than asking it
def connect(provider: str, fake: FakeLLM) -> Model:
    if provider in GOOGLE:
        kind = Gemini if provider == "gemini" else GeminiLegacy
        return kind(MODELS[provider], fake.url)
    return OpenAI(MODELS[provider], fake.url + "/v1")


def ask_for(count: int, text: str = "질문", **options) -> list[Request]:
    return [
        Request(f"r{n}", [{"role": "user", "content": f"{text} {n}."}], **options)
        for n in range(count)
    ]


def run(fake: FakeLLM, provider: str, path: Path, requests=None, **options) -> dict[str, dict]:
    """The requests (one by default) through a journal at ``path``."""
    with Journal(path) as journal:
        model = connect(provider, fake)
        return complete(model, requests or ask_for(1), journal, **{"concurrency": 1, **options})


def complete(model: Model, requests, journal, *, concurrency=8, max_cost=None, **options):
    meter = Meter(model.name, max_cost=max_cost)
    engine = ApiEngine(model, concurrency)
    return answers_by_id(engine, requests, journal, meter=meter, **options)


def journaled(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


# ------------------------------------------------------------------- one good answer


def test_an_answer_with_all_that_belongs_to_it(tmp_path, provider):
    messages = [
        {"role": "system", "content": "친구처럼 말해."},
        {"role": "user", "content": "뭐해?"},
        {"role": "assistant", "content": "쉬어."},
        {"role": "user", "content": "나도."},
    ]
    request = Request(
        "a", messages, sampling={"temperature": 0.5, "max_tokens": 99}, schema=SCHEMA, sample=2
    )
    with FakeLLM() as fake:
        (name, record), *rest = run(fake, provider, tmp_path / "j", [request]).items()
    assert not rest
    assert name == "a#2"
    assert json.loads(record["text"])["used"] is True
    assert "나도." in record["text"]  # the fake echoes the prompt into the schema
    assert (record["id"], record["status"], record["attempts"]) == ("a", "ok", 1)
    assert record["error"] is None
    assert record["model_version"].startswith(MODELS[provider])
    assert min(record["usage"].values()) > 0
    (body,), (entry,) = fake.requests, fake.log
    assert entry[2] == "\n".join(message["content"] for message in messages)
    assert entry[3] == KEYS[provider]  # not GOOGLE_API_KEY, and without the line's end
    if provider in GOOGLE:
        assert [content["role"] for content in body["contents"]] == ["user", "model", "user"]
        assert body["generationConfig"]["maxOutputTokens"] == 99
        if provider == "gemini":
            assert body["generationConfig"]["responseJsonSchema"] == SCHEMA
        else:  # its schema has no additionalProperties
            assert set(schema_of(body)["properties"]) == {"used", "why"}
    else:
        assert body["messages"] == messages
        assert (body["temperature"], body["max_tokens"]) == (0.5, 99)
        assert body["response_format"]["json_schema"]["schema"] == SCHEMA


# ------------------------------------------------------------------------- the faults


@pytest.mark.parametrize("fault", ["429", "500", "503", "reset", "drop", "bad_json", "html"])
def test_a_passing_fault_is_tried_again(tmp_path, provider, fault):
    with FakeLLM(script=[fault, "ok"]) as fake:
        record = run(fake, provider, tmp_path / "j")["r0#0"]
    assert (record["status"], record["attempts"], fake.calls) == ("ok", 2, 2)
    assert record["text"] == "echo: 질문 0."


def test_a_server_that_hangs_is_left_and_asked_again(tmp_path, provider, monkeypatch):
    for name in ("openai", "gemini", "gemini_legacy"):
        monkeypatch.setattr(f"malmat.answer.{name}.TIMEOUT_S", 0.3)
    with FakeLLM(script=["hang", "ok"]) as fake:
        record = run(fake, provider, tmp_path / "j")["r0#0"]
    assert (record["status"], record["attempts"], fake.calls) == ("ok", 2, 2)


@pytest.mark.parametrize("fault", ["429_after", "429_date", "429_body"])
def test_the_wait_the_server_asks_for_is_kept(tmp_path, provider, fault):
    with FakeLLM(script=[fault, "ok"], retry_after=0.4) as fake:
        record = run(fake, provider, tmp_path / "j")["r0#0"]
    assert (record["status"], fake.calls) == ("ok", 2)
    assert fake.log[1][0] - fake.log[0][0] >= 0.4


@pytest.mark.parametrize("fault", ["429_after", "429_body"])
def test_a_wait_beyond_all_patience_is_not_begun(tmp_path, provider, fault, monkeypatch):
    monkeypatch.setattr(retry, "PATIENCE_S", 0.5)
    with FakeLLM(script=[fault, "ok"], retry_after=0.7) as fake:
        record = run(fake, provider, tmp_path / "j")["r0#0"]
    assert (record["status"], record["attempts"], fake.calls) == ("api_error", 1, 1)
    assert record["error"].startswith("429: ")


@pytest.mark.parametrize("fault", ["503", "reset"])
def test_a_fault_that_stays_is_an_api_error_and_asked_again_by_the_next_run(
    tmp_path, provider, fault
):
    path = tmp_path / "j"
    with FakeLLM(script=[fault] * retry.ATTEMPTS) as fake:
        record = run(fake, provider, path)["r0#0"]
        assert (record["status"], record["text"]) == ("api_error", "")
        assert record["attempts"] == fake.calls == retry.ATTEMPTS
        assert record["error"].startswith("503: " if fault == "503" else "connection: ")
        assert run(fake, provider, path)["r0#0"]["status"] == "ok"
        assert run(fake, provider, path)["r0#0"]["status"] == "ok"
        assert fake.calls == retry.ATTEMPTS + 1


@pytest.mark.parametrize("fault", ["bad_json", "html", "empty_object", "error_200"])
def test_an_unreadable_200_is_never_an_answer(tmp_path, provider, fault):
    path = tmp_path / "j"
    with FakeLLM(script=[fault] * 3) as fake:
        record = run(fake, provider, path)["r0#0"]
        assert (record["status"], record["text"]) == ("parse_error", "")
        assert record["error"].startswith("unreadable: ")
        assert record["attempts"] == fake.calls == 3
        assert run(fake, provider, path)["r0#0"]["status"] == "ok"
        assert fake.calls == 4


ONCE = {
    "safety": "blocked",
    "partial_safety": "blocked",
    "prompt_block": "blocked",
    "max_tokens": "truncated",
}


@pytest.mark.parametrize("fault", ONCE)
def test_a_reply_without_a_whole_answer_is_paid_for_once(tmp_path, provider, fault):
    path = tmp_path / "j"
    with FakeLLM(script=[fault]) as fake:
        first = run(fake, provider, path)
        assert run(fake, provider, path) == first
    record = first["r0#0"]
    assert record["status"] == ONCE[fault]
    assert (record["attempts"], fake.calls) == (1, 1)
    if fault in ("partial_safety", "max_tokens"):  # kept, to be looked at
        assert "echo: 질문 0.".startswith(record["text"])
        assert record["text"]


@pytest.mark.parametrize("fault", ["no_candidates", "empty"])
def test_a_reply_without_anything_is_asked_again(tmp_path, provider, fault):
    path = tmp_path / "j"
    with FakeLLM(script=[fault] * 4 + ["ok"]) as fake:
        first = run(fake, provider, path)["r0#0"]
        if (provider, fault) == ("openai", "empty"):  # the model's own doing
            assert (first["status"], fake.calls) == ("empty", 1)
            assert run(fake, provider, path)["r0#0"] == first
            return
        assert (first["status"], first["text"], first["attempts"]) == ("api_error", "", 3)
        assert first["usage"]["input"] > 0  # what was paid for counts
        second = run(fake, provider, path)["r0#0"]
        assert (second["status"], second["attempts"], fake.calls) == ("ok", 2, 5)


def test_a_refusal(tmp_path, provider):
    with FakeLLM(script=["refusal"]) as fake:
        record = run(fake, provider, tmp_path / "j")["r0#0"]
    assert fake.calls == 1
    assert record["status"] == ("blocked" if provider in GOOGLE else "refused")
    assert ("sorry" in record["text"]) == (provider == "openai")


def test_a_refused_request_fails_alone(tmp_path, provider):
    path = tmp_path / "j"
    with FakeLLM(script=["ok", "400", "ok"]) as fake:
        records = run(fake, provider, path, ask_for(3))
        assert [record["status"] for record in records.values()] == ["ok", "api_error", "ok"]
        assert fake.calls == 3
        assert records["r1#0"]["error"].startswith("400: ")
        again = run(fake, provider, path, ask_for(3))
    assert {record["status"] for record in again.values()} == {"ok"}
    assert [entry[2] for entry in fake.log[3:]] == ["질문 1."]


@pytest.mark.parametrize("fault", ["401", "403", "bad_key", "404"])
def test_a_wrong_key_or_model_ends_the_run(tmp_path, provider, fault):
    path = tmp_path / "j"
    with FakeLLM(faults={fault: 1}) as fake, pytest.raises(InputError) as caught:
        run(fake, provider, path, ask_for(20))
    # The older SDK's transport asks anew after a 401, twice, as for a token that ran out.
    assert fake.calls == (3 if (provider, fault) == ("legacy", "401") else 1)
    assert path.read_bytes() == b""
    named = MODELS[provider] if fault == "404" else VARIABLES[provider]
    assert named in str(caught.value)


def test_a_spent_quota_stops_with_progress_kept(tmp_path, provider):
    path = tmp_path / "j"
    with FakeLLM(script=["ok", "ok", "quota"]) as fake:
        with pytest.raises(StopRunning, match=f"quota of {VARIABLES[provider]}"):
            run(fake, provider, path, ask_for(6))
        assert (fake.calls, len(journaled(path))) == (3, 2)
        assert len(run(fake, provider, path, ask_for(6))) == 6
        assert fake.calls == 7


@pytest.mark.parametrize("fault", ["401", "403", "400", "404", "429", "quota", "503", "reset"])
def test_the_key_is_in_no_message_and_no_journal(tmp_path, provider, fault, monkeypatch):
    monkeypatch.setattr(retry, "ATTEMPTS", 2)
    path, said = tmp_path / "j", ""
    with FakeLLM(faults={fault: 1}) as fake:
        try:
            said = json.dumps(run(fake, provider, path))
        except (InputError, StopRunning) as error:
            said = str(error)
    assert said
    assert KEYS[provider] not in said
    assert KEYS[provider] not in path.read_text()


@pytest.mark.parametrize("key", ["sk-한글", "two words", "sk-\x07bell"])
def test_a_key_that_is_none_is_named_not_shown(provider, key, monkeypatch):
    monkeypatch.setenv(VARIABLES[provider], key)
    with pytest.raises(InputError) as caught:
        api_key("gemini" if provider in GOOGLE else provider)
    assert VARIABLES[provider] in str(caught.value)
    assert key not in str(caught.value)


def test_a_server_of_ones_own_needs_no_key(tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY")
    monkeypatch.setattr("dotenv.load_dotenv", lambda *_: False)
    with FakeLLM(script=["ok", "400"]) as fake:
        assert run(fake, "openai", tmp_path / "j")["r0#0"]["status"] == "ok"
        model = connect("openai", fake)
        assert model.scrub("none of these") == "none of these"
    with pytest.raises(InputError, match="OPENAI_API_KEY"):
        OpenAI("gpt-4o-mini")


# ---------------------------------------------------------------- replies that are odd


@pytest.mark.parametrize(
    ("model", "fixed"),
    [
        *(("gpt-5-mini", True), ("o3", True), ("gpt-6-sol", True)),
        *(("gpt-5-chat-latest", False), ("gpt-4o", False)),
    ],
)
def test_openai_itself_is_sent_what_its_models_take(tmp_path, monkeypatch, capsys, model, fixed):
    sampling = {"temperature": 0.7, "top_p": 0.9, "max_tokens": 99}
    with FakeLLM() as fake, Journal(tmp_path / "j") as journal:
        monkeypatch.setenv("OPENAI_BASE_URL", f"{fake.url}/v1")  # where the SDK finds OpenAI
        complete(OpenAI(model), ask_for(3, sampling=sampling), journal)
        kept = {} if fixed else {"temperature": 0.7, "top_p": 0.9}
        for body in fake.requests:
            del body["model"], body["messages"]
            assert body == {"max_completion_tokens": 99, **kept}
        said = capsys.readouterr().out.count(f"{model} takes neither temperature nor top_p")
        assert said == fixed
        # A server of one's own gets the older name, which all of them know, and all settings.
        own = OpenAI(model, f"{fake.url}/v1")
        complete(own, ask_for(1, sampling=sampling), journal)
        assert {name: fake.requests[-1][name] for name in sampling} == sampling


def test_servers_may_join_a_half_done_run(tmp_path):
    with FakeLLM() as first, FakeLLM() as second, Journal(tmp_path / "j") as journal:
        one, two = f"{first.url}/v1", f"{second.url}/v1"
        complete(OpenAI("m", one), ask_for(4), journal)
        records = complete(OpenAI("m", f"{one}, {two}"), ask_for(8), journal)
        assert len(records) == first.calls + second.calls == 8
        assert second.calls
        complete(OpenAI("m", two), ask_for(4), journal)  # another model of that name
        assert first.calls + second.calls == 12


def test_half_a_character_in_a_reply_does_not_end_the_run(tmp_path, provider):
    path = tmp_path / "j"
    with FakeLLM(answer=lambda *_: "ㅋㅋ \ud83d") as fake:
        record = run(fake, provider, path)["r0#0"]
        again = run(fake, provider, path)["r0#0"]
    if provider == "legacy":  # protobuf does not read it
        assert (record["status"], record["text"]) == ("parse_error", "")
    else:
        assert (record["status"], record["text"], fake.calls) == ("ok", "ㅋㅋ ?", 1)
        assert again == record


def test_text_that_comes_in_parts(tmp_path, provider):
    with FakeLLM(script=["parts"] * 3) as fake:
        record = run(fake, provider, tmp_path / "j")["r0#0"]
    if provider in GOOGLE:  # a list inside a part is no text
        assert (record["status"], record["attempts"], fake.calls) == ("parse_error", 3, 3)
    else:
        assert (record["status"], record["text"], fake.calls) == ("ok", "echo: 질문 0.", 1)


def test_a_reply_that_does_not_parse_is_asked_for_again_twice(tmp_path, provider):
    def accept(request: Request, text: str) -> None:
        if "좋아" not in text:
            raise ValueError(f"no verdict in {text!r}")

    path, replies = tmp_path / "j", ["음", "글쎄", "좋아", "음", "음", "음", "좋아"]
    with FakeLLM(answer=lambda *_: replies.pop(0)) as fake:
        records = run(fake, provider, path, ask_for(2), accept=accept)
        good, bad = records["r0#0"], records["r1#0"]
        assert (good["status"], good["text"], good["attempts"]) == ("ok", "좋아", 3)
        assert (bad["status"], bad["text"], bad["attempts"]) == ("parse_error", "음", 3)
        assert "no verdict" in bad["error"]
        assert good["usage"]["input"] == 3 * (len(MODELS[provider]) + 10)  # all three were paid
        assert fake.calls == 6
        again = run(fake, provider, path, ask_for(2), accept=accept)
        assert again["r1#0"]["status"] == "ok"
        assert fake.calls == 7


def test_a_setting_that_the_model_does_not_know(tmp_path, provider):
    requests = ask_for(3, sampling={"no_such_setting": 1})
    with FakeLLM() as fake, pytest.raises(InputError, match="no_such_setting"):
        run(fake, provider, tmp_path / "j", requests)
    assert fake.calls == 0


def test_a_setting_of_the_wrong_type(tmp_path):
    requests = ask_for(3, sampling={"temperature": "hot"})
    with FakeLLM() as fake, pytest.raises(InputError, match="temperature"):
        run(fake, "gemini", tmp_path / "j", requests)
    assert fake.calls == 0


# -------------------------------------------------------------------- the whole of a run


def test_many_at_once_and_never_more_than_allowed(tmp_path, provider):
    with FakeLLM(latency=0.02) as fake:
        records = run(fake, provider, tmp_path / "j", ask_for(40), concurrency=4)
    assert fake.calls == len(records) == 40
    assert 2 <= fake.peak <= 4
    for name, record in records.items():
        assert record["text"] == f"echo: 질문 {name[1:-2]}."


def test_a_storm_of_faults_ends_with_every_answer_in_its_place(tmp_path, provider):
    storm = {"429": 0.15, "503": 0.05, "reset": 0.05, "bad_json": 0.03, "html": 0.02}
    path = tmp_path / "j"
    with FakeLLM(faults=storm, seed=3) as fake:
        records = run(fake, provider, path, ask_for(60), concurrency=4)
        while any(record["status"] in ASK_AGAIN for record in records.values()):
            records = run(fake, provider, path, ask_for(60), concurrency=4)
    assert len(records) == 60
    for name, record in records.items():
        assert (record["status"], record["text"]) == ("ok", f"echo: 질문 {name[1:-2]}.")
    assert fake.counts["ok"] == 60  # each was answered, and paid for, once
    assert sum(record["attempts"] for record in records.values()) <= fake.calls


def test_a_finished_run_asks_nothing_and_changes_nothing(tmp_path, provider):
    path = tmp_path / "j"
    with FakeLLM() as fake:
        first = run(fake, provider, path, ask_for(5))
        before = path.read_bytes()
        assert run(fake, provider, path, ask_for(5)) == first
        assert fake.calls == 5
    assert path.read_bytes() == before


def test_only_what_is_missing_or_changed_is_asked(tmp_path, provider):
    path = tmp_path / "j"
    with FakeLLM() as fake:
        run(fake, provider, path, ask_for(3))
        grown = ask_for(5)
        random.Random(1).shuffle(grown)
        assert len(run(fake, provider, path, grown)) == 5
        assert sorted(entry[2] for entry in fake.log[3:]) == ["질문 3.", "질문 4."]
        edited = [*ask_for(2), *ask_for(3, "고친 질문")[2:]]
        records = run(fake, provider, path, edited)
        assert [entry[2] for entry in fake.log[5:]] == ["고친 질문 2."]
        assert records["r2#0"]["text"] == "echo: 고친 질문 2."
        run(fake, provider, path, ask_for(2, sampling={"temperature": 0.1}))
        run(fake, provider, path, ask_for(2, sample=1))
        assert fake.calls == 10
        other = copy.copy(connect(provider, fake))
        other.name += "-other"
        with Journal(path) as journal:
            complete(other, ask_for(1), journal)
        assert fake.calls == 11


def test_equal_requests_are_bought_once_and_samples_are_not_equal(tmp_path, provider):
    messages = [{"role": "user", "content": "같은 질문"}]
    requests = [Request(f"r{n}", messages, sample=n // 3) for n in range(6)]
    with FakeLLM(latency=0.05) as fake:
        records = run(fake, provider, tmp_path / "j", requests, concurrency=6)
        assert fake.calls == 2
    assert len(records) == 6
    assert {record["status"] for record in records.values()} == {"ok"}
    assert len(journaled(tmp_path / "j")) == 2


def test_one_kind_of_failure_twenty_times_in_a_row_ends_the_run(tmp_path, provider):
    path = tmp_path / "j"
    with FakeLLM(faults={"400": 1}) as fake, pytest.raises(StopRunning, match="20 failures"):
        run(fake, provider, path, ask_for(40))
    assert fake.calls == len(journaled(path)) == 20


def test_a_web_page_for_every_request_ends_the_run(tmp_path, provider):
    with FakeLLM(faults={"html": 1}) as fake, pytest.raises(StopRunning, match="unreadable"):
        run(fake, provider, tmp_path / "j", ask_for(40))
    assert fake.calls == 60  # 20 requests, three times each


def test_replies_that_do_not_parse_do_not_end_the_run(tmp_path):
    def accept(request: Request, text: str) -> None:
        raise ValueError("never right")

    with FakeLLM() as fake:
        records = run(fake, "openai", tmp_path / "j", ask_for(25), accept=accept)
    assert [record["status"] for record in records.values()] == ["parse_error"] * 25


def test_more_than_a_tenth_failed_after_fifty_ends_the_run(tmp_path):
    script = ["ok"] * 2 + (["ok"] * 7 + ["400"]) * 9  # the fiftieth is the sixth failure
    path = tmp_path / "j"
    with FakeLLM(script=script) as fake:
        with pytest.raises(StopRunning, match="6 of 50 requests failed"):
            run(fake, "openai", path, ask_for(72))
        assert fake.calls == len(journaled(path)) == 50


def test_a_tenth_failed_does_not_end_the_run(tmp_path):
    with FakeLLM(script=(["ok"] * 9 + ["400"]) * 7) as fake:
        run(fake, "openai", tmp_path / "j", ask_for(70))
        assert fake.calls == 70


def test_max_cost_ends_the_run_when_it_is_reached(tmp_path, provider):
    path = tmp_path / "j"
    with FakeLLM() as fake:
        record = run(fake, provider, tmp_path / "one")["r0#0"]
        each = price(MODELS[provider], record["usage"])
        with pytest.raises(StopRunning, match="max_cost"):
            run(fake, provider, path, ask_for(20), max_cost=each * 4.5)
        assert fake.calls == 1 + 5
        assert len(run(fake, provider, path, ask_for(20))) == 20
        assert fake.calls == 1 + 20


def test_max_cost_without_a_price_is_refused(tmp_path):
    with FakeLLM() as fake, Journal(tmp_path / "j") as journal:
        model = OpenAI("my-own-model", fake.url + "/v1")
        with pytest.raises(InputError, match="max_cost"):
            complete(model, ask_for(1), journal, max_cost=1)
        assert fake.calls == 0


def test_prices_by_the_longest_name(tmp_path):
    table = tmp_path / "prices.json"
    rates = {"a": {"input": 1, "output": 2}, "a-mini": {"input": 3, "output": 4}}
    table.write_text(json.dumps({"models": rates}))
    usage = {"input": 1_000_000, "output": 500_000}
    assert price("a", usage, table) == 2
    assert price("a-2025-04-14", usage, table) == 2
    assert price("a-mini-2025", usage, table) == 5
    assert price("ab", usage, table) is None


def test_gemini_names_go_to_google_unless_a_server_is_named():
    assert provider_of("gemini-2.5-pro") == "gemini"
    assert provider_of("gemini-2.5-pro", "http://127.0.0.1:1/v1") == "openai"
    assert provider_of("gpt-4o") == "openai"


# ------------------------------------------------------------------------- the engines


def test_requests_are_drawn_as_workers_become_free_and_records_come_in_order(tmp_path):
    drawn = []

    def endless():
        for request in ask_for(10_000):
            drawn.append(request.id)
            yield request

    with FakeLLM(latency=0.01) as fake, Journal(tmp_path / "j") as journal:
        engine = ApiEngine(connect("openai", fake), 4)
        with engine.answers(endless(), journal) as records:
            assert [next(records)["id"] for _ in range(30)] == [f"r{n}" for n in range(30)]
            assert len(drawn) < 200
        assert fake.calls == len(journal)  # those in flight were waited for
        assert 0 <= len(drawn) - fake.calls <= 4  # those drawn at the end, one a worker


def test_what_came_before_a_failure_is_given_first(tmp_path):
    with FakeLLM(script=["ok"] * 5 + ["401"]) as fake, Journal(tmp_path / "j") as journal:
        engine, came = ApiEngine(connect("openai", fake), 1), []
        with (
            pytest.raises(InputError, match="OPENAI_API_KEY"),
            engine.answers(iter(ask_for(20)), journal) as records,
        ):
            came.extend(record["id"] for record in records)
        assert came == [f"r{n}" for n in range(5)]


def test_requests_that_cannot_be_made_end_the_run_with_their_error(tmp_path):
    def broken():
        yield from ask_for(3)
        raise InputError("no more")

    with FakeLLM() as fake, Journal(tmp_path / "j") as journal:
        engine = ApiEngine(connect("openai", fake), 2)
        with (
            pytest.raises(InputError, match="no more"),
            engine.answers(broken(), journal) as records,
        ):
            list(records)
        assert len(journal) == fake.calls == 3


def test_an_answer_that_can_no_longer_be_read_is_asked_for_again(tmp_path):
    def accept(_: Request, text: str) -> None:
        if "새" not in text:
            raise ValueError("an old reply")

    path, replies = tmp_path / "j", ["옛 답", "새 답"]
    with FakeLLM(answer=lambda *_: replies.pop(0)) as fake:
        assert run(fake, "openai", path)["r0#0"]["text"] == "옛 답"
        assert run(fake, "openai", path, accept=accept)["r0#0"]["text"] == "새 답"
        assert run(fake, "openai", path, accept=accept)["r0#0"]["text"] == "새 답"
        assert fake.calls == 2


def test_a_local_answer_that_cannot_be_read_is_a_parse_error_and_not_made_again(
    tmp_path, monkeypatch
):
    made = []

    def answer_all(model, tokenizer, items, sampling, *, batch_size, done):
        for item in items:
            if not done(item["key"]):
                made.append(item["id"])
                reply = {"text": item["id"], "status": "ok", "finish_reason": "stop"}
                yield [{**item, **reply, "batch_size": 1, "input_tokens": 3, "output_tokens": 2}]

    def accept(request: Request, text: str) -> None:
        if request.id == "r1":
            raise ValueError("no\nverdict")

    monkeypatch.setattr("malmat.lm.generate.answer_all", answer_all)
    monkeypatch.setattr(LocalModel, "load", lambda _: (None, None))
    engine, meter = LocalEngine(str(tmp_path), Sampling()), Meter("m")
    with Journal(tmp_path / "j") as journal:
        for _ in range(2):
            options = {"accept": accept, "meter": meter}
            records = answers_by_id(engine, ask_for(3), journal, **options)
            statuses = [record["status"] for record in records.values()]
            assert statuses == ["ok", "parse_error", "ok"]
            assert records["r1#0"]["error"] == "no verdict"
            assert records["r1#0"]["text"] == "r1#0"
        assert made == ["r0#0", "r1#0", "r2#0"]
        assert meter.usage == {"input": 9, "output": 6}
        answers_by_id(LocalEngine(str(tmp_path), Sampling(seed=1)), ask_for(1), journal)
        assert made[3:] == ["r0#0"]  # another draw


def test_choices_are_part_of_what_determines_an_answer():
    free, closed = (Request("a", [], choices=choices) for choices in ((), ("1", "2")))
    other = Request("a", [], choices=("2", "1"))
    assert len({request_key({}, request) for request in (free, closed, other)}) == 3


# --------------------------------------------------------------- killed and interrupted

CHILD = """
import sys
from malmat import cli
from malmat.answer.api import ApiEngine
from malmat.answer.openai import OpenAI
from malmat.answer.request import Request, answers_by_id
from malmat.journal import Journal
url, path, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
requests = [
    Request(f"r{n}", [{"role": "user", "content": f"질문 {n}."}]) for n in range(count)
]
def main():
    with Journal(path) as journal:
        records = answers_by_id(ApiEngine(OpenAI("m", url), 4), requests, journal)
    return int(any(record["status"] != "ok" for record in records.values()))
cli.run(main)
"""


def start(fake: FakeLLM, path: Path, count: int) -> AbstractContextManager[subprocess.Popen]:
    source = Path(retry.__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-c", CHILD, f"{fake.url}/v1", str(path), str(count)],
        env={**os.environ, "PYTHONPATH": str(source), "MALMAT_RETRY_SCALE": "0.01"},
        stderr=subprocess.PIPE,
        text=True,
    )
    return ending(process)


def wait_for_calls(fake: FakeLLM, child: subprocess.Popen, calls: int) -> None:
    while fake.calls < calls and child.poll() is None:
        time.sleep(0.005)


def wait_until_idle(fake: FakeLLM) -> None:
    while fake.active:
        time.sleep(0.005)


def test_ctrl_c_drains_what_is_in_flight_and_loses_nothing(tmp_path):
    path = tmp_path / "j"
    with FakeLLM(latency=0.05) as fake:
        with start(fake, path, 60) as child:
            wait_for_calls(fake, child, 11)
            child.send_signal(signal.SIGINT)
            _, said = child.communicate(timeout=30)
            assert child.returncode == 130, said
            assert "progress is kept" in said
            assert "Traceback" not in said
            assert 11 <= fake.calls < 60
            assert len(journaled(path)) == fake.calls
        with start(fake, path, 60) as child:
            _, said = child.communicate(timeout=30)
            assert child.returncode == 0, said
        assert fake.calls == 60  # none was asked twice


def test_ctrl_c_while_waiting_for_a_retry_leaves_at_once(tmp_path):
    path = tmp_path / "j"
    faults = {"429_after": 1}
    with FakeLLM(faults=faults, retry_after=300) as fake, start(fake, path, 8) as child:
        wait_for_calls(fake, child, 4)
        wait_until_idle(fake)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=30)
    assert child.returncode == 130, said
    assert fake.calls == 4
    assert path.read_bytes() == b""


def test_a_second_ctrl_c_does_not_wait(tmp_path):
    with FakeLLM(latency=20) as fake, start(fake, tmp_path / "j", 8) as child:
        wait_for_calls(fake, child, 4)
        began = time.monotonic()
        for _ in range(2):
            child.send_signal(signal.SIGINT)
            time.sleep(0.3)
        child.communicate(timeout=30)
        assert time.monotonic() - began < 10
    assert child.returncode == 130


def test_kill_at_random_moments_loses_nothing_and_buys_little_twice(tmp_path):
    items, kills, concurrency = 60, 3, 4
    path, moments = tmp_path / "j", random.Random(5)
    faults = {"429": 0.1, "503": 0.05, "reset": 0.03, "bad_json": 0.03}
    with FakeLLM(faults=faults, seed=5, latency=0.02) as fake:
        for _ in range(kills):
            before = fake.calls
            with start(fake, path, items) as child:
                wait_for_calls(fake, child, before + moments.randint(5, 14))
                time.sleep(moments.uniform(0, 0.03))
                assert child.poll() is None
                child.kill()
                child.communicate()
            wait_until_idle(fake)
        with start(fake, path, items) as child:
            _, said = child.communicate(timeout=30)
            assert child.returncode == 0, said
    answers = {}
    for record in journaled(path):
        if record["status"] == "ok":
            assert record["key"] not in answers  # nothing that was kept is bought again
            answers[record["key"]] = (record["id"], record["text"])
    assert sorted(answers.values()) == sorted((f"r{n}", f"echo: 질문 {n}.") for n in range(items))
    assert items <= fake.counts["ok"] <= items + kills * concurrency


def test_a_full_disk_stops_the_run_and_keeps_the_journal_whole(tmp_path):
    path = tmp_path / "j"
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))\n"
    with FakeLLM() as fake:
        child = subprocess.run(
            [sys.executable, "-c", limit + CHILD, f"{fake.url}/v1", str(path), "40"],
            env={**os.environ, "PYTHONPATH": str(Path(retry.__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert child.returncode == 1
        assert "stopped: " in child.stderr
        assert "Traceback" not in child.stderr
        kept = len(journaled(path))
        assert 0 < kept < 40
        before = fake.calls
        assert before <= kept + 4 + 1
        with start(fake, path, 40) as child:
            child.communicate(timeout=30)
        assert child.returncode == 0
        assert fake.calls - before == 40 - kept


# ---------------------------------------------------------------- the fake server itself


def test_the_fake_server_counts_and_leaves_politely(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.fake_llm", "--fault", "400=1", "--seed", "1"],
        cwd=Path(__file__).parents[1],
        stdout=subprocess.PIPE,
        text=True,
    )
    with ending(process) as child:
        url = child.stdout.readline().strip()
        model = OpenAI("m", url + "/v1")
        with pytest.raises(Failed):
            model.send(ask_for(1)[0])
        child.send_signal(signal.SIGTERM)
        rest, _ = child.communicate(timeout=10)
    assert child.returncode == 0
    assert json.loads(rest) == {"calls": 1, "400": 1}


def test_the_fake_server_draws_the_same_faults_from_the_same_seed():
    def drawn(seed: int) -> list[str]:
        with FakeLLM(faults={"429": 0.3, "503": 0.3}, seed=seed, script=["ok"]) as fake:
            return [fake.begin({}, "", "") for _ in range(30)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1)[0] == "ok"
    assert {*drawn(1)} == {"ok", "429", "503"}
    with pytest.raises(ValueError, match="no such fault"):
        FakeLLM(faults={"418": 1})


def test_threads_of_a_run_do_not_outlive_it(tmp_path):
    with FakeLLM() as fake:
        run(fake, "openai", tmp_path / "j", ask_for(10), concurrency=4)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("llm")]
