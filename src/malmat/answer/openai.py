"""The OpenAI protocol: OpenAI itself and every server that speaks it."""

from __future__ import annotations

import contextlib
import itertools
import json
import re
import time
from collections.abc import Iterator
from typing import Any

from malmat.answer.network import (
    CONNECT_S,
    check_address,
    client_options,
    ends_in_time,
    opening_a_client,
    stays_in_place,
)
from malmat.answer.provider import (
    TIMEOUT_S,
    Model,
    api_key,
    count,
    network_error,
    reply_status,
)
from malmat.answer.refusals import ROOM
from malmat.answer.request import PROMPT, Batch, Failed, Request, Retry
from malmat.errors import InputError

REST_S = 30.0
"""How long a server that did not answer is passed over while another one does."""


_REASONS = re.compile(r"(ft:)?(o[1-9]|gpt-(?!5-chat)[5-9])")
"""OpenAI's models that refuse to have their sampling set (o-series; GPT-5 and later)."""


class OpenAI(Model):
    """openai, and every server that speaks its chat protocol (vLLM, SGLang, Ollama, llama.cpp).

    Without a ``base_url`` the limit of tokens goes by the name that OpenAI's newer models ask
    for, and what its reasoning models refuse (``_FIXED``) is left out.

    Args:
        base_url: a server, or several of one model with commas between, asked in turn. None is
            OpenAI, or what stands in OPENAI_BASE_URL.
        extra_body: sent along with each request.
    """

    provider = "openai"
    variable, own = "OPENAI_BASE_URL", "https://api.openai.com/v1"
    _FIXED = ("temperature", "top_p")

    def __init__(self, name: str, base_url: str | None = None, extra_body: dict | None = None):
        import openai

        key, self.key_name = api_key("openai", needed=base_url is None)
        super().__init__(name, base_url, key, extra_body)
        servers = [url.strip() for url in (base_url or "").split(",") if url.strip()]
        self._reasons = base_url is None and bool(_REASONS.match(name))
        self._notes = [f"  {name} takes neither temperature nor top_p: sent without"]
        if base_url:
            servers = [check_address(url) for url in servers or [base_url]]
        urls: list[str | None] = [*servers] or [None]
        # A server that is gone is noticed soon; a busy one may take its time.
        timeout = openai.Timeout(TIMEOUT_S, connect=CONNECT_S)
        hooks = (stays_in_place, ends_in_time)
        with opening_a_client():
            self._clients = [
                openai.OpenAI(
                    api_key=key,
                    base_url=url,
                    max_retries=0,
                    timeout=timeout,
                    http_client=openai.DefaultHttpxClient(
                        **client_options(url or self.server, hooks)
                    ),
                )
                for url in urls
            ]
        self.servers = len(urls)
        self._first = urls[0]
        self._turn = itertools.cycle(range(len(urls)))
        self._resting: dict[int, float] = {}  # servers that did not answer → until when

    def identity(self) -> dict:
        """Of several servers the first counts: a second one may join a half-done run, while
        another server under the same model name is another model."""
        return super().identity() | {"base_url": self._first}

    @contextlib.contextmanager
    def _server(self) -> Iterator[Any]:
        """The client of the next server in turn; one that fails rests while others answer."""
        now, number = time.monotonic(), next(self._turn)
        for _ in self._clients:
            if self._resting.get(number, 0) <= now:
                break
            number = next(self._turn)
        client = self._clients[number]
        try:
            yield client
        except Retry as error:
            if len(self._clients) > 1 and error.kind in ("connection", "500", "502", "503"):
                if number not in self._resting:
                    print(
                        f"  {client.base_url} does not answer ({error}): the others take its share",
                        flush=True,
                    )
                self._resting[number] = time.monotonic() + REST_S
            raise

    def _arguments(self, request: Request) -> dict:
        options = self._sampling(request)
        options.pop("thinking_budget", None)
        if self.base_url is None and "max_tokens" in options:
            options["max_completion_tokens"] = options.pop("max_tokens")
        if self._reasons and (refused := [name for name in self._FIXED if name in options]):
            for name in refused:
                del options[name]
            with contextlib.suppress(IndexError):  # said once, by one of the threads
                print(self._notes.pop(), flush=True)
        extra = options.pop("extra_body", {}) | self.extra_body
        options = self._refusals.taken(options)
        if extra := self._refusals.taken(extra):
            options["extra_body"] = extra
        form = self._refusals.schema_form() if request.schema else None
        if form == "json_schema":
            schema = {"name": "reply", "schema": request.schema, "strict": True}
            options["response_format"] = {"type": form, form: schema}
        elif form:
            options["response_format"] = {"type": form}
        return {"model": self.name, "messages": request.messages, **options}

    def send(self, request: Request) -> dict:
        while True:
            sent, arguments = self.sent(request), self._arguments(request)
            try:
                with self._server() as client, self._faults():
                    reply = client.chat.completions.create(**arguments)
                return self._read(reply)
            except TypeError as error:
                raise InputError(self.scrub(error), field="sampling") from None
            except Failed as error:
                if not self.learns(error, sent):
                    raise

    def sent(self, request: Request) -> list[str]:
        arguments = self._arguments(request)
        form = arguments.pop("response_format", {}).get("type")
        names = {**arguments.pop("extra_body", {}), **arguments}
        room = [name for name in super().sent(request) if name == ROOM]
        return [n for n in (form, *names, *room) if n and n not in ("model", "messages")]

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """The SDK's exceptions as ours (a TypeError stays: a setting that it does not know)."""
        import openai

        try:
            yield
        except openai.APIStatusError as error:
            raise self._status_error(
                error.status_code, error.message, error.response.headers, error.body
            ) from None
        except openai.APIResponseValidationError as error:
            raise Retry("unreadable", self.scrub(error)) from None
        except TypeError:
            raise
        except Exception as error:
            raise network_error(self, error) from None

    def _read(self, reply: Any) -> dict:
        choices = getattr(reply, "choices", None)
        first = choices[0] if isinstance(choices, list) and choices else None
        for said in (getattr(reply, "error", None), getattr(first, "error", None)):
            if isinstance(said, dict):
                raise self._error_within(said)
        if not isinstance(choices, list) or (choices and first is None):
            raise Retry("unreadable", "a reply without choices")
        message = first.message if first else None
        text, thoughts = _parts_of(message.content if message else None)
        for name in ("reasoning_content", "reasoning"):
            if isinstance(more := getattr(message, name, None), str) and more.strip():
                thoughts = thoughts or more
        finish = first.finish_reason if first else None
        if not isinstance(finish, (str, type(None))):
            raise Retry("unreadable", "a reply whose finish reason is no text")
        came = {"finish_reason": finish, **reply_status(text, finish)}
        if message is None and getattr(reply, "prompt_filter_results", None):
            came = {"finish_reason": f"{PROMPT}filtered", "status": "blocked", "error": None}
        elif message is None:
            came |= {"status": "api_error", "error": "a reply without choices"}
        elif getattr(message, "refusal", None):
            text, came["status"] = message.refusal, "refused"
        usage = _fields(reply.usage)
        thinking = count(_fields(usage.get("completion_tokens_details")).get("reasoning_tokens"))
        return {
            "text": text,
            **came,
            **({"thoughts": thoughts} if thoughts else {}),
            **({"thinking_tokens": thinking} if thinking else {}),
            "usage": {
                "input": count(usage.get("prompt_tokens")),
                "output": count(usage.get("completion_tokens")),
            },
            "model_version": reply.model,
        }

    def submit(self, name: str, requests: list[tuple[str, Request]]) -> str:
        rows = [
            {
                "custom_id": key,
                "method": "POST",
                "url": "/v1/chat/completions",
                "body": _flat(self._arguments(request)),
            }
            for key, request in requests
        ]
        data = b"".join(json.dumps(row, ensure_ascii=False).encode() + b"\n" for row in rows)
        client = self._clients[0]
        with self._faults():
            file = client.files.create(file=(f"{name}.jsonl", data), purpose="batch")
            return client.batches.create(
                input_file_id=file.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={"name": name},
            ).id

    def find_batch(self, name: str) -> str | None:
        with self._faults():
            batches = self._clients[0].batches.list(limit=100)
            return next((b.id for b in batches if (b.metadata or {}).get("name") == name), None)

    def poll(self, batch_id: str) -> Batch:
        client = self._clients[0]
        with self._faults():
            batch = client.batches.retrieve(batch_id)
            done = batch.status in ("completed", "failed", "expired", "cancelled")
            # An expired or cancelled batch gives what it finished; errors stand in a second file.
            files = [batch.output_file_id, batch.error_file_id] if done else []
            lines = [
                line
                for file in files
                if file
                for line in client.files.content(file).text.split("\n")
                if line.strip()
            ]
        said = getattr(batch.errors, "data", None) or []
        reason = "; ".join(self.scrub(one.message) for one in said if one.message)
        state = f"{batch.status} ({reason})" if reason else batch.status
        return Batch(done, state, tuple(self._row(json.loads(line)) for line in lines))

    def _row(self, row: dict) -> tuple[str, dict | Exception]:
        """A line of a batch's output or error file."""
        from openai.types.chat import ChatCompletion

        response = row.get("response") or {}
        if response.get("status_code") == 200:
            try:
                return row["custom_id"], self._read(ChatCompletion.construct(**response["body"]))
            except (Retry, Failed) as error:
                return row["custom_id"], error
        said = row.get("error") or (response.get("body") or {}).get("error") or {}
        code, message = response.get("status_code") or said.get("code"), said.get("message", "")
        return row["custom_id"], self._row_error(code, message, said)


def _fields(value: Any) -> dict:
    """The fields of a part of a reply, which the SDK has read into an object or left as it is."""
    return value if isinstance(value, dict) else dict(getattr(value, "__dict__", None) or {})


def _flat(arguments: dict) -> dict:
    """The body of a request, into which the SDK puts ``extra_body`` where it sends one itself."""
    return {n: v for n, v in arguments.items() if n != "extra_body"} | arguments.get(
        "extra_body", {}
    )


def _parts_of(content: Any) -> tuple[str, str]:
    """The text and the thoughts of a message, whose content is a text or a list of parts.

    Raises:
        Retry: it is neither.
    """
    if isinstance(content, (str, type(None))):
        return content or "", ""
    if not isinstance(content, list):
        raise Retry("unreadable", "a reply whose content is neither text nor parts")
    texts, thoughts = [], []
    for part in content:
        part = {"type": "text", "text": part} if isinstance(part, str) else part
        kind, text = (part.get("type"), part.get("text")) if isinstance(part, dict) else (None, "")
        if kind in ("thinking", "reasoning"):
            inner = part.get("thinking") or part.get("reasoning") or text
            thoughts.append(inner if isinstance(inner, str) else _parts_of(inner)[0])
        elif kind in ("text", "output_text", None) and isinstance(text, str):
            texts.append(text)
    return "".join(texts), "\n".join(thoughts)
