"""Legs and fusions side by side where the right passages are known, by groups of questions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from malmat.cli import show_table
from malmat.evaluate.stats import mean_interval, paired_difference, rate_interval
from malmat.retrieval import metrics
from malmat.retrieval.fuse import DEPTH, Fusion
from malmat.retrieval.index import Index
from malmat.retrieval.leg import Ranking
from malmat.retrieval.morphology import morphemes

ALL = "all"


@dataclass(frozen=True)
class Judged:
    """A question whose right passages or answers are known.

    Args:
        right: ids of documents or chunks; None where they are not known.
        answers: texts that count as its answer; [] where it is answered by no short text.
        group: it is counted in, beside all.
    """

    id: str
    query: str
    right: list[str] | None
    answers: list[str] = field(default_factory=list)
    group: str = ""


Measures = dict[str, Callable[[Judged, list[str], list[str]], float | None]]


def measures(k: int) -> Measures:
    """Name → measure of (question, ids found, texts found); None where there is none."""

    def answered(one: Judged, _: list[str], texts: list[str]) -> float | None:
        return float(metrics.holds_answer(texts[:k], one.answers)) if one.answers else None

    def judged(measure: Callable[..., float], *depth: int):
        return lambda one, ids, _: None if one.right is None else measure(ids, one.right, *depth)

    return {
        **{f"recall@{depth}": judged(metrics.recall, depth) for depth in sorted({1, k, 10})},
        "MRR": judged(metrics.reciprocal_rank),
        "nDCG@10": judged(metrics.ndcg, 10),
        f"answer@{k}": answered,
    }


def systems(names: Sequence[str], alpha: float | None = None) -> dict[str, tuple]:
    """Name → (legs, fusion): each leg alone, and each two or more of them by both fusions.

    Args:
        alpha: of both fusions; None: each leg weighs the same.
    """
    found: dict[str, tuple] = {name: ((name,), Fusion()) for name in names}
    for count in range(2, len(names) + 1):
        for legs in combinations(names, count):
            for fusion in (Fusion("rrf", alpha=alpha), Fusion("points", alpha=alpha)):
                found[f"{' & '.join(legs)}, {fusion.method}"] = (legs, fusion)
    return found


def evaluate(index: Index, questions: Iterable[Judged], k: int, alpha: float | None = None) -> dict:
    """Every system's figures on the questions that have right passages; where those are known of
    none, on the questions that have answers.

    Returns:
        ``k``, ``judged_by`` (the measure that systems are told apart by), ``counts`` (group →
        questions), ``systems``: name → group → measure → ``mean``, ``interval``, ``n``;
        ``fusions``: name → group → measure → what ``versus_best`` gives.
    """
    asked = [one for one in questions if (one.answers if one.right is None else one.right)]
    known_right = any(one.right for one in asked)
    groups = {ALL: asked} | {
        name: [one for one in asked if one.group == name]
        for name in dict.fromkeys(one.group for one in asked if one.group)
    }
    known = systems([leg.name for leg in index.legs], alpha)
    values = {name: dict[str, dict[str, float | None]]() for name in known}
    for one in asked:
        found = {leg.name: leg.search(one.query, DEPTH) for leg in index.legs}
        if not morphemes(one.query):
            found = {name: [] for name in found}
        for name, (legs, fusion) in known.items():
            ranking = fusion.fuse([found[leg] for leg in legs])
            values[name][one.id] = _measured(index, one, ranking, k)
    main = f"recall@{k}" if known_right else f"answer@{k}"
    shares = ("recall@1", main, "MRR") if known_right else (main,)
    return {
        "k": k,
        "judged_by": main,
        "counts": {group: len(some) for group, some in groups.items()},
        "systems": {
            name: {
                group: {measure: _mean(values[name], some, measure) for measure in measures(k)}
                for group, some in groups.items()
            }
            for name in known
        },
        "fusions": {
            name: {
                group: {m: versus_best(values, name, legs, some, m) for m in shares}
                for group, some in groups.items()
            }
            for name, (legs, _) in known.items()
            if len(legs) > 1
        },
    }


def _measured(index: Index, one: Judged, ranking: Ranking, k: int) -> dict[str, float | None]:
    """Measure → its value for one question. A chunk is right by its own id or its document's."""
    chunks = [index.chunk(number) for number, _ in ranking[: max(k, DEPTH)]]
    ids = [chunk.id if chunk.id in (one.right or ()) else chunk.document for chunk in chunks]
    texts = [f"{chunk.title} {chunk.text}" for chunk in chunks[:k]]
    return {name: measure(one, ids, texts) for name, measure in measures(k).items()}


def _mean(values: dict, some: list[Judged], measure: str) -> dict[str, Any]:
    known = [(one, v) for one in some if (v := values[one.id][measure]) is not None]
    if not known:
        return {"mean": None, "interval": None, "n": 0}
    numbers = [value for _, value in known]
    # Questions on one passage are not independent.
    clusters = [_cluster(one) for one, _ in known]
    if set(numbers) <= {0.0, 1.0}:
        low, high = rate_interval(numbers, clusters)
    else:
        low, high = mean_interval(numbers, clusters, (0.0, 1.0))
    return {"mean": sum(numbers) / len(numbers), "interval": [low, high], "n": len(numbers)}


def _cluster(one: Judged) -> str:
    return min(one.right or [one.id])


def versus_best(
    values: dict[str, dict], name: str, legs: Sequence[str], some: list[Judged], measure: str
) -> dict[str, Any]:
    """A fusion against the best of its legs: ``best, difference, interval, below`` (whether all
    of the interval is below 0)."""

    def by_id(system: str) -> dict[str, float]:
        return {one.id: values[system][one.id][measure] for one in some}

    best = max(legs, key=lambda leg: sum(by_id(leg).values()))
    clusters = {one.id: _cluster(one) for one in some}
    found = paired_difference(by_id(best), by_id(name), clusters, scale=(0.0, 1.0))
    interval = found["interval"]
    below = bool(interval and interval[1] < 0)
    return {"best": best, "difference": found["difference"], "interval": interval, "below": below}


def show_systems(report: dict) -> None:
    """Print a table a group, and the fusions that are below their best leg.

    Args:
        report: of ``evaluate``.
    """
    recall = report["judged_by"]
    for group, count in report["counts"].items():
        first = next(iter(report["systems"].values()))[group]
        print(f"\n{group}: {count} questions (95 % interval of {recall})")
        lines = [("", *first, "interval")]
        for name, groups in report["systems"].items():
            cells = [_number(figure["mean"]) for figure in groups[group].values()]
            interval = groups[group][recall]["interval"]
            lines.append((name, *cells, "–".join(map(_number, interval)) if interval else ""))
        show_table(lines)
    below = [
        f"  {name}, {group}: {figure['difference']:.3f} to {figure['best']} "
        f"[{', '.join(map(_number, figure['interval']))}]"
        for name, groups in report["fusions"].items()
        for group, figures in groups.items()
        if (figure := figures[recall])["below"]
    ]
    print(f"\nfusions whose {recall} is below their best leg's by more than the interval:")
    print(*below or ["  none"], sep="\n")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
