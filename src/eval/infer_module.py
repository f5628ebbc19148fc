"""Turns items into answers: the part of ``infer.py`` that other scripts use too."""

from __future__ import annotations

import contextlib
from itertools import islice
from pathlib import Path

from infer_choices import Asking
from malmat.answer.prices import Meter
from malmat.answer.replies import without_thoughts
from malmat.answer.request import Engine, Request, asked_otherwise
from malmat.errors import InputError
from malmat.evaluate.confidence import choice_figures
from malmat.evaluate.items import OutOfRange, read_label
from malmat.evaluate.run_record import keep_where_nothing_came, measured, save_record
from malmat.evaluate.task import Item, Row
from malmat.files import write_json
from malmat.journal import Journal, journal_path, key_of
from malmat.lm.chat import run_on
from malmat.text.korean import normalize

API_SAMPLING = {"temperature": 0.7, "max_tokens": 512}
"""The published sampling for API models."""


def api_sampling(given: dict, max_tokens: int, *, own_server: bool) -> dict:
    """Settings as the OpenAI protocol takes them.

    Args:
        given: temperature, top_p, seed, thinking_budget (Gemini); for servers of one's own also
            top_k, min_p and repetition_penalty, which vLLM, SGLang and others know beyond the
            protocol.

    Raises:
        InputError: one of those for an API that is not one's own server.
    """
    beyond = {n: given[n] for n in ("top_k", "min_p", "repetition_penalty") if n in given}
    if beyond and not own_server:
        raise InputError("is not for this API", field=next(iter(beyond)), fix="Leave it out.")
    sampling = {k: v for k, v in given.items() if k not in beyond} | {"max_tokens": max_tokens}
    return sampling | ({"extra_body": beyond} if beyond else {})


def answer_items(
    asking: Asking,
    items: list[Item],
    requests: list[list[Request]],
    engine: Engine,
    output: Path,
    *,
    sampling: dict | None = None,
    meter: Meter | None = None,
    settings: dict,
    label: str = "",
) -> list[Row]:
    """Answer items and write ``output``.

    Args:
        requests: of each item, by ``asking`` with the same ``sampling``.
        meter: counts tokens and cost, where an answer has a price.
        settings: stored beside the output, in ``<output>.run.json``.

    Returns:
        A row an item, in the order of the items: the item's fields, then ``answer, status,
        finish_reason, output_tokens``, ``thoughts`` where there are some and, for choices,
        ``probabilities`` and what the engine measured. ``answer`` is what the model wrote,
        whatever the status, or the choice that it picked.
    """
    labels = {item["id"]: asking.labels(item) for item in items}
    every = [request for some in requests for request in some]

    def accept(request: Request, text: str) -> None:
        with contextlib.suppress(OutOfRange):  # read, and no option: no reason to ask again
            if labels[request.id]:
                read_label(text, labels[request.id])

    prompt = asking.task.render(asking.prompts, {**items[0], "question": ""}, [])
    permute = {"permute": asking.permute} if asking.permute else {}
    configuration = key_of(**engine.identity(), prompt=prompt, sampling=sampling, **permute)
    with Journal(journal_path(output)) as journal:
        if journal.notice:
            print(f"  {journal.notice}")
        with (
            measured(output, journal, configuration) as run,
            engine.answers(
                every,
                journal,
                accept=accept if asking.how == "number" else None,
                meter=meter,
                label=label,
                total=len(every),
            ) as answered,
        ):
            records = list(answered)
    parts = iter(records)
    rows = [
        row_of(item, asking.record(item, list(islice(parts, len(some)))), labels[item["id"]])
        for item, some in zip(items, requests, strict=True)
    ]
    keep_where_nothing_came(output, rows)
    write_json(output, rows)
    save_record(output, settings, run | figures_of(records, rows, meter))
    return rows


def figures_of(records: list[dict], rows: list[Row], meter: Meter | None) -> dict:
    """What a run's record says of its answers: tokens, cost, choices, what was asked otherwise."""
    tokens = {side: sum(r["usage"][side] for r in records) for side in ("input", "output")}
    figures = {"tokens": tokens, "cost_usd": meter.cost_of(tokens) if meter else None}
    if choices := choice_figures(rows):
        figures["choices"] = choices
    return figures | asked_otherwise(records)


def cut_in_thought(rows: list[Row]) -> str | None:
    """A hint where answers were cut before they began, or while their model thought."""
    cut = [row for row in rows if row["status"] == "truncated"]
    thought = [r for r in cut if not r["answer"] or r.get("thoughts") or r.get("thinking_tokens")]
    if not thought:
        return None
    return (
        f"{len(thought)} of the {len(cut)} cut answers spent their tokens on thinking: give more "
        "(--thinking_budget for an API model, --max_new_tokens), or switch thinking off "
        "(--thinking_budget 0 for Gemini, --extra_body for servers)"
    )


WEIGHED = ("probabilities", "log_probabilities", "likelihoods", "mass", "margin", "entropy")
WEIGHED += ("scored", "picks", "orders", "cut")
"""What an engine measures of choices, beside the one that it picks."""


def row_of(item: Item, record: dict, labels: list[str]) -> Row:
    """An item with its answer.

    Conjoining jamo that a tokenizer made of ㅇㅇ are turned back, and an answer that runs on into
    another turn is ``leaked``, whoever wrote it.
    """
    if not labels:  # a record of an older run holds its thoughts in the text
        record = without_thoughts(record)
    text, status = record["text"], record["status"]
    if not labels:
        text = normalize(text).replace("\0", "")  # which no reader takes for text
        if status == "ok" and run_on(text) is not None:
            status = "leaked"
    elif status == "ok":
        try:
            label = text if text in labels else read_label(text, labels)
            text = item["choices"][labels.index(label)]
        except OutOfRange:
            status = "out_of_range"
    row: Row = {
        **item,
        "answer": text,
        "status": status,
        "finish_reason": record["finish_reason"],
        # Of the answer alone, where more than one reply was paid for.
        "output_tokens": record.get("output_tokens", record["usage"]["output"]),
    }
    row |= {name: record[name] for name in WEIGHED if record.get(name) is not None}
    if "picks" in row:
        chosen = dict(zip(labels, item["choices"], strict=True))
        row["picks"] = {name: chosen[text] for name, text in row["picks"].items()}
    row |= {n: record[n] for n in ("thoughts", "thinking_tokens", "error") if record.get(n)}
    return row
