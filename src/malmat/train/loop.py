"""One training run from a built plan: trainer, checkpoints, the result folder made whole."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malmat.errors import StopRunning
from malmat.files import write_json
from malmat.lm.device import sharded
from malmat.lm.load import OWN_BASE, resolve
from malmat.train.checkpoints import COMPLETE_FILE, all_checkpoints, newest_checkpoint, seal
from malmat.train.clusters import Packed
from malmat.train.examples import Examples
from malmat.train.generation import prepare_generation
from malmat.train.lora import describe_base, merge
from malmat.train.record import RUN_FILE, json_of, losses_of, rank, reference_of, world_size
from malmat.train.settings import TrainSettings
from malmat.train.sharding import save_from_checkpoint, save_gathered

STATE_FILE = "trainer_state.json"

Build = Callable[[TrainSettings], tuple[Any, Any]]
"""Makes the model to train, and the PEFT config of an adapter to put on it, or None."""

_DISK = re.compile(r"No space left|File too large|Disk quota|PytorchStreamWriter|unexpected pos")


@dataclass
class Job:
    """What a run trains on, checked and planned.

    Attributes:
        settings: with ``gradient_checkpointing`` decided (``on`` or ``off``).
        shape: (examples a device, accumulation steps).
        steps: optimizer steps of the whole run.
        own_loss: the model computes its loss itself (``trainers.OwnLossTrainer``).
        packed: sequences that stand for the rows, as long as the model takes them.
    """

    settings: TrainSettings
    build: Build
    tokenizer: Any
    train: Examples
    held: Examples | None
    shape: tuple[int, int]
    steps: int
    own_loss: bool = False
    packed: Packed | None = None

    @property
    def batches(self) -> Job | Packed:
        """What says ``shape`` and ``steps``."""
        return self.packed or self

    @property
    def step_examples(self) -> float:
        """Examples of a step, of packed ones on average."""
        each = self.packed.rows_each if self.packed else 1
        return math.prod(self.batches.shape) * world_size() * each

    def planned(self) -> dict[str, int]:
        """``steps``, ``effective`` (examples a step) and, of packed ones, ``sequences``, their
        ``tokens`` and how many of them are in ``a_step``."""
        steps = {"steps": self.batches.steps, "effective": round(self.step_examples)}
        if self.packed is None:
            return steps
        return steps | {
            "sequences": len(self.packed.train),
            "tokens": sum(len(one["input_ids"]) for one in self.packed.train),
            "a_step": math.prod(self.packed.shape) * world_size(),
        }


def train(job: Job) -> dict:
    """Train, or go on from the newest whole checkpoint, and leave the result sealed.

    Returns:
        ``losses, heldout_loss, best_step, stopped_early, batch, resolved, speed`` for run.json.

    Raises:
        StopRunning: the disk is full; the newest whole checkpoint is kept.
    """
    import transformers
    from accelerate import PartialState
    from transformers import TrainerState

    settings = job.settings
    # Before the model is built: DeepSpeed's ZeRO-3 splits it while it is loaded.
    arguments = _arguments(job)
    with PartialState().main_process_first():  # which removes what is broken
        checkpoint = newest_checkpoint(settings.output)
    before = TrainerState.load_from_json(str(checkpoint / STATE_FILE)) if checkpoint else None
    if checkpoint:
        print(f"  going on from {checkpoint.name}", flush=True)
    elif job.held:
        arguments.eval_on_start = True  # where the base model stands
    transformers.set_seed(settings.seed)
    trainer = _trainer(job, arguments, before)
    if trainer.padded_because:
        print(f"  rows are padded, not packed: {trainer.padded_because}", flush=True)
    start = time.perf_counter()
    try:
        cut = _run(trainer, job, checkpoint, before)
        seconds = time.perf_counter() - start
        if rank() == 0:
            (settings.output / COMPLETE_FILE).unlink(missing_ok=True)
        _save(trainer, settings.output, cut)
        if rank() == 0:
            finish(settings)
    except Exception as error:
        if not _DISK.search(str(error)):
            raise
        kept = newest_checkpoint(settings.output)
        raise StopRunning(
            f"the disk is full, or a limit on file sizes is reached ({str(error)[:120]}); "
            f"{kept.name + ' is kept' if kept else 'there is no checkpoint yet'}: "
            "make room and run the same command"
        ) from None
    return _figures(trainer, job, before, seconds)


def _arguments(job: Job, eval_on_start: bool = False) -> Any:
    """TRL's config of the run; with the model's own loss that of transformers."""
    import torch
    from transformers import TrainingArguments
    from trl import DPOConfig, SFTConfig

    settings, held = job.settings, job.held is not None
    on_gpu = torch.cuda.is_available()
    bf16 = on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    every = settings.eval_steps or max(1, math.ceil(job.batches.steps / 5))
    size, accumulation = job.batches.shape
    kind: Any = SFTConfig
    own: dict[str, Any] = {"loss_type": "nll", "max_length": None}  # what is too long is out
    if settings.preferences:
        kind, own = DPOConfig, {"beta": settings.beta, "max_length": None}
    elif job.own_loss:
        kind, own = TrainingArguments, {}
    return kind(
        output_dir=settings.output_dir,
        num_train_epochs=settings.num_epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=size,
        per_device_eval_batch_size=size if job.packed else max(size, 8),
        gradient_accumulation_steps=accumulation,
        gradient_checkpointing=settings.gradient_checkpointing == "on",
        gradient_checkpointing_kwargs={"use_reentrant": False},
        learning_rate=settings.learning_rate,
        lr_scheduler_type=settings.lr_scheduler_type,
        warmup_steps=settings.warmup_ratio,
        weight_decay=settings.weight_decay,
        optim=settings.optim,
        optim_args=settings.optim_args,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=bf16,
        fp16=on_gpu and not bf16,
        use_cpu=not on_gpu,
        logging_steps=settings.logging_steps,
        include_num_input_tokens_seen="non_padding",
        save_steps=every if held else settings.save_steps,
        # The best, the newest, and the one that is being written and sealed.
        save_total_limit=3 if held else 2,
        eval_strategy="steps" if held else "no",
        eval_steps=every if held else None,
        eval_on_start=eval_on_start,
        load_best_model_at_end=held,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        report_to=settings.report_to,
        run_name=settings.output.name,
        project="malmat",  # of trackio; W&B's is WANDB_PROJECT
        disable_tqdm=not sys.stderr.isatty(),
        dataloader_pin_memory=on_gpu,
        ddp_find_unused_parameters=False,
        **own,
    )


def _trainer(job: Job, arguments: Any, before: Any) -> Any:
    """The trainer, on a model that is built here.

    Args:
        before: the state of the checkpoint to go on from, or None.
    """
    from transformers import EarlyStoppingCallback

    from malmat.train import trainers

    settings = job.settings
    callbacks: list = [trainers.Checkpoints(settings.output), trainers.Lines()]
    if settings.early_stopping_patience:
        stopping = EarlyStoppingCallback(settings.early_stopping_patience)
        if before:  # Trainer starts counting anew
            kept = before.stateful_callbacks[type(stopping).__name__]["attributes"]
            stopping.early_stopping_patience_counter = kept["early_stopping_patience_counter"]
        callbacks.append(stopping)
    model, adapter = job.build(settings)
    arguments = _packed_or_plain(job, model, arguments)
    prepare_generation(model, job.tokenizer)  # saved along, so that other servers stop there, too
    if uses_liger(job):
        from transformers.integrations.liger import apply_liger_kernel

        # Logits are taken at labelled positions; Liger's fused loss would give none. TRL's own
        # switch would ask for that loss.
        apply_liger_kernel(model, {"fused_linear_cross_entropy": False})
    kind: Any = trainers.OwnLossTrainer if job.own_loss else trainers.AnswerTrainer
    train, held = job.train.encoded, job.held and job.held.encoded
    own: dict[str, Any] = {"peft_config": adapter} if adapter else {}
    if job.packed:
        from malmat.train.cluster_batches import Clusters

        train, held = job.packed.train, job.packed.held
        own["data_collator"] = Clusters(job.tokenizer.pad_token_id, padding_free=True)
    if settings.preferences:
        kind = trainers.PreferenceTrainer
    trainer = kind(
        model=model,
        args=arguments,
        train_dataset=trainers.data_set(train),
        eval_dataset=trainers.data_set(held) if held else None,
        processing_class=job.tokenizer,
        callbacks=callbacks,
        **own,
    )
    if settings.preferences:
        from malmat.train.reference import BeginsAsReference

        trainer.add_callback(BeginsAsReference(trainer))
    return trainer


def _packed_or_plain(job: Job, model: Any, arguments: Any) -> Any:
    """Prepare the model for packed rows, or, where it does not take them, the job for plain ones;
    the arguments that go with it come back."""
    if not job.packed:
        return arguments
    from malmat.train.cluster_batches import prepare

    longest = max(job.packed.train, key=lambda one: len(one["input_ids"]))
    # Weights that are split among processes cannot be read before the trainer has the model.
    why = prepare(model, None if sharded() else longest, job.tokenizer.pad_token_id)
    if why is None:
        return arguments
    job.packed = None
    plan = job.planned()
    print(
        f"packing: none, since the model does not take it ({why}): plain rows, {plan['steps']:,} "
        f"steps of {plan['effective']} examples",
        flush=True,
    )
    return _arguments(job, arguments.eval_on_start)


def uses_liger(job: Job) -> bool:
    """Whether Liger's kernels are there and fit: a GPU, and a model that is not patched already."""
    import torch

    installed = importlib.util.find_spec("liger_kernel") is not None
    return installed and torch.cuda.is_available() and not job.own_loss


def _save(trainer: Any, output: Path, cut: Path | None) -> None:
    """Write the result; where weights are split, of a run that was ``cut`` from its checkpoint."""
    if not sharded():
        trainer.save_model(str(output))
    elif cut is None:
        save_gathered(trainer, output)
    elif rank() == 0:
        save_from_checkpoint(trainer, cut, output)


def _run(trainer: Any, job: Job, checkpoint: Path | None, before: Any) -> Path | None:
    """Train to the end, or load the result of a run of which only the end was cut off.

    Returns:
        The checkpoint that holds the result of such a run; None of one that was trained here.
    """
    cut = None
    patience = job.settings.early_stopping_patience
    # PEFT saves an adapted lm_head's base weights along, and says so at each checkpoint.
    warnings.filterwarnings("ignore", message="Setting `save_embedding_layers` to `True`")
    if before and _is_finished(before, patience):  # going on would train a step more
        best = job.settings.output / f"checkpoint-{before.best_global_step}"
        trainer.state = before
        cut = best if job.held else checkpoint
        if not sharded():  # else its weights are not split yet
            trainer._load_from_checkpoint(str(cut))
    else:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    state = trainer.state
    if not _is_finished(state, patience):
        raise RuntimeError(f"training ended at step {state.global_step} of {state.max_steps}")
    if job.held and not state.best_model_checkpoint:
        raise RuntimeError("the best checkpoint is gone: its weights cannot be saved")
    return cut


def _is_finished(state: Any, patience: int | None) -> bool:
    """Whether a run is at its last step, or has stopped early."""
    kept = state.stateful_callbacks.get("EarlyStoppingCallback", {}).get("attributes", {})
    counted = kept.get("early_stopping_patience_counter", 0)
    return state.global_step >= state.max_steps or bool(patience and counted >= patience)


def finish(settings: TrainSettings) -> None:
    """Make the result whole: merged where asked for, then sealed.

    An adapter names a base that PEFT finds, from whatever folder it is called: a hub id, or a
    folder from the root on. No pickle is left that somebody would have to trust.
    """
    output = settings.output
    (output / "training_args.bin").unlink(missing_ok=True)
    config = output / "adapter_config.json"
    if config.exists():
        value = json_of(config)
        own = (output / OWN_BASE).is_dir()
        base = output / OWN_BASE if own else settings.model_name
        value["base_model_name_or_path"] = resolve(str(base))
        if isinstance(value.get("target_modules"), list):
            value["target_modules"].sort()  # PEFT writes a set, in another order at each run
        write_json(config, value)
        describe_base(output)
        if settings.merge:
            merge(settings, output, output / "merged")
    (output / "README.md").unlink(missing_ok=True)
    names = (folder.name for folder in all_checkpoints(output))
    seal(output, leave=(*names, RUN_FILE, "runs", "loss_curve.png"))


def _figures(trainer: Any, job: Job, before: Any, seconds: float) -> dict:
    """What came of the run, for run.json."""
    import torch

    state, settings, args = trainer.state, job.settings, trainer.args
    at, read = (before.global_step, before.num_input_tokens_seen) if before else (0, 0)
    done, held = state.global_step - at, job.held is not None
    return {
        "losses": losses_of(state.log_history),
        "reference": reference_of(state.log_history),
        "heldout_loss": state.best_metric if held else None,  # of the model that was kept
        "best_step": state.best_global_step if held else None,
        "stopped_early": state.global_step < state.max_steps,
        "batch": {
            "device": args.per_device_train_batch_size,
            "accumulation": args.gradient_accumulation_steps,
            "processes": world_size(),
        },
        "resolved": {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "precision": "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32",
            "gradient_checkpointing": settings.gradient_checkpointing == "on",
            "attention": getattr(trainer.model.config, "_attn_implementation", None),
            "packed": trainer.packed,
            "rows": len(job.train.encoded),
            "sequences": len(trainer.train_dataset),
            "liger": uses_liger(job),
        },
        "speed": {  # since the last start, evaluations and checkpoints included
            "from_step": at,
            "seconds": round(seconds, 1),
            "steps": done,
            "samples_per_s": round(done * job.step_examples / seconds, 3),
            "tokens_per_s": round((state.num_input_tokens_seen - read) / seconds, 1),
            "peak_memory_gib": peak_memory(),
        },
    }


def peak_memory() -> float:
    """GiB: of the card where there is one, else of the process."""
    import resource

    import torch

    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**30, 2)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
