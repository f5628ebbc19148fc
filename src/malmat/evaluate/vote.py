"""Several models' answers to items with choices → one more column, by vote."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from malmat.errors import InputError
from malmat.evaluate.results import read_answers
from malmat.evaluate.task import SHARE, Row


@dataclass(frozen=True)
class Voter:
    """A model that votes.

    Args:
        rows: id → its answer.
        weight: of its vote; one of weight 0 has none.
    """

    model: str
    path: Path
    rows: dict[str, Row]
    weight: float = 1.0


def hard(voters: Sequence[Voter], row_id: str) -> list[float]:
    """The weight of the votes for each choice."""
    choices = voters[0].rows[row_id]["choices"]
    picked = [(voter.rows[row_id]["answer"], voter.weight) for voter in voters]
    return [sum(weight for answer, weight in picked if answer == choice) for choice in choices]


def soft(voters: Sequence[Voter], row_id: str) -> list[float]:
    """The weighted sum of each choice's probabilities, of the voters that give any."""
    choices = voters[0].rows[row_id]["choices"]
    given = [(voter.rows[row_id].get("probabilities"), voter.weight) for voter in voters]
    return [sum(w * p[place] for p, w in given if p is not None) for place in range(len(choices))]


METHODS: dict[str, Callable[[Sequence[Voter], str], list[float]]] = {"hard": hard, "soft": soft}
"""Method → function: the voters that answered a row, its id → points of each choice."""

OF_ONE_MODEL = (
    *("finish_reason", "output_tokens", "error", "probabilities", "log_probabilities"),
    *("likelihoods", "picks", "mass", "margin", "entropy", "scored"),
)
"""What a row says of one model's answer, and a vote does not keep."""


def vote(voters: Sequence[Voter], method: str) -> list[Row]:
    """The rows of the vote, in the order of the first voter's.

    The choice with most points is the answer. Among several, the one with the highest summed
    probability, then the one that stands first (``tied``). A row that failed in some models is
    voted on by the rest (``missing`` counts them), one that failed in all has the first one's
    status.

    Args:
        voters: as from ``read_voters``.
        method: one of ``METHODS``.

    Returns:
        The items with ``answer, status, probabilities`` (the mean of those given; without any
        there is no such field), ``votes`` (model → answer), ``missing`` and ``tied``.
    """
    voters = [voter for voter in voters if voter.weight]
    rows = []
    for row_id, first in voters[0].rows.items():
        item = {name: value for name, value in first.items() if name not in OF_ONE_MODEL}
        answered = [voter for voter in voters if voter.rows[row_id]["status"] == "ok"]
        item["missing"] = len(voters) - len(answered)
        if not answered:
            rows.append({**item, "answer": "", "tied": False, "votes": {}})
            continue
        points = [round(p, 9) for p in METHODS[method](answered, row_id)]
        summed = [round(p, 9) for p in soft(answered, row_id)]
        best = max(range(len(points)), key=lambda place: (points[place], summed[place], -place))
        item |= {
            "answer": item["choices"][best],
            "status": "ok",
            "tied": points.count(points[best]) > 1,
            "votes": {voter.model: voter.rows[row_id]["answer"] for voter in answered},
        }
        if total := sum(summed):
            item["probabilities"] = [p / total for p in summed]
        rows.append(item)
    return rows


def read_voters(
    paths: Mapping[str, Path], method: str, weights: Sequence[float] | None = None
) -> list[Voter]:
    """The answer files of several models, which must hold the same items.

    Args:
        paths: model → file of its answers.
        method: ``soft`` needs the probabilities of every answer that is ok.
        weights: a weight a model; None weighs all alike.

    Raises:
        InputError: other ids than the first file's, an id that stands twice, other choices, an
            answer that is none of them, or weights that do not fit the models.
    """
    weights = [1.0] * len(paths) if weights is None else weights
    if len(weights) != len(paths) or not any(weights):
        problem = f"expected {len(paths)} weights, one a model and not all 0"
        raise InputError(problem, field="weights")
    voters = []
    for (model, path), weight in zip(paths.items(), weights, strict=True):
        rows: dict[str, Row] = {}
        for row in read_answers(path):
            fault = "stands in it twice" if row["id"] in rows else _fault(row, method)
            if fault:
                raise InputError(f"the row {row['id']} {fault}", path=path)
            rows[row["id"]] = row
        voters.append(Voter(model, path, rows, weight))
        _same_items(voters[0], voters[-1])
    return voters


def _fault(row: Row, method: str) -> str | None:
    """What makes a row none that can be voted on."""
    choices, chances = row.get("choices"), row.get("probabilities")
    if not isinstance(choices, list) or not choices:
        return "has no choices to vote on"
    if row["status"] != "ok":
        return None
    if row["answer"] not in choices:
        return "has an answer that is none of its choices"
    if chances is None:
        return "has no probabilities, which a soft vote adds up" if method == "soft" else None
    whole = isinstance(chances, list) and len(chances) == len(choices)
    if whole and all(SHARE.holds(chance) for chance in chances):
        return None
    return "has no probability from 0 to 1 for each of its choices"


def _same_items(first: Voter, other: Voter) -> None:
    for row_id in dict.fromkeys([*other.rows, *first.rows]):
        if row_id not in first.rows:
            problem = "is not in"
        elif row_id not in other.rows:
            problem = "is missing; it is in"
        elif other.rows[row_id]["choices"] != first.rows[row_id]["choices"]:
            problem = "has other choices than in"
        else:
            continue
        fix = "Let all models answer the same questions."
        raise InputError(f"the row {row_id} {problem} {first.path}", path=other.path, fix=fix)
