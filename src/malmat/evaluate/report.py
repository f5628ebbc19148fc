"""What the report shows, without the showing: score files → figures for tables and plots."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

from malmat.answer.replies import parse_object
from malmat.evaluate import stats
from malmat.evaluate.compare import TASKS, compare_all, label, terms_used
from malmat.files import read_json
from malmat.formats import STATUSES

HIDDEN_SETTINGS = {"output", "results_dir", "dry_run", "name", "model", "task", "scorer_name"}
"""Settings that only say where a result lies, or what its row is called already."""


EXCERPT = 240
"""Letters of a failed row that are shown."""


def section(task: str, judge: str, group: list[dict], baseline: str | None, folder: Path) -> dict:
    """All that the page shows of one task under one judge.

    The highest mean comes first; a mean over at most half of the rows comes after all others,
    however high it is.

    Args:
        group: score files as ``compare.read_folder`` gives them.
        folder: the results folder, for what ``infer.py`` left beside its answers.
    """
    spec = TASKS[task]

    def rank(result: dict) -> tuple:
        mean = result[spec["figure"]]
        few = result["n_scored"] * 2 <= result["n_total"]
        return few, 0 if mean is None else -mean, result["model_name"]

    group = sorted(group, key=rank)
    names = [result["model_name"] for result in group]
    gaps = compare_all(group, baseline if baseline in names else None)
    against = {gap["model"]: gap for gap in gaps} if baseline in names else {}
    runs = [run_of(result, folder) for result in group]
    return {
        "task": task,
        "judge": judge,
        "scale": spec["scale"],
        "test": spec["test"],
        "baseline": baseline if baseline in names else None,
        "rows": [
            {
                "name": result["model_name"],
                "all": figure(result, result[spec["figure"]]),
                "parts": parts(result),
                "gap": seen_gap(result),
                "difference": against.get(result["model_name"]),
            }
            for result in group
        ],
        "gaps": gaps,
        "ledger": ledger(group),
        "failed": [row for result in group for row in failed(result)],
        "distributions": distributions(group),
        "trust": trust(group),
        "spending": spending(group, runs),
        "terms": per_term(group),
        "answers": side_by_side(group),
        "settings": settings(group, runs),
        "provenance": [
            (result["model_name"], result.get("provenance"), run.get("provenance"))
            for result, run in zip(group, runs, strict=True)
        ],
    }


def figure(part: dict, mean: float | None) -> dict:
    return {"mean": mean, **{k: part[k] for k in ("n_scored", "n_total", "interval", "bounds")}}


def parts(result: dict) -> list[dict]:
    """The figures of seen and of unseen terms, where the file has them."""
    return [
        {"name": part, **figure(result[part], result[part]["mean"])}
        for part in ("seen", "unseen")
        if (result.get(part) or {}).get("n_total")
    ]


def seen_gap(result: dict) -> dict | None:
    """How much lower or higher unseen terms score than seen ones."""
    both = parts(result)
    return stats.independent_difference(*both) if len(both) == 2 else None


def stage(row: dict) -> str:
    """Where a row failed: at its answer or at its judgement."""
    judged = row["status"] in ("parse_error", "out_of_range")
    return row.get("stage") or ("judge" if judged else "answer")


def ledger(group: list[dict]) -> dict:
    """Every row's end: ``{columns: [(stage, status)], rows: [{name, total, counts}]}``."""
    counts = {
        result["model_name"]: Counter(
            ("", "ok") if row["status"] == "ok" else (stage(row), row["status"])
            for row in result["results"]
        )
        for result in group
    }
    order = [("", "ok"), *((s, status) for s in ("answer", "judge") for status in STATUSES)]
    found = set().union(*counts.values())
    columns = [column for column in order if column in found | {("", "ok")}]
    rows = [
        {"name": name, "total": count.total(), "counts": [count[c] for c in columns]}
        for name, count in counts.items()
    ]
    return {"columns": columns, "rows": rows}


def failed(result: dict) -> list[dict]:
    """The rows that have no score, each with what is left of it."""
    rows = []
    for row in result["results"]:
        if row["status"] == "ok":
            continue
        where = stage(row)
        left = " ".join(row.get("judge_replies") or []) if where == "judge" else row.get("answer")
        error = row.get("judge_error") if where == "judge" else row.get("error")
        text = " ".join(" · ".join(part for part in (error, left) if part).split())
        # An answer that was cut or ran on shows it at its end.
        excerpt = text if len(text) <= EXCERPT else f"… {text[-EXCERPT:]}"
        rows.append(
            {"model": result["model_name"], "item": label(row), "stage": where, "text": excerpt}
            | {"status": row["status"]}
        )
    return rows


def distributions(group: list[dict]) -> list[dict]:
    """Histograms, one a model: of scores, or of slang terms an answer where the judge names them.

    Returns:
        ``[{name, n, bars: [{label, count, share, height}]}]``; bins are the whole scores,
        or half points where a judge gives fractions; ``height`` is the share against the
        largest of all models. Empty where there is nothing to count.
    """
    usage = group[0]["task"] == "usage"
    values = {
        result["model_name"]: [
            min(3, len(row.get("terms") or [])) if usage else float(row["score"])
            for row in result["results"]
            if row["status"] == "ok"
        ]
        for result in group
    }
    everything = [value for some in values.values() for value in some]
    if not everything or (usage and not any(everything)):
        return []
    if usage:
        bins = [(count, str(count)) for count in range(3)] + [(3, "3+")]
    elif all(value == int(value) for value in everything):
        bins = [(score, str(score)) for score in range(1, 6)]
    else:  # the last bin holds 5 too
        bins = [(score / 2, f"{score / 2:g}") for score in range(2, 10)]
    starts = [start for start, _ in bins]
    shown = []
    for name, some in values.items():
        count = Counter(max(start for start in starts if start <= value) for value in some)
        bars = [
            {"label": text, "count": count[start], "share": count[start] / max(1, len(some))}
            for start, text in bins
        ]
        shown.append({"name": name, "n": len(some), "bars": bars})
    most = max(bar["share"] for one in shown for bar in one["bars"])
    for one in shown:
        for bar in one["bars"]:
            bar["height"] = bar["share"] / most
    return shown


def trust(group: list[dict]) -> list[dict]:
    """What score.py says about the judge's trustworthiness, for the models that have it."""
    return [
        {"name": result["model_name"], **result["trust"]}
        for result in group
        if isinstance(result.get("trust"), dict)
    ]


def run_of(result: dict, folder: Path) -> dict:
    """What infer.py stored beside the answers (empty where it is not there)."""
    task, name = result["task"], result["answered_by"]
    path = folder / task / "infer_results" / f"{name}_{task}_inference_results.run.json"
    value = read_json(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


def spending(group: list[dict], runs: list[dict]) -> list[dict]:
    """Time, tokens and dollars of answering and of judging, for the models that have them."""

    def part(source: dict) -> dict:
        tokens = source.get("tokens") or source.get("usage") or {}
        names = ("seconds", "items_per_second", "cost_usd")
        return {name: source.get(name) for name in names} | {
            side: next((n for key, n in tokens.items() if key.startswith(side)), None)
            for side in ("input", "output")
        }

    rows = [
        {
            "name": result["model_name"],
            "stages": [("answers", part(run.get("run") or {})), ("judge", part(result))],
        }
        for result, run in zip(group, runs, strict=True)
    ]
    return [row for row in rows if any(v is not None for _, p in row["stages"] for v in p.values())]


def per_term(group: list[dict]) -> list[dict]:
    """``[{term, cells: [{value, share, note}]}]``, a cell a model.

    Understanding: the mean score of the term's questions (``value`` None where none was
    scored; ``note`` then names the status). Usage: the answers that the term stands in.
    ``share`` places the value between the ends of what is possible or found.
    """
    if group[0]["task"] == "usage":
        used = [terms_used(result["results"]) for result in group]
        total = sum(used, Counter())
        most = max((max(count.values(), default=0) for count in used), default=0)
        return [
            {
                "term": term,
                "cells": [
                    {"value": n[term], "share": n[term] / most, "note": str(n[term])} for n in used
                ],
            }
            for term in sorted(total, key=lambda term: (-total[term], term))
        ]
    tables: list[dict[str, list[dict]]] = []
    for result in group:
        rows: dict[str, list[dict]] = {}
        for row in result["results"]:
            rows.setdefault(label(row), []).append(row)
        tables.append(rows)
    return [
        {"term": term, "cells": [term_cell(table.get(term, [])) for table in tables]}
        for term in sorted(set().union(*tables))
    ]


def term_cell(rows: list[dict]) -> dict:
    scores = [row["score"] for row in rows if row["score"] is not None]
    if not scores:
        return {"value": None, "share": 0, "note": rows[0]["status"] if rows else "not asked"}
    mean = sum(scores) / len(scores)
    some = f" ({len(scores)}/{len(rows)})" if len(scores) < len(rows) else ""
    return {"value": mean, "share": (mean - 1) / 4, "note": f"{mean:.3g}{some}"}


def side_by_side(group: list[dict]) -> list[dict]:
    """A question with the answer of every model, joined by id."""
    questions: dict[str, dict] = {}
    for result in group:
        for row in result["results"]:
            entry = questions.setdefault(
                row["id"],
                {"title": row.get("title"), "question": row["question"], "answers": []},
            )
            entry["answers"].append(
                {
                    "model": result["model_name"],
                    "text": row.get("answer") or "",
                    "status": row["status"],
                    "score": score_text(row),
                    "judge": judge_text(row),
                }
            )
    return list(questions.values())


def score_text(row: dict) -> str | None:
    if row["status"] != "ok":
        return None
    if "used" in row:
        return (", ".join(row.get("terms") or []) or "used") if row["used"] else "not used"
    return f"{row['score']:.3g}"


def judge_text(row: dict) -> list[str]:
    """What the judge said, a line a judgement: its reason where it gave one, else its reply."""
    lines = []
    for reply in row.get("judge_replies") or []:
        try:
            reason = parse_object(reply, "reason")["reason"]
        except ValueError:
            reason = None
        lines.append(str(reason or reply))
    if row.get("probabilities"):
        chances = enumerate(row["probabilities"], 1)
        lines.append("  ".join(f"{score}: {chance:.0%}" for score, chance in chances))
    return lines + ([row["judge_error"]] if row.get("judge_error") else [])


def settings(group: list[dict], runs: list[dict]) -> dict:
    """Settings of answering and judging: what is common, and a row for each that differs.

    Returns:
        ``{names, common: [(key, value)], differing: [(key, [value a model])]}``.
    """
    tables = []
    for result, run in zip(group, runs, strict=True):
        table = {f"answer.{key}": value for key, value in (run.get("settings") or {}).items()}
        table |= {f"judge.{key}": value for key, value in result["settings"].items()}
        tables.append({k: v for k, v in table.items() if k.split(".")[1] not in HIDDEN_SETTINGS})
    common, differing = [], []
    for key in dict.fromkeys(key for table in tables for key in table):
        values = [table.get(key) for table in tables]
        if any(value != values[0] for value in values):
            differing.append((key, values))
        elif values[0] is not None:
            common.append((key, values[0]))
    names = [result["model_name"] for result in group]
    return {"names": names, "common": common, "differing": differing}


def round_limit(gaps: list[dict], widest: float) -> float:
    """A symmetric axis for differences: the first of 0.1, 0.2, 0.5, 1 … that holds them all."""
    reach = max((abs(end) for gap in gaps for end in gap["interval"] or ()), default=widest)
    power = 10 ** math.floor(math.log10(max(reach, 0.1)))
    steps = [step * power for step in (1, 2, 5, 10)]
    return min(widest, next(step for step in steps if step >= reach - 1e-9))
