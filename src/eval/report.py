"""One page that compares models: report.html, and a table in the terminal.

    python src/eval/report.py
    python src/eval/report.py --results_dir runs/embedded/results --baseline base --output r.html

Reads   results/<task>/score_results/*.json (written by score.py).
Writes  --output, one self-contained HTML file (no network, light and dark).

Every figure stands with n_scored/n_total and a 95 % interval, and with bounds where
rows are missing. With --baseline, each other model is compared with it on the rows
that both have a score for.
"""

from __future__ import annotations

from pathlib import Path

from malmat import stats
from malmat.cli import parser, relative, run
from malmat.records import STATUSES, InputError, check_fields, read_json, row_id, write_text

HERE = Path(__file__).parent
TASKS = {
    "understand": {
        "title": "Understanding",
        "text": "Does the answer show that the model knows the term? 1 (not at all) to 5.",
        "figure": "average_score",
        "field": "score",
        "scale": (1.0, 5.0),
        "ticks": [1, 2, 3, 4, 5],
    },
    "usage": {
        "title": "Usage",
        "text": "Does the model use slang by itself when it answers an everyday question? Share of "
        "answers with a slang term.",
        "figure": "total_usage_rate",
        "field": "used",
        "scale": (0.0, 1.0),
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
    options.add_argument("--title", default="Korean slang: model comparison")
    return options.parse_args()


def main() -> None:
    args = arguments()
    sections = []
    for task, spec in TASKS.items():
        results = read_results(Path(args.results_dir), task)
        # Scores of different judges do not compare: a section a judge.
        for judge in dict.fromkeys(result["scorer_name"] for result in results):
            group = [result for result in results if result["scorer_name"] == judge]
            group.sort(key=lambda r: (r["model_name"] != args.baseline, r["model_name"]))
            sections.append(section(task, spec, judge, group, args.baseline))
    if not sections:
        raise InputError(
            "no score files in it", path=args.results_dir, fix="Run infer.py and score.py first."
        )
    if args.baseline and not any(
        row["name"] == args.baseline for part in sections for row in part["rows"]
    ):
        raise InputError(f"no scores of '{args.baseline}'", field="baseline")
    write_text(args.output, render(args.title, sections))
    print_table(sections)
    print(f"wrote {relative(args.output)}")


def read_results(folder: Path, task: str) -> list[dict]:
    results = []
    for path in sorted((folder / task / "score_results").glob("*.json")):
        value = read_json(path)
        needed = {"model_name": str, "scorer_name": str, "n_scored": int, "n_total": int}
        check_fields(value, {**needed, "results": list}, path=path, line=1)
        for index, row in enumerate(value["results"]):
            where = f"results[{index}]."
            check_fields(row, {"id": str, "status": str}, path=path, line=1, where=where)
        results.append(value)
    return results


def section(task: str, spec: dict, judge: str, group: list[dict], baseline: str | None) -> dict:
    """All that the page shows of one task under one judge."""
    base = next((r for r in group if r["model_name"] == baseline), None)
    rows = []
    for result in group:
        row = {
            "name": result["model_name"],
            "all": figure(result, result.get(spec["figure"])),
            "parts": [
                {"name": part, **figure(result[part], result[part]["mean"])}
                for part in ("seen", "unseen")
                if result.get(part, {}).get("n_total")
            ],
            "statuses": [(s, result["statuses"][s]) for s in STATUSES if s in result["statuses"]],
        }
        if base is not None and result is not base:
            row["difference"] = difference(base, result, spec["field"], spec["scale"])
        rows.append(row)
    return {
        **spec,
        "task": task,
        "judge": judge,
        "note": JUDGE_NOTES.get(judge, "An LLM judge."),
        "rows": rows,
        "answers": side_by_side(group, spec["field"]),
        "settings": [(r["model_name"], r["settings"], r["provenance"]) for r in group],
    }


def figure(part: dict, mean: float | None) -> dict:
    return {"mean": mean, **{k: part[k] for k in ("n_scored", "n_total", "interval", "bounds")}}


def difference(base: dict, other: dict, field: str, scale: tuple[float, float]) -> dict:
    def scores(result: dict) -> dict[str, float]:
        return {r["id"]: float(r[field]) for r in result["results"] if r.get(field) is not None}

    clusters = {row["id"]: row.get("title") or row["id"] for row in base["results"]}
    gap = stats.paired_difference(scores(base), scores(other), clusters, scale=scale)
    # Rows go missing for a reason: what a minority of them shows holds for that minority only.
    return gap | {"covered": gap["n_pairs"] * 2 > len(base["results"])}


def side_by_side(group: list[dict], field: str) -> list[dict]:
    """A question with the answer of every model, joined by id."""
    questions: dict[str, dict] = {}
    for result in group:
        for row in result["results"]:
            entry = questions.setdefault(
                row["id"],
                {"title": row.get("title"), "question": row["question"], "answers": []},
            )
            score = row.get(field)
            if isinstance(score, bool):
                shown = ", ".join(row.get("terms") or []) or "used" if score else "not used"
            else:
                shown = None if score is None else f"{score:.2f}"
            entry["answers"].append(
                {
                    "model": result["model_name"],
                    "text": row.get("answer") or "",
                    "status": row["status"],
                    "score": shown,
                }
            )
    return list(questions.values())


# -------------------------------------------------------------------------- showing


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def span(pair: list[float] | None) -> str:
    return "–" if pair is None else f"{pair[0]:.2f} … {pair[1]:.2f}"


def signed(value: float | None) -> str:
    return "–" if value is None else f"{value:+.2f}"


def render(title: str, sections: list[dict]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "span": span, "signed": signed}
    for part in sections:
        low, high = part["scale"]
        part["place"] = lambda value, low=low, high=high: round(
            4 + 292 * (value - low) / (high - low), 1
        )
        part["anchor"] = row_id(part["task"], part["judge"])[:6]
    template = environment.get_template("report_template.html.jinja")
    return template.render(title=title, sections=sections)


def print_table(sections: list[dict]) -> None:
    head = ("task", "judge", "model", "mean", "95 % interval", "scored", "bounds", "vs. baseline")
    lines = [head]
    for part in sections:
        for row in part["rows"]:
            named = [(row["name"], row["all"])]
            named += [(f"  {p['name']} terms", p) for p in row["parts"]]
            for name, value in named:
                gap = row.get("difference") if value is row["all"] else None
                shown = ""
                if gap:
                    tied = ", tied" if gap["tied"] else ""
                    tied = tied if gap["covered"] else ", too few to compare"
                    shown = (
                        f"{signed(gap['difference'])} [{span(gap['interval'])}] "
                        f"({gap['n_pairs']} pairs{tied})"
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
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        print("  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip())


if __name__ == "__main__":
    run(main)
