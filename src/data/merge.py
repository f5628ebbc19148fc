"""Merge dialogue pairs from any number of files and folders into one nested file.

    python src/data/merge.py merged_final.json augmented_jsons --output merged_new.json

Reads   files or folders (their *.json files: journals and rejected.jsonl are passed over): nested
        rows (title, description, conversations), as generate_augmented_pairs_gemini.py and
        merged_final.json have them, or flat ones (title, question, answer).
Writes  --output, in the nested shape: terms in the order they first appear, repeated pairs once
        (the first one counts), each pair with the model that wrote it.
Prints  conflicts: a term that two sources describe differently, a pair that two models claim, a
        question that has two answers (both are kept).
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.errors import InputError
from malmat.files import read_json, read_rows, write_json
from malmat.formats import Nested, Pair
from malmat.schema import Text, validate
from malmat.text.duplicates import squeeze


class TitledPair(Pair):
    title: Text


def arguments():
    options = parser(__doc__)
    options.add_argument("sources", nargs="+", help="files or folders, the first one wins")
    options.add_argument("--output", default="merged_final.json")
    return options.parse_args()


def main() -> None:
    args = arguments()
    show_settings("merge", vars(args))
    merged = Merged()
    for path, line, row in (entry for source in args.sources for entry in rows_of(source)):
        merged.add(nested(row, path, line), relative(path))
    write_json(args.output, list(merged.terms.values()))
    for conflict in merged.conflicts:
        print(f"  {conflict}")
    if merged.conflicts:
        print(f"{len(merged.conflicts)} conflicts: the first source counts")
    terms, pairs = len(merged.terms), sum(len(t["conversations"]) for t in merged.terms.values())
    print(f"merged {terms} terms, {pairs} pairs; {merged.repeated} repeated pairs left out")
    print(f"wrote {relative(args.output)}")


class Merged:
    """The terms so far, in the order they first appeared, and what was seen twice."""

    def __init__(self) -> None:
        self.terms: dict[str, dict] = {}
        self.conflicts: list[str] = []
        self.repeated = 0
        self._pairs: dict[tuple, dict] = {}  # (title, question, answer), squeezed → the pair
        self._answers: dict[tuple, str] = {}  # (title, question), squeezed → its first answer

    def add(self, row: dict, source: str) -> None:
        title, description = row["title"].strip(), str(row.get("description") or "").strip()
        term = self.terms.setdefault(
            title, {"title": title, "description": description, "conversations": []}
        )
        term["description"] = term["description"] or description
        if description and description != term["description"]:
            self.conflicts.append(f"{title}: another description in {source}")
        for pair in row["conversations"]:
            self._add_pair(term, pair, source)

    def _add_pair(self, term: dict, pair: dict, source: str) -> None:
        name = f"{term['title']}: '{pair['q'][:30]}'"
        question, answer = (squeeze(term["title"]), squeeze(pair["q"])), squeeze(pair["a"])
        first = self._pairs.get((*question, answer))
        if first is not None:
            self.repeated += 1
            if pair.get("model") != first.get("model"):
                writers = f"by {first.get('model')}, and by {pair.get('model')}"
                self.conflicts.append(f"{name} {writers} in {source}")
            return
        if self._answers.setdefault(question, answer) != answer:
            self.conflicts.append(f"{name} has another answer in {source} (both are kept)")
        kept = {key: pair[key] for key in ("context", "q", "a", "model") if key in pair}
        self._pairs[(*question, answer)] = kept
        term["conversations"].append(kept)


def nested(row: object, path: Path, line: int) -> dict:
    """The row in the nested shape: a flat one becomes a term with one pair."""
    if isinstance(row, dict) and "conversations" not in row and "question" in row:
        validate(TitledPair, row, path=path, line=line)
        extra = {name: row[name] for name in ("context", "model") if row.get(name)}
        pair = {"q": row["question"], "a": row["answer"], **extra}
        return {"title": row["title"], "conversations": [pair]}
    return validate(Nested, row, path=path, line=line).model_dump()


def rows_of(source: str):
    """(file, line, row) of every term in a file or in a folder's ``*.json``."""
    path = Path(source)
    if not path.exists():
        raise InputError("no such file or folder", path=source, fix="Check the path.")
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        single = file.suffix == ".json" and isinstance(value := read_json(file), dict)
        for line, row in [(1, value)] if single else read_rows(file):
            yield file, line, row


if __name__ == "__main__":
    run(main)
