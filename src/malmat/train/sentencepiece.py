"""A tokenizer.model for llama.cpp's converter, made of a tokenizer.json.

For the tokenizers that came from SentencePiece (Gemma, Llama 2, Mistral, SOLAR) the converter reads
tokenizer.model alone, and transformers 5 no longer saves it.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from malmat.files import write_json

MODEL = "tokenizer.model"

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")


def is_sentencepiece(folder: Path) -> bool:
    """Whether a folder's tokenizer is SentencePiece's, and its tokenizer.model is not there.

    It is a BPE that writes blanks as ▁ and unknown characters as bytes.
    """
    path = folder / "tokenizer.json"
    if (folder / MODEL).exists() or not path.is_file():
        return False
    model = _json(path)["model"]
    known = model.get("type") == "BPE" and model.get("unk_token")
    return bool(known and model.get("byte_fallback"))


def pieces_of(folder: Path) -> list[tuple[str, float, str]]:
    """The tokens of a folder's tokenizer: piece, score and SentencePiece's name of its kind.

    A piece's score is the place of the first merge that makes it, with a minus: SentencePiece and
    llama.cpp, too, join the pair first whose piece has the highest score.
    """
    data = _json(folder / "tokenizer.json")
    core, added = data["model"], {token["id"]: token for token in data["added_tokens"]}
    pieces = {index: piece for piece, index in core["vocab"].items()}
    pieces |= {index: token["content"] for index, token in added.items()}
    ranks: dict[str, int] = {}
    for place, pair in enumerate(core["merges"]):
        joined = "".join(pair if isinstance(pair, list) else pair.split(" ", 1))
        ranks.setdefault(joined, place)

    def kind(index: int, piece: str) -> str:
        if piece == core["unk_token"]:
            return "UNKNOWN"
        if _BYTE.fullmatch(piece):
            return "BYTE"
        if token := added.get(index):
            return "CONTROL" if token["special"] else "USER_DEFINED"
        return "NORMAL"

    return [
        (pieces[n], -float(ranks.get(pieces[n], 0)), kind(n, pieces[n]))
        if n in pieces
        else (f"[PAD{n}]", -10000.0, "UNUSED")
        for n in range(max(pieces) + 1)
    ]


def write_sentencepiece(folder: Path, output: Path) -> None:
    """Write ``tokenizer.model``, and ``tokenizer_config.json`` with the added tokens, which the
    converter looks for there.

    Args:
        folder: the model's.
        output: where the two files go.
    """
    # transformers' copy: sentencepiece's own wants a newer protobuf than the API libraries do.
    from transformers.utils import sentencepiece_model_pb2_new as proto

    model = proto.ModelProto()
    pieces = pieces_of(folder)
    for piece, score, kind in pieces:
        kind = getattr(proto.ModelProto.SentencePiece, kind)
        model.pieces.add(piece=piece, score=score, type=kind)
    unknown = [kind for *_, kind in pieces].index("UNKNOWN")
    trained, data = model.trainer_spec, _json(folder / "tokenizer.json")
    trained.model_type, trained.byte_fallback = proto.TrainerSpec.BPE, True
    trained.vocab_size = len(pieces)
    trained.unk_id, trained.unk_piece = unknown, pieces[unknown][0]
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = '"Prepend"' in json.dumps(data["normalizer"])
    model.normalizer_spec.remove_extra_whitespaces = False
    (output / MODEL).write_bytes(model.SerializeToString())
    config = _json(folder / "tokenizer_config.json")
    config["added_tokens_decoder"] = {
        str(token["id"]): {name: value for name, value in token.items() if name != "id"}
        for token in data["added_tokens"]
    }
    write_json(output / "tokenizer_config.json", config)


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))  # a vocabulary holds what no data may
