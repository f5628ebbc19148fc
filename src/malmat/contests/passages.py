"""Passages of text, rows or PDF files, cut at the ends of paragraphs and sentences."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from malmat.contests.makers import Seed
from malmat.errors import InputError
from malmat.files import kind_of, read_text, row_id
from malmat.sources.open import read_source
from malmat.text.duplicates import squeeze
from malmat.text.korean import normalize
from malmat.text.pdf import pdf_pages

FIELDS = ("paragraph", "passage", "context", "text")
"""Fields of a row that hold a passage; the first one that does counts."""


@dataclass
class Texts:
    """What files gave: passages, pages without text, and reason → passages left out."""

    seeds: list[Seed] = field(default_factory=list)
    pages: list[str] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def read_texts(paths: list[str], shortest: int, longest: int) -> Texts:
    """The passages of files, each once: PDF by its content, rows by the name's end, else text.

    Args:
        shortest, longest: characters of a passage. Longer texts are cut.

    Raises:
        InputError: a file that cannot be read, or rows without a passage.
    """
    found = Texts()
    seen: set[str] = set()
    for path in paths:
        for text, row in _texts_of(Path(path), found.pages):
            for passage in cut(text, longest):
                key = squeeze(passage)
                if len(passage) < shortest:
                    found.left_out[f"shorter than {shortest} characters"] += 1
                elif key in seen:
                    found.left_out["repeats another passage"] += 1
                else:
                    seen.add(key)
                    found.seeds.append(Seed(row_id("passage", passage), passage, None, row))
    return found


def _texts_of(path: Path, pages: list[str]) -> Iterator[tuple[str, dict]]:
    named = {"source": path.name}
    if _begins_with(path, b"%PDF"):
        yield pdf_text(path, pages), named
    elif kind_of(path) in (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet"):
        rows, faults = read_source(path)
        if faults:
            problem = faults[0].problem
            raise InputError(problem, path=path, line=faults[0].line, fix=faults[0].fix)
        for line, row in rows:
            row = row if isinstance(row, dict) else {"text": row}
            text = next((row[name] for name in FIELDS if isinstance(row.get(name), str)), None)
            if text is None:
                fix = f"Give one of {', '.join(FIELDS)}."
                raise InputError("no passage in it", path=path, line=line, fix=fix)
            yield text, {**named, **row}
    else:
        yield normalize(read_text(path)), named


def _begins_with(path: Path, mark: bytes) -> bool:
    try:
        with open(path, "rb") as handle:
            return mark in handle.read(1024)
    except OSError:
        return False  # read_text says why


def pdf_text(path: Path, pages: list[str]) -> str:
    """The text of a PDF file; pages that give none are named in ``pages``.

    Raises:
        InputError: as ``pdf_pages``.
    """
    found = pdf_pages(path)
    pages += [f"{path.name}, page {number}: gives no text"
              for number, text in enumerate(found, 1) if not text]  # fmt: skip
    return "\n\n".join(filter(None, found))


def cut(text: str, longest: int) -> list[str]:
    """A text in passages of up to ``longest`` characters.

    Paragraphs stay whole where they fit, and neighbours are put together; a longer one is cut
    where sentences end. A sentence that is longer by itself is left whole.
    """
    if len(text.strip()) <= longest:
        return [text.strip()]
    passages: list[str] = []
    for paragraph in re.split(r"\r?\n\s*\r?\n", text):
        whole = " ".join(paragraph.split())
        parts = [whole] if len(whole) <= longest else re.split(r"(?<=[.?!。])\s+", whole)
        for place, part in enumerate(filter(None, parts)):
            joint = " " if place else "\n"
            if passages and len(passages[-1]) + 1 + len(part) <= longest:
                passages[-1] += joint + part
            else:
                passages.append(part)
    return passages
