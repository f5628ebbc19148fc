"""The base model's licence, from its folder or by its name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from malmat.files import read_json
from malmat.lm.load import base_of

LICENCES = Path(__file__).with_name("licences.json")
"""Rows ``{pattern, licence, commercial}``; the first whose pattern fits the model's name counts.
``commercial`` says whether commercial use is allowed (null: on conditions). As the models' own
pages named them in 2026; a fine-tune of theirs inherits the terms."""

_NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial|research|비영리|비상업", re.IGNORECASE)


_PERMISSIVE = re.compile(r"^(apache-2\.0|mit|bsd-[23]-clause|cc-by-4\.0|cc0-1\.0)$", re.IGNORECASE)


def licence(model_name: str) -> dict[str, Any]:
    """The base model's licence: from its folder's own files, or by its name.

    A folder's README front matter (``license_name``, ``license``) or the first line of its
    LICENSE comes first; a folder without either leads to its base model; then the table of
    known names. It names the licence, it does not read it for you.

    Returns:
        ``model, licence`` (None where unknown), ``commercial`` (True, False, or None: on
        conditions or unknown), ``source``.
    """
    name, seen = model_name, set()
    while (folder := Path(name).expanduser()).is_dir() and name not in seen:
        seen.add(name)
        front = _front_matter(folder / "README.md")
        named = [front.get("license_name"), front.get("license")]
        named = [text for text in named if text and text.lower() != "other"]
        if found := (named or [_first_line(folder)])[0]:
            commercial = True if _PERMISSIVE.match(found) else None
            commercial = False if _NON_COMMERCIAL.search(found) else commercial
            known = _by_name(found) or {"commercial": commercial}
            return {"model": model_name, **known, "licence": found[:120], "source": "its folder"}
        name = base_of(folder) or front.get("base_model") or _config_name(folder) or name
    known = _by_name(name) or {"licence": None, "commercial": None}
    return {"model": name, **known, "source": "its name" if known["licence"] else "unknown"}


def _by_name(name: str) -> dict[str, Any] | None:
    for row in read_json(LICENCES):
        if re.search(row["pattern"], name, re.IGNORECASE):
            return {"licence": row["licence"], "commercial": row["commercial"]}
    return None


def _front_matter(readme: Path) -> dict[str, str]:
    """The texts at the head of a model card, of a list the first one; empty where there is no
    readable head."""
    from huggingface_hub import metadata_load
    from yaml import YAMLError

    try:
        values = metadata_load(readme) or {}
    except (OSError, ValueError, YAMLError):
        return {}
    first = {key: v[0] if isinstance(v, list) and v else v for key, v in values.items()}
    return {key: value for key, value in first.items() if isinstance(value, str)}


def _first_line(folder: Path) -> str | None:
    for file in sorted(folder.glob("LICEN[SC]E*")):
        lines = (line.strip(" #\t") for line in file.read_text("utf-8", "replace").splitlines())
        return next(filter(None, lines), None)
    return None


def _config_name(folder: Path) -> str | None:
    try:
        config = json.loads((folder / "config.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return config.get("_name_or_path") or config.get("_model_name_or_path")
