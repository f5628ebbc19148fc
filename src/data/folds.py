"""Divide rows into folds by cluster, or check that training rows hold nothing of the scored.

    python src/data/folds.py --data rows.jsonl --by cluster --balance category --output folds.json
    python src/data/folds.py --data rows.jsonl --output folds.json --split_dir folds
    python src/data/folds.py --data train.jsonl --against test.jsonl       # the leak check alone

Reads   --data (rows with ``id``, --by and --balance; JSON, JSONL, CSV, Parquet).
Writes  --output: id → fold, with the settings and the counts. With --split_dir, for each fold N,
        foldN/train.jsonl and foldN/held.jsonl in it: the rows as they are.

All rows of one cluster lie in one fold, and so do clusters that are near-duplicates of each other
(the same dialogue under two names). Folds are fixed by --seed, whatever the rows' order.

The leak check stops (exit 2) where a row of --data shares its id or cluster with one of --against,
or nearly its text (passage, or the user's messages without wording and choices).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from malmat.cli import parser, positive, relative, run, share, show_settings, show_table
from malmat.errors import InputError
from malmat.files import digest, read_rows, write_json, write_jsonl
from malmat.folds import assign, refuse_leaks, unite
from malmat.text.duplicates import THRESHOLD


def arguments():
    options = parser(__doc__)
    options.add_argument("--data", required=True, help="rows, each with an id")
    options.add_argument("--k", type=positive, default=5, help="folds")
    options.add_argument("--by", default="cluster", help="the field that names a row's cluster")
    options.add_argument("--balance", help="a field whose values the folds share alike")
    options.add_argument("--seed", type=int, default=42)
    options.add_argument("--threshold", type=share, default=THRESHOLD, help="near-duplicates")
    options.add_argument("--output", help="the folds")
    options.add_argument("--split_dir", help="a folder for each fold's two sides")
    options.add_argument("--against", help="rows to be scored: check for leaks, and stop")
    return options.parse_args()


def main() -> None:
    args = arguments()
    if bool(args.output) == bool(args.against):
        raise InputError("give one of --output and --against", field="output")
    show_settings("folds", vars(args))
    rows = rows_of(args.data)
    if args.against:
        refuse_leaks(
            rows,
            rows_of(args.against),
            by=args.by,
            threshold=args.threshold,
            train_path=args.data,
            held_path=args.against,
        )
        print(f"no leak: {len(rows)} rows share no {args.by} and no text with {args.against}")
        return
    settings = {"k": args.k, "seed": args.seed, "by": args.by, "balance": args.balance}
    assign(rows, **settings, path=args.data)  # the rows fit
    united = unite(rows, by=args.by, threshold=args.threshold)
    grouped = [{**row, args.by: united.get(str(row[args.by]), row[args.by])} for row in rows]
    folds = assign(grouped, **settings, path=args.data)
    record = {"settings": {**settings, "data": relative(args.data), "threshold": args.threshold}}
    record |= {"ids": digest(sorted(folds)), "united": united, "folds": folds}
    write_json(args.output, record)
    if args.split_dir:
        for fold in range(args.k):
            folder = Path(args.split_dir) / f"fold{fold}"
            sides = {"train": [], "held": []}
            for row in rows:
                sides["held" if folds[str(row["id"])] == fold else "train"].append(row)
            for name, side in sides.items():
                write_jsonl(folder / f"{name}.jsonl", side)
    show(rows, folds, args)


def rows_of(path: str) -> list[dict]:
    return [row for _, row in read_rows(path, as_typed=True)]


def show(rows: list[dict], folds: dict[str, int], args) -> None:
    """Print each fold's rows, clusters and balanced values, and what was written."""
    values = sorted({str(row[args.balance]) for row in rows}) if args.balance else []
    lines = [("fold", "rows", "clusters", *values)]
    for fold in range(args.k):
        held = [row for row in rows if folds[str(row["id"])] == fold]
        counts = Counter(str(row[args.balance]) for row in held) if args.balance else {}
        clusters = len({str(row[args.by]) for row in held})
        lines.append((str(fold), str(len(held)), str(clusters), *(str(counts[v]) for v in values)))
    show_table(lines)
    print(f"wrote {relative(args.output)}")
    if args.split_dir:
        print(f"wrote {relative(args.split_dir)}/fold0 … fold{args.k - 1}")


if __name__ == "__main__":
    run(main)
