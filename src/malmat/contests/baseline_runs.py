"""Baselines of a task's items as columns of its table: answered, scored and stored like models."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from malmat.cli import parser, positive, relative, show_settings, show_table
from malmat.contests import baselines
from malmat.contests.baselines import Points
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.run_record import refuse_another_models
from malmat.evaluate.scorers import ROW_SCORERS
from malmat.evaluate.task import Item, Row, Task
from malmat.files import write_json
from malmat.folds import assign

RULES = {"most-frequent": baselines.most_frequent, "options-only": baselines.options_only}
SHUFFLED = "options-only-shuffled"


@dataclass(frozen=True)
class Plan:
    """How a task's baselines are run.

    Args:
        overlaps: name of a baseline → the text of an item with which options are to overlap.
        balance: a field whose values the folds hold in like shares.
        results_dir: where answers and scores go, if the command line names no other folder.
    """

    task: Task
    overlaps: Mapping[str, Callable[[Item], str]]
    balance: str
    results_dir: Path


def arguments(doc: str, plan: Plan) -> argparse.Namespace:
    options = parser(doc)
    options.add_argument("input", help="rows to answer")
    options.add_argument("--train", help="rows to learn from, in the place of folds")
    options.add_argument("--k", type=positive, default=5, help="folds")
    options.add_argument("--seed", type=int, default=42)
    options.add_argument("--results_dir", default=str(plan.results_dir))
    return options.parse_args()


def run_baselines(plan: Plan, args: argparse.Namespace) -> None:
    """Answer the items of ``args.input`` with each baseline, and score what has a target.

    Raises:
        InputError: training rows without answers, or of clusters that are to be answered.
    """
    show_settings("baselines", vars(args))
    items = plan.task.read(Path(args.input))
    train = plan.task.read(Path(args.train)) if args.train else None
    if train and (shared := clusters(train) & clusters(items)):
        problem = f"shares {len(shared)} clusters with {args.input}, as {min(shared)}"
        raise InputError(problem, path=args.train, field="cluster", fix="Leave --train out: folds.")
    points = unlearned(plan, items, args.seed) | learned(plan, args, items, train)
    lines = [
        (name, saved(plan.task, args, name, baselines.answered(items, own)))
        for name, own in points.items()
    ]
    show_table([("baseline", "accuracy"), *lines])
    if not all(map(has_target, items)):
        print("note: rows without answers are answered, and not scored")
    print(f"wrote {len(points)} files of answers in {relative(args.results_dir)}/{plan.task.name}")


def unlearned(plan: Plan, items: list[Item], seed: int) -> dict[str, Points]:
    """The baselines that learn nothing."""
    found = {
        "chance": baselines.chance(items, seed=seed),
        "shortest": baselines.by_length(items, -1),
        "longest": baselines.by_length(items, 1),
    }
    return found | {n: baselines.by_overlap(items, text) for n, text in plan.overlaps.items()}


def learned(
    plan: Plan, args: argparse.Namespace, items: list[Item], train: list[Item] | None
) -> dict[str, Points]:
    """The baselines that learn from ``train`` or, without it, from other folds of the items."""
    if not all(map(has_target, train or items)):
        if train:
            raise InputError("has rows without answers", path=args.train, field="train")
        print("note: nothing to learn from: most-frequent and options-only need --train")
        return {}
    if train:
        return {name: rule(train, items) for name, rule in RULES.items()}
    divide = partial(assign, k=args.k, seed=args.seed, balance=plan.balance)
    rows = [dict(item) for item in items]
    grouped, shuffled = divide(rows, by="title"), divide(rows, by="id")
    found = {name: baselines.out_of_fold(items, grouped, rule) for name, rule in RULES.items()}
    return found | {SHUFFLED: baselines.out_of_fold(items, shuffled, baselines.options_only)}


def saved(task: Task, args: argparse.Namespace, name: str, rows: list[Row]) -> str:
    """Write a baseline's answers and scores; its accuracy comes back."""
    answers = results.answers_path(args.results_dir, task, name)
    settings = {"model": name, **vars(args)}
    refuse_another_models(answers, settings, named=True)
    write_json(answers, rows)
    write_json(results.run_record(answers), {"settings": settings})
    scored = [row for row in rows if has_target(row)]
    if not scored:
        return "no answers to compare with"
    verdicts = {row["id"]: ROW_SCORERS[task.scorer](row) for row in scored}
    table = {row["id"]: row for row in results.join(scored, verdicts)}
    run = results.Run(task, name, task.scorer, table)
    results.save(results.scores_path(args.results_dir, task, name, task.scorer), run, {})
    return results.headline(run.summary())


def clusters(items: Sequence[Item]) -> set[str]:
    return {item["title"] for item in items}


def has_target(item: Item | Row) -> bool:
    return item.get("target") is not None
