"""Models compared on the rows that both have a score for.

Rows are joined by id. A difference is called one only where three things hold: more than half of
the questions were scored for both models (rows do not go missing by chance), its 95 % interval
leaves out 0, and the p value of the paired test, corrected for the number of comparisons, is
below 0.05. All else is tied. Which test it is, and whether more or less is better, follows from
the task's scale.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import combinations
from typing import Any

from malmat.errors import InputError
from malmat.evaluate import stats
from malmat.evaluate.results import Run
from malmat.evaluate.task import Row, Scale, Task, cluster

LEVEL = 0.05


def heading(name: str, task: Task, scorer: str) -> str:
    """A task's name or title, with its scorer where that is a choice."""
    return name if scorer == task.scorer else f"{name}, judged by {scorer}"


def terms_used(rows: Iterable[Row]) -> Counter[str]:
    """Term → number of scored answers it stands in, where the scorer names terms."""
    named = [row["terms"] for row in rows if row["status"] == "ok" and row.get("terms")]
    return Counter(term for terms in named for term in terms)


def compare_all(runs: list[Run], baseline: str | None = None) -> list[dict]:
    """Every model against the baseline, or every pair of models where there is none.

    Args:
        runs: of one task, by one scorer.
        baseline: the name of a model in them.

    Returns:
        What ``compare`` gives, corrected for their number (``corrected``).

    Raises:
        InputError: different scorers or tasks, or no such baseline.
    """
    return corrected([compare(*pair) for pair in pairs(runs, baseline)])


def compare_slices(runs: list[Run], baseline: str | None = None) -> dict[tuple[str, Any], list]:
    """The same within each slice of the task: (field, value) → comparisons.

    They are corrected for their number over all slices together.
    """
    task = runs[0].task
    fields = {
        name: {row[name] for run in runs for row in run.rows.values() if row.get(name) is not None}
        for name in task.slices
    }
    found = {
        (name, value): [
            compare(*(run.only(**{name: value}) for run in pair)) for pair in pairs(runs, baseline)
        ]
        for name, values in fields.items()
        for value in in_order(values)
    }
    done = iter(corrected([gap for gaps in found.values() for gap in gaps]))
    return {key: [next(done) for _ in gaps] for key, gaps in found.items()}


def in_order(values: Iterable[Any]) -> list[Any]:
    """The values of a slice as they are shown: numbers by size, then texts by letter."""
    return sorted(values, key=lambda value: (isinstance(value, str), value))


def pairs(runs: list[Run], baseline: str | None) -> list[tuple[Run, Run]]:
    """The runs to compare, the one before first."""
    same_scorer(runs)
    base = [run for run in runs if run.model == baseline]
    if baseline is not None and not base:
        raise InputError(f"no scores of '{baseline}'", field="baseline")
    if base:
        return [(base[0], run) for run in runs if run is not base[0]]
    return list(combinations(runs, 2))


def same_scorer(runs: list[Run]) -> None:
    """Refuse what does not compare: scores by different scorers, or of different tasks."""
    named = {
        "of different tasks": [run.task.name for run in runs],
        "by different judges": [run.scorer for run in runs],
    }
    for what, names in named.items():
        if len(set(names)) > 1:
            each = "; ".join(f"{run.model}: {n}" for run, n in zip(runs, names, strict=True))
            raise InputError(
                f"scores {what} do not compare ({each})",
                fix="Score all with one judge, or choose one with --scorer_name.",
            )


def corrected(gaps: list[dict]) -> list[dict]:
    """Comparisons with ``p_holm``, Holm's correction over those that are covered, and ``verdict``:
    better, worse, tied, ``too few to compare`` or ``no common rows``."""
    tested = [gap for gap in gaps if gap["covered"]]
    for gap, p in zip(tested, stats.holm([gap["p"] for gap in tested]), strict=True):
        gap["p_holm"] = p
    return [gap | {"verdict": verdict(gap)} for gap in gaps]


def verdict(gap: dict) -> str:
    """What may be said of a comparison (see the module's first lines)."""
    if not gap["n_pairs"]:
        return "no common rows"
    if not gap["covered"]:
        return "too few to compare"
    low, high = gap["interval"] or (0, 0)
    if low <= 0 <= high or gap["p_holm"] >= LEVEL:
        return "tied"
    return "better" if gap["difference"] * gap["sign"] > 0 else "worse"


def compare(before: Run, after: Run) -> dict:
    """One model against another (after − before), paired by row id.

    Returns:
        ``baseline, model``; ``means``, of both over the common rows; ``difference, interval``
        (over clusters)``, n_pairs, n_rows`` (questions asked of either)``, covered`` (scored for
        both: more than half)``, sign`` (of a difference for the better)``, better, worse, same``
        (pairs)``, test, p, p_holm``; ``items``, a line a cluster: ``{item, before, after,
        difference, n}``, best gain first; ``terms``, the same for the answers that use a term;
        ``cautions``: what else differs between the two.
    """
    scale = before.task.scale
    scored = [
        {key: value for key, value in run.values().items() if value is not None}
        for run in (before, after)
    ]
    asked = {**after.rows, **before.rows}
    clusters = {key: cluster(row) for key, row in asked.items()}
    common = [key for key in scored[0] if key in scored[1]]
    gap = stats.paired_difference(scored[0], scored[1], clusters, scale=(scale.low, scale.high))
    steps = [scored[1][key] - scored[0][key] for key in common]
    better, worse = (sum(step * sign > 0 for step in steps) for sign in (scale.sign, -scale.sign))
    test, p = paired_test(scale, steps, [clusters[key] for key in common])
    return {
        "baseline": before.model,
        "model": after.model,
        "means": [_mean(values, common) if common else None for values in scored],
        **{name: gap[name] for name in ("difference", "interval", "n_pairs")},
        "n_rows": len(asked),
        "covered": len(common) * 2 > len(asked),
        "sign": scale.sign,
        "better": better,
        "worse": worse,
        "same": len(common) - better - worse,
        "test": test,
        "p": p,
        "p_holm": None,
        "items": _changes(common, scored, clusters, scale.sign),
        "terms": _term_changes(common, before, after),
        "cautions": cautions(before, after),
    }


def paired_test(scale: Scale, steps: list[float], clusters: list[str]) -> tuple[str, float | None]:
    """The name of the scale's paired test, and its two-sided p (None without pairs).

    Args:
        steps: after − before, a pair each.
        clusters: of the pairs. McNemar's test counts pairs as independent: where they share
            clusters, rates too are tested by the clusters' means.
    """
    apart = len(set(clusters)) == len(clusters)
    if scale.kind == "rate" and apart:
        counts = (sum(step > 0 for step in steps), sum(step < 0 for step in steps))
        return "exact McNemar test", stats.mcnemar(*counts) if steps else None
    name = "Wilcoxon signed-rank test" + ("" if apart else " over clusters' means")
    return name, stats.signed_rank(steps, clusters) if steps else None


def _mean(values: dict[str, float], keys: list[str]) -> float:
    return sum(values[key] for key in keys) / len(keys)


def _changes(
    common: list[str], scored: list[dict[str, float]], clusters: dict[str, str], sign: int
) -> list[dict]:
    """What became of each cluster, best gain first."""
    groups: dict[str, list[str]] = defaultdict(list)
    for key in common:
        groups[clusters[key]].append(key)
    items = []
    for item, keys in groups.items():
        old, new = (_mean(values, keys) for values in scored)
        items.append(
            {"item": item, "before": old, "after": new, "difference": new - old, "n": len(keys)}
        )
    return sorted(items, key=lambda row: (-sign * row["difference"], row["item"]))


def _term_changes(common: list[str], before: Run, after: Run) -> list[dict]:
    """In how many answers each term stands, most gained first."""
    old, new = (terms_used(run.rows[key] for key in common) for run in (before, after))
    terms = [
        {"item": term, "before": old[term], "after": new[term], "difference": new[term] - old[term]}
        for term in old | new
    ]
    return sorted(terms, key=lambda row: (-row["difference"], row["item"]))


SETTINGS = {
    "prompts": "the prompts",
    "n": "judgements an answer",
    "terms": "the term list",
    "judge_model": "the judge's files",
    "full_list": "full_list",
    "base_url": "base_url",
}
"""Settings of a scorer → how they are named where two runs differ in them."""


def cautions(before: Run, after: Run) -> list[str]:
    """What makes two runs of one scorer less alike than its name says."""
    found = []
    settings = [run.record.get("settings", {}) for run in (before, after)]
    for key, name in SETTINGS.items():
        old, new = (each.get(key) for each in settings)
        if all(key in each for each in settings) and old != new:
            found.append(f"scored with another setting of {name} ({old}, {new})")
    old, new = (
        {row["judge_version"] for row in run.rows.values() if row.get("judge_version")}
        for run in (before, after)
    )
    if old and new and old != new:
        found.append(f"judge versions differ ({', '.join(sorted(old))}; {', '.join(sorted(new))})")
    return found
