"""Choice by logits: how probable a model finds each of the answers that a row allows.

``label``: the choices are labels ("A", "B" …) and the model is read at the one place where its
answer begins. The scored token is the one that a trained answer ("A", or "A. text") begins with
there, found by encoding prompt and answer together. Where two begin with one token, whole labels
are scored, of longer answers as much as tells them apart.

``text``: the choices are sentences, and the log-likelihood of each is summed over its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from malmat.lm.batching import run_batches
from malmat.lm.branches import Branch, Prompt, branch_log_probabilities, groups_of
from malmat.lm.chat import encode_answers, encode_prompt, end_of_turn, special_ids
from malmat.lm.read import common

NORMALIZATIONS = ("sum", "per_token", "per_char", "per_byte", "unconditional")
"""How log-likelihoods of texts of different length are compared. ``unconditional`` subtracts the
text's log-likelihood behind ``NEUTRAL``: its pointwise mutual information with the question
(Brown et al. 2020, section 2.4; Holtzman et al. 2021, *Surface Form Competition*)."""

NEUTRAL = [{"role": "user", "content": ""}]
"""The context without a question: the same chat prompt around an empty message."""


@dataclass(frozen=True)
class Question:
    """A row made ready for ``score_choices``.

    Args:
        how: ``token`` (labels by their first tokens), ``sequence`` (labels by all their tokens,
            answers by as many as tell them apart), ``sequence+end`` (whole, and the end of turn,
            where one begins another) or ``text``.
        neutral: of ``text``, where it is asked for: the choices behind ``NEUTRAL``.
        beyond: of ``text``: how many tokens of the end of turn follow a choice.
    """

    choices: tuple[str, ...]
    how: str
    prompt: Prompt
    neutral: Prompt | None = None
    beyond: int = 0


class Encoder:
    """Makes questions of rows, for one tokenizer.

    Args:
        score: ``label`` or ``text``.
        unconditional: texts are read behind ``NEUTRAL`` too, which costs as much again.
    """

    def __init__(
        self, tokenizer: Any, score: Literal["label", "text"], *, unconditional: bool = False
    ):
        self._tokenizer, self._score, self._unconditional = tokenizer, score, unconditional
        self._special = special_ids(tokenizer)
        self._labels: dict[tuple, list[list[int]]] = {}
        try:
            self._end = end_of_turn(tokenizer)[:1]
        except ValueError:  # no end of turn to be scored
            self._end = []

    def __call__(
        self, messages: list[dict], choices: tuple[str, ...], trained: tuple[str, ...] = ()
    ) -> Question:
        """
        Args:
            trained: of labels: the answer that training writes for each, where that is more than
                the label.

        Raises:
            ValueError: fewer than two choices, an empty one, two alike (as text or as tokens); the
                chat template refuses the messages; not an answer a choice.
        """
        texts, answers = _texts(choices), _texts(trained or choices)
        if len(answers) != len(texts):
            raise ValueError(f"{len(answers)} trained answers for {len(texts)} choices")
        if self._score == "text":
            prompt, targets = encode_answers(self._tokenizer, messages, list(texts))
        else:
            prompt, targets = self._label_targets(messages, answers)
        if not all(targets) or len(set(map(tuple, targets))) < len(targets):
            raise ValueError(f"the choices {list(answers)} are not different in tokens")
        if self._score == "text":
            unasked = None
            if self._unconditional:
                neutral, alone = encode_answers(self._tokenizer, NEUTRAL, list(texts))
                unasked = Prompt(neutral, [_sequence(target, []) for target in alone])
            branches = [_sequence(target, self._end) for target in targets]
            return Question(texts, "text", Prompt(prompt, branches), unasked, len(self._end))
        firsts = [target[0] for target in targets]
        if len(set(firsts)) == len(firsts):
            return Question(texts, "token", Prompt(prompt, [Branch([], [firsts])]))
        begins = any(b[: len(a)] == a for a in targets for b in targets if a is not b)
        end = self._end if begins else []
        if trained and not begins:
            targets = _beginnings(targets)
        branches = [_sequence(target, end) for target in targets]
        return Question(texts, "sequence+end" if end else "sequence", Prompt(prompt, branches))

    def _label_targets(
        self, messages: list[dict], labels: tuple[str, ...]
    ) -> tuple[list[int], list[list[int]]]:
        """The prompt's ids and the labels'. How labels are cut depends on the prompt's text after
        its last special token alone, so they are encoded once for each such end."""
        prompt = encode_prompt(self._tokenizer, messages)
        last = max((n for n, token in enumerate(prompt) if token in self._special), default=0)
        key = (labels, tuple(prompt[last:]))
        if key not in self._labels:
            self._labels[key] = encode_answers(self._tokenizer, messages, list(labels))[1]
        return prompt, self._labels[key]


def _texts(choices: tuple[str, ...]) -> tuple[str, ...]:
    texts = tuple(choice.strip() for choice in choices)
    if len(texts) < 2 or not all(texts) or len(set(texts)) < len(texts):
        raise ValueError(f"the choices {list(choices)} are not two or more different texts")
    return texts


def _beginnings(targets: list[list[int]]) -> list[list[int]]:
    """Of each target the shortest beginning that no other has."""
    others = ((a, [b for b in targets if b is not a]) for a in targets)
    return [a[: max(common([a, b]) for b in rest) + 1] for a, rest in others]


def _sequence(target: list[int], end: list[int]) -> Branch:
    """A branch that wants each token of the target in its place, then the end."""
    whole = [*target, *end]
    return Branch(whole[:-1], [[token] for token in whole])


def score_choices(
    model: Any,
    tokenizer: Any,
    questions: list[Question],
    *,
    batch_size: int,
    normalization: str = "per_byte",
    done: Callable[[int], bool] = lambda index: False,
) -> Iterator[tuple[list[int], list[dict], int]]:
    """Score the questions' choices batch by batch, as ``run_batches`` does it.

    Prompts that share most of their text stand in one batch and read it once.

    Args:
        normalization: of ``text``: which comparison gives the probabilities.
        done: whether the question of an index needs no answer.

    Yields:
        The batch's indices, a dict for each (of ``label_scores`` or ``text_scores``), batch size.
    """
    prompts = [question.prompt for question in questions]
    groups = groups_of(prompts)
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0

    def work(batch: list[int]) -> list[dict]:
        taken = [questions[index] for index in batch]
        found = branch_log_probabilities(model, [q.prompt for q in taken], pad, rows=batch_size)
        neutral = _neutral_likelihoods(model, taken, pad, batch_size)
        return [
            text_scores(question, values, neutral, normalization)
            if question.how == "text"
            else label_scores(question, values)
            for question, values in zip(taken, found, strict=True)
        ]

    yield from run_batches(
        [index for group in groups for index in group],
        batch_size,
        work,
        done=done,
        length=lambda index: prompts[index].longest,
        groups={index: number for number, group in enumerate(groups) for index in group},
    )


def _neutral_likelihoods(
    model: Any, questions: list[Question], pad: int, rows: int
) -> dict[str, float]:
    """Choice → log-likelihood behind ``NEUTRAL``, of the questions that ask for it."""
    branches = {
        text: branch
        for question in questions
        if question.neutral
        for text, branch in zip(question.choices, question.neutral.branches, strict=True)
    }
    if not branches:
        return {}
    ids = next(question.neutral.ids for question in questions if question.neutral)
    prompt = Prompt(ids, list(branches.values()))
    [found] = branch_log_probabilities(model, [prompt], pad, rows=rows)
    return {text: _sum(values) for text, values in zip(branches, found, strict=True)}


def _sum(values: list[list[float]]) -> float:
    return math.fsum(value for [value] in values)


def label_scores(question: Question, found: list[list[list[float]]]) -> dict:
    """What the log-probabilities of labels say.

    Returns:
        ``log_probabilities`` and ``probabilities`` over the labels alone; ``mass``, the
        probability in the whole vocabulary that the answer begins with one of them (is one of
        them, where the end of turn is scored); ``margin`` between the two most probable;
        ``entropy`` in nats; ``scored``, as ``Question.how``.
    """
    values = found[0][0] if question.how == "token" else [_sum(value) for value in found]
    logs, total = normalized(values)
    return {**spread(logs), "mass": math.exp(total), "scored": question.how}


def spread(logs: list[float]) -> dict:
    """``probabilities, log_probabilities, margin, entropy`` of log-probabilities over choices."""
    probabilities = [math.exp(value) for value in logs]
    best, second = sorted(probabilities, reverse=True)[:2]
    return {
        "probabilities": probabilities,
        "log_probabilities": logs,
        "margin": best - second,
        "entropy": -math.fsum(p * value for p, value in zip(probabilities, logs, strict=True) if p),
    }


def text_scores(
    question: Question,
    found: list[list[list[float]]],
    neutral: dict[str, float],
    normalization: str,
) -> dict:
    """What the log-likelihoods of texts say.

    Returns:
        ``likelihoods``: for each choice ``tokens, chars, bytes``, a value for each of
        ``NORMALIZATIONS`` (None for ``unconditional`` where it was not asked for) and ``end``,
        the log-probability of the end of turn after it (None without one), which is in no
        comparison; and what ``compared`` says.
    """
    likelihoods = []
    for text, values in zip(question.choices, found, strict=True):
        target = values[: len(values) - question.beyond]
        likelihood = _sum(target)
        sizes = {"tokens": len(target), "chars": len(text), "bytes": len(text.encode())}
        likelihoods.append(
            {
                **sizes,
                "sum": likelihood,
                "per_token": likelihood / sizes["tokens"],
                "per_char": likelihood / sizes["chars"],
                "per_byte": likelihood / sizes["bytes"],
                "unconditional": likelihood - neutral[text] if neutral else None,
                "end": _sum(values[len(target) :]) if question.beyond else None,
            }
        )
    return {"likelihoods": likelihoods, **compared(likelihoods, normalization)}


def compared(likelihoods: list[dict], normalization: str) -> dict:
    """``probabilities``: the softmax of the likelihoods so normalized, over the choices;
    ``picks``: the index of the best choice by each normalization (the first of equals)."""
    logs, _ = normalized([row[normalization] for row in likelihoods])
    indices = range(len(likelihoods))
    return {
        "probabilities": [math.exp(value) for value in logs],
        "picks": {
            name: max(indices, key=lambda index: likelihoods[index][name])
            for name in NORMALIZATIONS
            if likelihoods[0][name] is not None
        },
    }


def normalized(logs: list[float]) -> tuple[list[float], float]:
    """Log-probabilities scaled to a sum of 1, and the logarithm of their sum before."""
    top = max(logs)
    total = top + math.log(math.fsum(math.exp(value - top) for value in logs))
    return [value - total for value in logs], total


def choice_probabilities(
    model: Any,
    tokenizer: Any,
    conversations: list[list[dict]],
    choices: list[str],
    *,
    batch_size: int = 16,
) -> list[list[float]]:
    """Probabilities over labels that are the same for all rows.

    Args:
        conversations: messages a row, ending with the user's.

    Returns:
        A list of ``len(choices)`` probabilities a row, in the order of the rows.

    Raises:
        ValueError: as ``Encoder``.
    """
    encode = Encoder(tokenizer, "label")
    questions = [encode(messages, tuple(choices)) for messages in conversations]
    result: list[list[float]] = [[] for _ in questions]
    for batch, scores, _ in score_choices(model, tokenizer, questions, batch_size=batch_size):
        for index, row in zip(batch, scores, strict=True):
            result[index] = row["probabilities"]
    return result
