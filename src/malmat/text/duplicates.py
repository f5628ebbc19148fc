"""Near-duplicates by character n-grams: MinHash finds candidates, exact Jaccard decides.

Broder (1997), *On the resemblance and containment of documents*. Texts are compared
by their letters alone (``squeeze``), so that ㅋㅋ or a space more does not hide a copy.

datasketch computes the sketches and the banding. Its ``MinHashLSH`` keeps its tables in
memory, which at 100,000 short texts took 29 s and 961 MiB; the same tables in a temporary
database on the disk took 15 s and 165 MiB (30 MiB of either are the texts), the exact
measure included.
"""

from __future__ import annotations

import functools
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


_CACHE_KIB = 65536
"""Memory of the database."""


@functools.lru_cache(maxsize=64)  # a passage is squeezed for its id, and again for the index
def squeeze(text: str) -> str:
    """A text's letters and digits, folded, without laughter: ``ＴＭＩ, 음 ㅋㅋ`` → ``tmi음``."""
    return re.sub(r"[\W_ㅋㅎㅠㅜ]+", "", fold(text)).lower()


def shingles(text: str) -> frozenset[int]:
    """Character 3-grams of the squeezed text, as numbers; a shorter text is its own only one."""
    return frozenset(_grams(squeeze(text)).tolist())


def _grams(plain: str) -> Any:
    """The distinct 3-grams of a squeezed text: an ascending array of 64-bit numbers.

    A gram's number is made of its three letters by the finalizer of SplitMix64 (Steele et al.
    2014), which is a bijection each of whose bits depends on all letters.
    """
    import numpy as np

    size = _SIZE if plain else 0  # a text of fewer letters is filled up
    letters = np.frombuffer(plain.ljust(size, "\0").encode("utf-32-le", "surrogatepass"), "<u4")
    letters = letters.astype(np.uint64)
    grams = letters[:-2] << 42 | letters[1:-1] << 21 | letters[2:]  # a letter has 21 bits
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        grams = (grams ^ grams >> np.uint64(shift)) * np.uint64(factor)
    grams = np.sort(grams ^ grams >> np.uint64(31))  # np.unique takes twice as long
    distinct = np.ones(len(grams), bool)
    distinct[1:] = grams[1:] != grams[:-1]
    return grams[distinct]


def similarity(one: frozenset[int], other: frozenset[int]) -> float:
    """Jaccard similarity of two sets of shingles: 0 to 1, and 0 where both are empty."""
    shared = len(one & other)
    return shared / (len(one) + len(other) - shared) if shared else 0.0


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
            "CREATE TABLE texts (number INTEGER PRIMARY KEY, size INTEGER, plain TEXT)",
            "CREATE TABLE bands (band INTEGER, number INTEGER, PRIMARY KEY (band, number)) "
            "WITHOUT ROWID",
            "BEGIN",
        ):
            self._base.execute(statement)

    def __len__(self) -> int:
        return self._count

    def find(self, text: str) -> list[tuple[int, float]]:
        """(number, similarity) of the texts like this one, the most similar first."""
        grams = _grams(squeeze(text))
        return self._like(grams, self._buckets(grams))

    def add(self, text: str, *, only_new: bool = False) -> list[tuple[int, float]]:
        """Add a text, numbered from 0 in order; what ``find`` gave before it was added.

        Args:
            only_new: leave out a text that something was found for.
        """
        plain = squeeze(text)
        grams = _grams(plain)
        buckets = self._buckets(grams)
        found = self._like(grams, buckets)
        if found and only_new:
            return found
        row = (self._count, len(grams), plain)
        self._base.execute("INSERT INTO texts VALUES (?, ?, ?)", row)
        self._base.executemany(
            "INSERT INTO bands VALUES (?, ?)",
            [(key, self._count) for key, inside in buckets.items() if len(inside) < _BUCKET],
        )
        self._count += 1
        return found

    def _buckets(self, grams: Any) -> dict[int, list[int]]:
        """The buckets of a text, each with the numbers of the texts that are in it."""
        buckets: dict[int, list[int]] = {key: [] for key in self._keys(grams)}
        marks = ", ".join("?" * len(buckets))
        for key, number in self._base.execute(
            f"SELECT band, number FROM bands WHERE band IN ({marks})", list(buckets)
        ):
            buckets[key].append(number)
        return buckets

    def _like(self, grams: Any, buckets: dict[int, list[int]]) -> list[tuple[int, float]]:
        """(number, similarity) of the texts in the buckets that are near, the nearest first."""
        import numpy as np

        candidates = set().union(*buckets.values())
        if not candidates:
            return []
        # Sets of sizes further apart cannot be so similar; a hair wider, for rounding.
        least, most = self._threshold * len(grams) - 1e-6, len(grams) / self._threshold + 1e-6
        rows = self._base.execute(
            "SELECT number, plain FROM texts WHERE size BETWEEN ? AND ? AND number IN "
            f"({', '.join('?' * len(candidates))})",
            [least, most, *sorted(candidates)],
        )
        found = []
        for number, plain in rows:
            other = _grams(plain)
            shared = len(np.intersect1d(grams, other, assume_unique=True))
            if (near := shared / (len(grams) + len(other) - shared)) >= self._threshold:
                found.append((number, near))
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))

    def _keys(self, grams: Any) -> list[int]:
        """The buckets of a text: 64 bits a band of its MinHash; texts that share one may match."""
        if not len(grams):
            return []
        sketch = _sketch()
        sketch.clear()
        sketch.update_batch((grams[:_MOST] >> 32).tolist())
        values, width = sketch.hashvalues.tobytes(), self._rows * sketch.hashvalues.itemsize
        starts = range(0, self._bands * width, width)
        return [hash((start, values[start : start + width])) for start in starts]


@functools.cache
def _sketch() -> Any:
    """Made once and used again: drawing the permutations takes longer than a sketch."""
    from datasketch import MinHash

    return MinHash(num_perm=_PERMUTATIONS, seed=1, hashfunc=int)
