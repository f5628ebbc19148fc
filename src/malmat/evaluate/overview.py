"""What changed between a baseline and a model over all tasks: one table and one sentence.

Both stand on paired comparisons alone: each pair of means is over the same rows.
"""

from __future__ import annotations

from typing import Any

from malmat.evaluate.compare import heading
from malmat.evaluate.tables import number, signed, signed_span

# ------------------------------------------------------------------------- the table


def overview(sections: list[dict], change: str | None = None) -> list[dict]:
    """For each model that is compared with the baseline: ``{model, baseline, lines, sentence}``.

    Args:
        sections: as from ``report.section``, in the order of the page.
        change: what was done to the baseline ("Training"), for the sentence.

    Returns:
        ``lines``, one a section and one a slice of it: ``{part, slice, gap}`` with ``slice`` None
        or (field, value), and ``gap`` None where the section's scorer cannot be trusted.
    """
    compared = [part for part in sections if part["baseline"]]
    models = dict.fromkeys(gap["model"] for part in compared for gap in part["gaps"])
    tables = []
    for model in models:
        lines = [line for part in compared for line in _lines(part, model)]
        baseline = compared[0]["baseline"]
        subject = change or f"The step from {baseline} to {model}"
        if change and len(models) > 1:
            subject = f"{change} ({model})"
        whole = [line for line in lines if line["slice"] is None]
        tables.append(
            {
                "model": model,
                "baseline": baseline,
                "lines": lines,
                "sentence": sentence(whole, subject),
            }
        )
    return tables


def _lines(part: dict, model: str) -> list[dict]:
    """The lines of one section: all its rows first, then its slices."""
    slices: dict[Any, list[dict]] = {None: part["gaps"]}
    if part["trusted"]:
        slices |= part["slice_gaps"]
    return [
        {"part": part, "slice": name, "gap": gap if part["trusted"] else None}
        for name, gaps in slices.items()
        for gap in gaps
        if gap["model"] == model
    ]


# ---------------------------------------------------------------------- the sentence


def sentence(lines: list[dict], subject: str) -> str:
    """What ``subject`` changed and what it did not, in one sentence.

    Args:
        lines: of the overview, one a section.
    """
    titles = [line["part"]["task"].title for line in lines if line["gap"]]
    found: dict[str, list[str]] = {}
    for line in lines:
        task, gap = line["part"]["task"], line["gap"]
        if gap is None:
            if task.title not in titles:  # else another scorer speaks of it
                found.setdefault("answers only", []).append(task.title)
            continue
        name = task.title
        if titles.count(name) > 1:
            name = heading(name, task, line["part"]["scorer"])
        found.setdefault(gap["verdict"], []).append(f"{name} ({_figures(gap)})")
    said = [
        f"{subject} {verb} {_and(found[verdict])}"
        for verdict, verb in (("better", "improved"), ("worse", "worsened"))
        if verdict in found
    ]
    if len(said) == 2:
        said = [f"{said[0]} and worsened {_and(found['worse'])}"]
    if not said and "tied" in found:
        said = [f"{subject} made no change that could be shown in {_and(found['tied'])}"]
    elif "tied" in found:
        said.append(f"no change could be shown in {_and(found['tied'])}")
    if few := found.get("too few to compare", []) + found.get("no common rows", []):
        said.append(f"too few rows have a score of both models in {_and(few)}")
    if silent := list(dict.fromkeys(found.get("answers only", []))):
        verb = "was" if len(silent) == 1 else "were"
        said.append(f"{_and(silent)} {verb} not judged by a scorer that can be trusted")
    text = "; ".join(said)
    return text[:1].upper() + text[1:] + "." if text else ""


def _figures(gap: dict) -> str:
    """``0.30 → 0.39, +0.09 [+0.01 … +0.17], n = 100``."""
    if gap["verdict"] in ("too few to compare", "no common rows"):
        return f"{gap['n_pairs']} of {gap['n_rows']}"
    before, after = map(number, gap["means"])
    inside = f" [{signed_span(gap['interval'])}]" if gap["interval"] else ""
    return f"{before} → {after}, {signed(gap['difference'])}{inside}, n = {gap['n_pairs']}"


def _and(names: list[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if names[1:] else names)
