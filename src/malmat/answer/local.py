"""Answers by a model on this machine."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from malmat.answer.prices import Meter
from malmat.answer.request import Accept, Engine, Request, checked, request_key
from malmat.errors import InputError
from malmat.journal import Journal
from malmat.lm.gguf_tokenizer import is_gguf
from malmat.progress import Progress

if TYPE_CHECKING:
    from malmat.lm.generate import Sampling


@dataclass(frozen=True)
class LocalModel:
    """A model on this machine, named and not loaded.

    Args:
        name: hub id, folder, adapter folder, GGUF file or ``embedded``.
        adapter: a PEFT adapter folder on top of it.
        quantization: ``4bit`` or ``8bit``.

    Raises:
        InputError: one of the other settings, for a GGUF file.
    """

    name: str
    adapter: str | None = None
    quantization: str | None = None
    trust_remote_code: bool = False

    def __post_init__(self) -> None:
        for setting in ("adapter", "quantization", "trust_remote_code"):
            if is_gguf(self.name) and getattr(self, setting):
                problem = (
                    "is not for a GGUF file, which holds its weights as they are computed with"
                )
                raise InputError(problem, field=setting, fix="Leave it out.")

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

        tokenizer = load_tokenizer(
            self.adapter or self.name, trust_remote_code=self.trust_remote_code
        )
        model = load_model(
            self.name,
            adapter=self.adapter,
            quantization=self.quantization,
            trust_remote_code=self.trust_remote_code,
        )
        return model, tokenizer


class OnDeviceEngine(Engine):
    """An ``Engine`` that computes answers with a model on this machine.

    The model is loaded only if something is missing.

    Args:
        batch_size: None takes the one that the journal's answers came with, so that a resumed
            run repeats the batches of the first, or else finds one that fits into memory.
    """

    def __init__(self, model: LocalModel, batch_size: int | None):
        self.name, self.model, self.batch_size = model.name, model, batch_size

    def _records(
        self,
        requests: list[Request],
        journal: Journal,
        accept: Accept | None,
        meter: Meter | None,
        label: str,
    ) -> Iterator[dict]:
        identity = self.identity()
        keys = [self._key(identity, request) for request in requests]
        # Batches are cut from all requests, done or not, so that a resumed run pads alike.
        rows = dict(zip(keys, requests, strict=True))
        journal_missing(list(rows), journal, lambda: self._compute(rows, journal), meter, label)
        for key, request in zip(keys, requests, strict=True):
            record = self._read(journal.record(key), request)
            yield checked({**record, "id": request.id}, request, accept)

    def _key(self, identity: dict, request: Request) -> str:
        return request_key(identity, request)

    @abstractmethod
    def _compute(self, rows: dict[str, Request], journal: Journal) -> Iterator[list[dict]]:
        """The missing records of ``rows`` (key → request), a batch at a time."""

    def _read(self, record: dict, request: Request) -> dict:
        """A journaled record as this engine's settings read it."""
        return record


class LocalEngine(OnDeviceEngine):
    """An ``Engine`` that generates text with a model on this machine.

    The request's id seeds its draw, so an unreadable answer would come again: it is
    ``parse_error`` and not asked for again.

    Args:
        name, adapter, quantization, trust_remote_code: as ``LocalModel``.
        sampling: settings of the generation; a request's own ``sampling`` is not used.
        batch_size: as ``OnDeviceEngine``.
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
        super().__init__(LocalModel(name, adapter, quantization, trust_remote_code), batch_size)
        self.sampling = sampling

    def identity(self) -> dict:
        from malmat.lm.generate import DRAWS

        return {**self.model.identity(), "settings": self.sampling.as_dict(), "draws": DRAWS}

    def _key(self, identity: dict, request: Request) -> str:
        return request_key(identity | {"id": request.id}, request)

    def _compute(self, rows: dict[str, Request], journal: Journal) -> Iterator[list[dict]]:
        from malmat.lm.generate import answer_all

        equal = self._answered_alike(rows)
        items = [
            {"key": key, "id": f"{rows[key].id}#{rows[key].sample}", "messages": rows[key].messages}
            for key in equal
        ]
        model, tokenizer = self.model.load()
        batches = answer_all(
            model,
            tokenizer,
            items,
            self.sampling,
            batch_size=self.batch_size or earlier_batch_size(list(rows), journal),
            done=lambda key: all(one in journal for one in equal[key]),
        )
        for batch in batches:
            yield [
                {
                    **{name: record[name] for name in FIELDS if name in record},
                    "key": key,
                    "id": rows[key].id,
                    "usage": {"input": record["input_tokens"], "output": record["output_tokens"]},
                    "attempts": 1,
                    "model_version": None,
                    "error": None,
                }
                for record in batch
                for key in equal[record["key"]]
                if key not in journal
            ]

    def _answered_alike(self, rows: dict[str, Request]) -> dict[str, list[str]]:
        """The first key of each group that gets one answer → the group's keys: with greedy
        decoding those of equal prompts, else each alone, since its id seeds its draw."""
        groups: dict[str, list[str]] = {}
        for key, request in rows.items():
            prompt = request_key({}, request) if self.sampling.temperature == 0 else key
            groups.setdefault(prompt, []).append(key)
        return {keys[0]: keys for keys in groups.values()}


FIELDS = ("text", "thoughts", "status", "finish_reason", "batch_size")


def earlier_batch_size(keys: list[str], journal: Journal) -> int | None:
    """The smallest batch that the journal's records of ``keys`` came in, or None."""
    known = [journal.record(key) for key in keys if key in journal]
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
    known = sum(key in journal for key in keys)
    if known == len(keys):
        return
    with Progress(len(keys), done=known, label=label) as bar:
        for batch in compute():
            journal.extend(batch)
            if meter is not None:
                for record in batch:
                    meter.add(record["usage"])
            bar.update(len(batch))
