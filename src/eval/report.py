"""One page that compares models: report.html, and a table in the terminal.

    python src/eval/report.py
    python src/eval/report.py --results_dir runs/embedded/results --baseline base --output r.html
    python src/eval/report.py --markdown table.md --csv table.csv

Reads   results/<task>/score_results/*.json (written by score.py) and, where they are there,
        the settings, time and cost that infer.py stored in infer_results/*.run.json.
Writes  --output, one self-contained HTML file (no network, light and dark, prints);
        --markdown, the leaderboard for a README; --csv, every figure, a row each.

Every figure stands with n_scored/n_total and a 95 % interval, and with bounds where
rows are missing. Models are compared in pairs on the rows that both have a score for:
with --baseline each with that one, without it each with each.
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import parser, relative, run, show_table
from malmat.errors import InputError
from malmat.evaluate.compare import TASKS, read_folder
from malmat.evaluate.report import round_limit, section
from malmat.files import row_id, write_csv, write_text

HERE = Path(__file__).parent
TEXTS = {
    "understand": {
        "title": "Understanding",
        "text": "Does the answer show that the model knows the term? 1 (not at all) to 5.",
        "ticks": [1, 2, 3, 4, 5],
    },
    "usage": {
        "title": "Usage",
        "text": "Does the model use slang by itself when it answers an everyday question? Share of "
        "answers with a slang term.",
        "ticks": [0, 0.25, 0.5, 0.75, 1],
    },
}
JUDGE_NOTES = {
    "lexicon": "A term list and Korean morphology: it finds a term or an inflection of it, and "
    "cannot see whether the term fits.",
    "local:embedded": "A 270M base model. Its scores show that the chain runs, not how good a "
    "model is: use an LLM judge (JUDGE=gpt-4.1 or gemini-2.5-flash) for scores to believe.",
}


def arguments():
    options = parser(__doc__)
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--baseline", help="the model that the others are compared with")
    options.add_argument("--output", default="report.html")
    options.add_argument("--markdown", help="a file for the leaderboard as a Markdown table")
    options.add_argument("--csv", help="a file for all figures as CSV")
    options.add_argument("--title", default="Korean slang: model comparison")
    return options.parse_args()


def main() -> None:
    args = arguments()
    folder, sections = Path(args.results_dir), []
    for task in TASKS:
        results = read_folder(folder, task)
        # Scores of different judges do not compare: a section a judge.
        for judge in dict.fromkeys(result["scorer_name"] for result in results):
            group = [result for result in results if result["scorer_name"] == judge]
            sections.append(TEXTS[task] | section(task, judge, group, args.baseline, folder))
    if not sections:
        raise InputError(
            "no score files in it", path=args.results_dir, fix="Run infer.py and score.py first."
        )
    if args.baseline and not any(part["baseline"] for part in sections):
        raise InputError(f"no scores of '{args.baseline}'", field="baseline")
    write_text(args.output, render(args.title, sections))
    print_table(sections)
    print(f"wrote {relative(args.output)}")
    if args.markdown:
        write_text(args.markdown, markdown(sections))
        print(f"wrote {relative(args.markdown)}")
    if args.csv:
        lines = figures(sections)
        write_csv(args.csv, list(lines[0]), lines)
        print(f"wrote {relative(args.csv)}")


# ----------------------------------------------------------------------------- page


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def span(pair: list[float] | None) -> str:
    return "–" if pair is None else f"{pair[0]:.2f} … {pair[1]:.2f}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}".replace("-", "−")


def signed_span(pair: list[float] | None) -> str:
    return "–" if pair is None else f"{signed(pair[0])} … {signed(pair[1])}"


def chance(p: float | None) -> str:
    """A p value: three places, and no more said than < 0.001."""
    return "–" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def duration(seconds: float | None) -> str:
    if seconds is None:
        return "–"
    if seconds < 60:
        return f"{seconds:.3g} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min"


def render(title: str, sections: list[dict]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = (number, span, signed, signed_span, chance, duration)
    environment.filters |= {function.__name__: function for function in shown}
    for part in sections:
        low, high = part["scale"]
        limit = round_limit(part["gaps"], high - low)
        part["place"] = axis(low, high)
        part["step_place"] = axis(-limit, limit)
        part["step_ticks"] = [-limit, -limit / 2, 0, limit / 2, limit]
        part["anchor"] = f"s{row_id(part['task'], part['judge'])[:6]}"
        part["note"] = JUDGE_NOTES.get(part["judge"])
    template = environment.get_template("report_template.html.jinja")
    return template.render(title=title, sections=sections, board=board(sections))


def axis(low: float, high: float):
    """Value → per cent of a plot's width, with room for a dot at both ends."""
    return lambda value: round(4 + 92 * (value - low) / (high - low), 2)


def board(sections: list[dict]) -> list[tuple[str, list[dict | None]]]:
    """Model → its row of every section (None where it has none)."""
    names = dict.fromkeys(row["name"] for part in sections for row in part["rows"])
    return [
        (name, [next((r for r in p["rows"] if r["name"] == name), None) for p in sections])
        for name in names
    ]


# ------------------------------------------------------------------ terminal and files


def print_table(sections: list[dict]) -> None:
    head = ("task", "judge", "model", "mean", "95 % interval", "scored", "bounds", "vs. baseline")
    lines = [head]
    for part in sections:
        for row in part["rows"]:
            named = [(row["name"], row["all"])]
            named += [(f"  {p['name']} terms", p) for p in row["parts"]]
            for name, value in named:
                gap = row["difference"] if value is row["all"] else None
                shown = ""
                if gap:
                    said = "" if gap["verdict"] in ("better", "worse") else f", {gap['verdict']}"
                    shown = (
                        f"{signed(gap['difference'])} [{signed_span(gap['interval'])}] "
                        f"({gap['n_pairs']} pairs{said})"
                    )
                missing = value["n_scored"] < value["n_total"]
                lines.append(
                    (
                        part["task"],
                        part["judge"],
                        name,
                        number(value["mean"]),
                        span(value["interval"]),
                        f"{value['n_scored']}/{value['n_total']}",
                        span(value["bounds"]) if missing else "",
                        shown,
                    )
                )
    show_table(lines)


def markdown(sections: list[dict]) -> str:
    """The leaderboard as a table for a README."""

    def cell(row: dict | None) -> str:
        if row is None:
            return "–"
        value, gap = row["all"], row["difference"]
        text = f"{number(value['mean'])} [{span(value['interval'])}]"
        text += f" ({value['n_scored']}/{value['n_total']}"
        if value["n_scored"] < value["n_total"]:
            text += f", bounds {span(value['bounds'])}"
        return text + ")" + (f", {gap['verdict']}" if gap else "")

    baseline = next((part["baseline"] for part in sections if part["baseline"]), None)
    lines = [["Model", *(f"{part['title']}, judged by {part['judge']}" for part in sections)]]
    for name, rows in board(sections):
        lines.append([name + " (baseline)" * (name == baseline), *map(cell, rows)])
    lines.insert(1, ["---"] * len(lines[0]))
    table = "\n".join(
        f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |" for line in lines
    )
    note = "Mean [95 % interval] (scored/asked; bounds if all missing rows were worst or best)"
    if baseline:
        note += f"; against {baseline}: paired tests, p below 0.05 after Holm's correction"
    return f"{table}\n\n{note}.\n"


def figures(sections: list[dict]) -> list[dict]:
    """Every figure of the leaderboard, a row each."""
    lines = []
    for part in sections:
        for row in part["rows"]:
            for name, value in [("all", row["all"]), *((p["name"], p) for p in row["parts"])]:
                gap = (row["difference"] if name == "all" else None) or {}
                ends = {"interval": value["interval"], "bounds": value["bounds"]}
                ends["difference_interval"] = gap.get("interval")
                lines.append(
                    {"task": part["task"], "judge": part["judge"], "model": row["name"]}
                    | {"terms": name}
                    | {key: value[key] for key in ("mean", "n_scored", "n_total")}
                    | {
                        f"{key}_{side}": pair[place] if pair else None
                        for key, pair in ends.items()
                        for place, side in enumerate(("low", "high"))
                    }
                    | {
                        key: gap.get(key)
                        for key in ("baseline", "difference", "n_pairs", "p", "p_holm", "verdict")
                    }
                )
    return lines


if __name__ == "__main__":
    run(main)
