"""google-genai: what it is sent, and what its replies and exceptions mean."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from malmat.answer.network import (
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
    network_error,
    reply_status,
)
from malmat.answer.refusals import error_in
from malmat.answer.request import PROMPT, Batch, Failed, Request, Retry
from malmat.errors import InputError


def google_contents(messages: list[dict]) -> list[dict]:
    return [
        {
            "role": "model" if message["role"] == "assistant" else "user",
            "parts": [{"text": message["content"]}],
        }
        for message in messages
        if message["role"] != "system"
    ]


class Google(Model):
    """What Google's two SDKs have in common."""

    provider = "gemini"
    _KNOWN: tuple[str, ...] = ("temperature", "top_p", "max_tokens")

    def _config(self, request: Request) -> dict[str, Any]:
        """The settings that the SDK knows and the server takes, under Google's names.

        Raises:
            InputError: the SDK does not know one of them.
        """
        names = {"max_tokens": "max_output_tokens"}
        sampling, without = self._sampling(request), self._refusals.without
        if unknown := sampling.keys() - {*self._KNOWN}:
            raise InputError(
                f"not a setting of this SDK: {', '.join(sorted(unknown))}", field="sampling"
            )
        config = {names.get(n, n): value for n, value in sampling.items() if n not in without}
        if request.schema and self._refusals.schema_form():
            config["response_mime_type"] = "application/json"
        return {name: value for name, value in config.items() if value is not None}

    def sent(self, request: Request) -> list[str]:
        return [name for name in super().sent(request) if name != "max_tokens"]

    def send(self, request: Request) -> dict:
        while True:
            sent = self.sent(request)
            try:
                return self._once(request)
            except Failed as error:
                if not self.learns(error, sent):
                    raise

    def _once(self, request: Request) -> dict:
        """As ``send``, without learning from a refusal."""
        raise NotImplementedError

    def within(self, body: Any) -> Exception | None:
        """The error that came with the status of a success, if one did."""
        error = error_in(body)
        if error is body or not isinstance(error, dict):
            return None
        if str(error.get("code")).startswith("5"):
            return Retry("unreadable", self.scrub(error.get("message") or error))
        return self._error_within(error)


def google_system(messages: list[dict]) -> str:
    return "\n\n".join(m["content"] for m in messages if m["role"] == "system")


def google_reply(
    *,
    text: str,
    finish: str | None,
    blocked: str | None,
    answered: bool,
    usage: dict[str, int] | None,
    version: str | None,
    thoughts: str = "",
    thinking: int = 0,
) -> dict:
    """What ``Model.send`` gives back, from the parts of either SDK's reply.

    Args:
        finish: why the first candidate ended. blocked: why the prompt was refused.
        answered: whether there is a candidate at all.
    """
    if usage is None and not answered and not blocked:
        raise Retry("unreadable", "a reply without candidates")
    came = reply_status(text, finish)
    if blocked:
        came = {"status": "blocked", "error": None}
    elif not answered:
        came = {"status": "api_error", "error": "a reply without candidates"}
    elif came["status"] == "empty":  # Google's models do that now and then, and answer when asked
        came = {"status": "api_error", "error": f"ended: {finish}, without a text"}
    return {
        "text": text,
        "finish_reason": f"{PROMPT}{blocked}" if blocked else finish,
        **came,
        **({"thoughts": thoughts} if thoughts else {}),
        **({"thinking_tokens": thinking} if thinking else {}),
        "usage": usage or {"input": 0, "output": 0},
        "model_version": version,
    }


class Gemini(Google):
    """google-genai."""

    _KNOWN = (*Google._KNOWN, "thinking_budget")
    variable, own = "GOOGLE_GEMINI_BASE_URL", "https://generativelanguage.googleapis.com"

    def __init__(self, name: str, base_url: str | None = None, extra_body: dict | None = None):
        from google import genai

        key, self.key_name = api_key("gemini")
        super().__init__(name, base_url, key, extra_body)
        # The SDK prefers GOOGLE_API_KEY from the environment and has no time limit by itself;
        # the client closes when it is collected, so it is kept.
        if base_url:
            check_address(base_url)
        hooks = (stays_in_place, ends_in_time, self._hears_errors)
        with opening_a_client():
            self._client = genai.Client(
                api_key=key,
                vertexai=False,
                http_options={
                    "base_url": base_url,
                    "timeout": int(TIMEOUT_S * 1000),
                    "client_args": client_options(self.server, hooks),
                    "async_client_args": client_options(self.server),  # made, and never used
                    **({"extra_body": extra_body} if extra_body else {}),
                },
            )

    def _hears_errors(self, response: Any) -> None:
        """A hook: the SDK passes over an error in the body of a success."""
        if not response.request.url.path.endswith(":generateContent"):
            return  # a batch that failed has its error in it, and the SDK reads it
        response.read()
        if response.status_code == 200 and b'"error"' in response.content:
            with contextlib.suppress(ValueError):
                if error := self.within(response.json()):
                    raise _Heard(error)

    def _arguments(self, request: Request) -> dict:
        from google.genai import types

        config = self._config(request)
        if (budget := config.pop("thinking_budget", None)) is not None:
            config["thinking_config"] = {"thinking_budget": budget}
        if system := google_system(request.messages):
            config["system_instruction"] = system
        if request.schema and self._refusals.schema_form() == "json_schema":
            config["response_json_schema"] = request.schema
        try:
            settings = types.GenerateContentConfig(**config)
        except ValueError as error:
            raise InputError(self.scrub(error), field="sampling") from None
        return {
            "model": self.name,
            "contents": google_contents(request.messages),
            "config": settings,
        }

    def _once(self, request: Request) -> dict:
        arguments = self._arguments(request)
        with self._faults():
            reply = self._client.models.generate_content(**arguments)
        return self._read(reply)

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """The SDK's exceptions as ours."""
        from google.genai import errors

        try:
            yield
        except errors.APIError as error:
            headers = getattr(error.response, "headers", None)
            raise self._status_error(
                error.code, error.message or error.status or "", headers, error.details
            ) from None
        except _Heard as error:
            raise error.error from None
        except Exception as error:
            raise network_error(self, error) from None

    @staticmethod
    def _read(reply: Any) -> dict:
        first = reply.candidates[0] if reply.candidates else None
        parts = (first.content and first.content.parts) or [] if first else []
        feedback, usage = reply.prompt_feedback, reply.usage_metadata
        return google_reply(
            text="".join(part.text or "" for part in parts if not part.thought),
            thoughts="".join(part.text or "" for part in parts if part.thought),
            finish=first.finish_reason.value if first and first.finish_reason else None,
            blocked=feedback.block_reason.value if feedback and feedback.block_reason else None,
            answered=first is not None,
            usage=usage
            and {
                "input": usage.prompt_token_count or 0,
                "output": (usage.candidates_token_count or 0) + (usage.thoughts_token_count or 0),
            },
            thinking=(usage and usage.thoughts_token_count) or 0,
            version=reply.model_version,
        )

    def submit(self, name: str, requests: list[tuple[str, Request]]) -> str:
        rows = [{**self._arguments(row), "metadata": {"key": key}} for key, row in requests]
        with self._faults():
            job = self._client.batches.create(
                model=self.name, src=rows, config={"display_name": name}
            )
        return job.name

    def find_batch(self, name: str) -> str | None:
        with self._faults():
            jobs = self._client.batches.list()
            return next((job.name for job in jobs if job.display_name == name), None)

    def poll(self, batch_id: str) -> Batch:
        with self._faults():
            job = self._client.batches.get(name=batch_id)
        state = job.state.value.removeprefix("JOB_STATE_").lower() if job.state else "unknown"
        rows = (job.dest and job.dest.inlined_responses) or []
        results: list[tuple[str, dict | Exception]] = []
        for row in rows:
            key = (row.metadata or {}).get("key", "")
            if row.response is None:
                said = self.scrub((row.error and row.error.message) or "no response")
                code = (row.error.code if row.error else 0) or 0
                error = self._row_error(_HTTP.get(code, code), said, {"message": said})
                results.append((key, error))
                continue
            try:
                results.append((key, self._read(row.response)))
            except Retry as error:
                results.append((key, error))
        return Batch(job.done, state, tuple(results))


_HTTP = {3: 400, 5: 404, 7: 403, 8: 429, 9: 400, 11: 400, 13: 500, 14: 503}
"""Codes of Google's remote procedure calls, in which rows of batches fail → HTTP status."""


class _Heard(Exception):
    """An error that a hook has heard, on its way through the SDK."""

    def __init__(self, error: Exception):
        super().__init__(str(error))
        self.error = error
