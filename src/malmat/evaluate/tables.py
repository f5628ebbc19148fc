"""The report's leaderboard as plain tables: for a terminal, a README, a spreadsheet."""

from __future__ import annotations

from malmat.evaluate.compare import heading
from malmat.evaluate.results import Run

# --------------------------------------------------------------------- figures as text


def number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}".replace("-", "−")


def span(pair: list[float | None] | None) -> str:
    """Two ends; of a scale without upper end the lower one alone."""
    if pair is None:
        return "–"
    return f"≥ {number(pair[0])}" if pair[1] is None else f"{number(pair[0])} … {number(pair[1])}"


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


# ---------------------------------------------------------------------------- tables


def title_of(part: dict) -> str:
    return heading(part["task"].title, part["task"], part["scorer"])


def slice_name(field: str, value: object) -> str:
    return f"{value} terms" if field == "split" else f"{field} {value}"


def board(sections: list[dict]) -> tuple[list[str], list[list[dict | None]]]:
    """The models, and of each its row of every section (None where it has none)."""
    names = list(dict.fromkeys(row["name"] for part in sections for row in part["rows"]))
    return names, [
        [next((r for r in p["rows"] if r["name"] == name), None) for p in sections]
        for name in names
    ]


def named(part: dict, row: dict) -> list[tuple[str, str, dict]]:
    """The summaries of a model: (field, value, summary), that of all rows first."""
    return [
        ("", "all", row["all"]),
        *((f, p["name"], p) for f, one in row["slices"].items() for p in one["parts"]),
    ]


def terminal_table(sections: list[dict]) -> list[tuple[str, ...]]:
    """The leaderboard for a terminal: cells, the head first."""
    head = ("task", "judge", "model", "mean", "95 % interval", "scored", "bounds", "vs. baseline")
    lines: list[tuple[str, ...]] = [head]
    for part in sections:
        for row in part["rows"]:
            for field, name, value in named(part, row)[: None if part["trusted"] else 1]:
                lines.append(
                    (
                        part["task"].name,
                        part["scorer"],
                        f"  {slice_name(field, name)}" if field else row["name"],
                        *summary_cells(value, part["trusted"]),
                        against(row["difference"]) if not field and part["trusted"] else "",
                    )
                )
    return lines


def summary_cells(value: dict, trusted: bool) -> tuple[str, str, str, str]:
    count = f"{value['n_scored']}/{value['n_total']}"
    if not trusted:
        return "–", "answers only", count, ""
    missing = value["n_scored"] < value["n_total"]
    bounds = span(value["bounds"]) if missing else ""
    return number(value["mean"]), span(value["interval"]), count, bounds


def against(gap: dict | None) -> str:
    if not gap:
        return ""
    said = "" if gap["verdict"] in ("better", "worse") else f", {gap['verdict']}"
    inside = f"{signed(gap['difference'])} [{signed_span(gap['interval'])}]"
    return f"{inside} ({gap['n_pairs']} pairs{said})"


def markdown(sections: list[dict]) -> str:
    """The leaderboard as a table for a README."""

    def cell(part: dict, row: dict | None) -> str:
        if row is None:
            return "–"
        if not part["trusted"]:
            return "– (answers only)"
        mean, interval, count, bounds = summary_cells(row["all"], True)
        gap = row["difference"]
        text = f"{mean} [{interval}] ({count}" + (f", bounds {bounds}" if bounds else "")
        return text + ")" + (f", {gap['verdict']}" if gap else "")

    baseline = next((part["baseline"] for part in sections if part["baseline"]), None)
    lines = [["Model", *map(title_of, sections)]]
    for name, rows in zip(*board(sections), strict=True):
        cells = [cell(part, row) for part, row in zip(sections, rows, strict=True)]
        lines.append([name + " (baseline)" * (name == baseline), *cells])
    lines.insert(1, ["---"] * len(lines[0]))
    table = "\n".join(
        f"| {' | '.join(text.replace('|', chr(92) + '|') for text in line)} |" for line in lines
    )
    note = "Mean [95 % interval] (scored/asked; bounds if all missing rows were worst or best)"
    if baseline:
        note += f"; against {baseline}: paired tests, p below 0.05 after Holm's correction"
    return f"{table}\n\n{note}.\n"


def figures(sections: list[dict]) -> list[dict]:
    """Every figure of the leaderboard, a row each, with six significant digits."""
    lines = []
    for part in sections:
        for row in part["rows"]:
            start = {"task": part["task"].name, "judge": part["scorer"], "model": row["name"]}
            known = part["agreement"]
            start["kappa"] = known and known.kappa
            lines += [
                start | figure_line("mean", field, name, value, row["difference"])
                for field, name, value in named(part, row)
            ]
            lines += [
                start | figure_line(name, "", "all", value | {"mean": value["value"]}, None)
                for name, value in row["figures"].items()
            ]
    return [{k: f"{v:.6g}" if isinstance(v, float) else v for k, v in r.items()} for r in lines]


def own_figures(runs: list[Run]) -> list[str]:
    """A line a figure that the task declares (macro-F1): each model's value and interval."""
    found = {run.model: run.figures() for run in runs}
    lines = []
    for name in runs[0].task.figures:
        parts = []
        for model, figures in found.items():
            if (figure := figures.get(name)) and figure["value"] is not None:
                ends = ", ".join(f"{end:.3f}" for end in figure["interval"] or ())
                parts.append(f"{model} {figure['value']:.3f}" + (f" [{ends}]" if ends else ""))
        lines.append(f"{name}: {'; '.join(parts) or 'no row was scored'}")
    return lines


def figure_line(figure: str, field: str, name: str, value: dict, gap: dict | None) -> dict:
    gap = (None if field else gap) or {}
    ends = {"interval": value["interval"], "bounds": value.get("bounds")}
    ends["difference_interval"] = gap.get("interval")
    return {
        "figure": figure,
        "slice": field,
        "terms": name,
        **{key: value.get(key) for key in ("mean", "n_scored", "n_total")},
        **{
            f"{key}_{side}": pair[place] if pair else None
            for key, pair in ends.items()
            for place, side in enumerate(("low", "high"))
        },
        **{
            key: gap.get(key)
            for key in ("baseline", "difference", "n_pairs", "p", "p_holm", "verdict")
        },
    }
