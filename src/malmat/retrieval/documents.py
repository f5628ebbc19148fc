"""Reads a corpus: text, rows of JSON or tables (Wikipedia dumps), PDF; a document a text."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.files import file_digest, kind_of, read_dataset, read_text, row_id
from malmat.journal import valid_text
from malmat.parse import Rows, json_rows
from malmat.text.korean import normalize
from malmat.text.pdf import pdf_pages

TEXTS = ("text", "passage", "passage_text", "paragraph", "context", "contents", "content")
"""Fields of a row that may hold its text; the first one that does counts."""

IDS = ("id", "_id", "pageid", "docid")
TITLES = ("title", "document_title")


@dataclass(frozen=True)
class Document:
    """A text of its own: an article, a row, a page of a PDF file."""

    id: str
    title: str
    text: str


@dataclass
class Corpus:
    """The documents of files, and reason → how many were left out or mended."""

    documents: list[Document] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def corpus_files(paths: Iterable[str | Path]) -> list[Path]:
    """The files that are named, and those in folders that are named, in order of their names."""
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.is_file() and p.name[0] != ".")
        else:
            found.append(path)
    return found


def read_corpus(paths: Iterable[str | Path]) -> Corpus:
    """The documents of files and folders.

    Text is normalized. A lone surrogate in it becomes "?", and the document is counted.

    Raises:
        InputError: a file that cannot be read, a row without text, an id that stands twice, or
            no document with text at all.
    """
    corpus, seen = Corpus(), set[str]()
    files = corpus_files(paths)
    for path in files:
        for line, document in _documents_of(path, corpus.left_out):
            if document.id in seen:
                problem = f"the id {document.id!r} stands in the corpus twice"
                raise InputError(problem, path=path, line=line, field="id")
            seen.add(document.id)
            corpus.documents.append(document)
    if not corpus.documents:
        where = files[0] if len(files) == 1 else None
        raise InputError("no document with text", path=where, fix="Give a corpus that has some.")
    return corpus


def _documents_of(path: Path, left_out: Counter[str]) -> Iterator[tuple[int, Document]]:
    """(line or page, document) for each text of a file that is not empty."""
    for line, identifier, title, raw in _texts_of(path):
        text = normalize(valid_text(raw)).replace("\0", " ").strip()
        if valid_text(raw) != raw:
            left_out["documents with lone surrogates, replaced"] += 1
        if not text:
            left_out["empty documents"] += 1
            continue
        title = normalize(valid_text(title)).strip()
        yield line, Document(valid_text(identifier) or row_id(title, text), title, text)


def _texts_of(path: Path) -> Iterator[tuple[int, str, str, str]]:
    """(line or page, id or "", title, text)."""
    beginning = _beginning(path)
    if b"%PDF" in beginning:
        for number, text in enumerate(pdf_pages(path), 1):
            yield number, f"{path.stem}#p{number}", path.stem, text
        return
    rows = _rows(path, beginning)
    if rows is None:
        yield 1, path.stem, path.stem, read_text(path)
        return
    for line, row in rows:
        row = row if isinstance(row, dict) else {"text": row}
        text = _first(row, TEXTS)
        if not isinstance(text, str):
            fix = f"Give one of {', '.join(TEXTS)}."
            raise InputError("no text in it", path=path, line=line, fix=fix)
        yield line, str(_first(row, IDS) or ""), str(_first(row, TITLES) or ""), text


def _rows(path: Path, beginning: bytes) -> Rows | None:
    """The rows of a file, or None where it is plain text."""
    kind = kind_of(path)
    # Extracted dumps (AA/wiki_00) are JSONL without a suffix.
    if kind in (".json", ".jsonl", ".ndjson") or (not kind and beginning.lstrip()[:1] == b"{"):
        return json_rows(path, read_text(path))
    is_text = path.is_file() and kind not in (".csv", ".tsv", ".parquet")
    return None if is_text or kind == ".txt" else read_dataset(path)


def _beginning(path: Path) -> bytes:
    try:
        with open(path, "rb") as handle:
            return handle.read(1024)
    except OSError:
        return b""  # the readers say why


def _first(row: dict, names: tuple[str, ...]) -> Any:
    return next((row[name] for name in names if row.get(name) is not None), None)


def file_stamps(paths: Iterable[str | Path]) -> dict[str, dict]:
    """Path → ``sha256, bytes, mtime_ns``, for files; a hub data set has none."""
    stamps = {}
    for path in corpus_files(paths):
        if path.is_file():
            state = os.stat(path)
            known = {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
            stamps[str(path.resolve())] = {"sha256": file_digest(path), **known}
    return stamps


def changed(path: str, stamp: dict) -> bool:
    """Whether a file that is still there holds something else than when it was indexed."""
    try:
        state = os.stat(path)
    except OSError:
        return False  # moved or deleted: the index holds all that it needs
    if (state.st_size, state.st_mtime_ns) == (stamp["bytes"], stamp["mtime_ns"]):
        return False
    return state.st_size != stamp["bytes"] or file_digest(path) != stamp["sha256"]
