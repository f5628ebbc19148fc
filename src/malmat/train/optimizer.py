"""Which optimizer a run has, and whether small steps survive in its weights' precision.

bfloat16 keeps 8 bits of a number, so that a step of less than about 1/512 of a weight is gone when
the sum is rounded to the nearest. torchao's optimizers can round up or down with the probability
that makes the expected step the right one (stochastic rounding; Gupta et al. 2015, *Deep Learning
with Limited Numerical Precision*). ``bench/bf16.py`` measures both.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from typing import TYPE_CHECKING

from malmat.errors import InputError
from malmat.lm.device import default_dtype, sharded

if TYPE_CHECKING:
    from malmat.train.settings import TrainSettings

ADAM_8BIT = "adamw_8bit"

ROUNDED = ("adamw_torch_8bit", "bf16_stochastic_round=True")
"""The optimizer of bfloat16 weights and its arguments: as many bytes as ``adamw_8bit``."""


def default_optimizer(*, full: bool) -> tuple[str, str | None]:
    """An optimizer's name and arguments, for all weights or for an adapter (in float32)."""
    return ROUNDED if full and default_dtype() == "bfloat16" else (ADAM_8BIT, None)


def check_optimizer(settings: TrainSettings) -> None:
    """Refuse an optimizer that could not be made.

    Raises:
        InputError: naming the option.
    """
    from transformers.training_args import OptimizerNames

    known = [name.value for name in OptimizerNames]
    if settings.optim not in known:
        raise InputError(
            f"unknown: '{settings.optim}'", field="optim", fix=f"One of {', '.join(known)}."
        )
    if settings.optim_args and not all(
        re.fullmatch(r"\s*\w+=[^=,]+", part) for part in settings.optim_args.split(",")
    ):
        raise InputError(
            f"'{settings.optim_args}' is not NAME=VALUE,…",
            field="optim_args",
            fix=f"As {ROUNDED[1]}.",
        )
    if not re.fullmatch(r"adamw_torch_\dbit", settings.optim):
        return
    if importlib.util.find_spec("torchao") is None:
        raise InputError(
            f"{settings.optim} needs torchao",
            field="optim",
            fix=f"pip install -r requirements-gpu.txt, or use --optim {ADAM_8BIT}.",
        )
    if default_dtype() == "float32" and not (shutil.which("c++") or shutil.which("g++")):
        raise InputError(  # torchao compiles its step
            f"{settings.optim} needs a C++ compiler on the CPU",
            field="optim",
            fix=f"Install g++, or use --optim {ADAM_8BIT}.",
        )


def rounding_note(settings: TrainSettings) -> str | None:
    """A warning where steps are written into bfloat16 weights and rounded to the nearest."""
    if not settings.full or default_dtype() != "bfloat16" or sharded():
        return None  # adapters are trained in float32, as Accelerate's split weights are
    if "bf16_stochastic_round=true" in (settings.optim_args or "").lower():
        return None
    return (
        f"warning: {settings.optim} rounds bfloat16 weights to the nearest, which loses most small "
        f"steps. --optim {ROUNDED[0]} --optim_args {ROUNDED[1]} keeps them"
    )
