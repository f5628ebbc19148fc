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
from malmat.files import check_fields, read_json, read_rows, write_json
from malmat.text.duplicates import squeeze


def arguments():
    options = parser(__doc__)
    options.add_argument("sources", nargs="+", help="files or folders, the first one wins")
    options.add_argument("--output", default="merged_final.json")
    return options.parse_args()


def main() -> None:
    args = arguments()
    show_settings("merge", vars(args))
    merged: dict[str, dict] = {}
    seen: dict[tuple, dict] = {}  # (title, question, answer) → the pair that counts
    answers: dict[tuple, str] = {}  # (title, question) → its first answer
    conflicts, repeated = [], 0
    for path, line, row in (entry for source in args.sources for entry in rows_of(source)):
        row = nested(row, path, line)
        title, description = row["title"].strip(), str(row.get("description") or "").strip()
        term = merged.setdefault(
            title, {"title": title, "description": description, "conversations": []}
        )
        term["description"] = term["description"] or description
        if description and description != term["description"]:
            conflicts.append(f"{title}: another description in {relative(path)}")
        for index, pair in enumerate(row["conversations"]):
            where = f"conversations[{index}]."
            check_fields(pair, {"q": str, "a": str}, path=path, line=line, where=where)
            question, answer = (squeeze(title), squeeze(pair["q"])), squeeze(pair["a"])
            first = seen.get((*question, answer))
            if first is not None:
                repeated += 1
                if pair.get("model") != first.get("model"):
                    conflicts.append(
                        f"{title}: '{pair['q'][:30]}' by {first.get('model')}, and by "
                        f"{pair.get('model')} in {relative(path)}"
                    )
                continue
            if answers.setdefault(question, answer) != answer:
                conflicts.append(
                    f"{title}: '{pair['q'][:30]}' has another answer in "
                    f"{relative(path)} (both are kept)"
                )
            kept = {name: pair[name] for name in ("context", "q", "a", "model") if name in pair}
            seen[(*question, answer)] = kept
            term["conversations"].append(kept)
    write_json(args.output, list(merged.values()))
    pairs = sum(len(term["conversations"]) for term in merged.values())
    for conflict in conflicts:
        print(f"  {conflict}")
    if conflicts:
        print(f"{len(conflicts)} conflicts: the first source counts")
    print(f"merged {len(merged)} terms, {pairs} pairs; {repeated} repeated pairs left out")
    print(f"wrote {relative(args.output)}")


def nested(row: object, path: Path, line: int) -> dict:
    """The row in the nested shape: a flat one becomes a term with one pair."""
    if isinstance(row, dict) and "conversations" not in row and "question" in row:
        fields = {"title": str, "question": str, "answer": str}
        check_fields(row, fields, path=path, line=line)
        extra = {name: row[name] for name in ("context", "model") if row.get(name)}
        pair = {"q": row["question"], "a": row["answer"], **extra}
        row = {"title": row["title"], "conversations": [pair]}
    return check_fields(row, {"title": str, "conversations": list}, path=path, line=line)


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
