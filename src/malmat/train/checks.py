"""What can be known before a GPU hour is spent: from settings, tokenizer and data alone.

    check_settings   no option is misspelt or contradicts another
    check            the examples teach what inference will ask for, and to stop
    plan             effective batch and optimizer steps

``report`` says what was found, with the estimate of memory and the base model's licence.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from malmat.errors import InputError
from malmat.lm import chat
from malmat.lm.device import check_driver, sharded
from malmat.lm.hub import no_model
from malmat.lm.load import quiet, resolve
from malmat.lm.remote import check_own_code
from malmat.messages import trained_turns
from malmat.train.labels import (
    ExampleFault,
    check_example,
    check_template,
    check_turns,
    count_labels,
    round_trip,
    spans,
)
from malmat.train.lora import is_adapter
from malmat.train.memory import PARTS
from malmat.train.optimizer import check_optimizer
from malmat.train.record import counted, root_of
from malmat.train.settings import TrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_ROUND_TRIPS = 500
"""Conversations rendered a second time; more would take longer than the rest together."""


def check_settings(settings: TrainSettings) -> None:
    """Refuse, before anything is changed, what could only fail later.

    Raises:
        InputError: naming the option.
    """
    quiet()
    check_driver()
    from transformers import SchedulerType

    for field, known in (
        ("lr_scheduler_type", [name.value for name in SchedulerType]),
        ("report_to", ["tensorboard", "wandb", "trackio", "none"]),
    ):
        value = getattr(settings, field)
        if value not in known:
            raise InputError(f"unknown: '{value}'", field=field, fix=f"One of {', '.join(known)}.")
    check_optimizer(settings)
    if settings.report_to != "none" and not importlib.util.find_spec(settings.report_to):
        raise InputError(
            f"{settings.report_to} is not installed",
            field="report_to",
            fix=f"pip install {settings.report_to}, or use none.",
        )
    source = Path(settings.model_name)
    if source.is_dir() and settings.output.resolve() == source.resolve():
        raise InputError("is the model's own folder", field="output_dir", fix="Choose another.")
    if settings.early_stopping_patience and not settings.eval_data_path:
        raise InputError(
            "needs held-out rows", field="early_stopping_patience", fix="Give --eval_data_path."
        )
    if settings.pack_by and settings.preferences:
        raise InputError("preference rows are not packed", field="pack_by", fix="Leave it out.")
    if settings.trust_remote_code:
        check_own_code(resolve(root_of(settings.model_name)))
    if settings.merge:
        _check_merge(settings)
    if sharded():
        _check_sharded(settings)


def check_vocabulary(settings: TrainSettings, tokenizer: Any, rows: Iterable[list[int]]) -> None:
    """Refuse tokens that the model has no embedding for, as far as its config tells.

    Args:
        rows: token ids of all texts, in training and held out.

    Raises:
        InputError: naming the token.
    """
    from transformers import AutoConfig

    source = resolve(root_of(settings.model_name))
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError):  # said when the model is loaded
        return
    size = getattr(config.get_text_config(), "vocab_size", None)
    largest = max(tokenizer.pad_token_id or 0, max(max(ids) for ids in rows))
    if size is not None and largest >= size:
        token = tokenizer.convert_ids_to_tokens(largest)
        raise InputError(
            f"token {largest} of the tokenizer ({token!r}) is beyond the model's {size} embeddings",
            path=settings.model_name,
            field="model_name",
            fix="Use the model's own tokenizer, or resize its embeddings (resize_token_embeddings) "
            "and save it.",
        )


def _check_merge(settings: TrainSettings) -> None:
    from transformers import AutoConfig

    base = resolve(root_of(settings.model_name))
    try:
        config = AutoConfig.from_pretrained(base, trust_remote_code=settings.trust_remote_code)
    except (OSError, ValueError) as error:
        raise no_model(base, error) from None
    method = getattr(config, "quantization_config", None)
    if method and "bitsandbytes" not in str(method):
        raise InputError(
            "the base model is quantized in a way that is not undone, so nothing merges into it",
            field="merge",
            fix="Train on the unquantized model (with --option_4bit), or leave it out.",
        )


def _check_sharded(settings: TrainSettings) -> None:
    bits, adapter = "bit" in settings.optim, is_adapter(settings.model_name)
    for field, wrong, fix in (
        ("optim", bits, "Use --optim adamw_torch_fused (DeepSpeed: adamw_torch)."),
        ("merge", settings.merge, "Leave it out, and merge on one process afterwards."),
        ("option_4bit", settings.quantization, "Use DDP, or LoRA without quantization."),
        ("model_name", adapter, "Give the merged model (--merge)."),
    ):
        if wrong:
            raise InputError(
                "does not work where FSDP or DeepSpeed split the weights", field=field, fix=fix
            )


def check(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[dict[str, list[int]]],
    conversations: Sequence[list[dict]] = (),
    *,
    pad_token_id: int | None = None,
    skipped: int = 0,
    shortened: int = 0,
    batch_size: int = 1,
) -> dict[str, Any]:
    """Check encoded examples, and the template they were rendered with.

    Args:
        examples: ``{input_ids, labels}`` rows of ``chat.encode_example``.
        conversations: the messages the examples come from, in their order; up to 500,
            spread over the data, are rendered again as inference does it.
        pad_token_id: default: the tokenizer's.
        skipped: rows left out as too long, to be counted.
        shortened: conversations that are trained up to the last answer that fits, likewise.
        batch_size: examples a device and step, for the greatest batch.

    Returns:
        ``examples, answers, skipped, shortened, tokens, labelled_tokens, labelled_share``,
        ``mean, median, p95, longest`` (tokens an example), ``worst_tokens, worst_labelled`` (of
        the batch with the longest examples), ``terminator, terminators`` (where generation stops),
        ``pad_is_terminator``, ``thinking`` (``off``, or None where the template knows none),
        ``date`` (that the template writes into a prompt, or None).

    Raises:
        ExampleFault: an example whose labels are not the answer with the turn's end, a
            terminator inside an answer, or one that the template renders differently at training
            and at inference.
        ValueError: as ``check_template``.
    """
    if not examples:
        raise ValueError("there is no example to train on")
    thinking = check_template(tokenizer)
    end, stops = chat.end_of_turn(tokenizer), set(chat.terminators(tokenizer))
    for number, example in enumerate(examples, 1):
        check_example(tokenizer, example, end, stops, number)
    _check_prompts(tokenizer, examples, conversations)
    stop = end[-1]
    pad = tokenizer.pad_token_id if pad_token_id is None else pad_token_id
    return {
        **_counts(examples, batch_size),
        "skipped": skipped,
        "shortened": shortened,
        "terminator": tokenizer.convert_ids_to_tokens(stop),
        "terminators": tokenizer.convert_ids_to_tokens(chat.terminators(tokenizer)),
        "pad_is_terminator": pad == stop,
        "thinking": thinking,
        "date": chat.date_in_prompt(tokenizer),
    }


def _check_prompts(
    tokenizer: PreTrainedTokenizerBase,
    examples: Sequence[dict[str, list[int]]],
    conversations: Sequence[list[dict]],
) -> None:
    """Render conversations again as inference does, and compare."""
    if not conversations:
        return
    if len(conversations) != len(examples):
        raise ValueError(f"{len(conversations)} conversations for {len(examples)} examples")
    for index in range(0, len(examples), math.ceil(len(examples) / _ROUND_TRIPS)):
        messages = conversations[index]
        check_turns(tokenizer, examples[index], messages, index + 1)
        try:
            for turn in trained_turns(messages):
                round_trip(tokenizer, messages[: turn + 1])
        except ValueError as error:  # the template has passed on a plain exchange
            raise ExampleFault(index + 1, str(error)) from None


def _counts(examples: Sequence[dict[str, list[int]]], batch_size: int) -> dict[str, Any]:
    """Numbers of examples and tokens, and the greatest batch."""
    lengths = sorted(len(example["input_ids"]) for example in examples)
    labelled = [count_labels(example) for example in examples]
    largest = sorted(range(len(examples)), key=lambda i: -len(examples[i]["input_ids"]))
    largest = largest[:batch_size]
    return {
        "examples": len(examples),
        "answers": sum(len(spans(example["labels"])) for example in examples),
        "tokens": sum(lengths),
        "labelled_tokens": sum(labelled),
        "labelled_share": round(sum(labelled) / sum(lengths), 4),
        "mean": round(sum(lengths) / len(lengths), 1),
        "median": _quantile(lengths, 0.5),
        "p95": _quantile(lengths, 0.95),
        "longest": lengths[-1],
        "worst_tokens": sum(len(examples[i]["input_ids"]) for i in largest),
        "worst_labelled": max(
            sum(labelled[i] for i in largest), sum(sorted(labelled)[-batch_size:])
        ),
    }


def _quantile(ordered: list[int], share: float) -> int:
    """Nearest rank: the smallest value that the share of the values does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def plan(
    examples: int,
    *,
    batch_size: int,
    gradient_accumulation_steps: int,
    num_epochs: float,
    max_steps: int = -1,
    world_size: int = 1,
) -> dict[str, int]:
    """``effective`` batch and optimizer ``steps``, counted as transformers' Trainer does.

    A last batch or step that is not full is a step of its own
    (``Trainer.set_initial_training_values``, transformers 5.17).
    """
    batches = math.ceil(examples / (batch_size * world_size))
    a_pass = max(1, math.ceil(batches / gradient_accumulation_steps))
    return {
        "effective": batch_size * gradient_accumulation_steps * world_size,
        "steps": max_steps if max_steps > 0 else math.ceil(num_epochs * a_pass),
    }


def report(
    facts: dict[str, Any],
    steps: dict[str, int] | None = None,
    estimate: dict[str, Any] | None = None,
    terms: dict[str, Any] | None = None,
) -> list[str]:
    """What ``check``, ``plan``, ``memory`` and ``licence`` found, a line each."""
    lines = [
        f"data: {counted(facts)} ({facts['skipped']:,} too long, left out), "
        f"{facts['tokens']:,} tokens; an example has {facts['mean']:g} on average, median "
        f"{facts['median']}, p95 {facts['p95']}, longest {facts['longest']}",
        f"loss: on the {facts['labelled_tokens']:,} tokens of answers and turn ends "
        f"({facts['labelled_share']:.1%}); a turn ends with {facts['terminator']}"
        + (" (also the padding, which carries no loss)" if facts["pad_is_terminator"] else "")
        + f", generation stops at {', '.join(facts['terminators'])}"
        + ("; thinking is off" if facts["thinking"] else ""),
    ]
    if facts["answers"] > facts["examples"] or facts["shortened"]:
        lines.append(
            f"turns: {facts['answers']:,} answers in {facts['examples']:,} examples"
            + (
                f"; {facts['shortened']:,} conversations end early, at the last that fits"
                if facts["shortened"]
                else ""
            )
        )
    if date := facts.get("date"):
        daily = ", so that prompts of another day differ from those trained on"
        lines.append(
            f"note: the chat template writes a date into every prompt: {date}"
            + (daily if date == "today's" else "")
        )
    if steps:
        unit = facts.get("unit", "examples")
        lines.append(f"plan: {steps['steps']:,} steps of {steps['effective']} {unit}")
        if "sequences" in steps:
            lines.append(
                f"packing: {facts['examples']:,} examples ride in {steps['sequences']:,} sequences "
                f"of {steps['tokens']:,} tokens; a step has {steps['a_step']} of them"
            )
    if estimate:
        lines += _memory_lines(estimate)
    elif steps:
        lines.append("memory: not estimated (the model's config needs its own code)")
    if terms:
        use = {True: "", False: "; NOT for commercial use", None: "; check its conditions"}
        known = terms["licence"]
        said = known or "unknown: check the model's page"
        lines.append(
            f"licence of {terms['model']}: {said}"
            + (f"{use[terms['commercial']]} (by {terms['source']})" if known else "")
        )
    return lines


def _memory_lines(estimate: dict[str, Any]) -> list[str]:
    parts = ", ".join(f"{name} {estimate[name]:.2f}" for name in PARTS)
    lines = [
        f"memory: about {estimate['total']:.1f} of {estimate['available']:.1f} GiB "
        f"({estimate['device']}): {parts}; {estimate['trained'] / 1e6:,.1f} of "
        f"{estimate['parameters'] / 1e6:,.1f} million parameters are trained"
    ]
    if estimate["offloaded"]:
        lines.append(f"memory of the machine beside it: {estimate['offloaded']:.1f} GiB")
    if not estimate["fits"]:
        lines.append(
            "warning: it will hardly fit. A smaller --batch_size with more "
            "--gradient_accumulation_steps, --gradient_checkpointing, a shorter "
            "--max_seq_length, LoRA, or --option_4bit need less"
        )
    return lines
