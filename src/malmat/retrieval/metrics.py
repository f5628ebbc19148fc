"""What a ranking is worth where the right passages are known (qrels)."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

from malmat.text.duplicates import squeeze


def recall(found: Sequence[str], right: Collection[str], k: int) -> float:
    """Share of the right passages among the first ``k``; repeats of one count once."""
    return len(set(found[:k]) & set(right)) / len(set(right))


def reciprocal_rank(found: Sequence[str], right: Collection[str]) -> float:
    """1 / the rank of the first right passage, 0 where there is none. Its mean is MRR."""
    return next((1 / rank for rank, name in enumerate(found, 1) if name in right), 0.0)


def ndcg(found: Sequence[str], right: Collection[str], k: int) -> float:
    """Normalized discounted cumulative gain of binary relevance, cut at ``k``.

    Järvelin & Kekäläinen (2002), with the discount 1 / log2(rank + 1). A passage counts where it
    stands first.
    """
    first = dict.fromkeys(found)
    ranks = [rank for rank, name in enumerate(first, 1) if name in right and rank <= k]
    ideal = sum(1 / math.log2(rank + 1) for rank in range(1, min(k, len(set(right))) + 1))
    return sum(1 / math.log2(rank + 1) for rank in ranks) / ideal


def holds_answer(texts: Iterable[str], answers: Iterable[str]) -> bool:
    """Whether one of the answers stands in one of the texts, spaces, marks and case aside."""
    plain = [squeeze(text) for text in texts]
    return any(key in text for answer in answers if (key := squeeze(answer)) for text in plain)
