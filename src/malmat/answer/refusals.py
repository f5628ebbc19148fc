"""What a server's refusals say: a setting that it does not take, a prompt it does not answer."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterable
from typing import Any

from malmat.answer.request import PROMPT, Failed

_REFUSED = re.compile(
    r"un(?:supported|known|recogni[sz]ed|expected|available)|\bonly\b|deprecated|instead"
    r"|n[o']t (?:\w+ )?(?:support|permit|allow|available|enabled)"
    r"|extra (?:inputs|fields)|cannot (?:both )?be"
)

_MENTIONED = {
    "json_schema": r"response_?(?:format|schema|json_?schema|mime_?type)"
    r"|json.?(?:schema|object|mode)|structured.outputs?|guided|grammar",
    "thinking_budget": r"thinking|budget",
}
_MENTIONED["json_object"] = _MENTIONED["json_schema"]
"""How a message names a setting, where not by its own name."""

_BLOCKED = re.compile(
    r"content_filter|content.(?:management.)?policy|data_inspection|moderation|flagged"
    r"|sensitive.(?:content|word)|\"reasons\":\s?\[|safety (?:system|filter)"
    r"|content exists risk|high risk|敏感|不安全内容|违规"
)

_TOO_LONG = re.compile(
    r"context.?length|context.?window|maximum context|prompt is too long|exceed_context|"
    r"(?:input|prompt)[^.]{0,60}(?:exceeds|longer than|too long)|too many (?:input )?tokens"
    r"|range of input length"
)


_SPENT = re.compile(
    r"insufficient[_ ]quota|exceeded_current_quota|insufficient.{0,10}(?:balance|credit)"
    r"|arrearage|余额不足|(?:more|out of|no) credits|weekly limit"
    r"|per[-_ ]?day|\((?:rpd|tpd)\)|\bdaily\b|_daily|limit: 0\b|have a free quota"
    r"|billing_not_active|billing[_ ]hard[_ ]limit|account is not active"
    r"|credit balance is too low|credits? (?:are |is |have been )?(?:depleted|exhausted|used up)"
    r"|spending (?:cap|limit)|monthly (?:cap|limit|quota)|key limit exceeded"
)
"""How OpenAI, Google, OpenRouter, Groq, DeepSeek and others say that a day's quota or the money is
spent, where a rate limit of a minute would pass."""

_LIMIT = re.compile(r"max_(?:\w+_)?tokens|in the completion|(?:completion|output) tokens")
"""How a server names the limit of tokens that it finds too large."""

ROOM = "room for thoughts"
"""What ``Request.room`` is called among the settings that a server may refuse."""


class Refusals:
    """The settings that a server has refused in this run, learnt from its replies, each said once.

    A schema is asked for as ``json_schema``, then as ``json_object``, then not at all;
    ``max_tokens`` is sent as ``max_completion_tokens`` or the other way round; any other
    setting is left out.
    """

    def __init__(self, model: str):
        self._model, self._lock = model, threading.Lock()
        self.without: set[str] = set()

    def learn(self, error: Failed, sent: Iterable[str]) -> bool:
        """Whether the error refuses one of the settings that were sent, so that asking again
        without it makes sense."""
        said, sent = f"{error} {error.details}".lower(), list(sent)
        if error.code not in (400, 422):
            return False
        if error.status == "api_error":
            refused = [name for name in sent if self._is_refused(name, said, error)]
        else:  # too long for the context, with the room and maybe not without
            refused = []
        if not refused and ROOM in sent and _LIMIT.search(said):
            refused = [ROOM]
        if not refused:
            return False
        # Of two that exclude each other, the temperature stays.
        found = {"top_p" if "top_p" in refused else refused[0]}
        if "max_tokens" in found:  # models that ask for the newer name have a fixed sampling
            found |= {"temperature", "top_p"} & set(sent)
        with self._lock:
            if new := found - self.without:
                self.without |= new
                names = ", ".join(sorted(new))
                print(f"  {self._model} refuses {names}: sent without ({error})", flush=True)
        return True

    @staticmethod
    def _is_refused(name: str, said: str, error: Failed) -> bool:
        if name == ROOM:
            return False
        mentioned = re.search(_MENTIONED.get(name, rf"\b{name}\b"), said)
        if name.startswith("json_"):
            return bool(mentioned)
        return bool((mentioned or error.param == name) and _REFUSED.search(said))

    def schema_form(self) -> str | None:
        """How a schema may be asked for: ``json_schema``, ``json_object`` or not at all."""
        forms = (form for form in ("json_schema", "json_object") if form not in self.without)
        return next(forms, None)

    def taken(self, settings: dict) -> dict:
        """The settings, renamed or left out as the server wants it."""
        other = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
        names = {n: other.get(n, n) if n in self.without else n for n in settings}
        return {names[n]: v for n, v in settings.items() if names[n] not in self.without}


def is_spent(said: str) -> bool:
    """Whether an error says that a quota or an account is spent, so that waiting is in vain."""
    return bool(_SPENT.search(said.lower()))


def error_in(body: Any) -> Any:
    """The error of a reply's body, out of the list and the field that it may stand in."""
    if isinstance(body, list) and body:
        body = body[0]
    return body.get("error", body) if isinstance(body, dict) else body


def message_in(body: Any) -> str:
    """What a reply's body says of the error, or ""."""
    error = error_in(body)
    if isinstance(error, dict):
        error = next((error[n] for n in ("message", "detail", "msg") if error.get(n)), "")
    if isinstance(error, list):  # of fields, as FastAPI's servers put it
        rows = [one for one in error if isinstance(one, dict)]
        error = "; ".join(
            f"{'.'.join(map(str, one.get('loc') or []))}: {one.get('msg')}" for one in rows
        )
    return error if isinstance(error, str) else ""


def final_refusal(code: int, message: str, body: Any) -> Failed | None:
    """What a refusal of this one prompt comes to: ``blocked``, or ``truncated`` where it is longer
    than the model's context; None for any other error. Asking again would change nothing."""
    error = error_in(body)
    # Not all of it: some servers repeat the prompt in what they say of it.
    names = ("code", "type", "status", "metadata", "innererror")
    facts = {n: error[n] for n in names if n in error} if isinstance(error, dict) else {}
    said = f"{message} {json.dumps(facts, ensure_ascii=False)}".lower()
    if code in (400, 403, 422, 451) and _BLOCKED.search(said):
        return Failed(f"{code}: {message}", status="blocked", finish_reason=f"{PROMPT}blocked")
    if code in (400, 413, 422) and _TOO_LONG.search(said):
        return Failed(
            f"{code}: {message}", status="truncated", finish_reason=f"{PROMPT}too long", code=code
        )
    return None
