"""Plots of the data: lengths, choices, answers, topics, sources, a folder a split.

    python src/csat/eda.py --input src/csat/sample/*.csv --output_dir data/eda

Reads   --input: the contest's files or prepare.py's rows, a split each.
Writes  --output_dir/SPLIT (named after the file): length.csv (``id,paragraph,question,choices``, in
        characters) and as PNG source, topic, n_choices, length, option_length, items_per_passage,
        plus, word_cloud (nouns, by Kiwi); with answers also answer and option_length_by_answer.

A plot with a letter that its font does not have is refused, not written.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.contests import charts
from malmat.contests.charts import Panel
from malmat.errors import InputError
from malmat.evaluate.task import Item
from malmat.files import write_csv
from task import TASK

TITLES = {
    "source": "Rows by source (출처)",
    "topic": "Rows by topic, told by keywords (주제)",
    "n_choices": "Choices a row (선택지 수)",
    "length": "Characters a passage (지문 길이)",
    "option_length": "Characters a choice (선택지 길이)",
    "items_per_passage": "Rows a passage (지문당 문항 수)",
    "plus": "With and without 보기",
    "word_cloud": "Nouns of the passages (명사)",
    "answer": "Right answers by number of choices (정답 번호)",
    "option_length_by_answer": "Right and wrong choices (정답과 오답의 길이)",
}


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", nargs="+", required=True)
    options.add_argument("--output_dir", required=True)
    args = options.parse_args()
    if len({Path(path).stem for path in args.input}) < len(args.input):
        raise InputError("two files have one name, which names a split's folder", field="input")
    return args


def main() -> None:
    args = arguments()
    show_settings("eda", vars(args))
    splits = {Path(path).stem: TASK.read(Path(path)) for path in args.input}
    for split, items in splits.items():
        folder = Path(args.output_dir) / split
        write_lengths(folder / "length.csv", items)
        panels = panels_of(items)
        for name, panel in panels.items():
            title = f"{split}: {TITLES[name]}"
            charts.save_figure(folder / f"{name}.png", title, {f"{len(items)} rows": panel})
        print(f"{split}: {len(panels)} plots in {relative(folder)}: {', '.join(panels)}")


def write_lengths(path: Path, items: list[Item]) -> None:
    """Write the characters of each row's passage, question and choices."""
    fields = ["id", "paragraph", "question", "choices"]
    rows = (
        (one["id"], len(one["passage"]), len(one["question"]), sum(map(len, one["options"])))
        for one in items
    )
    write_csv(path, fields, [dict(zip(fields, row, strict=True)) for row in rows])


def panels_of(items: list[Item]) -> dict[str, Panel]:
    """The plots of one file by name; without answers only those that need none."""
    passages = {one["title"]: one["passage"] for one in items}
    sizes = Counter(Counter(one["title"] for one in items).values())

    def counts(name: str) -> Panel:
        return charts.bars(dict(Counter(str(one[name]) for one in items).most_common()))

    panels = {name: counts(name) for name in ("source", "topic", "n_choices", "plus")}
    lengths = [len(text) for text in passages.values()]
    options = [len(text) for one in items for text in one["options"]]
    panels |= {
        "length": charts.histogram(lengths, "characters", "passages"),
        "option_length": charts.histogram(options, "characters", "choices"),
        "items_per_passage": charts.bars(dict(sorted(sizes.items())), "passages"),
        "word_cloud": charts.word_cloud(charts.nouns(list(passages.values()))),
    }
    if any(one.get("target") is None for one in items):
        return panels
    shares: dict[str, dict[str, float]] = {}
    for size in sorted({one["n_choices"] for one in items}):
        own = Counter(one["target"] for one in items if one["n_choices"] == size)
        labels = map(str, range(1, size + 1))
        shares[f"{size} choices"] = {label: own[label] / own.total() for label in labels}
    sides: dict[str, list[float]] = {"right (정답)": [], "wrong (오답)": []}
    for one in items:
        for label, text in zip(one["choices"], one["options"], strict=True):
            sides["right (정답)" if label == one["target"] else "wrong (오답)"].append(len(text))
    return panels | {
        "answer": charts.grouped_bars(shares, "share of the rows"),
        "option_length_by_answer": charts.boxes(sides, "characters"),
    }


if __name__ == "__main__":
    run(main)
