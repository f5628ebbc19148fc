"""Folds of rows for cross-validation, and the check that training rows hold nothing of the scored.

A cluster (a dialogue, a passage, a term) lies in one fold whole: rows of one cluster are alike,
and a model that saw one of them knows something of the others.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.files import read_json
from malmat.text.duplicates import THRESHOLD, NearDuplicates, squeeze

FEWEST_FOR_WORDING = 10
"""Clusters from which a line that most of them share is known to be wording, and no content."""


def assign(
    rows: Sequence[dict],
    *,
    k: int,
    seed: int,
    by: str,
    balance: str | None = None,
    path: str | Path | None = None,
) -> dict[str, int]:
    """Divide rows into ``k`` folds of like size, no cluster in two of them.

    The folds depend on the rows' ids, clusters and balanced values and on the seed; the rows'
    order does not matter. scikit-learn's StratifiedGroupKFold divides them.

    Args:
        rows: each with a unique ``id`` and the field ``by``.
        by: the field that names a row's cluster.
        balance: a field whose values the folds hold in like shares; None: sizes alone.
        path: the rows' file, for the message.

    Returns:
        id → fold, from 0 to ``k - 1``, in the rows' order. No fold is empty.

    Raises:
        InputError: a row without id or field, an id that stands twice, or fewer clusters than
            folds.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    if k < 2:
        raise InputError(f"expected two folds or more, found {k}", field="k")
    clusters = {row_id: str(row[by]) for row_id, row in _by_id(rows, (by, balance), path).items()}
    if (count := len(set(clusters.values()))) < k:
        problem = f"{count} clusters do not fill {k} folds"
        fix = f"Give --k {count} or less." if count > 1 else "Folds need two clusters or more."
        raise InputError(problem, path=path, field=by, fix=fix)
    ids = sorted(clusters)
    shares = {str(row["id"]): str(row[balance]) if balance else "" for row in rows}
    folds: dict[str, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of values that are rarer than the folds
        splitter = StratifiedGroupKFold(k, shuffle=True, random_state=seed)
        try:
            parts = list(splitter.split(ids, [shares[i] for i in ids], [clusters[i] for i in ids]))
        except ValueError:  # every value is rarer than the folds are many
            parts = list(splitter.split(ids, [""] * len(ids), [clusters[i] for i in ids]))
    for fold, (_, places) in enumerate(parts):
        folds |= {ids[place]: fold for place in places}
    if empty := set(range(k)) - set(folds.values()):
        problem = f"fold {min(empty)} of {k} stays empty"
        raise InputError(problem, path=path, field=by, fix="Give a smaller --k or another --seed.")
    return {str(row["id"]): folds[str(row["id"])] for row in rows}


def _by_id(
    rows: Iterable[dict], fields: Iterable[str | None], path: str | Path | None
) -> dict[str, dict]:
    """The rows by id, each of them with the fields."""
    found: dict[str, dict] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or row.get("id") in (None, ""):
            raise InputError(f"row {number} has no id", path=path, field="id")
        name = str(row["id"])
        if name in found:
            raise InputError(f"the row {name} stands in it twice", path=path, field="id")
        for field in filter(None, fields):
            value = row.get(field)
            if isinstance(value, (dict, list, bool, type(None))) or not str(value).strip():
                fix = f"Its fields are {', '.join(map(str, row))[:100]}."
                raise InputError(f"the row {name} has none", path=path, field=field, fix=fix)
        found[name] = row
    if not found:
        raise InputError("no rows in it", path=path)
    return found


def read_folds(path: str | Path, ids: Iterable[str]) -> dict[str, int]:
    """The folds that ``src/data/folds.py`` stored, of these rows.

    Raises:
        InputError: no folds, a row that has none, or all rows in one.
    """
    value = read_json(path)
    known = value.get("folds", value) if isinstance(value, dict) else None
    if not isinstance(known, dict) or not all(type(fold) is int for fold in known.values()):
        raise InputError("expected an object of ids with their folds", path=path, field="folds")
    folds = {}
    for name in ids:
        if name not in known:
            fix = "Make the folds anew: src/data/folds.py."
            raise InputError(f"the row {name} has no fold", path=path, field="folds", fix=fix)
        folds[name] = known[name]
    if len(set(folds.values())) < 2:
        raise InputError("all rows lie in one fold", path=path, field="folds")
    return folds


# ------------------------------------------------------------------------------- leaks


@dataclass(frozen=True)
class Leak:
    """Two rows that must not stand on two sides.

    Args:
        train, held: the rows' ids.
        what: ``id``, ``cluster`` or ``near-duplicate``.
        similarity: Jaccard's, of their texts' character 3-grams; 1 for an id or a cluster.
    """

    train: str
    held: str
    what: str
    similarity: float = 1.0


def find_leaks(
    train: Sequence[dict], held: Sequence[dict], *, by: str, threshold: float = THRESHOLD
) -> list[Leak]:
    """The training rows that share an id, a cluster or nearly their text with a row to be scored.

    Args:
        train, held: each with ``id`` and ``by``, as ``assign`` takes them.
        threshold: Jaccard similarity from which two texts are near-duplicates.

    Returns:
        One leak a training row, the plainest kind; none where the sides are apart.
    """
    ids = {str(row["id"]) for row in held}
    clusters = {str(row[by]): str(row["id"]) for row in reversed(held)}
    near = _near_to(train, held, by, threshold)
    found = []
    for row in train:
        name, cluster = str(row["id"]), str(row[by])
        if name in ids:
            found.append(Leak(name, name, "id"))
        elif cluster in clusters:
            found.append(Leak(name, clusters[cluster], "cluster"))
        elif name in near:
            found.append(Leak(name, *near[name]))
    return found


def _near_to(
    train: Sequence[dict], held: Sequence[dict], by: str, threshold: float
) -> dict[str, tuple[str, str, float]]:
    """Id of a training row → the held row most like it, the kind of leak, their similarity."""
    texts = dict(_texts([*held, *train], by))
    index, sources, first = NearDuplicates(threshold), [], dict[str, str]()
    for row in held:
        text = texts[id(row)]
        if text and text not in first:
            first[text] = str(row["id"])
            index.add(text)
            sources.append(str(row["id"]))
    known: dict[str, list[tuple[int, float]]] = {}
    found = {}
    for row in train:
        text = texts[id(row)]
        if text not in known:
            known[text] = index.find(text)
        if known[text]:
            number, similarity = known[text][0]
            found[str(row["id"])] = (sources[number], "near-duplicate", similarity)
    return found


def refuse_leaks(
    train: Sequence[dict],
    held: Sequence[dict],
    *,
    by: str,
    threshold: float = THRESHOLD,
    train_path: str | Path | None = None,
    held_path: str | Path | None = None,
) -> None:
    """Stop where training rows hold something of the rows to be scored (``find_leaks``).

    Raises:
        InputError: a row that does not fit, or leaks: their number by kind, and the first one.
    """
    _by_id(train, (by,), train_path)
    _by_id(held, (by,), held_path)
    leaks = find_leaks(train, held, by=by, threshold=threshold)
    if not leaks:
        return
    counts = ", ".join(f"{n} by {what}" for what, n in Counter(one.what for one in leaks).items())
    first = leaks[0]
    raise InputError(
        f"{len(leaks)} rows share something with {held_path or 'the rows to be scored'} "
        f"({counts}), as the row {first.train} with {first.held} "
        f"({first.what}, similarity {first.similarity:.2f})",
        path=train_path,
        field=by,
        fix="Train on rows of other clusters only: folds of src/data/folds.py are apart.",
    )


def unite(rows: Sequence[dict], *, by: str, threshold: float = THRESHOLD) -> dict[str, str]:
    """Clusters whose texts are near-duplicates → the first cluster that each is like.

    Folds by the united clusters leave no near-duplicate on two sides.

    Args:
        rows: as ``assign`` takes them.

    Returns:
        Only the clusters that go under another one's name.
    """
    index, owners = NearDuplicates(threshold), list[str]()
    parents: dict[str, str] = {}

    def root(name: str) -> str:
        while name in parents:
            name = parents[name]
        return name

    texts, seen = dict(_texts(rows, by)), set[tuple[str, str]]()
    for row in rows:
        cluster, text = str(row[by]), texts[id(row)]
        if not text or (cluster, text) in seen:
            continue
        seen.add((cluster, text))
        for number, _ in index.add(text):
            one, other = root(owners[number]), root(cluster)
            if one != other:
                parents[other] = one
        owners.append(cluster)
    return {name: root(name) for name in parents}


def _texts(rows: Sequence[dict], by: str) -> Iterator[tuple[int, str]]:
    """The content of each row by the row's ``id()``: its lines without wording and choices.

    Wording is a line that stands in more than half of the clusters (the question's heading, an
    instruction), which would make all rows of a prompt near-duplicates of each other.
    """
    lines = {id(row): _lines(row) for row in rows}
    clusters: dict[str, set[str]] = {}
    for row in rows:
        clusters.setdefault(str(row[by]), set()).update(lines[id(row)])
    counts = Counter(line for found in clusters.values() for line in found)
    enough = len(clusters) >= FEWEST_FOR_WORDING
    for row in rows:
        kept = (
            line for line in lines[id(row)] if not (enough and 2 * counts[line] > len(clusters))
        )
        yield id(row), "\n".join(kept)


def _lines(row: dict[str, Any]) -> list[str]:
    """The lines of a row's passage or, where it has none, of what a user is shown to say in it,
    without its choices."""
    if isinstance(row.get("passage"), str):
        text = row["passage"]
    elif isinstance(row.get("messages"), list):
        turns = (turn for turn in row["messages"] if turn.get("role") == "user")
        text = "\n".join(str(turn.get("content") or "") for turn in turns)
    else:
        text = str(row.get("question") or "")
    options = [squeeze(str(o)) for name in ("choices", "options") for o in row.get(name) or ()]
    long = [option for option in options if len(option) > 3]
    plain = ((line, squeeze(line)) for line in text.splitlines())
    return [line for line, bare in plain if bare and not any(option in bare for option in long)]
