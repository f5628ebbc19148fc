"""What the SDKs have in common: keys, errors by their status, the meaning of a finish reason."""

from __future__ import annotations

import email.utils
import os
import re
import time
from typing import Any

from malmat.answer.refusals import Refusals, error_in, final_refusal, message_in
from malmat.answer.request import Batch, Failed, Request, Retry
from malmat.errors import InputError, StopRunning
from malmat.files import canonical

TIMEOUT_S = 120.0


NO_KEY = "none"
"""What servers of one's own get, which ask for no key."""


ENDED = {
    *("", "stop", "end_turn", "eos", "eos_token", "eos_found", "stop_sequence", "stop_token"),
    *("end", "complete", "completed", "finished"),
}
"""Finish reasons, in lower case, of an answer that came to its end; "" for none."""


CUT = {
    *("max_tokens", "length", "max_output_tokens", "model_length", "token_limit"),
    *("max_length", "model_context_window_exceeded"),
}


BLOCKED = re.compile(
    r"safety|recitation|block|prohibited|spii|language|content_?filter|sensitive|moderation"
)
"""Found in a finish reason: Google adds kinds of blocks."""


def api_key(provider: str, *, needed: bool = True) -> tuple[str, str]:
    """The key and the name of the variable it came from (environment or ``.env``).

    Raises:
        InputError: not set, or not plain ASCII (a letter pasted by mistake would
            show up in an exception deep inside the SDK, key and all).
    """
    from dotenv import load_dotenv

    from malmat.cli import ROOT

    load_dotenv(ROOT / ".env")
    names = ("GEMINI_API_KEY", "GOOGLE_API_KEY") if provider == "gemini" else ("OPENAI_API_KEY",)
    for name in names:
        if key := os.environ.get(name, "").strip():
            if not (key.isascii() and key.isprintable()) or " " in key:
                raise InputError(
                    "holds a character that no key has", field=name, fix="Copy the key again."
                )
            return key, name
    if needed:
        raise InputError("is not set", field=names[0], fix="Export it, or put it into .env.")
    return NO_KEY, names[0]


def _wait_asked(headers: Any, body: Any) -> float:
    """Seconds to wait from Retry-After (seconds or a date) or RetryInfo.retryDelay in the body."""
    asked = 0.0
    value = (headers or {}).get("retry-after") if headers is not None else None
    if value:
        try:
            asked = float(value)
        except ValueError:
            try:
                asked = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
            except (TypeError, ValueError):
                asked = 0.0
    error = body.get("error", body) if isinstance(body, dict) else {}
    for detail in (error.get("details") or []) if isinstance(error, dict) else []:
        delay = detail.get("retryDelay") if isinstance(detail, dict) else None
        if isinstance(delay, str) and delay.endswith("s"):
            try:
                asked = max(asked, float(delay[:-1]))
            except ValueError:
                continue
    return max(0.0, asked)


class Model:
    """A model behind an API. Subclasses send one request and sort what comes back."""

    provider = ""
    key_name = ""
    variable, own = "", ""
    """The variable by which the SDK is sent elsewhere, and the provider's own address."""

    def __init__(self, name: str, base_url: str | None, key: str, extra_body: dict | None = None):
        self.name, self.base_url, self._key = name, base_url, key
        self.extra_body, self._refusals = extra_body or {}, Refusals(name)

    @property
    def server(self) -> str | None:
        """The address that is asked; None for the provider's own."""
        return self.base_url or self._elsewhere

    @property
    def _elsewhere(self) -> str | None:
        """Where the SDK is sent by the environment, without an address of ours."""
        address = os.environ.get(self.variable, "").strip().rstrip("/")
        return address if address and address != self.own and not self.base_url else None

    def identity(self) -> dict:
        """What of the model determines an answer, for the journal's key."""
        identity = {"provider": self.provider, "model": self.name, "base_url": self.base_url}
        # Only where there is something: all other keys stay what they are.
        more = {"server": self._elsewhere, "extra_body": self.extra_body}
        return identity | {name: value for name, value in more.items() if value}

    def send(self, request: Request) -> dict:
        """One attempt: ``text, finish_reason, usage, model_version, status, error``; and
        ``thoughts``, where they come apart from the text.

        Raises:
            Retry: a passing fault. Failed: this item is refused.
            StopRunning, InputError: no item can succeed.
        """
        raise NotImplementedError

    def submit(self, name: str, requests: list[tuple[str, Request]]) -> str:
        """Submit ``(key, request)`` rows as a batch called ``name``; the provider's id for it.

        Raises:
            InputError: this provider or SDK has no batches. Else as ``send``.
        """
        raise InputError("this SDK has no batches", field="batch", fix="Leave --batch out.")

    def find_batch(self, name: str) -> str | None:
        """The id of the batch that was submitted under this name, if there is one."""
        raise NotImplementedError

    def poll(self, batch_id: str) -> Batch:
        """How a batch stands and, when it is done, what came of each row."""
        raise NotImplementedError

    def scrub(self, text: object, length: int = 300) -> str:
        """A message without the key in it, on one line."""
        text = str(text) if self._key == NO_KEY else str(text).replace(self._key, "[key]")
        return " ".join(text.split())[:length]

    def _status_error(self, code: int, message: str, headers: Any, body: Any) -> Exception:
        if not message or message.startswith("Error code:"):  # the SDK found none
            message = message_in(body) or message
        message = self.scrub(message)
        details = canonical(body).decode("utf-8", "replace") if body is not None else ""
        details = self.scrub(details, 2000)
        if refusal := final_refusal(code, message, body):
            return refusal
        if code == 402:
            return StopRunning(f"the server asks for payment ({message}). Progress is kept")
        if code in (401, 403) or "API_KEY_INVALID" in details:
            return InputError(
                f"the server refused the key ({code}: {message})",
                field=self.key_name,
                fix="Check the key and what it may use.",
            )
        if code == 404:
            return InputError(
                f"the server knows no model '{self.name}' ({message})",
                field="model",
                fix="Check the model's name and --base_url.",
            )
        if code == 429 and ("insufficient_quota" in details or "PerDay" in details):
            return StopRunning(
                f"the quota of {self.key_name} is spent ({message}). Progress is kept: run the "
                "same command when there is quota again"
            )
        if code in (408, 409, 425, 429) or code >= 500:
            return Retry(str(code), message, _wait_asked(headers, body))
        error = error_in(body)
        param = error.get("param") if isinstance(error, dict) else None
        return Failed(f"{code}: {message}", code=code, param=param, details=details)


def reply_status(text: str, finish: str | None) -> dict[str, str | None]:
    """``status`` and ``error`` of a reply, by the finish reason first: a blocked or cut reply can
    carry text that looks fine, and so can one that broke off for a reason that nobody knows."""
    reason = (finish or "").lower()
    if BLOCKED.search(reason):
        status = "blocked"
    elif reason in CUT:
        status = "truncated"
    elif reason == "refusal":
        status = "refused"
    elif reason in ENDED:
        status = "ok" if text.strip() else "empty"
    else:
        return {"status": "api_error", "error": f"ended: {finish}"}
    return {"status": status, "error": None}


def network_error(model: Model, error: Exception) -> Exception:
    """Connection faults of any SDK (they stand on httpx2 or requests: names are all they share)."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {
        "APIConnectionError",
        "TransportError",
        "ConnectionError",
        "TimeoutError",
        "RequestException",
    }:
        return Retry("connection", model.scrub(" ← ".join(_chain(error))))
    # A 200 whose body is not what the SDK expects, such as a bare number (TypeError).
    if isinstance(error, (ValueError, TypeError)) or "ParseError" in names:
        return Retry("unreadable", model.scrub(f"{type(error).__name__}: {error}"))
    return error


def _chain(error: BaseException | None) -> list[str]:
    """An exception and what caused it: "Connection error." alone says nothing."""
    said: list[str] = []
    while error is not None and len(said) < 5:
        line = f"{type(error).__name__}: {error}"
        if not any(str(error) in earlier for earlier in said):
            said.append(line)
        error = error.__cause__ or error.__context__
    return said
