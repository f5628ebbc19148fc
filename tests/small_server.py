"""A server whose replies a test writes itself, and requests to it, for tests of what servers do."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from malmat.answer import retry
from malmat.answer.api import ApiEngine
from malmat.answer.openai import OpenAI
from malmat.answer.prices import Meter
from malmat.answer.request import Request, answers_by_id
from malmat.journal import Journal

SCHEMA = {"type": "object", "properties": {"score": {"type": "integer"}}}


class Server:
    """Answers each request with what ``reply`` gives: body → (status, body) or, with headers,
    (status, body, headers). The body of a reply may be an iterator of bytes, sent as they come.

    Attributes:
        bodies: of all POST requests, in order. paths: of all requests.
    """

    def __init__(self, reply):
        self.bodies: list[dict] = []
        self.paths: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_POST(handler):
                body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
                self.bodies.append(body)
                handler.send(*reply(body))

            def do_GET(handler):
                handler.send(*reply({}))

            def send(handler, status, answer, headers=()):
                self.paths.append(handler.path)
                drips = not isinstance(answer, (dict, list, str, int))
                handler.send_response(status)
                for name, value in {"Content-Type": "application/json", **dict(headers)}.items():
                    handler.send_header(name, value)
                parts = answer if drips else [json.dumps(answer).encode()]
                if not drips:
                    handler.send_header("Content-Length", str(len(parts[0])))
                handler.end_headers()
                try:
                    for part in parts:
                        handler.wfile.write(part)
                except OSError:  # who asked has gone
                    pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


def said(content="응", finish="stop", **message):
    """A reply of the OpenAI protocol."""
    choice = {"index": 0, "finish_reason": finish, "message": {"content": content, **message}}
    return {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice]}


def spoken(text="응", finish="STOP", **more):
    """A reply of Gemini's."""
    parts = {"content": {"role": "model", "parts": [{"text": text}] if text else []}}
    usage = {"promptTokenCount": 5, "candidatesTokenCount": 1, "totalTokenCount": 6}
    return {"candidates": [{**parts, "finishReason": finish}], "usageMetadata": usage, **more}


def error(message, code=None, status=400, **more):
    """An error as status and body."""
    return status, {"error": {"message": message, "code": code, **more}}


@pytest.fixture(autouse=True)
def keys(monkeypatch):
    """Keys, and short waits. Autouse in each module that imports it."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-fake")
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaSyFake")
    monkeypatch.setattr(retry, "RETRY_SCALE", 0.001)


def ask(server, path, *requests, kind=OpenAI, name="m", max_cost=None, **options):
    """The records of requests; one free question by default."""
    requests = list(requests) or [question()]
    address = server.url + ("/v1" if kind is OpenAI else "")
    with Journal(path / "j") as journal:
        model = kind(name, address, **options)
        meter = Meter(name, max_cost=max_cost)
        return list(answers_by_id(ApiEngine(model, 1), requests, journal, meter=meter).values())


def question(number=0, **options):
    return Request(f"r{number}", [{"role": "user", "content": f"뭐 해 {number}"}], **options)
