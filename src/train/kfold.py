"""Train rows of models.json fold by fold, and answer each row with a model that never saw its like.

    python src/train/kfold.py NAME --models src/dialogue_inference/models.json \\
        --rows rows.jsonl --folds folds.json --task dialogue_inference
    python src/train/kfold.py NAME … --untrained --args="--max_steps 20" --dry_run

Reads   --models: the row's script, base model and options; --rows: rows to train on that are also
        the task's questions; --folds, of src/data/folds.py.
Writes  --output_dir/NAME/foldN: train.jsonl, held.jsonl, model/, answers.json; and, when all folds
        are done, the out-of-fold answers of all rows, with probabilities, as those of NAME:
        results/<task>/infer_results/<NAME>_<task>_inference_results.json.

Each fold starts from the base model. A fold that is done is passed over, one that was cut off goes
on, one that fails is listed. Nothing is trained where training rows share a cluster, or nearly a
text, with held-out rows. --untrained: the base model answers all rows, too. --test: a model of all
rows (folder ``all``) answers these.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

from rows import exit_code, options_of

from malmat.cli import (
    BAD_INPUT,
    COMPLETE,
    FAILURES,
    INTERRUPTED,
    ROOT,
    parser,
    provenance,
    relative,
    run,
    show_settings,
)
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.run_record import refuse_another_models
from malmat.evaluate.task import registered_tasks
from malmat.files import digest, read_json, read_rows, write_json, write_jsonl
from malmat.folds import read_folds, refuse_leaks
from malmat.models import MODELS_FILE, Row, answering, model_row, training_command


def arguments() -> argparse.Namespace:
    options = parser(__doc__)
    options.add_argument("name", help="a row of models.json")
    options.add_argument("--models", default=str(MODELS_FILE))
    options.add_argument("--rows", required=True, help="to train on and to answer, with ids")
    options.add_argument("--folds", required=True, help="of src/data/folds.py")
    options.add_argument("--by", default="cluster", help="the field that names a row's cluster")
    options.add_argument("--task", required=True, help="whose questions the rows are")
    options.add_argument("--output_dir", default="checkpoints/kfold")
    options.add_argument("--results_dir", default=str(ROOT / "src" / "eval" / "results"))
    options.add_argument("--args", default="", help="more options for training")
    options.add_argument("--untrained", action="store_true", help="the base model, too")
    options.add_argument("--test", help="rows that a model of all --rows answers, too")
    options.add_argument("--test_output", help="where these answers go")
    options.add_argument("--dry_run", action="store_true", help="check, show the commands, stop")
    return options.parse_args()


@dataclass(frozen=True)
class Fold:
    """One fold: its folder, the rows of its two sides, where the answers go, its two commands."""

    folder: Path
    train: list[dict]
    held: list[dict]
    answers: Path
    commands: list[list[str]]

    def record(self) -> dict:
        return {"identity": digest([self.train, self.held, self.commands]), "rows": len(self.held)}

    def is_done(self) -> bool:
        path = self.folder / "fold.json"
        return self.answers.is_file() and path.is_file() and read_json(path) == self.record()


def main() -> int:
    args = arguments()
    if args.task not in (tasks := registered_tasks()):
        raise InputError(f"no task '{args.task}'", field="task", fix=f"One of {', '.join(tasks)}.")
    row = model_row(args.name, args.models)
    output = results.answers_path(args.results_dir, tasks[args.task], args.name).resolve()
    show_settings("kfold", {**vars(args), "answers": relative(output)})
    folder = Path(args.output_dir).resolve() / args.name
    refuse_another_models(output, {"model": relative(folder)}, named=True)
    rows = [one for _, one in read_rows(args.rows, as_typed=True)]
    plan = folds_of(args, row, rows, folder)
    for fold in plan:
        refuse_leaks(fold.train, fold.held, by=args.by, train_path=args.rows, held_path=fold.folder)
    print(f"plan: {len(plan)} models; no training row shares anything with a row to be answered")
    base = untrained(args, row, output) if args.untrained else []
    if args.dry_run:
        print(*map(shlex.join, [c for fold in plan for c in fold.commands] + base), sep="\n")
        return COMPLETE
    failed = [fold.folder.name for fold in plan if not finish(fold)]
    if not any(name.startswith("fold") for name in failed):
        join(args, rows, [fold for fold in plan if fold.folder.name != "all"], output)
    failed += ["untrained" for command in base if not succeeded(command)]
    for name in failed:
        print(f"failed: {args.name} {name}", file=sys.stderr)
    return FAILURES if failed else COMPLETE


def folds_of(args: argparse.Namespace, row: Row, rows: list[dict], folder: Path) -> list[Fold]:
    """The folds with their commands, whose options are checked."""
    folds = read_folds(args.folds, [str(one.get("id")) for one in rows])
    plan = []
    for number in sorted(set(folds.values())):
        held = [one for one in rows if folds[str(one["id"])] == number]
        rest = [one for one in rows if folds[str(one["id"])] != number]
        own = folder / f"fold{number}"
        plan.append(fold_of(args, row, own, rest, held, own / "answers.json"))
    if args.test:
        test = [one for _, one in read_rows(args.test, as_typed=True)]
        answers = Path(args.test_output or folder / "all" / "answers.json").resolve()
        plan.append(fold_of(args, row, folder / "all", rows, test, answers))
    return plan


def fold_of(
    args: argparse.Namespace, row: Row, folder: Path, train: list, held: list, answers: Path
) -> Fold:
    script, *words = training_command(args.name, row, options_of)
    model = str(folder / "model")
    command = [sys.executable, f"src/train/{script}", *words, "--output_dir", model]
    command += ["--data_path", str(folder / "train.jsonl"), *args.args.split()]
    own = (folder / "held.jsonl", answers, args.name)
    return Fold(folder, train, held, answers, [command, answering_command(args, row, model, *own)])


def answering_command(
    args: argparse.Namespace, row: Row, model: str, questions: Path, answers: Path, name: str
) -> list[str]:
    """How a model answers a file of questions, with the options of the row."""
    command = [sys.executable, "src/eval/infer.py", model, "local", args.task, "--name", name]
    command += ["--questions", str(questions), "--output", str(answers)]
    for key, value in answering(args.name, row).options.items():
        if value is not False:
            command += [f"--{key}"] if value is True else [f"--{key}", str(value)]
    return command


def untrained(args: argparse.Namespace, row: Row, output: Path) -> list[list[str]]:
    """How the row's base model answers all rows."""
    name = f"{args.name}-untrained"
    own = (Path(args.rows).resolve(), output.with_name(output.name.replace(args.name, name, 1)))
    return [answering_command(args, row, str(row.model_name), *own, name)]


def finish(fold: Fold) -> bool:
    """Train and answer what of a fold is not done yet; whether all of it is, then."""
    print(f"\n=== {fold.folder.parent.name} {fold.folder.name}", flush=True)
    if fold.is_done():
        print(f"already done: {relative(fold.folder)}")
        return True
    write_jsonl(fold.folder / "train.jsonl", fold.train)
    write_jsonl(fold.folder / "held.jsonl", fold.held)
    if not all(map(succeeded, fold.commands)):
        return False
    write_json(fold.folder / "fold.json", fold.record())
    return True


def succeeded(command: list[str]) -> bool:
    """Run a command, and end with it where it was interrupted or given bad input, which would be
    as bad in the next fold."""
    status = exit_code(command)
    if status in (INTERRUPTED, -signal.SIGINT):
        raise KeyboardInterrupt
    if status == BAD_INPUT:
        raise InputError(f"{command[1]} was given bad input (see above)", field="name")
    return status == COMPLETE


def join(args: argparse.Namespace, rows: list[dict], plan: list[Fold], output: Path) -> None:
    """Write the folds' answers as those of one model, in the order of the rows."""
    answered = {
        str(answer["id"]): {**answer, "fold": fold.folder.name}
        for fold in plan
        for answer in results.read_answers(fold.answers, unique=True)
    }
    write_json(output, [answered[str(row["id"])] for row in rows])
    settings = {**vars(args), "model": relative(plan[0].folder.parent)}
    about = {"settings": settings, "out_of_fold": True, "provenance": provenance()}
    write_json(results.run_record(output), about)
    print(f"\nout-of-fold answers of {len(rows)} rows in {len(plan)} folds: {relative(output)}")


if __name__ == "__main__":
    run(main)
