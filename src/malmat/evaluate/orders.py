"""The options of a row in several orders: averaged, and what the pick follows.

Models favour positions ("A") whatever stands there. Averaged over orders in which each option
stands at each position equally often, that favour is the same for all of them (Zheng et al. 2024,
*Large Language Models Are Not Robust Multiple Choice Selectors*).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import islice, permutations

from malmat.errors import InputError
from malmat.evaluate.task import Item, Row
from malmat.lm.choice import normalized, spread

Order = tuple[int, ...]
"""Which option stands at each position."""

MOST = 120
"""Orders of a row: all of five options."""


def orders_of(count: int, permute: int | str | None) -> list[Order]:
    """The orders of so many options, the one in which they stand first.

    Args:
        permute: ``cyclic``, ``all``, or how many: the cyclic ones, then others. None: one.

    Raises:
        InputError: more than ``MOST``.
    """
    own = tuple(range(count))
    cyclic = [own[start:] + own[:start] for start in own]
    if permute == "cyclic":
        return cyclic
    possible = math.factorial(count)
    wanted = possible if permute == "all" else min(int(permute or 1), possible)
    if wanted > MOST:
        problem = f"{wanted:,} orders of {count} options, more than {MOST}"
        raise InputError(problem, field="permute", fix="Give cyclic, or fewer.")
    others = (order for order in permutations(own) if order not in cyclic)
    return [*cyclic, *islice(others, max(0, wanted - count))][:wanted]


def permuted(item: Item, order: Order) -> Item:
    """The item with its options in another order: the texts behind its labels, or, where it has
    none, its choices.

    Raises:
        ValueError: as many options as labels are needed.
    """
    if order == tuple(range(len(order))):
        return item
    name = "options" if item.get("options") else "choices"
    texts = item[name]  # type: ignore[literal-required]
    if len(texts) != len(order):
        raise ValueError(f"{len(texts)} options for {len(order)} choices")
    return {**item, name: [texts[place] for place in order]}  # type: ignore[misc]


def averaged(records: list[dict], orders: list[Order], labels: list[str]) -> dict:
    """One record of a row's records in several orders, its figures in the item's own order.

    The probabilities are the means of those of the orders. ``orders`` keeps each order with its
    log-probabilities (of whole texts, their likelihoods), position by position. Where one of the
    records is no answer, it is the row's.

    Args:
        labels: of the choices, in the item's order.
    """
    failed = next((record for record in records if record["status"] != "ok"), None)
    if failed or len(orders) == 1:
        return failed or records[0]
    back = [[order.index(option) for option in range(len(order))] for order in orders]
    pairs = list(zip(records, back, strict=True))
    logs = []
    for option in range(len(labels)):
        logs.append(normalized([_logs(record)[places[option]] for record, places in pairs])[1])
    found = spread(normalized(logs)[0])  # sums of as many orders each: means, once scaled to 1
    best = found["probabilities"].index(max(found["probabilities"]))
    merged = {**records[0], **found, "text": labels[best]}
    merged["usage"] = {
        side: sum(record["usage"][side] for record in records) for side in ("input", "output")
    }
    if cuts := [record["cut"] for record in records if "cut" in record]:
        merged["cut"] = max(cuts, key=lambda cut: cut["pieces"])
    if "mass" in merged:
        merged["mass"] = math.fsum(record["mass"] for record in records) / len(records)
    if "likelihoods" in merged:
        shown = [[record["likelihoods"][place] for place in places] for record, places in pairs]
        merged["likelihoods"] = [_mean(same) for same in zip(*shown, strict=True)]
        merged["picks"] = {
            name: labels[max(range(len(labels)), key=lambda n: merged["likelihoods"][n][name])]
            for name in merged["picks"]
        }
    merged["orders"] = [
        {"order": list(order), **{name: record[name] for name in STORED if name in record}}
        for record, order in zip(records, orders, strict=True)
    ]
    return merged


STORED = ("probabilities", "log_probabilities", "mass", "likelihoods")
"""What is kept of each order."""


def _logs(record: dict) -> list[float]:
    """Log-probabilities, of texts those of their comparison."""
    known = record.get("log_probabilities")
    return known or [math.log(max(p, 1e-300)) for p in record["probabilities"]]


def _mean(likelihoods: tuple[dict, ...]) -> dict:
    """The means of an option's likelihoods in several orders."""
    return {
        name: None
        if value is None
        else math.fsum(one[name] for one in likelihoods) / len(likelihoods)
        for name, value in likelihoods[0].items()
    }


def following(rows: Iterable[Row]) -> dict | None:
    """How often the pick follows the position instead of the text.

    Any two orders of a row tell, if what the first picked stands elsewhere in the second: does
    the second pick the same position? A model that goes by the text never does, one that goes by
    the position always, one that guesses once in as many times as there are options. Each row
    counts as one, however many orders it has.

    Returns:
        ``rows``, ``rate``, and for each position ``picked`` (share of all picks; equal for all
        positions where no position is favoured) and ``rate`` (None where nothing tells); None
        without rows in several orders.
    """
    told: dict[int, float] = defaultdict(float)
    followed: dict[int, float] = defaultdict(float)
    picked: dict[int, float] = defaultdict(float)
    count = 0
    for row in rows:
        orders = row.get("orders") or []
        if len(orders) < 2:
            continue
        count += 1
        picks = [_pick(one) for one in orders]
        stands = Counter(
            (option, place) for one in orders for place, option in enumerate(one["order"])
        )
        same, at = Counter(picks), Counter(place for _, place in picks)
        pairs = [(place, len(orders) - stands[option, place]) for option, place in picks]
        total = sum(number for _, number in pairs)
        for (option, place), (_, number) in zip(picks, pairs, strict=True):
            picked[place] += 1 / len(orders)
            if total:
                told[place] += number / total
                followed[place] += (at[place] - same[option, place]) / total
    if not count:
        return None
    positions = [
        {
            "picked": picked[place] / count,
            "rate": followed[place] / told[place] if told[place] else None,
        }
        for place in range(max(picked) + 1)
    ]
    whole = sum(told.values())
    return {
        "rows": count,
        "rate": sum(followed.values()) / whole if whole else None,
        "positions": positions,
    }


def _pick(one: dict) -> tuple[int, int]:
    """The option that an order picks, and its position."""
    values = _logs(one)
    place = values.index(max(values))
    return one["order"][place], place
