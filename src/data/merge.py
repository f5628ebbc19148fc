"""Merge dialogue pairs from any number of files and folders into one nested file.

    python src/data/merge.py merged_final.json augmented_jsons --output merged_final.json

Reads   files, or folders (their *.json files: journals and rejected.jsonl are passed over), in
        any shape of docs/data-formats.md whose rows have a title.
Writes  --output, in the nested shape of merged_final.json: terms in the order they first appear,
        repeated pairs once (the first one counts), each pair with the model that wrote it. A file
        that is there is replaced if it is a source; another is left alone without --overwrite.
Prints  conflicts: a term that two sources describe differently, a pair that two models claim, a
        question that has two answers (both are kept); keys that are left out; and, where --output
        was there, what is added to it, replaced and dropped.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.dialogues import DIALOGUE, Nested, is_nested, pairs_of_row
from malmat.errors import InputError
from malmat.files import read_rows, write_json
from malmat.schema import validate
from malmat.text.duplicates import squeeze

PAIR_KEYS = ("context", "q", "a", "model")
TERM_KEYS = ("title", "description", "conversations")
FLAT_KEYS = {"id", "title", "context", "model", *DIALOGUE}


def arguments():
    options = parser(__doc__)
    options.add_argument("sources", nargs="+", help="files or folders, the first one wins")
    options.add_argument("--output", default="merged_final.json")
    options.add_argument(
        "--overwrite", action="store_true", help="replace an output that is no source"
    )
    return options.parse_args()


def main() -> None:
    args = arguments()
    show_settings("merge", vars(args))
    output, sources = Path(args.output), [file for one in args.sources for file in files_of(one)]
    merged = Merged()
    for file in sources:
        merged.add_file(file)
    is_source = output.exists() and any(file.samefile(output) for file in sources)
    if output.exists() and not is_source and not args.overwrite:
        fix = "Name it as a source too, give another --output, or --overwrite."
        raise InputError("is there and is no source", path=output, field="output", fix=fix)
    if not merged.pairs:
        problem = "no dialogue pairs in them, nothing is written"
        raise InputError(problem, field="sources")
    before = Merged()
    if output.exists():
        before.add_file(output)
    write_json(args.output, list(merged.terms.values()))
    for conflict in merged.conflicts:
        print(f"  {conflict}")
    if merged.conflicts:
        print(f"{len(merged.conflicts)} conflicts: the first source counts")
    for key, count in merged.left_out.items():
        print(f"  left out: '{key}' of {count} terms or pairs")
    terms, pairs = len(merged.terms), len(merged.pairs)
    print(f"merged {terms} terms, {pairs} pairs; {merged.repeated} repeated pairs left out")
    if before.terms:
        show_changes(before, merged, relative(output))
    print(f"wrote {relative(args.output)}")


def show_changes(before: Merged, after: Merged, name: str) -> None:
    """Print what became of a file that is replaced."""
    old, new, terms = before.pairs, after.pairs, after.terms
    told = {t: term["description"] for t, term in before.terms.items() if term["description"]}
    print(
        f"{name}: {len(new.keys() - old.keys())} pairs added, {len(old.keys() - new.keys())} "
        f"dropped, {sum(new.get(key, pair) != pair for key, pair in old.items())} replaced; "
        f"{len(terms.keys() - before.terms.keys())} terms added, "
        f"{len(before.terms.keys() - terms.keys())} dropped; "
        f"{sum(t in terms and terms[t]['description'] != text for t, text in told.items())} "
        f"descriptions replaced; {before.repeated} repeated pairs were in it"
    )


class Merged:
    """The terms so far, in the order they first appeared, and what was seen twice."""

    def __init__(self) -> None:
        self.terms: dict[str, dict] = {}
        self.conflicts: list[str] = []
        self.left_out: Counter[str] = Counter()
        self.repeated = 0
        self.pairs: dict[tuple, dict] = {}  # (title, question, answer), squeezed → the pair
        self._answers: dict[tuple, str] = {}  # (title, question), squeezed → its first answer

    def add_file(self, file: Path) -> None:
        for line, row in read_rows(file):
            for term in nested(row, file, line):
                self.add(term, relative(file))

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
        first = self.pairs.get((*question, answer))
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
        self.pairs[(*question, answer)] = kept
        term["conversations"].append(kept)


def nested(row: object, path: Path, line: int) -> list[dict]:
    """The row in the nested shape: each pair of a row of another shape becomes a term."""
    if is_nested(row) or (isinstance(row, dict) and not row.keys() & DIALOGUE):
        return [validate(Nested, row, path=path, line=line).model_dump()]
    terms = []
    for pair in pairs_of_row(row, path, line):
        if not pair["title"]:
            raise InputError("missing", path=path, line=line, field="title", fix="Name the term.")
        if len(pair.get("messages", ())) > 2:
            problem = "more than a question and an answer, which the nested shape cannot hold"
            raise InputError(problem, path=path, line=line, field="messages")
        extra = {name: pair[name] for name in ("context", "model") if name in pair}
        turn = {"q": pair["question"], "a": pair["answer"], **extra}
        more = {key: value for key, value in dict(row).items() if key not in FLAT_KEYS}
        terms.append({**more, "title": pair["title"], "conversations": [turn]})
    return terms


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
