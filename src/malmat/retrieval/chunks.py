"""Cuts documents into chunks that end where sentences do, and drops those that say nothing.

A chunk is a slice of its document. Paragraphs that fit stay whole, sentence ends inside longer
ones are found by Kiwi, and neighbours are put together while they fit. A sentence that is longer
than a chunk is cut at blanks, a word that is longer anywhere.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from malmat.errors import InputError
from malmat.retrieval.documents import Document
from malmat.retrieval.morphology import LONGEST, sentence_ends
from malmat.retrieval.processes import mapped
from malmat.text.duplicates import NearDuplicates, squeeze

Measure = Callable[[int, int], int]
"""(start, end) of a slice of one text → its length, which grows with ``end``."""

CHARACTERS = "characters"


@dataclass(frozen=True)
class Cutting:
    """How documents are cut.

    Args:
        size: the longest chunk, in ``unit``.
        overlap: how much of the end of a chunk, in whole words, begins the next.
        unit: ``characters``, or the tokens of a model (a hub id, a folder, ``embedded``).
        duplicates: the share of common 3-grams (Jaccard) from which a chunk repeats an earlier
            one; 0 keeps all.
    """

    size: int = 256
    overlap: int = 10
    unit: str = CHARACTERS
    duplicates: float = 0.9

    def __post_init__(self) -> None:
        if self.overlap >= self.size:
            raise InputError(f"not below the chunk's size ({self.size})", field="overlap")


@dataclass(frozen=True)
class Chunk:
    """A slice of a document, with the document's title."""

    id: str
    document: str
    title: str
    text: str


def chunks_of(
    documents: list[Document], cutting: Cutting, processes: int = 1
) -> tuple[list[Chunk], Counter[str]]:
    """The chunks of documents, and reason → how many were dropped.

    A document that is one chunk gives it its id; of several, each has its number behind it.
    """
    chunks, dropped = list[Chunk](), Counter[str]()
    seen = NearDuplicates(cutting.duplicates) if cutting.duplicates else None
    work = ((document.text, cutting) for document in documents)
    for document, texts in zip(documents, mapped(cut, work, processes), strict=True):
        for number, text in enumerate(texts, 1):
            name = f"{document.id}#{number}" if len(texts) > 1 else document.id
            if reason := _says_nothing(text):
                dropped[reason] += 1
            elif seen is not None and seen.add(text, only_new=True):
                dropped["near-duplicates"] += 1
            else:
                chunks.append(Chunk(name, document.id, document.title, text))
    return chunks, dropped


_CELLS = re.compile(r"^\s*(?:\{\||\|[-}]|!|[|!].*\|)|\t.*\t|\|.*\||^[\s\d.,%()+-]+$")
"""A line of a table: wiki or Markdown marks, several tabs or bars, or numbers alone."""


def _says_nothing(text: str) -> str | None:
    if not squeeze(text):
        return "empty chunks"
    lines = [line for line in text.splitlines() if line.strip()]
    if sum(bool(_CELLS.search(line)) for line in lines) >= 0.8 * len(lines):
        return "table-only chunks"
    return None


def cut(text: str, cutting: Cutting) -> list[str]:
    """The chunks of one text."""
    measure = _measure(text, cutting.unit)
    chunks: list[str] = []
    start = end = 0
    for left, right in _units(text, cutting.size, measure):
        if end and measure(start, right) > cutting.size:
            chunks.append(text[start:end].strip())
            start = _overlapping(text, end, cutting.overlap, measure)
            if measure(start, right) > cutting.size:
                start = left
        elif not end:
            start = left
        end = right
    return [*chunks, text[start:end].strip()] if end else chunks


def _measure(text: str, unit: str) -> Measure:
    if unit == CHARACTERS:
        return lambda start, end: end - start
    from malmat.lm.load import load_tokenizer

    encoded = load_tokenizer(unit)(text, add_special_tokens=False, return_offsets_mapping=True)
    starts = [start for start, _ in encoded["offset_mapping"]]
    return lambda start, end: bisect_left(starts, end) - bisect_left(starts, start)


def _units(text: str, size: int, measure: Measure) -> Iterator[tuple[int, int]]:
    """The slices that chunks are put together of: paragraphs, sentences, pieces."""
    for line in re.finditer(r"[^\n]*\S[^\n]*", text):
        if measure(*line.span()) <= size:
            yield line.span()
            continue
        for left, right in fitting(text, *line.span(), LONGEST, _characters):
            begin = left
            for end in (*sentence_ends(text[left:right]), right - left):
                yield from fitting(text, begin, left + end, size, measure)
                begin = left + end


def _characters(start: int, end: int) -> int:
    return end - start


def fitting(
    text: str, start: int, end: int, size: int, measure: Measure
) -> Iterator[tuple[int, int]]:
    """A slice in pieces of up to ``size``, cut at blanks where there are some."""
    while measure(start, end) > size:
        ends = range(start + 1, end)
        place = ends[max(0, bisect_right(ends, size, key=lambda e: measure(start, e)) - 1)]
        blank = max(text.rfind(mark, start + 1, place + 1) for mark in " \t\n")
        place = blank if blank > start else place
        yield start, place
        start = place
    if text[start:end].strip():
        yield start, end


def _overlapping(text: str, end: int, overlap: int, measure: Measure) -> int:
    """Where the last whole words before ``end`` begin that are no longer than ``overlap``."""
    start = end
    for word in reversed(list(re.finditer(r"\S+", text[max(0, end - 20 * overlap) : end]))):
        place = max(0, end - 20 * overlap) + word.start()
        if measure(place, end) > overlap:
            break
        start = place
    return start


def texts_with_titles(chunks: Iterable[Chunk]) -> list[str]:
    """What is indexed of chunks: the title, which names what the text may only refer to, first."""
    return [f"{chunk.title}. {chunk.text}" if chunk.title else chunk.text for chunk in chunks]
