"""The models of ``chat.py``: what the command line names, opened as chat models."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from infer_module import api_sampling
from malmat.answer.local import LocalModel
from malmat.answer.open import open_model, room_for_thoughts, sent_budget
from malmat.answer.talk import ApiChat, ChatModel, LocalChat
from malmat.errors import InputError
from malmat.lm.load import base_of, check_model, short_name
from malmat.lm.sampling import Sampling
from malmat.models import API_NAMES, MODELS_FILE, Answering, answering_for
from malmat.prompts import check_placeholders
from malmat.train.examples import read_wording
from malmat.train.record import run_of

BASE = "base"
"""``--compare`` without a name: the model that MODEL was trained from."""

LOCAL = ("adapter", "quantization", "trust_remote_code")


def open_models(args) -> tuple[list[ChatModel], dict[str, Any]]:
    """The models, MODEL last, and the sampling that its row in models.json gives.

    Raises:
        InputError: no such model, two of one name, or an option for another kind of model.
    """
    known = args.models or MODELS_FILE
    how = answering_for(args.model, kind=args.type, base_url=args.base_url, path=known)
    for name in (*LOCAL, "base_url", "extra_body", "thinking_budget"):
        if (value := getattr(args, name)) is not None:
            if (name in LOCAL) != (how.kind == "local"):
                raise InputError(f"is not for {how.kind} models", field=name, fix="Leave it out.")
            how.options[name] = value
    named = [(_name(how), how)]
    if args.compare:
        other = args.compare if args.compare != BASE else own_base(how)
        beside = _beside(other, args.base_url, known)
        for name in ("quantization", "trust_remote_code"):
            if beside.kind == how.kind == "local" and name in how.options:
                beside.options.setdefault(name, how.options[name])
        named.insert(0, (_name(beside), beside))
    if len({_identity(one) for _, one in named}) < len(named):
        raise InputError("is the same model", field="compare", fix="Name another one.")
    if len({name for name, _ in named}) < len(named):
        named = [(one.options.get("adapter") or one.model, one) for _, one in named]
    return [_opened(name, one) for name, one in named], how.options


def _beside(other: str, base_url: str | None, known: str | Path) -> Answering:
    """The model to compare with: one that nothing else is known of is at the server of MODEL."""
    try:
        beside = answering_for(other, path=known)
    except InputError:
        if not base_url:
            raise
        beside = answering_for(other, kind="api", path=known)
    if beside.kind == "api" and base_url and not API_NAMES.match(beside.model):
        beside.options.setdefault("base_url", base_url)
    return beside


def _identity(how: Answering) -> tuple:
    """What tells a model from another, however its folder is spelt."""
    folders = (how.model, how.options.get("adapter"))
    places = (os.path.realpath(one) if one and Path(one).exists() else one for one in folders)
    return (how.kind, how.options.get("base_url"), *places)


def _name(how: Answering) -> str:
    adapter = how.options.get("adapter")
    return short_name(adapter) if adapter else how.name


def own_base(how: Answering) -> str:
    """The model that a model was trained from.

    Raises:
        InputError: nothing says which.
    """
    if how.kind == "local" and how.options.get("adapter"):
        return how.model
    named = base_of(how.model) or run_of(how.model).get("settings", {}).get("model_name")
    if how.kind == "api" or not named:
        problem = f"nothing says what '{how.name}' was trained from"
        raise InputError(problem, field="compare", fix="Name the model: --compare OTHER.")
    return named


def _opened(name: str, how: Answering) -> ChatModel:
    options = how.options
    if how.kind == "local":
        check_model(how.model, options.get("adapter"))
        return LocalChat(
            name, LocalModel(how.model, **{n: options[n] for n in LOCAL if n in options})
        )
    base_url, budget = options.get("base_url"), options.get("thinking_budget")
    model = open_model(how.model, base_url=base_url, extra_body=options.get("extra_body"))
    sent = sent_budget(budget, how.model, base_url)
    room = room_for_thoughts(how.model, budget)
    return ApiChat(name, model, _for_api(sent, own_server=bool(base_url)), room)


def _for_api(sent: dict, *, own_server: bool) -> Callable[[Sampling], dict]:
    """What an API is sent of a sampling: what it knows."""
    names = ("temperature", "top_p", *(("top_k", "repetition_penalty") if own_server else ()))

    def options(sampling: Sampling) -> dict:
        given = {name: getattr(sampling, name) for name in names}
        return api_sampling(sent | given, sampling.max_new_tokens, own_server=own_server)

    return options


def first_wording(given: str | None, models: list[ChatModel]) -> str:
    """The wording to begin with: as given, as a model was trained with, or none.

    Args:
        given: a text with ``{question}``, or FILE:CONSTANT.
    """
    if given is not None:
        return checked(given if "{" in given else read_wording(given))
    local = [one.model for one in reversed(models) if isinstance(one, LocalChat)]
    trained = (run_of(model.adapter or model.name).get("wording") for model in local)
    return next(filter(None, trained), "{question}")


def checked(wording: str) -> str:
    """The wording, with its place for the message.

    Raises:
        InputError: it has none, or a place for something else.
    """
    check_placeholders(wording, ["question"], field="wording")
    return wording
