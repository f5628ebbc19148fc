"""The training engine that every method shares: data, preflight, checkpoints, provenance.

A method's script builds the model; ``fit`` does the rest. The examples come
rendered and masked from ``malmat.chat``, as inference sees them, and no trainer's
own templating touches them.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from malmat import chat
from malmat.cli import positive, provenance, relative, show_settings
from malmat.models import fingerprint, load_tokenizer, short_name
from malmat.prompts import chat_messages, load_prompts
from malmat.records import InputError, digest, file_digest, read_pairs, write_json, write_text

COMPLETE_FILE = "COMPLETE.json"
RUN_FILE = "run.json"


def add_arguments(options: argparse.ArgumentParser, **defaults: Any) -> None:
    """The options that all methods share; the published flags keep their names.

    Defaults are KoCulture's published values for full fine-tuning, overridden by
    the method's own.
    """
    data = options.add_argument_group("model and data")
    data.add_argument("--model_name", required=True, help="hub id, folder, or 'embedded'")
    data.add_argument("--data_path", default="data/train.jsonl", help="training pairs")
    data.add_argument("--eval_data_path", help="held-out pairs, for the loss during training")
    data.add_argument("--eval_limit", type=positive, help="only the first N held-out pairs")
    data.add_argument("--output_dir", help="default: checkpoints/<model>-<method>")
    data.add_argument("--max_seq_length", type=positive, default=512)
    data.add_argument("--trust_remote_code", action="store_true")
    hyper = options.add_argument_group("hyper-parameters")
    hyper.add_argument("--num_epochs", type=float, default=3)
    hyper.add_argument("--max_steps", type=int, default=-1, help="overrides --num_epochs")
    hyper.add_argument("--batch_size", type=positive, default=1, help="a device")
    hyper.add_argument("--gradient_accumulation_steps", type=positive, default=64)
    hyper.add_argument("--learning_rate", type=float, default=6e-5)
    hyper.add_argument("--lr_scheduler_type", default="linear")
    hyper.add_argument("--warmup_ratio", type=float, default=0.05)
    hyper.add_argument("--weight_decay", type=float, default=0.01)
    hyper.add_argument("--optim", default="adamw_8bit")
    hyper.add_argument("--seed", type=int, default=3407)
    hyper.add_argument("--gradient_checkpointing", action="store_true")
    progress = options.add_argument_group("progress")
    progress.add_argument("--save_steps", type=positive, default=50)
    progress.add_argument("--eval_steps", type=positive, help="default: an evaluation at the end")
    progress.add_argument("--logging_steps", type=positive, default=5)
    progress.add_argument("--report_to", default="tensorboard", help="tensorboard, wandb, none")
    progress.add_argument(
        "--overwrite", action="store_true", help="start anew where the folder holds another run"
    )
    progress.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    hub = options.add_argument_group("hub")
    hub.add_argument("--push_to_hub", metavar="OWNER/NAME", help="upload the result")
    hub.add_argument("--private", action=argparse.BooleanOptionalAction, default=True)
    options.set_defaults(**defaults)


def encode_pairs(path: str, tokenizer: Any, max_length: int, limit: int | None = None) -> tuple:
    """Pairs as training examples.

    Returns:
        (examples, skipped): ``{input_ids, labels}`` rows, and how many were left out
        because they are longer than ``max_length`` tokens. A cut example would end
        without its terminator, so none is cut.
    """
    prompts = load_prompts()
    pairs = read_pairs(path)[:limit]
    examples = []
    for pair in pairs:
        messages = pair.get("messages") or [
            *chat_messages(prompts, pair["question"]),
            {"role": "assistant", "content": pair["answer"]},
        ]
        example = chat.encode_example(tokenizer, messages)
        if len(example["input_ids"]) <= max_length:
            examples.append(example)
    if not examples:
        raise InputError(
            f"no example is {max_length} tokens or shorter",
            path=path,
            field="max_seq_length",
            fix="Raise --max_seq_length.",
        )
    return examples, len(pairs) - len(examples)


# ------------------------------------------------------------------------ checkpoints


def seal(folder: Path) -> None:
    """Mark a folder as whole: fsync its files, then write their names and sizes last."""
    sizes = {}
    for file in sorted(folder.iterdir()):
        if file.is_file() and file.name not in (COMPLETE_FILE, RUN_FILE):
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            sizes[str(file.relative_to(folder))] = file.stat().st_size
    write_json(folder / COMPLETE_FILE, sizes)


def is_whole(folder: Path) -> bool:
    """Whether every file that the seal names is there with its size."""
    try:
        sizes = json.loads((folder / COMPLETE_FILE).read_text())
    except (OSError, ValueError):
        return False
    return all(
        (folder / name).is_file() and (folder / name).stat().st_size == size
        for name, size in sizes.items()
    )


def newest_checkpoint(output: Path) -> Path | None:
    """The newest whole ``checkpoint-N``; broken ones (a kill or full disk) are removed."""
    found = {}
    for folder in output.glob("checkpoint-*"):
        if match := re.fullmatch(r"checkpoint-(\d+)", folder.name):
            if is_whole(folder):
                found[int(match.group(1))] = folder
            else:
                print(f"  {relative(folder)} was not written to its end: removed")
                shutil.rmtree(folder)
    return found[max(found)] if found else None


# -------------------------------------------------------------------------------- fit


def fit(
    args: argparse.Namespace,
    method: str,
    build: Callable[[argparse.Namespace], Any],
    *,
    native_loss: bool = False,
) -> None:
    """Train, or go on, or find that it is done; write the model, run.json and the card.

    Args:
        method: ``full``, ``lora``, ``4bit``, ``8bit`` … for names and the record.
        build: makes the model to train (a PEFT model where the method has one);
            called only if there is something to train.
        native_loss: see ``sft.AnswerTrainer``.

    Raises:
        InputError: bad data, a template that cannot teach the model to stop, or an
            output folder that holds another run.
    """
    output = Path(args.output_dir or f"checkpoints/{short_name(args.model_name)}-{method}")
    settings = {k: v for k, v in vars(args).items() if k not in ("dry_run", "overwrite")}
    settings |= {"method": method, "output_dir": relative(output)}
    show_settings(f"train ({method})", settings)
    identity = run_identity(args, method)
    state = read_run(output)
    same = state.get("identity") == identity
    if same and state.get("status") == "done":
        if is_whole(output):
            print(f"already trained: {relative(output)}")
            return
        print(f"  {relative(output)} is not as the run left it: training goes on from checkpoints")
    elif not same and (state or any(output.glob("checkpoint-*"))) and not args.overwrite:
        raise InputError(
            "the folder holds a run with other settings or data",
            path=output,
            field="output_dir",
            fix="Choose another folder, or --overwrite to start anew in it.",
        )
    tokenizer = load_tokenizer(args.model_name, trust_remote_code=args.trust_remote_code)
    tokenizer.padding_side = "right"
    try:
        examples, skipped = encode_pairs(args.data_path, tokenizer, args.max_seq_length)
        facts = chat.preflight(tokenizer, examples, tokenizer.pad_token_id)
        held = None
        if args.eval_data_path:
            held, _ = encode_pairs(
                args.eval_data_path, tokenizer, args.max_seq_length, args.eval_limit
            )
    except ValueError as error:
        raise InputError(str(error), field="model_name") from None
    effective = args.batch_size * args.gradient_accumulation_steps * world_size()
    steps = args.max_steps
    if steps <= 0:
        steps = max(1, round(len(examples) / effective * args.num_epochs))
    print(
        f"plan: {facts['examples']} examples ({skipped} longer than {args.max_seq_length} tokens "
        f"left out), {facts['tokens']:,} tokens of which {facts['labelled_tokens']:,} carry loss, "
        f"longest {facts['longest']}, turn ends with {facts['terminator']}; "
        f"{steps} steps of {effective} → {relative(output)}"
    )
    if args.dry_run:
        return
    if not same:
        for folder in output.glob("checkpoint-*"):
            shutil.rmtree(folder)
    write_json(output / RUN_FILE, {"status": "running", "identity": identity, "settings": settings})
    record = _train(args, output, build, tokenizer, examples, held, native_loss)
    record = {
        "status": "done",
        "identity": identity,
        "settings": settings,
        "data": {**facts, "skipped": skipped, "sha256": file_digest_of(args.data_path)},
        **record,
        "provenance": provenance(),
    }
    write_json(output / RUN_FILE, record)
    write_text(output / "README.md", model_card(record))
    if args.push_to_hub:
        _push(args, output)
    print(f"wrote {relative(output)}")


def run_identity(args: argparse.Namespace, method: str) -> str:
    """What determines the trained weights; a run resumes only where this is the same."""
    # Where the result goes and how often it is looked at does not change the weights; model and
    # data are named by their content below.
    aside = {"output_dir", "save_steps", "logging_steps", "report_to", "overwrite", "dry_run"}
    aside |= {"push_to_hub", "private", "model_name", "data_path", "eval_data_path"}
    knobs = {name: value for name, value in vars(args).items() if name not in aside}
    return digest(
        {
            "method": method,
            "model": fingerprint(args.model_name),
            "data": file_digest_of(args.data_path),
            "eval_data": args.eval_data_path and file_digest_of(args.eval_data_path),
            "prompt": load_prompts()["CHAT"],
            "world_size": world_size(),
            **knobs,
        }
    )


def file_digest_of(path: str) -> str:
    """SHA-256 of a data file; a hub data set goes by its name."""
    return file_digest(path) if Path(path).is_file() else path


def read_run(output: Path) -> dict:
    """The folder's run.json, empty where there is none that can be read."""
    try:
        return json.loads((output / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def world_size() -> int:
    """Processes of the launcher (Accelerate, torchrun), 1 without one."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _train(
    args: argparse.Namespace,
    output: Path,
    build: Callable,
    tokenizer: Any,
    examples: list[dict],
    held: list[dict] | None,
    native_loss: bool,
) -> dict:
    import torch
    import transformers
    from transformers import TrainerCallback, TrainingArguments

    from malmat.sft import AnswerTrainer

    transformers.set_seed(args.seed)
    on_gpu = torch.cuda.is_available()
    bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)

    class SealCheckpoint(TrainerCallback):
        def on_save(self, arguments, state, control, **kwargs):
            if state.is_world_process_zero:
                seal(output / f"checkpoint-{state.global_step}")

    trainer = AnswerTrainer(
        model=build(args),
        examples=examples,
        held=held,
        tokenizer=tokenizer,
        native_loss=native_loss,
        callbacks=[SealCheckpoint()],
        args=TrainingArguments(
            output_dir=str(output),
            num_train_epochs=args.num_epochs,
            max_steps=args.max_steps,
            per_device_train_batch_size=args.batch_size,
            per_device_eval_batch_size=max(args.batch_size, 8),
            gradient_accumulation_steps=args.gradient_accumulation_steps,
            gradient_checkpointing=args.gradient_checkpointing,
            gradient_checkpointing_kwargs={"use_reentrant": False},
            learning_rate=args.learning_rate,
            lr_scheduler_type=args.lr_scheduler_type,
            warmup_steps=args.warmup_ratio,
            weight_decay=args.weight_decay,
            optim=args.optim,
            seed=args.seed,
            data_seed=args.seed,
            bf16=bf16,
            fp16=on_gpu and not bf16,
            use_cpu=not on_gpu,
            logging_steps=args.logging_steps,
            save_steps=args.save_steps,
            save_total_limit=2,
            eval_strategy="steps" if held and args.eval_steps else "no",
            eval_steps=args.eval_steps,
            report_to=args.report_to,
            dataloader_pin_memory=on_gpu,
        ),
    )
    checkpoint = newest_checkpoint(output)
    if checkpoint:
        print(f"  going on from {checkpoint.name}", flush=True)
    start = time.perf_counter()
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    seconds = time.perf_counter() - start
    state = trainer.state
    if state.global_step < state.max_steps:
        raise RuntimeError(f"training ended at step {state.global_step} of {state.max_steps}")
    held_loss = trainer.evaluate()["eval_loss"] if held else None
    (output / COMPLETE_FILE).unlink(missing_ok=True)
    trainer.save_model(str(output))
    _finish(output, args.model_name)
    if getattr(args, "merge", False):
        merged = trainer.accelerator.unwrap_model(trainer.model).merge_and_unload()
        merged.save_pretrained(output / "merged")
        tokenizer.save_pretrained(output / "merged")
    steps_done = state.global_step - (int(checkpoint.name.split("-")[1]) if checkpoint else 0)
    samples = steps_done * args.batch_size * args.gradient_accumulation_steps * world_size()
    return {
        "losses": [
            {"step": row["step"], **{k: row[k] for k in ("loss", "eval_loss") if k in row}}
            for row in state.log_history
            if "loss" in row or "eval_loss" in row
        ],
        "heldout_loss": held_loss,
        "speed": {
            "seconds": round(seconds, 1),
            "steps": steps_done,
            "samples_per_s": round(samples / seconds, 3) if steps_done else None,
            "peak_memory_gib": _peak_memory(),
        },
    }


def _finish(output: Path, model_name: str) -> None:
    """Seal the model's own files. An adapter names its base as the user did, not by the folder it
    happened to lie in; no pickle is left that somebody would have to trust."""
    (output / "training_args.bin").unlink(missing_ok=True)
    config = output / "adapter_config.json"
    if config.exists():
        value = json.loads(config.read_text()) | {"base_model_name_or_path": model_name}
        if isinstance(value.get("target_modules"), list):
            value["target_modules"].sort()  # PEFT writes a set, in another order at each run
        write_json(config, value)
    (output / "README.md").unlink(missing_ok=True)
    seal(output)


def _peak_memory() -> float:
    """GiB: of the card where there is one, else of the process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)


def _push(args: argparse.Namespace, output: Path) -> None:
    from huggingface_hub import HfApi

    api = HfApi()
    api.create_repo(args.push_to_hub, private=args.private, exist_ok=True)
    api.upload_folder(
        repo_id=args.push_to_hub, folder_path=output, ignore_patterns=["checkpoint-*", "runs/*"]
    )
    print(f"uploaded {args.push_to_hub} ({'private' if args.private else 'public'})")


def model_card(record: dict) -> str:
    """A model card filled from the run (sections as on published KoCulture cards)."""
    settings, data = record["settings"], record["data"]
    held = record["heldout_loss"]
    rows = "\n".join(
        f"| {name} | {settings[name]} |"
        for name in (
            "method",
            "num_epochs",
            "max_steps",
            "batch_size",
            "gradient_accumulation_steps",
            "learning_rate",
            "lr_scheduler_type",
            "warmup_ratio",
            "weight_decay",
            "optim",
            "max_seq_length",
            "seed",
        )
    )
    return f"""---
base_model: {settings["model_name"]}
language: ko
library_name: {"peft" if settings["method"] != "full" else "transformers"}
tags: [korean, slang, malmat]
---

# {short_name(settings["model_name"])}, tuned on Korean slang ({settings["method"]})

A fine-tune of `{settings["model_name"]}` on single-turn Korean chat with slang and memes, made with
malmat.

## Use

Answers everyday messages in Korean chat style. Not for factual, medical or legal advice. The base
model's licence applies to the weights.

## Bias, risks, limitations

The data does not cover all slang, and slang ages: a term can change its meaning or go out of use.
Answers can be wrong or out of place, above all for terms that were not trained on.

## Training

{data["examples"]} examples, {data["tokens"]:,} tokens, loss on the {data["labelled_tokens"]:,}
tokens of answers and turn ends. Data SHA-256 `{data["sha256"][:16]}`.

| setting | value |
|---|---|
{rows}

Loss on held-out terms at the end: {f"{held:.4f}" if held is not None else "not measured"}.
"""
