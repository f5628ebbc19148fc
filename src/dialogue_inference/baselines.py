"""What is right without a model that reads the dialogue: the floor under every score.

    python src/dialogue_inference/baselines.py train.json
    python src/dialogue_inference/baselines.py dev.json --train train.json
    python src/eval/report.py --baseline options-only

Reads   a file of rows, the contest's or prepare.py's. What has to be learned is learned from
        --train, else from the other folds of the file itself.
Writes  results/<task>/infer_results and, where the rows have answers, score_results: a file a
        baseline, so that baselines stand in every table as models do.

  chance                 one of the options, drawn by --seed
  most-frequent          the answer that is right most often
  shortest, longest      by the options' characters
  overlap-marked, overlap-dialogue    the option that shares most bigrams with the text
  options-only           a logistic regression on the options' n-grams, which sees no dialogue
  options-only-shuffled  the same in folds that divide dialogues: what such folds leak
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from malmat.cli import parser, positive, relative, run, show_settings, show_table
from malmat.contests import baselines
from malmat.contests.baselines import Points
from malmat.contests.dialogues import is_marked
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.run_record import refuse_another_models
from malmat.evaluate.scorers import ROW_SCORERS
from malmat.evaluate.task import Item, Row
from malmat.files import write_json
from malmat.folds import assign
from task import TASK

RESULTS = Path(__file__).parents[1] / "eval" / "results"
RULES = {"most-frequent": baselines.most_frequent, "options-only": baselines.options_only}
SHUFFLED = "options-only-shuffled"


def arguments():
    options = parser(__doc__)
    options.add_argument("input", help="rows to answer")
    options.add_argument("--train", help="rows to learn from, in the place of folds")
    options.add_argument("--k", type=positive, default=5, help="folds")
    options.add_argument("--seed", type=int, default=42)
    options.add_argument("--results_dir", default=str(RESULTS))
    return options.parse_args()


def main() -> None:
    args = arguments()
    show_settings("baselines", vars(args))
    items = TASK.read(Path(args.input))
    train = TASK.read(Path(args.train)) if args.train else None
    if train and (shared := clusters(train) & clusters(items)):
        problem = f"shares {len(shared)} dialogues with {args.input}, as {min(shared)}"
        raise InputError(problem, path=args.train, field="cluster", fix="Leave --train out: folds.")
    points = unlearned(items, args.seed) | learned(args, items, train)
    lines = [
        (name, saved(args, name, baselines.answered(items, own))) for name, own in points.items()
    ]
    show_table([("baseline", "accuracy"), *lines])
    if not all(map(has_target, items)):
        print("note: rows without answers are answered, and not scored")
    print(f"wrote {len(points)} files of answers in {relative(args.results_dir)}/{TASK.name}")


def unlearned(items: list[Item], seed: int) -> dict[str, Points]:
    """The baselines that learn nothing."""
    return {
        "chance": baselines.chance(items, seed=seed),
        "shortest": baselines.by_length(items, -1),
        "longest": baselines.by_length(items, 1),
        "overlap-marked": baselines.by_overlap(items, marked_text),
        "overlap-dialogue": baselines.by_overlap(items, dialogue_text),
    }


def learned(args, items: list[Item], train: list[Item] | None) -> dict[str, Points]:
    """The baselines that learn from ``train`` or, without it, from other folds of the items."""
    if not all(map(has_target, train or items)):
        if train:
            raise InputError("has rows without answers", path=args.train, field="train")
        print("note: nothing to learn from: most-frequent and options-only need --train")
        return {}
    if train:
        return {name: rule(train, items) for name, rule in RULES.items()}
    divide = partial(assign, k=args.k, seed=args.seed, balance="category")
    rows = [dict(item) for item in items]
    grouped, shuffled = divide(rows, by="title"), divide(rows, by="id")
    found = {name: baselines.out_of_fold(items, grouped, rule) for name, rule in RULES.items()}
    return found | {SHUFFLED: baselines.out_of_fold(items, shuffled, baselines.options_only)}


def saved(args, name: str, rows: list[Row]) -> str:
    """Write a baseline's answers and scores; its accuracy comes back."""
    answers = results.answers_path(args.results_dir, TASK, name)
    settings = {"model": name, **vars(args)}
    refuse_another_models(answers, settings, named=True)
    write_json(answers, rows)
    write_json(results.run_record(answers), {"settings": settings})
    scored = [row for row in rows if has_target(row)]
    if not scored:
        return "no answers to compare with"
    verdicts = {row["id"]: ROW_SCORERS[TASK.scorer](row) for row in scored}
    table = {row["id"]: row for row in results.join(scored, verdicts)}
    run_ = results.Run(TASK, name, TASK.scorer, table)
    results.save(results.scores_path(args.results_dir, TASK, name, TASK.scorer), run_, {})
    return results.headline(run_.summary())


def clusters(items: list[Item]) -> set[str]:
    return {item["title"] for item in items}


def has_target(item: Item) -> bool:
    return item.get("target") is not None


def marked_text(item: Item) -> str:
    turns = item["conversation"]
    return "\n".join(t["utterance"] for t in turns if is_marked(t, item["reference_id"]))


def dialogue_text(item: Item) -> str:
    return "\n".join(turn["utterance"] for turn in item["conversation"])


if __name__ == "__main__":
    run(main)
