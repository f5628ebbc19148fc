"""Merge dialogue pairs from any number of files and folders into one nested file.

    python src/data/merge.py merged_final.json augmented_jsons --output merged_final.json

Reads   files, or folders (their *.json files: journals and rejected.jsonl are passed over), in
        any shape of docs/data-formats.md whose rows have a title.
Writes  --output, in the nested shape of merged_final.json: terms in the order they first appear,
        repeated pairs once (the first one counts), each pair with the model that wrote it. A file
        that is there is replaced if it is a source; another is left alone (exit 2).
Prints  conflicts: a term that two sources describe differently, a pair that two models claim, a
        question that has two answers (both are kept); keys that are left out; and, where --output
        was there, what is added to it, replaced and dropped.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.dialogues import Nested, is_nested, pairs_of_row
from malmat.errors import InputError
from malmat.files import read_rows, write_json
from malmat.schema import validate
from malmat.text.duplicates import squeeze

PAIR_KEYS = ("context", "q", "a", "model")
TERM_KEYS = ("title", "description", "conversations")


def arguments():
    options = parser(__doc__)
    options.add_argument("sources", nargs="+", help="files or folders, the first one wins")
    options.add_argument("--output", default="merged_final.json")
    return options.parse_args()


def main() -> None:
    args = arguments()
    show_settings("merge", vars(args))
    output, sources = Path(args.output), [file for one in args.sources for file in files_of(one)]
    replaced = next((file for file in sources if output.exists() and file.samefile(output)), None)
    if output.exists() and replaced is None:
        fix = "Name it as a source too, or give another --output."
        raise InputError("is there and is no source", path=output, field="output", fix=fix)
    merged = Merged()
    for file in sources:
        merged.add_file(file)
    terms, pairs = len(merged.terms), merged.pairs()
    if not pairs:
        raise InputError(
            "no dialogue pairs in the sources", field="sources", fix="Nothing is written."
        )
    before = Merged()
    if replaced is not None:
        before.add_file(replaced)
    write_json(args.output, list(merged.terms.values()))
    for conflict in merged.conflicts:
        print(f"  {conflict}")
    if merged.conflicts:
        print(f"{len(merged.conflicts)} conflicts: the first source counts")
    for key, count in merged.left_out.items():
        print(f"  left out: the key '{key}' of {count} {'terms or pairs' if count > 1 else 'row'}")
    print(f"merged {terms} terms, {len(pairs)} pairs; {merged.repeated} repeated pairs left out")
    if replaced is not None:
        show_changes(before, merged, relative(output))
    print(f"wrote {relative(args.output)}")


def show_changes(before: Merged, after: Merged, name: str) -> None:
    """Print what became of a file that is replaced."""
    old, new = before.pairs(), after.pairs()
    texts = {title: term["description"] for title, term in before.terms.items()}
    changed = [t for t, text in texts.items() if text and after.terms[t]["description"] != text]
    print(
        f"{name}: {len(new.keys() - old.keys())} pairs added, {len(old.keys() - new.keys())} "
        f"dropped, {sum(new.get(key, pair) != pair for key, pair in old.items())} replaced; "
        f"{len(after.terms.keys() - texts.keys())} terms added, {len(changed)} descriptions "
        f"replaced; {before.repeated} repeated pairs were in it"
    )


class Merged:
    """The terms so far, in the order they first appeared, and what was seen twice."""

    def __init__(self) -> None:
        self.terms: dict[str, dict] = {}
        self.conflicts: list[str] = []
        self.left_out: Counter[str] = Counter()
        self.repeated = 0
        self._pairs: dict[tuple, dict] = {}
        self._answers: dict[tuple, str] = {}  # (title, question), squeezed → its first answer

    def pairs(self) -> dict[tuple, dict]:
        """(title, question, answer), squeezed → the pair."""
        return self._pairs

    def add_file(self, file: Path) -> None:
        for line, row in read_rows(file):
            self.add(nested(row, file, line), relative(file))

    def add(self, row: dict, source: str) -> None:
        self.left_out.update(row.keys() - set(TERM_KEYS))
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
        self.left_out.update(pair.keys() - set(PAIR_KEYS))
        kept = {key: pair[key] for key in PAIR_KEYS if key in pair}
        self._pairs[(*question, answer)] = kept
        term["conversations"].append(kept)


def nested(row: object, path: Path, line: int) -> dict:
    """The row in the nested shape: one of another shape becomes a term with its pair."""
    if is_nested(row):
        return validate(Nested, row, path=path, line=line).model_dump()
    turns = []
    for pair in pairs_of_row(row, path, line):
        if not pair["title"]:
            raise InputError("missing", path=path, line=line, field="title", fix="Name the term.")
        if len(pair.get("messages", ())) > 2:
            problem = "more than a question and an answer, which the nested shape cannot hold"
            raise InputError(problem, path=path, line=line, field="messages")
        extra = {name: pair[name] for name in ("context", "model") if name in pair}
        turns.append({"q": pair["question"], "a": pair["answer"], **extra})
    title = str(row.get("title")) if isinstance(row, dict) else ""
    return {"title": title, "conversations": turns}


def files_of(source: str) -> list[Path]:
    """The file, or a folder's ``*.json``.

    Raises:
        InputError: no such file or folder.
    """
    path = Path(source)
    if not path.exists():
        raise InputError("no such file or folder", path=source, fix="Check the path.")
    return sorted(path.glob("*.json")) if path.is_dir() else [path]


if __name__ == "__main__":
    run(main)
