"""Export the data for others: a Hugging Face data set, lm-evaluation-harness tasks, training rows.

    python src/data/export.py --output_dir export
    lm_eval --model hf --model_args pretrained=MODEL --include_path export/lm_eval --tasks malmat

Reads   the term list, the pairs, the turns, the misuses and the questions of the slang tasks.
Writes  --output_dir/dataset: Parquet files a configuration and split, and the card (README.md),
        which ``datasets.load_dataset(folder, name)`` loads; /lm_eval: a YAML file a task whose
        choices are texts, its items, and their group; /training: chat.jsonl (``messages``) and, by
        src/data/preferences.py, preferences.jsonl, neither with a term that is to stay unseen.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.errors import InputError
from malmat.evaluate.items import read_splits
from malmat.evaluate.task import Task, registered_tasks
from malmat.files import write_jsonl, write_text
from malmat.formats import read_pairs, read_terms
from malmat.text.leaks import leak_gate
from malmat.text.misuse import read_misuse

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SAMPLE = HERE.parent / "eval" / "meme_sample_with_questions.jsonl"

YAML = """\
task: malmat_{name}
dataset_path: json
dataset_kwargs:
  data_files: {path}
test_split: train
output_type: multiple_choice
doc_to_text: "{{{{prompt}}}}"
doc_to_choice: "{{{{choices}}}}"
doc_to_target: "{{{{label}}}}"
target_delimiter: ""
metric_list:
  - metric: acc
  - metric: acc_bytes
metadata:
  version: 1.0
"""


def arguments():
    options = parser(__doc__)
    options.add_argument("--output_dir", default=str(ROOT / "export"))
    options.add_argument("--pairs", default=str(ROOT / "merged_final.json"))
    options.add_argument("--turns", default=str(HERE / "turns.jsonl"))
    options.add_argument("--misuse", default=str(HERE / "misuse.jsonl"))
    options.add_argument("--terms", default=str(HERE / "terms.csv"))
    return options.parse_args()


def main() -> None:
    args = arguments()
    show_settings("export", vars(args))
    output = Path(args.output_dir)
    unseen = {title for title, split in read_splits(SAMPLE).items() if split == "unseen"}
    tasks = [task for task in registered_tasks().values() if not task.answers]
    tasks = [task for task in tasks if task.questions.is_relative_to(SAMPLE.parent)]
    items = {task.name: [dict(item) for item in task.read(task.questions)] for task in tasks}
    asked = {item["id"] for found in items.values() for item in found}
    pairs, turns = read_pairs(args.pairs), read_pairs(args.turns)
    tables = {
        "terms": {"train": read_terms(args.terms)},
        "pairs": by_split(pairs, unseen),
        "turns": by_split(turns, unseen),
        "misuse": by_split(read_misuse(args.misuse), unseen, asked),
        **{name: {"test": found} for name, found in items.items()},
    }
    for name, parts in tables.items():
        for split, rows in parts.items():
            write_parquet(output / "dataset" / name / f"{split}.parquet", rows)
    write_text(output / "dataset" / "README.md", card(tables))
    tasks = [task for task in tasks if task.choose == "text" and "choices" in items[task.name][0]]
    for task in tasks:
        write_harness_task(output / "lm_eval", task, items[task.name])
    write_harness_group(output / "lm_eval", tasks)
    write_training(output / "training", [*pairs, *turns], unseen, args)
    for name, parts in tables.items():
        print(f"{name}: {', '.join(f'{split} {len(rows)}' for split, rows in parts.items())}")
    print(f"wrote {relative(output)}/dataset, lm_eval ({len(tasks)} tasks), training")


def by_split(
    rows: list[dict], unseen: set[str], asked: set[str] | frozenset[str] = frozenset()
) -> dict[str, list[dict]]:
    """Rows that may be trained on, and those of unseen terms or that a task asks."""
    tested = [row["title"] in unseen or row["id"] in asked for row in rows]
    parts = {"train": False, "test": True}
    return {
        name: [row for row, test in zip(rows, tested, strict=True) if test == wanted]
        for name, wanted in parts.items()
    }


def write_parquet(path: Path, rows: list[dict]) -> None:
    from datasets import Dataset, disable_progress_bars

    disable_progress_bars()
    names = list(dict.fromkeys(name for row in rows for name in row))
    path.parent.mkdir(parents=True, exist_ok=True)
    whole = [{name: row.get(name) for name in names} for row in rows]
    Dataset.from_list(whole).to_parquet(str(path))


def card(tables: dict[str, dict[str, list[dict]]]) -> str:
    """The card: its configurations, then the project's own data card."""
    lines = ["---", "license: cc-by-4.0", "language: [ko]", "configs:"]
    for name, parts in tables.items():
        lines += [f"- config_name: {name}", "  data_files:"]
        for split in parts:
            lines += [f"  - split: {split}", f"    path: {name}/{split}.parquet"]
    lines += ["---", "", (HERE / "README.md").read_text(encoding="utf-8")]
    lines += ["## Configurations", "", "| configuration | rows | fields |", "|---|---|---|"]
    for name, parts in tables.items():
        counts = ", ".join(f"{split} {len(rows)}" for split, rows in parts.items())
        fields = ", ".join(next(iter(parts.values()))[0])
        lines.append(f"| {name} | {counts} | {fields} |")
    return "\n".join([*lines, ""])


def write_harness_task(folder: Path, task: Task, items: list[dict]) -> None:
    """The task's items with their prompt, and the harness's YAML file."""
    prompts, rows = task.prompts(), []
    for item in items:
        (message,) = task.render(prompts, item, [])  # type: ignore[arg-type]
        label = item["choices"].index(item["target"])
        row = {"id": item["id"], "prompt": message["content"], "choices": item["choices"]}
        rows.append({**row, "label": label, "split": item.get("split", "")})
    data = folder / f"malmat_{task.name}.jsonl"
    write_jsonl(data, rows)
    text = YAML.format(name=task.name, path=data.resolve())
    write_text(folder / f"malmat_{task.name}.yaml", text)


def write_harness_group(folder: Path, tasks: list[Task]) -> None:
    lines = ["group: malmat", "task:", *(f"  - malmat_{task.name}" for task in tasks), ""]
    write_text(folder / "malmat.yaml", "\n".join(lines))


def write_training(folder: Path, pairs: list[dict], unseen: set[str], args) -> None:
    """Chat rows of the terms that may be trained on, and the preference rows.

    Raises:
        InputError: a row holds a term that is to stay unseen.
    """
    rows = [pair for pair in pairs if pair["title"] not in unseen]
    held = [{"title": title, "split": "unseen"} for title in unseen]
    leak_gate(rows, held, terms=read_terms(args.terms), path=args.pairs)
    chat = []
    for row in rows:
        talk = [("user", row["question"]), ("assistant", row["answer"])]
        messages = row.get("messages") or [{"role": r, "content": text} for r, text in talk]
        chat.append({"id": row["id"], "title": row["title"], "messages": messages})
    write_jsonl(folder / "chat.jsonl", chat)
    words = ["--misuse", args.misuse, "--terms", args.terms]
    words += ["--output", folder / "preferences.jsonl"]
    command = [sys.executable, HERE / "preferences.py", *words]
    if subprocess.run([*map(str, command)], stdout=subprocess.DEVNULL).returncode:
        raise InputError("no preference rows: see above", path=args.misuse)


if __name__ == "__main__":
    run(main)
