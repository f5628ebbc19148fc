"""Choices as infer.py asks for them: their labels, their orders, and the row that comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from malmat.answer.request import Request
from malmat.errors import InputError
from malmat.evaluate.items import numbered, numbers
from malmat.evaluate.orders import Order, averaged, orders_of, permuted
from malmat.evaluate.task import DEFAULT_OPTION, Item, Task
from malmat.prompts import fill


@dataclass(frozen=True)
class Asking:
    """How the items of a task are asked.

    Args:
        how: what is done with an item's choices: ``number`` puts them into words for a model
            that answers in text, ``label`` and ``text`` weigh them by logits.
        permute: as ``malmat.evaluate.orders.orders_of``.
        passages: item id → the passages that were found for it.
    """

    task: Task
    prompts: dict[str, str]
    how: str
    permute: int | str | None = None
    passages: Mapping[str, list[str]] = field(default_factory=dict)

    def labels(self, item: Item) -> list[str]:
        """What stands for each of an item's choices in an answer: numbers where the choices are
        texts that the wording does not show, of ``text`` what is scored, else the choices."""
        choices = item.get("choices") or []
        if self.how == "text":
            return item.get("options") or choices
        return choices if self._shown else numbers(choices)

    @property
    def _shown(self) -> bool:
        """Whether the task's own wording shows the choices, or they need not be shown."""
        return self.how == "text" or (self.task.choose == "label" and self.task.option is None)

    def orders(self, item: Item) -> list[Order]:
        """
        Raises:
            InputError: the item's options cannot be put in another order.
        """
        if self.permute is None or not item.get("choices"):
            return [()]
        orders = orders_of(len(item["choices"]), self.permute)
        bare = self._shown and not item.get("options")
        try:
            other = permuted(item, orders[-1])
        except ValueError as error:
            raise InputError(str(error), path=self.task.questions, field=item["id"]) from None
        if bare or (len(orders) > 1 and self.messages(other) == self.messages(item)):
            problem = "its wording shows no options that could stand in another order"
            fix = "Leave --permute out, or give --score label."
            raise InputError(problem, path=self.task.questions, field=item["id"], fix=fix)
        return orders

    def messages(self, item: Item) -> list[dict]:
        """The item in the task's wording, with its choices where that does not show them.

        Raises:
            InputError: ``render`` fails on it.
        """
        task, labels = self.task, self.labels(item)
        try:
            messages = task.render(self.prompts, item, self.passages.get(item["id"], []))
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            reason = f"render fails on this item ({type(error).__name__}: {error})"
            raise InputError(reason, path=task.questions, field=item["id"]) from None
        if not labels or self._shown:
            return messages
        shown = {"question": item["question"], "choices": numbered(item["choices"])}
        if task.option is None:
            shown["question"] = messages[-1]["content"]
        text = fill(self.prompts[task.option or DEFAULT_OPTION], **shown)
        return [*messages[:-1], {"role": "user", "content": text}]

    def requests(
        self, item: Item, sampling: dict | None, *, ask_blocked: bool = False, room: int = 0
    ) -> list[Request]:
        """A request an order; ``sampling`` is what an API is sent, ``ask_blocked`` and ``room``
        are as in ``Request``."""
        found = []
        for order in self.orders(item):
            asked = permuted(item, order) if order else item
            weighed = tuple(self.labels(asked)) if self.how != "number" else ()
            request = Request(item["id"], self.messages(asked), sampling or {}, choices=weighed)
            if weighed and self.how == "label" and self._shown and self.task.targets:
                request = replace(request, targets=tuple(self.task.targets(asked)))
            shorter = self._shorter(asked) if weighed and self.task.shorten else None
            found.append(replace(request, shorter=shorter, ask_blocked=ask_blocked, room=room))
        return found

    def _shorter(self, item: Item) -> Callable[[int], list[dict]]:
        """The item's messages with so many pieces left out."""

        def shorter(pieces: int) -> list[dict]:
            assert self.task.shorten is not None
            try:
                return self.messages(self.task.shorten(item, pieces))
            except (LookupError, TypeError, AttributeError, InputError) as error:
                raise ValueError(f"shorten fails on this item: {error}") from None

        return shorter

    def record(self, item: Item, records: list[dict]) -> dict:
        """The item's one record of those of its orders."""
        return averaged(records, self.orders(item), self.labels(item))
