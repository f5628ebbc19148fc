"""Answer the questions with several models, each without contexts and with those of each retriever.

    python src/culture_qa/grid.py --row embedded --questions test.jsonl --results_dir results \\
        --models_of base=embedded sft=checkpoints/embedded dpo=checkpoints/embedded-dpo \\
        --contexts none bm25=bm25.jsonl gold=gold.jsonl

Reads   --questions: rows of prepare.py; --contexts: files of retrieve.py (``none``: without any);
        the answering options of the row of models.json.
Writes  results/<task>/infer_results of the models MODEL-CONTEXTS (base-none, sft-bm25 …), as
        infer.py writes them, after the steps of postprocess.py; --work: what was asked
        (gold.jsonl), with the journals from which a killed run goes on.

A model answers a task's questions in all their conditions in one run of infer.py, so that it is
loaded once: a question's id is then ``ID@CONTEXTS``. A model that fails is listed, the others carry
on, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from malmat.cli import (
    BAD_INPUT,
    COMPLETE,
    FAILURES,
    INTERRUPTED,
    ROOT,
    parser,
    positive,
    relative,
    run,
    show_settings,
)
from malmat.contests.typed_questions import SHORT, read_typed
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.contexts import read_contexts
from malmat.evaluate.task import Task
from malmat.files import plain_name, read_json, read_rows, write_json, write_jsonl
from malmat.models import answering, model_row
from task import BY_TYPE

HERE = Path(__file__).parent
AT = "@"
"""Between a question's id and the name of its contexts, in a joint file."""

NONE = "none"

SHORT_TOKENS = 64
"""Of a 단답형 answer, at most: it is a word or two, and a model that goes on has none."""


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("--row", required=True, help="of models.json: how its models answer")
    options.add_argument("--models", default=str(HERE / "models.json"))
    options.add_argument("--models_of", nargs="+", required=True, metavar="NAME=MODEL")
    options.add_argument("--contexts", nargs="+", required=True, metavar="NAME=FILE")
    options.add_argument("--questions", required=True, help="rows of prepare.py")
    options.add_argument("--limit", type=positive, help="only the first N questions a type")
    options.add_argument("--work", required=True, help="a folder for joint files and journals")
    options.add_argument("--results_dir", default=str(ROOT / "src" / "eval" / "results"))
    args = options.parse_args()
    args.models_of = named(args.models_of, "models_of")
    args.contexts = named(args.contexts, "contexts")
    return args


def named(words: list[str], field: str) -> dict[str, str]:
    """NAME=VALUE words as a dict; ``none`` alone stands for no file."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if bool(equals) == (word == NONE) or not plain_name(name) or name in found:
            raise InputError(f"'{word}' is no NAME=VALUE, or its name stands twice", field=field)
        found[name] = value
    return found


def main() -> int:
    args = arguments()
    show_settings("grid", vars(args))
    row = model_row(args.row, args.models)
    work = Path(args.work)
    questions, contexts = work / "questions.jsonl", work / "contexts.jsonl"
    tasks = joint(args, questions, contexts)
    failed = []
    for name, model in args.models_of.items():
        for task in tasks:
            print(f"\n=== {name} {task.name}", flush=True)
            output = work / f"{name}_{task.name}.json"
            command = [sys.executable, str(ROOT / "src/eval/infer.py"), model, "local", task.name]
            command += ["--name", name, "--questions", str(questions), "--contexts", str(contexts)]
            command += ["--output", str(output), *options_of(args.row, row, task)]
            if finished(command):
                split(args, task, name, output)
            else:
                failed.append(f"{name} {task.name}")
    for name in failed:
        print(f"failed: {name}", file=sys.stderr)
    return FAILURES if failed else COMPLETE


def options_of(name: str, row, task: Task) -> Iterator[str]:
    """The answering options of a row for a task, as words of infer.py's command line."""
    options = dict(answering(name, row).options)
    if task is BY_TYPE[SHORT]:
        options["max_new_tokens"] = min(options.get("max_new_tokens", SHORT_TOKENS), SHORT_TOKENS)
    for key, value in options.items():
        if value is not False:
            yield f"--{key}"
            if value is not True:
                yield str(value)


def joint(args, questions: Path, contexts: Path) -> list[Task]:
    """Write each question once a condition, with its passages; the tasks that have some.

    Raises:
        InputError: a question that a file of contexts does not hold.
    """
    known = {name: read_contexts(path) if path else None for name, path in args.contexts.items()}
    counts: dict[str, int] = {}
    rows, passages, asked = [], [], []
    kinds = {one.id: one.type for one in read_typed(args.questions)[0]}
    for _, row in read_rows(args.questions):
        kind = kinds[row["id"]]
        counts[kind] = counts.get(kind, 0) + 1
        if args.limit and counts[kind] > args.limit:
            continue
        asked.append(row)
        for name, found in known.items():
            if found is not None and row["id"] not in found:
                problem, path = f"the question {row['id']} is not in it", args.contexts[name]
                raise InputError(problem, path=path, field="id", fix="Retrieve for all.")
            own = f"{row['id']}{AT}{name}"
            rows.append({**row, "id": own})
            passages.append({"id": own, "contexts": found[row["id"]] if found else []})
    write_jsonl(questions.with_name("gold.jsonl"), asked)
    write_jsonl(questions, rows)
    write_jsonl(contexts, passages)
    return [task for kind, task in BY_TYPE.items() if kind in counts]


def finished(command: list[str]) -> bool:
    """Run a command to its end; whether it answered everything.

    Raises:
        InputError: bad input, which would be as bad with the next model.
    """
    try:
        status = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL).returncode
    except KeyboardInterrupt:
        status = INTERRUPTED
    if status == INTERRUPTED or status < 0:
        raise KeyboardInterrupt
    if status == BAD_INPUT:
        raise InputError("infer.py was given bad input (see above)", field="models_of")
    return status == COMPLETE


def split(args, task: Task, name: str, output: Path) -> None:
    """Write the answers of a joint run as those of one model a condition, with its record."""
    from postprocess import cleaned

    rows = results.read_answers(output, unique=True)
    record = read_json(results.run_record(output))
    for condition, path in args.contexts.items():
        column = f"{name}-{condition}"
        own = [
            {**cleaned(row, []), "id": row["id"].rpartition(AT)[0]}
            for row in rows
            if row["id"].rpartition(AT)[2] == condition
        ]
        target = results.answers_path(args.results_dir, task, column)
        write_json(target, own)
        settings = {**record["settings"], "name": column, "contexts": path or None}
        write_json(results.run_record(target), {**record, "settings": settings, "joint": True})
    print(f"  {len(args.contexts)} columns of {name} → {relative(args.results_dir)}")


if __name__ == "__main__":
    run(main)
