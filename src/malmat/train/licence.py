"""The base model's licence, from its folder or by its name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from malmat.lm.load import base_of

_APACHE = ("Apache 2.0", True)


LICENCES: tuple[tuple[str, str, bool | None], ...] = (
    # pattern on the model's name → licence, commercial use (None: on conditions)
    (r"exaone-?4", "EXAONE AI Model License Agreement 1.2 - NC", False),
    (r"exaone", "EXAONE AI Model License Agreement 1.1 - NC", False),
    (r"hyperclova", "HyperCLOVA X SEED Model License Agreement", None),
    (r"kanana-1\.5-(2\.1b|8b|15\.7b)", *_APACHE),
    (r"kanana-nano", "CC BY-NC 4.0", False),
    (r"qwen2\.5-(coder-|vl-)?3b", "Qwen Research License", False),
    (r"qwen2\.5-(vl-|math-)?72b", "Qwen License", None),
    (r"qwen2\.5-|qwen3-", *_APACHE),
    (r"gemma-?4", *_APACHE),
    (r"gemma|embedded", "Gemma Terms of Use", None),
    (r"solar-10\.7b-instruct", "CC BY-NC 4.0", False),
    (r"solar-10\.7b-v|solar-ko-recovery|open-solar-ko|t3q-ko-solar", *_APACHE),
    (r"solar-koen", "CC BY-NC-SA 4.0", False),
    (r"polar-14b", "Apache 2.0 by its card (v0.1 came from SOLAR-Instruct, CC BY-NC 4.0)", None),
    (r"llama-?3\.3", "Llama 3.3 Community License", None),
    (r"llama-?3\.2", "Llama 3.2 Community License", None),
    (r"llama-?3\.1", "Llama 3.1 Community License", None),
    (r"llama-?3", "Meta Llama 3 Community License", None),
)
"""As the models' own pages named them in 2026; a fine-tune of theirs inherits the terms."""


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
    for pattern, title, commercial in LICENCES:
        if re.search(pattern, name, re.IGNORECASE):
            return {"licence": title, "commercial": commercial}
    return None


def _front_matter(readme: Path) -> dict[str, str]:
    """The single-line values at the head of a model card, and the first one of a list."""
    try:
        match = re.match(r"---\n(.*?)\n---", readme.read_text("utf-8", "replace"), re.DOTALL)
    except OSError:
        return {}
    lines = re.findall(
        r"^(\w+):[ \t]*(?:\n[ \t]*- +)?(\S[^\n]*)", match.group(1) if match else "", re.MULTILINE
    )
    return {key: value.strip(" \"'[]") for key, value in lines}


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
