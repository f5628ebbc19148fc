"""Log-probabilities of tokens behind many prompts, all that is shared being read once.

Prompts of one passage share it, the orders of a question's options share the question, the
branches of a prompt (its choices) share the prompt. The sequences of a batch are a tree. What its
nodes at one depth hold is read together, from the keys and values of the nodes above.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from malmat.lm.gguf import GgufModel
from malmat.lm.read import Reading, common, extend, logits_at, padded

if TYPE_CHECKING:
    import torch

LOGITS_AT_ONCE = 2**26
"""Logits that a forward pass may make: 256 MB in float32, 256 places of Gemma's vocabulary."""

WORTH = 16
"""Tokens that have to be saved for a shared beginning to be read on its own."""

ENOUGH = {"cpu": 256, "cuda": 4096}
"""Tokens from which on a forward pass gains nothing by further rows."""

PADDING = 1 / 32
"""Padding among the tokens of such a pass, beyond which it is better cut in two."""


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


@dataclass(eq=False)
class Node:
    """Tokens that several sequences go through.

    Args:
        above: the node whose end they follow.
        end: tokens from the beginning to the node's end.
        read: the reading and its row that end with the node, while they are needed.
    """

    above: Node | None
    tokens: list[int]
    end: int
    depth: int
    read: tuple[Reading, int] | None = None


def tree(sequences: list[list[int]], most: list[int]) -> tuple[list[Node], list[Node | None]]:
    """What sequences share, where it is worth a reading of its own.

    Args:
        most: how many tokens of each may be shared.

    Returns:
        The nodes, each after the one above it, and the last node of each sequence, if any.
    """
    nodes: list[Node] = []
    last: list[Node | None] = [None] * len(sequences)

    def grow(group: list[int], above: Node | None) -> None:
        start = above.end if above else 0
        shared = min(common([sequences[i] for i in group]), *(most[i] for i in group))
        parts: dict[Any, list[int]] = {}
        for i in group:
            following = sequences[i][shared] if most[i] > shared else (i,)
            parts.setdefault(following, []).append(i)
        if (len(parts) - 1) * (shared - start) >= WORTH:
            depth = above.depth + 1 if above else 0
            above = Node(above, sequences[group[0]][start:shared], shared, depth)
            nodes.append(above)
            for i in group:
                last[i] = above
        for part in parts.values():
            if len(part) > 1:
                grow(part, above)

    if len(sequences) > 1:
        grow(list(range(len(sequences))), None)
    return nodes, last


@dataclass(eq=False)
class Leaf:
    """The rest of a sequence behind its last node. After each of its last ``len(wanted)`` tokens
    something is wanted."""

    prompt: int
    above: Node | None
    tokens: list[int]
    wanted: list[list[int]]


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

    if isinstance(model, GgufModel):
        return model.branch_log_probabilities(prompts)
    branches = [(index, prompt, b) for index, prompt in enumerate(prompts) for b in prompt.branches]
    sequences = [prompt.ids + branch.ids for _, prompt, branch in branches]
    nodes: list[Node] = []
    last: list[Node | None] = [None] * len(sequences)
    # Other caches (recurrent layers) hold a row's end and cannot be branched from.
    if has_room(new_cache(model)):
        nodes, last = tree(sequences, [len(prompt.ids) - 1 for _, prompt, _ in branches])
    leaves = [
        Leaf(index, above, sequence[above.end if above else 0 :], branch.wanted)
        for (index, _, branch), sequence, above in zip(branches, sequences, last, strict=True)
    ]
    places = max(1, LOGITS_AT_ONCE // model.get_output_embeddings().weight.shape[0])
    enough = ENOUGH.get(model.device.type, ENOUGH["cuda"])
    found: dict[Leaf, list] = {}
    with torch.inference_mode():
        for depth in range(-1, max((node.depth for node in nodes), default=-1) + 1):
            level = [node for node in nodes if node.depth == depth]
            for some in _chunks(level, rows, len(level), enough):
                reading, _ = _read(model, some, pad, [(0, 0)])
                for row, node in enumerate(some):
                    node.read = (reading, row)
            for node in nodes:
                if node.depth < depth:
                    node.read = None
            ends = [leaf for leaf in leaves if (leaf.above.depth if leaf.above else -1) == depth]
            for chunk in _chunks(ends, rows, places, enough):
                for leaf, values in zip(chunk, _leaves(model, chunk, pad), strict=True):
                    found[leaf] = values
    ordered: list[list] = [[] for _ in prompts]
    for leaf in leaves:
        ordered[leaf.prompt].append(found[leaf])
    return ordered


def _chunks(items: list, rows: int, places: int, enough: int) -> Iterator[list]:
    """Nodes or leaves of like length: at most so many rows and, unless it is one leaf, so many
    wanted places; fewer where more would be padding."""
    chunk: list = []
    tokens = wanted = 0
    for item in sorted(items, key=lambda item: -len(item.tokens)):
        more = len(getattr(item, "wanted", ()))
        size = tokens + len(item.tokens)
        filled = (len(chunk) + 1) * len(chunk[0].tokens) if chunk else size
        padded_out = tokens >= enough and filled - size > PADDING * filled
        if chunk and (len(chunk) == rows or wanted + more > places or padded_out):
            yield _by_reading(chunk)
            chunk, tokens, wanted = [], 0, 0
        chunk.append(item)
        tokens += len(item.tokens)
        wanted += more
    if chunk:
        yield _by_reading(chunk)


def _by_reading(chunk: list) -> list:
    """A chunk, those side by side that follow one reading."""
    groups: dict[int, list] = {}
    for item in chunk:
        groups.setdefault(id(item.above.read[0]) if item.above else 0, []).append(item)
    return [item for group in groups.values() for item in group]


def _read(
    model: Any, chunk: list, pad: int, places: list[tuple[int, int]]
) -> tuple[Reading, torch.Tensor]:
    """Read on with the tokens of nodes or leaves of one depth, as ``extend`` does."""
    above = [item.above.read for item in chunk if item.above]
    runs = (list(run) for _, run in groupby(above, key=lambda read: id(read[0])))
    parts = [(run[0][0], [row for _, row in run]) for run in runs]
    return extend(model, parts, [item.tokens for item in chunk], pad, places)


def _leaves(model: Any, leaves: list[Leaf], pad: int) -> list[list[list[float]]]:
    """What each leaf wants: ``[leaf][place][wanted token]``."""
    import torch

    from malmat.lm.cache import has_room, new_cache

    places = [
        (row, len(leaf.tokens) - len(leaf.wanted) + place)
        for row, leaf in enumerate(leaves)
        for place in range(len(leaf.wanted))
    ]
    if has_room(new_cache(model)):
        logits = _read(model, leaves, pad, places)[1]
    else:
        tokens = [leaf.tokens for leaf in leaves]
        ids, mask = padded(tokens, pad, model.device)
        shifted = [(row, ids.shape[1] - len(tokens[row]) + column) for row, column in places]
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        inputs = {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        logits = logits_at(model, shifted, use_cache=False, **inputs)
    flat = [want for leaf in leaves for want in leaf.wanted]
    rows = torch.tensor([row for row, want in enumerate(flat) for _ in want], device=model.device)
    columns = torch.tensor([token for want in flat for token in want], device=model.device)
    values = iter((logits[rows, columns] - logits.logsumexp(-1)[rows]).tolist())
    return [[[next(values) for _ in want] for want in leaf.wanted] for leaf in leaves]
