"""Merge dialogue pairs from any number of files and folders into one nested file.

    python src/data/merge.py merged_final.json augmented_jsons --output merged_new.json

Reads   files or folders of JSON: nested (title, description, conversations) as
        generate_augmented_pairs_gemini.py and merged_final.json have it.
Writes  --output, in the same shape: terms in the order they first appear, repeated
        pairs once (the first one counts), each pair with the model that wrote it.
        Where two sources describe a term differently, the first counts and it is said.
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.pairs import squeeze
from malmat.records import InputError, check_fields, read_json, read_rows, write_json


def arguments():
    options = parser(__doc__)
    options.add_argument("sources", nargs="+", help="files or folders, the first one wins")
    options.add_argument("--output", default="merged_final.json")
    return options.parse_args()


def main() -> None:
    args = arguments()
    show_settings("merge", vars(args))
    merged: dict[str, dict] = {}
    seen: set[str] = set()
    conflicts, repeated = [], 0
    for path, line, row in (entry for source in args.sources for entry in rows_of(source)):
        check_fields(row, {"title": str, "conversations": list}, path=path, line=line)
        title, description = row["title"].strip(), str(row.get("description") or "").strip()
        term = merged.setdefault(
            title, {"title": title, "description": description, "conversations": []}
        )
        term["description"] = term["description"] or description
        if description and description != term["description"]:
            conflicts.append((title, path))
        for index, pair in enumerate(row["conversations"]):
            where = f"conversations[{index}]."
            check_fields(pair, {"q": str, "a": str}, path=path, line=line, where=where)
            key = squeeze(title) + "\0" + squeeze(pair["q"]) + "\0" + squeeze(pair["a"])
            if key in seen:
                repeated += 1
                continue
            seen.add(key)
            kept = {name: pair[name] for name in ("context", "q", "a", "model") if name in pair}
            term["conversations"].append(kept)
    write_json(args.output, list(merged.values()))
    pairs = sum(len(term["conversations"]) for term in merged.values())
    for title, path in conflicts:
        print(f"  {title}: another description in {relative(path)} (the first one counts)")
    print(f"merged {len(merged)} terms, {pairs} pairs; {repeated} repeated pairs left out")
    print(f"wrote {relative(args.output)}")


def rows_of(source: str):
    """(file, line, row) of every term in a file or in a folder's ``*.json``."""
    path = Path(source)
    if not path.exists():
        raise InputError("no such file or folder", path=source, fix="Check the path.")
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        single = path.is_dir() and isinstance(value := read_json(file), dict)
        for line, row in [(1, value)] if single else read_rows(file):
            yield file, line, row


if __name__ == "__main__":
    run(main)
