"""Turns items into answers: the part of ``infer.py`` that other scripts use too."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from malmat.answer.prices import Meter
from malmat.answer.replies import without_thoughts
from malmat.answer.request import Engine, Request, asked_otherwise
from malmat.errors import InputError
from malmat.evaluate.items import OutOfRange, numbered, numbers, read_label
from malmat.evaluate.run_record import keep_where_nothing_came, measured, save_record
from malmat.evaluate.task import DEFAULT_OPTION, Item, Row, Task
from malmat.files import write_json
from malmat.journal import Journal, journal_path, key_of
from malmat.lm.chat import run_on
from malmat.prompts import fill
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


def build_requests(
    task: Task,
    prompts: dict[str, str],
    items: list[Item],
    *,
    how: str,
    sampling: dict | None,
    ask_blocked: bool = False,
    room: int = 0,
) -> list[Request]:
    """A request an item.

    Args:
        how: what is done with an item's choices: ``number`` puts them into words for a model
            that answers in text, ``label`` and ``text`` weigh them by logits.
        sampling: what an API is sent; a local engine holds its own.
        ask_blocked, room: as ``Request``.
    """
    requests = []
    for item in items:
        labels = labels_of(task, item, how)
        try:
            messages = task.render(prompts, item, [])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f"render fails on this item ({type(error).__name__}: {error})"
            raise InputError(reason, path=task.questions, field=item["id"]) from None
        if labels and labels != item["choices"]:
            shown = {"question": item["question"], "choices": numbered(item["choices"])}
            if task.option is None:
                shown["question"] = messages[-1]["content"]
            text = fill(prompts[task.option or DEFAULT_OPTION], **shown)
            messages = [*messages[:-1], {"role": "user", "content": text}]
        weighed = tuple(labels) if how != "number" else ()
        request = Request(item["id"], messages, sampling or {}, choices=weighed)
        requests.append(replace(request, ask_blocked=ask_blocked, room=room))
    return requests


def labels_of(task: Task, item: Item, how: str) -> list[str]:
    """What stands for each of an item's choices in an answer: numbers where the choices are
    texts that the wording does not show, else the choices themselves."""
    choices = item.get("choices") or []
    if how == "text" or (task.choose == "label" and task.option is None):
        return choices
    return numbers(choices)


def answer_items(
    task: Task,
    items: list[Item],
    requests: list[Request],
    prompts: dict[str, str],
    engine: Engine,
    output: Path,
    *,
    how: str,
    sampling: dict | None = None,
    meter: Meter | None = None,
    settings: dict,
    label: str = "",
) -> list[Row]:
    """Answer items and write ``output``.

    Args:
        requests: of ``build_requests`` with the same ``how`` and ``sampling``.
        meter: counts tokens and cost, where an answer has a price.
        settings: stored beside the output, in ``<output>.run.json``.

    Returns:
        A row an item, in the order of the items: the item's fields, then ``answer, status,
        finish_reason, output_tokens``, ``thoughts`` where there are some and, for choices,
        ``probabilities`` and what the engine measured. ``answer`` is what the model wrote,
        whatever the status, or the choice that it picked.
    """
    labels = {item["id"]: labels_of(task, item, how) for item in items}

    def accept(request: Request, text: str) -> None:
        with contextlib.suppress(OutOfRange):  # read, and no option: no reason to ask again
            if labels[request.id]:
                read_label(text, labels[request.id])

    prompt = task.render(prompts, {**items[0], "question": ""}, [])
    configuration = key_of(**engine.identity(), prompt=prompt, sampling=sampling)
    with Journal(journal_path(output)) as journal:
        if journal.notice:
            print(f"  {journal.notice}")
        with (
            measured(output, journal, configuration) as run,
            engine.answers(
                requests,
                journal,
                accept=accept if how == "number" else None,
                meter=meter,
                label=label,
                total=len(requests),
            ) as answered,
        ):
            records = list(answered)
    pairs = zip(items, records, strict=True)
    rows = [row_of(item, record, labels[item["id"]]) for item, record in pairs]
    keep_where_nothing_came(output, rows)
    write_json(output, rows)
    tokens = {side: sum(r["usage"][side] for r in records) for side in ("input", "output")}
    run |= {"tokens": tokens, "cost_usd": meter.cost_of(tokens) if meter else None}
    save_record(output, settings, run | asked_otherwise(records))
    return rows


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


WEIGHED = ("probabilities", "likelihoods", "mass", "margin", "entropy")
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
    row |= {n: record[n] for n in ("thoughts", "thinking_tokens", "error") if record.get(n)}
    return row
