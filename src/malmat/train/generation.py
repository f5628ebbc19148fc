"""The generation config that a trained model is saved with."""

from __future__ import annotations

import re
from typing import Any

from malmat.lm.chat import terminators

_REFUSED = re.compile(r"^- `(\w+)`:", re.MULTILINE)


def prepare_generation(model: Any, tokenizer: Any) -> None:
    """Let a model's generation config be saved, and end where the tokenizer's turns do.

    transformers saves none that holds settings without effect, such as a temperature beside
    ``do_sample: false``, which many models are published with: it would stop a run at its first
    checkpoint. They are left out, so that the model generates as before.
    """
    config = model.generation_config
    config.eos_token_id = terminators(tokenizer, config)
    if idle := _without_effect(config):
        default = type(config)()
        for name in idle:
            setattr(config, name, getattr(default, name, None))
        print(f"  generation config without {', '.join(idle)}, which had no effect", flush=True)


def _without_effect(config: Any) -> list[str]:
    """The settings that transformers refuses to save, though it generates with them."""
    try:
        config.validate(strict=True)
    except ValueError as error:
        return _REFUSED.findall(str(error))
    return []
