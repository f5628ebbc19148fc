"""Scores of answers to typed questions: the contest's own figures, and others beside them.

By the evaluation code that went round: a 선다형 answer is right where it is the key's string; a
단답형 answer where it is, stripped, one of the alternatives; a 서술형 answer has the mean of
ROUGE-1 F1 over MeCab-ko morphemes, BERTScore F1 and BLEURT-20. The final score is the plain mean
over the types present.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from malmat.contests.typed_questions import CHOICE, LONG, SHORT, TYPES
from malmat.evaluate import stats
from malmat.evaluate.items import OutOfRange, read_label
from malmat.evaluate.korean_metrics import kiwi_words, mecab_words, relaxed, verbatim
from malmat.evaluate.neural_metrics import Metric, Missing
from malmat.evaluate.scorers import accuracy, plain, rouge1
from malmat.evaluate.task import Row, cluster

ROUGE, BERT, BLEURT = "rouge1_mecab", "bertscore", "bleurt"
OFFICIAL = {CHOICE: ("accuracy",), SHORT: ("exact",), LONG: (ROUGE, BERT, BLEURT)}
"""Type → the contest's metrics; a type's score is their mean."""

NAMES = {BERT: "BERTScore", BLEURT: "BLEURT"}
MOST_BY_KIWI = 2000
"""Long answers beyond which Kiwi's figure is computed only on demand: it takes ten times as long
as MeCab's."""


def picked(row: Row) -> dict:
    """1 where the answer, read as a choice (its number in a sentence, or its text), is the key."""
    answer, labels, options = row["answer"], row["choices"], row.get("options") or []
    named = [label for label, text in zip(labels, options, strict=False) if _same(answer, text)]
    try:
        label = named[0] if len(named) == 1 else read_label(answer, labels)
    except (OutOfRange, ValueError):
        label = ""
    return {"value": float(label == row["target"])}


def _same(answer: str, text: str) -> bool:
    return plain(answer) == plain(text)


METRICS: dict[str, dict[str, Callable[[Row], dict]]] = {
    CHOICE: {"accuracy": accuracy, "accuracy_read": picked},
    SHORT: {"exact": verbatim, "exact_relaxed": relaxed},
    LONG: {ROUGE: partial(rouge1, tokens=mecab_words)},
}
BY_KIWI = {"rouge1_kiwi": partial(rouge1, tokens=kiwi_words)}


def scored(
    rows: Sequence[Row], *, neural: Mapping[str, Metric], kiwi: bool
) -> tuple[list[Row], dict[str, str]]:
    """The rows with ``scores`` (metric → value), and metric → why it is missing.

    A row whose status is not ok has no scores.

    Args:
        rows: items with ``answer`` and ``status``.
        neural: the metrics ``bertscore`` and ``bleurt``.
        kiwi: whether ROUGE-1 over Kiwi's morphemes is computed, too.
    """
    good = [row for row in rows if row["status"] == "ok"]
    values: dict[str, dict[str, float]] = {row["id"]: {} for row in good}
    for row in good:
        metrics = METRICS[row["type"]] | (BY_KIWI if kiwi and row["type"] == LONG else {})
        values[row["id"]] = {name: metric(row)["value"] for name, metric in metrics.items()}
    long = [row for row in good if row["type"] == LONG]
    missing = {}
    for name, metric in neural.items() if long else ():
        answers, references = [row["answer"] for row in long], [row["target"] for row in long]
        try:
            found = metric(answers, references)
            others = metric(answers, references[1:] + references[:1])
        except Missing as reason:
            missing[name] = str(reason)
            continue
        for row, value, other in zip(long, found, others, strict=True):
            values[row["id"]] |= {name: value, f"{name}_of_random_pairs": other}
    return [{**row, "scores": values.get(row["id"], {})} for row in rows], missing


def official(row: Row) -> float | None:
    """A row's value by the contest's metrics that are there; None for a row without scores."""
    known = [row["scores"][name] for name in OFFICIAL[row["type"]] if name in row["scores"]]
    return sum(known) / len(known) if known else None


def summary(rows: Sequence[Row], value: Callable[[Row], float | None]) -> dict[str, Any]:
    """The mean of a value with its interval over topics, counts and bounds."""
    found = [value(row) for row in rows]
    rate = all(one in (None, 0.0, 1.0) for one in found)
    clusters = [cluster(row) for row in rows]
    return stats.summarize(found, low=0.0, high=1.0, clusters=clusters, rate=rate)


def of_metric(name: str) -> Callable[[Row], float | None]:
    return lambda row: row["scores"].get(name)


def summaries(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Type → ``metrics`` (name → summary), ``category`` and ``domain`` (value → summary of the
    official value), and the chance of a guess where there are choices."""
    found: dict[str, dict[str, Any]] = {}
    for kind in types_of(rows):
        some = [row for row in rows if row["type"] == kind]
        names = dict.fromkeys(name for row in some for name in row["scores"])
        found[kind] = {"metrics": {name: summary(some, of_metric(name)) for name in names}}
        for field in ("category", "domain"):
            values = dict.fromkeys(row.get(field) for row in some)
            found[kind][field] = {
                value: summary([row for row in some if row.get(field) == value], official)
                for value in values
                if value
            }
        if kind == CHOICE:
            found[kind]["chance"] = sum(1 / len(row["choices"]) for row in some) / len(some)
    return found


def types_of(rows: Sequence[Row]) -> list[str]:
    present = {row["type"] for row in rows}
    return [kind for kind in TYPES if kind in present]


def final_of(parts: Mapping[str, float]) -> float:
    """The plain mean of the types' scores."""
    return sum(parts.values()) / len(parts)


def final_name(missing: Mapping[str, str]) -> str:
    """``final``; without a metric of the contest's it is named after what it lacks."""
    lacking = [NAMES[name] for name in (BLEURT, BERT) if name in missing]
    return f"final_without_{'_and_'.join(lacking)}" if lacking else "final"


def final_summary(rows: Sequence[Row], other: Sequence[Row] | None = None) -> dict[str, Any]:
    """The final score of the rows that have one, with its interval over topics.

    Args:
        other: the same rows with another model's answers: the difference (other less rows) is
            summarized in the place of the score, over the rows that both have a score for.

    Returns:
        ``value`` and ``interval`` (None where a type has no scored row), ``bounds``: with the
        rows that have no score at 0 and at 1 (of a score alone), ``n_scored``, ``n_total``.
    """
    kinds = types_of(rows)
    values = {row["id"]: official(row) for row in rows}
    if other is not None:
        for row in other:
            first, second = values.get(row["id"]), official(row)
            values[row["id"]] = None if first is None or second is None else second - first
        values |= dict.fromkeys(values.keys() - {row["id"] for row in other})
    known = [row for row in rows if values[row["id"]] is not None]
    counts = {"n_scored": len(known), "n_total": len(rows)}
    if types_of(known) != kinds:
        return {"value": None, "interval": None, "bounds": None, **counts}
    columns = np.zeros((len(known), 2 * len(kinds)))
    for place, row in enumerate(known):
        at = 2 * kinds.index(row["type"])
        columns[place, at : at + 2] = values[row["id"]], 1
    sums = stats.sums_by_cluster(columns, [cluster(row) for row in known])

    def of_sums(total: np.ndarray) -> np.ndarray:
        with np.errstate(invalid="ignore"):
            return (total[..., 0::2] / total[..., 1::2]).mean(-1)

    low, high = stats.cluster_bootstrap(sums, of_sums)
    value = float(of_sums(columns.sum(0)))
    return {
        "value": value,
        "interval": None if np.isnan(low) else [low, high],
        "bounds": None if other is not None else _bounds(rows, kinds, values),
        **counts,
    }


def _bounds(
    rows: Sequence[Row], kinds: Sequence[str], values: Mapping[str, float | None]
) -> list[float]:
    ends = []
    for end in (0.0, 1.0):
        parts = {}
        for kind in kinds:
            some = [values[row["id"]] for row in rows if row["type"] == kind]
            parts[kind] = sum(end if value is None else value for value in some) / len(some)
        ends.append(final_of(parts))
    return ends


def length_agreement(rows: Sequence[Row]) -> dict[str, dict[str, float | None]]:
    """Metric → Spearman's rho of long answers' values with ``length`` (characters), and with
    ``difference``: how far that is from the reference's; None below three answers or without
    spread."""
    from scipy.stats import spearmanr

    long = [row for row in rows if row["type"] == LONG and row["scores"]]
    lengths = [len(row["answer"]) for row in long]
    gaps = [abs(len(row["answer"]) - len(row["target"])) for row in long]
    found: dict[str, dict[str, float | None]] = {}
    for name in dict.fromkeys(name for row in long for name in row["scores"]):
        values = [row["scores"][name] for row in long]
        found[name] = {}
        for what, other in (("length", lengths), ("difference", gaps)):
            spread = len(values) > 2 and len(set(values)) > 1 and len(set(other)) > 1
            found[name][what] = float(spearmanr(values, other).statistic) if spread else None
    return found
