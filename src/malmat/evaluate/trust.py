"""What says how far a score may be trusted: figures beside the mean, of the same rows."""

from __future__ import annotations

import math
import re
import statistics
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from malmat.evaluate.task import Row
from malmat.files import read_rows

FAMILIES = {
    "gpt": r"gpt|chatgpt|(?<![a-z])o[134](?![a-z0-9])|davinci",
    "gemini": r"gemini|gemma|palm|embedded",  # the embedded model is a Gemma
    "claude": r"claude",
    "qwen": r"qwen|qwq",
    "exaone": r"exaone",
    "kanana": r"kanana",
    "hyperclova": r"hyperclova|clova",
    "llama": r"llama|bllossom",
    "mistral": r"mi[sx]tral",
    "deepseek": r"deepseek",
    "solar": r"solar",
}
"""Model families by what their names hold. Gemma is made from Gemini and counts with it."""


SHARE = 0.1
"""From this share of the training pairs on, who wrote them is worth a warning."""


def family_of(model: str) -> str | None:
    """The family of a model by its name, None where the name does not say."""
    name = model.casefold()
    return next((family for family, words in FAMILIES.items() if re.search(words, name)), None)


def family_warning(judge: str, model: str, writers: Iterable[str]) -> str | None:
    """Why a judge may favour what it judges, or None (Panickssery et al. 2024, self-preference).

    Args:
        judge: its name; ``lexicon`` has no family, and ``local:embedded``, which stands in where
            there is no other and ranks by likelihood, is not warned of.
        model: whose answers are judged.
        writers: the ``model`` of each training pair.
    """
    family = family_of(judge.removeprefix("local:"))
    if family is None or judge == "local:embedded":
        return None
    reasons = []
    if family_of(model) == family:
        reasons.append(f"the model under judgement ({model}) is of the judge's family ({family})")
    counts = Counter(writers)
    own = {name: count for name, count in counts.items() if family_of(name) == family}
    share = sum(own.values()) / counts.total() if counts else 0.0
    if share >= SHARE:
        reasons.append(
            f"{share:.0%} of the training pairs were written by the judge's family"
            f" ({', '.join(sorted(own))})"
        )
    return "; ".join(reasons) or None


def length_correlation(lengths: list[int], values: list[float]) -> dict | None:
    """Spearman's correlation of an answer's length in characters with its score.

    Returns:
        ``rho``, two-sided ``p``, ``n``; None below three rows, or where one of the
        two does not vary.
    """
    if len(values) < 3 or len(set(values)) < 2 or len(set(lengths)) < 2:
        return None
    from scipy.stats import spearmanr

    result = spearmanr(lengths, values)
    return {"rho": float(result.statistic), "p": float(result.pvalue), "n": len(values)}


def self_agreement(judgements: list[list[float]]) -> dict | None:
    """How far a judge that is asked again says the same.

    Args:
        judgements: the values of each row.

    Returns:
        ``n_judgements`` (the most a row has), ``n`` rows with two or more, ``exact``
        (share of them where all agree) and ``mean_sd`` (mean sample standard
        deviation within a row); None where no row has two.
    """
    several = [[float(value) for value in row] for row in judgements if len(row) > 1]
    if not several:
        return None
    return {
        "n_judgements": max(map(len, several)),
        "n": len(several),
        "exact": sum(len(set(row)) == 1 for row in several) / len(several),
        "mean_sd": math.fsum(map(statistics.stdev, several)) / len(several),
    }


def pair_writers(path: str) -> list[str]:
    """The ``model`` of each training pair, nested or flat; [] where there is no such file."""
    if not Path(path).exists():
        return []
    rows = [row for _, row in read_rows(path) if isinstance(row, dict)]
    pairs = [pair for row in rows for pair in row.get("conversations") or [row]]
    return [str(pair["model"]) for pair in pairs if isinstance(pair, dict) and pair.get("model")]


def trust_figures(rows: list[Row], judge: str, model: str, writers: list[str]) -> dict:
    """All of them, for the rows of a score file.

    Args:
        rows: with ``answer``, ``status``, ``stage`` and ``value``.
        judge: the scorer's name.
    """
    scored = [row for row in rows if row["value"] is not None]
    answered = [r for r in rows if r["stage"] == "judge" or r["status"] in ("leaked", "truncated")]
    leaked = sum(row["status"] == "leaked" for row in answered)
    versions = {row["judge_version"] for row in rows if row.get("judge_version")}
    return {
        "length_correlation": length_correlation(
            [len(row["answer"]) for row in scored], [float(row["value"]) for row in scored]
        ),
        "run_on_rate": {
            "leaked": leaked,
            "total": len(answered),
            "rate": leaked / len(answered) if answered else 0.0,
        },
        "self_agreement": self_agreement([row.get("judge_values") or [] for row in rows]),
        "judge_family_warning": family_warning(judge, model, writers),
        "judge_versions": sorted(versions),
    }


def trust_lines(trust: dict) -> list[str]:
    """The same for people, a line a figure."""
    lines = []
    if length := trust["length_correlation"]:
        lines.append(
            f"length and score: Spearman {length['rho']:+.2f}"
            f" (p = {length['p']:.2g}, n = {length['n']})"
        )
    run_on = trust["run_on_rate"]
    if run_on["total"]:
        share = f"{run_on['leaked']}/{run_on['total']}"
        lines.append(f"answers that run past their end: {share} ({run_on['rate']:.0%})")
    if agreement := trust["self_agreement"]:
        lines.append(
            f"the judge with itself: {agreement['exact']:.0%} of {agreement['n']} rows alike in"
            f" {agreement['n_judgements']} judgements, mean SD {agreement['mean_sd']:.2f}"
        )
    if trust["judge_versions"]:
        lines.append(f"judged by {', '.join(trust['judge_versions'])}")
    if trust["judge_family_warning"]:
        lines.append(f"warning: {trust['judge_family_warning']}; compare with another judge")
    return lines
