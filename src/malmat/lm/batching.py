"""Batches of rows of like length, as large as memory allows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from malmat.errors import StopRunning
from malmat.lm.gguf import GgufModel
from malmat.lm.read import last_logits

if TYPE_CHECKING:
    import torch


def by_length(lengths: list[int]) -> list[int]:
    """Indices, longest first (so that running out of memory shows at once). Cut into batches the
    order gives rows of like length, the same ones whenever a run is resumed."""
    return sorted(range(len(lengths)), key=lambda index: (-lengths[index], index))


def run_batches(
    order: list[int],
    batch_size: int,
    work: Callable[[list[int]], list],
    *,
    done: Callable[[int], bool],
    length: Callable[[int], int],
    groups: dict[int, int] | None = None,
) -> Iterator[tuple[list[int], list, int]]:
    """Work through rows batch by batch, passing over batches that are wholly done.

    A batch of which one row is missing is computed again as a whole, with the same neighbours,
    so that a run resumed at the same batch size gives what an undisturbed one gives, to the last
    bit. Where memory runs out the batch size is halved.

    Args:
        order: the rows' indices; those of a batch stand side by side.
        work: computes a batch: indices → a result each.
        length: tokens of a row's prompt, for the message that not even one row fits.
        groups: index → group, where a group's rows had better be in one batch.

    Yields:
        The batch's indices, their results, and the batch size.

    Raises:
        StopRunning: no memory for one row.
    """
    first = 0
    while batch := _cut(order, first, batch_size, groups):
        if all(done(index) for index in batch):
            first += len(batch)
            continue
        try:
            results = work(batch)
        except Exception as error:
            if not out_of_memory(error):
                raise
            if len(batch) == 1:
                raise StopRunning(
                    f"not enough memory for one prompt of {length(batch[0])} tokens. "
                    "Progress is kept: use --quantization 4bit, a smaller model or fewer "
                    "--max_new_tokens"
                ) from None
            results = None
        if results is None:  # outside the handler, whose traceback holds the tensors
            batch_size = len(batch) // 2
            _free_memory()
            print(f"  out of memory at {len(batch)}: on with batches of {batch_size}", flush=True)
            continue
        first += len(batch)
        yield batch, results, batch_size


def _cut(order: list[int], first: int, size: int, groups: dict[int, int] | None) -> list[int]:
    """The next batch: ``size`` rows, or fewer where the last group would be cut in two."""
    batch = order[first : first + size]
    following = order[first + size : first + size + 1]
    if groups and following and groups[batch[0]] != groups[batch[-1]] == groups[following[0]]:
        last = groups[batch[-1]]
        while groups[batch[-1]] == last:
            batch.pop()
    return batch


MOST_ROWS = {"cpu": 64, "cuda": 256}
"""Beyond these a larger batch is hardly faster, and an interrupted one costs more."""


def fitting_batch(model: Any, length: int) -> int:
    """How many rows of ``length`` tokens (prompt and answer) fit into 70 % of the free memory.

    A row needs its keys and values (measured on a few tokens), float32 logits with what the
    sampler makes of them, and what a layer holds while it reads the prompt.
    """
    import torch

    from malmat.lm.cache import new_cache

    if isinstance(model, GgufModel):
        return model.fitting_rows(length)
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
