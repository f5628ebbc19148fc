"""How the next token of a row is drawn: from the row's own seed, among its likeliest tokens.

Each item draws from its own seed, so its answer is the same at every batch size up to
floating-point noise. Sampling considers the top-k tokens only: sorting the whole of a 262 144-token
vocabulary for ``top_p`` costs more than the model does (measured on 2 CPU cores, batch 32: 0.71 s
a step against 0.25 s).
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Sampling:
    """Decoding settings; the defaults are KoCulture's published ones for local models.

    Args:
        top_k: 1 or more (1 is greedy): candidates are cut to it first.
        until: what ends an answer beside the end of turn. ``line``: the first line break after
            some text, for base models, which were never taught an end of turn.
    """

    max_new_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 20
    min_p: float = 0.0
    repetition_penalty: float = 1.15
    seed: int = 42
    until: Literal["line"] | None = None

    def __post_init__(self) -> None:
        if self.until not in (None, "line"):
            raise ValueError(f"until is {self.until!r}, and may be None or 'line'")

    def as_dict(self) -> dict[str, Any]:
        """The settings, for journal keys: ``until`` only where it is set, so that answers from
        before there was such a setting are found."""
        settings = asdict(self)
        if self.until is None:
            del settings["until"]
        return settings


def item_seed(seed: int, item: str) -> int:
    digest = hashlib.blake2b(f"{seed}\0{item}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def _noise(seeds: torch.Tensor, step: int, tokens: torch.Tensor) -> torch.Tensor:
    """Gumbel noise (rows, tokens) from item, position and token alone, alike on every machine.

    The mixing is SplitMix64's (Steele, Lea, Flood 2014), on whole numbers that wrap around.
    """

    def shifted(x: torch.Tensor, by: int) -> torch.Tensor:  # without the sign
        return (x >> by) & ((1 << (64 - by)) - 1)

    x = seeds[:, None] + ((step * 0x9E3779B97F4A7C15 + 2**63) % 2**64 - 2**63)
    for factor in (tokens * 0x5851F42D4C957F2D, 0):
        x = x + factor
        x = (x ^ shifted(x, 30)) * (0xBF58476D1CE4E5B9 - 2**64)
        x = (x ^ shifted(x, 27)) * (0x94D049BB133111EB - 2**64)
        x = x ^ shifted(x, 31)
    uniform = (shifted(x, 11).double() + 0.5) / 2**53
    return -(-uniform.log()).log()


def choose(
    logits: torch.Tensor,
    seen: torch.Tensor,
    seeds: torch.Tensor,
    step: int,
    sampling: Sampling,
    spared: list[int] | torch.Tensor,
) -> torch.Tensor:
    """The next token of each row. ``logits`` (rows, vocabulary) are changed in place: at 64 rows
    of the embedded model each copy of them takes as long as the search for the best 20.

    Drawn by Gumbel's trick (the largest of log-probability and noise; Maddison et al. 2014) with
    noise that belongs to the token: where rounding moves the logits a little, the choice stays,
    unless two sums are that close. A draw along the sorted probabilities would jump whenever two
    tokens change places.

    Args:
        seen: (rows, any) the row's own tokens, in any order, repeated at will.
        seeds: (rows,) of the items.
        spared: tokens without a penalty for repetition.
    """
    import torch

    if sampling.repetition_penalty != 1.0:
        # CTRL's rule (Keskar et al. 2019) over the item's own tokens.
        # What ends an answer is spared: the prompt's turns end with it, too, and a penalty for
        # it makes a model that has learned to stop run on (50 of 50 answers, measured).
        stopping = logits[:, spared].clone()
        old = logits.gather(1, seen)
        penalty = sampling.repetition_penalty
        logits.scatter_(1, seen, torch.where(old < 0, old * penalty, old / penalty))
        logits[:, spared] = stopping
    values, indices = logits.topk(min(sampling.top_k, logits.shape[1]))
    if sampling.temperature == 0:
        return indices[:, 0]
    scaled = values.double() / sampling.temperature
    probabilities = scaled.softmax(-1)
    before = probabilities.cumsum(-1) - probabilities
    keep = (before < sampling.top_p) & (probabilities >= sampling.min_p * probabilities[:, :1])
    keep[:, 0] = True
    drawn = (scaled + _noise(seeds, step, indices)).where(keep, -torch.inf).argmax(-1, keepdim=True)
    return indices.gather(1, drawn)[:, 0]
