"""Several adapters of one base, combined into one by PEFT's ``add_weighted_adapter``."""

from __future__ import annotations

import shutil
import tempfile
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.files import read_json, write_json
from malmat.lm.load import base_of, fingerprint, load_model, load_tokenizer
from malmat.train.checkpoints import seal
from malmat.train.record import RUN_FILE, read_run, root_of

METHODS = ("linear", "ties", "dare_ties", "svd")
PRUNES = ("ties", "dare_ties")
"""The methods that keep a share of the values. TIES: Yadav et al. (2023), *TIES-Merging*. DARE:
Yu et al. (2024), *Language Models are Super Mario*."""

ALIKE = ("peft_type", "task_type", "fan_in_fan_out", "bias")
"""Fields of the configurations that must be the same."""


@dataclass(frozen=True)
class Merge:
    """What is merged, and how.

    Args:
        weights: one an adapter; they may be negative, and need not add up to 1. PEFT divides the
            values of ``PRUNES`` by how many agree: there, 1 each gives a mean.
        method: of ``METHODS``. svd mixes the changes of the weights, and cuts their sum to
            ``rank``; the others mix the factors A and B, each with the root of the weight, so
            that the parts' products with each other come in too.
        density: share of the values that the methods of ``PRUNES`` keep.
        rank: of the result, for svd (None: the largest of the adapters').
        seed: of DARE's draw.
    """

    adapters: tuple[str, ...]
    weights: tuple[float, ...]
    method: str
    density: float | None = None
    rank: int | None = None
    seed: int = 42


def check_adapters(merge: Merge) -> str:
    """The base that all adapters stand on.

    Raises:
        InputError: one is no adapter, or of another base, or cannot be merged with the first.
    """
    if len(merge.adapters) < 2 or len(set(merge.adapters)) < len(merge.adapters):
        raise InputError("expected two different adapters or more", field="adapters")
    if len(merge.weights) != len(merge.adapters):
        problem = f"{len(merge.weights)} weights of {len(merge.adapters)} adapters"
        raise InputError(problem, field="weights", fix="Give one an adapter.")
    first, bases = merge.adapters[0], [base_of(folder) for folder in merge.adapters]
    configs = [_config(folder) for folder in merge.adapters]
    for folder, base, config in zip(merge.adapters, bases, configs, strict=True):
        if base is None or bases[0] is None:
            raise InputError("no adapter_config.json in that folder", path=folder)
        if fingerprint(base) != fingerprint(bases[0]):
            problem = f"stands on {root_of(folder)}, and {first} on {root_of(first)}"
            if root_of(folder) == root_of(first):
                problem = f"stands on another merged model than {first}"
            raise InputError(problem, path=folder, field="adapters", fix="Merge those of one base.")
        _check_config(folder, config, first, configs[0], merge.method)
    assert bases[0] is not None
    return bases[0]


def _config(folder: str) -> dict[str, Any]:
    path = Path(folder) / "adapter_config.json"
    if not path.is_file():
        raise InputError("no adapter_config.json in that folder", path=folder, field="adapters")
    return read_json(path)


def _check_config(folder: str, config: dict, first: str, other: dict, method: str) -> None:
    for name in ALIKE:
        if config.get(name) != other.get(name):
            problem = f"{config.get(name)!r}, and {other.get(name)!r} in {first}"
            raise InputError(problem, path=folder, field=name)
    for name, what in (
        ("use_dora", "a DoRA adapter, whose magnitudes cannot be mixed"),
        ("modules_to_save", "whole modules beside the adapter, which cannot be mixed"),
        ("trainable_token_indices", "trained tokens, which cannot be mixed"),
        ("rank_pattern", "ranks that differ by layer, which cannot be mixed"),
    ):
        if config.get(name):
            raise InputError(what, path=folder, field=name, fix="Vote over its answers instead.")
    if method != "svd" and config["r"] != other["r"]:
        problem = f"rank {config['r']}, and {other['r']} in {first}"
        fix = "Use --method svd, which mixes any ranks."
        raise InputError(problem, path=folder, field="r", fix=fix)
    if isinstance(config["target_modules"], str) != isinstance(other["target_modules"], str):
        problem = f"modules of another kind than in {first}"
        raise InputError(problem, path=folder, field="target_modules")


def merge_adapters(merge: Merge, output: Path, *, trust_remote_code: bool = False) -> None:
    """Write the merged adapter, its tokenizer and run.json into the folder ``output``.

    The base is loaded on the CPU, in bfloat16: only the shapes of its weights matter.

    Raises:
        InputError: as ``check_adapters``.
    """
    import torch
    from peft import PeftModel

    base = check_adapters(merge)
    torch.manual_seed(merge.seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = load_model(
            base, dtype="bfloat16", device="cpu", trust_remote_code=trust_remote_code
        )
        names = [f"part_{number}" for number in range(len(merge.adapters))]
        model = PeftModel.from_pretrained(model, merge.adapters[0], adapter_name=names[0])
        for name, folder in zip(names[1:], merge.adapters[1:], strict=True):
            model.load_adapter(folder, adapter_name=name)
        # The result is made with alpha = r, so that its scale is 1. Under rsLoRA the scale would
        # be alpha / sqrt(r), and the result too strong by sqrt(r). Each part keeps its own scale.
        model.peft_config[names[0]].use_rslora = False
        options: dict[str, Any] = {"combination_type": merge.method, "svd_rank": merge.rank}
        if merge.method in PRUNES:
            options["density"] = merge.density
        model.add_weighted_adapter(names, list(merge.weights), "merged", **options)
        model.peft_config["merged"].base_model_name_or_path = base
        _save(model, merge, output, trust_remote_code)


def _save(model: Any, merge: Merge, output: Path, trust_remote_code: bool) -> None:
    """Write the folder beside its place, and move it there whole."""
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as aside:
        model.save_pretrained(aside, selected_adapters=["merged"])
        folder = Path(aside) / "merged"
        tokenizer = load_tokenizer(merge.adapters[0], trust_remote_code=trust_remote_code)
        tokenizer.save_pretrained(folder)
        runs = [read_run(Path(adapter)) for adapter in merge.adapters]
        wordings = [run.get("wording") for run in runs]
        # What the parts were trained with holds for the whole only where they agree.
        wording = wordings[0] if all(one == wordings[0] for one in wordings) else None
        record = {"status": "merged", "merge": asdict(merge), "wording": wording}
        write_json(folder / RUN_FILE, record)
        seal(folder)
        if output.exists():
            shutil.rmtree(output)
        folder.rename(output)
