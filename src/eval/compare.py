"""Compare models on the questions that both were scored on: is a difference one, or chance?

    python src/eval/compare.py gpt-4o gemini-2.5-flash
    python src/eval/compare.py base tuned-a tuned-b --task understand --scorer_name gpt-4.1
    python src/eval/compare.py old_score_results.json new_score_results.json --output diff.json

Reads   results/<task>/score_results/*.json (written by score.py) for the models named, or
        the score files given by their paths. Older score files are read too.
Writes  to the terminal; with --output a JSON file with every figure and every term.

Every model is compared with the first one (or --baseline), paired by row id: the mean
difference with a 95 % interval (bootstrap, clustered by term), the exact McNemar test for
usage or the Wilcoxon signed-rank test for understanding, Holm's correction over the models,
and the terms that got better and worse. Scores by different judges are refused.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from malmat.cli import parser, relative, run, show_table
from malmat.errors import InputError
from malmat.evaluate.compare import TASKS, compare_all, distinct, read_folder, read_scores
from malmat.files import write_json

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
    folder = [r for task in TASKS for r in read_folder(args.results_dir, task)] if named else []
    chosen = [find(args, model, folder) for model in models]
    report = []
    for task, judge in groups(args, chosen):
        results = distinct(
            [r for found in chosen for r in found if (r["task"], r["scorer_name"]) == (task, judge)]
        )
        base = results[0]["model_name"]
        gaps = compare_all(results, base)
        show(task, judge, base, gaps, {r["model_name"]: r for r in results}, args.show)
        report.append(
            {
                "task": task,
                "judge": judge,
                "baseline": base,
                "files": {r["model_name"]: relative(r["file"]) for r in results},
                "comparisons": gaps,
            }
        )
    if args.output:
        write_json(args.output, report)
        print(f"wrote {relative(args.output)}")


def find(args, model: str, folder: list[dict]) -> list[dict]:
    """The score files of a model: one by its path, or all that the folder has under its name."""
    if model.endswith(".json"):
        found = [read_scores(model)]
    else:
        found = [result for result in folder if result["model_name"] == model]
        if not found:
            names = sorted({result["model_name"] for result in folder})
            raise InputError(
                f"no scores of '{model}'",
                path=args.results_dir,
                fix=f"There are: {', '.join(names)}." if names else "Run score.py first.",
            )
    wanted = [
        result
        for result in found
        if args.task in (None, result["task"]) and args.scorer_name in (None, result["scorer_name"])
    ]
    if not wanted:
        there = ", ".join(sorted(f"{r['task']} by {r['scorer_name']}" for r in found))
        raise InputError(f"no such scores of '{model}'", fix=f"There are: {there}.")
    return wanted


def groups(args, chosen: list[list[dict]]) -> list[tuple[str, str]]:
    """The (task, judge) pairs that every model has scores of.

    Raises:
        InputError: none, saying who was judged by whom.
    """
    judges: dict[tuple[str, str], int] = defaultdict(int)
    for found in chosen:
        for key in {(result["task"], result["scorer_name"]) for result in found}:
            judges[key] += 1
    order = {task: place for place, task in enumerate(TASKS)}
    keys = sorted(judges, key=lambda key: (order[key[0]], key[1]))
    common = [key for key in keys if judges[key] == len(chosen)]
    there = "; ".join(
        f"{found[0]['model_name']}: "
        + ", ".join(sorted(f"{r['task']} by {r['scorer_name']}" for r in found))
        for found in chosen
    )
    if not common:
        raise InputError(
            f"scores by different judges or of different tasks do not compare ({there})",
            fix="Score all models with one judge.",
        )
    if left := [f"{task} by {judge}" for task, judge in keys if (task, judge) not in common]:
        print(f"left out, not scored for every model: {', '.join(left)}")
    return common


# -------------------------------------------------------------------------- showing


def show(task: str, judge: str, base: str, gaps: list[dict], results: dict, most: int) -> None:
    figure = TASKS[task]["figure"]
    mean = results[base][figure]
    print(
        f"\n{task}, judged by {judge}: against {base}" + ("" if mean is None else f" ({mean:.2f})")
    )
    head = ("model", "mean", "difference", "95 % interval", "pairs", "better/same/worse")
    lines = [(*head, "p", "p (Holm)", "verdict")]
    for gap in gaps:
        mean = results[gap["model"]][figure]
        compared = gap["difference"] is not None
        lines.append(
            (
                gap["model"],
                "–" if mean is None else f"{mean:.2f}",
                f"{gap['difference']:+.2f}" if compared else "–",
                "{:+.2f} … {:+.2f}".format(*gap["interval"]) if compared else "–",
                f"{gap['n_pairs']}/{gap['n_rows']}",
                f"{gap['better']}/{gap['same']}/{gap['worse']}",
                "–" if gap["p"] is None else f"{gap['p']:.3g}",
                "–" if gap["p_holm"] is None else f"{gap['p_holm']:.3g}",
                gap["verdict"],
            )
        )
    show_table(lines)
    print(f"p: {TASKS[task]['test']} test, two-sided. Better or worse only where more than half")
    print("of the questions pair, the interval leaves out 0 and the corrected p is below 0.05.")
    for gap in gaps:
        for caution in gap["cautions"]:
            print(f"caution, {gap['model']}: {caution}")
        words = {"better": "used more", "worse": "used less"} if gap["terms"] else {}
        items = gap["terms"] or gap["items"]
        for side, turned in (("better", items), ("worse", items[::-1])):
            sign = 1 if side == "better" else -1
            changed = [item for item in turned if item["difference"] * sign > 0]
            if changed and most > 0:
                print(
                    f"\n{gap['model']}, {words.get(side, side)} ({len(changed)} of {len(items)}):"
                )
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
