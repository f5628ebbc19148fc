"""What can be had of multiple-choice items without reading them: place and length of the key."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from malmat.sources.row import Mcq


def answer_positions(items: Iterable[Mcq]) -> dict[int, list[int]]:
    """Number of choices → how many answers stand at each place."""
    found: dict[int, list[int]] = {}
    for item in items:
        if item.answer is not None:
            counts = found.setdefault(len(item.choices), [0] * len(item.choices))
            counts[item.answer - 1] += 1
    return dict(sorted(found.items()))


def position_skew(items: Iterable[Mcq]) -> dict[str, dict[str, Any]]:
    """By number of choices: the answers' places, and the p of Pearson's chi-square test that all
    places are alike."""
    from scipy.stats import chisquare

    skew = {}
    for count, places in answer_positions(items).items():
        tested = chisquare(places)
        skew[str(count)] = {
            "places": places,
            "chi_square": round(float(tested.statistic), 4),
            "p": round(float(tested.pvalue), 6),
        }
    return skew


def longest_is_right(items: Sequence[Mcq]) -> dict[str, Any]:
    """How often the one longest choice is the right one, and how often by chance.

    Items without a single longest choice do not count.
    """
    right, chance, n = 0, 0.0, 0
    for item in items:
        lengths = [len(text) for text in item.choices]
        if item.answer is None or lengths.count(max(lengths)) > 1:
            continue
        n += 1
        right += lengths.index(max(lengths)) + 1 == item.answer
        chance += 1 / len(lengths)
    if not n:
        return {"n": 0, "share": None, "chance": None}
    return {"n": n, "share": round(right / n, 4), "chance": round(chance / n, 4)}


def skew_lines(items: Sequence[Mcq]) -> list[str]:
    """Both, in lines for the terminal."""
    lines = []
    for count, one in position_skew(items).items():
        places = " ".join(map(str, one["places"]))
        lines.append(f"right answers of {count} choices: {places} (chi-square p {one['p']:.3f})")
    longest = longest_is_right(items)
    if longest["n"]:
        lines.append(
            f"the longest choice is right in {longest['share']:.2f} of {longest['n']} "
            f"(by chance {longest['chance']:.2f})"
        )
    return lines
