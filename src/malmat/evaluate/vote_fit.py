"""Weights of a vote, fitted on other rows than those that are voted on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from malmat.cli import relative
from malmat.errors import InputError
from malmat.evaluate.results import run_record
from malmat.evaluate.vote import ADD_UP, FITTED, log_chances
from malmat.evaluate.vote_read import Ballots, read_ballots
from malmat.files import digest, file_digest, read_json
from malmat.folds import read_folds

RIDGE = 1.0
"""Of stacking, against weights that grow without bound where a few rows are told apart."""


@dataclass(frozen=True)
class Weigher:
    """Where the weights of a vote come from.

    Args:
        given: (m) by hand; None: equal, or fitted where the method fits them.
        sample: answers of the same models to other rows, with targets, to fit on.
        folds: id → fold of the rows that are voted on: the weights of each fold's votes are
            fitted on the other folds.
        best: only the so many models that are right most often in what is fitted on vote.
        path: the folds' file, for the record.
    """

    given: np.ndarray | None = None
    sample: Ballots | None = None
    folds: Mapping[str, int] | None = None
    best: int | None = None
    path: str | Path | None = None

    @property
    def fits(self) -> bool:
        """Whether there are rows to fit on."""
        return self.sample is not None or self.folds is not None

    def fitted_on(self, ballots: Ballots) -> dict[str, Any] | None:
        """What the record of a vote says of it: a digest of the rows' ids, and of each file."""
        if not self.fits:
            return None
        rows, paths = self.sample or ballots, self.sample.paths if self.sample else [self.path]
        files = {relative(path): file_digest(path) for path in paths if path}
        return {"rows": len(rows.ids), "ids": digest(sorted(rows.ids)), "files": files}

    def weights(self, ballots: Ballots, method: str) -> np.ndarray:
        """(m, n) The weights of the models' votes.

        Raises:
            InputError: the method's weights are to be fitted, and nothing is there to fit on.
        """
        m, n = ballots.picks.shape
        if method != "stack" and self.given is not None:
            return np.repeat(self.given[:, None], n, 1)
        if not self.fits:
            if method not in FITTED and self.best is None:
                return np.ones((m, n))
            problem = "needs answers to other rows to fit its weights on"
            fix = "Name files of the same models with --fit_on, or --folds."
            raise InputError(f"{method} {problem}", field="method", fix=fix)
        if self.folds is None:
            assert self.sample is not None
            return np.repeat(self._fitted(self.sample, method)[:, None], n, 1)
        own, weights = np.array([self.folds[name] for name in ballots.ids]), np.ones((m, n))
        for fold in np.unique(own):
            others = ballots.at((own != fold).nonzero()[0])
            weights[:, own == fold] = self._fitted(others, method)[:, None]
        return weights

    def _fitted(self, sample: Ballots, method: str) -> np.ndarray:
        """(m) Weights, all 0 but those of the best models."""
        if method in ADD_UP and method in FITTED:
            sample.need_probabilities(method)
        right, answered = right_and_answered(sample)
        shares = (right + 1) / (answered + 2)
        order = np.argsort(-shares, kind="stable")[: self.best]
        few = replace(sample, picks=sample.picks[order], probabilities=sample.probabilities[order])
        own = FITS[method](few) if method in FITTED else np.ones(len(order))
        weights = np.zeros(len(shares))
        weights[order] = own if own.any() else 1.0  # none tells anything: all vote alike
        return weights

    def without(self, place: int) -> Weigher:
        """The same of all models but one."""
        given = None if self.given is None else np.delete(self.given, place)
        if given is not None and not given.any():
            given = np.ones_like(given)
        sample = None if self.sample is None else self.sample.without(place)
        return replace(self, given=given, sample=sample)


def right_and_answered(ballots: Ballots) -> tuple[np.ndarray, np.ndarray]:
    """(m), (m) How many items with a target each model got right, and answered."""
    known = ballots.targets >= 0
    answered = (ballots.picks >= 0) & known
    return ((ballots.picks == ballots.targets) & answered).sum(1), answered.sum(1)


def log_odds(sample: Ballots) -> np.ndarray:
    """(m) The best weights of independent votes: log((k - 1) p / (1 - p)), and none below 0.

    Nitzan & Paroush (1982), *Optimal decision rules in uncertain dichotomous choice situations*,
    International Economic Review 23:289, for k choices. p is a model's share of right answers,
    by Laplace's rule (one more right, one more wrong); k is the mean number of choices.
    """
    right, answered = right_and_answered(sample)
    share = (right + 1) / (answered + 2)
    return np.maximum(np.log((sample.sizes.mean() - 1) * share / (1 - share)), 0)


def conditional_logit(sample: Ballots) -> np.ndarray:
    """(m) Non-negative weights of the models' log-probabilities under which the right choices are
    likeliest, with a ridge penalty.

    McFadden (1974), *Conditional logit analysis of qualitative choice behavior*: logistic
    regression over the choices of each item, without an intercept, as no place is preferred.
    """
    from scipy.optimize import minimize

    known = (sample.targets >= 0).nonzero()[0]
    chances, targets = log_chances(sample)[:, known], sample.targets[known]
    closed = np.where(sample.mask[known], 0.0, -np.inf)
    rows = np.arange(len(known))
    right = chances[:, rows, targets]

    def loss(weights: np.ndarray) -> tuple[float, np.ndarray]:
        scores = np.tensordot(weights, chances, 1) + closed
        top = scores.max(1, keepdims=True)
        shares = np.exp(scores - top)
        total = shares.sum(1, keepdims=True)
        shares /= total
        lost = (np.log(total) + top)[:, 0] - scores[rows, targets]
        slope = np.einsum("mnc,nc->m", chances, shares) - right.sum(1)
        return lost.sum() + RIDGE / 2 * weights @ weights, slope + RIDGE * weights

    start = np.full(len(chances), 1 / len(chances))
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None)] * len(start))
    return found.x.round(6)


FITS = {"weighted": log_odds, "stack": conditional_logit}
"""Method → how its weights are fitted."""


def by_hand(weights: Sequence[float] | None, ballots: Ballots, method: str) -> np.ndarray | None:
    """(m) Weights that a user gives.

    Raises:
        InputError: not one a model, all 0, or for stacking, which fits its own.
    """
    if weights is None:
        return None
    if len(weights) != len(ballots.models) or not any(weights):
        problem = f"expected {len(ballots.models)} weights, one a model and not all 0"
        raise InputError(problem, field="weights")
    if method == "stack":
        raise InputError("are fitted by stacking", field="weights", fix="Leave them out.")
    return np.array(weights, float)


BY_RANK = (0.4, 0.2, 0.2, 0.1, 0.1)
"""The weights of the first place of a contest (Generation for NLP, 2024), best model first; it took
the ranks from the public score, that is from the rows that were voted on."""


def by_rank(ballots: Ballots, method: str) -> np.ndarray:
    """(m) ``BY_RANK`` by the models' share of right answers to the rows that are voted on; models
    beyond the fifth have no vote, and equal ones stand in the order of the files.

    Raises:
        InputError: no row has a target, or the method fits its own weights.
    """
    if method in FITTED:
        raise InputError(f"{method} fits its own weights", field="published")
    if not ballots.any_target:
        raise InputError("no row has a target to rank by", path=ballots.paths[0], field="published")
    right, _ = right_and_answered(ballots)
    weights = np.zeros(len(right))
    order = np.argsort(-right, kind="stable")[: len(BY_RANK)]
    weights[order] = BY_RANK[: len(order)]
    return weights


def read_sample(paths: list[Path], ballots: Ballots, *, in_sample: bool) -> Ballots:
    """Answers of the voting models to other rows, to fit their weights on.

    Args:
        paths: in the order of the models.
        in_sample: the rows may be those that are voted on.

    Raises:
        InputError: fewer or more files than models, another model's (by the record beside it), a
            row without a target, or one that is voted on.
    """
    if len(paths) != len(ballots.models):
        problem = f"expected {len(ballots.models)} files, of the models in their order"
        raise InputError(f"{problem}, found {len(paths)}", field="fit_on")
    for model, own, path in zip(ballots.models, ballots.paths, paths, strict=True):
        name, said = _name_of(own) or model, _name_of(path)
        if said not in (None, name, model):
            problem = f"holds the answers of {said}, not of {name}"
            fix = "Name the files in the models' order."
            raise InputError(problem, path=path, field="fit_on", fix=fix)
    sample = read_ballots({f"{place}": path for place, path in enumerate(paths)})
    if unknown := (sample.targets < 0).nonzero()[0].tolist():
        problem = f"the row {sample.ids[unknown[0]]} has no target to fit on"
        raise InputError(problem, path=paths[0], field="fit_on")
    shared = shared_rows(ballots, sample)
    if shared and not in_sample:
        raise InputError(
            f"{len(shared)} of its rows are voted on, as the row {shared[0]}",
            path=paths[0],
            field="fit_on",
            fix="Fit on out-of-fold or dev answers, or --in_sample labels the vote so.",
        )
    return sample


def _name_of(path: Path) -> str | None:
    """The model that the record beside an answer file names."""
    record = run_record(path)
    value = read_json(record) if record.is_file() else {}
    name = value.get("settings", {}).get("name") if isinstance(value, dict) else None
    return str(name) if name else None


def shared_rows(ballots: Ballots, sample: Ballots) -> list[str]:
    """The ids of the rows that are voted on and fitted on: by id, or by their text."""
    ids, texts = set(sample.ids), {_text(row) for row in sample.rows}
    return [str(row["id"]) for row in ballots.rows if str(row["id"]) in ids or _text(row) in texts]


def _text(row: dict) -> tuple[str, ...]:
    """What a row asks, whatever its id."""
    return (row["question"], *sorted(map(str, row.get("options") or row["choices"])))


def folds_of(path: str | Path, ballots: Ballots) -> dict[str, int]:
    """The folds (``folds.read_folds``) of the rows that are voted on.

    Raises:
        InputError: no folds, a row that has none or no target, a cluster in two folds, or all
            rows in one.
    """
    folds = read_folds(path, ballots.ids)
    where: dict[str, int] = {}
    for row, target in zip(ballots.rows, ballots.targets.tolist(), strict=True):
        name = str(row["id"])
        if target < 0:
            problem = f"the row {name} has no target to fit on"
            raise InputError(problem, path=ballots.paths[0], field="target")
        if row.get("title") and where.setdefault(row["title"], folds[name]) != folds[name]:
            problem = f"the rows of '{row['title']}' lie in two folds, as {name}"
            fix = "Make folds by cluster: src/data/folds.py."
            raise InputError(problem, path=path, field="folds", fix=fix)
    return folds
