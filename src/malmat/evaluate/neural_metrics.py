"""BERTScore and BLEURT, where their packages and weights are on this machine.

Nothing is fetched: what is not there is missing, and a missing metric has no value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

BERT = "bert-base-multilingual-cased"
BERT_LAYER = 9
"""Of 12: the layer that bert-score takes of this model."""


class Missing(Exception):
    """A metric cannot be computed here; the message says why."""


def bert_scores(answers: Sequence[str], references: Sequence[str], model: str) -> list[float]:
    """BERTScore F1 (Zhang 2020), not rescaled.

    Args:
        model: a folder, or a name whose weights are in the hub's cache.

    Raises:
        Missing: no package, or no weights.
    """
    try:
        from bert_score import BERTScorer
    except ImportError:
        raise Missing("the package bert-score is not installed") from None
    if not Path(model).is_dir():
        from huggingface_hub import try_to_load_from_cache

        if not isinstance(try_to_load_from_cache(model, "config.json"), str):
            raise Missing(f"the weights of {model} are not on this machine (--bertscore FOLDER)")
    try:
        scorer = BERTScorer(model_type=model, num_layers=BERT_LAYER)
    except (OSError, ValueError) as error:
        raise Missing(f"{model} cannot be loaded ({error})") from None
    return [float(value) for value in scorer.score(list(answers), list(references))[2]]


def bleurt_scores(answers: Sequence[str], references: Sequence[str], folder: str) -> list[float]:
    """BLEURT-20 (Sellam 2020).

    Args:
        folder: its checkpoint; "" for none.

    Raises:
        Missing: no package, or no checkpoint.
    """
    try:
        from bleurt.score import BleurtScorer
    except ImportError:
        raise Missing("the package bleurt is not installed") from None
    if not folder or not Path(folder).is_dir():
        raise Missing("its checkpoint is not on this machine (--bleurt FOLDER)")
    scorer = BleurtScorer(folder)
    return [float(v) for v in scorer.score(references=list(references), candidates=list(answers))]


Metric = Callable[[Sequence[str], Sequence[str]], list[float]]
"""Answers and their references → a value a pair."""
