"""Reading prompts: what several begin with is read once, logits only where they are needed."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from transformers.cache_utils import Cache


def last_logits(
    model: Any, ids: torch.Tensor, mask: torch.Tensor, cache: Any = None
) -> torch.Tensor:
    """Logits (rows, vocabulary), in float32, at the last position of each row, and no other: over
    a vocabulary of 262 144 they cost more than the rest of a small model.

    Args:
        ids: (rows, new tokens), padded on the left.
        mask: (rows, cached and new tokens), 0 on padding.
        cache: takes the new tokens in.
    """
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    known = inspect.signature(base.forward).parameters
    return (
        model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :],
            past_key_values=cache,
            use_cache=cache is not None,
            **({"logits_to_keep": 1} if "logits_to_keep" in known else {}),
        )
        .logits[:, -1]
        .float()
    )


def logits_at(model: Any, places: list[tuple[int, int]], **inputs: Any) -> torch.Tensor:
    """Logits (places, vocabulary), in float32, at the (row, column) places of a forward pass.

    The places are picked in front of the output head, so that what a model does with its logits
    (Gemma 2 caps them) is done to these.
    """
    import torch

    rows, columns = torch.tensor(places, device=model.device).reshape(-1, 2).T
    picked = []

    def pick(_: Any, arguments: tuple) -> tuple:
        picked.append(True)
        return (arguments[0][rows, columns][None], *arguments[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(pick)
    try:
        logits = model(**inputs).logits
    finally:
        hook.remove()
    return (logits[0] if picked else logits[rows, columns]).float()


@dataclass(frozen=True)
class Reading:
    """Rows of tokens that a model has read.

    Args:
        cache: their keys and values; a row's tokens stand side by side in it, so that windows
            that slide over columns slide over tokens.
        lengths: (rows,) tokens of each row.
        ends: (rows,) the column after each row's last token.
    """

    cache: Cache
    lengths: torch.Tensor
    ends: torch.Tensor


def joined(parts: list[tuple[Reading, list[int]]], room: int = 0) -> Reading:
    """Rows of several readings as one, their last tokens in the last column (padded on the left).

    Args:
        parts: readings and the rows that are taken of each, repeated at will.
        room: tokens that are about to follow.
    """
    import torch

    from malmat.lm.cache import ROOM, gathered

    lengths = torch.cat([reading.lengths[rows] for reading, rows in parts])
    width = int(lengths.max())
    taken = []
    for reading, rows in parts:
        back = torch.arange(width, device=lengths.device) - width
        columns = (reading.ends[rows][:, None] + back).clamp(min=0)
        taken.append((reading.cache, torch.tensor(rows, device=lengths.device), columns))
    return Reading(gathered(taken, room or ROOM), lengths, torch.full_like(lengths, width))


def extend(
    model: Any,
    parts: list[tuple[Reading, list[int]]],
    tokens: list[list[int]],
    pad: int,
    places: list[tuple[int, int]],
) -> tuple[Reading, torch.Tensor]:
    """Read on: row ``n`` is the n-th of the rows of ``parts``, followed by ``tokens[n]``.

    The new tokens are padded on the right, where no token sees the padding.

    Args:
        parts: as ``joined`` takes them; [] where nothing was read before.
        places: (row, place among its new tokens) where logits are wanted.

    Returns:
        The longer rows, and the logits (places, vocabulary) in float32.
    """
    import torch

    from malmat.lm.cache import new_cache

    device = model.device
    sizes = torch.tensor([len(new) for new in tokens], device=device)
    widest = max(map(len, tokens))
    if parts:
        aligned = joined(parts, widest)
        start, lengths = aligned.cache, aligned.lengths
    else:
        start, lengths = new_cache(model), torch.zeros_like(sizes)
    width = int(lengths.max())
    ids = torch.tensor([[*new, *[pad] * (widest - len(new))] for new in tokens], device=device)
    mask = torch.ones((len(tokens), width + widest), dtype=torch.long, device=device)
    mask[:, :width] = torch.arange(width, device=device) >= width - lengths[:, None]
    logits = logits_at(
        model,
        places,
        input_ids=ids,
        attention_mask=mask,
        position_ids=lengths[:, None] + torch.arange(widest, device=device),
        past_key_values=start,
        use_cache=True,
    )
    return Reading(start, lengths + sizes, width + sizes), logits


def padded(prompts: list[list[int]], pad: int, device: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask (prompts, longest), padded on the left."""
    import torch

    width = max(map(len, prompts))
    gaps = [width - len(prompt) for prompt in prompts]
    ids = [[pad] * gap + prompt for gap, prompt in zip(gaps, prompts, strict=True)]
    mask = [[0] * gap + [1] * (width - gap) for gap in gaps]
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)


def common(rows: list[list[int]]) -> int:
    """How many tokens all rows begin with."""
    first, last = min(rows), max(rows)  # in the order of lists all others stand between them
    return next(
        (place for place, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )


PREFILL_ROWS = {"cpu": 16, "cuda": 64}
"""Prompts read at a time: rows of like length, so that little padding is computed.

A processor gains nothing by more of them. A card does up to some thousand tokens in a pass
(``branches.ENOUGH``), which are 64 questions; what their layers hold is in ``fitting_batch``.
"""


def read_prompts(
    model: Any, prompts: list[list[int]], pad: int
) -> tuple[torch.Tensor, Any, torch.Tensor, torch.Tensor]:
    """Read the prompts; what all of them begin with is read once.

    Returns:
        The logits after each prompt (rows, vocabulary), the cache, and ids and mask of what
        the cache holds (rows, tokens).
    """
    import torch

    from malmat.lm.cache import has_room, new_cache

    start = new_cache(model)
    ids, mask = padded(prompts, pad, model.device)
    if not has_room(start):
        return last_logits(model, ids, mask, start), start, ids, mask
    beginning, shared = [], 0
    if len(prompts) > 1:  # of the shortest, one token has to be left
        shared = min(common(prompts), min(map(len, prompts)) - 1)
    if shared:
        beginning = [extend(model, [], [prompts[0][:shared]], pad, [(0, 0)])[0]]
    parts, logits = [], []
    rows = PREFILL_ROWS.get(model.device.type, PREFILL_ROWS["cpu"])
    for first in range(0, len(prompts), rows):
        rest = [prompt[shared:] for prompt in prompts[first : first + rows]]
        ends = [(row, len(tokens) - 1) for row, tokens in enumerate(rest)]
        above = [(reading, [0] * len(rest)) for reading in beginning]
        reading, found = extend(model, above, rest, pad, ends)
        parts.append((reading, [*range(len(rest))]))
        logits.append(found)
    return torch.cat(logits), joined(parts).cache, ids, mask
