"""The training engine that every method shares: plan, train, and leave a record.

A method's script builds the model; ``fit`` does the rest. The examples come
rendered and masked from ``malmat.lm.chat``, as inference sees them, and no trainer's
own templating touches them.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import os
import re
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from malmat.cli import positive, provenance, relative, show_settings
from malmat.errors import InputError, StopRunning
from malmat.files import write_json, write_text
from malmat.lm import chat
from malmat.lm.load import (
    OWN_BASE,
    default_dtype,
    load_tokenizer,
    no_model,
    quiet,
    resolve,
    sharded,
    short_name,
)
from malmat.text.leaks import leak_gate
from malmat.train.card import loss_curve, model_card
from malmat.train.checkpoints import (
    COMPLETE_FILE,
    all_checkpoints,
    clear,
    is_whole,
    newest_checkpoint,
    seal,
)
from malmat.train.checks import check, plan, report
from malmat.train.examples import Rows
from malmat.train.licence import licence
from malmat.train.lora import is_adapter, write_merged
from malmat.train.memory import memory
from malmat.train.record import (
    ASIDE,
    RUN_FILE,
    batch_shape,
    data_identity,
    rank,
    read_run,
    root_of,
    run_identity,
    world_size,
)

STATE_FILE = "trainer_state.json"


def add_arguments(options: argparse.ArgumentParser, **defaults: Any) -> None:
    """The options that all methods share; the published flags keep their names.

    Defaults are KoCulture's published values for full fine-tuning, overridden by
    the method's own.
    """
    data = options.add_argument_group("model and data")
    data.add_argument("--model_name", required=True, help="hub id, folder, or 'embedded'")
    data.add_argument("--data_path", default="data/train.jsonl", help="training rows")
    data.add_argument("--eval_data_path", help="held-out rows, for the loss during training")
    data.add_argument("--eval_limit", type=positive, help="only the first N held-out rows")
    data.add_argument("--output_dir", help="default: checkpoints/<model>-<method>")
    data.add_argument("--max_seq_length", type=positive, default=512, help="tokens")
    data.add_argument("--allow_leaks", action="store_true", help="train on what is evaluated, too")
    data.add_argument("--trust_remote_code", action="store_true")
    hyper = options.add_argument_group("hyper-parameters")
    hyper.add_argument("--num_epochs", type=float, default=3)
    hyper.add_argument("--max_steps", type=int, default=-1, help="overrides --num_epochs")
    hyper.add_argument("--batch_size", type=positive, default=1, help="at once, at most")
    hyper.add_argument(
        "--gradient_accumulation_steps",
        type=positive,
        default=64,
        help="× --batch_size is the effective batch, on however many GPUs",
    )
    hyper.add_argument("--learning_rate", type=float, default=6e-5)
    hyper.add_argument("--lr_scheduler_type", default="linear")
    hyper.add_argument("--warmup_ratio", type=float, default=0.05, help="or steps, from 1 on")
    hyper.add_argument("--weight_decay", type=float, default=0.01)
    hyper.add_argument("--optim", default="adamw_8bit")
    hyper.add_argument("--seed", type=int, default=3407)
    hyper.add_argument(
        "--gradient_checkpointing",
        choices=("auto", "on", "off"),
        default="auto",
        help="less memory, a third more work; auto: where it would not fit without",
    )
    progress = options.add_argument_group("progress")
    progress.add_argument("--save_steps", type=positive, default=50)
    progress.add_argument(
        "--eval_steps",
        type=positive,
        help="with held-out rows: evaluate and save this often, and keep the best checkpoint "
        "(default: five times a run)",
    )
    progress.add_argument("--early_stopping_patience", type=positive, help="evaluations")
    progress.add_argument("--logging_steps", type=positive, default=5)
    progress.add_argument("--report_to", default="tensorboard", help="wandb, trackio, none")
    progress.add_argument(
        "--resume",
        choices=("auto", "never"),
        default="auto",
        help="auto: go on from the newest whole checkpoint; never: start anew",
    )
    progress.add_argument(
        "--overwrite", action="store_true", help="start anew where the folder holds another run"
    )
    progress.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    hub = options.add_argument_group("hub")
    hub.add_argument("--push_to_hub", metavar="OWNER/NAME", help="upload the result")
    hub.add_argument("--private", action=argparse.BooleanOptionalAction, default=True)
    options.set_defaults(**defaults)


def fit(
    args: argparse.Namespace,
    method: str,
    build: Callable[[argparse.Namespace], Any],
    *,
    quantization: str | None = None,
    preferences: bool = False,
    native_loss: bool = False,
) -> None:
    """Train, or go on, or find that it is done; write the model, run.json and the card.

    Args:
        method: ``full``, ``lora``, ``4bit``, ``8bit`` … for names and the record.
        build: makes the model to train (a PEFT model where the method has one);
            called only if there is something to train.
        quantization: of the base model, for the estimate of memory.
        preferences: rows are chosen and rejected answers (``trainers.PreferenceTrainer``).
        native_loss: see ``trainers.AnswerTrainer``.

    Raises:
        InputError: bad data, a template that cannot teach the model to stop, or an
            output folder that holds another run.
    """
    if rank() > 0:  # one process speaks and writes; the others train along
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
    output = Path(args.output_dir or f"checkpoints/{short_name(args.model_name)}-{method}")
    settings = {k: v for k, v in vars(args).items() if k not in ASIDE}
    settings |= {"method": method, "output_dir": relative(output)}
    show_settings(f"train ({method})", settings)
    _check(args, output, quantization)
    args.output_dir = str(output)
    identity = run_identity(args, method)
    state = read_run(output)
    anew = args.overwrite or args.resume == "never"
    same = state.get("identity") == identity and args.resume == "auto"
    if same and state.get("status") == "done":
        if is_whole(output):
            if getattr(args, "merge", False) and rank() == 0 and not (output / "merged").is_dir():
                _finish(args, output)
            print(f"already trained: {relative(output)}")
            if args.push_to_hub and rank() == 0:
                _push(args, output)
            return
        print(f"  {relative(output)} is not as the run left it: training goes on from checkpoints")
    elif not same and (state or all_checkpoints(output)) and not anew:
        raise InputError(
            "the folder holds a run with other settings or data",
            path=output,
            field="output_dir",
            fix="Choose another folder, or --overwrite to start anew in it.",
        )
    tokenizer = load_tokenizer(args.model_name, trust_remote_code=args.trust_remote_code)
    tokenizer.padding_side = "right"
    options = {"preferences": preferences}
    try:
        rows = Rows(args.data_path, tokenizer, args.max_seq_length, **options)
        held = None
        if args.eval_data_path:
            options["limit"] = args.eval_limit
            held = Rows(args.eval_data_path, tokenizer, args.max_seq_length, **options)
        facts = check(
            tokenizer,
            rows.texts(),
            rows.conversations,
            skipped=rows.skipped,
            batch_size=args.batch_size * (2 if preferences else 1),
        )
    except ValueError as error:
        raise InputError(str(error), field="model_name") from None
    leaks = leak_gate(
        rows.rows, held=held.rows if held else (), path=args.data_path, allow=args.allow_leaks
    )
    shape = batch_shape(args.batch_size, args.gradient_accumulation_steps, world_size())
    steps = plan(
        len(rows.examples),
        batch_size=shape[0],
        gradient_accumulation_steps=shape[1],
        num_epochs=args.num_epochs,
        max_steps=args.max_steps,
        world_size=world_size(),
    )
    checkpointing, estimate = _memory(args, facts, quantization)
    terms = licence(args.model_name)
    for line in report(facts, steps, estimate, terms):
        print(line)
    if leaks:
        print(f"leaks: {len(leaks)} training rows hold what the evaluation asks (--allow_leaks)")
    print(f"→ {relative(output)}", flush=True)
    if args.dry_run:
        return
    args.gradient_checkpointing = checkpointing
    start = {"identity": identity, "settings": settings}
    if rank() == 0:
        if not same:
            clear(output)
        write_json(output / RUN_FILE, {"status": "running", **start})
    record = _train(
        args, output, build, tokenizer, rows, held, shape, steps["steps"],
        preferences=preferences, native_loss=native_loss,
    )  # fmt: skip
    if rank() > 0:
        return
    record = {
        "status": "done",
        **start,
        "data": {**facts, "leaks": len(leaks), "source": data_identity(args.data_path)},
        "batch": {"device": shape[0], "accumulation": shape[1], "processes": world_size()},
        "memory_estimate_gib": estimate and estimate["total"],
        "licence": terms,
        "base": root_of(args.model_name),
        **record,
        "provenance": provenance(),
    }
    write_text(output / "README.md", model_card(record))
    loss_curve(record["losses"], output / "loss_curve.png")
    write_json(output / RUN_FILE, record)  # last: it says that the run is done
    if args.push_to_hub:
        _push(args, output)
    print(f"wrote {relative(output)}")


def _check(args: argparse.Namespace, output: Path, quantization: str | None) -> None:
    """Refuse, before anything is changed, what could only fail later."""
    quiet()
    from transformers import AutoConfig, SchedulerType
    from transformers.training_args import OptimizerNames

    for field, known in (
        ("lr_scheduler_type", [name.value for name in SchedulerType]),
        ("optim", [name.value for name in OptimizerNames]),
        ("report_to", ["tensorboard", "wandb", "trackio", "none"]),
    ):
        if getattr(args, field) not in known:
            raise InputError(
                f"unknown: '{getattr(args, field)}'", field=field, fix=f"One of {', '.join(known)}."
            )
    if args.report_to != "none" and not importlib.util.find_spec(args.report_to):
        raise InputError(
            f"{args.report_to} is not installed",
            field="report_to",
            fix=f"pip install {args.report_to}, or use none.",
        )
    if Path(args.model_name).is_dir() and output.resolve() == Path(args.model_name).resolve():
        raise InputError("is the model's own folder", field="output_dir", fix="Choose another.")
    if args.early_stopping_patience and not args.eval_data_path:
        raise InputError(
            "needs held-out rows", field="early_stopping_patience", fix="Give --eval_data_path."
        )
    merge = getattr(args, "merge", False)
    if merge:
        base = resolve(root_of(args.model_name))
        try:
            config = AutoConfig.from_pretrained(base, trust_remote_code=args.trust_remote_code)
        except (OSError, ValueError) as error:
            raise no_model(base, error) from None
        if getattr(config, "quantization_config", None):
            raise InputError(
                "the base model is quantized itself, and nothing can be merged into it",
                field="merge",
                fix="Train on the unquantized model (with --option_4bit), or leave it out.",
            )
    if not sharded():
        return
    for field, wrong, fix in (
        ("optim", "bit" in args.optim, "Use --optim adamw_torch_fused (DeepSpeed: adamw_torch)."),
        ("merge", merge, "Leave it out, and merge on one process afterwards."),
        ("option_4bit", quantization is not None, "Use DDP, or LoRA without quantization."),
        ("model_name", is_adapter(args.model_name), "Give the merged model (--merge)."),
    ):
        if wrong:
            raise InputError(
                "does not work where FSDP or DeepSpeed split the weights", field=field, fix=fix
            )


def _memory(
    args: argparse.Namespace, facts: dict, quantization: str | None
) -> tuple[bool, dict | None]:
    """Whether to checkpoint activations, and the estimate of memory that decided it."""
    lora_r = 0 if getattr(args, "option_full", False) else getattr(args, "lora_r", 0)

    def estimate(checkpointing: bool) -> dict | None:
        return memory(
            args.model_name,
            tokens=facts["worst_tokens"],
            labelled=facts["worst_labelled"],
            quantization=quantization,
            # A card without bfloat16 trains float32 weights (see the full fine-tuning script).
            dtype="float32" if not lora_r and default_dtype() == "float16" else None,
            lora_r=lora_r,
            lora_modules=getattr(args, "lora_modules", "all-linear"),
            optim=args.optim,
            gradient_checkpointing=checkpointing,
            shards=world_size() if sharded() else 1,
            trust_remote_code=args.trust_remote_code,
        )

    if args.gradient_checkpointing != "auto":
        return args.gradient_checkpointing == "on", estimate(args.gradient_checkpointing == "on")
    without = estimate(False)
    if without is None or without["fits"]:
        return False, without
    return True, estimate(True)


_DISK = re.compile(r"No space left|File too large|Disk quota|PytorchStreamWriter|unexpected pos")


def _train(
    args: argparse.Namespace,
    output: Path,
    build: Callable,
    tokenizer: Any,
    rows: Rows,
    held: Rows | None,
    shape: tuple[int, int],
    steps: int,
    *,
    preferences: bool,
    native_loss: bool,
) -> dict:
    import torch
    import transformers
    from accelerate import PartialState
    from transformers import EarlyStoppingCallback, TrainerState, TrainingArguments

    from malmat.train.trainers import AnswerTrainer, Checkpoints, PreferenceTrainer

    on_gpu = torch.cuda.is_available()
    bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    liger = on_gpu and not native_loss and importlib.util.find_spec("liger_kernel") is not None
    every = args.eval_steps or max(1, math.ceil(steps / 5))
    # Before the model is built: DeepSpeed's ZeRO-3 splits it while it is loaded.
    training = TrainingArguments(
        output_dir=str(output),
        num_train_epochs=args.num_epochs,
        max_steps=args.max_steps,
        per_device_train_batch_size=shape[0],
        per_device_eval_batch_size=max(shape[0], 8),
        gradient_accumulation_steps=shape[1],
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
        use_liger_kernel=liger,
        # The trainers take logits at labelled positions; Liger's fused loss would give none.
        liger_kernel_config={"fused_linear_cross_entropy": False},
        logging_steps=args.logging_steps,
        save_steps=every if held else args.save_steps,
        # The best, the newest, and the one that is being written and sealed.
        save_total_limit=3 if held else 2,
        eval_strategy="steps" if held else "no",
        eval_steps=every if held else None,
        load_best_model_at_end=held is not None,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        report_to=args.report_to,
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
    )
    with PartialState().main_process_first():  # which removes what is broken
        checkpoint = newest_checkpoint(output)
    if checkpoint:
        print(f"  going on from {checkpoint.name}", flush=True)
    elif held:
        training.eval_on_start = True  # where the base model stands
    transformers.set_seed(args.seed)

    before = TrainerState.load_from_json(str(checkpoint / STATE_FILE)) if checkpoint else None
    callbacks: list = [Checkpoints(output)]
    if args.early_stopping_patience:
        stopping = EarlyStoppingCallback(args.early_stopping_patience)
        if before:  # Trainer starts counting anew
            kept = before.stateful_callbacks[type(stopping).__name__]["attributes"]
            stopping.early_stopping_patience_counter = kept["early_stopping_patience_counter"]
        callbacks.append(stopping)
    model = build(args)
    # Saved along, so that other servers stop there, too.
    model.generation_config.eos_token_id = chat.terminators(tokenizer, model.generation_config)
    options = {"native_loss": native_loss} if not preferences else {"beta": args.beta}
    trainer = (PreferenceTrainer if preferences else AnswerTrainer)(
        model=model,
        args=training,
        examples=rows.examples,
        held=held and held.examples,
        tokenizer=tokenizer,
        callbacks=callbacks,
        **options,
    )
    # PEFT saves an adapted lm_head's base weights along, and says so at each checkpoint.
    warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True`")
    start, at = time.perf_counter(), before.global_step if before else 0
    try:
        if before and _is_finished(before, args.early_stopping_patience):
            # Only the end was cut off. Going on would train a step more.
            best = output / f"checkpoint-{before.best_global_step}" if held else checkpoint
            trainer.state = before
            trainer._load_from_checkpoint(str(best))
        else:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds, state = time.perf_counter() - start, trainer.state
        if not _is_finished(state, args.early_stopping_patience):
            raise RuntimeError(f"training ended at step {state.global_step} of {state.max_steps}")
        if held and not state.best_model_checkpoint:
            raise RuntimeError("the best checkpoint is gone: its weights cannot be saved")
        tokens = torch.tensor(float(trainer.tokens), device=training.device)
        tokens = trainer.accelerator.reduce(tokens).item()
        if rank() == 0:
            (output / COMPLETE_FILE).unlink(missing_ok=True)
        trainer.save_model(str(output))
        if rank() == 0:
            _finish(args, output)
    except Exception as error:
        if not _DISK.search(str(error)):
            raise
        kept = newest_checkpoint(output)
        raise StopRunning(
            f"the disk is full, or a limit on file sizes is reached ({str(error)[:120]}); "
            f"{kept.name + ' is kept' if kept else 'there is no checkpoint yet'}: "
            "make room and run the same command"
        ) from None
    done = state.global_step - at
    names = ("loss", "eval_loss", "learning_rate", "eval_reward_accuracy", "reward_accuracy")
    return {
        "losses": [
            {"step": row["step"], **{k: row[k] for k in names if k in row}}
            for row in state.log_history
            if "loss" in row or "eval_loss" in row
        ],
        "heldout_loss": state.best_metric if held else None,  # of the model that was kept
        "best_step": state.best_global_step if held else None,
        "stopped_early": state.global_step < state.max_steps,
        "resolved": {
            "device": torch.cuda.get_device_name() if on_gpu else "cpu",
            "precision": "bf16" if bf16 else "fp16" if on_gpu else "fp32",
            "gradient_checkpointing": args.gradient_checkpointing,
            "attention": getattr(model.config, "_attn_implementation", None),
            "packed": trainer.packed,
            "liger": liger,
        },
        "speed": {  # since the last start, evaluations and checkpoints included
            "from_step": at,
            "seconds": round(seconds, 1),
            "steps": done,
            "samples_per_s": round(done * shape[0] * shape[1] * world_size() / seconds, 3),
            "tokens_per_s": round(tokens / seconds, 1),
            "peak_memory_gib": _peak_memory(),
        },
    }


def _is_finished(state: Any, patience: int | None) -> bool:
    """Whether a run is at its last step, or has stopped early."""
    kept = state.stateful_callbacks.get("EarlyStoppingCallback", {}).get("attributes", {})
    counted = kept.get("early_stopping_patience_counter", 0)
    return state.global_step >= state.max_steps or bool(patience and counted >= patience)


def _finish(args: argparse.Namespace, output: Path) -> None:
    """Make the result whole: merged where asked for, then sealed.

    An adapter names its base as the user did, not by the folder it happened to lie in; no
    pickle is left that somebody would have to trust.
    """
    (output / "training_args.bin").unlink(missing_ok=True)
    config = output / "adapter_config.json"
    if config.exists():
        value = json.loads(config.read_text())
        own = (output / OWN_BASE).is_dir()
        value["base_model_name_or_path"] = OWN_BASE if own else args.model_name
        if isinstance(value.get("target_modules"), list):
            value["target_modules"].sort()  # PEFT writes a set, in another order at each run
        write_json(config, value)
        if getattr(args, "merge", False):
            write_merged(output, output / "merged", trust_remote_code=args.trust_remote_code)
    (output / "README.md").unlink(missing_ok=True)
    names = (folder.name for folder in all_checkpoints(output))
    seal(output, leave=(*names, RUN_FILE, "runs", "loss_curve.png"))


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
