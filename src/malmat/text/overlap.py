"""Finds texts that hold long stretches of another: one cut from it, or quoting it.

Near-duplicates (``duplicates``) are alike as wholes. An excerpt of a long text is not, and leaks
it all the same.
"""

from __future__ import annotations

from collections import Counter

from malmat.text.duplicates import squeeze

SIZE = 24
"""Letters of a stretch: two texts hardly share one by chance."""

ENOUGH = 0.5
"""Share of the shorter text's stretches from which it counts as taken from the other."""


class Overlaps:
    """An index of texts by their stretches of ``SIZE`` letters (``duplicates.squeeze``)."""

    def __init__(self) -> None:
        self._stretches: dict[str, list[int]] = {}
        self._counts: list[int] = []

    def add(self, text: str) -> None:
        """Add a text, numbered from 0 in order."""
        plain, number = squeeze(text), len(self._counts)
        pieces = {plain[i : i + SIZE] for i in range(0, len(plain) - SIZE + 1, SIZE)}
        for piece in pieces:
            self._stretches.setdefault(piece, []).append(number)
        self._counts.append(len(pieces))

    def find(self, text: str) -> list[tuple[int, float]]:
        """(number, share) of the texts that share enough with this one, the most first.

        The share is that of the shorter text's stretches; a text below one stretch has none.
        """
        plain = squeeze(text)
        pieces = {plain[i : i + SIZE] for i in range(len(plain) - SIZE + 1)}
        shared = Counter(n for piece in pieces for n in self._stretches.get(piece, ()))
        own = len(plain) // SIZE
        shares = [(n, hits / min(own, self._counts[n])) for n, hits in shared.items()]
        found = [(number, min(1.0, share)) for number, share in shares if share >= ENOUGH]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))
