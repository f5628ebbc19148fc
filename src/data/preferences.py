"""Write preference rows (for train_dpo.py) from the misuses: apt answers above wrong ones.

    python src/data/preferences.py
    python src/train/train_dpo.py --model_name embedded --data_path data/preferences.jsonl

Reads   --misuse (src/data/README.md describes it), the understanding terms (--questions: terms of
        ``split: unseen`` are left out), and the questions of all tasks, which the leak gate
        compares; rows that a task asks by their id are left out, too.
Writes  --output: ``id, title, prompt, chosen, rejected, kind`` a line.

The two answers of a row are of like length, so that length is not what is learnt. The leak gate
stops (exit 2, nothing written) where a row holds a held-out term or an evaluation question.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.dialogues import preference_of_row
from malmat.errors import InputError
from malmat.evaluate.items import held_back, items_of, read_splits
from malmat.evaluate.task import registered_tasks
from malmat.files import row_id, write_jsonl
from malmat.formats import read_terms
from malmat.text.leaks import leak_gate
from malmat.text.misuse import asked, read_misuse

HERE = Path(__file__).parent
EVAL = HERE.parent / "eval"


def arguments():
    options = parser(__doc__)
    options.add_argument("--misuse", default=str(HERE / "misuse.jsonl"))
    options.add_argument("--questions", default=str(EVAL / "meme_sample_with_questions.jsonl"))
    options.add_argument("--terms", default=str(HERE / "terms.csv"), help="forms of the terms")
    options.add_argument("--output", default=str(HERE.parents[1] / "data/preferences.jsonl"))
    return options.parse_args()


def main() -> None:
    args = arguments()
    show_settings("preferences", vars(args))
    tasks, splits = registered_tasks().values(), read_splits(args.questions)
    asked_of = {item["id"] for task in tasks for item in items_of(task)}
    found = read_misuse(args.misuse)
    kept = [
        row for row in found if splits.get(row["title"]) != "unseen" and row["id"] not in asked_of
    ]
    if not kept:
        raise InputError("nothing is left to train on", path=args.misuse)
    rows = [
        {
            "id": row_id("preference", row["id"]),
            "title": row["title"],
            "prompt": asked(row),
            "chosen": row["apt"],
            "rejected": row["misuse"],
            "kind": row["kind"],
        }
        for row in kept
    ]
    unseen = [{"title": title, "split": split} for title, split in splits.items()]
    leak_gate(
        [preference_of_row(row, args.misuse, number) for number, row in enumerate(rows, 1)],
        [*held_back(tasks), *unseen],
        terms=read_terms(args.terms),
        path=args.misuse,
    )
    write_jsonl(args.output, rows)
    counts = Counter(row["kind"] for row in rows)
    print("leak gate: no held-out term, evaluation question or near-duplicate in training")
    print(f"{len(rows)} of {len(found)} rows: {', '.join(f'{k} {n}' for k, n in counts.items())}")
    print(f"wrote {relative(args.output)}")


if __name__ == "__main__":
    run(main)
