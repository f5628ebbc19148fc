"""Whether examples can share a row: shown on the loaded model before the first step."""

from __future__ import annotations

import inspect
import re
from typing import Any

import torch

from malmat.lm.load import sharded

KEEP_APART = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "exaone4", "gpt2"),
    *("gpt_neox", "phi3", "smollm3", "cohere2"),
)
"""Families that keep examples apart, for models that cannot be asked since their weights are split
over processes."""

_WITH_STATE = {"linear_attention", "conv", "hybrid"}
"""Types of layers that carry a state along a row: delta nets, Mamba, short convolutions."""

_ROUNDING = {torch.float32: 1e-4, torch.float16: 2e-2}
"""How far rounding may take logits, by the type of the weights, in their standard deviations
(bfloat16 and quantized weights: 0.1); it takes them about a hundredth of that."""


def why_padded(model: torch.nn.Module) -> str | None:
    """Why examples cannot share a row of this model; None where they can.

    A packed row tells its examples apart by position ids that restart. Code from elsewhere may not
    know of that, and some families do not obey it, such as those whose state runs on through a row
    (Qwen3-Next, Falcon-H1). So two short examples are read, in one row and each alone.
    """
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    name, accepts = type(inner).__name__, inspect.signature(inner.forward).parameters
    if not type(inner).__module__.startswith("transformers.models."):
        return f"the code of {name} is not transformers' own"
    if not {"position_ids", "logits_to_keep"} <= set(accepts):
        return f"{name} takes no position ids, or gives no logits of chosen positions"
    if getattr(inner.config, "_attn_implementation", "") == "flex_attention":
        return "flex_attention is compiled anew for each length of a row"
    layers = set(getattr(inner.config.get_text_config(), "layer_types", None) or ())
    if "chunked_attention" in layers:
        return f"{name} attends in chunks that are counted from the beginning of a row"
    if sharded():
        known = inner.config.get_text_config().model_type in KEEP_APART
        return None if known else f"{name} cannot be asked whether it keeps examples apart"
    try:
        off, change = interaction(model)
    except (RuntimeError, ValueError, TypeError, IndexError, AttributeError) as error:
        return f"{name} does not read two examples in one row ({str(error)[:80]})"
    rounding = _ROUNDING.get(next(model.parameters()).dtype, 0.1)
    # Of layers with a state no change is taken for rounding: in bfloat16 Jamba's can be as small.
    by_rounding = _mixes(inner) and not layers & _WITH_STATE
    if off <= rounding and change <= (rounding / 5 if by_rounding else 1e-4):
        return None
    off = max(off, change)
    return f"in one row of {name} they would read each other (logits off by {off:.2g} deviations)"


def _mixes(model: Any) -> bool:
    """Whether what is computed for a token depends on the others of a batch by its rounding:
    routed experts take them in groups, and 8-bit layers look for outliers in all of them."""
    routed = (
        isinstance(value, int) and value > 1
        for name, value in vars(model.config.get_text_config()).items()
        if re.fullmatch(r"num(_local)?_experts|n_routed_experts|moe_num_experts", name)
    )
    return any(routed) or bool(getattr(model, "is_quantized", False))


@torch.no_grad()
def interaction(model: Any) -> tuple[float, float]:
    """How much two short examples read each other in one row, in standard deviations of the logits.

    Four forward passes over 63 tokens at most, in evaluation mode.

    Returns:
        (difference of the logits in the row to those of each example alone; change of the second's
        when the first one has other tokens), as the root mean square at the worst position. The
        second one is 0 but for groups of tokens (``_mixes``), whatever the type of the weights.
    """
    embeddings = model.get_input_embeddings().weight
    few = embeddings.shape[0] // 4
    generator = torch.Generator().manual_seed(0)
    # From the middle of the vocabulary, since markers of pictures and roles stand at its ends.
    ids = torch.randint(few, 3 * few, (1, 63), generator=generator).to(embeddings.device)
    first, second, other = ids.split([23, 17, 23], 1)

    def read(*examples: torch.Tensor) -> torch.Tensor:
        places = [torch.arange(one.shape[1], device=one.device)[None] for one in examples]
        row, places = torch.cat(examples, 1), torch.cat(places, 1)
        return model(input_ids=row, position_ids=places, use_cache=False).logits[0].float()

    training = model.training
    model.eval()
    try:
        row, changed = read(first, second), read(other, second)
        alone = torch.cat([read(first), read(second)])
    finally:
        model.train(training)
    spread = row.std().clamp(min=1e-12)

    def off(one: torch.Tensor, two: torch.Tensor) -> float:
        return ((one - two).pow(2).mean(-1).sqrt().max() / spread).item()

    return off(row, alone), off(row[23:], changed[23:])
