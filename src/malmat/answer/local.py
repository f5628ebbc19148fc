"""Answers by a model on this machine."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from malmat.answer.prices import Meter
from malmat.answer.request import Accept, Request, checked, request_key
from malmat.journal import Journal

if TYPE_CHECKING:
    from malmat.lm.generate import Sampling


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine, named and not loaded.

    Args:
        name: hub id, folder, adapter folder or ``embedded``.
        adapter: a PEFT adapter folder on top of it.
        quantization: ``4bit`` or ``8bit``.
    """

    name: str
    adapter: str | None = None
    quantization: str | None = None
    trust_remote_code: bool = False

    def identity(self) -> dict:
        """What of its weights determines an answer, for the journal's key."""
        from malmat.lm.load import base_of, fingerprint

        base = base_of(self.name)
        return {
            "provider": "local",
            "model": fingerprint(self.name),
            **({"base": fingerprint(base)} if base else {}),
            "adapter": fingerprint(self.adapter) if self.adapter else None,
            "quantization": self.quantization,
        }

    def load(self) -> tuple[Any, Any]:
        """The model and its tokenizer."""
        from malmat.lm.load import load_model, load_tokenizer

        trusted = {"trust_remote_code": self.trust_remote_code}
        tokenizer = load_tokenizer(self.adapter or self.name, **trusted)
        model = load_model(
            self.name, adapter=self.adapter, quantization=self.quantization, **trusted
        )
        return model, tokenizer


class LocalEngine:
    """An ``Engine`` that generates text with a model on this machine.

    The model is loaded only if something is missing. The request's id seeds its draw, so an
    unreadable answer would come again: it is ``parse_error`` and not asked for again.

    Args:
        name, adapter, quantization, trust_remote_code: as ``LocalModel``.
        sampling: settings of the generation; a request's own ``sampling`` is not used.
        batch_size: None takes the one that the journal's answers came with, so that a resumed
            run repeats the batches of the first, or else finds one that fits into memory.
    """

    def __init__(
        self,
        name: str,
        sampling: Sampling,
        batch_size: int | None = None,
        *,
        adapter: str | None = None,
        quantization: str | None = None,
        trust_remote_code: bool = False,
    ):
        self.name, self.sampling, self.batch_size = name, sampling, batch_size
        self.model = LocalModel(name, adapter, quantization, trust_remote_code)

    def identity(self) -> dict:
        from malmat.lm.generate import DRAWS

        return {**self.model.identity(), "settings": self.sampling.as_dict(), "draws": DRAWS}

    def answers(
        self,
        requests: Iterable[Request],
        journal: Journal,
        *,
        accept: Accept | None = None,
        meter: Meter | None = None,
        label: str = "",
        total: int | None = None,
    ) -> AbstractContextManager[Iterator[dict]]:
        """As ``Engine.answers``, with all work done before the first record."""
        return contextlib.nullcontext(self._records(list(requests), journal, accept, meter, label))

    def _records(
        self,
        requests: list[Request],
        journal: Journal,
        accept: Accept | None,
        meter: Meter | None,
        label: str,
    ) -> Iterator[dict]:
        identity = self.identity()
        items = [
            {
                "key": request_key(identity | {"id": request.id}, request),
                "id": f"{request.id}#{request.sample}",
                "messages": request.messages,
            }
            for request in requests
        ]
        keys = [item["key"] for item in items]
        journal_missing(keys, journal, lambda: self._generate(items, journal), meter, label)
        for key, request in zip(keys, requests, strict=True):
            yield checked(journal.get(key), request, accept)

    def _generate(self, items: list[dict], journal: Journal) -> Iterator[list[dict]]:
        """The missing items' records, a batch at a time."""
        from malmat.lm.generate import answer_all

        model, tokenizer = self.model.load()
        batches = answer_all(
            model,
            tokenizer,
            items,
            self.sampling,
            batch_size=self.batch_size
            or earlier_batch_size([item["key"] for item in items], journal),
            done=lambda key: journal.get(key) is not None,
        )
        for batch in batches:
            yield [
                {
                    **{name: record[name] for name in FIELDS},
                    "id": record["id"].partition("#")[0],
                    "usage": {"input": record["input_tokens"], "output": record["output_tokens"]},
                    "attempts": 1,
                    "model_version": None,
                    "error": None,
                }
                for record in batch
            ]


FIELDS = ("key", "text", "status", "finish_reason", "batch_size")


def earlier_batch_size(keys: list[str], journal: Journal) -> int | None:
    """The smallest batch that the journal's records of ``keys`` came in, or None."""
    known = [record for key in keys if (record := journal.get(key))]
    return min((record.get("batch_size") or len(keys) for record in known), default=None)


def journal_missing(
    keys: list[str],
    journal: Journal,
    compute: Callable[[], Iterator[list[dict]]],
    meter: Meter | None = None,
    label: str = "",
) -> None:
    """Journal what is computed on this machine, batch by batch, if any of ``keys`` is missing.

    Args:
        compute: gives the records of the missing keys, a batch at a time.
        meter: counts their tokens.
        label: names the progress bar.
    """
    from tqdm import tqdm

    known = sum(journal.get(key) is not None for key in keys)
    if known == len(keys):
        return
    with tqdm(total=len(keys), initial=known, desc=label, unit="item") as bar:
        for batch in compute():
            journal.extend(batch)
            if meter is not None:
                for record in batch:
                    meter.add(record["usage"])
            bar.update(len(batch))
