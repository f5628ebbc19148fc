"""Prices of API models, and the meter that counts what a run uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from malmat.errors import InputError
from malmat.files import read_json

PRICES = Path(__file__).with_name("prices.json")
"""US dollars per million tokens, with the date they were taken down."""


BATCH_SHARE = 0.5
"""What a provider's batch API costs, as a share of the price of a call."""


def read_prices(path: str | Path | None = None) -> dict:
    """A price table: ``{date, models: {name: {input, output}}}``.

    Raises:
        InputError: not of that shape (the field is named).
    """
    path = path or PRICES
    table = read_json(path)
    models = table.get("models") if isinstance(table, dict) else None
    if not isinstance(models, dict):
        raise InputError("expected an object of models", path=path, field="models")
    for name, rates in models.items():
        for side in ("input", "output"):
            value = rates.get(side) if isinstance(rates, dict) else None
            if isinstance(value, bool) or not isinstance(value, (int, float)) or value < 0:
                raise InputError(
                    "expected US dollars per million tokens", path=path, field=f"{name}.{side}"
                )
    return table


def rates_of(model: str, prices: dict) -> dict | None:
    """``{input, output}`` of the longest name in the table that the model's name begins with.

    So dated names (``gpt-4.1-2025-04-14``) are found. None where there is none.
    """
    models, model = prices["models"], model.rpartition("/")[2]  # as OpenRouter and Google spell it
    known = [name for name in models if model == name or model.startswith(name + "-")]
    return models[max(known, key=len)] if known else None


def _dollars(rates: dict, usage: dict[str, int]) -> float:
    return (usage["input"] * rates["input"] + usage["output"] * rates["output"]) / 1e6


def price(model: str, usage: dict[str, int], table: Path | None = None) -> float | None:
    """US dollars for ``{input, output}`` tokens, or None where the table has no price."""
    rates = rates_of(model, read_prices(table))
    return None if rates is None else _dollars(rates, usage)


class Meter:
    """What a run uses and costs as it comes, through all its rounds, and where it has to stop.

    Args:
        max_cost: US dollars after which no more is asked.
        prices: another price table.
        share: of the list price (``BATCH_SHARE`` for batches).

    Raises:
        InputError: a limit for a model without a price.
    """

    def __init__(
        self,
        model: str,
        *,
        max_cost: float | None = None,
        prices: str | Path | None = None,
        share: float = 1.0,
    ):
        table = read_prices(prices)
        self._rates, self._share = rates_of(model, table), share
        self._date = table.get("date", "unknown date")
        self.max_cost = max_cost
        self.usage = {"input": 0, "output": 0}
        self._model, self._warned = model, False
        if max_cost is not None and self._rates is None:
            raise InputError(
                f"{prices or PRICES.name} has no price for '{model}'",
                field="max_cost",
                fix="Add one, or leave the option out.",
            )

    def add(self, usage: dict[str, int], *, estimated: bool = False) -> None:
        """Count tokens.

        Args:
            estimated: the server counted none, which is said once.
        """
        for side in self.usage:
            self.usage[side] += usage[side]
        if estimated and not self._warned:
            self._warned = True
            print(
                f"  {self._model} counts no tokens: they are estimated from the texts", flush=True
            )

    def cost_of(self, usage: dict[str, int]) -> float | None:
        """US dollars for tokens, or None where there is no price."""
        return None if self._rates is None else _dollars(self._rates, usage) * self._share

    @property
    def cost(self) -> float | None:
        return self.cost_of(self.usage)

    def problem(self) -> str | None:
        """Why nothing more may be asked, or None."""
        cost = self.cost
        if self.max_cost is None or cost is None or cost < self.max_cost:
            return None
        return f"--max_cost {self.max_cost} reached (spent ${cost:.4f})"

    @contextlib.contextmanager
    def shown_at_the_end(self) -> Iterator[None]:
        """Print what was used, also where the run is stopped or interrupted."""
        try:
            yield
        finally:
            if any(self.usage.values()):
                print(f"used in this run: {self.show(self.usage)}")

    def show(self, usage: dict[str, int]) -> str:
        """Tokens with their price, for a plan or a report."""
        cost = self.cost_of(usage)
        tokens = f"{usage['input']:,} input and {usage['output']:,} output tokens"
        if cost is None:
            return tokens
        return f"{tokens}, ${cost:.4f} (prices of {self._date})"


def estimate_tokens(text: str) -> int:
    """A rough count for the plan before a run: Korean takes about 0.7 tokens a character."""
    return int(len(text) * 0.7) + 1
