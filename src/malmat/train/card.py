"""What a finished training run shows of itself: the model card and the loss curve."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.files import check_fields, read_json
from malmat.lm.chat import THINKING_OFF
from malmat.lm.embedded import EMBEDDED, EMBEDDED_HUB
from malmat.lm.load import short_name
from malmat.train.record import counted, json_of

CARD_SETTINGS = (
    "method",
    "num_epochs",
    "max_steps",
    "batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "lr_scheduler_type",
    "warmup_ratio",
    "weight_decay",
    "optim",
    "optim_args",
    "max_seq_length",
    "lora_r",
    "lora_alpha",
    "lora_dropout",
    "lora_modules",
    "use_rslora",
    "use_dora",
    "beta",
    "seed",
)


CARD_FIELDS = {
    "title": str,  # after the model's name, as "tuned on …"
    "about": str,  # what it was trained on, as "on single-turn chat …"
    "use": str,
    "limits": str,
    "heldout": str,  # what the held-out rows are
    "language": str,
    "tags": list,
}
"""The texts that a card takes from its caller; each may be left out."""


def read_card(path: str | None) -> dict[str, Any]:
    """The texts of a card file (JSON, ``CARD_FIELDS``); empty without one.

    Raises:
        InputError: an unknown field, or one of another type.
    """
    if path is None:
        return {}
    texts = read_json(ROOT / path)
    check_fields({"card": texts}, {"card": dict}, path=path, line=1)
    for name in texts:
        if name not in CARD_FIELDS:
            raise InputError(
                "not a field of a card",
                path=path,
                field=name,
                fix=f"One of {', '.join(CARD_FIELDS)}.",
            )
    check_fields(texts, {name: CARD_FIELDS[name] for name in texts}, path=path, line=1)
    return texts


def model_card(record: dict, *, merged: bool = False) -> str:
    """A model card filled from the run (sections as on published KoCulture cards).

    Args:
        merged: of the run's adapter merged into its base, which is loaded like any model.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    settings = record["settings"]
    shown = {name: settings[name] for name in CARD_SETTINGS if name in settings}
    before = [
        row["eval_loss"] for row in record["losses"] if "eval_loss" in row and not row["step"]
    ]
    terms = record["licence"]["licence"] or "see the base model's page"
    wording_file, _, constant = (settings["wording"] or "").rpartition(":")
    return environment.get_template("card.md.jinja").render(
        **{"merged_base": None, "reference": None, **record},
        text=dict.fromkeys(CARD_FIELDS) | record["card"],
        name=short_name(settings["model_name"]),
        full=merged or settings["method"].endswith("full"),
        own=record["base"] != settings["model_name"],  # the adapter stands on a merged model
        hub=_hub_id(record["base"]),
        local=record["base"] == EMBEDDED or Path(record["base"]).is_dir(),
        switches=", ".join(f"{name}={value}" for name, value in THINKING_OFF.items()),
        shown={k: ", ".join(v) if isinstance(v, list) else v for k, v in shown.items()},
        before=before[0] if before else None,
        counted=counted(record["data"]),
        worded=f"the wording of {constant} in {wording_file}" if record["wording"] else None,
        terms=terms,
        quoted=json.dumps(terms, ensure_ascii=False),
    )


def _hub_id(base: str) -> str | None:
    """The hub's name of a base model; of a folder, what its config says that it was."""
    if base == EMBEDDED:
        return EMBEDDED_HUB
    if Path(base).is_dir():
        base = json_of(Path(base) / "config.json").get("_name_or_path") or ""
    owner, slash, name = base.partition("/")
    return base if owner.strip(".~") and slash and name and "/" not in name else None


def loss_curve(losses: list[dict], path: Path) -> None:
    """Plot training and held-out loss over steps into a PNG (none without a logged loss)."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.ticker import MaxNLocator

    figure, axes = pyplot.subplots(figsize=(7, 4), dpi=120, layout="constrained")
    for name, label, color in (
        ("loss", "training", "#2f6fab"),
        ("eval_loss", "held out", "#c2571a"),
    ):
        points = [(row["step"], row[name]) for row in losses if name in row]
        if points:
            marker = "o" if name == "eval_loss" or len(points) < 3 else None
            axes.plot(*zip(*points, strict=True), label=label, color=color, marker=marker, ms=4)
    if axes.lines:
        axes.set(xlabel="step", ylabel="loss a token of the answers")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", alpha=0.25)
        axes.legend(frameon=False)
        figure.savefig(path)
    pyplot.close(figure)
