"""Plots and lengths of the data, raw and refined side by side.

    python src/dialogue_inference/eda.py --raw train.json test.json \\
        --refined train_refined.json test_refined.json --output_dir data/eda

Reads   --raw: files of the contest, a split each; --refined: what refine.py made of them, in the
        same order.
Writes  --output_dir/SPLIT (named after the raw file): length_raw.csv and length_refined.csv
        (``id,total_utterance_length``, in characters), and as PNG category, turns, length,
        references, rows_per_dialogue, option_length and word_cloud (nouns, by Kiwi); with answers
        also answer, answer_by_category and option_length_by_answer.

A plot with a letter that its font does not have is refused, not written.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.contests import charts
from malmat.contests.charts import Panel
from malmat.contests.dialogues import LABELS, Dialogue, read_dialogues
from malmat.contests.faults import Fault, show_skipped
from malmat.errors import InputError
from malmat.files import write_csv
from task import CATEGORIES

TITLES = {
    "category": "Rows by category (범주)",
    "turns": "Utterances a dialogue (발화 수)",
    "length": "Characters a dialogue (발화 길이의 합)",
    "references": "Marked utterances a row (참조 발화 수)",
    "rows_per_dialogue": "Rows a dialogue (대화당 문항 수)",
    "option_length": "Characters an option (선택지 길이)",
    "word_cloud": "Nouns (명사)",
    "answer": "Rows by answer (정답)",
    "answer_by_category": "Answer by category (범주별 정답)",
    "option_length_by_answer": "Right and wrong options (정답과 오답의 길이)",
}


def arguments():
    options = parser(__doc__)
    options.add_argument("--raw", nargs="+", required=True)
    options.add_argument("--refined", nargs="+", default=[])
    options.add_argument("--output_dir", required=True)
    options.add_argument("--skip_bad", action="store_true", help="go on without faulty rows")
    args = options.parse_args()
    if args.refined and len(args.refined) != len(args.raw):
        raise InputError(f"expected {len(args.raw)} files, one for each of --raw", field="refined")
    if len({Path(path).stem for path in args.raw}) < len(args.raw):
        raise InputError("two files have one name, which names a split's folder", field="raw")
    return args


def main() -> int:
    args = arguments()
    show_settings("eda", vars(args))
    faults: list[Fault] = []
    splits: dict[str, dict[str, list[Dialogue]]] = {}
    for number, path in enumerate(args.raw):  # all are read before anything is written
        versions = splits[Path(path).stem] = {}
        for name, files in (("raw", args.raw), ("refined", args.refined)):
            if files:
                rows, bad = read_dialogues(files[number], CATEGORIES, skip_bad=args.skip_bad)
                versions[name] = rows
                faults += bad
    for split, versions in splits.items():
        folder = Path(args.output_dir) / split
        write_lengths(folder, versions)
        panels = {version: panels_of(rows) for version, rows in versions.items()}
        names = [name for name in TITLES if all(name in some for some in panels.values())]
        for name in names:
            shown = {version: some[name] for version, some in panels.items()}
            charts.save_figure(folder / f"{name}.png", f"{split}: {TITLES[name]}", shown)
        print(f"{split}: {len(names)} plots in {relative(folder)}: {', '.join(names)}")
    return show_skipped(faults)


def write_lengths(folder: Path, versions: dict[str, list[Dialogue]]) -> None:
    """Write the characters of each row's utterances."""
    fields = ["id", "total_utterance_length"]
    for version, rows in versions.items():
        lines = [dict(zip(fields, (one.id, length(one)), strict=True)) for one in rows]
        write_csv(folder / f"length_{version}.csv", fields, lines)


def length(one: Dialogue) -> int:
    return sum(len(turn["utterance"]) for turn in one.conversation)


def panels_of(rows: list[Dialogue]) -> dict[str, Panel]:
    """The plots of one file by name; without answers only those that need none."""
    categories = Counter(one.category for one in rows)
    dialogues = {one.cluster: one for one in rows}.values()
    turns = (turn["utterance"] for one in dialogues for turn in one.conversation)
    texts = [re.sub(r"(?:화자|name)\d+", " ", text) for text in turns]  # who is no noun of theirs
    per_dialogue = Counter(Counter(one.cluster for one in rows).values())
    options = [len(text) for one in rows for text in one.options]
    panels = {
        "category": charts.bars({name: categories[name] for name in CATEGORIES}),
        "turns": charts.bars(by_value(Counter(len(one.conversation) for one in rows))),
        "length": charts.histogram([length(one) for one in rows], "characters"),
        "references": charts.bars(by_value(Counter(len(one.reference_id) for one in rows))),
        "rows_per_dialogue": charts.bars(by_value(per_dialogue), "dialogues"),
        "option_length": charts.histogram(options, "characters", "options"),
        "word_cloud": charts.word_cloud(charts.nouns(texts)),
    }
    if any(one.answer is None for one in rows):
        return panels
    return panels | panels_of_answers(rows)


def panels_of_answers(rows: list[Dialogue]) -> dict[str, Panel]:
    """The plots that need answers."""
    answers = Counter(one.answer for one in rows)
    shares = {}
    for category in CATEGORIES:
        own = Counter(one.answer for one in rows if one.category == category)
        shares[category] = {label: own[label] / max(1, own.total()) for label in LABELS}
    lengths: dict[str, list[float]] = {"right (정답)": [], "wrong (오답)": []}
    for one in rows:
        for label, text in zip(LABELS, one.options, strict=True):
            lengths["right (정답)" if label == one.answer else "wrong (오답)"].append(len(text))
    return {
        "answer": charts.bars({label: answers[label] for label in LABELS}),
        "answer_by_category": charts.grouped_bars(shares, "share of the category's rows"),
        "option_length_by_answer": charts.boxes(lengths, "characters"),
    }


def by_value(counts: Counter[int]) -> dict[int, int]:
    return dict(sorted(counts.items()))


if __name__ == "__main__":
    run(main)
