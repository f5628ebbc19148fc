"""An index of a corpus in a folder: chunks, a folder a leg, and a manifest of what made them.

It is made in a folder beside it and moved into place when it is whole. What a killed run leaves
there is named after all that determines it, so that the next run goes on from it, and a run with
other settings does not take it for its own.
"""

from __future__ import annotations

import functools
import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from malmat.errors import InputError
from malmat.files import digest, file_digest, read_json, write_json, write_jsonl
from malmat.journal import locked
from malmat.retrieval import bm25, dense, late
from malmat.retrieval.chunks import Chunk, Cutting, chunks_of, texts_with_titles
from malmat.retrieval.documents import Corpus, changed, file_stamps, read_corpus
from malmat.retrieval.leg import Leg

FORMAT = 1
"""Raise it where an older index would be misread."""

MANIFEST, CHUNKS = "manifest.json", "chunks.jsonl"

_END = 1 << 16
"""Bytes of each end of a leg's files that its stamp is made of."""

_KINDS: dict[str, tuple[ModuleType, Callable[[str, Path], Leg]]] = {
    "bm25": (bm25, bm25.Bm25),
    "dense": (dense, dense.Dense),
    "late": (late, late.Late),
}


@dataclass(frozen=True)
class Plan:
    """What an index is made of.

    Args:
        cutting: how documents become chunks.
        legs: kind (``bm25``, ``dense``, ``late``) → names of tokenizers or models.
    """

    cutting: Cutting = field(default_factory=Cutting)
    legs: dict[str, list[str]] = field(default_factory=dict)

    def identities(self) -> dict[str, dict]:
        """Leg → what determines it, in the legs' order.

        Raises:
            InputError: an unknown tokenizer, a library that is missing, or no leg at all.
        """
        named = [(kind, name) for kind in _KINDS for name in self.legs.get(kind) or ()]
        if not named:
            raise InputError("no leg is named", field="bm25", fix="Name a tokenizer or a model.")
        return {name: {"kind": kind, **_KINDS[kind][0].identity(name)} for kind, name in named}


def build(paths: Iterable[str | Path], folder: Path, plan: Plan, processes: int = 1) -> dict:
    """Index a corpus into ``folder``; its manifest comes back.

    An index of the same corpus and settings that is there already stays, one of others is replaced
    when the new one is whole.

    Raises:
        InputError: see ``read_corpus``; a folder with something else in it; another process
            that is making the same index. Nothing is written then.
    """
    paths, legs = list(paths), plan.identities()
    if folder.exists() and any(folder.iterdir()) and not (folder / MANIFEST).exists():
        problem = "a folder with something else in it than an index"
        raise InputError(problem, path=folder, field="output", fix="Name another folder.")
    corpus, files = read_corpus(paths), file_stamps(paths)
    texts = [(one.id, one.title, one.text) for one in corpus.documents]
    cut = {"format": FORMAT, "corpus": digest(texts), "cutting": asdict(plan.cutting)}
    work = folder.with_name(f".{folder.name}.partial")
    with locked(work):
        try:
            made = _finished(folder, cut, legs)
            if made is None:
                made = _finished(work / "whole", cut, legs)
                if made is None:
                    chunks, counts = _chunks(work, corpus, plan.cutting, cut, processes)
                    _index(work, chunks, cut, legs, processes)
                    made = {**cut, **counts, "legs": legs}
                    whole = work / "whole"
                    made["chunks_sha256"] = file_digest(whole / CHUNKS)
                    made["leg_stamps"] = {n: leg_stamp(whole / name_of(n)) for n in legs}
                    write_json(work / "whole" / MANIFEST, made | {"files": files})
                _move(work / "whole", folder)
            # The same text may come from files of other names, or saved anew.
            write_json(folder / MANIFEST, made | {"files": files})
        except InputError:
            shutil.rmtree(work)  # nothing in it is of use
            raise
        shutil.rmtree(work)
    return made


def _index(work: Path, chunks: list[Chunk], cut: dict, legs: dict, processes: int) -> None:
    """Write the chunks and a folder a leg, from the parts that an earlier run left."""
    whole = work / "whole"
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    texts = texts_with_titles(chunks)
    for name, known in legs.items():
        parts = work / digest([cut, known])[:16]
        _KINDS[known["kind"]][0].build(name, texts, parts, whole / name_of(name), processes)
    write_jsonl(whole / CHUNKS, map(asdict, chunks))


def name_of(leg: str) -> str:
    """The name of a leg's folder: a hub id has a slash."""
    return leg.replace("/", "--")


def leg_stamp(folder: Path) -> str:
    """What a leg's folder holds: the names, sizes and both ends of its files, in one digest.

    The ends are enough to tell legs apart, and reading them takes the same time at any size.
    """
    files = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with open(path, "rb") as handle:
                size = handle.seek(0, os.SEEK_END)
                handle.seek(0)
                first = handle.read(_END)
                handle.seek(max(0, size - _END))
                parts = [hashlib.sha256(part).hexdigest() for part in (first, handle.read())]
            files.append([path.relative_to(folder).as_posix(), size, *parts])
    return digest(files)


def _manifest(folder: Path) -> dict:
    """The manifest of an index.

    Raises:
        InputError: it is damaged, or of another version.
    """
    path, fix = folder / MANIFEST, "Run build_index.py again."
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError("no manifest of an index", path=path, fix=fix)
    if found.get("format") != FORMAT:
        raise InputError("an index of another version", path=folder, fix=fix)
    legs: Any = found.get("legs")
    files: Any = found.get("files")
    sound = (
        isinstance(found.get("chunks_sha256"), str)
        and _are_objects(legs, ("kind", "version"))
        and _are_objects(files, ("sha256", "bytes", "mtime_ns"))
        and all(one["kind"] in _KINDS for one in legs.values())
        and isinstance(found.get("leg_stamps", {}), dict)
    )
    if not sound:
        raise InputError("a damaged manifest", path=path, fix=fix)
    return found


def _are_objects(value: Any, names: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and all(
        isinstance(one, dict) and all(name in one for name in names) for one in value.values()
    )


def _finished(folder: Path, cut: dict, legs: dict) -> dict | None:
    """The manifest of a whole index of just these settings, or None."""
    if not (folder / MANIFEST).exists():
        return None
    try:
        found = _manifest(folder)
    except InputError:
        return None
    same = {**cut, "legs": legs}
    if any(found.get(name) != value for name, value in same.items()):
        return None
    return found if _is_whole(folder, found) else None


def _is_whole(folder: Path, manifest: dict) -> bool:
    """Whether the chunks and legs of an index are those that its manifest names."""
    chunks, stamps = folder / CHUNKS, manifest.get("leg_stamps", {})
    if not chunks.is_file() or file_digest(chunks) != manifest["chunks_sha256"]:
        return False
    return all(
        stamps.get(name) == leg_stamp(folder / name_of(name))
        if stamps
        else (folder / name_of(name)).is_dir()
        for name in manifest["legs"]
    )


def _chunks(
    work: Path, corpus: Corpus, cutting: Cutting, cut: dict, processes: int
) -> tuple[list[Chunk], dict]:
    """The chunks and what the manifest says of them, of an earlier run where there is one."""
    path = work / f"chunks-{digest(cut)[:16]}.json"
    if path.exists():
        kept = read_json(path)
        return [Chunk(**row) for row in kept["chunks"]], kept["counts"]
    chunks, dropped = chunks_of(corpus.documents, cutting, processes)
    documents, left_out = len(corpus.documents), dict(corpus.left_out + dropped)
    if not chunks:
        problem = f"nothing is left of the corpus ({documents} documents; {left_out})"
        raise InputError(problem, fix="Give a corpus with text.")
    counts = {"documents": documents, "chunks": len(chunks), "left_out": left_out}
    write_json(path, {"counts": counts, "chunks": [asdict(chunk) for chunk in chunks]})
    return chunks, counts


def _move(made: Path, folder: Path) -> None:
    """Put a whole index into its place; killed in between, the next run does it again."""
    old = made.with_name("replaced")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    made.rename(folder)


class Index:
    """A whole index, its arrays mapped from the disk.

    Args:
        folder: that ``build`` made.
        legs: the names to search by; None takes all, in their order.

    Raises:
        InputError: no index, a damaged one, one of another version; a leg that it does not have
            or whose tokenizer or model is another version now; a corpus that has changed since.
    """

    def __init__(self, folder: Path, legs: list[str] | None = None):
        if not (folder / MANIFEST).exists():
            fix = "Make one: src/culture_qa/build_index.py."
            raise InputError("no index", path=folder, fix=fix)
        self.folder = folder
        self.manifest = _manifest(folder)
        rebuild = "Run build_index.py again."
        for path, stamp in self.manifest["files"].items():
            if changed(path, stamp):
                raise InputError("has changed since it was indexed", path=path, fix=rebuild)
        self.legs = [self._leg(name) for name in legs or self.manifest["legs"]]
        self._open_chunks(rebuild)

    def _leg(self, name: str) -> Leg:
        known = self.manifest["legs"].get(name)
        if known is None:
            has = f"It has {', '.join(self.manifest['legs'])}."
            raise InputError(f"the index has no leg '{name}'", path=self.folder, fix=has)
        module, kind = _KINDS[known["kind"]]
        now = {"kind": known["kind"], **module.identity(name)}
        if now != known:
            problem = f"'{name}' was indexed by {known['version']}, and is {now['version']} here"
            raise InputError(problem, path=self.folder, fix="Run build_index.py again.")
        folder, rebuild = self.folder / name_of(name), "Run build_index.py again."
        stamp = self.manifest.get("leg_stamps", {}).get(name)
        if stamp not in (None, leg_stamp(folder)):
            problem = f"the leg '{name}' is not the one that was indexed"
            raise InputError(problem, path=folder, fix=rebuild)
        try:
            return kind(name, folder)
        except (OSError, ValueError, EOFError, LookupError, TypeError, AttributeError) as error:
            problem = f"the leg '{name}' is damaged ({type(error).__name__})"
            raise InputError(problem, path=folder, fix=rebuild) from None

    def _open_chunks(self, rebuild: str) -> None:
        path = self.folder / CHUNKS
        if not path.exists() or file_digest(path) != self.manifest["chunks_sha256"]:
            raise InputError("the chunks are not those that were indexed", path=path, fix=rebuild)
        with open(path, "rb") as handle:
            self._bytes = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        breaks = np.flatnonzero(np.frombuffer(self._bytes, np.uint8) == ord("\n"))
        self._ends = breaks.tolist()

    def __len__(self) -> int:
        return len(self._ends)

    def chunk(self, number: int) -> Chunk:
        """The chunk of a number, read from the disk."""
        start = self._ends[number - 1] + 1 if number else 0
        return Chunk(**json.loads(self._bytes[start : self._ends[number]]))

    def stamp(self) -> str:
        """What the chunks and the first leg are, in one digest."""
        first = self.legs[0].name
        return digest([self.manifest["chunks_sha256"], self.manifest["legs"][first]])[:16]

    @functools.cached_property
    def _places(self) -> dict[str, list[int]]:
        """A chunk's or a document's id → the numbers of its chunks."""
        places: dict[str, list[int]] = {}
        for number in range(len(self)):
            chunk = self.chunk(number)
            for name in {chunk.id, chunk.document}:
                places.setdefault(name, []).append(number)
        return places

    def numbers_of(self, ids: Iterable[str]) -> list[int]:
        """The numbers of chunks by their own ids or their documents', each once, in order."""
        return sorted({number for name in ids for number in self._places.get(name, ())})
