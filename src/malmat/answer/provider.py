"""What the SDKs have in common: keys, errors by their status, the meaning of a finish reason."""

from __future__ import annotations

import email.utils
import os
import time
from typing import Any

from malmat.answer.request import Batch, Failed, Request, Retry
from malmat.errors import InputError, StopRunning
from malmat.files import canonical

TIMEOUT_S = 120.0


NO_KEY = "none"
"""What servers of one's own get, which ask for no key."""


BLOCKED = {
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "LANGUAGE",
    "IMAGE_SAFETY",
    "content_filter",
}


CUT = {"MAX_TOKENS", "length"}


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

    def __init__(self, name: str, base_url: str | None, key: str):
        self.name, self.base_url, self._key = name, base_url, key

    def identity(self) -> dict:
        """What of the model determines an answer, for the journal's key."""
        return {"provider": self.provider, "model": self.name, "base_url": self.base_url}

    def send(self, request: Request) -> dict:
        """One attempt: ``text, finish_reason, usage, model_version, status``.

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

    def scrub(self, text: object) -> str:
        """A message without the key in it, on one line."""
        text = str(text) if self._key == NO_KEY else str(text).replace(self._key, "[key]")
        return " ".join(text.split())[:300]

    def _status_error(self, code: int, message: str, headers: Any, body: Any) -> Exception:
        message = self.scrub(message)
        details = canonical(body).decode("utf-8", "replace") if body is not None else ""
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
        return Failed(f"{code}: {message}")


def reply_status(text: str, finish: str | None, any_candidate: bool) -> str:
    """The finish reason first: a blocked or cut reply can carry text that looks fine."""
    if finish in BLOCKED or not any_candidate:
        return "blocked"
    if finish in CUT:
        return "truncated"
    return "ok" if text.strip() else "empty"


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
        return Retry("connection", model.scrub(f"{type(error).__name__}: {error}"))
    # A 200 whose body is not what the SDK expects, such as a bare number (TypeError).
    if isinstance(error, (ValueError, TypeError)) or "ParseError" in names:
        return Retry("unreadable", model.scrub(f"{type(error).__name__}: {error}"))
    return error
