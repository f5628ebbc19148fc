"""Several models' answers to items with choices → one more column, by vote."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from malmat.evaluate.task import Row
from malmat.evaluate.vote_read import Ballots

FLOOR = 1e-9
"""Of a probability, before its logarithm: what a model holds impossible may be right."""


def hard(ballots: Ballots, weights: np.ndarray) -> np.ndarray:
    """(n, c) The weight of the votes for each choice."""
    points = np.zeros(ballots.probabilities.shape[1:])
    for picks, weight in zip(ballots.picks, weights, strict=True):
        rows = (picks >= 0).nonzero()[0]
        points[rows, picks[rows]] += weight[rows]
    return points


def soft(ballots: Ballots, weights: np.ndarray) -> np.ndarray:
    """(n, c) The weighted sum of each choice's probabilities, of the models that give any."""
    summed = np.zeros(ballots.probabilities.shape[1:])
    for chances, weight in zip(ballots.probabilities, weights, strict=True):
        summed += np.nan_to_num(chances) * weight[:, None]
    return summed


def stack(ballots: Ballots, weights: np.ndarray) -> np.ndarray:
    """(n, c) Probabilities of the choices: the softmax of the weighted sum of the models'
    log-probabilities (``log_chances``)."""
    scores = np.where(ballots.mask, 0.0, -np.inf)
    for chances, weight in zip(log_chances(ballots), weights, strict=True):
        scores += chances * weight[:, None]
    shares = np.exp(scores - scores.max(1, keepdims=True))
    return shares / shares.sum(1, keepdims=True)


def log_chances(ballots: Ballots) -> np.ndarray:
    """(m, n, c) Log-probabilities of the choices; 0, alike for all, where a model gave none."""
    return np.nan_to_num(np.log(np.maximum(ballots.probabilities, FLOOR)))


METHODS: dict[str, Callable[[Ballots, np.ndarray], np.ndarray]] = {
    "hard": hard,
    "soft": soft,
    "weighted": hard,
    "stack": stack,
}
"""Method → function: ballots, (m, n) weights → points of each choice. ``weighted`` is a hard vote
with weights that are fitted (``vote_fit``), as those of ``stack`` are."""

FITTED = ("weighted", "stack")
ADD_UP = ("soft", "stack")
"""The methods whose weights come from answers to other rows; those that need probabilities."""


@dataclass(frozen=True)
class Tally:
    """A vote's outcome.

    Args:
        picks: (n) place of the choice; -1 where no model with a weight answered.
        tied: (n) whether several choices had most points; ``by_sum``: of these, whether the
            summed probabilities decided. The first listed file did elsewhere.
        probabilities: (n, c) of the choices; 0 where no model gives any.
        weights: (m, n) of the models' votes.
    """

    picks: np.ndarray
    tied: np.ndarray
    by_sum: np.ndarray
    probabilities: np.ndarray
    weights: np.ndarray


def vote(ballots: Ballots, method: str, weights: np.ndarray | None = None) -> Tally:
    """Count the votes.

    The choice with most points wins. Among several it is the one with the highest summed
    probability, then the one that the first listed of the models picks. An item that failed in
    some models is voted on by the rest.

    Args:
        method: one of ``METHODS``.
        weights: (m) of the models, or (m, n) of each of their votes; None weighs all alike. A
            model of weight 0 has no vote.
    """
    count, n = ballots.picks.shape
    weights = np.ones(count) if weights is None else np.asarray(weights, float)
    weights = np.broadcast_to(weights if weights.ndim == 2 else weights[:, None], (count, n))
    votes = (ballots.picks >= 0) & (weights > 0)
    # Rounded, or sums that are equal on paper would differ by the order of their parts.
    points = np.where(ballots.mask, METHODS[method](ballots, weights).round(9), -np.inf)
    best = np.equal(points, points.max(1, keepdims=True))
    summed = soft(ballots, weights).round(9)
    sums = np.where(best, summed, -np.inf)
    first = np.equal(sums, sums.max(1, keepdims=True))
    picks = np.full(n, -1)
    for own, voted in zip(ballots.picks, votes, strict=True):
        takes = voted & (picks < 0) & first[np.arange(n), own]
        picks[takes] = own[takes]
    answered = np.any(votes, axis=0)
    picks = np.where(answered & (picks < 0), first.argmax(1), picks)
    tied = answered & (best.sum(1) > 1)
    shares = points if method == "stack" else summed
    shares = np.where(ballots.mask & answered[:, None], shares, 0.0)
    total = shares.sum(1, keepdims=True)
    chances = np.divide(shares, total, out=np.zeros_like(shares), where=total > 0)
    return Tally(picks, tied, tied & (first.sum(1) == 1), chances, weights)


def voted_rows(ballots: Ballots, tally: Tally) -> list[Row]:
    """The rows of a vote, in the order of the first file's.

    Returns:
        The items with ``answer, status, probabilities`` (where any were given), ``votes``
        (model → answer), ``missing`` (how many models gave none) and ``tied``. An item that
        failed in all models has the status of the first with a weight.
    """
    voters = np.nonzero(tally.weights.max(axis=1) > 0)[0].tolist()
    picks, chances = ballots.picks[voters].T.tolist(), tally.probabilities.tolist()
    names = [ballots.models[m] for m in voters]
    known = np.any(tally.probabilities > 0, axis=1).tolist()
    rows = []
    for place, (row, best) in enumerate(zip(ballots.rows, tally.picks.tolist(), strict=True)):
        choices, own = row["choices"], picks[place]
        votes = {name: choices[pick] for name, pick in zip(names, own, strict=True) if pick >= 0}
        item = {**row, "missing": len(names) - len(votes), "votes": votes}
        if best < 0:
            failed = (ballots.failed[m].get(place) for m in voters)
            status = next(filter(None, failed), row["status"])
            rows.append({**item, "answer": "", "status": status, "tied": False})
            continue
        item |= {"answer": choices[best], "status": "ok", "tied": bool(tally.tied[place])}
        if known[place]:
            item["probabilities"] = chances[place][: len(choices)]
        rows.append(item)
    return rows
