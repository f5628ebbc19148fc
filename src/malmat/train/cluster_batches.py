"""Batches of packed clusters: positions and attention by which a branch sees the common beginning
and itself, and the check that a model takes them. Imports torch: import it inside functions.

A mask over a whole sequence would do the same; attention over all pairs of tokens, most of which
do not see each other, took a quarter of a step (Gemma 3 270M, sequences of 850 tokens, CPU).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from malmat.train.clusters import apart
from malmat.train.trainers import LabelledPositions, can_pack

ATTENTION = "malmat_clusters"
"""The name of ``cluster_attention`` among transformers' implementations."""

EXACT, ROUNDED = 1e-3, 5e-2
"""Differences of logits, relative to their spread, that may come from rounding: in float32, and in
half precision or on quantized weights."""


@dataclass
class Clusters(LabelledPositions):
    """Lays sequences of ``clusters.sequences`` end to end, with the positions of their branches."""

    def torch_call(self, examples: list[dict]) -> dict[str, Any]:
        """Add ``position_ids``, which go on from the beginning in each branch, ``seq_lengths``,
        which ``cluster_attention`` takes, and an empty mask."""
        plain = [{name: row[name] for name in ("input_ids", "labels")} for row in examples]
        lengths = [row["seq_lengths"] for row in examples]
        positions = torch.cat(
            [
                torch.arange(start, start + size)
                for shared, *own in lengths
                for start, size in ((0, shared), *((shared, size) for size in own))
            ]
        )
        batch = super().torch_call(plain)
        # A mask of four dimensions is passed on as it is; without one, transformers would make one
        # of all pairs of the batch's tokens.
        mask = torch.ones((1, 1, 1, 1), dtype=torch.bool)
        own = {"position_ids": positions[None], "attention_mask": mask, "seq_lengths": lengths}
        return batch | own


def cluster_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    sliding_window: int | None = None,
    seq_lengths: list[list[int]] | None = None,
    **options: Any,
) -> tuple[torch.Tensor, None]:
    """Attention of packed clusters; without ``seq_lengths`` that of PyTorch as it is.

    Args:
        query, key, value: (1, heads, tokens, size), the sequences end to end.
        attention_mask: passed over; what a token sees is said by ``seq_lengths``.
        sliding_window: positions that a token sees, itself included; None: all before it.
        seq_lengths: of each sequence the tokens of its common beginning and of its branches.

    Returns:
        (1, tokens, heads, size), and no weights.
    """
    if seq_lengths is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    found, start = [], 0
    for shared, *own in seq_lengths:
        beginning, end = slice(start, start + shared), start + shared
        spans = [beginning] if shared else []
        for size in own:
            spans.append(slice(end, end + size))
            end += size
        start = end
        for span in spans:
            seen = [key[:, :, span], value[:, :, span]]
            if shared and span != beginning:
                before = (key[:, :, beginning], value[:, :, beginning])
                seen = [torch.cat(pair, 2) for pair in zip(before, seen, strict=True)]
            queries = query[:, :, span]
            mask = _mask(queries.shape[2], seen[0].shape[2], sliding_window, query.device)
            found.append(sdpa_attention_forward(module, queries, *seen, mask, **options)[0])
    return torch.cat(found, 1), None


def _mask(queries: int, keys: int, window: int | None, device: Any) -> torch.Tensor | None:
    """What the last ``queries`` of ``keys`` positions see; None: all before them and themselves,
    which needs no mask."""
    if queries == keys and (window is None or keys <= window):
        return None
    back = torch.arange(keys - queries, keys, device=device)[:, None] - torch.arange(
        keys, device=device
    )
    seen = back >= 0
    return (seen if window is None else seen & (back < window))[None, None]


def prepare(model: Any, sequence: dict | None, pad: int) -> str | None:
    """Give a model the attention that packed clusters need, if it then reads them as it reads
    their rows apart.

    Args:
        sequence: is read packed and apart; the longest of a run, so that windows slide. None:
            the model cannot be read yet.
        pad: the padding token.

    Returns:
        None, or why it cannot be trained on packed clusters; it is left as it was then.
    """
    attention = getattr(model.config, "_attn_implementation", None)
    if not can_pack(model) or attention != "sdpa":
        return f"its code or its attention ({attention}) tells no branches apart"
    AttentionInterface.register(ATTENTION, cluster_attention)
    AttentionMaskInterface.register(ATTENTION, sdpa_mask)
    model.set_attn_implementation(ATTENTION)
    why = _difference(model, sequence, pad) if sequence else None
    if why:
        model.set_attn_implementation(attention)
    return why


def _difference(model: Any, sequence: dict, pad: int) -> str | None:
    """How a sequence's logits differ from those of its rows; None if only by rounding."""
    training = model.training
    model.eval()
    try:
        batch = Clusters(pad_token_id=pad, padding_free=True)([sequence])
        packed = _logits(model, batch)
        plain = LabelledPositions(pad_token_id=pad, padding_free=True)
        alone = torch.cat([_logits(model, plain([row])) for row in apart(sequence)])
    except torch.OutOfMemoryError:
        raise
    except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    finally:
        model.train(training)
    difference = (packed - alone).norm(dim=-1) / (alone - alone.mean(-1, True)).norm(dim=-1)
    exact = all(weights.dtype == torch.float32 for weights in model.parameters())
    if (worst := difference.max().item()) <= (EXACT if exact else ROUNDED):
        return None
    return f"its logits differ from those of rows apart by {worst:.1%} of their spread"


@torch.no_grad()
def _logits(model: Any, batch: dict) -> torch.Tensor:
    """Logits (labelled, vocabulary) of a batch's labelled tokens, in float32."""
    inputs = {
        name: value.to(model.device) if isinstance(value, torch.Tensor) else value
        for name, value in batch.items()
        if name not in ("labels", "shift_labels")
    }
    return model(**inputs, use_cache=False).logits[0].float()
