"""What a vote is worth: each model and each vote beside the best single model.

Every figure is over the rows that have a target. The best single model is the one that is right
most often on these same rows, which flatters it: a vote that is tied with it may well be better.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from malmat.evaluate import stats
from malmat.evaluate.compare import corrected
from malmat.evaluate.tables import chance
from malmat.evaluate.vote import ADD_UP, FITTED, METHODS, Tally, vote
from malmat.evaluate.vote_fit import Weigher
from malmat.evaluate.vote_read import Ballots


@dataclass(frozen=True)
class Table:
    """
    Args:
        entries: a line a model, a vote and the oracle: ``name, kind`` (model, vote, oracle)``,
            summary`` (``stats.summarize``) and, but for the best model and the oracle, what
            ``compared`` says of it.
        best: the best single model.
        leave_one_out: method → by how much each model's absence lowers the vote's share of right
            answers.
        disagreement: (m, m) share of the rows on which two models pick differently, of those that
            both answered; nan where there are none.
        tallies: method → the vote.
    """

    entries: list[dict[str, Any]]
    best: str
    leave_one_out: dict[str, list[float]]
    disagreement: np.ndarray
    tallies: dict[str, Tally]

    def as_json(self) -> dict[str, Any]:
        shares = [[None if s != s else s for s in line] for line in self.disagreement.tolist()]
        figures = {"entries": self.entries, "best": self.best, "leave_one_out": self.leave_one_out}
        return {**figures, "disagreement": shares}


def votes_that_can_be(ballots: Ballots, weigher: Weigher) -> list[str]:
    """The methods that these answers and weights allow."""
    sides = [ballots] if weigher.sample is None else [ballots, weigher.sample]
    whole = all(side.without_probabilities is None for side in sides)
    return [
        method
        for method in METHODS
        if (whole or method not in ADD_UP) and (weigher.fits or method not in FITTED)
    ]


def table(ballots: Ballots, weigher: Weigher) -> Table:
    """Compare models and votes on the rows that have a target, at least one."""
    known = ballots.at((ballots.targets >= 0).nonzero()[0])
    methods = votes_that_can_be(known, weigher)
    tallies = {method: vote(known, method, weigher.weights(known, method)) for method in methods}
    pairs = zip(known.models, known.picks, strict=True)
    columns = [(name, "model", picks) for name, picks in pairs]
    columns += [(f"vote: {method}", "vote", tally.picks) for method, tally in tallies.items()]
    right = {name: known.targets == picks for name, _, picks in columns}
    answered = {name: picks >= 0 for name, _, picks in columns}
    clusters = known.clusters
    best = max(known.models, key=lambda name: (right[name] & answered[name]).mean())
    entries = []
    for name, kind, _ in columns:
        values = [float(r) if a else None for r, a in zip(right[name], answered[name], strict=True)]
        entries.append({"name": name, "kind": kind, "summary": _summary(values, clusters)})
    any_right = np.stack([right[name] for name in known.models]).any(0)
    oracle = _summary(any_right.astype(float).tolist(), clusters)
    gaps = [
        {"name": name, **compared(right, answered, best, name, clusters)}
        for name, _, _ in columns
        if name != best
    ]
    verdicts = {gap["name"]: gap for gap in corrected(gaps)}
    entries = [{**entry, **verdicts.get(entry["name"], {})} for entry in entries]
    entries.append({"name": "any model right", "kind": "oracle", "summary": oracle})
    losses = {method: losses_without(known, weigher, method, tallies[method]) for method in methods}
    return Table(entries, best, losses, disagreement(known), tallies)


def _summary(values: list[float | None], clusters: list[str]) -> dict:
    return stats.summarize(values, low=0.0, high=1.0, clusters=clusters, rate=True)


def compared(
    right: dict[str, np.ndarray],
    answered: dict[str, np.ndarray],
    before: str,
    after: str,
    clusters: list[str],
) -> dict[str, Any]:
    """One column against another, on the rows that both answered.

    Returns:
        ``difference`` (after − before)``, interval`` (clustered)``, n_pairs, gained, lost, p``
        (McNemar's), and what ``compare.corrected`` needs.
    """
    both = (answered[before] & answered[after]).nonzero()[0].tolist()
    sides = [{str(n): float(right[name][n]) for n in both} for name in (before, after)]
    about = {str(n): clusters[n] for n in both}
    gap = stats.paired_difference(sides[0], sides[1], about, scale=(0.0, 1.0))
    gained = int((right[after] & ~right[before])[both].sum())
    lost = int((right[before] & ~right[after])[both].sum())
    return {
        **{name: gap[name] for name in ("difference", "interval", "n_pairs")},
        "gained": gained,
        "lost": lost,
        "p": stats.mcnemar(gained, lost),
        "p_holm": None,
        "covered": len(both) * 2 > len(clusters),
        "sign": 1,
    }


def losses_without(ballots: Ballots, weigher: Weigher, method: str, whole: Tally) -> list[float]:
    """By how much the vote's share of right answers falls without each of the models.

    Weights are fitted anew. A row that nobody else answered counts as wrong.
    """
    right = (whole.picks == ballots.targets).mean()
    found = []
    for place in range(len(ballots.models)):
        rest, own = ballots.without(place), weigher.without(place)
        picks = vote(rest, method, own.weights(rest, method)).picks
        found.append(float(right - (picks == ballots.targets).mean()))
    return found


def disagreement(ballots: Ballots) -> np.ndarray:
    """(m, m) as in ``Table``."""
    m = len(ballots.models)
    found = np.zeros((m, m))
    for one in range(m):
        for other in range(one):
            both = (ballots.picks[one] >= 0) & (ballots.picks[other] >= 0)
            apart = (ballots.picks[one] != ballots.picks[other])[both]
            found[one, other] = found[other, one] = apart.mean() if both.any() else np.nan
    return found


# ------------------------------------------------------------------------------- text


def tables_of(found: Table, models: list[str]) -> list[list[tuple[str, ...]]]:
    """The three tables as lines of cells, the head first."""
    return [lines_of(found), loss_lines(found, models), disagreement_lines(found, models)]


def lines_of(found: Table) -> list[tuple[str, ...]]:
    """The table's lines of cells: its head, then each model, each vote and the oracle."""
    head = ("", "right", "95 %", "scored", f"against {found.best}", "95 %", "McNemar p", "Holm", "")
    lines: list[tuple[str, ...]] = [head]
    for entry in found.entries:
        summary = entry["summary"]
        cells = [entry["name"], *_mean(summary), f"{summary['n_scored']}/{summary['n_total']}"]
        if "verdict" in entry:
            cells += [_signed(entry["difference"]), _interval(entry["interval"], "+.3f")]
            cells += [chance(entry["p"]), chance(entry["p_holm"]), entry["verdict"]]
        else:
            cells += [*[""] * 4, "the best single model" if entry["name"] == found.best else ""]
        lines.append(tuple(cells))
    return lines


def sentences(found: Table) -> list[str]:
    """What the table says of each vote, in words."""
    told = []
    for entry in found.entries:
        if entry["kind"] == "vote":
            verdict = entry.get("verdict")
            relation = {"better": "better than", "worse": "worse than", "tied": "tied with"}
            said = f"{relation.get(str(verdict), f'{verdict}:')} the best single model"
            told.append(f"{entry['name']}: {said} ({found.best})")
    return told


def loss_lines(found: Table, models: Iterable[str]) -> list[tuple[str, ...]]:
    """Leave-one-out losses, a line a model and a column a method."""
    methods = list(found.leave_one_out)
    rows = zip(*found.leave_one_out.values(), strict=True)
    cells = [(m, *map(_signed, row)) for m, row in zip(models, rows, strict=True)]
    return [("a vote without it loses", *methods), *cells]


def disagreement_lines(found: Table, models: list[str]) -> list[tuple[str, ...]]:
    """Pairwise disagreement, each pair once."""
    lines: list[tuple[str, ...]] = [("disagree on", *models[:-1])]
    for place, model in enumerate(models[1:], 1):
        shares = (f"{share:.3f}" for share in found.disagreement[place, :place])
        lines.append((model, *shares, *[""] * (len(models) - 1 - place)))
    return lines


def _mean(summary: dict) -> tuple[str, str]:
    mean = summary["mean"]
    return "–" if mean is None else f"{mean:.3f}", _interval(summary["interval"], ".3f")


def _interval(ends: list[float] | None, form: str) -> str:
    return "" if ends is None else f"[{ends[0]:{form}}, {ends[1]:{form}}]"


def _signed(value: float | None) -> str:
    return "" if value is None else f"{value + 0.0:+.3f}"
