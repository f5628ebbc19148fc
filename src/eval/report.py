"""One page that compares models: report.html, and a table in the terminal.

    python src/eval/report.py
    python src/eval/report.py --results_dir runs/embedded/results --baseline base --output r.html
    python src/eval/report.py --baseline base --change Training --markdown table.md --csv table.csv

Reads   results/<task>/score_results/*.json (written by score.py) and, where they are there,
        the settings, time and cost that infer.py stored in infer_results/*.run.json, and the
        scorers' agreement with the anchors (calibration_results/, written by calibrate.py).
Writes  --output, one self-contained HTML file (no network, light and dark, prints);
        --markdown, the leaderboard for a README; --csv, every figure, a row each.

Every figure stands with n_scored/n_total and a 95 % interval, and with bounds where
rows are missing. Models are compared in pairs on the rows that both have a score for:
with --baseline each with that one, and the page begins with what changed and what did not;
without it each with each. A scorer whose agreement with the anchors is known to be slight
(kappa surely not above 0.2) makes no headline: its answers are shown, its figures folded away.
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import parser, relative, run, show_table
from malmat.errors import InputError
from malmat.evaluate import tables
from malmat.evaluate.overview import overview
from malmat.evaluate.plots import round_limit
from malmat.evaluate.report import section
from malmat.evaluate.results import load_folder
from malmat.evaluate.tables import board, figures, markdown, terminal_table
from malmat.files import row_id, write_csv, write_text
from tasks import TASKS

HERE = Path(__file__).parent
SLICES = {
    "split": (
        "Seen and unseen terms",
        "Seen terms stand in the training data, unseen terms do not: the first can be memory, "
        "the second must be understanding",
    )
}
"""Field of the rows → heading and caption of its slices, for those that have words of their own."""


def arguments():
    options = parser(__doc__)
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--baseline", help="the model that the others are compared with")
    options.add_argument("--change", help="what was done to the baseline (Training, Retrieval …)")
    options.add_argument("--output", default="report.html")
    options.add_argument("--markdown", help="a file for the leaderboard as a Markdown table")
    options.add_argument("--csv", help="a file for all figures as CSV")
    options.add_argument("--title", default="Model comparison")
    return options.parse_args()


def main() -> None:
    args = arguments()
    sections = read_sections(Path(args.results_dir), args.baseline)
    if not sections:
        raise InputError(
            "no score files in it", path=args.results_dir, fix="Run infer.py and score.py first."
        )
    if args.baseline and not any(part["baseline"] for part in sections):
        raise InputError(f"no scores of '{args.baseline}'", field="baseline")
    changes = overview(sections, args.change)
    write_text(args.output, render(args.title, sections, changes))
    show_table(terminal_table(sections))
    print(f"wrote {relative(args.output)}")
    if args.markdown:
        write_text(args.markdown, markdown(sections))
        print(f"wrote {relative(args.markdown)}")
    if args.csv:
        lines = figures(sections)
        write_csv(args.csv, list(lines[0]), lines)
        print(f"wrote {relative(args.csv)}")
    for table in changes:
        print(f"\n{table['sentence']}")


def read_sections(root: Path, baseline: str | None) -> list[dict]:
    """A section a task and scorer, as scores of different scorers do not compare: in the order of
    the tasks, and after all others those whose scorer cannot be trusted."""
    sections = []
    for task in TASKS.values():
        runs = load_folder(root, task)
        for scorer in dict.fromkeys(one.scorer for one in runs):
            group = [one for one in runs if one.scorer == scorer]
            sections.append(section(group, baseline, root))
    return sorted(sections, key=lambda part: not part["trusted"])


# ----------------------------------------------------------------------------- page


def render(title: str, sections: list[dict], changes: list[dict]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = ("number", "span", "signed", "signed_span", "chance", "duration", "title_of")
    environment.filters |= {name: getattr(tables, name) for name in shown}
    environment.globals |= {"slice_name": tables.slice_name, "slice_words": SLICES}
    for part in sections:
        low, high, scale = part["axis"]["low"], part["axis"]["high"], part["task"].scale
        widest = float("inf") if scale.high is None else scale.high - scale.low
        limit = round_limit(part["gaps"], widest)
        part["place"] = placed(low, high)
        part["step_place"] = placed(-limit, limit)
        part["step_ticks"] = [-limit, -limit / 2, 0, limit / 2, limit]
        part["anchor"] = f"s{row_id(part['task'].name, part['scorer'])[:6]}"
    template = environment.get_template("report_template.html.jinja")
    names, rows = board(sections)
    return template.render(title=title, sections=sections, changes=changes, models=names, rows=rows)


def placed(low: float, high: float):
    """Value → per cent of a plot's width, with room for a dot at both ends."""
    return lambda value: round(4 + 92 * (value - low) / (high - low), 2)


if __name__ == "__main__":
    run(main)
