"""Packs the rows of a cluster (the questions of a dialogue) into sequences for training.

A sequence is what its rows begin with, once, followed by the rest of each row, its branch. A branch
sees the beginning and itself (``cluster_batches``), so that loss and gradients are those of the
rows apart, while the beginning is computed once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from malmat.errors import InputError
from malmat.lm.branches import WORTH
from malmat.lm.chat import IGNORE
from malmat.lm.read import common
from malmat.train.checks import plan
from malmat.train.examples import Examples
from malmat.train.labels import labelled_from
from malmat.train.settings import TrainSettings


@dataclass(frozen=True)
class Packed:
    """What a run goes through in place of rows.

    Args:
        train: ``{input_ids, labels, seq_lengths}``: the tokens of the common beginning and those
            of each branch, and how many each of these parts has.
        held: the held-out rows alike.
        shape: (sequences a device, accumulation steps).
        steps: optimizer steps of the whole run.
        rows: how many ``train`` holds.
    """

    train: list[dict]
    held: list[dict] | None
    shape: tuple[int, int]
    steps: int
    rows: int

    @property
    def rows_each(self) -> float:
        """Rows of a sequence, on average."""
        return self.rows / len(self.train)

    def worst(self) -> dict[str, int]:
        """``worst_tokens`` and ``worst_labelled`` of the largest batch (``checks.check``)."""
        labels = [[label != IGNORE for label in one["labels"]] for one in self.train]
        size = self.shape[0]
        return {
            "worst_tokens": sum(sorted(map(len, labels))[-size:]),
            "worst_labelled": sum(sorted(map(sum, labels))[-size:]),
        }


def sequences(rows: Sequence[dict], clusters: Sequence[str | None], most: int) -> list[dict]:
    """Encoded rows (``{input_ids, labels}``), packed by cluster; each stands in one sequence.

    Args:
        clusters: of each row; None: the row stands alone.
        most: tokens that a sequence may have. A cluster with more is split, and each of its
            sequences reads the beginning.
    """
    groups: dict[str | int, list[dict]] = {}
    for number, (row, cluster) in enumerate(zip(rows, clusters, strict=True)):
        groups.setdefault(number if cluster is None else cluster, []).append(row)
    return [_sequence(part) for group in groups.values() for part in _split(group, most)]


def _shared(rows: list[dict]) -> int:
    """Tokens that all rows begin with, the one before the first label left out: a branch holds
    every token that a label is predicted from."""
    before = min(labelled_from(row) for row in rows) - 1
    shared = min(common([row["input_ids"] for row in rows]), before)
    return shared if len(rows) > 1 and shared >= WORTH else 0


def _split(rows: list[dict], most: int) -> list[list[dict]]:
    """A cluster's rows in runs of at most so many tokens, or each alone if they share nothing."""
    shared = _shared(rows)
    if not shared:
        return [[row] for row in rows]
    parts: list[list[dict]] = []
    length = most
    for row in rows:
        own = len(row["input_ids"]) - shared
        if length + own > most:
            parts.append([])
            length = shared
        parts[-1].append(row)
        length += own
    return parts


def _sequence(rows: list[dict]) -> dict:
    shared = _shared(rows)
    ids, labels = list(rows[0]["input_ids"][:shared]), [IGNORE] * shared
    for row in rows:
        ids += row["input_ids"][shared:]
        labels += row["labels"][shared:]
    lengths = [shared, *(len(row["input_ids"]) - shared for row in rows)]
    return {"input_ids": ids, "labels": labels, "seq_lengths": lengths}


def apart(sequence: dict) -> list[dict]:
    """The rows that a sequence was packed from."""
    shared, *own = sequence["seq_lengths"]
    rows, start = [], shared
    for size in own:
        end = start + size
        rows.append(
            {
                name: sequence[name][:shared] + sequence[name][start:end]
                for name in ("input_ids", "labels")
            }
        )
        start = end
    return rows


def pack(settings: TrainSettings, train: Examples, held: Examples | None, processes: int) -> Packed:
    """A run's rows packed by their ``cluster``, and the batches that they make.

    A step has about as many rows as one of rows apart: the effective batch, divided by the rows
    that a sequence has on average.

    Raises:
        InputError: no row names a cluster.
    """
    most = settings.max_seq_length
    if not any(row.get("cluster") for row in train.kept):
        raise InputError(
            "no row has a 'cluster'",
            path=settings.data_path,
            field="pack_by",
            fix="Give the rows of one dialogue the same 'cluster', or leave --pack_by out.",
        )

    def packed_from(examples: Examples) -> list[dict]:
        return sequences(examples.encoded, [row.get("cluster") for row in examples.kept], most)

    packed = packed_from(train)
    shape = _shape(settings, packed, len(train.encoded), processes)
    steps = plan(
        len(packed),
        batch_size=shape[0],
        gradient_accumulation_steps=shape[1],
        num_epochs=settings.num_epochs,
        max_steps=settings.max_steps,
        world_size=processes,
    )["steps"]
    return Packed(packed, packed_from(held) if held else None, shape, steps, len(train.encoded))


def _shape(
    settings: TrainSettings, packed: list[dict], rows: int, processes: int
) -> tuple[int, int]:
    """(sequences a device, accumulation steps): about as many rows a step and at once as asked for,
    and no more tokens at once than ``batch_size`` rows of the greatest length have."""
    each = rows / len(packed)
    effective = settings.batch_size * settings.gradient_accumulation_steps
    share = max(1, round(effective / each / processes))
    most = max(1, round(settings.batch_size / each))
    size = max(n for n in range(1, most + 1) if share % n == 0)
    return size, share // size
