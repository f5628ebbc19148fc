"""Models that bring code of their own (``--trust_remote_code``), written for transformers 4.

transformers 5 wants ``_tied_weights_keys`` as a dict (tied name → the name it shares) where
version 4 had a list: a model with a list trains and dies at its first save, or while it is built.
It is mended here, and what else such code misses is found on the ``meta`` device, where a model
has shapes and no storage: built, run over a few tokens and saved without a file.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from typing import Any

from malmat.errors import InputError

MISSING = (AttributeError, ImportError, KeyError, NameError, TypeError)
"""Errors of code that asks transformers for what it no longer has. Others can come from the
``meta`` device itself, which has no values."""


def own_class(source: str, revision: str | None = None) -> tuple[Any, Any] | None:
    """(class, config) of a model that brings its own code; None for one of transformers."""
    from transformers import AutoConfig
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    config = AutoConfig.from_pretrained(source, trust_remote_code=True, revision=revision)
    named = (getattr(config, "auto_map", None) or {}).get("AutoModelForCausalLM")
    if named is None:
        return None
    return get_class_from_dynamic_module(named, source, revision=revision), config


def mend_tied_weights(source: str, revision: str | None = None) -> None:
    """Make a list of tied weights in a model's own code into transformers 5's dict.

    The class stays the same for all later loads of this process. The weights that are shared are
    the input embeddings', as version 4 tied them.
    """
    import torch

    if (found := own_class(source, revision)) is None:
        return
    kind, config = found
    keys = kind._tied_weights_keys
    if not isinstance(keys, (list, tuple, set)):
        return
    kind._tied_weights_keys = None
    with torch.device("meta"):
        model = kind(config)
    shared = model.get_input_embeddings().weight
    name = next(n for n, p in model.named_parameters(remove_duplicate=False) if p is shared)
    kind._tied_weights_keys = {key: name for key in keys if key != name}


def check_own_code(source: str) -> None:
    """Refuse a model whose own code does not work with the installed transformers.

    Raises:
        InputError: it cannot be built, run or saved, with what was missing.
    """
    if own_class(source) is None:
        return
    model = None
    for done, act in (("built", _build), ("run", _run), ("saved", _save)):
        try:
            model = act(model or source)
        except MISSING as error:
            raise _broken(source, done, error) from None


def _broken(source: str, done: str, error: Exception) -> InputError:
    import transformers

    reason = (str(error).strip().splitlines() or [""])[0][:160]
    return InputError(
        f"the model's own code cannot be {done} with transformers {transformers.__version__} "
        f"({type(error).__name__}: {reason})",
        path=source,
        field="model_name",
        fix="Take a version of the model that transformers has itself, or another model.",
    )


def _build(source: str) -> Any:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    mend_tied_weights(source)
    config = AutoConfig.from_pretrained(source, trust_remote_code=True)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, trust_remote_code=True).eval()


def _run(model: Any) -> Any:
    """A pass as in training, and one as in generation."""
    import torch

    ids = torch.zeros(1, 4, dtype=torch.long, device="meta")
    for use_cache in (False, True):
        # Errors of values that are not there (NotImplementedError is a RuntimeError) say nothing.
        with suppress(RuntimeError, ValueError):
            model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=use_cache)
    return model


def _save(model: Any) -> Any:
    """Everything that a save does but the writing of weights."""
    with tempfile.TemporaryDirectory() as folder:
        model.config.save_pretrained(folder)
        model.save_pretrained(folder, is_main_process=False)
    return model
