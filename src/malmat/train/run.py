"""A training run from its settings to its record: check, plan, train, describe.

A method's script builds the model; ``fit`` does the rest. The examples come
rendered and masked from ``malmat.lm.chat``, as inference sees them, and no trainer's
own templating touches them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from malmat.cli import provenance, relative, show_settings
from malmat.errors import InputError
from malmat.files import write_json, write_text
from malmat.journal import locked
from malmat.lm import chat
from malmat.lm.device import default_dtype, offloaded, sharded
from malmat.lm.load import BASE_FILE, load_tokenizer
from malmat.text.leaks import leak_gate
from malmat.train.card import loss_curve, model_card, read_card
from malmat.train.checkpoints import all_checkpoints, clear, is_whole
from malmat.train.checks import check, check_settings, check_vocabulary, plan, report
from malmat.train.clusters import pack
from malmat.train.examples import (
    Examples,
    is_bare,
    read_training_rows,
    read_wording,
    refuse_evaluation_only,
)
from malmat.train.hub import check_upload, upload
from malmat.train.labels import ExampleFault, check_template
from malmat.train.licence import licence
from malmat.train.loop import Build, Job, finish, train
from malmat.train.memory import memory
from malmat.train.optimizer import rounding_note
from malmat.train.record import (
    RUN_FILE,
    batch_shape,
    data_identity,
    json_of,
    rank,
    read_run,
    root_of,
    run_identity,
    world_size,
)
from malmat.train.settings import TrainSettings


@dataclass
class Data:
    """The rows of a run, and the wording that its bare questions get (None: it has none)."""

    train: list[dict]
    held: list[dict] | None
    wording: str | None


def fit(
    settings: TrainSettings,
    build: Build,
    *,
    items: Iterable[dict] = (),
    terms: Sequence[dict] = (),
    own_loss: bool = False,
) -> None:
    """Train, or go on, or find that it is done; write the model, run.json and the card.

    Args:
        build: makes the model to train and its adapter's config; called only if there is
            something to train.
        items, terms: what the result will be evaluated on (``leaks.leak_gate``).
        own_loss: the model computes its loss itself (``trainers.OwnLossTrainer``).

    Raises:
        InputError: bad data, a template that cannot teach the model to stop, or an
            output folder that holds another run.
    """
    if rank() > 0:  # one process speaks and writes; the others train along
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    show_settings(f"train ({settings.method})", settings.shown())
    check_settings(settings)
    card = read_card(settings.card)
    data = _read(settings)
    identity = run_identity(settings, data.wording)
    same = _is_same_run(settings, identity)
    if same and _is_done(settings):
        return
    if rank() == 0:
        check_upload(settings.push_to_hub, private=settings.private, dry_run=settings.dry_run)
    job, about = _prepare(settings, build, data, items, terms, own_loss)
    if settings.dry_run:
        return
    start = {"identity": identity, "settings": settings.shown(), "wording": data.wording}
    if rank() > 0:
        train(job)
        return
    with locked(settings.output):
        same = _is_same_run(settings, identity)  # another process may have been here since
        if same and _is_done(settings):
            return
        if not same:
            clear(settings.output)
        write_json(settings.output / RUN_FILE, {"status": "running", **start})
        came = {**about, **train(job), "card": card, "provenance": provenance()}
        _write(settings, {"status": "done", **start, **came})


def _read(settings: TrainSettings) -> Data:
    """The run's rows; the wording is read only where a row asks by a bare question."""
    preferences = settings.preferences
    refuse_evaluation_only(settings.data_path)
    train_rows = read_training_rows(settings.data_path, preferences=preferences)
    held = None
    if settings.eval_data_path:
        held = read_training_rows(
            settings.eval_data_path, preferences=preferences, limit=settings.eval_limit
        )
    wording = settings.wording
    if wording and not any(map(is_bare, [*train_rows, *(held or ())])):
        wording = None
    return Data(train_rows, held, read_wording(wording) if wording else None)


def _is_same_run(settings: TrainSettings, identity: str) -> bool:
    """Whether the output folder holds this run, to be gone on with.

    Raises:
        InputError: it holds another one, and nothing was said of starting anew.
    """
    state = read_run(settings.output)
    same = state.get("identity") == identity and settings.resume == "auto"
    anew = settings.overwrite or settings.resume == "never"
    # A run that failed before its first checkpoint has left nothing that could be lost.
    begun = state.get("status") == "done" or any(map(is_whole, all_checkpoints(settings.output)))
    if begun and not same and not anew:
        raise InputError(
            "the folder holds a run with other settings or data",
            path=settings.output,
            field="output_dir",
            fix="Choose another folder, or --overwrite to start anew in it.",
        )
    return same


def _is_done(settings: TrainSettings) -> bool:
    """Whether the run was finished before; what is asked for beside training is then done."""
    output = settings.output
    if read_run(output).get("status") != "done":
        return False
    if not is_whole(output):
        print(f"  {relative(output)} is not as the run left it: training goes on from checkpoints")
        return False
    if settings.merge and rank() == 0 and not (output / "merged").is_dir():
        finish(settings)
    print(f"already trained: {relative(output)}")
    if rank() == 0:
        upload(settings.push_to_hub, settings.output, private=settings.private)
    return True


def _prepare(
    settings: TrainSettings,
    build: Build,
    data: Data,
    items: Iterable[dict],
    terms: Sequence[dict],
    own_loss: bool,
) -> tuple[Job, dict[str, Any]]:
    """The run, checked and planned, and what its record says of that; it is printed, too."""
    job, facts = _encode(settings, build, data, own_loss)
    leaks = leak_gate(
        data.train,
        items,
        terms=terms,
        held=data.held or (),
        path=settings.data_path,
        allow=settings.allow_leaks,
    )
    job.settings, estimate = _with_checkpointing(settings, facts)
    use = licence(settings.model_name)
    for line in report(facts, job.planned(), estimate, use):
        print(line)
    if whole := sum(not is_bare(row) for row in data.train):
        print(
            f"wording: {whole:,} rows of messages stand as they are, without --wording's prefix, "
            f"which questions get at inference; {len(data.train) - whole:,} bare questions get it"
        )
    if note := rounding_note(settings):
        print(note)
    if leaks:
        print(f"leaks: {len(leaks)} training rows hold what the evaluation asks (--allow_leaks)")
    print(f"→ {relative(settings.output)}", flush=True)
    return job, {
        "data": {**facts, "leaks": len(leaks), "source": data_identity(settings.data_path)},
        "memory_estimate_gib": estimate and estimate["total"],
        "licence": use,
        "base": root_of(settings.model_name),
    }


def _encode(
    settings: TrainSettings, build: Build, data: Data, own_loss: bool
) -> tuple[Job, dict[str, Any]]:
    """What the run trains on, and the facts that ``check`` finds of it.

    Raises:
        InputError: no row is short enough, or the template cannot be trained on.
    """
    tokenizer = load_tokenizer(settings.model_name, trust_remote_code=settings.trust_remote_code)
    tokenizer.padding_side = "right"
    try:
        if chat.write_bos(tokenizer):
            bos = tokenizer.bos_token
            print(f"  the chat template leaves {bos} out: it is written into the copy")
        check_template(tokenizer)
    except ValueError as error:
        raise InputError(str(error), field="model_name") from None
    examples, facts = _encode_rows(settings, data.train, settings.data_path, data, tokenizer)
    held = None
    if data.held is not None:
        held, _ = _encode_rows(settings, data.held, settings.eval_data_path, data, tokenizer)
    facts["unit"] = "pairs" if settings.preferences else "examples"
    texts = [*examples.texts(), *(held.texts() if held else ())]
    check_vocabulary(settings, tokenizer, (text["input_ids"] for text in texts))
    shape = batch_shape(settings.batch_size, settings.gradient_accumulation_steps, world_size())
    steps = plan(
        len(examples.encoded),
        batch_size=shape[0],
        gradient_accumulation_steps=shape[1],
        num_epochs=settings.num_epochs,
        max_steps=settings.max_steps,
        world_size=world_size(),
    )["steps"]
    job = Job(settings, build, tokenizer, examples, held, shape, steps, own_loss)
    if settings.pack_by and own_loss:
        print("packing: none, since the model computes its loss itself: plain rows")
    elif settings.pack_by:
        job.packed = pack(settings, examples, held, world_size())
        facts |= job.packed.worst()
    return job, facts


def _encode_rows(
    settings: TrainSettings, rows: list[dict], path: str | None, data: Data, tokenizer: Any
) -> tuple[Examples, dict[str, Any]]:
    """The rows of a file as examples, and the facts that ``check`` finds of them.

    Raises:
        InputError: naming the file and the row.
    """
    examples = Examples(rows, tokenizer, settings.max_seq_length, wording=data.wording, path=path)
    try:
        facts = check(
            tokenizer,
            examples.texts(),
            examples.conversations,
            skipped=examples.skipped,
            shortened=examples.shortened,
            batch_size=settings.batch_size * (2 if settings.preferences else 1),
        )
    except ExampleFault as fault:
        number = examples.origins[fault.number - 1]
        raise examples.fault(number, fault.problem, fault.fix) from None
    return examples, facts


def _with_checkpointing(
    settings: TrainSettings, facts: dict[str, Any]
) -> tuple[TrainSettings, dict | None]:
    """The settings with ``gradient_checkpointing`` decided, and the estimate of memory that
    decided it."""
    lora = None if settings.option_full else settings.lora

    def estimate(checkpointing: bool) -> dict | None:
        return memory(
            settings.model_name,
            tokens=facts["worst_tokens"],
            labelled=facts["worst_labelled"],
            quantization=settings.quantization,
            # A card without bfloat16 trains float32 weights (see the full fine-tuning script).
            dtype="float32" if not lora and default_dtype() == "float16" else None,
            lora_r=lora.lora_r if lora else 0,
            lora_modules=lora.lora_modules if lora else "all-linear",
            optim=settings.optim,
            gradient_checkpointing=checkpointing,
            shards=world_size() if sharded() else None,
            offload=offloaded(),
            embeddings_cast=not settings.unsloth,
            trust_remote_code=settings.trust_remote_code,
        )

    if settings.gradient_checkpointing != "auto":
        return settings, estimate(settings.gradient_checkpointing == "on")
    found = estimate(False)
    fits = found is None or found["fits"]
    decided = replace(settings, gradient_checkpointing="off" if fits else "on")
    return decided, found if fits else estimate(True)


def _write(settings: TrainSettings, record: dict[str, Any]) -> None:
    """Write the card, the curve, and, last, run.json, which says that the run is done."""
    if stands_on := json_of(settings.output / BASE_FILE):
        record["merged_base"] = stands_on
    write_text(settings.output / "README.md", model_card(record))
    loss_curve(record["losses"], settings.output / "loss_curve.png")
    write_json(settings.output / RUN_FILE, record)
    print(f"wrote {relative(settings.output)}")
    upload(settings.push_to_hub, settings.output, private=settings.private)
