"""Split dialogue pairs by term into training and held-out rows.

    python src/data/split.py --input merged_final.json --output_dir data

Reads   --input (any shape ``malmat.records.read_pairs`` takes), and the understanding
        questions (--questions), which say by ``split: unseen`` which terms no model
        may be trained on.
Writes  train.jsonl, heldout.jsonl (``id, title, question, answer`` a line) and
        split.json (settings, counts, terms of each side).

All pairs of a term fall on one side, so that held-out loss and unseen-term scores
measure understanding and not memory. Beside the unseen terms a seeded share of the
other terms (--heldout_share) is held out; with no unseen terms given, only that.
"""

from __future__ import annotations

import random
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.pairs import squeeze
from malmat.records import InputError, read_pairs, read_rows, write_json, write_jsonl

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", default=str(HERE.parents[1] / "merged_final.json"))
    options.add_argument(
        "--questions", default=str(HERE.parent / "eval/meme_sample_with_questions.jsonl")
    )
    options.add_argument("--output_dir", default=str(HERE.parents[1] / "data"))
    options.add_argument("--heldout_share", type=float, default=0.0, help="of the other terms")
    options.add_argument("--seed", type=int, default=42)
    return options.parse_args()


def main() -> None:
    args = arguments()
    if not 0 <= args.heldout_share < 1:
        raise InputError("must be at least 0 and below 1", field="heldout_share")
    show_settings("split", vars(args))
    pairs = read_pairs(args.input)
    asked = [row for _, row in read_rows(args.questions)]
    unseen = {squeeze(row["title"]) for row in asked if row.get("split") == "unseen"}
    titles = list(dict.fromkeys(pair["title"] for pair in pairs))
    heldout = {title for title in titles if squeeze(title) in unseen}
    rest = [title for title in titles if title not in heldout]
    drawn = random.Random(args.seed).sample(rest, round(len(rest) * args.heldout_share))
    heldout.update(drawn)
    train = [pair for pair in pairs if pair["title"] not in heldout]
    held = [pair for pair in pairs if pair["title"] in heldout]
    if not train:
        raise InputError("nothing is left to train on", path=args.input, fix="Hold out less.")

    output = Path(args.output_dir)
    write_jsonl(output / "train.jsonl", train)
    write_jsonl(output / "heldout.jsonl", held)
    trained = {squeeze(pair["title"]) for pair in train}
    write_json(
        output / "split.json",
        {
            "settings": {name: str(value) for name, value in vars(args).items()},
            "train": {"pairs": len(train), "terms": [t for t in titles if t not in heldout]},
            "heldout": {"pairs": len(held), "terms": [t for t in titles if t in heldout]},
        },
    )
    seen = sum(squeeze(row["title"]) in trained for row in asked)
    print(
        f"train: {len(train)} pairs of {len(titles) - len(heldout)} terms; "
        f"held out: {len(held)} pairs of {len(heldout)} terms"
    )
    print(f"of {len(asked)} evaluation terms {seen} are trained on, {len(asked) - seen} are not")
    print(f"wrote {relative(output)}/train.jsonl, heldout.jsonl, split.json")


if __name__ == "__main__":
    run(main)
