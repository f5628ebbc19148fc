"""How far the order of models on one half of the rows tells their order on the other half.

Contests show the score of a public half and decide by a private one. Here the rows whose answers
are known are split many times, and each time the models are compared on both halves.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from malmat.evaluate.vote_read import Ballots

BATCH = 250
"""Splits that are counted at once: what they need in memory is a row of numbers each."""


@dataclass(frozen=True)
class Luck:
    """
    Args:
        public, private: (splits, m) the models' scores on the two halves.
        whole: (m) on all rows.
        p_equal: p of Cochran's Q: the chance of gaps like these among models of equal skill.
    """

    public: np.ndarray
    private: np.ndarray
    whole: np.ndarray
    p_equal: float

    def sent(self, count: int) -> dict[str, float]:
        """What comes of sending the ``count`` models that are best on the public half.

        Returns:
            ``hit``: the share of splits in which the private best is among them; ``lost``: how
            much the best of them is behind the private best, on average, and ``worst``, in one of
            twenty splits; ``hit_by_chance``: of models drawn at random.
        """
        order = np.argsort(-self.public, axis=1, kind="stable")[:, :count]
        best = np.take_along_axis(self.private, order, 1).max(1)
        gaps = self.private.max(1) - best
        ties = np.isclose(self.private, self.private.max(1, keepdims=True)).sum(1)
        models = self.whole.size
        misses = np.ones(len(ties))
        for drawn in range(count):
            misses *= np.clip((models - ties - drawn) / (models - drawn), 0, 1)
        return {
            "hit": float(np.isclose(gaps, 0).mean()),
            "hit_by_chance": float(1 - misses.mean()),
            "lost": float(gaps.mean()),
            "worst": float(np.quantile(gaps, 0.95)),
        }

    def correlation(self) -> tuple[float, float, float]:
        """Spearman's rank correlation of the two halves' orders: its mean, and the ends between
        which it lies in 95 of 100 splits; 0 where all models of a half are equal."""
        from scipy.stats import rankdata

        sides = [rankdata(side, axis=1) for side in (self.public, self.private)]
        sides = [side - side.mean(1, keepdims=True) for side in sides]
        spread = np.sqrt((sides[0] ** 2).sum(1) * (sides[1] ** 2).sum(1))
        product = (sides[0] * sides[1]).sum(1)
        values = np.divide(product, spread, out=np.zeros_like(product), where=spread > 0)
        low, high = np.quantile(values, [0.025, 0.975])
        return float(values.mean()), float(low), float(high)

    def means_something(self) -> bool:
        """Whether the models differ by more than luck, so that an order of theirs can be told."""
        return self.p_equal < 0.05

    def as_json(self) -> dict[str, Any]:
        return {
            "whole": self.whole.tolist(),
            "p_equal": self.p_equal,
            "correlation": self.correlation(),
            "sent": {str(count): self.sent(count) for count in (1, 2) if count <= self.whole.size},
        }


def simulate(
    ballots: Ballots, *, splits: int, public: float, metric: str = "accuracy", seed: int = 42
) -> Luck:
    """Split the rows into two halves many times, and score the models on both.

    Args:
        ballots: whose rows have targets.
        public: share of the rows in the public half.
        metric: ``accuracy``, or ``macro_f1`` over the classes that are a target of some row. An
            item without an answer counts as wrong.
    """
    from statsmodels.stats.contingency_tables import cochrans_q

    n = len(ballots.rows)
    right = ballots.picks == ballots.targets
    size = min(max(round(n * public), 1), n - 1)
    rng = np.random.default_rng(seed)
    columns, score = SCORES[metric](ballots)
    total = columns.sum(0)
    halves: list[list[np.ndarray]] = [[], []]
    for start in range(0, splits, BATCH):
        count = min(BATCH, splits - start)
        chosen = np.argpartition(rng.random((count, n), dtype=np.float32), size - 1, axis=1)
        mask = np.zeros((count, n), np.float32)
        np.put_along_axis(mask, chosen[:, :size], 1, 1)
        sums = mask @ columns
        halves[0].append(score(sums, size))
        halves[1].append(score(total - sums, n - size))
    differ = right[:, right.any(0) & ~right.all(0)]
    p = float(cochrans_q(differ.T.astype(int)).pvalue) if differ.size else 1.0
    public_scores, private_scores = map(np.concatenate, halves)
    return Luck(public_scores, private_scores, score(total[None], n)[0], p)


def _accuracy(ballots: Ballots) -> tuple[np.ndarray, Any]:
    """(n, m) what each row adds, and the scores of (splits, m) sums over so many rows."""
    return (ballots.picks == ballots.targets).T.astype(np.float32), lambda sums, rows: sums / rows


def _macro_f1(ballots: Ballots) -> tuple[np.ndarray, Any]:
    """The same of F1 = 2 tp / (targets + answers), a mean over classes; 0 for one that does not
    occur in a half."""
    classes = np.unique(ballots.targets)
    target = ballots.targets[:, None] == classes  # (n, c)
    picked = ballots.picks[:, :, None] == classes  # (m, n, c)
    parts = [picked & target, picked.astype(int) + target]
    flat = [part.transpose(1, 0, 2).reshape(len(target), -1) for part in parts]
    columns = np.concatenate(flat, 1).astype(np.float32)

    def score(sums: np.ndarray, rows: int) -> np.ndarray:
        hits, seen = np.split(sums, 2, axis=1)
        scores = np.divide(2 * hits, seen, out=np.zeros_like(hits), where=seen > 0)
        return scores.reshape(len(sums), -1, len(classes)).mean(2)

    return columns, score


SCORES = {"accuracy": _accuracy, "macro_f1": _macro_f1}
"""Metric → function that makes of ballots the columns to be summed and the score of their sums."""
