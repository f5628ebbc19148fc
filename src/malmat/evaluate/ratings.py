"""Ratings given by hand: read, and set against one another and against the judges' scores."""

from __future__ import annotations

from collections import defaultdict
from itertools import combinations
from pathlib import Path

from malmat.errors import InputError
from malmat.evaluate import agreement, compare, stats
from malmat.files import check_fields, digest, read_rows
from malmat.text.korean import normalize


def read_ratings(path: Path, task: str) -> list[dict]:
    """A rater's ratings, the last of each answer; a rating is None where it was skipped,
    or where there is a ``status``: of an answer that was drawn, but had failed."""
    kind, allowed = (bool, (True, False)) if task == "usage" else (int, range(1, 6))
    kept = {}
    for line, row in read_rows(path):
        check_fields(
            row, dict.fromkeys(("key", "id", "model", "answer", "rater"), str), path=path, line=line
        )
        rating = row.setdefault("rating", None)
        # By type first: True is 1 in Python.
        if rating is not None and (type(rating) is not kind or rating not in allowed):
            raise InputError("not a rating", path=path, line=line, field="rating")
        kept[row["key"]] = row
    return list(kept.values())


def place_of(record: dict) -> tuple:
    """What a rating, an answer and a judge's score are joined by."""
    return record["model"], record["id"], record["answer"]


def read_scores(results_dir: str | Path, task: str) -> dict[str, dict[tuple, float | None]]:
    """Judge → (model, id, the answer's digest) → score, None where it failed."""
    judges: dict[str, dict[tuple, float | None]] = defaultdict(dict)
    for result in compare.read_folder(results_dir, task):
        for row in result["results"]:
            answer = digest(normalize(row.get("answer") or ""))
            place = (result["answered_by"], row["id"], answer)
            judges[result["scorer_name"]][place] = row[compare.TASKS[task]["field"]]
    return judges


def summarize(task: str, ratings: list[dict], judges: dict[str, dict[tuple, float | None]]) -> dict:
    """What the ratings say.

    Args:
        ratings: records of all raters, one an answer and rater.
        judges: as from ``read_scores``.

    Returns:
        ``raters`` (how much each rated and skipped), ``models`` (each one's mean over its
        answers of the raters' mean; ``n_total`` counts the answers that somebody was shown,
        and those that had failed when they were drawn),
        ``alpha`` (Krippendorff's), ``pairs`` (weighted kappa of two raters on the answers
        that both rated) and ``judges`` (agreement with the raters' mean or majority).
    """
    answers: dict[str, dict] = {}  # of each answer: what is known of it, and rater → rating
    for record in ratings:
        answer = answers.setdefault(
            record["key"],
            {"place": place_of(record), "cluster": record.get("title") or record["id"], "by": {}},
        )
        if record["rating"] is not None:
            answer["by"][record["rater"]] = record["rating"]
    for answer in answers.values():
        given = answer["by"].values()
        answer["mean"] = sum(given) / len(given) if given else None
    models = {model for model, _, _ in (answer["place"] for answer in answers.values())}
    raters = sorted({record["rater"] for record in ratings})
    return {
        "task": task,
        "raters": {
            rater: {
                "n_rated": sum(r["rater"] == rater and r["rating"] is not None for r in ratings),
                "n_skipped": sum(
                    r["rater"] == rater and r["rating"] is None and "status" not in r
                    for r in ratings
                ),
            }
            for rater in raters
        },
        "models": {
            model: _mean(task, [a for a in answers.values() if a["place"][0] == model])
            for model in sorted(models)
        },
        "alpha": agreement.krippendorff_alpha(
            [[float(value) for value in answer["by"].values()] for answer in answers.values()]
        ),
        "pairs": [_pair(first, second, answers) for first, second in combinations(raters, 2)],
        "judges": {
            judge: found
            for judge, scores in judges.items()
            if (found := _with_judge(task, scores, answers))
        },
    }


def _mean(task: str, answers: list[dict]) -> dict:
    worst, best = (1, 5) if task == "understand" else (0, 1)
    means = [answer["mean"] for answer in answers]
    rate = task == "usage" and set(means) <= {0, 1, None}
    clusters = [answer["cluster"] for answer in answers]
    return stats.summarize(means, worst=worst, best=best, clusters=clusters, rate=rate)


def _pair(first: str, second: str, answers: dict[str, dict]) -> dict:
    both = [answer for answer in answers.values() if {first, second} <= set(answer["by"])]
    kappa = agreement.weighted_kappa(
        [answer["by"][first] for answer in both],
        [answer["by"][second] for answer in both],
        [answer["cluster"] for answer in both],
    )
    return {"raters": [first, second], "n_common": len(both), **kappa}


def _with_judge(
    task: str, scores: dict[tuple, float | None], answers: dict[str, dict]
) -> dict | None:
    rows = [
        (answer["mean"], scores[answer["place"]], answer["cluster"])
        for answer in answers.values()
        if answer["mean"] is not None and answer["place"] in scores
    ]
    if task == "usage":  # a tie of the raters is no verdict to agree with
        rows = [(mean > 0.5, used, cluster) for mean, used, cluster in rows if mean != 0.5]
    of = agreement.of_scores if task == "understand" else agreement.of_verdicts
    return of(*zip(*rows, strict=True)) if rows else None
