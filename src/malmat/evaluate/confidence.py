"""What a model's logits say of its choices, beside which ones it picked: figures of many rows."""

from __future__ import annotations

import math
from collections import Counter

from malmat.evaluate.orders import following
from malmat.evaluate.reliability import calibration_error, reliability
from malmat.evaluate.task import Row

LOW_MASS = 0.5
"""Below this mean mass the labels are not what the model wanted to say."""


def choice_figures(rows: list[Row]) -> dict:
    """Of the rows that were answered by logits, as far as they have it.

    Returns:
        ``n`` rows; mean ``mass`` of the labels in the whole vocabulary and ``low_mass``, the rows
        where it is below ``LOW_MASS``; mean ``margin`` and ``entropy``; ``scored``, how many rows
        by which tokens; ``positions`` of ``following``; ``cut``, the rows that were cut;
        ``calibration_error``, where what is right is known. Empty where no row was.
    """
    weighed = [row for row in rows if row["status"] == "ok" and row.get("probabilities")]
    if not any("margin" in row or "likelihoods" in row for row in weighed):
        return {}
    figures: dict = {"n": len(weighed)}
    for name in ("mass", "margin", "entropy"):
        if values := [row[name] for row in weighed if row.get(name) is not None]:
            figures[name] = math.fsum(values) / len(values)
            if name == "mass":
                figures["low_mass"] = sum(value < LOW_MASS for value in values)
    if scored := Counter(row["scored"] for row in weighed if row.get("scored")):
        figures["scored"] = dict(scored)
    if positions := following(weighed):
        figures["positions"] = positions
    if cut := sum("cut" in row for row in weighed):
        figures["cut"] = cut
    if (error := calibration_error(reliability(weighed))) is not None:
        figures["calibration_error"] = error
    return figures


def choice_lines(figures: dict) -> list[str]:
    """The same for people, a line a figure."""
    lines = []
    if (mass := figures.get("mass")) is not None:
        low = f"below {LOW_MASS} in {figures['low_mass']}/{figures['n']} rows"
        lines.append(f"the labels' share of the whole vocabulary: {mass:.3g} ({low})")
        if mass < LOW_MASS:
            lines.append(
                f"warning: that is below {LOW_MASS}: the model wanted to say something else, and "
                "which label it picks says little"
            )
    if (margin := figures.get("margin")) is not None:
        lines.append(f"margin between the two best choices: {margin:.3f}")
    whole = {how: n for how, n in (figures.get("scored") or {}).items() if how != "token"}
    if whole:
        rows = ", ".join(f"{n} rows by {how}" for how, n in whole.items())
        lines.append(f"note: labels that begin with one token are scored whole: {rows}")
    if positions := figures.get("positions"):
        lines.append(position_line(positions))
    if figures.get("cut"):
        lines.append(f"note: {figures['cut']} rows were too long and cut in their middle")
    if (error := figures.get("calibration_error")) is not None:
        lines.append(f"expected calibration error: {error:.3f}")
    return lines


def position_line(positions: dict) -> str:
    def share(value: float | None) -> str:
        return "–" if value is None else f"{value:.0%}"

    each = ", ".join(
        f"{place}: {share(one['rate'])} (picked {share(one['picked'])})"
        for place, one in enumerate(positions["positions"], 1)
    )
    whole = share(positions["rate"])
    return f"the pick follows the position, not the text: {whole} of the time; at position {each}"
