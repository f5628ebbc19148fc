"""Turns questions into answers: the part of ``infer.py`` that other scripts use too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from malmat import llm
from malmat.cli import provenance
from malmat.generate import Sampling
from malmat.journal import Journal, journal_path
from malmat.korean import normalize
from malmat.prompts import chat_messages
from malmat.records import write_json

API_SAMPLING = {"temperature": 0.7, "max_tokens": 512}
"""The published sampling for API models."""

Ask = Callable[[list[llm.Request], Journal, str], dict[str, dict]]
"""Answers requests through a journal: what ``api_door`` and ``local_door`` give."""


def api_door(model: str, base_url: str | None, concurrency: int, max_cost: float | None) -> Ask:
    """Answers by an API model."""
    opened = llm.open_model(model, base_url=base_url)

    def ask(requests: list[llm.Request], journal: Journal, label: str) -> dict[str, dict]:
        return llm.complete(
            opened, requests, journal, concurrency=concurrency, max_cost=max_cost, label=label
        )

    return ask


def local_door(model: str, sampling: Sampling, batch_size: int, **options) -> Ask:
    """Answers by a model on this machine (``options``: adapter, quantization …)."""

    def ask(requests: list[llm.Request], journal: Journal, label: str) -> dict[str, dict]:
        return llm.complete_locally(
            model, requests, journal, sampling, batch_size=batch_size, label=label, **options
        )

    return ask


def answer_questions(
    questions: list[dict],
    prompts: dict[str, str],
    ask: Ask,
    output: Path,
    *,
    sampling: dict | None = None,
    settings: dict,
    label: str = "",
) -> list[dict]:
    """Answer questions and write ``output``.

    Args:
        questions: ``[{id, question, title?}]``.
        sampling: what an API takes; local doors have theirs.
        settings: stored beside the output, in ``<output>.run.json``.

    Returns:
        A row a question, in the order of the questions: ``id, question, answer,
        status, finish_reason, …``. ``answer`` is what the model wrote, whatever the
        status; conjoining jamo that a tokenizer made of ㅇㅇ are turned back.
    """
    requests = [
        llm.Request(
            id=question["id"],
            messages=chat_messages(prompts, question["question"]),
            sampling=sampling or {},
        )
        for question in questions
    ]
    with Journal(journal_path(output)) as journal:
        if journal.notice:
            print(f"  {journal.notice}")
        records = ask(requests, journal, label)
    rows = []
    for question in questions:
        record = records[f"{question['id']}#0"]
        row = {"id": question["id"]}
        if question.get("title"):
            row["title"] = question["title"]
        row |= {
            "question": question["question"],
            "answer": normalize(record["text"]),
            "status": record["status"],
            "finish_reason": record["finish_reason"],
            "output_tokens": record["usage"]["output"],
        }
        if record["error"]:
            row["error"] = record["error"]
        rows.append(row)
    write_json(output, rows)
    write_json(run_file(output), {"settings": settings, "provenance": provenance()})
    return rows


def run_file(output: Path) -> Path:
    """Where the settings of a result are stored: ``x.json`` → ``x.run.json``."""
    return output.with_suffix(".run.json")
