"""A model in a GGUF file, computed by llama.cpp: the logits that our sampling and scoring read.

How a prompt is rendered, how a token is drawn and how choices are weighed is the same as with
transformers' models; only the forward passes are llama.cpp's.
"""

from __future__ import annotations

import ctypes
import weakref
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from malmat.lm.gguf_tokenizer import GgufTokenizer, library, load_file

if TYPE_CHECKING:
    import torch

    from malmat.lm.branches import Branch, Prompt

MOST_ROWS = 32
"""Sequences written side by side: beyond it the CPU writes hardly more tokens a second."""

READ_AT_ONCE = 2048
"""Tokens that llama.cpp is given at a time."""

SCORED_AT_ONCE = 64
"""Places of branches whose logits are asked for at a time: 64 MB of them with Gemma's words."""

SHARED_ROWS = 17
"""Sequences where one prompt is read and its branches follow it: the prompt's, and 16 others."""


class GgufModel:
    """A loaded GGUF file.

    Args:
        path: the file.
        cache: the number format of keys and values: ``f16``, llama.cpp's own, or ``f32``.
        threads: default: as torch computes.
    """

    def __init__(self, path: str | Path, *, cache: str = "f16", threads: int | None = None):
        self.name_or_path = str(path)
        self._lib = library()
        self._model = load_file(path, n_gpu_layers=-1)
        self._finalizer = weakref.finalize(self, self._lib.llama_model_free, self._model)
        self._cache, self._threads = cache, threads
        self._contexts: dict[bool, Context] = {}
        vocabulary = self._lib.llama_model_get_vocab(self._model)
        self.vocabulary: int = self._lib.llama_vocab_n_tokens(vocabulary)

    @property
    def device(self) -> torch.device:
        """Where the logits come to."""
        import torch

        return torch.device("cpu")

    @cached_property
    def generation_config(self) -> Any:
        return SimpleNamespace(eos_token_id=GgufTokenizer(self.name_or_path).end_ids)

    @cached_property
    def config(self) -> Any:
        longest = self._lib.llama_model_n_ctx_train(self._model)
        inner = SimpleNamespace(max_position_embeddings=longest)
        return SimpleNamespace(get_text_config=lambda: inner)

    def metadata(self, key: str) -> str | None:
        """A value of the file's metadata, or None."""
        value = ctypes.create_string_buffer(256)
        size = self._lib.llama_model_meta_val_str(self._model, key.encode(), value, len(value))
        return value.value.decode("utf-8", "replace") if size >= 0 else None

    def fitting_rows(self, length: int) -> int:
        """How many rows of ``length`` tokens fit into 70 % of the free memory, ``MOST_ROWS`` at
        most. A row needs its keys and values, and its logits with what the sampler makes of
        them."""
        from malmat.lm.batching import free_memory

        lib, kind = self._lib, self.metadata("general.architecture")
        head = self.metadata(f"{kind}.attention.key_length")
        width = int(
            head or lib.llama_model_n_embd(self._model) // lib.llama_model_n_head(self._model)
        )
        number = 2 if self._cache == "f16" else 4
        held = 2 * number * width * lib.llama_model_n_head_kv(self._model)
        row = length * held * lib.llama_model_n_layer(self._model) + 4 * 4 * self.vocabulary
        return max(1, min(int(0.7 * free_memory(self.device) / row), MOST_ROWS))

    def rows(self, prompts: list[list[int]], most: int) -> Rows:
        """Prompts to be read, each of which may get ``most`` tokens more.

        Raises:
            MemoryError: there is none for so many.
        """
        return Rows(self._context(len(prompts), max(map(len, prompts)) + most), prompts)

    def _context(self, rows: int, length: int, *, shared: bool = False) -> Context:
        """An empty context for so many rows (or, shared, tokens in all) of that length."""
        known = self._contexts.get(shared)
        if known is None or known.rows < rows or known.length < length:
            self._contexts.pop(shared, None)  # its memory first
            del known
            known = Context(self, rows, length, shared, self._cache, self._threads)
            self._contexts[shared] = known
        known.clear()
        return known

    def branch_log_probabilities(self, prompts: list[Prompt]) -> list[list[list[list[float]]]]:
        """As ``malmat.lm.branches.branch_log_probabilities``: prompt by prompt, each read from
        where it parts from the one before it."""
        from malmat.lm.read import common

        longest = max(prompt.longest for prompt in prompts)
        behind = max(sum(len(b.ids) for b in prompt.branches) for prompt in prompts)
        context = self._context(SHARED_ROWS, longest + behind, shared=True)
        found: list[list[list[list[float]]]] = []
        before: list[int] = []
        for prompt in prompts:
            kept = min(common([before, prompt.ids]), len(prompt.ids) - 1) if before else 0
            if kept < len(before) and not context.cut(0, kept):
                context.clear()  # what a recurrent model holds cannot be cut
                kept = 0
            rest = list(enumerate(prompt.ids))[kept:]
            logits = context.read([(ids, n, 0) for n, ids in rest], {len(rest) - 1})
            before = prompt.ids
            found.append(_branches(context, prompt, logits))
        return found


def _log_probabilities(logits: torch.Tensor, wanted: list[list[int]]) -> list[list[float]]:
    """Log-probabilities (nats), a list a row, of the tokens that are wanted in it."""
    totals = logits.logsumexp(-1)
    rows = zip(logits, totals, wanted, strict=True)
    return [(row[tokens] - total).tolist() for row, total, tokens in rows]


def _branches(context: Context, prompt: Prompt, logits: torch.Tensor) -> list[list[list[float]]]:
    """What a prompt's branches want: ``[branch][place][wanted token]``.

    Args:
        context: has read the prompt as its row 0.
        logits: (1, vocabulary) behind it.
    """
    firsts = [branch.wanted[0] for branch in prompt.branches]
    values = iter(_log_probabilities(logits, [[token for want in firsts for token in want]])[0])
    found = [[[next(values) for _ in want]] for want in firsts]
    waiting = [(number, branch) for number, branch in enumerate(prompt.branches) if branch.ids]
    while waiting:
        some: list[tuple[int, Branch]] = []
        places = 0
        while waiting and len(some) < SHARED_ROWS - 1:
            places += len(waiting[0][1].ids)
            if some and places > SCORED_AT_ONCE:
                break
            some.append(waiting.pop(0))
        tokens = []
        for row, (_, branch) in enumerate(some, 1):
            context.copy(0, row)
            start = len(prompt.ids)
            tokens += [(token, start + n, row) for n, token in enumerate(branch.ids)]
        wanted = [want for _, branch in some for want in branch.wanted[1:]]
        logits = context.read(tokens, set(range(len(tokens))))
        rows = iter(_log_probabilities(logits, wanted))
        for row, (number, branch) in enumerate(some, 1):
            found[number] += [next(rows) for _ in branch.ids]
            context.cut(row, 0)
    return found


class Rows:
    """Prompts that a model reads on, a token a step.

    Args:
        context: an empty one.
    """

    def __init__(self, context: Context, prompts: list[list[int]]):
        self._context, self._prompts = context, prompts
        self._rows = list(range(len(prompts)))
        self._lengths = [len(prompt) for prompt in prompts]

    def read(self) -> torch.Tensor:
        """The logits (rows, vocabulary) after each prompt, in float32."""
        rows = enumerate(self._prompts)
        tokens = [(token, place, row) for row, ids in rows for place, token in enumerate(ids)]
        return self._context.read(tokens, {end - 1 for end in accumulate(self._lengths)})

    def step(self, chosen: torch.Tensor) -> torch.Tensor:
        """The logits (rows, vocabulary) behind a further token of each row."""
        tokens = list(zip(chosen.tolist(), self._lengths, self._rows, strict=True))
        self._lengths = [length + 1 for length in self._lengths]
        return self._context.read(tokens, set(range(len(tokens))))

    def leave(self, going: torch.Tensor) -> None:
        """Go on with some of the rows alone."""
        places = going.tolist()
        for place in set(range(len(self._rows))) - set(places):
            self._context.cut(self._rows[place], 0)
        self._rows = [self._rows[place] for place in places]
        self._lengths = [self._lengths[place] for place in places]


class Context:
    """What llama.cpp holds of the tokens that it has read.

    Args:
        rows: sequences.
        length: tokens of each; where ``shared``, of all together.
        shared: sequences may begin with another's tokens (``copy``).

    Raises:
        MemoryError: there is none for it.
    """

    def __init__(
        self,
        model: GgufModel,
        rows: int,
        length: int,
        shared: bool,
        cache: str,
        threads: int | None,
    ):
        import torch

        lib = self._lib = library()
        self.rows, self.length, self._model = rows, length, model
        settings = lib.llama_context_default_params()
        settings.n_ctx = length if shared else rows * -(-length // 256) * 256
        settings.n_batch = READ_AT_ONCE
        settings.n_seq_max = rows
        settings.n_outputs_max = max(rows, SCORED_AT_ONCE)
        settings.n_outputs_max_per_seq = SCORED_AT_ONCE
        settings.n_threads = settings.n_threads_batch = threads or torch.get_num_threads()
        settings.kv_unified = shared
        settings.swa_full = True  # else what lies beyond a window is lost to ``cut``
        settings.type_k = settings.type_v = getattr(lib, f"GGML_TYPE_{cache.upper()}")
        settings.no_perf = True
        context = lib.llama_init_from_model(model._model, settings)
        if not context:
            raise MemoryError(f"llama.cpp has no memory for {rows} rows of {length} tokens")
        self._context = context
        self._finalizer = weakref.finalize(self, lib.llama_free, context)
        self._memory = lib.llama_get_memory(context)
        self._batch = lib.llama_batch_init(READ_AT_ONCE, 0, 1)
        self._free_batch = weakref.finalize(self, lib.llama_batch_free, self._batch)

    def clear(self) -> None:
        self._lib.llama_memory_clear(self._memory, True)

    def cut(self, row: int, kept: int) -> bool:
        """Forget a row's tokens from the place ``kept`` on; False where that is not possible."""
        return self._lib.llama_memory_seq_rm(self._memory, row, kept, -1)

    def copy(self, row: int, other: int) -> None:
        """Let another row begin with all that a row holds."""
        self._lib.llama_memory_seq_cp(self._memory, row, other, -1, -1)

    def read(self, tokens: list[tuple[int, int, int]], wanted: set[int]) -> torch.Tensor:
        """Read tokens: (token, place in its row, row) each.

        Args:
            wanted: of which of them the logits behind them are wanted.

        Returns:
            Those logits (wanted, vocabulary), in float32, to be used before the next reading.

        Raises:
            MemoryError: no room.
        """
        import numpy as np
        import torch

        found: list[torch.Tensor] = []
        parts = _parts(tokens, wanted, max(self.rows, SCORED_AT_ONCE))
        for number, part in enumerate(parts, 1):
            batch = self._batch
            batch.n_tokens = len(part)
            for n, (place_in_all, (token, place, row)) in enumerate(part):
                batch.token[n] = token
                batch.pos[n] = place
                batch.n_seq_id[n] = 1
                batch.seq_id[n][0] = row
                batch.logits[n] = place_in_all in wanted
            if code := self._lib.llama_decode(self._context, batch):
                raise MemoryError(f"llama.cpp could not read {len(part)} tokens (code {code})")
            count = sum(place in wanted for place, _ in part)
            if count:
                logits = self._lib.llama_get_logits(self._context)
                array = np.ctypeslib.as_array(logits, (count, self._model.vocabulary))
                values = torch.from_numpy(array)
                found.append(values if number == len(parts) else values.clone())
        return found[0] if len(found) == 1 else torch.cat(found)


Numbered = tuple[int, tuple[int, int, int]]
"""A token's place among all that are to be read, and what ``Context.read`` is given of it."""


def _parts(
    tokens: list[tuple[int, int, int]], wanted: set[int], places: int
) -> list[list[Numbered]]:
    """Tokens cut into parts that llama.cpp takes at a time, with so many wanted places at most."""
    parts: list[list[Numbered]] = [[]]
    count = 0
    for one in enumerate(tokens):
        count += one[0] in wanted
        if len(parts[-1]) == READ_AT_ONCE or count > places:
            parts.append([])
            count = int(one[0] in wanted)
        parts[-1].append(one)
    return parts
