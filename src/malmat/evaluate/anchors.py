"""Anchors: answers whose right verdict is known, and how far a scorer reaches it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.evaluate.agreement import agreement, text_of
from malmat.evaluate.results import Run
from malmat.evaluate.task import Row, Task, cluster
from malmat.files import check_fields, read_rows, row_id
from malmat.text.korean import normalize

LABELS = {
    "exact": "exact agreement",
    "error": "mean error",
    "absolute_error": "mean absolute error",
    "precision": "precision",
    "recall": "recall",
}

SECOND = "second"
"""The field of an anchor with the verdict of a second reader, who did not see the first."""


def read_anchors(
    path: str | Path, tasks: Mapping[str, Task], terms: list[dict], terms_path: str | Path
) -> list[Row]:
    """The anchors as answers that a scorer can be given, with ``target``, the verdict to reach.

    Raises:
        InputError: a line that is no anchor of one of the tasks, one that stands twice, or a term
            that is not in the list.
    """
    meanings = {term["title"]: term["content"] for term in terms}
    anchors: dict[str, Row] = {}
    for line, row in read_rows(path, as_typed=True):  # ids are of what is written
        check_fields(row, {"task": str}, path=path, line=line)
        if row["task"] not in tasks:
            problem = f"'{row['task']}' is none of {', '.join(tasks)}"
            raise InputError(problem, path=path, line=line, field="task")
        task = tasks[row["task"]]
        fields = {"question": str, "answer": str, "probe": str, task.anchor: object}
        if task.judge is not None and task.judge.needs_meaning:
            fields["title"] = str
        check_fields(row, fields, path=path, line=line)
        target, title = row[task.anchor], row.get("title")
        for name in (task.anchor, SECOND):
            if name in row and not task.scale.is_label(row[name]):
                problem = f"{row[name]!r} is not on the scale of {task.name}"
                raise InputError(problem, path=path, line=line, field=name)
        if title and title not in meanings:
            problem = f"the term '{title}' is not in {terms_path}"
            raise InputError(problem, path=path, line=line, field="title")
        anchor = {
            "id": row_id("anchor", task.name, title, row["question"], row["answer"]),
            **{name: row[name] for name in ("task", "question", "probe")},
            "answer": normalize(row["answer"]),  # as answers are read
            "title": title,
            "content": meanings.get(title),
            "target": target,
            SECOND: row.get(SECOND),
            "status": "ok",
        }
        if anchor["id"] in anchors:
            raise InputError("the same anchor stands in it twice", path=path, line=line)
        anchors[anchor["id"]] = anchor
    return list(anchors.values())


def reached(run: Run) -> dict:
    """How far the verdicts of a run over anchors agree with the right ones.

    Returns:
        What ``agreement`` gives, of all anchors and, in ``probes``, of each probe; where the
        scale is of grades also ``score_of_grade``: the mean verdict on the anchors of each; and
        ``second``: how far a second reader's verdicts agree, the bound of what can be reached.
    """
    probes = sorted({row["probe"] for row in run.rows.values()})
    figures = {**_agreement(run), "probes": {name: _agreement(run, probe=name) for name in probes}}
    if run.task.scale.kind == "grade":
        figures["score_of_grade"] = {
            f"{grade:g}": run.summary(target=grade) for grade in run.task.scale.ticks
        }
    if any(row.get(SECOND) is not None for row in run.rows.values()):
        figures[SECOND] = _agreed(run, {row["id"]: row[SECOND] for row in run.rows.values()})
    return figures


def _agreement(run: Run, **wanted: Any) -> dict:
    return _agreed(run, run.values(**wanted), **wanted)


def _agreed(run: Run, verdicts: Mapping[str, Any], **wanted: Any) -> dict:
    """The agreement of verdicts by id, None where there is none, with the right ones."""
    rows = run.where(**wanted)
    return agreement(
        run.task.scale,
        {row["id"]: row["target"] for row in rows},
        verdicts,
        {row["id"]: cluster(row) for row in rows},
    )


def tables(run: Run, figures: dict) -> list[list[tuple[str, ...]]]:
    """What ``reached`` found as cells for people: of all anchors, then a line a probe."""

    def cells(part: dict) -> list[str]:
        return [text_of(part[name], sign="+" if name == "error" else "") for name in columns]

    columns = [name for name in LABELS if name in figures]
    labels = [LABELS[name] for name in columns]
    kappa = "Cohen's kappa" if run.task.scale.kind == "rate" else "quadratic weighted kappa"
    lines: list[tuple[str, ...]] = [(kappa, text_of(figures, "kappa"))]
    lines += zip(labels, cells(figures), strict=True)
    for grade, part in figures.get("score_of_grade", {}).items():
        lines.append((f"mean score of grade {grade}", text_of(part)))
    probes: list[tuple[str, ...]] = [("probe", "scored", *labels)]
    for probe, part in figures["probes"].items():
        probes.append((probe, f"{part['n_scored']}/{part['n_total']}", *cells(part)))
    return [lines, probes]
