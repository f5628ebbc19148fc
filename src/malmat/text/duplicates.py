"""Near-duplicates by character n-grams: MinHash finds candidates, exact Jaccard decides.

Broder (1997), *On the resemblance and containment of documents*. Texts are compared
by their letters alone (``squeeze``), so that ㅋㅋ or a space more does not hide a copy.

datasketch computes the sketches and the banding. Its ``MinHashLSH`` keeps its tables in
memory, which at 100,000 texts took 21 s and 962 MiB; the same tables in a temporary
database on the disk took 26 s and 123 MiB (84 MiB of either are the libraries), with the
same pairs found.
"""

from __future__ import annotations

import functools
import hashlib
import re
import sqlite3
from typing import Any

from malmat.text.korean import fold

THRESHOLD = 0.7
"""Jaccard similarity of character 3-grams from which two texts count as near-duplicates."""


_SIZE = 3
"""Characters a gram."""


_PERMUTATIONS = 128
"""Hash values a sketch."""


_MOST = 128
"""Grams of a text that its sketch is made of: those with the lowest hashes, which texts that are
alike share as they share all (Broder's bottom sketch). Longer texts would take as much longer."""


_BUCKET = 200
"""Texts that a bucket takes. Where more share one, it tells them apart no more: among thousands of
like texts (a template with a word exchanged) each would be held against all others. One that comes
later is still held against the first of each of its buckets."""


_CACHE_KIB = 16384
"""Memory of the database."""


def squeeze(text: str) -> str:
    """A text's letters and digits, folded, without laughter: ``ＴＭＩ, 음 ㅋㅋ`` → ``tmi음``."""
    return re.sub(r"[\W_ㅋㅎㅠㅜ]+", "", fold(text)).lower()


def shingles(text: str) -> frozenset[str]:
    """Character 3-grams of the squeezed text; a shorter text is its own only one."""
    return _grams(squeeze(text))


def _grams(plain: str) -> frozenset[str]:
    if len(plain) <= _SIZE:
        return frozenset([plain] if plain else [])
    return frozenset(plain[i : i + _SIZE] for i in range(len(plain) - _SIZE + 1))


def similarity(one: frozenset[str], other: frozenset[str]) -> float:
    """Jaccard similarity of two sets of shingles: 0 to 1, and 0 where both are empty."""
    together = len(one | other)
    return len(one & other) / together if together else 0.0


class NearDuplicates:
    """An index of texts that finds those like a given one.

    It lies in a temporary database on the disk, deleted with the index, so that the
    memory it needs is the same for a hundred texts and for a hundred thousand.

    Args:
        threshold: Jaccard similarity that counts as a near-duplicate.
    """

    def __init__(self, threshold: float = THRESHOLD):
        from datasketch import MinHashLSH

        # A lower threshold for the candidates: MinHash estimates, the exact measure decides.
        banding = MinHashLSH(threshold=max(0.1, threshold - 0.2), num_perm=_PERMUTATIONS)
        self._bands, self._rows = banding.b, banding.r
        self._threshold = threshold
        self._count = 0
        self._base = sqlite3.connect("", isolation_level=None)
        for statement in (
            f"PRAGMA cache_size = -{_CACHE_KIB}",
            "PRAGMA journal_mode = OFF",  # nothing in it outlives the process
            "CREATE TABLE texts (number INTEGER PRIMARY KEY, plain TEXT)",
            "CREATE TABLE bands (band INTEGER, number INTEGER, PRIMARY KEY (band, number)) "
            "WITHOUT ROWID",
            "BEGIN",
        ):
            self._base.execute(statement)

    def __len__(self) -> int:
        return self._count

    def find(self, text: str) -> list[tuple[int, float]]:
        """(number, similarity) of the texts like this one, the most similar first."""
        plain = squeeze(text)
        return self._like(plain, set().union(*self._buckets(plain).values()))

    def add(self, text: str, *, only_new: bool = False) -> list[tuple[int, float]]:
        """Add a text, numbered from 0 in order; what ``find`` gave before it was added.

        Args:
            only_new: leave out a text that something was found for.
        """
        plain = squeeze(text)
        buckets = self._buckets(plain)
        found = self._like(plain, set().union(*buckets.values()))
        if found and only_new:
            return found
        self._base.execute("INSERT INTO texts VALUES (?, ?)", (self._count, plain))
        self._base.executemany(
            "INSERT INTO bands VALUES (?, ?)",
            [(key, self._count) for key, inside in buckets.items() if len(inside) < _BUCKET],
        )
        self._count += 1
        return found

    def _buckets(self, plain: str) -> dict[int, list[int]]:
        """The buckets of a text, each with the numbers of the texts that are in it."""
        buckets: dict[int, list[int]] = {key: [] for key in self._keys(plain)}
        marks = ", ".join("?" * len(buckets))
        for key, number in self._base.execute(
            f"SELECT band, number FROM bands WHERE band IN ({marks})", list(buckets)
        ):
            buckets[key].append(number)
        return buckets

    def _like(self, plain: str, candidates: set[int]) -> list[tuple[int, float]]:
        """(number, similarity) of the candidates that are near, the most similar first."""
        if not candidates:
            return []
        rows = self._base.execute(
            f"SELECT number, plain FROM texts WHERE number IN ({', '.join('?' * len(candidates))})",
            sorted(candidates),
        )
        grams = _grams(plain)
        measured = ((number, similarity(grams, _grams(other))) for number, other in rows)
        found = [pair for pair in measured if pair[1] >= self._threshold]
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))

    def _keys(self, plain: str) -> list[int]:
        """The buckets of a text: 64 bits a band of its MinHash; texts that share one may match."""
        if not plain:
            return []
        sketch = _empty_sketch().copy()
        sketch.update_batch(_lowest_hashes(plain))
        values = sketch.hashvalues
        return [
            int.from_bytes(
                hashlib.blake2b(
                    values[band * self._rows : (band + 1) * self._rows].tobytes(),
                    digest_size=8,
                    salt=band.to_bytes(4, "little"),
                ).digest(),
                "little",
                signed=True,
            )
            for band in range(self._bands)
        ]


@functools.cache
def _empty_sketch() -> Any:
    """Made once: drawing the permutations takes longer than a sketch."""
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS, seed=1, hashfunc=int)


def _lowest_hashes(plain: str) -> list[int]:
    """The ``_MOST`` lowest of the 32-bit hashes of a squeezed text's grams."""
    import numpy as np

    letters = np.frombuffer(plain.ljust(_SIZE, "\0").encode("utf-32-le", "surrogatepass"), "<u4")
    letters = letters.astype(np.uint64)
    grams = letters[:-2] << 42 | letters[1:-1] << 21 | letters[2:]  # a letter has 21 bits
    # The finalizer of SplitMix64 (Steele et al. 2014): each bit depends on all three letters.
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        grams = (grams ^ grams >> np.uint64(shift)) * np.uint64(factor)
    hashes = np.unique(grams >> np.uint64(32))
    return hashes[:_MOST].tolist()
