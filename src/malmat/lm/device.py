"""What the machine computes with: its card, its number format, its attention kernels, and what a
launcher splits or moves to the machine's memory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from typing import Any

from malmat.errors import InputError


def check_driver() -> None:
    """Refuse to compute on the CPU beside a card that torch cannot use.

    torch's CUDA 13 builds find no card under an older driver, and say nothing. A card that
    ``CUDA_VISIBLE_DEVICES`` hides is not asked for.

    Raises:
        InputError: with both versions.
    """
    import torch

    if torch.cuda.is_available() or os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    if shutil.which(command[0]) is None:
        return
    try:
        asked = subprocess.run(command, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return
    if asked.returncode or not asked.stdout.strip():
        return
    built = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "a build for the CPU"
    raise InputError(
        f"nvidia-smi shows a GPU (driver {asked.stdout.split()[0]}), but torch {torch.__version__} "
        f"({built}) cannot use it",
        fix="Update the driver (CUDA 13 needs 580 or later), install a torch that is built for it, "
        "or set CUDA_VISIBLE_DEVICES= to compute on the CPU.",
    )


def default_dtype() -> str:
    """bfloat16 where the GPU computes in it, float16 on older GPUs, float32 on the CPU."""
    import torch

    if not torch.cuda.is_available():
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def attention(*, packed: bool = False) -> str:
    """FlashAttention 2 where the card has it (Ampere and later), else SDPA.

    Args:
        packed: rows hold several examples. Their mask keeps SDPA from its fast kernels, so that
            FlashAttention is taken from the ``kernels`` package, too, where flash-attn is not
            installed; transformers fetches it from the hub once.
    """
    import torch
    from transformers.utils import is_flash_attn_2_available, is_kernels_available

    if not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0):
        return "sdpa"
    there = is_flash_attn_2_available() or (packed and is_kernels_available())
    return "flash_attention_2" if there else "sdpa"


def sharded() -> bool:
    """Whether Accelerate's launcher splits the weights over processes (FSDP, DeepSpeed)."""
    names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return any(os.environ.get(name, "").lower() in ("true", "1") for name in names)


def offloaded() -> frozenset[str]:
    """What the launcher's settings move to the machine's memory: of ``weights``, ``gradients`` and
    ``optimizer`` (``malmat.train.memory``'s names)."""

    def says(name: str, *off: str) -> bool:
        return os.environ.get(name, off[0]).lower() not in off

    if not sharded():
        return frozenset()
    whole = says("FSDP_OFFLOAD_PARAMS", "false", "0", "")
    parts = {"weights"} if says("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none", "") else set()
    if says("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none", ""):
        parts |= {"gradients", "optimizer"}
    return frozenset({"weights", "gradients", "optimizer"} if whole else parts)


def quantized(quantization: str, dtype: Any) -> Any:
    """bitsandbytes' settings for ``4bit`` (NF4, double quantization) or ``8bit``."""
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )
