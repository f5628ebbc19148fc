"""A second reading: rows that a model is unsure of are answered by another one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from malmat.errors import InputError
from malmat.evaluate import stats
from malmat.evaluate.task import Row, cluster

NEVER, ALWAYS = -math.inf, math.inf


@dataclass(frozen=True)
class Rule:
    """Which rows go to the second model: those whose margin is below ``margin``.

    Args:
        n: rows that it was fitted on.
        right: of these, how many are right by the first model alone, by the second alone, and by
            the rule.
        sent: of these, how many go to the second.
    """

    margin: float
    n: int
    right: tuple[int, int, int]
    sent: int


def margin_of(row: Row) -> float:
    """How far the two most probable choices are apart; below all margins where there is no answer.

    Raises:
        InputError: an answer without probabilities.
    """
    if row["status"] != "ok":
        return NEVER
    if not row.get("probabilities"):
        fix = "Let a local model choose."
        raise InputError(f"the row {row['id']} has no probabilities", field="first", fix=fix)
    best, other = sorted(row["probabilities"], reverse=True)[:2]
    return best - other


def fitted_rule(first: Sequence[Row], second: Mapping[str, Row]) -> Rule:
    """The margin below which the second model's answers make most rows right.

    Among equals it is the one that sends the fewest rows. A row that the second model did not
    answer keeps the first one's answer.

    Args:
        first: rows with targets; second: id → the second model's row.
    """
    rows = sorted(first, key=margin_of)
    own = [is_right(row) for row in rows]
    other = [is_right(chosen(row, second[row["id"]])) for row in rows]
    best = total = sum(own)
    sent = 0
    for place, (mine, its) in enumerate(zip(own, other, strict=True), 1):
        total += its - mine
        # Rows of one margin go together.
        last = place == len(rows) or margin_of(rows[place]) > margin_of(rows[place - 1])
        if last and total > best:
            best, sent = total, place
    margin = NEVER if not sent else margin_of(rows[sent]) if sent < len(rows) else ALWAYS
    return Rule(margin, len(rows), (sum(own), sum(other), best), sent)


def unsure(rows: Sequence[Row], margin: float) -> list[Row]:
    """The rows that go to the second model."""
    return [row for row in rows if margin_of(row) < margin]


def chosen(first: Row, second: Row | None) -> Row:
    """The second model's answer in the first one's row, or the first where there is none."""
    if second is None or second["status"] != "ok":
        return first
    names = ("answer", "status", "probabilities", "log_probabilities", "margin", "mass", "entropy")
    kept = {name: value for name, value in first.items() if name not in names}
    taken = {name: second[name] for name in names if name in second}
    return {**kept, **taken, "first_answer": first["answer"]}


def read_twice(first: Sequence[Row], second: Mapping[str, Row], margin: float) -> list[Row]:
    """The rows with the second model's answers to those below the margin; ``readings`` is 1 or 2.

    Raises:
        InputError: a row below the margin that the second model was not given.
    """
    below = {row["id"] for row in unsure(first, margin)}
    if missing := sorted(below - second.keys()):
        problem = f"{len(missing)} rows below the margin are missing, as {missing[0]}"
        raise InputError(problem, field="second", fix="Let it answer the rows of --ask.")
    return [
        {**chosen(row, second[row["id"]]), "readings": 2}
        if row["id"] in below
        else {**row, "readings": 1}
        for row in first
    ]


def is_right(row: Row) -> bool:
    return row["status"] == "ok" and row["answer"] == row["target"]


def gain(before: Sequence[Row], after: Sequence[Row]) -> dict[str, Any]:
    """What the second reading brought, on the rows with a target: ``difference`` with its clustered
    ``interval``, ``gained``, ``lost``, ``p`` (McNemar's) and ``n``."""
    known = [(a, b) for a, b in zip(before, after, strict=True) if a.get("target") is not None]
    sides = [{row["id"]: float(is_right(row)) for row in side} for side in zip(*known, strict=True)]
    if not sides:
        return {"n": 0}
    clusters = {row["id"]: cluster(row) for row, _ in known}
    gap = stats.paired_difference(sides[0], sides[1], clusters, scale=(0.0, 1.0))
    gained = sum(sides[1][one] > sides[0][one] for one in sides[0])
    lost = sum(sides[1][one] < sides[0][one] for one in sides[0])
    figures = {name: gap[name] for name in ("difference", "interval")}
    p = stats.mcnemar(gained, lost)
    return {**figures, "gained": gained, "lost": lost, "p": p, "n": len(known)}
