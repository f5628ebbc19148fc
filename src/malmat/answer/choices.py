"""Choices by a model on this machine: an engine whose answers are one of each row's choices.

It answers requests that have ``choices`` through the journal, by what the model's logits say,
and draws nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal

from malmat.answer.local import local_identity
from malmat.answer.prices import Meter
from malmat.answer.request import Request, request_key
from malmat.journal import Journal


@dataclass(frozen=True)
class ChoiceSettings:
    """What of the scoring determines the figures. Which normalization picks does not: all are
    stored, so that another one picks from the same journal.

    Args:
        score: ``label`` or ``text`` (``malmat.lm.choice``).
        version: raise it when the figures change.
    """

    score: Literal["label", "text"] = "label"
    version: int = 1

    def as_dict(self) -> dict:
        return asdict(self)


class ChoiceEngine:
    """A model on this machine that picks one of a row's choices.

    Args:
        name: hub id, folder, adapter folder or ``embedded``.
        score: ``label``: the choices are labels that the prompt explains; ``text``: they are
            the answers themselves.
        normalization: of ``text``: one of ``malmat.lm.choice.NORMALIZATIONS``.
        batch_size: None takes the one that the journal's answers came with, or else finds one
            that fits into memory.
    """

    def __init__(
        self,
        name: str,
        *,
        score: Literal["label", "text"] = "label",
        normalization: str = "per_byte",
        batch_size: int | None = None,
        adapter: str | None = None,
        quantization: str | None = None,
        trust_remote_code: bool = False,
    ):
        self.name = name
        self._settings, self._normalization = ChoiceSettings(score), normalization
        self._batch_size, self._adapter = batch_size, adapter
        self._quantization, self._trust = quantization, trust_remote_code

    def identity(self) -> dict:
        """What determines the figures beside the request, for the journal's key."""
        return local_identity(
            self.name, self._settings, adapter=self._adapter, quantization=self._quantization
        )

    @contextmanager
    def answers(
        self,
        requests: Iterable[Request],
        journal: Journal,
        *,
        accept: Callable[[Request, str], Any] | None = None,
        meter: Meter | None = None,
        label: str = "",
        total: int | None = None,
    ) -> Iterator[Iterator[dict]]:
        """Answer the requests through the journal. Gives an iterator over records in their order.

        Args:
            accept: raises ValueError for a pick that the caller cannot use: ``parse_error``.
            meter: counts tokens.
            total: passed over: all requests are read first, to batch rows that share a text.

        Records: ``key, id, status, text`` (the picked choice), ``finish_reason, usage, attempts,
        model_version, error, batch_size, probabilities`` (in the choices' order) and, of labels,
        ``log_probabilities, mass, margin, entropy, scored``, of texts ``likelihoods`` (a dict
        a choice) and ``picks`` (normalization → choice). A row that cannot be scored (choices
        that are none, too long for the model) is ``out_of_range``, with the reason as ``error``.

        Raises:
            StopRunning: no memory for one row; progress is kept.
            InputError: no such model.
        """
        requests = list(requests)
        identity = self.identity()
        keys = [request_key(identity, request) for request in requests]
        missing = {k: r for k, r in zip(keys, requests, strict=True) if journal.get(k) is None}
        if missing:
            # Batches are cut from all rows, done or not, so that a resumed run pads alike.
            rows = dict(zip(keys, requests, strict=True))
            self._fill(rows, journal, accept, meter, label)
        yield (
            {**self._picked(journal.get(key), request), "id": request.id}
            for key, request in zip(keys, requests, strict=True)
        )

    def _fill(
        self,
        rows: dict[str, Request],
        journal: Journal,
        accept: Callable[[Request, str], Any] | None,
        meter: Meter | None,
        label: str,
    ) -> None:
        """Score what the journal lacks of the rows (key → request)."""
        from tqdm import tqdm

        from malmat.lm.batching import fitting_batch
        from malmat.lm.chat import give_template
        from malmat.lm.choice import Encoder, score_choices
        from malmat.lm.load import load_model, load_tokenizer

        options = {"trust_remote_code": self._trust}
        tokenizer = load_tokenizer(self._adapter or self.name, **options)
        give_template(tokenizer, plain=True)
        model = load_model(
            self.name, adapter=self._adapter, quantization=self._quantization, **options
        )
        questions, unfit = {}, {}
        encode, context = Encoder(tokenizer, self._settings.score), context_length(model)
        for key, request in rows.items():
            try:
                questions[key] = encode(request.messages, request.choices)
                fits_into(questions[key].prompt.longest, context)
            except ValueError as error:
                questions.pop(key, None)
                unfit[key] = {**NO_ANSWER, "status": "out_of_range", "error": str(error)}
        known = [record for key in rows if (record := journal.get(key))]
        bar = tqdm(total=len(rows), initial=len(known), desc=label, unit="item")

        def store(records: dict[str, dict]) -> None:
            new = {key: record for key, record in records.items() if journal.get(key) is None}
            journal.extend({"key": k, "id": rows[k].id, **record} for k, record in new.items())
            for record in new.values() if meter else ():
                meter.add(record["usage"])
            bar.update(len(new))

        store(unfit)
        names = list(questions)
        sizes = [record["batch_size"] for record in known if record.get("batch_size")]
        batch_size = self._batch_size or min(sizes, default=None)
        if names and batch_size is None:
            batch_size = fitting_batch(model, max(q.prompt.longest for q in questions.values()))
        for batch, scores, size in score_choices(
            model,
            tokenizer,
            list(questions.values()),
            batch_size=batch_size or 1,
            normalization=self._normalization,
            done=lambda index: journal.get(names[index]) is not None,
        ):
            found = {}
            for index, score in zip(batch, scores, strict=True):
                request = rows[names[index]]
                record = {**record_of(questions[names[index]], score), "batch_size": size}
                found[names[index]] = checked(self._picked(record, request), request, accept)
            store(found)
        bar.close()

    def _picked(self, record: dict, request: Request) -> dict:
        """The record with the pick of this engine's normalization."""
        from malmat.lm.choice import compared

        if record["status"] != "ok":
            return record
        scores = {}
        if "likelihoods" in record:
            scores = compared(record["likelihoods"], self._normalization)
            scores["picks"] = {n: request.choices[i] for n, i in scores["picks"].items()}
        probabilities = scores.get("probabilities") or record["probabilities"]
        best = probabilities.index(max(probabilities))
        return {**record, **scores, "text": request.choices[best]}


NO_ANSWER = {
    "status": "ok",
    "text": "",
    "finish_reason": None,
    "usage": {"input": 0, "output": 0},
    "attempts": 1,
    "model_version": None,
    "error": None,
}


def record_of(question: Any, score: dict) -> dict:
    """The record of a row's figures, its text still to be picked.

    Figures that are not finite give no answer: ``out_of_range``.
    """
    record = {**NO_ANSWER, "usage": {"input": len(question.prompt.ids), "output": 0}}
    try:
        json.dumps(score, allow_nan=False)
    except ValueError:
        error = "the model's logits are not finite"
        return {**record, "status": "out_of_range", "error": error}
    return {**record, "finish_reason": "stop", **score}


def checked(record: dict, request: Request, accept: Callable[[Request, str], Any] | None) -> dict:
    """The record, ``parse_error`` where the caller cannot use its text."""
    if accept is not None and record["status"] == "ok":
        try:
            accept(request, record["text"])
        except ValueError as error:
            return {**record, "status": "parse_error", "error": str(error)}
    return record


def context_length(model: Any) -> int | None:
    """Tokens that a model's positions reach, or None where it does not say."""
    return getattr(model.config.get_text_config(), "max_position_embeddings", None)


def fits_into(length: int, context: int | None) -> None:
    """
    Raises:
        ValueError: so many tokens do not fit into the context.
    """
    if context is not None and length > context:
        raise ValueError(f"{length} tokens do not fit into the model's context of {context}")
