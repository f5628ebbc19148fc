"""Items cut to the length that a model is trained at, by its own tokenizer and template."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from malmat.answer.choices import fitted
from malmat.answer.request import Request
from malmat.evaluate.task import Item

Render = Callable[[Item], list[dict]]


class Fitter:
    """Cuts items whose prompt and answer are longer than ``max_length`` tokens.

    Args:
        name: hub id or folder of the model whose tokenizer measures, or ``embedded``.
        shorten: as a task's: an item without so many pieces.
    """

    def __init__(self, name: str, max_length: int, shorten: Callable[[Item, int], Item]):
        from malmat.lm.chat import end_of_turn, give_template
        from malmat.lm.choice import Encoder
        from malmat.lm.load import load_tokenizer

        self._tokenizer, self._shorten = load_tokenizer(name), shorten
        give_template(self._tokenizer, plain=True)
        self._encode = Encoder(self._tokenizer, "label")
        self._room = max_length - len(end_of_turn(self._tokenizer))

    def __call__(self, item: Item, render: Render, answer: str | None) -> tuple[Item, dict | None]:
        """
        Args:
            render: an item → the messages that it is asked with.
            answer: what is to be trained behind them; None: one of the choices.

        Returns:
            The item, cut where it has to be, and ``pieces, tokens, characters`` and ``share``
            (of the passage's characters) that went, or None.

        Raises:
            ValueError: what may not be cut alone does not fit.
        """
        from malmat.lm.chat import encode_answers

        messages = render(item)
        answers = [answer] if answer else list(item["choices"])
        longest = max(map(len, encode_answers(self._tokenizer, messages, answers)[1]))
        request = Request(item["id"], messages, choices=tuple(item["choices"]))
        request = replace(request, shorter=lambda n: render(self._shorten(item, n)))
        cut: dict[str, Any] | None
        cut = fitted(self._encode, request, self._room - longest)[1].get("cut")
        if cut is None:
            return item, None
        share = cut["characters"] / max(1, len(item["passage"]))
        return self._shorten(item, cut["pieces"]), {**cut, "share": round(share, 3)}
