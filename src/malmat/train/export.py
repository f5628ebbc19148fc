"""A trained model in the forms that other programs take: safetensors, GGUF, an Ollama Modelfile."""

from __future__ import annotations

import shutil
from pathlib import Path

from malmat.errors import InputError
from malmat.files import write_text
from malmat.lm.load import load_tokenizer
from malmat.lm.ollama import modelfile, turns_of
from malmat.lm.sampling import Sampling
from malmat.train.card import model_card
from malmat.train.lora import merge_into
from malmat.train.record import json_of, run_of

MERGED = "merged"
"""The folder of safetensors in an export's folder."""


def check_folder(output: Path, model: str) -> None:
    """Refuse a folder that holds something else than an export of the model.

    Raises:
        InputError: it does.
    """
    known = json_of(output / MERGED / "malmat.json").get("merged_from")
    own = known is not None and Path(known).resolve() == Path(model).resolve()
    if output.exists() and any(output.iterdir()) and not own:
        raise InputError(
            "the folder holds something else than an export of this model",
            path=output,
            field="output_dir",
            fix="Choose another folder, or empty it.",
        )


def check_template(model: str, *, trust_remote_code: bool = False) -> None:
    """Raises InputError where Ollama cannot write the model's turns (``lm.ollama.turns_of``)."""
    turns_of(load_tokenizer(model, trust_remote_code=trust_remote_code))


def write_folder(model: str, output: Path, *, trust_remote_code: bool = False) -> Path:
    """Write the model, merged where it is an adapter, with its tokenizer and a card; its folder
    comes back. One that holds the same model already is left as it is."""
    folder = output / MERGED
    merge_into(folder, model, trust_remote_code=trust_remote_code)
    record = run_of(model)
    if record.get("status") == "done":
        write_text(folder / "README.md", model_card(record, merged=True))
        for picture in Path(model).glob("loss_curve.png"):  # the card shows it
            shutil.copyfile(picture, folder / picture.name)
    return folder


def write_modelfile(
    model: str, folder: Path, source: Path, sampling: Sampling, *, with_wording: bool
) -> Path:
    """Write a Modelfile for Ollama beside the weights.

    Args:
        model: the run's folder.
        folder: its merged model's.
        source: what Ollama reads the weights from: a GGUF file, or ``folder``.
        with_wording: put each message into the wording that the model was trained with.
    """
    from transformers import GenerationConfig

    record = run_of(model)
    wording = record.get("wording") if with_wording else None
    notes = [f"ollama create {folder.parent.name.lower()} -f Modelfile"]
    if terms := record.get("licence", {}).get("licence"):
        notes.append(f"The weights stand under the base model's licence: {terms}")
    if wording:
        notes.append("TEMPLATE puts each message into the wording that the model was trained with.")
    text = modelfile(
        load_tokenizer(str(folder)),
        GenerationConfig.from_pretrained(folder),
        source.name,
        sampling=sampling,
        wording=wording,
        notes=tuple(notes),
    )
    path = source.parent / "Modelfile"
    write_text(path, text)
    return path
