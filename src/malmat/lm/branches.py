"""Log-probabilities of tokens behind many prompts, all that is shared being read once.

Prompts of one passage share it, the branches of a prompt (its choices) share the prompt. The
sequences of a batch are a tree: its levels are what all prompts begin with, what the prompts of a
group begin with, each prompt, and the branches. A level is read in one forward pass, from the
keys and values of the one above.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from malmat.lm.read import Reading, common, extend, logits_at, padded

LOGITS_AT_ONCE = 2**26
"""Logits that a forward pass may make: 256 MB in float32, 256 places of Gemma's vocabulary."""

WORTH = 8
"""Tokens below which a shared beginning is not read on its own."""


@dataclass(frozen=True)
class Branch:
    """What is asked behind a prompt.

    Args:
        ids: tokens read after the prompt.
        wanted: the tokens whose log-probabilities are wanted, after the prompt and after each
            of ``ids``: ``len(ids) + 1`` lists.
    """

    ids: list[int]
    wanted: list[list[int]]


@dataclass(frozen=True)
class Prompt:
    ids: list[int]
    branches: list[Branch]

    @property
    def longest(self) -> int:
        """Tokens of the prompt with its longest branch."""
        return len(self.ids) + max(len(branch.ids) for branch in self.branches)


def groups_of(prompts: list[Prompt]) -> list[list[int]]:
    """Indices of prompts, those of which neighbours share half of the shorter one together.

    The groups that share most come first, longest first, single prompts last.
    """
    order = sorted(range(len(prompts)), key=lambda index: prompts[index].ids)
    groups = [order[:1]] if order else []
    for before, index in pairwise(order):
        a, b = prompts[before].ids, prompts[index].ids
        if common([a, b]) * 2 >= min(len(a), len(b)):
            groups[-1].append(index)
        else:
            groups.append([index])
    longest = {min(group): max(prompts[i].longest for i in group) for group in groups}
    return sorted(groups, key=lambda group: (len(group) == 1, -longest[min(group)], min(group)))


def _cuts(prompts: list[Prompt]) -> list[list[int]]:
    """Up to which token each prompt is read, a list a level; the last token is the branches'."""
    most = [len(prompt.ids) - 1 for prompt in prompts]
    root = min(common([prompt.ids for prompt in prompts]), *most, most[0])
    levels = [[root if root >= WORTH and len(prompts) > 1 else 0] * len(prompts)]
    shared = list(levels[0])
    for group in groups_of(prompts):
        if len(group) > 1:
            ids = [prompts[index].ids for index in group]
            cut = min(common(ids), *(most[index] for index in group))
            for index in group:
                shared[index] = max(cut, shared[index])
    levels.append(shared)
    forks = zip(prompts, most, shared, strict=True)
    levels.append([end if len(prompt.branches) > 1 else cut for prompt, end, cut in forks])
    return levels


def branch_log_probabilities(
    model: Any, prompts: list[Prompt], pad: int, *, rows: int
) -> list[list[list[list[float]]]]:
    """Log-probabilities in the whole vocabulary (nats) of what the branches want.

    Args:
        rows: sequences read at a time.

    Returns:
        ``[prompt][branch][place][wanted token]``.
    """
    import torch

    from malmat.lm.cache import has_room, new_cache

    reading, parents, read = None, [0] * len(prompts), [0] * len(prompts)
    with torch.inference_mode():
        # Other caches (recurrent layers) hold a row's end and cannot be branched from.
        for cuts in _cuts(prompts) if has_room(new_cache(model)) else ():
            if cuts == read:
                continue
            nodes: dict[tuple, int] = {}
            places = [
                nodes.setdefault((parent, tuple(prompt.ids[start:end])), len(nodes))
                for parent, prompt, start, end in zip(parents, prompts, read, cuts, strict=True)
            ]
            above, tokens = zip(*nodes, strict=True)
            reading, _ = extend(model, reading, list(above), list(map(list, tokens)), pad, [(0, 0)])
            parents, read = places, cuts
        found: list[list] = [[] for _ in prompts]
        leaves = [
            (index, parents[index], prompt.ids[read[index] :] + branch.ids, branch.wanted)
            for index, prompt in enumerate(prompts)
            for branch in prompt.branches
        ]
        size = model.get_output_embeddings().weight.shape[0]
        for chunk in _chunks(leaves, rows, max(1, LOGITS_AT_ONCE // size)):
            for (index, *_), values in zip(chunk, _leaves(model, reading, chunk, pad), strict=True):
                found[index].append(values)
    return found


def _chunks(leaves: list[tuple], rows: int, places: int) -> Iterator[list[tuple]]:
    """Leaves in runs of at most so many rows and, unless it is one leaf, so many places."""
    chunk: list[tuple] = []
    wanted = 0
    for leaf in leaves:
        if chunk and (len(chunk) == rows or wanted + len(leaf[3]) > places):
            yield chunk
            chunk, wanted = [], 0
        chunk.append(leaf)
        wanted += len(leaf[3])
    if chunk:
        yield chunk


def _leaves(
    model: Any, reading: Reading | None, leaves: list[tuple], pad: int
) -> list[list[list[float]]]:
    """What each leaf (prompt, parent, ids, wanted) wants: ``[leaf][place][wanted token]``."""
    import torch

    from malmat.lm.cache import has_room, new_cache

    tokens = [ids for _, _, ids, _ in leaves]
    wanted = [wants for *_, wants in leaves]
    # A leaf's last len(wanted) tokens are those after which something is wanted.
    places = [
        (row, len(ids) - len(wants) + place)
        for row, (ids, wants) in enumerate(zip(tokens, wanted, strict=True))
        for place in range(len(wants))
    ]
    if has_room(new_cache(model)):
        logits = extend(model, reading, [leaf[1] for leaf in leaves], tokens, pad, places)[1]
    else:
        ids, mask = padded(tokens, pad, model.device)
        shifted = [(row, ids.shape[1] - len(tokens[row]) + column) for row, column in places]
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        logits = logits_at(model, shifted, use_cache=False, **inputs)
    flat = [want for wants in wanted for want in wants]
    rows = torch.tensor([row for row, want in enumerate(flat) for _ in want], device=model.device)
    columns = torch.tensor([token for want in flat for token in want], device=model.device)
    values = iter((logits[rows, columns] - logits.logsumexp(-1)[rows]).tolist())
    return [[[next(values) for _ in want] for want in wants] for wants in wanted]
