"""A request to a model, its journal key, and the ways in which it can fail."""

from __future__ import annotations

from dataclasses import dataclass, field

from malmat.journal import key_of

ASK_AGAIN = ("api_error", "parse_error")
"""Statuses that the next run of the same command tries again."""


def request_key(identity: dict, request: Request) -> str:
    """The journal key: everything that determines the answer. Equal requests to an API share
    one; where the id seeds the draw it stands in ``identity``."""
    return key_of(
        **identity,
        messages=request.messages,
        sampling=request.sampling,
        schema=request.schema,
        sample=request.sample,
        **({"choices": list(request.choices)} if request.choices else {}),
    )


@dataclass(frozen=True)
class Request:
    """One question to a model.

    Args:
        id: the row it belongs to.
        messages: ``[{role, content}]``.
        sampling: temperature, top_p, max_tokens … (what the model's API takes).
        schema: JSON Schema of the reply, or None for free text.
        sample: index among repeated answers to one prompt.
        choices: what may be answered; empty: free text.
    """

    id: str
    messages: list[dict]
    sampling: dict = field(default_factory=dict)
    schema: dict | None = None
    sample: int = 0
    choices: tuple[str, ...] = ()


class Retry(Exception):
    """A passing fault. ``after``: seconds the server asked to wait."""

    def __init__(self, kind: str, detail: str, after: float = 0.0):
        super().__init__(f"{kind}: {detail}")
        self.kind, self.after = kind, after


@dataclass(frozen=True)
class Batch:
    """What a provider says of a batch. ``results``: (key, reply or the reason there is none)."""

    done: bool
    state: str
    results: tuple[tuple[str, dict | Exception], ...] = ()


class Failed(Exception):
    """This item cannot be answered (a refused request); others may be."""
