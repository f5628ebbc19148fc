"""Near-duplicates by character n-grams: MinHash finds candidates, exact Jaccard decides.

Broder (1997), *On the resemblance and containment of documents*. Texts are compared
after NFKC and jamo normalisation and without spaces, punctuation and laughter
(``malmat.pairs.squeeze``), so that ㅋㅋ or a space more does not hide a copy.
"""

from __future__ import annotations

import unicodedata

from malmat.pairs import squeeze

THRESHOLD = 0.7
"""Jaccard similarity of character 3-grams from which two texts count as near-duplicates."""

_SIZE = 3
_PERMUTATIONS = 128


def shingles(text: str) -> frozenset[str]:
    """Character 3-grams of the text, normalised; a shorter text is its own only one."""
    plain = squeeze(unicodedata.normalize("NFKC", text))
    if len(plain) <= _SIZE:
        return frozenset([plain] if plain else [])
    return frozenset(plain[i : i + _SIZE] for i in range(len(plain) - _SIZE + 1))


class NearDuplicates:
    """An index of texts that finds those like a given one.

    Args:
        threshold: Jaccard similarity that counts as a near-duplicate.
    """

    def __init__(self, threshold: float = THRESHOLD):
        from datasketch import MinHashLSH

        # A lower threshold for the candidates: MinHash estimates, the exact measure decides.
        self._index = MinHashLSH(threshold=max(0.1, threshold - 0.2), num_perm=_PERMUTATIONS)
        self._threshold = threshold
        self._shingles: list[frozenset[str]] = []

    def __len__(self) -> int:
        return len(self._shingles)

    def find(self, text: str) -> list[tuple[int, float]]:
        """(number, similarity) of the texts like this one, the most similar first."""
        return self._find(shingles(text))

    def add(self, text: str) -> list[tuple[int, float]]:
        """Add a text, numbered from 0 in order; what ``find`` gave before it was added."""
        grams = shingles(text)
        sketch = _sketch(grams)
        found = self._find(grams, sketch)
        self._index.insert(len(self._shingles), sketch, check_duplication=False)
        self._shingles.append(grams)
        return found

    def _find(self, grams: frozenset[str], sketch=None) -> list[tuple[int, float]]:
        if not grams:
            return []
        found = []
        for number in self._index.query(_sketch(grams) if sketch is None else sketch):
            other = self._shingles[number]
            similarity = len(grams & other) / len(grams | other)
            if similarity >= self._threshold:
                found.append((number, similarity))
        return sorted(found, key=lambda pair: (-pair[1], pair[0]))


def _sketch(grams: frozenset[str]):
    from datasketch import MinHash

    sketch = MinHash(num_perm=_PERMUTATIONS, seed=1)
    sketch.update_batch([gram.encode() for gram in grams])
    return sketch
