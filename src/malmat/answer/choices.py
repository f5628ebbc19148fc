"""Choices by a model on this machine: an engine whose answers are one of each row's choices.

It answers requests that have ``choices`` through the journal, by what the model's logits say,
and draws nothing.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Iterator
from typing import Any, Literal

from malmat.answer.local import LocalModel, OnDeviceEngine, earlier_batch_size
from malmat.answer.request import Request, no_answer
from malmat.journal import Journal

VERSION = 1
"""Raise it when the figures change: journals of older ones then do not mix with new ones."""


class ChoiceEngine(OnDeviceEngine):
    """An ``Engine`` whose answers are one of each request's choices, by a model on this machine.

    A record has, beside what every record has, ``batch_size, probabilities`` (in the choices'
    order) and, of labels, ``log_probabilities, mass, margin, entropy, scored``, of texts
    ``likelihoods`` (a dict a choice) and ``picks`` (normalization → choice). A request that is
    too long for the model and has ``shorter`` is cut, and its record has ``cut``: the ``pieces``
    left out, and how many ``tokens`` and ``characters`` that is. A request that cannot be scored
    (choices that are none, too long for the model) is ``out_of_range``, with the reason as
    ``error``. ``answers`` raises StopRunning where there is no memory for one request, and
    InputError where there is no such model.

    Args:
        name, adapter, quantization, trust_remote_code: as ``LocalModel``.
        score: ``label``: the choices are labels that the prompt explains; ``text``: they are
            the answers themselves.
        normalization: of ``text``: one of ``malmat.lm.choice.NORMALIZATIONS``. All but
            ``unconditional``, which costs as much again, are always stored, so that another
            one picks from the same journal.
        batch_size: as ``OnDeviceEngine``.
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
        super().__init__(LocalModel(name, adapter, quantization, trust_remote_code), batch_size)
        self.score, self.normalization = score, normalization
        self.unconditional = score == "text" and normalization == "unconditional"

    def identity(self) -> dict:
        settings = {"score": self.score, "version": VERSION}
        if self.unconditional:
            settings["unconditional"] = True
        return {**self.model.identity(), "settings": settings}

    def _compute(self, rows: dict[str, Request], journal: Journal) -> Iterator[list[dict]]:
        from malmat.lm.batching import fitting_batch
        from malmat.lm.choice import Encoder, score_choices
        from malmat.lm.templates import give_template

        model, tokenizer = self.model.load()
        give_template(tokenizer, plain=True)
        questions: dict[str, Any] = {}
        cuts: dict[str, dict] = {}
        unfit = []
        encode = Encoder(tokenizer, self.score, unconditional=self.unconditional)
        context = context_length(model)
        for key, request in rows.items():
            try:
                questions[key], cuts[key] = fitted(encode, request, context)
            except ValueError as error:
                record = {**BASIS, **no_answer("out_of_range", error)}
                unfit.append({"key": key, "id": request.id, **record})
        yield [record for record in unfit if record["key"] not in journal]
        names = list(questions)
        batch_size = self.batch_size or earlier_batch_size(list(rows), journal)
        if names and batch_size is None:
            batch_size = fitting_batch(model, max(q.prompt.longest for q in questions.values()))
        for batch, scores, size in score_choices(
            model,
            tokenizer,
            list(questions.values()),
            batch_size=batch_size or 1,
            normalization=self.normalization,
            done=lambda index: names[index] in journal,
        ):
            found = []
            for key, score in zip((names[index] for index in batch), scores, strict=True):
                record = {**record_of(questions[key], score), **cuts[key], "batch_size": size}
                record = self._read(record, rows[key])
                if key not in journal:
                    found.append({"key": key, "id": rows[key].id, **record})
            yield found

    def _read(self, record: dict, request: Request) -> dict:
        """The record with the pick of this engine's normalization."""
        from malmat.lm.choice import compared

        if record["status"] != "ok":
            return record
        scores = {}
        if "likelihoods" in record:
            scores = compared(record["likelihoods"], self.normalization)
            scores["picks"] = {n: request.choices[i] for n, i in scores["picks"].items()}
        probabilities = scores.get("probabilities") or record["probabilities"]
        best = probabilities.index(max(probabilities))
        return {**record, **scores, "text": request.choices[best]}


BASIS = {"usage": {"input": 0, "output": 0}, "attempts": 1}


def record_of(question: Any, score: dict) -> dict:
    """The record of a row's figures, its text still to be picked.

    Figures that are not finite give no answer: ``out_of_range``.
    """
    record = {**BASIS, "usage": {"input": len(question.prompt.ids), "output": 0}}
    try:
        json.dumps(score, allow_nan=False)
    except ValueError:
        return {**record, **no_answer("out_of_range", "the model's logits are not finite")}
    answered = {**no_answer("ok", ""), "finish_reason": "stop", "error": None}
    return {**record, **answered, **score}


def fitted(encode: Any, request: Request, context: int | None) -> tuple[Any, dict]:
    """A request as a question that fits into the context, cut as little as possible.

    Returns:
        The question, and ``cut`` in a dict that is empty where nothing had to go.

    Raises:
        ValueError: it cannot be scored, or not be cut far enough.
    """

    def question(messages: list[dict]) -> Any:
        return encode(messages, request.choices, request.targets)

    whole = question(request.messages)
    shorter = request.shorter
    if context is None or whole.prompt.longest <= context or shorter is None:
        fits_into(whole.prompt.longest, context)
        return whole, {}

    def enough(pieces: int) -> bool:
        try:
            return question(shorter(pieces)).prompt.longest <= context
        except ValueError:  # no more can be left out
            return True

    most = 1
    while not enough(most):
        most *= 2
    pieces = bisect_left(range(most + 1), True, lo=most // 2 + 1, key=enough)
    try:
        messages = shorter(pieces)
        left = question(messages)
    except ValueError as error:
        size = whole.prompt.longest
        reason = f"{size} tokens cannot be cut to the model's context of {context}: {error}"
        raise ValueError(reason) from None
    before, after = (sum(len(m["content"]) for m in ms) for ms in (request.messages, messages))
    tokens = len(whole.prompt.ids) - len(left.prompt.ids)
    return left, {"cut": {"pieces": pieces, "tokens": tokens, "characters": before - after}}


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
