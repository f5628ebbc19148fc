"""google-generativeai, the older SDK, over REST."""

from __future__ import annotations

import warnings
from typing import Any

from malmat.answer.gemini import google_config, google_contents, google_reply, google_system
from malmat.answer.provider import TIMEOUT_S, Model, api_key, network_error
from malmat.answer.request import Request
from malmat.errors import InputError


class GeminiLegacy(Model):
    """google-generativeai, over REST. It knows neither a thinking budget nor batches."""

    provider = "gemini"

    def __init__(self, name: str, base_url: str | None = None, extra_body: dict | None = None):
        if extra_body:
            raise InputError("is not for this SDK", field="extra_body", fix="Leave --sdk out.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that its support has ended
            from google.generativeai import client

        key, self.key_name = api_key("gemini")
        super().__init__(name, base_url, key)
        options = {"api_endpoint": base_url} if base_url else None
        client.configure(api_key=key, transport="rest", client_options=options)
        # What configure sets is global: the client is taken at once, so that models may differ.
        self._client = client.get_default_generative_client()

    def send(self, request: Request) -> dict:
        from google.api_core import exceptions
        from google.generativeai import protos
        from google.generativeai.types.generation_types import to_generation_config_dict

        config = google_config(request)
        if request.schema:
            config["response_schema"] = openapi_schema(request.schema)
        parts: dict[str, Any] = {"contents": google_contents(request.messages)}
        if system := google_system(request.messages):
            parts["system_instruction"] = {"parts": [{"text": system}]}
        try:
            parts["generation_config"] = to_generation_config_dict(config)
            message = protos.GenerateContentRequest(model=f"models/{self.name}", **parts)
        except (ValueError, TypeError) as error:
            # Which setting it was is not in protobuf's message.
            said = f"{self.scrub(error)} (in {', '.join(config)})"
            raise InputError(said, field="sampling") from None
        try:
            reply = self._client.generate_content(message, retry=None, timeout=TIMEOUT_S)
        except exceptions.GoogleAPICallError as error:
            response = getattr(error, "response", None)
            headers = getattr(response, "headers", None)
            raise self._status_error(
                int(error.code or 0), error.message or "", headers, {"details": error.details}
            ) from None
        except Exception as error:
            raise network_error(self, error) from None
        return self._read(reply)

    @staticmethod
    def _read(reply: Any) -> dict:
        # Its own .text raises where there is no text to give; an enumeration is 0 where unset.
        first = reply.candidates[0] if reply.candidates else None
        finish = first.finish_reason if first else None
        blocked, usage = reply.prompt_feedback.block_reason, reply.usage_metadata
        return google_reply(
            text="".join(part.text for part in first.content.parts) if first else "",
            finish=getattr(finish, "name", f"reason {finish}") if finish else None,
            blocked=getattr(blocked, "name", f"reason {blocked}") if blocked else None,
            answered=first is not None,
            usage={
                "input": usage.prompt_token_count,
                # Thinking is in the total alone.
                "output": max(
                    usage.candidates_token_count,
                    usage.total_token_count - usage.prompt_token_count,
                ),
            }
            if "usage_metadata" in reply
            else None,
            version=reply.model_version or None,
        )


def openapi_schema(schema: dict) -> dict:
    """A JSON Schema in the part of it that google-generativeai takes.

    Keywords it does not know (``additionalProperties``, bounds) are left out: every
    reply is validated here anyway.
    """
    names = {"minItems": "min_items", "maxItems": "max_items"}
    known = ("type", "description", "required", "minItems", "maxItems")
    result = {names.get(name, name): schema[name] for name in known if name in schema}
    if schema.get("type") == "string" and "enum" in schema:
        result |= {"enum": schema["enum"], "format": "enum"}
    if "properties" in schema:
        parts = schema["properties"].items()
        result["properties"] = {name: openapi_schema(part) for name, part in parts}
    if "items" in schema:
        result["items"] = openapi_schema(schema["items"])
    return result
