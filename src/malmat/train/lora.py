"""Low-rank adapters: their options, the model under one, and the model they merge into."""

from __future__ import annotations

import argparse
import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from malmat.cli import positive, relative
from malmat.errors import InputError, StopRunning
from malmat.files import write_json
from malmat.lm.load import (
    BASE_FILE,
    OWN_BASE,
    base_of,
    fingerprint,
    load_model,
    load_tokenizer,
    weights_digest,
)
from malmat.train.checkpoints import is_whole, seal
from malmat.train.examples import Examples, is_bare, read_training_rows, read_wording
from malmat.train.generation import prepare_generation
from malmat.train.labels import count_labels
from malmat.train.record import json_of, read_run
from malmat.train.settings import LoraSettings, TrainSettings

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
"""KoCulture's published choice; the families it trains name them alike."""

MERGE_FILE = "merge.json"
"""What a merged model's folder says of its merge, where weights were quantized."""

MERGE_TEXTS = 8
"""Texts that the loss is compared on before and after a merge."""

MERGE_LOSS = 0.05
"""Nats a token by which that loss may differ: a computation in 8 or 4 bits rounds in another way
than one in the merged model's own precision (0.005 were seen)."""


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
    LoRA*. QLoRA: Dettmers et al. (2023). DoRA: Liu et al. (2024), *Weight-Decomposed Low-Rank
    Adaptation*.

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
        use_dora=bool(lora.use_dora),
    )


def target_modules(lora: LoraSettings) -> list[str] | str:
    """The modules as PEFT takes them: names, or ``all-linear`` by itself."""
    return "all-linear" if lora.lora_modules == ["all-linear"] else lora.lora_modules


def write_merged(
    adapter: str | Path,
    folder: Path,
    *,
    trust_remote_code: bool = False,
    texts: Sequence[dict] = (),
) -> None:
    """Write the model that an adapter and its base make together.

    An adapter that was trained on quantized weights has learnt to make up for their rounding: these
    weights are dequantized and merged with it, not those before the rounding, which it never saw.
    That is done on the CPU, beside a card that may be full. Where Unsloth has patched
    transformers' classes, another process does it.

    Args:
        texts: ``{input_ids, labels}``; where weights were quantized, the loss on them is compared
            before and after, and written into the folder (``MERGE_FILE``).

    Raises:
        StopRunning: the merged model's loss is another one.
    """
    if "unsloth" in sys.modules:
        _write_merged_apart(adapter, folder, trust_remote_code, texts)
        return
    quantization = quantization_in(adapter)
    load = functools.partial(
        load_model,
        str(adapter),
        quantization=quantization,
        device="cpu",
        trust_remote_code=trust_remote_code,
    )
    model = load()
    said: dict[str, Any] = {}
    if getattr(model, "is_quantized", False):
        before = mean_loss(model, texts) if texts else None
        model = load(dequantize=True)
        after = mean_loss(model, texts) if texts else None
        said = {"quantization": quantization, "texts": len(texts)}
        said |= {"loss_before": before, "loss_after": after}
        check_losses(adapter, **said)
    tokenizer = load_tokenizer(str(adapter), trust_remote_code=trust_remote_code)
    prepare_generation(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    if said:
        write_json(folder / MERGE_FILE, said)
    seal(folder)


def check_losses(
    adapter: str | Path,
    *,
    quantization: str | None,
    texts: int,
    loss_before: float | None,
    loss_after: float | None,
) -> None:
    """Print the loss of quantized weights with their adapter, and that of the merged model.

    Raises:
        StopRunning: they differ by more than ``MERGE_LOSS``.
    """
    how = "merged into dequantized weights"
    if loss_before is None or loss_after is None:
        print(f"  {how}; the loss is not compared: no row is short enough", flush=True)
        return
    print(
        f"  {how}: loss {loss_before:.4f} before, {loss_after:.4f} after, on {texts} texts",
        flush=True,
    )
    if not abs(loss_after - loss_before) <= MERGE_LOSS:
        raise StopRunning(
            f"merging {relative(adapter)} ({quantization or 'a quantized model'}) changed its loss "
            f"from {loss_before:.4f} to {loss_after:.4f}: the merged model is not the tuned one, "
            "and is not written"
        )


def quantization_in(adapter: str | Path) -> str | None:
    """Of the weights that an adapter was trained on, as its run.json says: ``4bit``, ``8bit``."""
    asked = read_run(Path(adapter)).get("settings", {})
    return "4bit" if asked.get("option_4bit") else "8bit" if asked.get("option_8bit") else None


def mean_loss(model: Any, texts: Sequence[dict]) -> float:
    """Cross-entropy a labelled token of ``{input_ids, labels}`` texts, read one by one."""
    import torch

    total, count = 0.0, 0
    with torch.no_grad():
        for text in texts:
            ids, labels = (
                torch.tensor([text[name]], device=model.device) for name in ("input_ids", "labels")
            )
            labelled = count_labels(text)
            total += model(input_ids=ids, labels=labels).loss.item() * labelled
            count += labelled
    return total / count


def merge_texts(settings: TrainSettings, adapter: str | Path) -> list[dict]:
    """Some of a run's rows, encoded, to compare a loss on; of preference rows the chosen side."""
    tokenizer = load_tokenizer(str(adapter), trust_remote_code=settings.trust_remote_code)
    rows = read_training_rows(
        settings.data_path, preferences=settings.preferences, limit=8 * MERGE_TEXTS
    )
    wording = settings.wording if any(map(is_bare, rows)) else None
    wording = read_wording(wording) if wording else None
    try:
        examples = Examples(rows, tokenizer, settings.max_seq_length, wording=wording)
    except InputError:  # these rows are all too long
        return []
    return [row.get("chosen", row) for row in examples.encoded[:MERGE_TEXTS]]


def _write_merged_apart(
    adapter: str | Path, folder: Path, trust_remote_code: bool, texts: Sequence[dict]
) -> None:
    """``write_merged`` in a process of its own, with this one's import path.

    Raises:
        RuntimeError: it failed, with its last line.
    """
    call = (
        "import json, sys; from malmat.train.lora import write_merged; from pathlib import Path; "
        "write_merged(sys.argv[1], Path(sys.argv[2]), trust_remote_code=sys.argv[3] == 'True', "
        "texts=json.load(sys.stdin))"
    )
    words = [sys.executable, "-c", call, str(adapter), str(folder), str(trust_remote_code)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    given = json.dumps(list(texts))
    result = subprocess.run(words, env=environment, stderr=subprocess.PIPE, text=True, input=given)
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
        merge_into(
            folder,
            settings.model_name,
            trust_remote_code=settings.trust_remote_code,
            texts=lambda: merge_texts(settings, settings.model_name),
        )
    return str(folder)


def merge_into(
    folder: Path,
    model_name: str,
    *,
    trust_remote_code: bool = False,
    texts: Callable[[], Sequence[dict]] = list,
) -> None:
    """Write a model, merged where it is an adapter, unless the folder holds it already.

    Args:
        texts: gives the encoded rows that ``write_merged`` compares a loss on.
    """
    source = {"merged_from": model_name, "fingerprint": fingerprint(model_name)}
    marker = folder / "malmat.json"
    if is_whole(folder) and json_of(marker).get("fingerprint") == source["fingerprint"]:
        return
    shutil.rmtree(folder, ignore_errors=True)
    write_json(marker, source)
    write_merged(model_name, folder, trust_remote_code=trust_remote_code, texts=texts())


def merge(settings: TrainSettings, adapter: str | Path, folder: Path) -> None:
    """``write_merged`` within a run, whose rows the loss is compared on."""
    write_merged(
        adapter,
        folder,
        trust_remote_code=settings.trust_remote_code,
        texts=merge_texts(settings, adapter),
    )


def describe_base(output: Path) -> None:
    """Write into an adapter's folder which merged model it stands on, if any (``BASE_FILE``)."""
    folder = output / OWN_BASE
    if folder.is_dir():
        said = {
            "merged_from": json_of(folder / "malmat.json").get("merged_from"),
            "weights": weights_digest(folder),
            **json_of(folder / MERGE_FILE),
        }
        write_json(output / BASE_FILE, said)


def is_adapter(model_name: str) -> bool:
    """Whether a model's name is the folder of an adapter."""
    return base_of(model_name) is not None
