"""The order of training rows: each once an epoch, the same after a cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler
from transformers.trainer_pt_utils import get_length_grouped_indices


class ByEpoch(Sampler):
    """Row numbers in a random order that the seed and the epoch alone determine.

    A run that is cut off and goes on skips what it has read of an epoch, which is right only if
    the order is the one from before. transformers' sampler by length draws from whatever state the
    generator is in, and on several processes the epoch does not reach the sampler under
    Accelerate's skipping one; so it is asked for here.
    """

    def __init__(
        self,
        rows: int,
        seed: int,
        epoch: Callable[[], int],
        *,
        lengths: list[int] | None = None,
        together: int = 1,
    ):
        """Args:
        epoch: the number of the epoch that begins.
        lengths: tokens of each row; with it, rows of like length come together, ``together`` rows
            a step.
        """
        self._rows, self._seed, self._epoch = rows, seed, epoch
        self._lengths, self._together = lengths, together

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self._seed + self._epoch())
        if self._lengths is None:
            return iter(torch.randperm(self._rows, generator=generator).tolist())
        return iter(get_length_grouped_indices(self._lengths, self._together, generator=generator))
