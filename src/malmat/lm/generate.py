"""Batched generation whose answers depend on the item, not on its neighbours.

Items are sorted by length into fixed batches (left padding), so that padding is not computed for
nothing. How tokens are drawn is ``malmat.lm.sampling``'s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from malmat.answer.replies import split_thoughts
from malmat.lm.batching import by_length, fitting_batch, run_batches
from malmat.lm.chat import encode_prompt, run_on, terminators
from malmat.lm.gguf import GgufModel
from malmat.lm.read import last_logits, padded, read_prompts
from malmat.lm.sampling import Sampling, choose, item_seed

if TYPE_CHECKING:
    import torch

DRAWS = 2
"""Raise it when answers to equal requests change: journals of older ones then do not mix in."""


def generate(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    items: list[str],
    sampling: Sampling,
    heard: Callable[[list[list[int]]], None] | None = None,
) -> list[dict]:
    """Answer one batch.

    A row that has ended leaves the batch, so that no work goes into it.

    Args:
        prompts: token ids a prompt, from ``chat.encode_prompt``.
        items: the row ids, which seed the sampling.
        heard: called after each step with the ids that each prompt has got so far, those behind
            a stop too; what it raises ends the generation.

    Returns:
        A dict a prompt: ``text``, ``status`` (``ok``, ``empty``, ``truncated``,
        ``leaked``), ``finish_reason`` (``stop`` or ``length``), ``input_tokens``,
        ``output_tokens``. A ``leaked`` text is kept whole, as evidence.
    """
    stops = terminators(tokenizer, model.generation_config)
    breaks = _line_breaks(tokenizer) if sampling.until == "line" else set()
    seeds = [item_seed(sampling.seed, item) for item in items]
    written = _write(model, tokenizer, prompts, seeds, sampling, stops, breaks, heard)
    return [
        {**_reply(tokenizer, row, stops, breaks), "input_tokens": len(prompt)}
        for prompt, row in zip(prompts, written, strict=True)
    ]


def _write(
    model: Any,
    tokenizer: Any,
    prompts: list[list[int]],
    seeds: list[int],
    sampling: Sampling,
    stops: list[int],
    breaks: set[int],
    heard: Callable[[list[list[int]]], None] | None,
) -> list[list[int]]:
    """``max_new_tokens`` ids a prompt: what the model writes up to a stop or the end of a line
    (or up to a few tokens further), then padding."""
    import torch

    device, most = model.device, sampling.max_new_tokens
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else stops[0]
    seeds = torch.tensor(seeds, device=device)
    written = torch.full((len(prompts), most), pad, device=device)
    # On the device once: a copy a step is a wait for the GPU each.
    ends = torch.tensor(stops, device=device, dtype=torch.long)
    spared = torch.tensor([*stops, *sorted(breaks)], device=device, dtype=torch.long)
    rows = torch.arange(len(prompts), device=device)  # the places in ``written`` of those at work
    ended = torch.zeros_like(rows, dtype=torch.bool)
    with torch.inference_mode():
        gguf = isinstance(model, GgufModel)
        reading: Any = model.rows(prompts, most) if gguf else Rows(model, prompts, pad)
        ids, mask = padded(prompts, pad, device)
        seen = torch.where(mask.bool(), ids, ids[:, -1:])  # padding is no token
        chosen = torch.zeros_like(rows)
        for step in range(most):
            logits = reading.step(chosen) if step else reading.read()
            chosen = choose(logits, seen, seeds[rows], step, sampling, spared)
            written[rows, step] = chosen
            if heard is not None:
                heard(written[:, : step + 1].tolist())
            ended |= torch.isin(chosen, ends)
            seen = torch.cat([seen, chosen[:, None]], 1)
            # Now and then: the copy of the cache costs time, as does waiting for a GPU's reply.
            if step % LEAVE_EVERY != LEAVE_EVERY - 1:
                continue
            if breaks:
                ended |= _line_ended(tokenizer, written[rows, : step + 1], breaks)
            if ended.any():
                going = (~ended).nonzero()[:, 0]
                if not len(going):
                    break
                reading.leave(going)
                rows, ended, chosen, seen = (t[going] for t in (rows, ended, chosen, seen))
    return written.tolist()


class Rows:
    """Prompts that a model reads on, a token a step; ``malmat.lm.gguf.Rows`` is llama.cpp's."""

    def __init__(self, model: Any, prompts: list[list[int]], pad: int):
        self._model, self._prompts, self._pad = model, prompts, pad

    def read(self) -> torch.Tensor:
        """The logits (rows, vocabulary) after each prompt, in float32."""
        found = read_prompts(self._model, self._prompts, self._pad)
        logits, self._cache, _, self._mask = found
        return logits

    def step(self, chosen: torch.Tensor) -> torch.Tensor:
        """The logits (rows, vocabulary) behind a further token of each row."""
        import torch

        self._mask = torch.nn.functional.pad(self._mask, (0, 1), value=1)
        return last_logits(self._model, chosen[:, None], self._mask, self._cache)

    def leave(self, going: torch.Tensor) -> None:
        """Go on with some of the rows alone."""
        self._cache.reorder_cache(going)
        self._mask = self._mask[going]


LEAVE_EVERY = 4
"""Steps between looks for rows that have ended."""


_BREAKS: WeakKeyDictionary[Any, set[int]] = WeakKeyDictionary()


def _line_breaks(tokenizer: Any) -> set[int]:
    """The tokens whose text has a line break, found once for a tokenizer (1.4 s for 262 144)."""
    if tokenizer not in _BREAKS:
        texts = tokenizer.batch_decode([[token] for token in range(len(tokenizer))])
        _BREAKS[tokenizer] = {token for token, text in enumerate(texts) if "\n" in text}
    return _BREAKS[tokenizer]


def _line_end(tokenizer: Any, ids: list[int], breaks: set[int]) -> int | None:
    """How many tokens it takes to the first line break after some text, that one included."""
    for position, token in enumerate(ids, 1):
        if token in breaks:
            text = tokenizer.decode(ids[:position], skip_special_tokens=True)
            if "\n" in text.lstrip():
                return position
    return None


def _line_ended(tokenizer: Any, written: torch.Tensor, breaks: set[int]) -> torch.Tensor:
    """(rows,) whether the first line of each ended, with its last ``LEAVE_EVERY`` tokens."""
    import torch

    ended = [
        not breaks.isdisjoint(ids[-LEAVE_EVERY:]) and _line_end(tokenizer, ids, breaks) is not None
        for ids in written.tolist()
    ]
    return torch.tensor(ended, device=written.device)


def _reply(tokenizer: Any, ids: list[int], stops: list[int], breaks: set[int]) -> dict:
    end = next((position for position, token in enumerate(ids) if token in stops), None)
    kept = ids if end is None else ids[:end]
    line = _line_end(tokenizer, kept, breaks)
    kept = kept[:line]
    text = tokenizer.decode(kept, skip_special_tokens=True).strip()
    marked = tokenizer.decode(kept, skip_special_tokens=False)
    if line is not None:  # the token of the line break may hold more than that
        text, marked = (part.strip().partition("\n")[0].rstrip() for part in (text, marked))
    # Some markers of thoughts are special tokens: Mistral's, those of the harmony format.
    parts = split_thoughts(marked)
    if parts.text != marked:
        answer, thoughts = (_unmarked(tokenizer, part) for part in parts[:2])
        text, marked = answer, parts.text
    else:
        thoughts = ""
    if run_on(marked) is not None:
        status = "leaked"
    elif (end is None and line is None) or not parts.whole:
        status = "truncated"
    else:
        status = "ok" if text else "empty"
    return {
        "text": text,
        "status": status,
        "finish_reason": "length" if end is None and line is None else "stop",
        "output_tokens": len(kept),
        **({"thoughts": thoughts} if thoughts else {}),
    }


def _unmarked(tokenizer: Any, text: str) -> str:
    for token in tokenizer.all_special_tokens:
        text = text.replace(token, "")
    return text.strip()


def answer_all(
    model: Any,
    tokenizer: Any,
    requests: list[dict],
    sampling: Sampling,
    *,
    batch_size: int | None,
    done: Callable[[str], bool],
) -> Iterator[list[dict]]:
    """Answer requests batch by batch, as ``run_batches`` does it.

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

    def answer(batch: list[int]) -> list[dict]:
        items = [requests[index]["id"] for index in batch]
        return generate(model, tokenizer, [prompts[index] for index in batch], items, sampling)

    for batch, replies, size in run_batches(
        order,
        batch_size or 1,
        answer,
        done=lambda index: done(requests[index]["key"]),
        length=lambda index: len(prompts[index]),
    ):
        yield [
            {"key": request["key"], "id": request["id"], "batch_size": size, **reply}
            for request, reply in zip((requests[i] for i in batch), replies, strict=True)
            if not done(request["key"])
        ]
