"""Compare models on the questions that both were scored on: is a difference one, or chance?

    python src/eval/compare.py gpt-4o gemini-2.5-flash
    python src/eval/compare.py base tuned-a tuned-b --task understand --scorer_name gpt-4.1
    python src/eval/compare.py old_score_results.json new_score_results.json --output diff.json

Reads   results/<task>/score_results/*.json (written by score.py) for the models named, or
        the score files given by their paths. Older score files are read too.
Writes  to the terminal; with --output a JSON file with every figure and every term.

Every model is compared with the first one (or --baseline), paired by row id: the mean
difference with a 95 % interval (bootstrap over clusters; below ten of them Student's t), the
exact McNemar test for rates, the Wilcoxon signed-rank test for grades, shares, losses and
clustered rates, Holm's correction over the models, and what got better and worse. Scores by
different judges are refused.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from malmat.cli import parser, relative, run, show_table
from malmat.errors import InputError
from malmat.evaluate.compare import compare_all, heading
from malmat.evaluate.results import Run, distinct, load, load_folder
from malmat.evaluate.tables import own_figures
from malmat.files import write_json
from tasks import TASKS

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("models", nargs="+", help="names in the results folder, or score files")
    options.add_argument("--task", choices=tuple(TASKS), help="default: every task with scores")
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--scorer_name", help="only the scores by this judge")
    options.add_argument("--baseline", help="the model that the others are compared with")
    options.add_argument("--show", type=int, default=8, help="terms shown a side and model")
    options.add_argument("--output", help="a JSON file with everything")
    return options.parse_args()


def main() -> None:
    args = arguments()
    # The baseline comes first.
    models = list(dict.fromkeys([args.baseline or args.models[0], *args.models]))
    if len(models) < 2:
        raise InputError("two different models or more are needed", field="models")
    named = any(not model.endswith(".json") for model in models)
    folder = [r for t in TASKS.values() for r in load_folder(args.results_dir, t)] if named else []
    chosen = [find(args, model, folder) for model in models]
    report = []
    for key in groups(chosen):
        runs = distinct([one for found in chosen for one in found if key_of(one) == key])
        gaps = compare_all(runs, runs[0].model)
        show(runs, gaps, args.show)
        report.append(
            {
                "task": key[0],
                "judge": key[1],
                "baseline": runs[0].model,
                "files": {one.model: relative(one.path) for one in runs},
                "comparisons": gaps,
            }
        )
    if args.output:
        write_json(args.output, report)
        print(f"wrote {relative(args.output)}")


def key_of(one: Run) -> tuple[str, str]:
    return one.task.name, one.scorer


def listed(runs: list[Run]) -> str:
    return ", ".join(sorted(f"{one.task.name} by {one.scorer}" for one in runs))


def find(args, model: str, folder: list[Run]) -> list[Run]:
    """The score files of a model: one by its path, or all that the folder has under its name."""
    if model.endswith(".json"):
        found = [load(model, TASKS)]
    else:
        found = [one for one in folder if one.model == model]
        if not found:
            names = sorted({one.model for one in folder})
            raise InputError(
                f"no scores of '{model}'",
                path=args.results_dir,
                fix=f"There are: {', '.join(names)}." if names else "Run score.py first.",
            )
    wanted = [
        one
        for one in found
        if args.task in (None, one.task.name) and args.scorer_name in (None, one.scorer)
    ]
    if not wanted:
        raise InputError(f"no such scores of '{model}'", fix=f"There are: {listed(found)}.")
    return wanted


def groups(chosen: list[list[Run]]) -> list[tuple[str, str]]:
    """The (task, scorer) pairs that every model has scores of.

    Raises:
        InputError: none, saying who was scored by whom.
    """
    counts: dict[tuple[str, str], int] = defaultdict(int)
    for found in chosen:
        for key in {key_of(one) for one in found}:
            counts[key] += 1
    order = {task: place for place, task in enumerate(TASKS)}
    keys = sorted(counts, key=lambda key: (order[key[0]], key[1]))
    common = [key for key in keys if counts[key] == len(chosen)]
    if not common:
        there = "; ".join(f"{found[0].model}: {listed(found)}" for found in chosen)
        raise InputError(
            f"scores by different judges or of different tasks do not compare ({there})",
            fix="Score all models with one judge.",
        )
    if left := [f"{task} by {scorer}" for task, scorer in keys if (task, scorer) not in common]:
        print(f"left out, not scored for every model: {', '.join(left)}")
    return common


# -------------------------------------------------------------------------- showing


def show(runs: list[Run], gaps: list[dict], most: int) -> None:
    """Print the comparisons of one task by one scorer."""
    base, task = runs[0], runs[0].task
    summaries = {one.model: one.summary() for one in runs}
    mean = summaries[base.model]["mean"]
    title = heading(task.name, task, base.scorer)
    print(f"\n{title}: against {base.model}" + ("" if mean is None else f" ({mean:.2f})"))
    head = ("model", "mean", "difference", "95 % interval", "pairs", "better/same/worse")
    lines = [(*head, "p", "p (Holm)", "verdict")]
    lines += [gap_line(gap, summaries[gap["model"]]["mean"]) for gap in gaps]
    show_table(lines)
    print(*own_figures(runs), sep="\n", end="\n" * bool(task.figures))
    tests = " or ".join(dict.fromkeys(gap["test"] for gap in gaps))
    print(f"p: {tests}, two-sided. Better or worse only where more than half")
    print("of the questions pair, the interval leaves out 0 and the corrected p is below 0.05.")
    if task.scale.sign < 0:
        print("Less is better.")
    for gap in gaps:
        scored = [summaries[name]["n_scored"] for name in (base.model, gap["model"])]
        if gap["n_pairs"] and max(scored) > gap["n_pairs"]:
            print(
                f"note, {gap['model']}: the means above stand on {scored[0]} and {scored[1]} rows,"
                f" the difference on the {gap['n_pairs']} that both have: there the means are"
                " {:.2f} and {:.2f}".format(*gap["means"])
            )
        for caution in gap["cautions"]:
            print(f"caution, {gap['model']}: {caution}")
        show_changes(gap, most)


def gap_line(gap: dict, mean: float | None) -> tuple[str, ...]:
    low_high = gap["interval"]
    return (
        gap["model"],
        "–" if mean is None else f"{mean:.2f}",
        "–" if gap["difference"] is None else f"{gap['difference']:+.2f}",
        "{:+.2f} … {:+.2f}".format(*low_high) if low_high else "–",
        f"{gap['n_pairs']}/{gap['n_rows']}",
        f"{gap['better']}/{gap['same']}/{gap['worse']}",
        "–" if gap["p"] is None else f"{gap['p']:.3g}",
        "–" if gap["p_holm"] is None else f"{gap['p_holm']:.3g}",
        gap["verdict"],
    )


def show_changes(gap: dict, most: int) -> None:
    """Print what got better and what worse, the most changed first."""
    words = {"better": "used more", "worse": "used less"} if gap["terms"] else {}
    items, sign = (gap["terms"], 1) if gap["terms"] else (gap["items"], gap["sign"])
    for side, turned, way in (("better", items, sign), ("worse", items[::-1], -sign)):
        changed = [item for item in turned if item["difference"] * way > 0]
        if changed and most > 0:
            print(f"\n{gap['model']}, {words.get(side, side)} ({len(changed)} of {len(items)}):")
            show_table([item_line(item) for item in changed[:most]])


def item_line(item: dict) -> tuple[str, ...]:
    if "n" not in item:  # a number of answers that use the term
        return (f"  {item['item']}", f"{item['before']} → {item['after']} answers")
    return (
        f"  {item['item'][:40]}",
        f"{item['before']:.2f} → {item['after']:.2f}",
        f"{item['difference']:+.2f}",
        f"n={item['n']}",
    )


if __name__ == "__main__":
    run(main)
