"""A fake model server on loopback that speaks the real protocols of Gemini and OpenAI.

Faults are chosen by a fixed script or drawn from a seeded generator, and the server
keeps its own count of what it was asked, so that a test can say what was paid for.

    python -m tests.fake_llm --port 0 --fault 429=0.2 --latency 0.05

prints its URL, serves until SIGTERM or SIGINT, then prints its counts as a line of
JSON. google-genai takes the URL as it is, openai the URL with ``/v1`` behind it. Both
providers' batches are spoken too (Gemini with inlined requests, OpenAI by files).
"""

from __future__ import annotations

import argparse
import email.utils
import hashlib
import json
import math
import os
import random
import re
import signal
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KINDS = {
    "429": "too many requests, without a word on how long to wait",
    "429_after": "429 with Retry-After in seconds",
    "429_date": "429 with Retry-After as an HTTP date",
    "429_body": "429 with RetryInfo in the body only",
    "quota": "429, the day's quota (Gemini) or the account (OpenAI) is spent",
    "400": "bad request",
    "401": "unauthenticated, the key echoed in the message",
    "403": "permission denied",
    "404": "no such model",
    "bad_key": "what a wrong key gives: Gemini 400 API_KEY_INVALID, OpenAI 401 invalid_api_key",
    "500": "internal error",
    "503": "overloaded",
    "reset": "the connection reset before any reply",
    "drop": "the connection closed in the middle of the body",
    "drop_batch": "a batch is taken in, and the connection reset before its id is told",
    "hang": "no reply until the server closes",
    "bad_json": "a 200 whose JSON is cut short",
    "html": "a 200 with a web page (a proxy's log-in)",
    "empty_object": "a 200 with {}",
    "error_200": "a 200 with an error object",
    "wrong_type": "a 200 whose JSON is of another type than the protocol's",
    "empty": "a 200 with an empty answer",
    "parts": "a 200 with a list where the protocol has a string, as some servers send",
    "safety": "blocked, without text",
    "partial_safety": "blocked, with part of the text",
    "prompt_block": "the prompt blocked (OpenAI: choices empty)",
    "no_candidates": "neither candidates nor a reason (OpenAI: choices empty)",
    "max_tokens": "cut at the token limit, with part of the text",
    "refusal": "OpenAI's refusal field; Gemini, which has none, says PROHIBITED_CONTENT",
}
"""Fault kind → what the client sees. ``ok`` in a script is a proper answer."""

WRONG_TYPES = (
    *(b"null", b"5", b'"text"', b"[]", b'[{"text": "a"}]', b'{"choices": 5}', b'{"choices": null}'),
    *(b'{"choices": ["a"]}', b'{"choices": [{"message": []}]}', b'{"candidates": {"text": "a"}}'),
    *(b'{"choices": [{"message": {"content": 7}, "finish_reason": "stop"}]}',),
    *(b'{"choices": [{"message": {"content": "a"}, "finish_reason": ["stop"]}], "usage": 3}',),
)
"""Bodies of ``wrong_type``, in turn."""

BY_PROMPT = ("safety", "partial_safety", "prompt_block", "no_candidates", "max_tokens", "refusal")
"""Kinds that are drawn for each prompt, not for each call: who asks again is told the same."""

_GOOGLE_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}
_OPENAI_ERROR = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("service_unavailable_error", None),
}
_MESSAGE = {
    400: "Request contains an invalid argument.",
    403: "The caller does not have permission.",
    429: "Resource has been exhausted (e.g. check quota).",
    500: "An internal error has occurred. Please retry.",
    503: "The model is overloaded. Please try again later.",
}
_GOOGLE_TYPE = {1: "string", 2: "number", 3: "integer", 4: "boolean", 5: "array", 6: "object"}
"""Schema types as google-generativeai writes them (its enumerations travel as numbers)."""
_GEMINI_PATH = re.compile(r"/v1(?:beta|alpha)?/models/([^/:]+):(batchGenerate|generate)Content")
_GEMINI_BATCH = re.compile(r"/v1(?:beta|alpha)?/batches(?:/([^/:]+))?")
_OPENAI_BATCH = re.compile(r"/v1/batches(?:/([^/]+))?")
_OPENAI_FILE = re.compile(r"/v1/files(?:/([^/]+)/content)?")


class FakeLLM:
    """The server, as a context manager.

    Args:
        answer: (prompt text, request body) → the reply's text. By default an echo,
            or the smallest JSON that fits the schema that was asked for.
        faults: kind (see ``KINDS``) → probability.
        seed: of the draw of faults.
        latency: seconds before each reply.
        script: kinds (or ``ok``) for the first requests, before ``faults`` are drawn.
        retry_after: seconds that the ``429_…`` kinds ask to wait.
        batch_s: seconds that a batch takes.
        batch_ends: how the first batches end (``failed``, ``expired``, ``cancelled``; the
            last two with results of half of the rows); then ``completed``.

    Attributes:
        url: the base URL.
        requests: the bodies, parsed, in order of arrival.
        log: ``(time.monotonic() at arrival, kind, prompt text, key)`` of each request.
        counts: how many requests had which outcome; ``batch``: batches that were submitted.
        paid: of each prompt, how often it was answered (in a batch or not).
        batches: id → what is known of a batch.
        peak: most requests under way at one time.
    """

    def __init__(
        self,
        answer: Callable[[str, dict], str] | None = None,
        faults: dict[str, float] | None = None,
        seed: int = 0,
        latency: float = 0.0,
        script: Iterable[str] = (),
        *,
        retry_after: float = 1,
        batch_s: float = 0.0,
        batch_ends: Iterable[str] = (),
        port: int = 0,
    ):
        self._seed = seed
        self.batch_s, self.batch_ends = batch_s, list(batch_ends)
        self.batches: dict[str, dict] = {}
        self.files: dict[str, bytes] = {}
        self.paid: Counter[str] = Counter()
        self.answer = answer or default_answer
        self.faults = dict(faults or {})
        self.latency, self.retry_after = latency, retry_after
        self._script = list(script)
        if unknown := {*self.faults, *self._script} - {*KINDS, "ok"}:
            raise ValueError(f"no such fault: {', '.join(sorted(unknown))}")
        if sum(self.faults.values()) > 1:
            raise ValueError("the faults' probabilities add up to more than 1")
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self.closing = threading.Event()
        self.requests: list[dict] = []
        self.log: list[tuple[float, str, str, str]] = []
        self.counts: Counter[str] = Counter()
        self.active = self.peak = 0
        self._server = _Server(("127.0.0.1", port), _Handler)
        self._server.fake = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def calls(self) -> int:
        """How many requests have arrived."""
        with self._lock:
            return len(self.log)

    def __enter__(self) -> FakeLLM:
        threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        ).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def begin(self, body: dict, prompt: str, key: str) -> str:
        """Count a request and say what becomes of it."""
        with self._lock:
            kind = self._script.pop(0) if self._script else self._draw(prompt)
            self.requests.append(body)
            self.log.append((time.monotonic(), kind, prompt, key))
            self.counts[kind] += 1
            if kind == "ok" or kind in BY_PROMPT:
                self.paid[prompt] += 1
            self.active += 1
            self.peak = max(self.peak, self.active)
            return kind

    def _draw(self, prompt: str) -> str:
        passing = [item for item in self.faults.items() if item[0] not in BY_PROMPT]
        return _pick(passing, self._random.random()) or self.fate(prompt)

    def fate(self, prompt: str) -> str:
        """What becomes of a prompt that gets through."""
        lasting = [item for item in self.faults.items() if item[0] in BY_PROMPT]
        number = hashlib.sha256(f"{self._seed} {prompt}".encode()).digest()[:8]
        return _pick(lasting, int.from_bytes(number) / 2**64) or "ok"

    def end(self) -> None:
        """The request that ``begin`` counted is over."""
        with self._lock:
            self.active -= 1


def _pick(shares: list[tuple[str, float]], draw: float) -> str | None:
    for name, probability in shares:
        draw -= probability
        if draw < 0:
            return name
    return None


def default_answer(prompt: str, body: dict) -> str:
    """An echo of the prompt's end, as JSON of the schema where one was asked for."""
    echo = " ".join(prompt.split())[-200:]
    schema = schema_of(body)
    if schema is None:
        return f"echo: {echo}"
    return json.dumps(_example(schema, schema, echo), ensure_ascii=False)


def schema_of(body: dict) -> dict | None:
    """The JSON Schema of a request of either protocol; {} for JSON of any shape."""
    config = body.get("generationConfig") or {}
    if schema := config.get("responseJsonSchema") or config.get("responseSchema"):
        return schema
    wanted = body.get("response_format") or {}
    if wanted.get("type") == "json_schema":
        return wanted["json_schema"].get("schema") or {}
    as_json = "json" in config.get("responseMimeType", "") or wanted.get("type") == "json_object"
    return {} if as_json else None


def _example(schema: dict, root: dict, echo: str) -> Any:
    if "$ref" in schema:
        target: Any = root
        for part in schema["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        return _example(target, root, echo)
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return _example(schema[name][0], root, echo)
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return schema["enum"][0]
    kind = schema.get("type") or ("object" if "properties" in schema else "")
    kind = _GOOGLE_TYPE.get(kind, kind)
    kind = (kind[0] if isinstance(kind, list) else kind).lower()  # Google writes OBJECT
    if kind == "object":
        properties = schema.get("properties") or {}
        return {name: _example(part, root, echo) for name, part in properties.items()}
    if kind == "array":
        count = max(1, int(schema.get("minItems", 1)))
        return [_example(schema.get("items") or {}, root, echo) for _ in range(count)]
    if kind in ("integer", "number"):
        return schema.get("minimum", 1)
    if kind == "boolean":
        return True
    if kind == "null":
        return None
    return echo if kind == "string" else {"echo": echo}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    fake: FakeLLM

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed or give up leave broken pipes behind: nothing to report."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.google = self.headers.get("x-goog-api-key") is not None
        file = _OPENAI_FILE.fullmatch(path)
        found = (_GEMINI_BATCH if self.google else _OPENAI_BATCH).fullmatch(path)
        fake = self.server.fake
        if path == "/health":  # vLLM's
            self._send(200, b"")
        elif file and file[1] in fake.files:
            self._send(200, fake.files[file[1]], content_type="application/octet-stream")
        elif found and found[1] in fake.batches:
            self._send(200, self._encode(self._batch(fake.batches[found[1]])))
        elif found and not found[1]:
            rows = [self._batch(batch) for batch in fake.batches.values()]
            named = {"operations": rows} if self.google else {"object": "list", "data": rows}
            self._send(200, self._encode(named | ({} if self.google else {"has_more": False})))
        else:
            self._error(404, "Not found.")

    def do_POST(self) -> None:
        fake = self.server.fake
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        url = urlsplit(self.path)
        gemini = _GEMINI_PATH.fullmatch(url.path)
        self.google = gemini is not None or url.path.startswith("/v1beta")
        if not self.google and _OPENAI_FILE.fullmatch(url.path):
            self._take_file(data)
            return
        opens_batch = gemini[2] == "batchGenerate" if gemini else url.path == "/v1/batches"
        if not gemini and not opens_batch and url.path != "/v1/chat/completions":
            self._error(404, "Not found.")
            return
        try:
            body = json.loads(data)
            if opens_batch:
                self._open_batch(body, gemini[1] if gemini else "")
                return
            self.model = gemini[1] if gemini else body["model"]
            prompt = _gemini_prompt(body) if gemini else _openai_prompt(body)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._error(400, f"Invalid request: {type(error).__name__}: {error}")
            return
        if self.google:
            query = parse_qs(url.query).get("key", [""])
            self.key = self.headers.get("x-goog-api-key") or query[0]
        else:
            self.key = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if not self.key:
            self._error(403 if self.google else 401, "No API key was given.")
            return
        kind = fake.begin(body, prompt, self.key)
        try:
            if fake.latency:
                time.sleep(fake.latency)
            self._reply(kind, prompt, body)
        finally:
            fake.end()

    # ------------------------------------------------------------------- batches

    def _take_file(self, data: bytes) -> None:
        """The file of a multipart form, whose other part says what it is for."""
        mark = b"--" + (self.headers.get("Content-Type") or "").partition("boundary=")[2].encode()
        (content,) = [
            part.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")
            for part in data.split(mark)
            if b'filename="' in part.partition(b"\r\n\r\n")[0]
        ]
        name = f"file-{len(self.server.fake.files)}"
        self.server.fake.files[name] = content
        described = {"id": name, "object": "file", "bytes": len(content), "created_at": 0}
        self._send(
            200,
            self._encode(
                described | {"filename": "x.jsonl", "purpose": "batch", "status": "processed"}
            ),
        )

    def _open_batch(self, body: dict, model: str) -> None:
        fake, self.model = self.server.fake, model
        if self.google:
            rows = body["batch"]["inputConfig"]["requests"]["requests"]
            rows = [(row["metadata"]["key"], row["request"]) for row in rows]
            label = body["batch"].get("displayName", "")
        else:
            lines = fake.files[body["input_file_id"]].splitlines()
            rows = [(row["custom_id"], row["body"]) for row in map(json.loads, lines)]
            label = (body.get("metadata") or {}).get("name", "")
        with fake._lock:
            kind = fake._script.pop(0) if fake._script else "ok"
            if kind in ("ok", "drop_batch"):
                batch = {
                    "id": f"batch-{len(fake.batches)}",
                    "name": label,
                    "rows": rows,
                    "model": model,
                    "ready": time.monotonic() + fake.batch_s,
                    "end": fake.batch_ends.pop(0) if fake.batch_ends else "completed",
                }
                fake.batches[batch["id"]] = batch
                fake.counts["batch"] += 1
        if kind in ("drop_batch", "reset"):  # it arrived (or not), and nobody is told
            self._reset()
        elif kind != "ok":
            self._error(int(kind), _MESSAGE[int(kind)])
        else:
            self._send(200, self._encode(self._batch(batch)))

    def _batch(self, batch: dict) -> dict:
        """How a batch stands, in the provider's words; its rows are answered when it ends."""
        fake, done = self.server.fake, time.monotonic() >= batch["ready"]
        end = batch["end"]
        if done and "results" not in batch:
            share = {"completed": 1.0, "failed": 0.0}.get(end, 0.5)
            rows = batch["rows"][: int(len(batch["rows"]) * share)]
            batch["results"] = [(key, *self._answer_row(body, batch)) for key, body in rows]
        if self.google:
            state = {"completed": "SUCCEEDED"}.get(end, end.upper()) if done else "RUNNING"
            meta = {"state": f"BATCH_STATE_{state}", "displayName": batch["name"]}
            if done and end != "failed":
                results = batch["results"]
                answers = [{"metadata": {"key": key}, "response": r} for key, _, r in results]
                meta["output"] = {"inlinedResponses": {"inlinedResponses": answers}}
            return {"name": f"batches/{batch['id']}", "metadata": meta, "done": done}
        status = {
            "id": batch["id"],
            "object": "batch",
            "endpoint": "/v1/chat/completions",
            "completion_window": "24h",
            "created_at": 0,
            "input_file_id": "file-0",
            "status": end if done else "in_progress",
            "metadata": {"name": batch["name"]},
        }
        if done and end != "failed":
            lines = [
                {"custom_id": key, "response": {"status_code": 200, "body": r}, "error": None}
                for key, _, r in batch["results"]
            ]
            name = f"out-{batch['id']}"
            fake.files[name] = b"".join(self._encode(line) + b"\n" for line in lines)
            status["output_file_id"] = name
        return status

    def _answer_row(self, body: dict, batch: dict) -> tuple[str, dict]:
        fake = self.server.fake
        self.model = batch["model"] or body["model"]
        prompt = _gemini_prompt(body) if self.google else _openai_prompt(body)
        with fake._lock:
            fake.paid[prompt] += 1
        kind = fake.fate(prompt)
        return kind, self._success(kind, fake.answer(prompt, body))

    # ------------------------------------------------------------------ outcomes

    def _reply(self, kind: str, prompt: str, body: dict) -> None:
        fake = self.server.fake
        if kind == "reset":
            self._reset()
        elif kind == "hang":
            fake.closing.wait(60)
            self._reset()
        elif kind in ("bad_json", "drop"):
            data = self._encode(self._success("ok", fake.answer(prompt, body)))
            half = data[: len(data) // 2]
            if kind == "bad_json":
                self._send(200, half)
            else:
                self._send(200, half, length=len(data))
                self.close_connection = True
        elif kind == "html":
            page = b"<!DOCTYPE html><html><body>Please log in</body></html>"
            self._send(200, page, content_type="text/html; charset=utf-8")
        elif kind == "empty_object":
            self._send(200, b"{}")
        elif kind == "wrong_type":
            self._send(200, WRONG_TYPES[fake.calls % len(WRONG_TYPES)])
        elif kind == "error_200":
            self._send(200, self._encode(self._error_body(500, _MESSAGE[500], [])))
        elif kind == "quota":
            self._quota()
        elif kind.startswith("429"):
            self._too_many(kind)
        elif kind == "bad_key":
            self._bad_key()
        elif kind == "401":
            self._error(401, f"Incorrect API key provided: {self.key}.")
        elif kind == "404":
            self._error(404, f"models/{self.model} is not found, or is not supported.")
        elif kind in ("400", "403", "500", "503"):
            self._error(int(kind), _MESSAGE[int(kind)])
        else:
            self._send(200, self._encode(self._success(kind, fake.answer(prompt, body))))

    def _success(self, kind: str, text: str) -> dict:
        part = text[: max(1, len(text) // 2)]
        usage = (len(self.model) + 10, len(text) // 2 + 1)
        return (
            self._gemini_success(kind, text, part, usage)
            if self.google
            else (self._openai_success(kind, text, part, usage))
        )

    def _gemini_success(self, kind: str, text: str, part: str, usage: tuple[int, int]) -> dict:
        shown, reason = {
            "safety": (None, "SAFETY"),
            "partial_safety": (part, "SAFETY"),
            "max_tokens": (part, "MAX_TOKENS"),
            "refusal": (None, "PROHIBITED_CONTENT"),
            "empty": ("", "STOP"),
            "parts": ([text], "STOP"),
        }.get(kind, (text, "STOP"))
        ratings = [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH"}]
        candidate: dict[str, Any] = {"finishReason": reason, "index": 0}
        if shown is not None:
            candidate["content"] = {"parts": [{"text": shown}], "role": "model"}
        if reason == "SAFETY":
            candidate["safetyRatings"] = ratings
        reply: dict[str, Any] = {
            "candidates": [candidate],
            "usageMetadata": {
                "promptTokenCount": usage[0],
                "candidatesTokenCount": usage[1],
                "totalTokenCount": sum(usage),
            },
            "modelVersion": f"{self.model}-001",
            "responseId": f"fake-{self.server.fake.calls}",
        }
        if kind in ("prompt_block", "no_candidates"):
            del reply["candidates"], reply["usageMetadata"]["candidatesTokenCount"]
        if kind == "prompt_block":
            reply["promptFeedback"] = {"blockReason": "SAFETY", "safetyRatings": ratings}
        return reply

    def _openai_success(self, kind: str, text: str, part: str, usage: tuple[int, int]) -> dict:
        shown, reason, refusal = {
            "safety": (None, "content_filter", None),
            "partial_safety": (part, "content_filter", None),
            "max_tokens": (part, "length", None),
            "refusal": (None, "stop", "I'm sorry, I can't help with that."),
            "empty": ("", "stop", None),
            "parts": ([{"type": "text", "text": text}], "stop", None),
        }.get(kind, (text, "stop", None))
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": shown, "refusal": refusal},
            "logprobs": None,
            "finish_reason": reason,
        }
        return {
            "id": f"chatcmpl-{self.server.fake.calls}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": f"{self.model}-2025-01-01",
            "choices": [] if kind in ("prompt_block", "no_candidates") else [choice],
            **({"prompt_filter_results": [{"prompt_index": 0}]} if kind == "prompt_block" else {}),
            "usage": {
                "prompt_tokens": usage[0],
                "completion_tokens": usage[1],
                "total_tokens": sum(usage),
            },
            "system_fingerprint": None,
        }

    def _too_many(self, kind: str) -> None:
        after, headers, details = self.server.fake.retry_after, {}, []
        if kind == "429_after":
            headers["Retry-After"] = f"{after:g}"
        elif kind == "429_date":  # whole seconds: rounded up, never less than asked for
            headers["Retry-After"] = email.utils.formatdate(
                math.ceil(time.time() + after), usegmt=True
            )
        elif kind == "429_body":
            details = [_quota_failure("PerMinute"), _retry_info(after)]
        self._error(429, _MESSAGE[429], details, headers)

    def _quota(self) -> None:
        message = "You exceeded your current quota, please check your plan and billing details."
        if self.google:
            self._error(429, message, [_quota_failure("PerDay"), _retry_info(41)])
        else:
            error = {"message": message, "type": "insufficient_quota", "param": None}
            self._send(429, self._encode({"error": {**error, "code": "insufficient_quota"}}))

    def _bad_key(self) -> None:
        if not self.google:
            self._error(401, f"Incorrect API key provided: {self.key}.")
            return
        info = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": "API_KEY_INVALID",
            "domain": "googleapis.com",
            "metadata": {"service": "generativelanguage.googleapis.com"},
        }
        self._error(400, "API key not valid. Please pass a valid API key.", [info])

    def _error_body(self, code: int, message: str, details: list[dict]) -> dict:
        if self.google:
            error = {"code": code, "message": message, "status": _GOOGLE_STATUS[code]}
        else:
            kind, name = _OPENAI_ERROR[code]
            error = {"message": message, "type": kind, "param": None, "code": name}
        return {"error": error | ({"details": details} if details else {})}

    def _error(
        self,
        code: int,
        message: str,
        details: list[dict] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.google = getattr(self, "google", False)
        body = self._error_body(code, message, details or [])
        self._send(code, self._encode(body), headers=headers)

    # ---------------------------------------------------------------------- wire

    @staticmethod
    def _encode(value: Any) -> bytes:
        # Escaped, as a server may do, so that a lone surrogate reaches the client.
        return json.dumps(value).encode()

    def _send(
        self,
        code: int,
        data: bytes,
        *,
        content_type: str = "application/json; charset=UTF-8",
        length: int | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.send_response(code)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def _reset(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        os.close(self.connection.detach())  # past the socket's own shutdown(): a bare RST
        self.close_connection = True


def _gemini_prompt(body: dict) -> str:
    contents = [*([body["systemInstruction"]] if body.get("systemInstruction") else [])]
    return "\n".join(
        part.get("text", "") for content in contents + body["contents"] for part in content["parts"]
    )


def _openai_prompt(body: dict) -> str:
    texts = []
    for message in body["messages"]:
        content = message["content"]
        parts = [{"text": content}] if isinstance(content, str) else content or []
        texts += [part.get("text", "") for part in parts]
    return "\n".join(texts)


def _retry_info(seconds: float) -> dict:
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{seconds:g}s"}


def _quota_failure(period: str) -> dict:
    return {
        "@type": "type.googleapis.com/google.rpc.QuotaFailure",
        "violations": [
            {
                "quotaMetric": "generativelanguage.googleapis.com/generate_content_requests",
                "quotaId": f"GenerateRequests{period}PerProjectPerModel-FreeTier",
                "quotaDimensions": {"location": "global", "model": "gemini"},
                "quotaValue": "20",
            }
        ],
    }


def main(answer: Callable[[str, dict], str] | None = None, doc: str | None = __doc__) -> None:
    """The command line. ``answer``: as of ``FakeLLM``."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--port", type=int, default=0, help="0 takes a free one")
    parser.add_argument("--fault", action="append", default=[], metavar="KIND=PROBABILITY")
    parser.add_argument(
        "--fault_rate",
        type=float,
        default=0.0,
        help=f"of all faults together, mixed as {STORM}",
    )
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    parser.add_argument("--retry_after", type=float, default=1, help="what the 429_ kinds ask")
    parser.add_argument("--batch_s", type=float, default=0.0, help="seconds that a batch takes")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    pairs = [text.partition("=")[::2] for text in args.fault]
    try:
        faults = storm(args.fault_rate) | {kind: float(share) for kind, share in pairs}
        fake = FakeLLM(
            answer,
            faults=faults,
            seed=args.seed,
            latency=args.latency,
            retry_after=args.retry_after,
            batch_s=args.batch_s,
            port=args.port,
        )
    except ValueError as error:
        parser.error(str(error))
    done = threading.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: done.set())
    with fake:
        print(fake.url, flush=True)
        done.wait()
    print(json.dumps({"calls": fake.calls, **dict(sorted(fake.counts.items()))}), flush=True)


STORM = {"429": 0.2, "500": 0.03, "503": 0.02, "drop": 0.03, "bad_json": 0.03, "safety": 0.02}
"""The weather of the fault tests: a third of the calls go wrong."""


def storm(rate: float = sum(STORM.values())) -> dict[str, float]:
    """``STORM``'s mixture at another total rate."""
    return {kind: share * rate / sum(STORM.values()) for kind, share in STORM.items() if rate}


if __name__ == "__main__":
    main()
