"""Low-rank adapters: their options, the model under one, and the model they merge into."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from malmat.cli import positive
from malmat.errors import InputError
from malmat.files import read_json, write_json
from malmat.lm.load import OWN_BASE, base_of, fingerprint, load_model, load_tokenizer
from malmat.train.checkpoints import is_whole, seal
from malmat.train.generation import prepare_generation
from malmat.train.settings import LoraSettings, TrainSettings

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""KoCulture's published choice; the families it trains name them alike."""


def add_arguments(options: argparse.ArgumentParser) -> Any:
    """The adapter's options, with KoCulture's published values; gives the group of those that
    exclude each other."""
    lora = options.add_argument_group("LoRA")
    lora.add_argument("--lora_r", type=positive, default=32)
    lora.add_argument("--lora_alpha", type=positive, default=32)
    lora.add_argument("--lora_dropout", type=float, default=0.0)
    lora.add_argument(
        "--lora_modules", nargs="+", default=MODULES, help="names (lm_head too), or 'all-linear'"
    )
    lora.add_argument("--use_rslora", action="store_true", help="scale by alpha / sqrt(r)")
    choice = lora.add_mutually_exclusive_group()
    choice.add_argument("--option_4bit", action="store_true", help="QLoRA: NF4, quantized twice")
    choice.add_argument("--option_8bit", action="store_true", help="LoRA on 8-bit weights")
    lora.add_argument("--merge", action="store_true", help="also write the merged model")
    return choice


def base_and_adapter(settings: TrainSettings) -> tuple[Any, Any]:
    """The model of ``--model_name`` and the config of a new adapter to train on it; an adapter
    there is merged first.

    rsLoRA: Kalajdzievski (2023), *A Rank Stabilization Scaling Factor for Fine-Tuning with
    LoRA*. QLoRA: Dettmers et al. (2023).

    Raises:
        InputError: no such model, or none of the modules is in it.
        ValueError: the method trains no adapter.
    """
    from peft import LoraConfig, prepare_model_for_kbit_training

    if (lora := settings.lora) is None:
        raise ValueError(f"{settings.method} trains no adapter")
    model = load_model(
        merged_base(settings),
        quantization=lora.quantization,
        trust_remote_code=settings.trust_remote_code,
        packed=True,
    ).train()
    names = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    if missing := [m for m in lora.lora_modules if m != "all-linear" and m not in names]:
        raise InputError(
            f"the model has no {', '.join(missing)}",
            field="lora_modules",
            fix="Name modules of this model, or 'all-linear'.",
        )
    if lora.quantization:
        model = prepare_model_for_kbit_training(
            model,
            use_gradient_checkpointing=settings.gradient_checkpointing == "on",
            gradient_checkpointing_kwargs={"use_reentrant": False},
        )
    return model, LoraConfig(
        task_type="CAUSAL_LM",
        r=lora.lora_r,
        lora_alpha=lora.lora_alpha,
        lora_dropout=lora.lora_dropout,
        target_modules=target_modules(lora),
        use_rslora=lora.use_rslora,
    )


def target_modules(lora: LoraSettings) -> list[str] | str:
    """The modules as PEFT takes them: names, or ``all-linear`` by itself."""
    return "all-linear" if lora.lora_modules == ["all-linear"] else lora.lora_modules


def write_merged(adapter: str | Path, folder: Path, *, trust_remote_code: bool = False) -> None:
    """Write the model that an adapter and its base make together, in the base's own precision.

    The base is loaded anew without quantization, since weights that went through 4 bits would
    carry their rounding into the merged model, and on the CPU, beside a card that may be full.
    Where Unsloth has patched transformers' classes, another process does it.
    """
    if "unsloth" in sys.modules:
        _write_merged_apart(adapter, folder, trust_remote_code)
        return
    model = load_model(str(adapter), device="cpu", trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(str(adapter), trust_remote_code=trust_remote_code)
    prepare_generation(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    seal(folder)


def _write_merged_apart(adapter: str | Path, folder: Path, trust_remote_code: bool) -> None:
    """``write_merged`` in a process of its own, with this one's import path.

    Raises:
        RuntimeError: it failed, with its last line.
    """
    call = "import sys; from malmat.train.lora import write_merged; from pathlib import Path; "
    call += "write_merged(sys.argv[1], Path(sys.argv[2]), trust_remote_code=sys.argv[3] == 'True')"
    words = [sys.executable, "-c", call, str(adapter), str(folder), str(trust_remote_code)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    result = subprocess.run(words, env=environment, stderr=subprocess.PIPE, text=True)
    if result.returncode:
        lines = result.stderr.strip().splitlines() or [f"exit {result.returncode}"]
        raise RuntimeError(f"merging {adapter} failed: {lines[-1]}")


def merged_base(settings: TrainSettings) -> str:
    """What a new adapter can stand on: the model itself, or an adapter merged into its base.

    The merged model is written to ``base`` in the new adapter's folder, where loading the
    adapter looks for it, and is made again only if ``--model_name`` has changed.
    """
    from accelerate import PartialState

    if not is_adapter(settings.model_name):
        return settings.model_name
    folder = settings.output / OWN_BASE
    with PartialState().main_process_first():
        merge_into(folder, settings.model_name, trust_remote_code=settings.trust_remote_code)
    return str(folder)


def merge_into(folder: Path, model_name: str, *, trust_remote_code: bool = False) -> bool:
    """Write a model, merged where it is an adapter, unless the folder holds it; whether it was
    written."""
    source = {"merged_from": model_name, "fingerprint": fingerprint(model_name)}
    marker = folder / "malmat.json"
    if is_whole(folder) and read_json(marker) == source:
        return False
    shutil.rmtree(folder, ignore_errors=True)
    write_json(marker, source)
    write_merged(model_name, folder, trust_remote_code=trust_remote_code)
    return True


def is_adapter(model_name: str) -> bool:
    """Whether a model's name is the folder of an adapter."""
    return base_of(model_name) is not None
