"""Turns questions into answers: the part of ``infer.py`` that other scripts use too."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from malmat.answer import api
from malmat.answer.local import complete_locally, local_identity
from malmat.answer.open import open_model
from malmat.answer.request import Request
from malmat.cli import provenance
from malmat.errors import InputError
from malmat.files import read_json, write_json
from malmat.journal import Journal, journal_path, key_of
from malmat.lm.chat import run_on
from malmat.lm.generate import Sampling
from malmat.prompts import chat_messages
from malmat.text.korean import normalize

API_SAMPLING = {"temperature": 0.7, "max_tokens": 512}
"""The published sampling for API models."""


@dataclass(frozen=True)
class Door:
    """A way to a model, as ``api_door`` and ``local_door`` give it.

    Args:
        identity: what of the model and its settings determines an answer.
        ask: answers requests through a journal: id and sample → record.
    """

    identity: dict
    ask: Callable[[list[Request], Journal, str], dict[str, dict]]


def api_door(model: str, base_url: str | None, concurrency: int, max_cost: float | None) -> Door:
    """Answers by an API model."""
    opened = open_model(model, base_url=base_url)

    def ask(requests: list[Request], journal: Journal, label: str) -> dict[str, dict]:
        return api.complete(
            opened, requests, journal, concurrency=concurrency, max_cost=max_cost, label=label
        )

    return Door(opened.identity(), ask)


def api_sampling(given: dict, max_tokens: int, *, own_server: bool) -> dict:
    """Settings as the OpenAI protocol takes them.

    Args:
        given: temperature, top_p, seed; for servers of one's own also top_k, min_p and
            repetition_penalty, which vLLM, SGLang and others know beyond the protocol.

    Raises:
        InputError: one of those for an API that is not one's own server.
    """
    beyond = {
        name: given[name] for name in ("top_k", "min_p", "repetition_penalty") if name in given
    }
    if beyond and not own_server:
        raise InputError("is not for this API", field=next(iter(beyond)), fix="Leave it out.")
    sampling = {k: v for k, v in given.items() if k not in beyond} | {"max_tokens": max_tokens}
    return sampling | ({"extra_body": beyond} if beyond else {})


def local_door(
    model: str,
    sampling: Sampling,
    batch_size: int | None,
    *,
    adapter: str | None = None,
    quantization: str | None = None,
    trust_remote_code: bool = False,
) -> Door:
    """Answers by a model on this machine (``batch_size`` None: what fits into memory)."""
    what = {"adapter": adapter, "quantization": quantization}

    def ask(requests: list[Request], journal: Journal, label: str) -> dict[str, dict]:
        return complete_locally(
            model,
            requests,
            journal,
            sampling,
            batch_size=batch_size,
            trust_remote_code=trust_remote_code,
            label=label,
            **what,
        )

    return Door(local_identity(model, sampling, **what), ask)


def answer_questions(
    questions: list[dict],
    prompts: dict[str, str],
    door: Door,
    output: Path,
    *,
    sampling: dict | None = None,
    settings: dict,
    label: str = "",
    cost_of: Callable[[dict], float | None] | None = None,
) -> list[dict]:
    """Answer questions and write ``output``.

    Args:
        questions: ``[{id, question, title?}]``.
        sampling: what an API is sent; a local door holds its own.
        settings: stored beside the output, in ``<output>.run.json``.
        cost_of: ``{input, output}`` tokens → US dollars, or None where there is no price.

    Returns:
        A row a question, in the order of the questions: ``id, question, answer,
        status, finish_reason, …``. ``answer`` is what the model wrote, whatever the
        status; conjoining jamo that a tokenizer made of ㅇㅇ are turned back. An answer
        that runs on into another turn is ``leaked``, whoever wrote it.
    """
    requests = [
        Request(
            id=question["id"],
            messages=chat_messages(prompts, question["question"]),
            sampling=sampling or {},
        )
        for question in questions
    ]
    prompt = chat_messages(prompts, "")
    configuration = key_of(**door.identity, prompt=prompt, sampling=sampling)
    with Journal(journal_path(output)) as journal:
        if journal.notice:
            print(f"  {journal.notice}")
        with _measured(output, journal, settings, configuration):
            records = door.ask(requests, journal, label)
    rows = []
    for question in questions:
        record = records[f"{question['id']}#0"]
        leaked = record["status"] == "ok" and run_on(record["text"]) is not None
        row = {"id": question["id"]}
        if question.get("title"):
            row["title"] = question["title"]
        row |= {
            "question": question["question"],
            "answer": normalize(record["text"]),
            "status": "leaked" if leaked else record["status"],
            "finish_reason": record["finish_reason"],
            "output_tokens": record["usage"]["output"],
        }
        if record["error"]:
            row["error"] = record["error"]
        rows.append(row)
    write_json(output, rows)
    tokens = {
        side: sum(record["usage"][side] for record in records.values())
        for side in ("input", "output")
    }
    run = read_json(run_file(output))
    run["run"] |= {"tokens": tokens, "cost_usd": cost_of(tokens) if cost_of else None}
    write_json(run_file(output), run)
    return rows


@contextlib.contextmanager
def _measured(output: Path, journal: Journal, settings: dict, configuration: str) -> Iterator[None]:
    """Write down settings, provenance and time of a run, also of one that is cut short.

    ``run`` in the file: ``seconds`` (wall time, loading included) and ``items`` (answers that
    came in it) of this run and of those before it that this one goes on from, with their ratio:
    those of the same ``configuration`` (model, prompt and sampling, as a digest). Only what a
    hard kill cut off is missing from it.
    """
    path, before, start = run_file(output), len(journal), time.monotonic()
    known = {"seconds": 0.0, "items": 0, "configuration": configuration}
    if before and path.exists():
        earlier = read_json(path).get("run", {})
        if earlier.get("configuration") == configuration:
            known |= earlier
    try:
        yield
    finally:
        run = dict(known)
        if new := len(journal) - before:
            run["items"] += new
            run["seconds"] = round(run["seconds"] + time.monotonic() - start, 2)
            run["items_per_second"] = round(run["items"] / run["seconds"], 3)
        write_json(path, {"settings": settings, "provenance": provenance(), "run": run})


def run_file(output: Path) -> Path:
    """Where the settings of a result are stored: ``x.json`` → ``x.run.json``."""
    return output.with_suffix(".run.json")
