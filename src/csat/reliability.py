"""Is a model right as often as it says it is? A reliability plot and the calibration error.

    python src/csat/reliability.py MODEL_A MODEL_B --output reliability.png

Reads   answers with probabilities to rows whose right answers are known; names are looked up in
        --results_dir.
Writes  --output: a PNG, a panel a model: accuracy over the probability of the picked choice, with
        95 % intervals; a point on the diagonal is calibrated.
Prints  the expected calibration error of each model over ten intervals.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from malmat.cli import parser, relative, run, show_table
from malmat.contests import charts
from malmat.contests.charts import Panel
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.reliability import calibration_error, reliability
from task import TASK

RESULTS = Path(__file__).parents[1] / "eval" / "results"


def arguments():
    options = parser(__doc__)
    options.add_argument("models", nargs="+", help="names in results, or files of answers")
    options.add_argument("--results_dir", default=str(RESULTS))
    options.add_argument("--output", required=True, help="a PNG")
    return options.parse_args()


def main() -> None:
    args = arguments()
    panels: dict[str, Panel] = {}
    table = [("model", "rows", "calibration error")]
    for model in args.models:
        named = not model.endswith(".json")
        path = results.answers_path(args.results_dir, TASK, model) if named else Path(model)
        lines = reliability(results.read_answers(path, unique=True))
        error = calibration_error(lines)
        if error is None:
            raise InputError("no row has probabilities and a target", path=path)
        name = model if named else path.stem
        panels[name] = diagram(lines)
        table.append((name, str(sum(line["n"] for line in lines)), f"{error:.3f}"))
    charts.save_figure(args.output, "Accuracy over confidence (신뢰도)", panels)
    show_table(table)
    print(f"wrote {relative(args.output)}")


def diagram(lines: list[dict[str, Any]]) -> Panel:
    def draw(ax: Any) -> None:
        ax.plot([0, 1], [0, 1], color="#aaaaaa", linestyle="--")
        for line in lines:
            ax.plot([line["confidence"]] * 2, line["interval"], color="#4c78a8")
        ax.scatter(
            [line["confidence"] for line in lines],
            [line["accuracy"] for line in lines],
            s=[20 + 4 * line["n"] ** 0.5 for line in lines],
            color="#4c78a8",
        )
        ax.set(xlim=(0, 1), ylim=(0, 1), xlabel="probability of the pick", ylabel="accuracy")

    return draw


if __name__ == "__main__":
    run(main)
