"""Score files read, and models compared on the rows that both have a score for.

Rows are joined by id. A difference is called one only where three things hold: more
than half of the questions were scored for both models (rows do not go missing by
chance), its 95 % interval leaves out 0, and the p value of the paired test, corrected
for the number of comparisons, is below 0.05. All else is tied.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.evaluate import stats
from malmat.evaluate.results import status_of
from malmat.files import check_fields, read_json, row_id
from malmat.formats import STATUSES

TASKS: dict[str, dict[str, Any]] = {
    "understand": {
        "figure": "average_score",
        "field": "score",
        "scale": (1.0, 5.0),
        "test": "Wilcoxon signed-rank",
    },
    "usage": {
        "figure": "total_usage_rate",
        "field": "used",
        "scale": (0.0, 1.0),
        "test": "exact McNemar",
    },
}
"""What a task's score files hold: the figure's and the score's names, and the ends of the scale."""


LEVEL = 0.05


def read_scores(path: str | Path) -> dict:
    """A score file with every row checked: ``{model_name, scorer_name, task, results, …}``.

    Older files are read too: rows without an id get it from their question, rows
    without a status theirs from the answer (a score given to a failure is dropped),
    and the figures are computed from the rows.

    Raises:
        InputError: not a score file, naming the field.
    """
    value = check_fields(read_json(path), {"model_name": str, "results": list}, path=path, line=1)
    if not isinstance(value.get("settings", {}), dict):
        raise InputError("expected an object", path=path, field="settings")
    task = next((name for name, spec in TASKS.items() if spec["figure"] in value), None)
    if task is None:
        figures = " nor ".join(spec["figure"] for spec in TASKS.values())
        raise InputError(f"not a score file: no {figures} in it", path=path)
    spec, rows = TASKS[task], {}
    for index, row in enumerate(value["results"]):
        where = f"results[{index}]"
        check_fields(row, {"question": str}, path=path, line=1, where=f"{where}.")
        row = {"id": row_id("question", row["question"]), **row}
        score = row.get(spec["field"])
        if "status" not in row:
            status = status_of(str(row.get("answer") or ""))
            row["status"] = "parse_error" if status == "ok" and score is None else status
        if row["status"] not in STATUSES:
            raise InputError("unknown status", path=path, field=f"{where}.status")
        low, high = spec["scale"]
        if score is not None and not (isinstance(score, (int, float)) and low <= score <= high):
            raise InputError(
                f"expected a score from {low:g} to {high:g}, found {score!r}",
                path=path,
                field=f"{where}.{spec['field']}",
            )
        if row["status"] == "ok" and score is None:
            raise InputError("no score, though the status is ok", path=path, field=where)
        if row["id"] in rows:
            raise InputError("the same id stands in it twice", path=path, field=f"{where}.id")
        row[spec["field"]] = score if row["status"] == "ok" else None
        rows[row["id"]] = row
    result = {
        "scorer_name": "unnamed judge",
        "settings": {},
        **value,
        "task": task,
        "file": str(path),
        "results": list(rows.values()),
        "statuses": dict(Counter(row["status"] for row in rows.values())),
    }
    scores = [row[spec["field"]] for row in rows.values()]
    figures = stats.summarize(
        [None if score is None else float(score) for score in scores],
        worst=spec["scale"][0],
        best=spec["scale"][1],
        clusters=[label(row) for row in rows.values()] if task == "understand" else None,
        rate=task == "usage",
    )
    return result | figures | {spec["figure"]: figures["mean"]}


def read_folder(folder: str | Path, task: str) -> list[dict]:
    """All score files of a task: ``<folder>/<task>/score_results/*.json``.

    Two files of one model by one judge are told apart by their file names.
    """
    paths = sorted((Path(folder) / task / "score_results").glob("*.json"))
    results = [read_scores(path) for path in paths if not path.name.endswith(".run.json")]
    for result in results:
        if result["task"] != task:
            raise InputError(f"holds scores of {result['task']}", path=result["file"])
    return distinct(results)


def distinct(results: list[dict]) -> list[dict]:
    """The same results, with names that differ where a judge scored one name twice."""
    named: dict[tuple, list[str]] = defaultdict(list)
    for r in results:
        named[r["task"], r["model_name"], r["scorer_name"]].append(r["file"])
    renamed = []
    for r in results:
        files = named[r["task"], r["model_name"], r["scorer_name"]]
        stems = {Path(file).stem for file in files}
        extra = Path(r["file"]).stem if len(stems) == len(files) else r["file"]
        name = r["model_name"] if len(files) == 1 else f"{r['model_name']} ({extra})"
        renamed.append({"answered_by": r["model_name"], **r, "model_name": name})
    return renamed


def label(row: dict) -> str:
    """What a row is about: its term, or its question where it has none."""
    return row.get("title") or row["question"]


def terms_used(rows: list[dict]) -> Counter[str]:
    """Term → number of scored answers it stands in, where the judge names terms."""
    named = [row["terms"] for row in rows if row["status"] == "ok" and row.get("terms")]
    return Counter(term for terms in named for term in terms)


def compare_all(results: list[dict], baseline: str | None = None) -> list[dict]:
    """Every model against the baseline, or every pair of models where there is none.

    Args:
        results: score files of one task, by one judge.
        baseline: a ``model_name`` in them.

    Returns:
        What ``compare`` gives, with ``p_holm`` (Holm's correction over all of them) and
        ``verdict``: better, worse, tied, ``too few to compare`` or ``no common rows``.

    Raises:
        InputError: different judges or tasks, or no such baseline.
    """
    same_judge(results)
    base = [result for result in results if result["model_name"] == baseline]
    if baseline is not None and not base:
        raise InputError(f"no scores of '{baseline}'", field="baseline")
    if base:
        pairs = [(base[0], result) for result in results if result is not base[0]]
    else:
        pairs = list(combinations(results, 2))
    found = [compare(*pair) for pair in pairs]
    tested = [gap for gap in found if gap["covered"]]
    for gap, p in zip(tested, stats.holm([gap["p"] for gap in tested]), strict=True):
        gap["p_holm"] = p
    return [gap | {"verdict": verdict(gap)} for gap in found]


def same_judge(results: list[dict]) -> None:
    """Refuse what does not compare: scores by different judges, or of different tasks."""
    for name, what in (("task", "of different tasks"), ("scorer_name", "by different judges")):
        if len({result[name] for result in results}) > 1:
            each = "; ".join(f"{result['model_name']}: {result[name]}" for result in results)
            raise InputError(
                f"scores {what} do not compare ({each})",
                fix="Score all with one judge, or choose one with --scorer_name.",
            )


def compare(before: dict, after: dict) -> dict:
    """One model against another (after − before), paired by row id.

    Returns:
        ``baseline, model, difference, interval`` (clustered by term)``, n_pairs, n_rows``
        (questions asked of either)``, covered`` (scored for both: more than half)``, better,
        worse, same`` (pairs)``, test, p, p_holm``, ``items``: per term, or per
        question of usage, ``{item, before, after, difference, n}``, best gain first, and
        ``cautions``: what else differs between the two.
    """
    spec = TASKS[before["task"]]
    field = spec["field"]
    first, second = (
        {row["id"]: float(row[field]) for row in result["results"] if row[field] is not None}
        for result in (before, after)
    )
    asked = {row["id"]: row for row in [*after["results"], *before["results"]]}
    clusters = {key: label(row) for key, row in asked.items()}
    gap = stats.paired_difference(first, second, clusters, scale=spec["scale"])
    common = [key for key in first if key in second]
    steps = [second[key] - first[key] for key in common]
    better, worse = sum(step > 0 for step in steps), sum(step < 0 for step in steps)
    p = None
    if common and before["task"] == "usage":
        p = stats.mcnemar(better, worse)
    elif common:
        p = stats.signed_rank(steps, [clusters[key] for key in common])
    groups: dict[str, list[str]] = defaultdict(list)
    for key in common:
        groups[clusters[key]].append(key)
    items = []
    for item, keys in groups.items():
        old, new = (sum(scores[key] for key in keys) / len(keys) for scores in (first, second))
        row = {"item": item, "before": old, "after": new, "difference": new - old, "n": len(keys)}
        items.append(row)
    kept = set(common)
    uses, new_uses = (
        terms_used([row for row in result["results"] if row["id"] in kept])
        for result in (before, after)
    )
    terms = [
        {"item": term, "before": uses[term], "after": new_uses[term]}
        | {"difference": new_uses[term] - uses[term]}
        for term in uses | new_uses
    ]
    return {
        "baseline": before["model_name"],
        "model": after["model_name"],
        **{name: gap[name] for name in ("difference", "interval", "n_pairs")},
        "n_rows": len(asked),
        "covered": len(common) * 2 > len(asked),
        "better": better,
        "worse": worse,
        "same": len(common) - better - worse,
        "test": spec["test"],
        "p": p,
        "p_holm": None,
        "items": sorted(items, key=gain_first),
        "terms": sorted(terms, key=gain_first),
        "cautions": cautions(before, after),
    }


def gain_first(row: dict) -> tuple:
    return -row["difference"], row["item"]


def cautions(before: dict, after: dict) -> list[str]:
    """What makes two score files of one judge less alike than its name says."""
    found = []
    names = {
        "prompts": "the prompts",
        "n": "judgements an answer",
        "terms": "the term list",
        "judge_model": "the judge's files",
        "full_list": "full_list",
        "base_url": "base_url",
    }
    settings = [result["settings"] for result in (before, after)]
    for key, name in names.items():
        old, new = (each.get(key) for each in settings)
        if all(key in each for each in settings) and old != new:
            found.append(f"scored with another setting of {name} ({old}, {new})")
    old, new = (
        {row["judge_version"] for row in result["results"] if row.get("judge_version")}
        for result in (before, after)
    )
    if old and new and old != new:
        found.append(f"judge versions differ ({', '.join(sorted(old))}; {', '.join(sorted(new))})")
    return found


def verdict(gap: dict) -> str:
    """What may be said of a comparison (see the module's first lines)."""
    if not gap["n_pairs"]:
        return "no common rows"
    if not gap["covered"]:
        return "too few to compare"
    low, high = gap["interval"]
    if low <= 0 <= high or gap["p_holm"] >= LEVEL:
        return "tied"
    return "better" if gap["difference"] > 0 else "worse"
