"""Ratings given by hand: verdicts like any scorer's, and what several raters' come to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any, TypeVar

from malmat.errors import InputError
from malmat.evaluate.agreement import agreement, krippendorff_alpha
from malmat.evaluate.results import Run, join
from malmat.evaluate.task import SHARE, Row, Scale, Task, cluster
from malmat.files import check_fields, read_rows
from malmat.journal import key_of
from malmat.text.korean import normalize

HUMAN = "human:"
"""What a rater's name stands behind in a scorer's name."""

SKIPPED = "refused"
"""The status of an answer on which a rater gives no verdict."""

Place = tuple[str, str]
"""Whose answer to what: model and row id."""

Unit = TypeVar("Unit", bound=Hashable)


def rating_key(task: Task, model: str, row: Row) -> str:
    """The key of a rating: it holds for one answer of one model."""
    return key_of(task=task.name, model=model, id=row["id"], answer=row["answer"])


@dataclass(frozen=True)
class Ratings:
    """A rater's ratings of a task's answers.

    Args:
        records: key → the last rating of that answer. ``rating`` is None where it was skipped, or
            where there is a ``status``: of an answer that was drawn, but had failed.
    """

    task: Task
    rater: str
    records: dict[str, dict]

    def of_models(self, models: Collection[str]) -> Ratings:
        """The ratings of some models' answers."""
        kept = {key: one for key, one in self.records.items() if one["model"] in models}
        return replace(self, records=kept)

    def drawn(self, model: str, answers: Iterable[Row]) -> list[Row]:
        """The answers that were drawn for the rater and still say the same."""
        return [row for row in answers if rating_key(self.task, model, row) in self.records]

    def verdicts(self, model: str, drawn: Iterable[Row]) -> dict[str, dict]:
        """Row id → ``status`` and ``value``."""
        verdicts = {}
        for row in drawn:
            record = self.records[rating_key(self.task, model, row)]
            if record["rating"] is None:
                verdicts[row["id"]] = {"status": record.get("status", SKIPPED), "value": None}
            else:
                verdicts[row["id"]] = {"status": "ok", "value": float(record["rating"])}
        return verdicts

    def rows(self, model: str, answers: Iterable[Row]) -> list[Row]:
        """The drawn answers with their verdicts."""
        drawn = self.drawn(model, answers)
        return join(drawn, self.verdicts(model, drawn))


def read_ratings(path: str | Path, task: Task) -> Ratings:
    """A rater's file; it may be empty.

    Raises:
        InputError: a line that is no rating, or several raters in one file.
    """
    fields = dict.fromkeys(("key", "id", "model", "rater"), str)
    return Ratings(task, *read_records(path, fields, task.scale.is_label))


def read_records(
    path: str | Path, fields: Mapping[str, type], is_rating: Callable[[Any], bool]
) -> tuple[str, dict[str, dict]]:
    """The rater of a file ("" where it is empty), and key → the last line of that key.

    ``rating`` is None where the rater skipped.

    Args:
        fields: that each line has, ``key`` and ``rater`` among them.

    Raises:
        InputError: a line that is no rating, or several raters in one file.
    """
    records: dict[str, dict] = {}
    for line, row in read_rows(path):
        check_fields(row, fields, path=path, line=line)
        rating = row.setdefault("rating", None)
        if rating is not None and not is_rating(rating):
            raise InputError("not a rating", path=path, line=line, field="rating")
        records[row["key"]] = row
    rater = next(iter(records.values()))["rater"] if records else ""
    check_rater(records.values(), rater, path)
    return rater, records


def check_rater(records: Iterable[Mapping], rater: str, path: str | Path) -> None:
    """Refuse a file that holds another's ratings: two names can give one file name."""
    for record in records:
        if (other := record.get("rater")) != rater:
            raise InputError(
                f"holds the ratings of '{other}'",
                path=path,
                field="rater",
                fix="Take another name.",
            )


# ------------------------------------------------------------------------------- summary


def summarize(
    task: Task,
    answers: Mapping[str, list[Row]],
    raters: Sequence[Ratings],
    runs: Iterable[Run],
) -> dict:
    """What the ratings say.

    Args:
        answers: model → its answers as they are now; ratings of others do not count.
        runs: the task's score files.

    Returns:
        ``raters`` (how much each rated and skipped), ``models`` (each one's mean over its
        answers of the raters' mean; ``n_total`` counts the answers that somebody was shown,
        and those that had failed when they were drawn), ``alpha`` (Krippendorff's), ``pairs``
        (agreement of two raters on the answers that both rated) and ``judges`` (agreement with
        the raters' mean or majority).
    """
    columns: dict[str, dict[Place, Row]] = {
        one.rater: {
            (model, row["id"]): row for model in answers for row in one.rows(model, answers[model])
        }
        for one in raters
    }
    together = _together(columns.values())
    values = {rater: _values(column) for rater, column in columns.items()}
    clusters = {place: cluster(row) for place, row in together.items()}
    verdicts = {place: _majority(task.scale, mean) for place, mean in _values(together).items()}
    judges = {
        judge: agreement(task.scale, verdicts, scores, clusters)
        for judge, scores in _scores(runs, together).items()
    }
    return {
        "task": task.name,
        "raters": {rater: _counts(columns[rater].values()) for rater in sorted(columns)},
        "models": {
            model: _mean(task, model, together)
            for model in sorted({model for model, _ in together})
        },
        **between_raters(task.scale, values, clusters),
        "judges": {judge: found for judge, found in judges.items() if found["n_total"]},
    }


def between_raters(
    scale: Scale,
    columns: Mapping[str, Mapping[Unit, float | None]],
    clusters: Mapping[Unit, str],
) -> dict:
    """How far raters agree with one another.

    Args:
        columns: rater → what was rated → the value, None where it was skipped.
        clusters: all that was rated → what it is about.

    Returns:
        ``alpha`` (Krippendorff's, of all) and ``pairs`` (``agreement`` of each two on what both
        rated).
    """
    units = [
        [v for column in columns.values() if (v := column.get(unit)) is not None]
        for unit in clusters
    ]
    return {
        "alpha": krippendorff_alpha(units),
        "pairs": [
            {"raters": [first, second], "n_common": found["n_scored"], **found}
            for first, second in combinations(sorted(columns), 2)
            for found in [agreement(scale, columns[first], columns[second], clusters)]
        ],
    }


def _values(column: Mapping[Place, Row]) -> dict[Place, float | None]:
    return {place: row["value"] for place, row in column.items()}


def _together(columns: Iterable[Mapping[Place, Row]]) -> dict[Place, Row]:
    """The column of the raters' means; an answer that nobody rated keeps its status."""
    shown: dict[Place, list[Row]] = defaultdict(list)
    for column in columns:
        for place, row in column.items():
            shown[place].append(row)
    together = {}
    for place, rows in shown.items():
        given = [row["value"] for row in rows if row["value"] is not None]
        rated = {"status": "ok", "value": sum(given) / len(given)} if given else {}
        together[place] = {**rows[0], **rated}
    return together


def _majority(scale: Scale, mean: float | None) -> float | None:
    """The verdict that the raters' mean stands for; of a rate None where they tie."""
    if mean is None or scale.kind != "rate":
        return mean
    return None if mean == 0.5 else float(mean > 0.5)


def _scores(runs: Iterable[Run], rated: Mapping[Place, Row]) -> dict[str, dict]:
    """Judge → its column, of the answers that were rated as they are."""
    judges: dict[str, dict[Place, float | None]] = defaultdict(dict)
    for run in runs:
        for row in run.rows.values():
            place = (run.answered_by, row["id"])
            same = place in rated and rated[place]["answer"] == normalize(row.get("answer") or "")
            if same and not run.scorer.startswith(HUMAN):
                judges[run.scorer][place] = row["value"]
    return judges


def _counts(rows: Iterable[Row]) -> dict:
    judged = [row["value"] for row in rows if row["stage"] == "judge"]
    rated = sum(value is not None for value in judged)
    return {"n_rated": rated, "n_skipped": len(judged) - rated}


def _mean(task: Task, model: str, together: Mapping[Place, Row]) -> dict:
    rows = {row_id: row for (name, row_id), row in together.items() if name == model}
    if task.scale.kind == "rate" and {row["value"] for row in rows.values()} - {0, 1, None}:
        task = replace(task, scale=SHARE)  # the mean of raters who do not agree
    return Run(task, model, "human", rows).summary()
