"""Answer files of several models to the same items, joined by id into arrays to vote with."""

from __future__ import annotations

import gc
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from malmat.errors import InputError
from malmat.evaluate.results import read_answers
from malmat.evaluate.task import SHARE, Row, cluster
from malmat.files import kind_of, read_text
from malmat.formats import STATUSES
from malmat.parse import json_value
from malmat.text.korean import normalize

OF_ONE_MODEL = (
    *("finish_reason", "output_tokens", "error", "probabilities", "log_probabilities"),
    *("likelihoods", "picks", "mass", "margin", "entropy", "scored", "thoughts"),
)
"""What a row says of one model's answer, and a vote does not keep."""


@dataclass(frozen=True)
class Ballots:
    """What m models answer to n items with up to c choices each.

    Args:
        rows: (n) the items, as the first file has them.
        sizes: (n) choices of each item.
        picks: (m, n) place of the choice that a model picked; -1 where it gave no answer.
        probabilities: (m, n, c) of the choices; nan where a model gave none.
        targets: (n) place of the right choice; -1 where it is not known.
        failed: (m) place of an item → the status of an answer that is not ok.
        reordered: the models whose files hold the items in another order.
    """

    models: list[str]
    paths: list[Path]
    rows: list[Row]
    sizes: np.ndarray
    picks: np.ndarray
    probabilities: np.ndarray
    targets: np.ndarray
    failed: list[dict[int, str]]
    reordered: list[str]

    @property
    def ids(self) -> list[str]:
        return [str(row["id"]) for row in self.rows]

    @property
    def any_target(self) -> bool:
        """Whether it is known of any item what is right."""
        return bool((self.targets >= 0).any())

    @property
    def clusters(self) -> list[str]:
        """What each item is about (``task.cluster``)."""
        return [cluster(row) for row in self.rows]

    @property
    def mask(self) -> np.ndarray:
        """(n, c) whether an item has so many choices."""
        return np.arange(self.probabilities.shape[2]) < self.sizes[:, None]

    def at(self, places: Sequence[int] | np.ndarray) -> Ballots:
        """The ballots of some of the items, without what is known of failures."""
        return replace(
            self,
            rows=[self.rows[place] for place in places],
            sizes=self.sizes[places],
            picks=self.picks[:, places],
            probabilities=self.probabilities[:, places],
            targets=self.targets[places],
            failed=[{} for _ in self.models],
        )

    def without(self, place: int) -> Ballots:
        """The ballots of all models but one."""
        others = [other for other in range(len(self.models)) if other != place]
        return replace(
            self,
            models=[self.models[other] for other in others],
            paths=[self.paths[other] for other in others],
            picks=self.picks[others],
            probabilities=self.probabilities[others],
            failed=[self.failed[other] for other in others],
        )

    @property
    def without_probabilities(self) -> tuple[int, int] | None:
        """Place of a model, and of an item that it answered without probabilities, if any."""
        missing = (self.picks >= 0) & np.isnan(self.probabilities[:, :, 0])
        return tuple(np.argwhere(missing)[0].tolist()) if missing.any() else None

    def need_probabilities(self, method: str) -> None:
        """
        Raises:
            InputError: an answer without probabilities, which the method adds up.
        """
        if found := self.without_probabilities:
            model, place = found
            problem = f"the row {self.rows[place]['id']} has no probabilities"
            fix = f"A {method} vote adds them up: let a local model answer, or vote --method hard."
            raise InputError(problem, path=self.paths[model], fix=fix)


def read_ballots(paths: Mapping[str, Path]) -> Ballots:
    """Read the answer files of models and join them by id.

    The items may stand in another order in each file, and may have different numbers of choices.

    Args:
        paths: model → file of its answers.

    Raises:
        InputError: an id that the first file does not have or that is missing, one that stands
            twice, other choices, the same in another order or another target than in the first
            file, an answer that is none of the choices, or probabilities that are none.
    """
    path, *others = paths.values()
    collects = gc.isenabled()
    gc.disable()  # rows hold no cycles, and the collector would walk through millions of them
    try:
        first = _Column(path, _rows(path))
        columns = [first, *(_joined(other, first) for other in others)]
    finally:
        if collects:
            gc.enable()
    c = max(len(choices) for choices in first.choices)
    sizes = np.array([len(choices) for choices in first.choices])
    mask = np.arange(c) < sizes[:, None]
    probabilities = np.full((len(columns), len(sizes), c), np.nan)
    for column, room in zip(columns, probabilities, strict=True):
        room[mask] = column.probabilities
    for row in first.rows:
        for name in OF_ONE_MODEL:
            row.pop(name, None)
    return Ballots(
        list(paths),
        list(paths.values()),
        first.rows,
        sizes,
        np.stack([column.picks for column in columns]),
        probabilities,
        np.array(first.targets),
        [column.failed for column in columns],
        [name for name, column in zip(paths, columns, strict=True) if column.reordered],
    )


def _joined(path: Path, first: _Column) -> _Column:
    """The answers of a further file. One that does not fit as it stands is read with care, which
    mends other spellings of a text or says what is wrong."""
    rows = _written(path, checked=False)
    if rows is not None:
        try:
            return _Column(path, rows, first)
        except InputError:
            pass
    return _Column(path, read_answers(path), first)


class _Column:
    """One file's answers in the order of the first file's items.

    Attributes:
        picks: (n); probabilities: (all choices of all items), nan where there are none.
    """

    def __init__(self, path: Path, rows: list[Row], first: _Column | None = None):
        self.path, self.failed, self.reordered = path, dict[int, str](), False
        places = {str(row["id"]): place for place, row in enumerate(rows)}
        if len(places) < len(rows):
            # The place of an id is that of its last row.
            twice = next(str(r["id"]) for n, r in enumerate(rows) if places[str(r["id"])] != n)
            raise InputError(f"the row {twice} stands in it twice", path=path)
        if first is None:
            self.places, self.rows = places, rows
        else:
            self._check_ids(places, first)
            self.reordered = list(places) != list(first.places)
            rows = [rows[places[name]] for name in first.places]
        picks, chances = [], list[float]()
        for place, row in enumerate(rows):
            if fault := _fault(row):
                raise InputError(f"the row {row['id']} {fault}", path=path)
            choices = row["choices"]
            if first is not None:
                self._check_item(row, first, place)
            if row["status"] == "ok":
                picks.append(choices.index(row["answer"]))
                chances += row.get("probabilities") or [np.nan] * len(choices)
            else:
                self.failed[place] = row["status"]
                picks.append(-1)
                chances += [np.nan] * len(choices)
        self.picks, self.probabilities = np.array(picks), np.array(chances, float)
        if first is None:
            self.choices = [row["choices"] for row in rows]
            self.targets = [_place_of(row.get("target"), row["choices"]) for row in rows]

    def _check_ids(self, places: dict[str, int], first: _Column) -> None:
        if places.keys() == first.places.keys():
            return
        foreign = [name for name in places if name not in first.places]
        missing = [name for name in first.places if name not in places]
        problem = "is not in" if foreign else "is missing; it is in"
        names = foreign or missing
        more = f" (and {len(names) - 1} more)" if len(names) > 1 else ""
        raise InputError(
            f"the row {names[0]} {problem} {first.path}{more}", path=self.path, fix=FIX
        )

    def _check_item(self, row: Row, first: _Column, place: int) -> None:
        base = first.rows[place]
        for name in ("choices", "options"):  # where choices are labels, options are their texts
            one, other = row.get(name), base.get(name)
            if one is not None and other is not None and one != other:
                problem = f"has other {name} than in {first.path}"
                if sorted(map(str, one)) == sorted(map(str, other)):
                    problem += ": the same texts in another order"
                raise InputError(f"the row {row['id']} {problem}", path=self.path, fix=FIX)
        one, other = row.get("target"), base.get("target")
        if one is not None and other is not None and one != other:
            problem = f"the row {row['id']} has another target than in {first.path}"
            raise InputError(problem, path=self.path, fix=FIX)


FIX = "Let all models answer the same questions."


def _place_of(target: object, choices: list[str]) -> int:
    return choices.index(target) if isinstance(target, str) and target in choices else -1


ROUNDED = 0.01
"""What is lacking to a sum of 1 where a file's probabilities are rounded."""


def _fault(row: Row) -> str | None:
    """What makes a row none that can be voted on."""
    choices, chances = row.get("choices"), row.get("probabilities")
    if not isinstance(choices, list) or not choices:
        return "has no choices to vote on"
    if row["status"] != "ok":
        return None
    if row["answer"] not in choices:
        return "has an answer that is none of its choices"
    if chances is None:
        return None
    whole = isinstance(chances, list) and len(chances) == len(choices)
    sound = whole and set(map(type, chances)) == {float} and 0 <= min(chances) <= max(chances) <= 1
    # Nearly all rows are so: in half the time of asking each number.
    if not sound and not (whole and all(map(SHARE.holds, chances))):
        return "has no probability from 0 to 1 for each of its choices"
    if abs((total := sum(chances)) - 1) > ROUNDED:  # it would weigh more, or less, than others
        return f"has probabilities that sum to {total:g}"
    return None


# ------------------------------------------------------------------------------ speed


def _rows(path: Path) -> list[Row]:
    """The rows of a file, as ``read_answers`` gives them."""
    rows = _written(path, checked=True)
    return read_answers(path) if rows is None else rows


NEEDED = {"id", "question", "choices", "answer", "status"}


def _written(path: Path, *, checked: bool) -> list[Row] | None:
    """The rows of a file that ``infer.py`` wrote, ten times as fast as ``read_answers``.

    That one mends what people and other programs write. Here nothing is to be mended: None where
    a row has other fields, or its text another form.

    Args:
        checked: look whether all texts are in normal form.
    """
    if kind_of(path) != ".json":
        return None
    text = read_text(path)
    if re.search(r'\\[^n"]', text) or (checked and not _is_normal(text)):
        return None
    try:
        rows = json_value(path, text)
    except InputError:
        return None
    if not isinstance(rows, list) or not rows:
        return None
    for row in rows:
        if not isinstance(row, dict) or not row.keys() >= NEEDED or row["status"] not in STATUSES:
            return None
        answer, choices = row["answer"], row["choices"]
        if not isinstance(choices, list) or (row["status"] == "ok" and answer not in choices):
            return None
        if not isinstance(answer, str) or not isinstance(row["question"], str):
            return None
    return rows


def _is_normal(text: str) -> bool:
    """Whether ``normalize`` leaves a text as it is, without the time that a long one takes it."""
    return unicodedata.is_normalized("NFC", text) and all(normalize(c) == c for c in set(text))
