"""A model by its name: which provider, which SDK, which key."""

from __future__ import annotations

import os
import re
from typing import Any

from malmat.answer.gemini import Gemini
from malmat.answer.gemini_legacy import GeminiLegacy
from malmat.answer.openai import OpenAI
from malmat.answer.provider import THINKING_ROOM, Model

_GOOGLE = re.compile(r"(?:models/|google/)(?=gemini)")
"""What may stand before a Gemini's name: as Google's lists and OpenRouter spell it."""


_THINKS = re.compile(
    r"gemini-(?:2\.5-(?!flash-lite|flash-image)|[3-9]|flash-latest|pro-latest)"
    r"|o[1-9](?![a-z0-9])|gpt-(?!5-chat)[5-9]|gpt-oss|deepseek-(?:r\d|reasoner)|qwq|magistral"
    r"|exaone-deep|grok-[4-9](?!.*non-reasoning)|.*(?<!non-)(?:thinking|reasoning)"
)
"""Models that think before they answer unless they are told not to."""


def provider_of(model: str, base_url: str | None = None) -> str:
    """``gemini`` for gemini-* without a server of one's own, else ``openai`` (the protocol)."""
    # google/gemini-… is what a server such as OpenRouter calls it.
    prefix = "models/" if os.environ.get("OPENAI_BASE_URL") else ("models/", "google/")
    found = model.startswith("gemini") or (model.startswith(prefix) and _GOOGLE.match(model))
    return "gemini" if found and not base_url else "openai"


def room_for_thoughts(model: str, budget: int | None = None) -> int:
    """Tokens for a model's thoughts, beside those of its answer.

    Args:
        budget: how many it may take. None or -1: ``THINKING_ROOM`` for models that think.
    """
    if budget is not None and budget >= 0:
        return budget
    thinks = budget == -1 or _THINKS.match(model.rpartition("/")[2].lower())
    return THINKING_ROOM if thinks else 0


def sent_budget(
    budget: int | None,
    model: str,
    base_url: str | None = None,
    provider: str | None = None,
    sdk: str = "google-genai",
) -> dict[str, int]:
    """The sampling that sends a thinking budget, where the SDK knows one."""
    provider = provider or provider_of(model, base_url)
    known = provider == "gemini" and sdk == SDKS[0] and budget is not None
    return {"thinking_budget": budget} if known else {}  # type: ignore[dict-item]


SDKS = ("google-genai", "google-generativeai")


def open_model(
    name: str,
    *,
    base_url: str | None = None,
    provider: str | None = None,
    sdk: str = SDKS[0],
    extra_body: dict | None = None,
) -> Model:
    """The API model ``name``: gemini-* by a Google SDK, all others by the OpenAI protocol.

    Args:
        provider: ``gemini`` or ``openai``, where the name and the server do not tell.
        sdk: which of Google's SDKs. The older one is asked for by people who have no other.
        extra_body: sent along with each request.
    """
    kind: Any = OpenAI
    if (provider or provider_of(name, base_url)) != "openai":
        kind = Gemini if sdk == SDKS[0] else GeminiLegacy
        name = _GOOGLE.sub("", name)
    model: Model = kind(name, base_url, extra_body)
    if model.server and not base_url:
        print(f"  {model.variable} is set: {name} is asked at {model.server}")
    return model
