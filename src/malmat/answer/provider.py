"""What the SDKs have in common: keys, errors by their status, the meaning of a finish reason."""

from __future__ import annotations

import email.utils
import os
import re
import time
from collections.abc import Iterable
from typing import Any

from malmat.answer.network import causes, chain, check_address, names_of, was_not_reached
from malmat.answer.refusals import (
    ROOM,
    Refusals,
    error_in,
    final_refusal,
    is_spent,
    message_in,
)
from malmat.answer.request import Batch, Failed, Request, Retry
from malmat.errors import InputError, StopRunning
from malmat.files import canonical
from malmat.text.korean import is_blank

TIMEOUT_S = 120.0


NO_KEY = "none"
"""What servers of one's own get, which ask for no key."""


ENDED = {
    *("", "stop", "endturn", "eos", "eostoken", "eosfound", "stopsequence", "stoptoken"),
    *("end", "complete", "completed", "finished", "eostokenid", "stopstr"),
}
"""Finish reasons, as ``_plain_reason`` has them, of an answer that came to its end; "" for none."""


CUT = re.compile(r"length|max\w*tokens|tokenlimit|contextwindow")
"""Found in a finish reason, as ``_plain_reason`` has it."""


BLOCKED = re.compile(
    r"safety|recitation|block|prohibited|spii|language|filter|sensitive|moderation"
    r"|guardrail|toxic|flagged|policy"
)
"""The same: Google adds kinds of blocks."""


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


THINKING_ROOM = 8192
"""Tokens that a model which thinks before it answers may take for its thoughts."""


AWAY_S = 5.0
"""How long a server that nothing has come from yet is tried again when it cannot be reached."""


class NotFound(InputError):
    """The server knows no such model, batch or file."""


class Model:
    """A model behind an API. Subclasses send one request and sort what comes back."""

    provider = ""
    key_name = ""
    variable, own = "", ""
    """The variable by which the SDK is sent elsewhere, and the provider's own address."""

    def __init__(self, name: str, base_url: str | None, key: str, extra_body: dict | None = None):
        self.name, self.base_url, self._key = name, base_url, key
        self.extra_body, self._refusals = extra_body or {}, Refusals(name)
        self.has_answered, self.servers = False, 1
        self._away_since = 0.0
        if self._elsewhere:
            check_address(self._elsewhere, self.variable)

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

    @property
    def refused(self) -> list[str]:
        """The settings that the server has refused and is sent no more."""
        return sorted(self._refusals.without)

    def without(self, names: Iterable[str]) -> None:
        """Send no more of these settings: the server refused them in an earlier run."""
        self._refusals.without |= set(names)

    def sent(self, request: Request) -> list[str]:
        """The names of what is sent of a request and a server may refuse."""
        form = self._refusals.schema_form() if request.schema else None
        names = [name for name in request.sampling if name not in self._refusals.without]
        room = [ROOM] if request.room and ROOM not in self._refusals.without else []
        return [*filter(None, [form]), *names, *room]

    def learns(self, error: Failed, sent: Iterable[str]) -> bool:
        """Whether an error refuses one of the settings that were ``sent``; it is left out from
        now on, and asking again makes sense."""
        return self._refusals.learn(error, sent)

    def _sampling(self, request: Request) -> dict:
        """The request's sampling, with the room for thoughts in ``max_tokens``."""
        sampling, without = dict(request.sampling), self._refusals.without
        room = request.room if ROOM not in without else 0
        if "thinking_budget" in sampling and "thinking_budget" in without:  # it thinks as it likes
            room = max(room, THINKING_ROOM)
        if room and sampling.get("max_tokens"):
            sampling["max_tokens"] += room
        return sampling

    def send(self, request: Request) -> dict:
        """One attempt: ``text, finish_reason, usage, model_version, status, error``; and
        ``thoughts``, where they come apart from the text, ``thinking_tokens``, where they are
        counted.

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

    def not_reached(self, said: str) -> Retry:
        """No connection came about: said once, and given up on soon where none ever did."""
        if self.has_answered or self.servers > 1:
            return Retry("connection", said)
        now = time.monotonic()
        if not self._away_since:
            self._away_since = now
            print(f"  {self.server or self.own} cannot be reached ({said})", flush=True)
        return Retry("connection", said, most=3 if now - self._away_since < AWAY_S else 1)

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
        error = error_in(body)
        error = error if isinstance(error, dict) else {}
        # Not all of it where it is no matter of how much is asked: it may repeat the prompt.
        facts = details if code == 429 else f"{error.get('code')} {error.get('type')}"
        if code in (400, 403, 429) and is_spent(f"{message} {facts}"):
            return StopRunning(
                f"the quota of {self.key_name} is spent ({message}). Progress is kept: run the "
                "same command when there is quota again"
            )
        if code in (401, 403) or "API_KEY_INVALID" in details:
            return InputError(
                f"the server refused the key ({code}: {message})",
                field=self.key_name,
                fix="Check the key and what it may use.",
            )
        if code == 404:
            return NotFound(
                f"the server knows no model '{self.name}' ({message})",
                field="model",
                fix="Check the model's name and --base_url.",
            )
        if code in (408, 409, 425, 429) or code >= 500:
            return Retry(str(code), message, _wait_asked(headers, body))
        param = error.get("param")
        return Failed(f"{code}: {message}", code=code, param=param, details=details)

    def _row_error(self, code: Any, message: str, said: Any) -> Failed:
        """Why a row of a batch has no reply."""
        if isinstance(code, int):
            error = self._status_error(code, message, None, {"error": said})
            if isinstance(error, Failed):
                return error
        return Failed(self.scrub(f"{code}: {message}"))

    def _error_within(self, said: dict) -> Exception:
        """An error that came with the status of a success, by its own code."""
        message, code = str(said.get("message") or said), said.get("code")
        if code == "rate_limit_exceeded" or is_spent(f"{message} {code} {said.get('type')}"):
            code = 429
        if not re.fullmatch(r"[45]\d\d", str(code)):
            return Retry("unreadable", self.scrub(message))
        return self._status_error(int(str(code)), message, None, said)


def reply_status(text: str, finish: str | None) -> dict[str, str | None]:
    """``status`` and ``error`` of a reply, by the finish reason first: a blocked or cut reply can
    carry text that looks fine, and so can one that broke off for a reason that nobody knows."""
    reason = _plain_reason(finish or "")
    if BLOCKED.search(reason):
        status = "blocked"
    elif CUT.search(reason):
        status = "truncated"
    elif reason == "refusal":
        status = "refused"
    elif reason in ENDED:
        status = "empty" if is_blank(text) else "ok"
    else:
        return {"status": "api_error", "error": f"ended: {finish}"}
    return {"status": status, "error": None}


def _plain_reason(finish: str) -> str:
    """A finish reason in small letters: ``FinishReason.MAX_TOKENS``, ``max-tokens`` and
    ``MaxTokens`` are one."""
    return re.sub(r"[\W_]+", "", finish.rpartition(".")[2].lower())


def network_error(model: Model, error: Exception) -> Exception:
    """Connection faults of any SDK."""
    for cause in causes(error):
        if isinstance(cause, InputError):  # raised by a hook of ours, within the SDK
            return cause
    names = names_of(error)
    if names & {
        "APIConnectionError",
        "TransportError",
        "ConnectionError",
        "TimeoutError",
        "RequestException",
    }:
        said = model.scrub(chain(error))
        if was_not_reached(error):
            return model.not_reached(said)
        return Retry("connection", said)
    # A 200 whose body is not what the SDK expects, such as a bare number (TypeError).
    if isinstance(error, (ValueError, TypeError)) or "ParseError" in names:
        return Retry("unreadable", model.scrub(f"{type(error).__name__}: {error}"))
    return error


def count(value: Any) -> int:
    """A server's number of tokens, also as text; 0 for anything else."""
    try:
        return max(0, int(float(value)))
    except (TypeError, ValueError, OverflowError):
        return 0
