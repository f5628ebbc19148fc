"""One door to every model that answers: Gemini, OpenAI, compatible servers, local models.

``complete`` takes requests and gives back a record for each, through a journal:
what was answered before is not asked again. There is one retry layer (the SDKs'
own are off), and every reply is looked at before it counts, finish reason first:
the SDKs report success for empty, blocked and cut replies alike. A failure is a
status, never an answer.
"""

from __future__ import annotations

import email.utils
import itertools
import json
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malmat.cli import StopRunning
from malmat.journal import Journal, key_of
from malmat.records import InputError, canonical, read_json

ATTEMPTS = 8
PATIENCE_S = 600.0
TIMEOUT_S = 120.0
NO_KEY = "none"
"""What servers of one's own get, which ask for no key."""
UNREADABLE_TRIES = 3
ASK_AGAIN = ("api_error", "parse_error")
"""Statuses that the next run of the same command tries again."""

_BLOCKED = {
    "SAFETY",
    "RECITATION",
    "BLOCKLIST",
    "PROHIBITED_CONTENT",
    "SPII",
    "LANGUAGE",
    "IMAGE_SAFETY",
    "content_filter",
}
_CUT = {"MAX_TOKENS", "length"}


@dataclass(frozen=True)
class Request:
    """One question to a model.

    Args:
        id: the row it belongs to.
        messages: ``[{role, content}]``.
        sampling: temperature, top_p, max_tokens … (what the model's API takes).
        schema: JSON Schema of the reply, or None for free text.
        sample: index among repeated answers to one prompt.
    """

    id: str
    messages: list[dict]
    sampling: dict = field(default_factory=dict)
    schema: dict | None = None
    sample: int = 0


class Retry(Exception):
    """A passing fault. ``after``: seconds the server asked to wait."""

    def __init__(self, kind: str, detail: str, after: float = 0.0):
        super().__init__(f"{kind}: {detail}")
        self.kind, self.after = kind, after


class Failed(Exception):
    """This item cannot be answered (a refused request); others may be."""


# ------------------------------------------------------------------------ providers


def provider_of(model: str, base_url: str | None = None) -> str:
    """``gemini`` for gemini-* without a server of one's own, else ``openai`` (the protocol)."""
    return "gemini" if model.startswith("gemini") and not base_url else "openai"


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


class Gemini(Model):
    """google-genai."""

    provider = "gemini"

    def __init__(self, name: str, base_url: str | None = None):
        from google import genai

        key, self.key_name = api_key("gemini")
        super().__init__(name, base_url, key)
        # The SDK prefers GOOGLE_API_KEY from the environment and has no time limit by itself;
        # the client closes when it is collected, so it is kept.
        self._client = genai.Client(
            api_key=key,
            vertexai=False,
            http_options={"base_url": base_url, "timeout": int(TIMEOUT_S * 1000)},
        )

    def send(self, request: Request) -> dict:
        from google.genai import errors, types

        sampling = dict(request.sampling)
        config: dict[str, Any] = {
            "temperature": sampling.pop("temperature", None),
            "top_p": sampling.pop("top_p", None),
            "max_output_tokens": sampling.pop("max_tokens", None),
        }
        budget = sampling.pop("thinking_budget", None)
        if budget is not None:
            config["thinking_config"] = {"thinking_budget": budget}
        if sampling:
            raise InputError(f"not a setting of Gemini: {', '.join(sampling)}", field="sampling")
        system = [m["content"] for m in request.messages if m["role"] == "system"]
        if system:
            config["system_instruction"] = "\n\n".join(system)
        if request.schema:
            config["response_mime_type"] = "application/json"
            config["response_json_schema"] = request.schema
        contents = [
            {
                "role": "model" if m["role"] == "assistant" else "user",
                "parts": [{"text": m["content"]}],
            }
            for m in request.messages
            if m["role"] != "system"
        ]
        try:
            settings = types.GenerateContentConfig(**config)
        except ValueError as error:
            raise InputError(self.scrub(error), field="sampling") from None
        try:
            reply = self._client.models.generate_content(
                model=self.name, contents=contents, config=settings
            )
        except errors.APIError as error:
            headers = getattr(error.response, "headers", None)
            raise self._status_error(
                error.code, error.message or error.status or "", headers, error.details
            ) from None
        except json.JSONDecodeError as error:
            raise Retry("unreadable", str(error)) from None
        except Exception as error:
            raise _network(self, error) from None
        candidates = reply.candidates or []
        finish = candidates[0].finish_reason if candidates else None
        finish = finish.value if finish is not None else None
        blocked = reply.prompt_feedback and reply.prompt_feedback.block_reason
        text = ""
        if candidates and candidates[0].content and candidates[0].content.parts:
            text = "".join(p.text or "" for p in candidates[0].content.parts if not p.thought)
        usage = reply.usage_metadata
        if usage is None and not candidates and not blocked:
            raise Retry("unreadable", "a reply without candidates")
        return {
            "text": text,
            "finish_reason": f"prompt {blocked.value}" if blocked else finish,
            "status": _status(text, "SAFETY" if blocked else finish, bool(candidates)),
            "usage": {
                "input": (usage and usage.prompt_token_count) or 0,
                "output": ((usage and usage.candidates_token_count) or 0)
                + ((usage and usage.thoughts_token_count) or 0),
            },
            "model_version": reply.model_version,
        }


class OpenAI(Model):
    """openai, and every server that speaks its chat protocol (vLLM, SGLang, Ollama, llama.cpp).

    Args:
        base_url: a server, or several of one model with commas between, asked in turn.
    """

    provider = "openai"

    def __init__(self, name: str, base_url: str | None = None):
        import openai

        key, self.key_name = api_key("openai", needed=base_url is None)
        super().__init__(name, base_url, key)
        urls = [url.strip() for url in base_url.split(",")] if base_url else [None]
        self._clients = itertools.cycle(
            [
                openai.OpenAI(api_key=key, base_url=url, max_retries=0, timeout=TIMEOUT_S)
                for url in urls
            ]
        )

    def send(self, request: Request) -> dict:
        import openai

        options = dict(request.sampling)
        options.pop("thinking_budget", None)
        if request.schema:
            options["response_format"] = {
                "type": "json_schema",
                "json_schema": {"name": "reply", "schema": request.schema, "strict": True},
            }
        try:
            reply = next(self._clients).chat.completions.create(
                model=self.name, messages=request.messages, **options
            )
        except openai.APIStatusError as error:
            raise self._status_error(
                error.status_code, error.message, error.response.headers, error.body
            ) from None
        except openai.APIResponseValidationError as error:
            raise Retry("unreadable", self.scrub(error)) from None
        except json.JSONDecodeError as error:
            raise Retry("unreadable", str(error)) from None
        except TypeError as error:
            raise InputError(self.scrub(error), field="sampling") from None
        except Exception as error:
            raise _network(self, error) from None
        choices = getattr(reply, "choices", None)
        if not isinstance(choices, list) or (choices and choices[0] is None):
            raise Retry("unreadable", "a reply without choices")
        message = choices[0].message if choices else None
        finish = choices[0].finish_reason if choices else None
        text = (message.content if message else None) or ""
        if not isinstance(text, str) or not isinstance(finish, (str, type(None))):
            raise Retry("unreadable", "a reply whose text or finish reason is no text")
        status = _status(text, finish, bool(choices))
        if message is not None and getattr(message, "refusal", None):
            text, status = message.refusal, "refused"
        usage = reply.usage
        return {
            "text": text,
            "finish_reason": finish,
            "status": status,
            "usage": {
                "input": (usage and usage.prompt_tokens) or 0,
                "output": (usage and usage.completion_tokens) or 0,
            },
            "model_version": reply.model,
        }


def _status(text: str, finish: str | None, any_candidate: bool) -> str:
    """The finish reason first: a blocked or cut reply can carry text that looks fine."""
    if finish in _BLOCKED or not any_candidate:
        return "blocked"
    if finish in _CUT:
        return "truncated"
    return "ok" if text.strip() else "empty"


def _network(model: Model, error: Exception) -> Exception:
    """Connection faults of either SDK (both stand on httpx2, so names are all they share)."""
    names = {kind.__name__ for kind in type(error).__mro__}
    if names & {"APIConnectionError", "TransportError", "ConnectionError", "TimeoutError"}:
        return Retry("connection", model.scrub(f"{type(error).__name__}: {error}"))
    # A 200 whose body is not what the SDK expects, such as a bare number (TypeError).
    if isinstance(error, (ValueError, TypeError)):
        return Retry("unreadable", model.scrub(f"{type(error).__name__}: {error}"))
    return error


def open_model(name: str, *, base_url: str | None = None) -> Model:
    """The API model ``name``: gemini-* by google-genai, all others by the OpenAI protocol."""
    return (Gemini if provider_of(name, base_url) == "gemini" else OpenAI)(name, base_url)


# ----------------------------------------------------------------------------- cost


def price(model: str, usage: dict[str, int], table: Path | None = None) -> float | None:
    """US dollars for ``{input, output}`` tokens, or None where the table has no price.

    The longest name in the table that the model's name begins with counts, so that
    dated names (``gpt-4.1-2025-04-14``) are found.
    """
    models = read_json(table or Path(__file__).with_name("prices.json"))["models"]
    known = [name for name in models if model == name or model.startswith(name + "-")]
    if not known:
        return None
    rates = models[max(known, key=len)]
    return (usage["input"] * rates["input"] + usage["output"] * rates["output"]) / 1e6


def estimate_tokens(text: str) -> int:
    """A rough count for the plan before a run: Korean takes about 0.7 tokens a character."""
    return int(len(text) * 0.7) + 1


# ------------------------------------------------------------------------ completing


def request_key(identity: dict, request: Request) -> str:
    """The journal key: everything that determines the answer."""
    return key_of(
        **identity,
        messages=request.messages,
        sampling=request.sampling,
        schema=request.schema,
        sample=request.sample,
    )


def complete(
    model: Model,
    requests: list[Request],
    journal: Journal,
    *,
    accept: Callable[[Request, str], Any] | None = None,
    concurrency: int = 8,
    max_cost: float | None = None,
    label: str = "",
) -> dict[str, dict]:
    """Answer all requests through the journal.

    Args:
        accept: turns a reply's text into a value, raising ValueError where it is
            unreadable; such a reply is asked for again twice, then ``parse_error``.
        max_cost: US dollars of this run after which no more is asked.

    Returns:
        Request id and sample (``id#sample``) → record: ``key, id, status, text,
        finish_reason, usage, attempts, model_version, error``.

    Raises:
        StopRunning: quota spent, the circuit breaker, or ``max_cost``; progress kept.
        InputError: wrong key, unknown model, or ``max_cost`` for a model without a price.
        KeyboardInterrupt: after what was in flight has been journaled.
    """
    from tqdm import tqdm

    if max_cost is not None and price(model.name, {"input": 0, "output": 0}) is None:
        raise InputError(
            f"prices.json has no price for '{model.name}'",
            field="max_cost",
            fix="Add one, or leave the option out.",
        )
    identity = model.identity()
    keys = {id(request): request_key(identity, request) for request in requests}
    records: dict[str, dict] = {}
    todo = []
    for request in requests:
        record = journal.get(keys[id(request)])
        if record is not None and record["status"] not in ASK_AGAIN:
            records[f"{request.id}#{request.sample}"] = record
        else:
            todo.append(request)
    if not todo:
        return records
    stop = threading.Event()
    gate = _Gate(concurrency)
    breaker = _Breaker()
    spent = 0.0
    queue = iter(todo)
    pending: dict[Any, Request] = {}
    failure: BaseException | None = None
    bar = tqdm(total=len(requests), initial=len(records), desc=label, unit="item", mininterval=0.5)

    def submit(pool: ThreadPoolExecutor) -> None:
        while not stop.is_set() and len(pending) < concurrency:
            request = next(queue, None)
            if request is None:
                return
            pending[pool.submit(_ask, model, request, accept, gate, stop)] = request

    pool = ThreadPoolExecutor(concurrency, thread_name_prefix="llm")
    with _interruptible(stop) as interrupted:
        try:
            submit(pool)
            while pending:
                finished, _ = wait(pending, timeout=0.2, return_when=FIRST_COMPLETED)
                for future in finished:
                    request = pending.pop(future)
                    try:
                        record = future.result()
                    except _Abandoned:
                        continue
                    except BaseException as error:
                        failure = failure or error
                        stop.set()
                        continue
                    record = {"key": keys[id(request)], "id": request.id, **record}
                    journal.append(record)
                    records[f"{request.id}#{request.sample}"] = record
                    bar.update()
                    spent += price(model.name, record["usage"]) or 0.0
                    problem = breaker.see(record)
                    if max_cost is not None and spent >= max_cost:
                        problem = f"--max_cost {max_cost} reached (spent ${spent:.4f})"
                    if problem and failure is None:
                        failure = StopRunning(f"{problem}. Progress is kept")
                        stop.set()
                submit(pool)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
            bar.close()
    if failure is not None:
        raise failure
    if interrupted.is_set():
        raise KeyboardInterrupt
    return records


class _Abandoned(Exception):
    """The run stopped while this item was waiting to be tried again."""


class _interruptible:
    """Ctrl-C sets the event (what is in flight is drained); a second one leaves at once."""

    def __init__(self, stop: threading.Event):
        self._stop, self._seen = stop, threading.Event()

    def __enter__(self) -> threading.Event:
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._old = signal.signal(signal.SIGINT, self._handle)
        return self._seen

    def _handle(self, *_: object) -> None:
        if self._seen.is_set():
            os._exit(130)
        self._seen.set()
        self._stop.set()

    def __exit__(self, *_: object) -> None:
        if self._main:
            signal.signal(signal.SIGINT, self._old)


class _Gate:
    """How many requests may be under way: ×0.8 at a 429 (once in 15 s), +5 % a clean round."""

    def __init__(self, limit: int):
        self._most = limit
        self._limit = float(limit)
        self._active = self._clean = 0
        self._quiet_until = 0.0
        self._condition = threading.Condition()

    def __enter__(self) -> None:
        with self._condition:
            self._condition.wait_for(lambda: self._active < max(1, int(self._limit)))
            self._active += 1

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self._condition:
            self._active -= 1
            if isinstance(error, Retry) and error.kind == "429":
                self._clean = 0
                if time.monotonic() >= self._quiet_until:
                    self._limit = max(1.0, self._limit * 0.8)
                    self._quiet_until = time.monotonic() + 15
            elif error is None:
                self._clean += 1
                if self._clean >= self._limit:
                    self._clean = 0
                    self._limit = min(self._most, self._limit * 1.05)
            self._condition.notify_all()


class _Breaker:
    """Ends a run in which nothing works: 20 like failures in a row, or over 10 % after 50."""

    def __init__(self) -> None:
        self._seen = self._row = 0
        self._last = ""
        self._kinds: Counter[str] = Counter()

    def see(self, record: dict) -> str | None:
        self._seen += 1
        # A server that sends no reply at all, as a web page at a wrong address, fails too; a
        # reply whose text could not be read is the model's doing.
        lost = record["status"] == "parse_error" and not record["text"]
        if record["status"] != "api_error" and not lost:
            self._row = 0
            return None
        kind = (record["error"] or "").split(":")[0]
        self._row = self._row + 1 if kind == self._last else 1
        self._last = kind
        self._kinds[kind] += 1
        failed = sum(self._kinds.values())
        if self._row >= 20:
            return f"20 failures of one kind in a row ({record['error']})"
        if self._seen >= 50 and failed > self._seen * 0.1:
            return f"{failed} of {self._seen} requests failed (last: {record['error']})"
        return None


def _ask(
    model: Model,
    request: Request,
    accept: Callable[[Request, str], Any] | None,
    gate: _Gate,
    stop: threading.Event,
) -> dict:
    """One item to its end: answered, refused, or given up on after the allowed attempts."""
    from tenacity import (
        RetryError,
        Retrying,
        retry_if_exception_type,
        stop_after_attempt,
        stop_before_delay,
    )

    def pause(state: Any) -> float:
        backoff = min(60.0, 2.0 ** (state.attempt_number - 1)) * random.uniform(0.5, 1.0)
        return max(backoff * RETRY_SCALE, state.outcome.exception().after)

    def sleep(seconds: float) -> None:
        if stop.wait(seconds):
            raise _Abandoned

    usage = {"input": 0, "output": 0}
    unreadable, reply, attempts = 0, {}, 0

    def attempt() -> dict:
        nonlocal unreadable, attempts, reply
        if stop.is_set() and attempts:
            raise _Abandoned
        attempts += 1
        try:
            with gate:
                reply = model.send(request)
        except Retry as error:
            if error.kind != "unreadable":
                raise
            unreadable += 1
            reply = {"text": "", "finish_reason": None, "model_version": None}
            if unreadable >= UNREADABLE_TRIES:
                return {**reply, "status": "parse_error", "error": str(error)}
            raise
        for name, tokens in reply.pop("usage").items():
            usage[name] += tokens
        # Half a character (a lone surrogate, from a reply cut inside an emoji) fits in no file.
        reply["text"] = reply["text"].encode("utf-8", "replace").decode("utf-8")
        if reply["status"] == "ok" and accept is not None:
            try:
                accept(request, reply["text"])
            except ValueError as error:
                unreadable += 1
                if unreadable >= UNREADABLE_TRIES:
                    return {**reply, "status": "parse_error", "error": model.scrub(error)}
                raise Retry("unreadable", model.scrub(error)) from None
        return {**reply, "error": None}

    try:
        for trial in Retrying(
            retry=retry_if_exception_type(Retry),
            # Before: a server that asks for a wait beyond all patience is not waited for.
            stop=stop_after_attempt(ATTEMPTS) | stop_before_delay(PATIENCE_S),
            wait=pause,
            sleep=sleep,
        ):
            with trial:
                result = attempt()
    except RetryError as error:
        cause = error.last_attempt.exception()
        result = {"text": "", "finish_reason": None, "model_version": None}
        result |= {"status": "api_error", "error": model.scrub(cause)}
    except Failed as error:
        result = {"text": "", "finish_reason": None, "model_version": None}
        result |= {"status": "api_error", "error": model.scrub(error)}
    return {**result, "usage": usage, "attempts": attempts}


RETRY_SCALE = float(os.environ.get("MALMAT_RETRY_SCALE", "1"))
"""Scales the backoff (not what a server asks for); tests make it small."""


# ---------------------------------------------------------------------- local models


def complete_locally(
    name: str,
    requests: list[Request],
    journal: Journal,
    sampling: Any,
    *,
    batch_size: int,
    adapter: str | None = None,
    quantization: str | None = None,
    trust_remote_code: bool = False,
    label: str = "",
) -> dict[str, dict]:
    """As ``complete``, by a model on this machine, loaded only if something is missing.

    Args:
        name: hub id, folder, adapter folder or ``embedded``.
        sampling: a ``generate.Sampling``.

    Returns:
        Request id and sample → record, as ``complete``.
    """
    from tqdm import tqdm

    from malmat.generate import answer_all
    from malmat.models import fingerprint, load_model, load_tokenizer

    identity = {
        "provider": "local",
        "model": fingerprint(name),
        "adapter": fingerprint(adapter) if adapter else None,
        "quantization": quantization,
        "settings": sampling.as_dict(),
    }
    items = [
        {
            "key": request_key(identity, request),
            "id": f"{request.id}#{request.sample}",
            "messages": request.messages,
        }
        for request in requests
    ]
    missing = [item for item in items if journal.get(item["key"]) is None]
    if missing:
        options = {"trust_remote_code": trust_remote_code}
        tokenizer = load_tokenizer(adapter or name, **options)
        model = load_model(name, adapter=adapter, quantization=quantization, **options)
        bar = tqdm(total=len(items), initial=len(items) - len(missing), desc=label, unit="item")
        for batch in answer_all(
            model,
            tokenizer,
            items,
            sampling,
            batch_size=batch_size,
            done=lambda key: journal.get(key) is not None,
        ):
            journal.extend(
                {
                    **{name: record[name] for name in ("key", "text", "status", "finish_reason")},
                    "id": record["id"].partition("#")[0],
                    "usage": {"input": 0, "output": record["output_tokens"]},
                    "attempts": 1,
                    "model_version": None,
                    "error": None,
                }
                for record in batch
            )
            bar.update(len(batch))
        bar.close()
    return {item["id"]: journal.get(item["key"]) for item in items}


def failures(records: Iterator[dict] | list[dict]) -> Counter[str]:
    """How many records of each status other than ``ok``."""
    return Counter(record["status"] for record in records if record["status"] != "ok")
