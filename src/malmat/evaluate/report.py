"""What the report shows, without the showing: runs → figures for tables and plots."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.evaluate import results, stats
from malmat.evaluate.compare import compare_all, compare_slices, in_order, terms_used
from malmat.evaluate.plots import axis, distributions
from malmat.evaluate.results import Run
from malmat.evaluate.side_by_side import per_term, side_by_side
from malmat.evaluate.task import Agreement, Row, Task, cluster
from malmat.files import read_json
from malmat.formats import STATUSES

HIDDEN_SETTINGS = {"output", "results_dir", "dry_run", "name", "model", "task", "scorer_name"}
"""Settings that only say where a result lies, or what its row is called already."""


EXCERPT = 240
"""Letters of a failed row that are shown."""


LEAST_KAPPA = 0.2
"""A scorer whose kappa is surely no higher makes no headline: up to here agreement is slight
(Landis & Koch 1977, *The measurement of observer agreement*, Biometrics 33:159)."""


def section(runs: list[Run], baseline: str | None, root: Path) -> dict:
    """All that the page shows of one task by one scorer.

    The best mean comes first; a mean over at most half of the rows comes after all others,
    however good it is.

    Args:
        runs: of one task, by one scorer.
        root: the results folder, for what ``infer.py`` left beside its answers.
    """
    task, scorer = runs[0].task, runs[0].scorer
    summaries = {run.model: run.summary() for run in runs}

    def rank(run: Run) -> tuple:
        found = summaries[run.model]
        mean, few = found["mean"], found["n_scored"] * 2 <= found["n_total"]
        return few, 0 if mean is None else -mean * task.scale.sign, run.model

    runs = sorted(runs, key=rank)
    names = [run.model for run in runs]
    base = baseline if baseline in names else None
    gaps = compare_all(runs, base)
    against = {gap["model"]: gap for gap in gaps} if base else {}
    records = [run_record(run, root) for run in runs]
    known = agreement(root, task, scorer)
    rows = [
        {
            "name": run.model,
            "all": summaries[run.model],
            "slices": slices(run),
            "figures": run.figures(),
            "difference": against.get(run.model),
        }
        for run in runs
    ]
    return {
        "task": task,
        "scorer": scorer,
        "agreement": known,
        "trusted": known is None or trusted(known),
        "baseline": base,
        "rows": rows,
        "gaps": gaps,
        "slice_gaps": compare_slices(runs, base) if base else {},
        "axis": axis(task.scale, [part for row in rows for part in shown(row)]),
        "ledger": ledger(runs),
        "failed": [row for run in runs for row in failed(run)],
        "distributions": distributions(runs),
        "trust": trust(runs),
        "choices": weighed(runs),
        "spending": spending(runs, records),
        "names_terms": any(terms_used(run.rows.values()) for run in runs),
        "terms": per_term(runs),
        "answers": side_by_side(runs),
        "settings": settings(runs, records),
        "provenance": [
            (run.model, run.record.get("provenance"), record.get("provenance"))
            for run, record in zip(runs, records, strict=True)
        ],
    }


def agreement(root: Path, task: Task, scorer: str) -> Agreement | None:
    """What is known of a scorer's agreement with the anchors: by calibrate.py, where it ran on
    these results, else what the task ships."""
    path = results.calibration_path(root, task, scorer)
    if not path.is_file():
        return task.known.get(scorer)
    found = read_json(path)
    if not isinstance(found, dict) or "kappa" not in found:
        raise InputError("not a calibration: no kappa in it", path=path)
    if found["kappa"] is None:
        return None
    ends = found.get("interval") or (found["kappa"], found["kappa"])
    return Agreement(found["kappa"], tuple(ends), found["n_scored"])


def trusted(known: Agreement) -> bool:
    """Whether a scorer's figure may make a headline."""
    return known.interval[1] > LEAST_KAPPA


def slices(run: Run) -> dict[str, dict]:
    """Field → ``{parts, gap}``: the figures of each of its values, and of two values how much
    higher the second is than the first (separate rows, so it is not paired)."""
    found = {}
    for name, by_value in run.slices().items():
        parts = [{"name": str(value), **by_value[value]} for value in in_order(by_value)]
        gap = stats.independent_difference(*parts) if len(parts) == 2 else None
        found[name] = {"parts": parts, "gap": gap}
    return found


def shown(row: dict) -> list[dict]:
    """A model's figures that stand on the scale's axis."""
    return [row["all"], *(part for one in row["slices"].values() for part in one["parts"])]


def stage(row: Row) -> str:
    """Where a row failed: at its answer or at its judgement."""
    judged = row["status"] in ("parse_error", "out_of_range")
    return row.get("stage") or ("judge" if judged else "answer")


def ledger(runs: list[Run]) -> dict:
    """Every row's end: ``{columns: [(stage, status)], rows: [{name, total, counts}]}``."""
    counts = {
        run.model: Counter(
            ("", "ok") if row["status"] == "ok" else (stage(row), row["status"])
            for row in run.rows.values()
        )
        for run in runs
    }
    order = [("", "ok"), *((s, status) for s in ("answer", "judge") for status in STATUSES)]
    found = set().union(*counts.values())
    columns = [column for column in order if column in found | {("", "ok")}]
    rows = [
        {"name": name, "total": count.total(), "counts": [count[c] for c in columns]}
        for name, count in counts.items()
    ]
    return {"columns": columns, "rows": rows}


def failed(run: Run) -> list[dict]:
    """The rows that have no score, each with what is left of it."""
    rows = []
    for row in run.rows.values():
        if row["status"] == "ok":
            continue
        where = stage(row)
        left = " ".join(row.get("judge_replies") or []) if where == "judge" else row.get("answer")
        error = row.get("judge_error") if where == "judge" else row.get("error")
        text = " ".join(" · ".join(part for part in (error, left) if part).split())
        # An answer that was cut or ran on shows it at its end.
        excerpt = text if len(text) <= EXCERPT else f"… {text[-EXCERPT:]}"
        rows.append(
            {"model": run.model, "item": cluster(row), "stage": where, "text": excerpt}
            | {"status": row["status"]}
        )
    return rows


def trust(runs: list[Run]) -> list[dict]:
    """What score.py says about the scorer's trustworthiness, for the models that have it."""
    return [
        {"name": run.model, **run.record["trust"]}
        for run in runs
        if isinstance(run.record.get("trust"), dict)
    ]


def weighed(runs: list[Run]) -> list[dict]:
    """What logits said of choices (``confidence.choice_figures``), for the models that have it."""
    known = [(run.model, run.record.get("choices")) for run in runs]
    return [{"name": name, **found} for name, found in known if isinstance(found, dict)]


def run_record(run: Run, root: Path) -> dict:
    """What infer.py stored beside the answers (empty where it is not there)."""
    path = results.run_record(results.answers_path(root, run.task, run.answered_by))
    value = read_json(path) if path.is_file() else {}
    return value if isinstance(value, dict) else {}


def spending(runs: list[Run], records: list[dict]) -> list[dict]:
    """Time, tokens and dollars of answering and of scoring, where they are known."""

    def part(source: dict) -> dict:
        tokens = source.get("tokens") or source.get("usage") or {}
        names = ("seconds", "items_per_second", "cost_usd")
        return {name: source.get(name) for name in names} | {
            side: next((n for key, n in tokens.items() if key.startswith(side)), None)
            for side in ("input", "output")
        }

    rows = []
    for run, record in zip(runs, records, strict=True):
        stages = {"answers": part(record.get("run") or {}), "scoring": part(run.record)}
        known = [
            (name, spent)
            for name, spent in stages.items()
            if any(value is not None for value in spent.values())
        ]
        if known:
            rows.append({"name": run.model, "stages": known})
    return rows


def settings(runs: list[Run], records: list[dict]) -> dict:
    """Settings of answering and judging: what is common, and a row for each that differs.

    Returns:
        ``{names, common: [(key, value)], differing: [(key, [value a model])]}``.
    """
    tables = []
    for run, record in zip(runs, records, strict=True):
        table = {f"answer.{key}": value for key, value in (record.get("settings") or {}).items()}
        table |= {f"judge.{key}": value for key, value in run.record["settings"].items()}
        tables.append({k: v for k, v in table.items() if k.split(".")[1] not in HIDDEN_SETTINGS})
    common: list[tuple[str, Any]] = []
    differing: list[tuple[str, list]] = []
    for key in dict.fromkeys(key for table in tables for key in table):
        values = [table.get(key) for table in tables]
        if any(value != values[0] for value in values):
            differing.append((key, values))
        elif values[0] is not None:
            common.append((key, values[0]))
    names = [run.model for run in runs]
    return {"names": names, "common": common, "differing": differing}
