"""Several models' answers to a task with choices → one more, by vote; scored like any model's.

    python src/eval/vote.py a.json b.json c.json                       # the table alone
    python src/eval/vote.py --task reply MODEL_A MODEL_B MODEL_C --name vote-hard
    python src/eval/vote.py --task reply MODEL_A MODEL_B --name vote-soft --method soft
    python src/eval/vote.py a.json b.json --method stack --fit_on da.json db.json --output v.json
    python src/eval/vote.py oof/a.json oof/b.json --method stack --folds folds.json --output v.json

Reads   results/<task>/infer_results/<model>_<task>_inference_results.json of each model, or the
        files that are given in their place. All must hold the same rows with the same choices,
        in any order.
Writes  with --name results/<task>/infer_results/<name>_<task>_inference_results.json, or --output;
        beside it .run.json: the models, their files' digests, the weights and what they were
        fitted on, the table.
Prints  the table, where the right answers are known: each model, each vote, leave-one-out losses,
        pairwise disagreement, and whether any model is right.

``hard`` counts the models' answers, ``soft`` adds up the probabilities that they give each choice,
``weighted`` counts the answers by the log-odds that a model is right, ``stack`` is a logistic
regression on log-probabilities, with weights that are not negative. These weights, and the models
that --best chooses, come from the same models' answers to other rows (--fit_on, in the models'
order), or from the other folds (--folds). What was picked on the rows that are voted on is
refused, or with --in_sample labelled so. --published is a contest winner's scheme: 0.4, 0.2, 0.2,
0.1, 0.1 by the score on the rows that are voted on; it is always labelled so.

A tie goes to the highest summed probability, then to the first listed file's answer. A row that
failed in some models is voted on by the rest.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from malmat.cli import (
    COMPLETE,
    number,
    parser,
    positive,
    provenance,
    relative,
    run,
    show_settings,
    show_table,
)
from malmat.errors import InputError
from malmat.evaluate import results, vote_table
from malmat.evaluate.task import Task
from malmat.evaluate.vote import ADD_UP, FITTED, METHODS, Tally, vote, voted_rows
from malmat.evaluate.vote_fit import Weigher, by_hand, by_rank, folds_of, read_sample
from malmat.evaluate.vote_read import Ballots, read_ballots
from malmat.files import file_digest, write_json
from tasks import TASKS

HERE = Path(__file__).parent
MANY = 20_000
"""Rows from which the table, whose intervals take minutes then, is made only if asked for."""


def arguments():
    options = parser(__doc__)
    options.add_argument("models", nargs="+", help="names in results, or files of answers")
    options.add_argument("--task", choices=tuple(TASKS), help="of models that are named")
    options.add_argument("--name", help="of the vote in file names and reports")
    options.add_argument("--method", choices=tuple(METHODS), default="hard")
    options.add_argument("--weights", type=number, nargs="+", help="one a model (default: 1)")
    options.add_argument("--fit_on", nargs="+", metavar="FILE", help="answers to other rows")
    options.add_argument("--folds", metavar="FILE", help="of src/data/folds.py")
    options.add_argument("--best", type=positive, metavar="N", help="only the best N vote")
    options.add_argument("--published", action="store_true", help="weights by rank, in sample")
    options.add_argument("--in_sample", action="store_true", help="fitted on what is voted on")
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--output", help="another file for the answers")
    options.add_argument("--table", action=argparse.BooleanOptionalAction, default=None)
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    args = options.parse_args()
    args.in_sample |= args.published
    return args


def main() -> int:
    args = arguments()
    task = TASKS.get(args.task)
    if task and task.answers:
        raise InputError(f"is scored from answers to {task.answers}", field="task")
    paths = dict(named(args, task, model) for model in args.models)
    if len(paths) < max(2, len(args.models)):
        raise InputError("expected two or more, each of another name", field="models")
    output = output_of(args, task)
    if output:
        check_output(output, list(paths.values()))
    ballots = read_ballots(paths)
    if args.method in ADD_UP:
        ballots.need_probabilities(args.method)
    weigher = weigher_of(args, ballots)
    weights = weigher.weights(ballots, args.method)
    show_settings("vote", {**vars(args), "output": output and relative(output)})
    for model in ballots.reordered:
        print(f"note: {model} has the rows in another order: they are joined by id")
    where = f" → {relative(output)}" if output else ""
    print(f"plan: {len(ballots.rows)} rows of {len(paths)} models{where}")
    if args.dry_run:
        return COMPLETE
    tally = vote(ballots, args.method, weights)
    wanted = len(ballots.rows) <= MANY if args.table is None else args.table
    found = vote_table.table(ballots, weigher) if wanted and ballots.any_target else None
    if output:
        label = {"in_sample": True} if args.in_sample else {}
        write_json(output, [row | label for row in voted_rows(ballots, tally)])
        write_json(results.run_record(output), record_of(args, ballots, weigher, weights, found))
    show(args, ballots, tally, weights)
    if found:
        for lines in vote_table.tables_of(found, ballots.models):
            print()
            show_table(lines)
        print("", *vote_table.sentences(found), sep="\n")
    print(f"wrote {relative(output)}" if output else "no --name and no --output: nothing written")
    return COMPLETE


def named(args, task: Task | None, model: str) -> tuple[str, Path]:
    """A model's name and the file of its answers, of either of them."""
    if model.endswith((".json", ".jsonl")):
        end = f"_{task.answered_as}_inference_results" if task else ""
        return Path(model).stem.removesuffix(end), Path(model)
    if task is None:
        raise InputError("is needed where models are named", field="task")
    return model, results.answers_path(args.results_dir, task, model)


def output_of(args, task: Task | None) -> Path | None:
    """Where the vote goes; what is fitted in sample has it in its name."""
    if args.name and args.in_sample:
        args.name += "-in-sample"
    if args.output or not args.name:
        return Path(args.output) if args.output else None
    return named(args, task, args.name)[1]


def check_output(output: Path, sources: list[Path]) -> None:
    """Refuse to write over answers that are no vote's."""
    # By its rows: a kill may have come before its record was written.
    is_vote = not output.exists() or all("votes" in row for row in results.read_answers(output))
    if output.resolve() in [path.resolve() for path in sources] or not is_vote:
        raise InputError(
            "holds a model's answers already", path=output, field="name", fix="Take another name."
        )


def weigher_of(args, ballots: Ballots) -> Weigher:
    """Where the weights come from, checked to be other rows than those that are voted on.

    Raises:
        InputError: weights that do not fit the models, or that were picked on the rows that are
            voted on (without --in_sample), or of which nothing says where they were.
    """
    if args.published and (args.weights or args.fit_on or args.folds or args.best):
        raise InputError("brings its own weights", field="published")
    if args.published:
        return Weigher(by_rank(ballots, args.method))
    given = by_hand(args.weights, ballots, args.method)
    for one, other in (("fit_on", "folds"), ("weights", "best")):
        if getattr(args, one) and getattr(args, other):
            raise InputError(f"give one of --{one} and --{other}", field=other)
    if args.fit_on:
        sample = read_sample(list(map(Path, args.fit_on)), ballots, in_sample=args.in_sample)
        return Weigher(given, sample, best=args.best)
    unequal = given is not None and len(set(args.weights)) > 1
    if unequal and not args.in_sample and ballots.any_target:
        fix = "Name the answers to those rows with --fit_on, or --in_sample labels the vote so."
        raise InputError("nothing says on which rows they were picked", field="weights", fix=fix)
    folds = folds_of(args.folds, ballots) if args.folds else None
    return Weigher(given, folds=folds, best=args.best, path=args.folds)


def record_of(args, ballots: Ballots, weigher: Weigher, weights: np.ndarray, found) -> dict:
    """What is stored beside the vote."""
    voters = {m: file_digest(path) for m, path in zip(ballots.models, ballots.paths, strict=True)}
    return {
        "settings": {**vars(args), "voters": voters},
        "weights": dict(zip(ballots.models, weights.mean(1).round(6).tolist(), strict=True)),
        "fitted_on": weigher.fitted_on(ballots),
        "in_sample": args.in_sample,
        "table": found and found.as_json(),
        "provenance": provenance(),
    }


def show(args, ballots: Ballots, tally: Tally, weights: np.ndarray) -> None:
    ok, ties, by_sum = (int(n.sum()) for n in (tally.picks >= 0, tally.tied, tally.by_sum))
    print(f"answers: {ok} ok" + f", {len(tally.picks) - ok} failed" * (ok < len(tally.picks)))
    decided = f" ({by_sum} by the summed probabilities, {ties - by_sum} by the first file)"
    print(f"  ties: {ties}{decided if ties else ''}")
    short = ((ballots.picks < 0) & (weights > 0)).any(0)
    print(f"  without all votes: {int(short.sum())}")
    if args.method in FITTED or args.best:
        fitted = zip(ballots.models, weights.mean(1), strict=True)
        print("  weights: " + ", ".join(f"{model} {weight:.3f}" for model, weight in fitted))
    if args.in_sample:
        print("  in sample: picked on the rows that are voted on, so no figure here is a fair one")


if __name__ == "__main__":
    run(main)
