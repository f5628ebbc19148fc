"""An estimate of a training run's memory, from the model's config alone.

The model is built on the ``meta`` device, where tensors have shapes and no storage,
so that a 32B model is counted in a second. With c bytes a number (2 in bfloat16, 4 in
float32), t tokens in the greatest batch, width h, feed-forward width i, a·d the
width of the queries and k·d that of the keys:

- weights: parameters × c; quantized linear layers 0.516 bytes (NF4 with double
  quantization: 4 + 0.127 bits; Dettmers et al. 2023, *QLoRA*, section 3) or 1 byte.
- gradients: trained parameters × their bytes. LoRA has r·(in + out) a layer, in
  float32 (PEFT's ``autocast_adapter_dtype``).
- optimizer: Adam holds two moments: 2 × 4 bytes (2 × c for torch's AdamW, whose
  states take the parameter's type), 2 × 1 with 8-bit states (Dettmers et al. 2022,
  *8-bit Optimizers via Block-wise Quantization*), with a float32 scale a block of 256.
- activations: what each layer keeps for the backward pass, counted from its
  operations as Korthikanti et al. 2022, *Reducing Activation Recomputation*, section 4
  do, here for RMSNorm (in float32), gated feed-forward and fused attention:
  t·(norms·(4 + c)·h + c·(2h + 2ad + 2kd + 4i)) a layer. With gradient checkpointing
  t·c·h a layer and one whole layer. With LoRA in bfloat16, frozen layers keep no
  input, and each adapter keeps its own copy.
- logits: at labelled positions only; labelled × vocabulary × 12 bytes (in float32
  the log-softmax, its gradient and that of the logits).
- workspace: the greatest gradient, held twice while it is added up, and about 1 GiB of
  libraries and kernels.

It is an estimate. Against the peak memory of eight runs of Gemma 3 270M on the CPU (full
and LoRA, batch 1 and 8, two optimizers) it was from 15 % too low to 16 % too high; on a
GPU, kernels and fragmentation differ. ``shards`` divides weights, gradients and states (FSDP,
ZeRO-3), and trained weights are float32 there. Paged optimizers can move their states to the
machine's memory; they are counted on the card.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any

from malmat.errors import InputError
from malmat.lm.device import default_dtype
from malmat.lm.load import base_of, resolve, resolve_base
from malmat.lm.remote import mend_tied_weights

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel


GIB = 2**30


PARTS = ("weights", "gradients", "optimizer", "activations", "logits", "workspace")


_STATES = (  # optimizer → bytes of state a trained parameter; None: twice the parameter's own
    (r"adafactor|sgd|adagrad_none", 0.0),
    (r"(adamw|ademamix).*4bit", 1.0),
    (r"ademamix.*8bit", 3.1),
    (r"(adamw|adam).*8bit", 2.1),
    (r"lion.*8bit|rmsprop.*8bit", 1.05),
    (r"lion|rmsprop|adagrad", 4.0),
    (r"paged_adamw|adamw_bnb|paged_adam", 8.0),
    (r"adamw", None),
)


def memory(
    model: str | PretrainedConfig,
    *,
    tokens: int,
    labelled: int,
    dtype: str | None = None,
    quantization: str | None = None,
    lora_r: int = 0,
    lora_modules: Sequence[str] | str = "all-linear",
    optim: str = "adamw_8bit",
    gradient_checkpointing: bool = False,
    shards: int | None = None,
    offload: Collection[str] = (),
    embeddings_cast: bool = True,
    trust_remote_code: bool = False,
) -> dict[str, Any] | None:
    """What training will hold at its peak, in GiB, against the card or the machine.

    Args:
        shards: the processes that FSDP or ZeRO-3 split weights, gradients and states over;
            None: they are not split.
        offload: of ``weights, gradients, optimizer``, those in the machine's memory.
        embeddings_cast: whether what is not quantized is cast to float32.

    Returns:
        ``parameters, trained, weights, gradients, optimizer, activations, logits,
        workspace, total`` and ``available`` (GiB), ``device``, ``fits``, and ``offloaded`` (GiB
        of the machine's memory, all processes together); None where the config cannot be read
        without the model's own code.

    Raises:
        InputError: an optimizer whose states are not known.
    """
    net = _skeleton(model, dtype, trust_remote_code)
    if net is None:
        return None
    parts, parameters, trained = _weights(
        net, quantization, lora_r, lora_modules, optim, shards is not None, embeddings_cast
    )
    moved = sum(parts[name] for name in offload)
    parts = {n: 0.0 if n in offload else size / (shards or 1) for n, size in parts.items()}
    parts |= _passes(
        net, tokens, labelled, lora_modules if lora_r else None, gradient_checkpointing
    )
    device, available = _device()
    largest = 0 if lora_r else max(p.numel() for p in net.parameters())
    parts["workspace"] = largest * net.dtype.itemsize + GIB
    if device == "CPU" and "8bit" in optim and "torch" not in optim:
        parts["workspace"] += largest * 8  # bitsandbytes' CPU code unpacks a tensor's two states
    total = sum(parts.values())
    return {
        "parameters": parameters,
        "trained": trained,
        **{name: round(parts[name] / GIB, 3) for name in PARTS},
        "total": round(total / GIB, 2),
        "available": round(available / GIB, 2),
        "offloaded": round(moved / GIB, 2),
        "device": device,
        "fits": total <= available,
    }


def _skeleton(
    model: str | PretrainedConfig, dtype: str | None, trust_remote_code: bool
) -> PreTrainedModel | None:
    """The model on the ``meta`` device; None where that needs code that is not there."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    config = model
    if isinstance(model, str):
        source = resolve(model)
        source = resolve_base(source) if base_of(source) else source
        try:
            if trust_remote_code:
                mend_tied_weights(source)
            config = AutoConfig.from_pretrained(source, trust_remote_code=trust_remote_code)
        except (OSError, ValueError):
            return None
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(
                config,
                dtype=getattr(torch, dtype or default_dtype()),
                trust_remote_code=trust_remote_code,
            )
    except (ValueError, ImportError, AttributeError):
        return None


def _weights(
    net: PreTrainedModel,
    quantization: str | None,
    lora_r: int,
    lora_modules: Sequence[str] | str,
    optim: str,
    split: bool,
    embeddings_cast: bool,
) -> tuple[dict[str, float], int, int]:
    """(bytes of weights, gradients and optimizer; parameters; those that are trained).

    Raises:
        InputError: an optimizer whose states are not known.
    """
    c, head = net.dtype.itemsize, net.get_output_embeddings()
    parameters = sum(p.numel() for p in net.parameters())
    quantized = sum(m.weight.numel() for m in _linears(net).values() if m is not head)
    small = {"4bit": 0.516, "8bit": 1.0, None: float(c)}[quantization]
    # PEFT casts what is not quantized to float32 for training on quantized weights.
    rest = 4 if quantization and embeddings_cast else c
    weights = (parameters - quantized) * rest + quantized * small if quantization else 0.0
    trained, own = parameters, 4 if split else c  # Accelerate trains split weights in float32
    weights = parameters * float(c if lora_r else own)
    if quantization:
        weights = (parameters - quantized) * rest + quantized * small
    if lora_r:
        chosen = _targets(net, lora_modules)
        trained, own = sum(lora_r * (m.in_features + m.out_features) for m in chosen), 4
        weights += trained * own
    state = next((size for name, size in _STATES if re.search(name, optim)), -1.0)
    if state == -1.0:
        raise InputError(f"optimizer '{optim}' is not known to the estimate", field="optim")
    state = 2 * own if state is None else state
    parts = {"weights": weights, "gradients": trained * own, "optimizer": trained * state}
    return parts, parameters, trained


def _passes(
    net: PreTrainedModel,
    tokens: int,
    labelled: int,
    lora_modules: Sequence[str] | str | None,
    gradient_checkpointing: bool,
) -> dict[str, float]:
    """Bytes of activations and logits; ``lora_modules`` is None without an adapter."""
    text, c, head = net.config.get_text_config(), net.dtype.itemsize, net.get_output_embeddings()
    layers = text.num_hidden_layers
    chosen = _targets(net, lora_modules) if lora_modules else []
    inputs = sum(m.in_features for m in chosen if m is not head) / layers
    layer = tokens * _kept_a_layer(text, net, c, inputs)
    kept = layers * tokens * c * text.hidden_size + layer
    return {
        "activations": kept if gradient_checkpointing else layers * layer,
        "logits": labelled * text.vocab_size * 12,
    }


def _linears(net: PreTrainedModel) -> dict[str, Any]:
    import torch

    return {n: m for n, m in net.named_modules() if isinstance(m, torch.nn.Linear)}


def _targets(net: PreTrainedModel, wanted: Sequence[str] | str) -> list[Any]:
    """The linear layers that get an adapter."""
    head = net.get_output_embeddings()
    return [m for n, m in _linears(net).items() if _is_target(n, m, head, wanted)]


def _is_target(name: str, module: Any, head: Any, wanted: Sequence[str] | str) -> bool:
    """PEFT's rule: names are matched at their end; ``all-linear`` leaves the output head out."""
    if wanted == "all-linear" or list(wanted) == ["all-linear"]:
        return module is not head
    return any(name == part or name.endswith(f".{part}") for part in wanted)


def _kept_a_layer(text: PretrainedConfig, net: Any, c: int, adapted: float) -> float:
    """Bytes a token that one decoder layer keeps for its backward pass (see ``memory``).

    Args:
        adapted: widths of the inputs that LoRA's adapters read, added up; 0 without LoRA.
    """
    h, heads = text.hidden_size, text.num_attention_heads
    width = getattr(text, "head_dim", None) or h // heads
    keys = (getattr(text, "num_key_value_heads", None) or heads) * width
    inner = getattr(text, "intermediate_size", None) or 4 * h
    norms = sum(
        ".0." in name and "norm" in name.lower() and p.numel() == h
        for name, p in net.named_parameters()
    )
    attention = c * 2 * (heads * width + keys)
    if adapted and c < 4:  # frozen layers keep no input, each adapter its own copy
        return max(norms, 2) * 4 * h + attention + c * (3 * inner + adapted)
    return max(norms, 2) * (4 + c) * h + attention + c * (2 * h + 4 * inner)


def _device() -> tuple[str, int]:
    """The card's name and bytes, or the machine's where there is none."""
    import torch

    if torch.cuda.is_available():
        card = torch.cuda.get_device_properties(int(os.environ.get("LOCAL_RANK", 0)))
        return card.name, card.total_memory
    return "CPU", os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
