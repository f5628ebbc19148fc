"""The way to a server: proxies, certificates, addresses, redirects, time, spent quotas."""

from __future__ import annotations

import json
import socket
import threading
import time

import pytest

from malmat.answer import network, provider, retry
from malmat.answer.gemini import Gemini
from malmat.answer.gemini_legacy import GeminiLegacy
from malmat.answer.open import open_model
from malmat.answer.openai import OpenAI
from malmat.answer.request import Retry
from malmat.errors import InputError, StopRunning
from tests.small_server import Server, ask, error, keys, question, said, spoken  # noqa: F401

KINDS = (OpenAI, Gemini, GeminiLegacy)


def answer(kind):
    return said() if kind is OpenAI else spoken()


def infer(script, tmp_path, url, *words, **environment):
    """infer.py on one question, as a user runs it."""
    questions = tmp_path / "q.json"
    questions.write_text('{"questions": ["뭐 해?"]}', encoding="utf-8")
    words = ("--questions", questions, "--output", tmp_path / "o.json", *words)
    return script(
        *("src/eval/infer.py", "m", "api", "usage", *words, "--base_url", url),
        **{"OPENAI_API_KEY": "k", **environment},
    )


# --------------------------------------------------------------------------- this machine


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("proxy", ["http://127.0.0.1:9", "socks5://127.0.0.1:9"])
def test_no_proxy_leads_to_this_machine(tmp_path, monkeypatch, kind, proxy):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    if kind is not Gemini:  # whose SDK reads it for a client that it makes beside its own
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "nowhere.pem"))
    with Server(lambda _: (200, answer(kind))) as server:
        (record,) = ask(server, tmp_path, kind=kind)
    assert record["status"] == "ok"


@pytest.mark.parametrize(
    ("url", "own"),
    [
        *(("http://localhost:8000/v1", True), ("http://127.0.0.2/v1", True)),
        *(("http://[::1]:8000/v1", True), ("http://0.0.0.0:1/v1", True)),
        *(("https://vllm.localhost", True), (None, False), ("http://10.0.0.1:8000/v1", False)),
        *(("https://api.openai.com/v1", False), ("http://localhost.example.org", False)),
    ],
)
def test_which_addresses_are_of_this_machine(url, own):
    assert network.is_on_this_machine(url) == own


# ------------------------------------------------------------- what the environment has wrong


@pytest.mark.parametrize("kind", [OpenAI, Gemini])
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALL_PROXY", "socks5://127.0.0.1:9", "socks"),
        ("SSL_CERT_FILE", "/no/such/file.pem", "No such file"),
        ("SSL_CERT_FILE", __file__, "certificate"),
        ("HTTPS_PROXY", "ftp://127.0.0.1:9", "ftp"),
    ],
)
def test_a_client_that_cannot_be_made_is_one_line(monkeypatch, kind, name, value, said):
    for other in ("ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "SSL_CERT_FILE"):
        monkeypatch.delenv(other, raising=False)
        monkeypatch.delenv(other.lower(), raising=False)
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError) as caught:
        kind("m", "https://example.org/v1")
    assert f"'{name}'" in str(caught.value)
    assert said.lower() in str(caught.value).lower()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "url",
    ["http://[::1/v1", "http://localhost:eight/v1", "http:///v1", "localhost:8000", "ftp://a"],
)
def test_an_address_that_is_none(kind, url):
    with pytest.raises(InputError, match=r"base_url.*is no address"):
        kind("m", url)


def test_an_address_in_the_environment_that_is_none(monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://[::1/v1")
    with pytest.raises(InputError, match="OPENAI_BASE_URL"):
        OpenAI("m")


@pytest.mark.parametrize(
    ("url", "variables", "said"),
    [
        ("https://example.org/v1", {"ALL_PROXY": "socks5h://127.0.0.1:9"}, "SOCKS"),
        ("https://example.org/v1", {"SSL_CERT_FILE": "/no/such.pem"}, "/no/such.pem"),
        ("http://[::1/v1", {}, "is no address"),
    ],
)
def test_no_traceback_reaches_the_user(script, tmp_path, url, variables, said):
    result = infer(script, tmp_path, url, **variables)
    assert result.returncode == 2, result.stderr
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 1


# ------------------------------------------------------------------------------- redirects


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [301, 302])
def test_a_server_that_moved_says_where(tmp_path, kind, status):
    place = {"Location": "https://new.example.org/v1/chat/completions"}
    with (
        Server(lambda _: (status, {}, place)) as server,
        pytest.raises(InputError, match="has moved") as caught,
    ):
        ask(server, tmp_path, kind=kind)
    assert f"({status} to https://new.example.org/v1/chat/completions)" in str(caught.value)
    assert len(server.paths) == 1
    if kind is OpenAI:
        assert "Give https://new.example.org/v1." in str(caught.value)


@pytest.mark.parametrize("kind", [OpenAI, Gemini])
def test_a_redirect_that_keeps_the_request_is_followed(tmp_path, kind):
    def reply(_):
        if len(server.paths) % 2 == 0:
            return 307, {}, {"Location": server.url + "/v1/chat/completions"}
        return 200, answer(kind)

    with Server(reply) as server:
        (record,) = ask(server, tmp_path, kind=kind)
    assert (record["status"], len(server.bodies)) == ("ok", 2)


# ------------------------------------------------------------------------------------ time


@pytest.mark.parametrize("kind", KINDS)
def test_blank_lines_keep_no_reply_alive_for_ever(tmp_path, monkeypatch, kind):
    monkeypatch.setattr(network, "TOTAL_S", 0.3)
    monkeypatch.setattr(retry, "ATTEMPTS", 2)

    def blank():
        while True:
            yield b"\n"
            time.sleep(0.02)

    with Server(lambda _: (200, blank())) as server:
        (record,) = ask(server, tmp_path, kind=kind)
    assert (record["status"], record["attempts"], len(server.bodies)) == ("api_error", 2, 2)
    assert "no end of the reply after 0.3 s" in record["error"]


@pytest.mark.parametrize("kind", KINDS)
def test_blank_lines_before_a_reply_in_time_are_no_matter(tmp_path, kind):
    def late():
        yield b"\n \n"
        time.sleep(0.05)
        yield json.dumps(answer(kind)).encode()

    with Server(lambda _: (200, late())) as server:
        (record,) = ask(server, tmp_path, kind=kind)
    assert (record["status"], record["text"]) == ("ok", "응")


@pytest.mark.parametrize("kind", KINDS)
def test_a_dead_port_is_told_at_once_and_soon_given_up(tmp_path, capsys, monkeypatch, kind):
    with Server(lambda _: (200, {})) as server:
        pass
    records = ask(server, tmp_path, *map(question, range(3)), kind=kind)
    assert [record["attempts"] for record in records] == [3, 3, 3]
    assert {record["status"] for record in records} == {"api_error"}
    assert "efused" in records[0]["error"] or "establish" in records[0]["error"]
    assert capsys.readouterr().out.count("cannot be reached") == 1
    monkeypatch.setattr(provider, "AWAY_S", 0)  # from the second on, a row is not tried again
    (tmp_path / "j").unlink()
    records = ask(server, tmp_path, *map(question, range(3)), kind=kind)
    assert sum(record["attempts"] for record in records) <= 5


def test_a_server_that_has_answered_is_waited_for(tmp_path):
    """It may be starting anew."""
    with Server(lambda _: (200, said())) as server:
        pass
    model = OpenAI("m", f"{server.url}/v1")
    for has_answered, most in ((False, 3), (True, None)):
        model.has_answered = has_answered
        with pytest.raises(Retry) as caught:
            model.send(question())
        assert caught.value.most == most


# --------------------------------------------------------------------------- spent quotas

SPENT = [
    error("Rate limit exceeded: free-models-per-day. Add 10 credits to unlock 1000", 429, 429),
    error("Rate limit exceeded: free-models-per-day-high-balance. ", "429", 429),
    error("Provider returned error", 429, 429, metadata={"limit_source": "free_tier_daily"}),
    error(
        "Rate limit reached for gpt-4o-mini in organization org-x on requests per day (RPD): Limit "
        "200, Used 200, Requested 1. Please try again in 7m12s.",
        *("rate_limit_exceeded", 429),
    ),
    error(
        "Rate limit reached for model `llama` on tokens per day (TPD): Limit 100000, Used 97050",
        *("rate_limit_exceeded", 429),
    ),
    error("Your account is not active, please check your billing", "billing_not_active", 429),
    error("Billing hard limit has been reached", "billing_hard_limit_reached", 400),
    error("You exceeded your current quota", "insufficient_quota", 429, type="insufficient_quota"),
    error("Key limit exceeded (daily limit). Manage it using the page of keys", 403, 403),
    error("Your credit balance is too low to access the API", None, 400),
    error("Access denied, please make sure your account is in good standing", "Arrearage", 400),
    error("This request requires more credits, or fewer max_tokens", 402, 402),
    (200, {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-day"}}),
    (200, {"error": {"code": "insufficient_quota", "message": "You exceeded your quota"}}),
]


@pytest.mark.parametrize("refusal", SPENT)
def test_a_spent_quota_stops_after_the_first_call(tmp_path, refusal):
    with (
        Server(lambda _: refusal) as server,
        pytest.raises(StopRunning, match="Progress is kept"),
    ):
        ask(server, tmp_path, *map(question, range(9)))
    assert len(server.bodies) == 1


@pytest.mark.parametrize("kind", [Gemini, GeminiLegacy])
def test_a_model_without_a_free_quota_stops_too(tmp_path, kind):
    said = "You exceeded your current quota. * Quota exceeded for metric: requests, limit: 0, model"
    with (
        Server(lambda _: error(said, 429, 429, status_="RESOURCE_EXHAUSTED")) as server,
        pytest.raises(StopRunning),
    ):
        ask(server, tmp_path, *map(question, range(9)), kind=kind)
    assert len(server.bodies) == 1


PASSING = [
    error("Rate limit exceeded: free-models-per-min. ", 429, 429),
    error(
        "Rate limit reached for gpt-4o on requests per min (RPM): Limit 3. You can increase "
        "your rate limit by adding a payment method to your account at https://x/account/billing.",
        *("rate_limit_exceeded", 429),
    ),
    error("m:free is temporarily rate-limited upstream. Please retry shortly", 429, 429),
    (200, {"error": {"code": 429, "message": "Rate limit exceeded: free-models-per-min"}}),
]


@pytest.mark.parametrize("refusal", PASSING)
def test_a_limit_of_a_minute_is_waited_for(tmp_path, refusal):
    replies = [refusal, (200, said())]
    with Server(lambda _: replies.pop(0)) as server:
        (record,) = ask(server, tmp_path)
    assert (record["status"], len(server.bodies)) == ("ok", 2)


# ------------------------------------------------------------------------- what comes back


@pytest.mark.parametrize(
    ("usage", "counted"),
    [
        ({"prompt_tokens": "12", "completion_tokens": "3"}, (12, 3)),
        ({"prompt_tokens": 12.0, "completion_tokens": 3, "total_tokens": "15"}, (12, 3)),
        ({"prompt_tokens": 12, "completion_tokens": None}, (12, 0)),
        ({"prompt_tokens": 12, "completion_tokens": "many"}, (12, 0)),
    ],
)
def test_token_counts_of_any_type(tmp_path, usage, counted):
    with Server(lambda _: (200, {**said(), "usage": usage})) as server:
        (record,) = ask(server, tmp_path)
    assert record["status"] == "ok"
    assert tuple(record["usage"].values()) == counted


@pytest.mark.parametrize("usage", [[], "none", 7, {"prompt_tokens": {}}])
def test_a_usage_that_is_none(tmp_path, usage):
    with Server(lambda _: (200, {**said(), "usage": usage})) as server:
        (record,) = ask(server, tmp_path)
    assert (record["status"], record["usage_estimated"]) == ("ok", True)


@pytest.mark.parametrize("kind", [Gemini, GeminiLegacy])
@pytest.mark.parametrize(
    ("within", "calls", "status"),
    [
        ({"code": 400, "message": "No such role here"}, 1, "api_error"),
        ({"code": 403, "message": "flagged by moderation"}, 1, "blocked"),
        ({"code": 500, "message": "An internal error has occurred"}, 3, "parse_error"),
    ],
)
def test_an_error_inside_a_success_of_gemini_keeps_its_message(
    tmp_path, kind, within, calls, status
):
    with Server(lambda _: (200, {"error": within})) as server:
        (record,) = ask(server, tmp_path, kind=kind)
    assert (record["status"], len(server.bodies)) == (status, calls)
    assert within["message"] in record["error"]


@pytest.mark.parametrize("kind", [Gemini, GeminiLegacy])
def test_a_429_inside_a_success_of_gemini_is_waited_for(tmp_path, kind):
    replies = [{"error": {"code": 429, "message": "Slow down"}}, spoken('{"error": "내 잘못"}')]
    with Server(lambda _: (200, replies.pop(0))) as server:
        (record,) = ask(server, tmp_path, kind=kind)
    assert (record["status"], record["text"], len(server.bodies)) == (
        "ok",
        '{"error": "내 잘못"}',
        2,
    )


# ------------------------------------------------------------------------------------ names


@pytest.mark.parametrize("prefix", ["", "models/", "google/"])
def test_gemini_however_it_is_spelt(monkeypatch, prefix):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    model = open_model(f"{prefix}gemini-2.5-flash")
    assert isinstance(model, Gemini)
    assert model.identity() == Gemini("gemini-2.5-flash").identity()


def test_google_is_a_maker_to_a_server_of_many(monkeypatch):
    model = open_model("google/gemini-2.5-flash", base_url="https://openrouter.ai/api/v1")
    assert (type(model), model.name) == (OpenAI, "google/gemini-2.5-flash")
    monkeypatch.setenv("OPENAI_BASE_URL", "https://openrouter.ai/api/v1")
    assert isinstance(open_model("google/gemini-2.5-flash"), OpenAI)
    assert isinstance(open_model("gemini-2.5-flash"), Gemini)


def test_exp_sh_takes_googles_spelling_for_gemini(script, tmp_path):
    result = script(
        "src/eval/infer.py", "models/gemini-2.5-flash", "api", "usage", "--dry_run",
        *("--results_dir", tmp_path), GEMINI_API_KEY="k",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "about $" in result.stdout  # it has a price
    assert "gemini-2.5-flash_usage" in result.stdout


def test_a_proxy_is_used_for_a_server_elsewhere(tmp_path, monkeypatch):
    """The proxy sees the request for a host that is not this machine."""
    seen = socket.socket()
    seen.bind(("127.0.0.1", 0))
    seen.listen()
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{seen.getsockname()[1]}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setattr(retry, "ATTEMPTS", 1)

    class Elsewhere:
        url = "http://model.example.org"

    def serve():
        connection, _ = seen.accept()
        head.append(connection.recv(2000).decode())
        connection.close()

    head: list[str] = []
    thread = threading.Thread(target=serve)
    thread.start()
    ask(Elsewhere, tmp_path)
    thread.join(10)
    assert head[0].startswith("POST http://model.example.org/v1/chat/completions")
