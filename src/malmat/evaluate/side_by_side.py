"""Rows of several models beside each other: the answers to a question, the means of a term."""

from __future__ import annotations

from collections import Counter

from malmat.answer.replies import parse_object
from malmat.evaluate.compare import terms_used
from malmat.evaluate.results import Run
from malmat.evaluate.task import Row, Scale


def side_by_side(runs: list[Run]) -> list[dict]:
    """A question with the answer of every model, joined by id.

    Where the question has choices, ``choices`` are ``{text, right, models: [{model, picked,
    probability}]}``; else it is empty, and each answer stands as text.
    """
    questions: dict[str, dict] = {}
    for run in runs:
        for row in run.rows.values():
            entry = questions.setdefault(
                row["id"],
                {
                    "title": row.get("title"),
                    "passage": row.get("passage"),
                    "question": row["question"],
                    "choices": choices(row),
                    "answers": [],
                },
            )
            for place, choice in enumerate(entry["choices"]):
                choice["models"].append(pick(run.model, row, place))
            entry["answers"].append(
                {
                    "model": run.model,
                    "text": row.get("answer") or "",
                    "status": row["status"],
                    "score": score_text(row, run.task.scale),
                    "judge": judge_text(row, run.task.scale),
                }
            )
    return list(questions.values())


def choices(row: Row) -> list[dict]:
    """A row's choices, as they were put into words: a label stands with its option."""
    target, labels = row.get("target"), row.get("choices") or []
    right = target if isinstance(target, list) else [target]
    options = row.get("options") or []
    texts = labels
    if len(options) == len(labels):
        texts = [f"{label}. {text}" for label, text in zip(labels, options, strict=True)]
    pairs = zip(labels, texts, strict=True)
    return [{"text": text, "right": label in right, "models": []} for label, text in pairs]


def pick(model: str, row: Row, place: int) -> dict:
    """What a model made of one choice; ``probability`` None where it gave none."""
    given = row.get("probabilities") or []
    whole = len(given) == len(row.get("choices") or [])
    return {
        "model": model,
        "picked": row["status"] == "ok" and row.get("answer") == row["choices"][place],
        "probability": given[place] if whole else None,
    }


def score_text(row: Row, scale: Scale) -> str | None:
    if row["status"] != "ok":
        return None
    if row.get("terms"):
        return ", ".join(row["terms"])
    if scale.kind != "rate":
        return f"{row['value']:.3g}"
    yes, no = ("right", "wrong") if row.get("target") is not None else ("yes", "no")
    return yes if row["value"] else no


def judge_text(row: Row, scale: Scale) -> list[str]:
    """What the judge said, a line a judgement: its reason where it gave one, else its reply."""
    lines = []
    for reply in row.get("judge_replies") or []:
        try:
            reason = parse_object(reply, "reason")["reason"]
        except ValueError:
            reason = None
        lines.append(str(reason or reply))
    grades = row.get("judge_probabilities")
    if grades is None and not row.get("choices"):  # as older files name them
        grades = row.get("probabilities")
    if grades:
        chances = enumerate(grades, round(scale.low))
        lines.append("  ".join(f"{score}: {chance:.0%}" for score, chance in chances))
    return lines + ([row["judge_error"]] if row.get("judge_error") else [])


def per_term(runs: list[Run]) -> list[dict]:
    """``[{term, cells: [{value, share, note}]}]``, a cell a model.

    The answers that each term stands in, where the scorer names terms; else the mean of the rows
    about each title (``value`` None where none was scored; ``note`` then names the status).
    ``share`` places the value between the ends of what is possible or found.
    """
    used = [terms_used(run.rows.values()) for run in runs]
    if total := sum(used, Counter()):
        most = max(max(count.values(), default=0) for count in used)
        return [
            {
                "term": term,
                "cells": [
                    {"value": n[term], "share": n[term] / most, "note": str(n[term])} for n in used
                ],
            }
            for term in sorted(total, key=lambda term: (-total[term], term))
        ]
    tables: list[dict[str, list[Row]]] = []
    for run in runs:
        rows: dict[str, list[Row]] = {}
        for row in run.rows.values():
            if row.get("title"):
                rows.setdefault(row["title"], []).append(row)
        tables.append(rows)
    titles = sorted(set().union(*tables))
    table = [(title, [term_cell(rows.get(title, [])) for rows in tables]) for title in titles]
    scale = runs[0].task.scale
    most = max((c["value"] or 0 for _, cells in table for c in cells), default=0)
    high = scale.high if scale.high is not None else max(most, scale.low + 1e-9)
    for _, cells in table:
        for cell in cells:
            cell["share"] = ((cell["value"] or scale.low) - scale.low) / (high - scale.low)
    return [{"term": title, "cells": cells} for title, cells in table]


def term_cell(rows: list[Row]) -> dict:
    values = [row["value"] for row in rows if row["value"] is not None]
    if not values:
        return {"value": None, "note": rows[0]["status"] if rows else "not asked"}
    mean = sum(values) / len(values)
    some = f" ({len(values)}/{len(rows)})" if len(values) < len(rows) else ""
    return {"value": mean, "note": f"{mean:.3g}{some}"}
