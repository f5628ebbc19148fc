"""The settings of a training run: its options, and the object that the library takes."""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from malmat.cli import positive, relative
from malmat.lm.load import short_name
from malmat.train.optimizer import ADAM_8BIT, ROUNDED, default_optimizer

ASIDE = ("dry_run", "resume", "overwrite")
"""Options that say what to do now, not what the run is."""


@dataclass(frozen=True)
class LoraSettings:
    """A low-rank adapter, and the weights it stands on (``lora.add_arguments``)."""

    lora_r: int
    lora_alpha: int
    lora_dropout: float
    lora_modules: list[str]
    use_rslora: bool
    option_4bit: bool
    option_8bit: bool
    merge: bool
    use_dora: bool | None = None
    """None: not asked for, as in all runs before there was the option."""

    @property
    def quantization(self) -> str | None:
        """Of the base model: ``4bit``, ``8bit`` or None."""
        return quantization_of(self)


@dataclass(frozen=True)
class TrainSettings:
    """Everything that a run was asked for; ``add_arguments`` has the meanings and defaults."""

    method: str
    """``full``, ``lora``, ``4bit`` … for names and the record."""

    model_name: str
    data_path: str
    eval_data_path: str | None
    eval_limit: int | None
    output_dir: str
    max_seq_length: int
    wording: str | None
    tasks: list[str]
    allow_leaks: bool
    trust_remote_code: bool
    num_epochs: float
    max_steps: int
    batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    lr_scheduler_type: str
    warmup_ratio: float
    weight_decay: float
    optim: str
    optim_args: str | None
    """More of the optimizer's own arguments, as transformers takes them: ``name=value,…``."""

    seed: int
    gradient_checkpointing: str
    save_steps: int
    eval_steps: int | None
    early_stopping_patience: int | None
    logging_steps: int
    report_to: str
    resume: str
    overwrite: bool
    dry_run: bool
    card: str | None
    push_to_hub: str | None
    private: bool
    lora: LoraSettings | None = None
    option_full: bool | None = None
    """With a LoRA method's options, but without an adapter (Unsloth); None: no such option."""

    beta: float | None = None
    """DPO's weight of the reference; None: supervised fine-tuning."""

    pack_by: str | None = None
    """``cluster``: rows that share theirs ride in one sequence (``clusters``)."""

    @property
    def output(self) -> Path:
        return Path(self.output_dir)

    @property
    def quantization(self) -> str | None:
        return self.lora.quantization if self.lora else None

    @property
    def merge(self) -> bool:
        return self.lora is not None and self.lora.merge

    @property
    def full(self) -> bool:
        """Whether every weight is trained, without an adapter."""
        return self.lora is None or bool(self.option_full)

    @property
    def unsloth(self) -> bool:
        """Whether Unsloth builds the model; only its script has ``--option_full``."""
        return self.option_full is not None

    @property
    def preferences(self) -> bool:
        """Whether rows are chosen and rejected answers."""
        return self.beta is not None

    def options(self) -> dict[str, Any]:
        """Every option that the method has, by its name on the command line."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        lora = values.pop("lora")
        optional = ("option_full", "beta", "optim_args", "pack_by")
        absent = {name for name in optional if values[name] is None}
        values = {name: value for name, value in values.items() if name not in absent}
        adapter = asdict(lora) if lora else {}
        if not adapter.get("use_dora"):
            adapter.pop("use_dora", None)
        return values | adapter

    def shown(self) -> dict[str, Any]:
        """The options that belong to the run, as they are printed and stored."""
        values = {name: value for name, value in self.options().items() if name not in ASIDE}
        return values | {"output_dir": relative(self.output)}


def quantization_of(options: argparse.Namespace | LoraSettings) -> str | None:
    """``4bit``, ``8bit`` or None."""
    return "4bit" if options.option_4bit else "8bit" if options.option_8bit else None


def settings_from(args: argparse.Namespace, method: str) -> TrainSettings:
    """The settings that a script's options say, with the defaults of the output folder and of the
    optimizer resolved."""
    given = vars(args) | {"method": method}
    given["output_dir"] = args.output_dir or f"checkpoints/{short_name(args.model_name)}-{method}"
    names = {field.name for field in fields(LoraSettings)}
    lora = {name: value for name, value in given.items() if name in names}
    rest = {name: value for name, value in given.items() if name not in names}
    if rest["optim"] is None:
        full = not lora or bool(rest.get("option_full"))
        rest["optim"], own = default_optimizer(full=full)
        rest["optim_args"] = rest["optim_args"] or own
    return TrainSettings(**rest, lora=LoraSettings(**lora) if lora else None)


def add_arguments(options: argparse.ArgumentParser, **defaults: Any) -> None:
    """Add the options that all methods share; the published flags keep their names.

    Defaults are KoCulture's published values for full fine-tuning, overridden by
    the method's own.
    """
    _add_data(options.add_argument_group("model and data"))
    _add_hyper_parameters(options.add_argument_group("hyper-parameters"))
    _add_progress(options.add_argument_group("progress"))
    result = options.add_argument_group("result")
    result.add_argument(
        "--card",
        metavar="FILE",
        help="JSON (from the repository on) with the model card's texts: title, about, use …",
    )
    result.add_argument("--push_to_hub", metavar="OWNER/NAME", help="upload the result")
    result.add_argument("--private", action=argparse.BooleanOptionalAction, default=True)
    options.set_defaults(**defaults)


def _add_data(data: Any) -> None:
    data.add_argument("--model_name", required=True, help="hub id, folder, or 'embedded'")
    data.add_argument("--data_path", default="data/train.jsonl", help="training rows")
    data.add_argument("--eval_data_path", help="held-out rows, for the loss during training")
    data.add_argument("--eval_limit", type=positive, help="only the first N held-out rows")
    data.add_argument("--output_dir", help="default: checkpoints/<model>-<method>")
    data.add_argument("--max_seq_length", type=positive, default=512, help="tokens")
    data.add_argument(
        "--pack_by",
        choices=["cluster"],
        help="read what the rows of a 'cluster' begin with once for all of them: the same loss, in "
        "sequences of --max_seq_length at most",
    )
    data.add_argument(
        "--wording",
        metavar="FILE:CONSTANT",
        help="the prompt that a bare question is put into (FILE from the repository on); rows of "
        "messages stand as they are",
    )
    data.add_argument(
        "--tasks", nargs="*", default=[], help="their questions must not be in the training rows"
    )
    data.add_argument("--allow_leaks", action="store_true", help="train on what is evaluated, too")
    data.add_argument("--trust_remote_code", action="store_true")


def _add_hyper_parameters(hyper: Any) -> None:
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
    hyper.add_argument(
        "--optim",
        help=f"default: {ADAM_8BIT}; where every weight is trained in bfloat16, {ROUNDED[0]} "
        f"with {ROUNDED[1]}, which loses no small steps",
    )
    hyper.add_argument("--optim_args", metavar="NAME=VALUE,…", help="more for the optimizer")
    hyper.add_argument("--seed", type=int, default=3407)
    hyper.add_argument(
        "--gradient_checkpointing",
        choices=("auto", "on", "off"),
        default="auto",
        help="less memory, a third more work; auto: where it would not fit without",
    )


def _add_progress(progress: Any) -> None:
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
