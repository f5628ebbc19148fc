"""google-generativeai, the older SDK, over REST."""

from __future__ import annotations

import contextlib
import time
import warnings
from typing import Any

from malmat.answer import network
from malmat.answer.gemini import Google, google_contents, google_reply, google_system
from malmat.answer.provider import TIMEOUT_S, api_key, network_error
from malmat.answer.request import Failed, Request, Retry
from malmat.errors import InputError, StopRunning


class GeminiLegacy(Google):
    """google-generativeai, over REST. It knows neither a thinking budget nor batches."""

    def __init__(self, name: str, base_url: str | None = None, extra_body: dict | None = None):
        if extra_body:
            raise InputError("is not for this SDK", field="extra_body", fix="Leave --sdk out.")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # that its support has ended
            from google.generativeai import client

        key, self.key_name = api_key("gemini")
        super().__init__(name, base_url, key)
        if base_url:
            network.check_address(base_url)
        options = {"api_endpoint": base_url} if base_url else None
        with network.opening_a_client():
            client.configure(api_key=key, transport="rest", client_options=options)
            # What configure sets is global: the client is taken at once, so that models may differ.
            self._client = client.get_default_generative_client()
        session = self._client.transport._session
        session.hooks["response"].append(self._receive)
        session.trust_env = not network.is_on_this_machine(base_url)

    def _receive(self, response: Any, **_: object) -> None:
        """A hook of requests: reads the body in time, and hears an error in that of a success."""
        request, location = response.request, response.headers.get("location")
        network.refuse_redirect(response.status_code, request.method, request.url, location)
        end, parts = time.monotonic() + network.TOTAL_S, []
        for part in response.iter_content(1):  # more would wait until there are as many
            parts.append(part)
            if time.monotonic() > end:
                raise TimeoutError(f"no end of the reply after {network.TOTAL_S:g} s")
        response._content = b"".join(parts)
        if response.status_code == 200 and b'"error"' in response.content:
            with contextlib.suppress(ValueError):
                if error := self.within(response.json()):
                    raise error

    def _once(self, request: Request) -> dict:
        from google.api_core import exceptions
        from google.generativeai import protos
        from google.generativeai.types.generation_types import to_generation_config_dict

        config = self._config(request)
        if request.schema and self._refusals.schema_form() == "json_schema":
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
        except (Failed, Retry, StopRunning):  # heard by the hook
            raise
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
