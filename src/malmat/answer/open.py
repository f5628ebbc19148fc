"""A model by its name: which provider, which SDK, which key."""

from __future__ import annotations

from typing import Any

from malmat.answer.gemini import Gemini
from malmat.answer.gemini_legacy import GeminiLegacy
from malmat.answer.openai import OpenAI
from malmat.answer.provider import Model


def provider_of(model: str, base_url: str | None = None) -> str:
    """``gemini`` for gemini-* without a server of one's own, else ``openai`` (the protocol)."""
    return "gemini" if model.startswith("gemini") and not base_url else "openai"


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
    model: Model = kind(name, base_url, extra_body)
    if model.server and not base_url:
        print(f"  {model.variable} is set: {name} is asked at {model.server}")
    return model
