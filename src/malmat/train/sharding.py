"""The result of a run whose weights FSDP or DeepSpeed split over processes.

Accelerate trains split weights in float32: four bytes a parameter in a checkpoint beside eight of
Adam's states. Under FSDP each process writes its own share of a checkpoint
(``SHARDED_STATE_DICT``); the weights are gathered once, at the end, and written in the precision
that the model came in.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from malmat.files import read_json, write_json
from malmat.lm.device import default_dtype

SHARDS = "pytorch_model_fsdp_0"
"""The folder of a checkpoint that holds the processes' shares (Accelerate's name)."""

_TRAINERS = ("trainer_state.json", "COMPLETE.json")


def save_gathered(trainer: Any, output: Path) -> None:
    """Gather the weights on process 0 and write them; every process has to call it."""
    if not trainer.is_fsdp_enabled:  # DeepSpeed gathers in 16 bits by itself (zero3.yaml)
        trainer.save_model(str(output))
        return
    weights = trainer.accelerator.get_state_dict(trainer.model)
    if trainer.args.should_save:
        _write(trainer, weights, output)


def save_from_checkpoint(trainer: Any, checkpoint: Path, output: Path) -> None:
    """Write the result of a run that was cut off after its last step, on one process.

    Split weights cannot be loaded into a model that is not split yet, as Trainer does only when
    it trains; what the checkpoint holds is taken from its files instead.
    """
    shares = checkpoint / SHARDS
    if not shares.is_dir():
        for file in checkpoint.iterdir():
            written = file.suffix in (".safetensors", ".json", ".jinja", ".model")
            if written and file.name not in _TRAINERS:
                shutil.copyfile(file, output / file.name)
        return
    from accelerate.utils import merge_fsdp_weights
    from safetensors.torch import load_file

    with tempfile.TemporaryDirectory(dir=output) as folder:
        merge_fsdp_weights(str(shares), folder)
        weights = load_file(Path(folder) / "model.safetensors")
    _write(trainer, weights, output)


def _write(trainer: Any, weights: dict[str, Any], output: Path) -> None:
    """Write whole weights; those of a model (no adapter's) in the precision it is loaded in."""
    import torch

    adapter = hasattr(trainer.model, "peft_config")
    if not adapter:
        dtype = getattr(torch, default_dtype())
        weights = {n: t.to(dtype) if t.is_floating_point() else t for n, t in weights.items()}
    trainer._save(str(output), state_dict=weights)
    if not adapter:
        config = output / "config.json"
        write_json(config, read_json(config) | {"dtype": default_dtype()})
