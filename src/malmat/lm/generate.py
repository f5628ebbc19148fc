"""Batched generation whose answers depend on the item, not on its neighbours.

Items are sorted by length into fixed batches (left padding), so that padding is
not computed for nothing. Each item draws from its own seed, so its answer is the
same at every batch size up to floating-point noise. Sampling looks at the top-k
tokens only: sorting the whole of a 262 144-token vocabulary for ``top_p`` costs
more than the model does (measured on 2 CPU cores, batch 32: 0.71 s a step against
0.25 s).
"""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from malmat.errors import StopRunning
from malmat.lm.chat import encode_prompt, run_on, terminators

if TYPE_CHECKING:
    import torch


DRAWS = 2
"""Raise it when the draws change: journals of older ones then do not mix with new answers."""


@dataclass(frozen=True)
class Sampling:
    """Decoding settings; the defaults are KoCulture's published ones for local models.

    ``top_k`` must be 1 or more (1 is greedy): candidates are cut to it first.
    """

    max_new_tokens: int = 256
    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 20
    min_p: float = 0.0
    repetition_penalty: float = 1.15
    seed: int = 42

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def _item_seed(seed: int, item: str) -> int:
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


def _choose(
    logits: torch.Tensor,
    seen: torch.Tensor,
    seeds: torch.Tensor,
    step: int,
    sampling: Sampling,
    stops: list[int],
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
    """
    import torch

    if sampling.repetition_penalty != 1.0:
        # CTRL's rule (Keskar et al. 2019) over the item's own tokens.
        # The terminators are spared: the prompt's turns end with one, and a penalty for
        # it makes a model that has learned to stop run on (50 of 50 answers, measured).
        stopping = logits[:, stops].clone()
        old = logits.gather(1, seen)
        penalty = sampling.repetition_penalty
        logits.scatter_(1, seen, torch.where(old < 0, old * penalty, old / penalty))
        logits[:, stops] = stopping
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


def by_length(lengths: list[int]) -> list[int]:
    """Indices, longest first (so that running out of memory shows at once). Cut into batches the
    order gives rows of like length, the same ones whenever a run is resumed."""
    return sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))


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


def padded(
    prompts: list[list[int]], pad: int, device: Any, shared: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask (prompts, longest), padded on the left, behind ``shared`` tokens."""
    import torch

    width = max(map(len, prompts))
    ids = torch.full((len(prompts), width), pad)
    mask = torch.zeros_like(ids)
    for row, prompt in enumerate(prompts):
        for part in (slice(0, shared), slice(width - len(prompt) + shared, width)):
            mask[row, part] = 1
        ids[row, mask[row].bool()] = torch.tensor(prompt)
    return ids.to(device), mask.to(device)


def generate(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    items: list[str],
    sampling: Sampling,
) -> list[dict]:
    """Answer one batch.

    A row that has ended leaves the batch, so that no work goes into it.

    Args:
        prompts: token ids a prompt, from ``chat.encode_prompt``.
        items: the row ids, which seed the sampling.

    Returns:
        A dict a prompt: ``text``, ``status`` (``ok``, ``empty``, ``truncated``,
        ``leaked``), ``finish_reason`` (``stop`` or ``length``), ``input_tokens``,
        ``output_tokens``. A ``leaked`` text is kept whole, as evidence.
    """
    import torch

    stops = terminators(tokenizer, model.generation_config)
    device, most = model.device, sampling.max_new_tokens
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    seeds = torch.tensor([_item_seed(sampling.seed, item) for item in items], device=device)
    written = torch.full((len(prompts), most), pad, device=device)
    rows = torch.arange(len(prompts), device=device)  # the places in ``written`` of those at work
    ended = torch.zeros_like(rows, dtype=torch.bool)
    with torch.inference_mode():
        logits, cache, ids, mask = read_prompts(model, prompts, pad, most)
        seen = torch.where(mask.bool(), ids, ids[:, -1:])  # padding is no token
        for step in range(most):
            if step:
                logits = last_logits(model, ids, mask, cache)
            chosen = _choose(logits, seen, seeds[rows], step, sampling, stops)
            written[rows, step] = chosen
            ended |= torch.isin(chosen, torch.tensor(stops, device=device))
            ids = chosen[:, None]
            seen = torch.cat([seen, ids], 1)
            mask = torch.nn.functional.pad(mask, (0, 1), value=1)
            # Now and then: the copy of the cache costs time, as does waiting for a GPU's reply.
            if step % LEAVE_EVERY == LEAVE_EVERY - 1 and ended.any():
                going = (~ended).nonzero()[:, 0]
                if not len(going):
                    break
                cache.reorder_cache(going)
                rows, ended, ids, seen, mask = (t[going] for t in (rows, ended, ids, seen, mask))
    return [
        {**_reply(tokenizer, row, stops), "input_tokens": len(prompt)}
        for prompt, row in zip(prompts, written.tolist(), strict=True)
    ]


LEAVE_EVERY = 4
"""Steps between looks for rows that have ended."""


PREFILL_ROWS = 16
"""Prompts read at a time: rows of like length, so that little padding is computed."""


def read_prompts(
    model: Any, prompts: list[list[int]], pad: int, most: int = 0
) -> tuple[torch.Tensor, Any, torch.Tensor, torch.Tensor]:
    """Read the prompts; what all of them begin with is read once.

    Args:
        most: tokens that will be written.

    Returns:
        The logits after each prompt (rows, vocabulary), the cache, and ids and mask of what
        the cache holds (rows, tokens).
    """
    import torch

    from malmat.lm.cache import can_share, has_room, merged, new_cache

    start, shared, width = new_cache(model), 0, max(map(len, prompts))
    if len(prompts) > 1 and can_share(model, start, width + most):
        same = [len(set(column)) == 1 for column in zip(*prompts, strict=False)]
        shared = [*same[:-1], False].index(False)  # of the shortest, one token has to be left
    ids, mask = padded(prompts, pad, model.device, shared)
    if not has_room(start):
        return last_logits(model, ids, mask, start), start, ids, mask
    if shared:
        last_logits(model, ids[:1, :shared], mask[:1, :shared], start)
    caches, logits = [], []
    for first in range(0, len(prompts), PREFILL_ROWS):
        rows = slice(first, first + PREFILL_ROWS)
        caches.append(copy.deepcopy(start))
        caches[-1].batch_repeat_interleave(len(prompts[rows]))
        own = shared + width - max(map(len, prompts[rows]))  # before it all rows are padding
        columns = [*range(shared), *range(own, width)]
        logits.append(last_logits(model, ids[rows, own:], mask[rows][:, columns], caches[-1]))
    return torch.cat(logits), merged(caches, shared), ids, mask


def _reply(tokenizer: Any, ids: list[int], stops: list[int]) -> dict:
    end = next((position for position, token in enumerate(ids) if token in stops), None)
    kept = ids if end is None else ids[:end]
    text = tokenizer.decode(kept, skip_special_tokens=True).strip()
    marked = tokenizer.decode(kept, skip_special_tokens=False)
    if run_on(marked) is not None:
        status = "leaked"
    elif end is None:
        status = "truncated"
    else:
        status = "ok" if text else "empty"
    return {
        "text": text,
        "status": status,
        "finish_reason": "length" if end is None else "stop",
        "output_tokens": len(kept),
    }


def answer_all(
    model: Any,
    tokenizer: Any,
    requests: list[dict],
    sampling: Sampling,
    *,
    batch_size: int | None,
    done: Callable[[str], bool],
) -> Iterator[list[dict]]:
    """Answer requests batch by batch, passing over batches that are wholly done.

    A batch of which one item is missing is computed again as a whole, with the same
    neighbours, so that a run resumed at the same batch size gives what an undisturbed
    one gives, to the last bit. Where memory runs out the batch size is halved.

    Args:
        requests: ``{key, id, messages}`` each; ``id`` seeds the sampling.
        batch_size: None finds one (``fitting_batch``).
        done: whether a key's answer is known.

    Yields:
        The new records of a batch: ``{key, id, text, status, batch_size, …}``.
    """
    prompts = [encode_prompt(tokenizer, request["messages"]) for request in requests]
    order = by_length([len(prompt) for prompt in prompts])
    if order and batch_size is None:
        longest = len(prompts[order[0]]) + sampling.max_new_tokens
        batch_size = fitting_batch(model, longest)
        print(f"  batches of {min(batch_size, len(order))}", flush=True)
    first = 0
    while batch := order[first : first + (batch_size or 1)]:
        if all(done(requests[index]["key"]) for index in batch):
            first += len(batch)
            continue
        try:
            replies = generate(
                model,
                tokenizer,
                [prompts[index] for index in batch],
                [requests[index]["id"] for index in batch],
                sampling,
            )
        except Exception as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise StopRunning(
                    f"not enough memory for one prompt of {len(prompts[batch[0]])} tokens. "
                    "Progress is kept: use --quantization 4bit, a smaller model or fewer "
                    "--max_new_tokens"
                ) from None
            replies = None
        if replies is None:  # outside the handler, whose traceback holds the tensors
            batch_size = len(batch) // 2
            _free_memory()
            print(f"  out of memory at {len(batch)}: on with batches of {batch_size}", flush=True)
            continue
        first += len(batch)
        yield [
            {
                "key": requests[index]["key"],
                "id": requests[index]["id"],
                "batch_size": batch_size,
                **reply,
            }
            for index, reply in zip(batch, replies, strict=True)
            if not done(requests[index]["key"])
        ]


MOST_ROWS = {"cpu": 64, "cuda": 256}
"""Beyond these a larger batch is hardly faster, and an interrupted one costs more."""


def fitting_batch(model: Any, length: int) -> int:
    """How many rows of ``length`` tokens (prompt and answer) fit into 70 % of the free memory.

    A row needs its keys and values (measured on a few tokens), float32 logits with what the
    sampler makes of them, and what a layer holds while it reads the prompt.
    """
    import torch

    from malmat.lm.cache import new_cache

    probe = torch.zeros((1, 8), dtype=torch.long, device=model.device)
    cache = new_cache(model)
    with torch.inference_mode():
        vocabulary = last_logits(model, probe, torch.ones_like(probe), cache).shape[1]
    held = sum(
        states.nbytes
        for layer in cache.layers
        for states in (getattr(layer, "keys", None), getattr(layer, "values", None))
        if states is not None
    )
    config = model.config.get_text_config()
    inner = max(config.hidden_size, getattr(config, "intermediate_size", None) or 0)
    row = length * held / 8 * 1.2 + 4 * 4 * vocabulary + 4 * 6 * inner * length
    rows = int(0.7 * free_memory(model.device) / row)
    return max(1, min(rows, MOST_ROWS.get(model.device.type, 64)))


def free_memory(device: torch.device) -> int:
    """Bytes that can still be taken: of the GPU, else of the machine and of its container."""
    import torch

    if device.type == "cuda":
        own = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + own
    import psutil

    free = psutil.virtual_memory().available
    try:
        limit, used = (
            int(Path("/sys/fs/cgroup", name).read_text())
            for name in ("memory.max", "memory.current")
        )
    except (OSError, ValueError):  # no such limit ("max")
        return free
    return min(free, max(0, limit - used))


def out_of_memory(error: Exception) -> bool:
    """Whether an exception says that there is no memory: of a GPU, or torch's for the CPU."""
    import torch

    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "not enough memory")
    )


def _free_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
