"""What can be had of items with options without a language model: the floor under every score.

Each function gives points for the options of each item: id → a number an option. The option with
the most points is the answer, the first one of several.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from malmat.evaluate.task import Item, Row
from malmat.text.duplicates import squeeze

Points = dict[str, list[float]]

GRAMS = (2, 4)
"""Characters of the n-grams that ``options_only`` knows options by."""


def chance(items: Sequence[Item], *, seed: int) -> Points:
    """A number from 0 to 1, drawn anew for each option by seed, item and place."""
    return {
        item["id"]: [random.Random(f"{seed} {item['id']} {n}").random() for n in _places(item)]
        for item in items
    }


def by_length(items: Sequence[Item], sign: int) -> Points:
    """The characters of each option, times ``sign``: 1 picks the longest, -1 the shortest."""
    return {item["id"]: [sign * float(len(text)) for text in item["options"]] for item in items}


def by_overlap(items: Sequence[Item], text_of: Callable[[Item], str]) -> Points:
    """The share of each option's character bigrams that stand in a text of the item, too."""
    points = {}
    for item in items:
        known = _bigrams(text_of(item))
        shares = [
            (grams := _bigrams(text)) and len(grams & known) / len(grams)
            for text in item["options"]
        ]
        points[item["id"]] = [float(share or 0) for share in shares]
    return points


def most_frequent(train: Sequence[Item], items: Sequence[Item]) -> Points:
    """How often each choice is the right one in ``train``."""
    counts = Counter(item["target"] for item in train)
    return {item["id"]: [float(counts[c]) for c in item["choices"]] for item in items}


def options_only(train: Sequence[Item], items: Sequence[Item]) -> Points:
    """Each option's log-odds of being right, from its own wording alone.

    A logistic regression on TF-IDF of character n-grams (``GRAMS``), which sees neither the
    question nor the other options.
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    words = TfidfVectorizer(analyzer="char", ngram_range=GRAMS, sublinear_tf=True)
    model = make_pipeline(words, LogisticRegression(max_iter=1000))
    right = [choice == item["target"] for item in train for choice in item["choices"]]
    model.fit([text for item in train for text in item["options"]], right)
    odds = iter(model.decision_function([text for item in items for text in item["options"]]))
    return {item["id"]: [float(next(odds)) for _ in item["options"]] for item in items}


def out_of_fold(
    items: Sequence[Item],
    folds: Mapping[str, int],
    fitted: Callable[[Sequence[Item], Sequence[Item]], Points],
) -> Points:
    """The points of each fold's items by what was fitted to the items of the other folds.

    Args:
        folds: id → fold.
    """
    points: Points = {}
    for fold in sorted(set(folds.values())):
        held = [item for item in items if folds[item["id"]] == fold]
        points |= fitted([item for item in items if folds[item["id"]] != fold], held)
    return {item["id"]: points[item["id"]] for item in items}


def answered(items: Sequence[Item], points: Points) -> list[Row]:
    """The items with the choice that has the most points, as rows of answers."""
    rows = []
    for item in items:
        own = points[item["id"]]
        answer = item["choices"][max(_places(item), key=own.__getitem__)]
        rows.append({**item, "answer": answer, "status": "ok", "points": own})
    return rows


def _places(item: Item) -> range:
    return range(len(item["options"]))


def _bigrams(text: str) -> set[str]:
    plain = squeeze(text)
    return {plain[n : n + 2] for n in range(len(plain) - 1)}
