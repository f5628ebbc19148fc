"""Labels of training examples, proved: what is trained is what the model would have to generate."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from malmat.lm import chat
from malmat.lm.chat import IGNORE
from malmat.messages import trained_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class AnswerFault(ValueError):
    """An answer in the data that cannot be trained, whatever the template."""


def spans(labels: list[int]) -> list[tuple[int, int]]:
    """The (start, end) of each run of labelled tokens: one a trained answer."""
    found, place = [], 0
    for live, run in itertools.groupby(labels, lambda label: label != IGNORE):
        start, place = place, place + len(list(run))
        if live:
            found.append((start, place))
    return found


def labelled_from(example: dict[str, list[int]]) -> int:
    """The place of the first labelled token; the length where there is none."""
    return next((start for start, _ in spans(example["labels"])), len(example["labels"]))


def count_labels(example: dict[str, list[int]]) -> int:
    return sum(label != IGNORE for label in example["labels"])


def check_example(
    tokenizer: PreTrainedTokenizerBase,
    example: dict[str, list[int]],
    end: list[int],
    stops: set[int],
    number: int,
) -> None:
    """Check an example by itself: answers and ends of turns are labelled, and nothing else.

    Args:
        end: the end of turn.
        stops: tokens at which generation stops.
        number: of the example, for the message.

    Raises:
        ValueError: saying what is wrong with it.
        AnswerFault: its answer ends the turn in its middle.
    """
    ids, labels = example["input_ids"], example["labels"]
    runs = spans(labels)
    if len(ids) != len(labels) or not runs:
        raise ValueError(f"example {number} has no labelled token")
    if labels[-len(end) :] != end:
        raise ValueError(
            f"example {number}: the end of turn {tokenizer.convert_ids_to_tokens(end)} carries no "
            "label: the model would never stop"
        )
    if runs[0][0] == 0:
        raise ValueError(f"example {number}: the loss falls on the prompt, too")
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise ValueError(f"example {number}: the prompt begins with two <bos> tokens")
    for start, stop in runs:
        answer = ids[start:stop]
        if labels[start:stop] != answer or answer[-len(end) :] != end:
            raise ValueError(f"example {number}: labels are not the tokens of the answer")
        if stops & set(answer[: -len(end)]):
            raise AnswerFault(
                f"example {number}: the answer holds a token that ends the turn in its middle: "
                f"{tokenizer.decode(answer)[:80]!r}"
            )


def check_turns(
    tokenizer: PreTrainedTokenizerBase,
    example: dict[str, list[int]],
    messages: list[dict],
    number: int,
) -> None:
    """Check an example against its conversation, turn by turn.

    It trains the last answer alone (``chat.encode_example``) or all that have no ``weight: 0``. At
    each trained answer, the tokens before it must be the prompt that inference would see, and
    the labelled ones the answer with its end of turn.

    Raises:
        ValueError: naming the example.
    """
    ids, runs, turns = example["input_ids"], spans(example["labels"]), trained_turns(messages)
    turns = turns[-1:] if len(runs) == 1 else turns
    if len(runs) != len(turns):
        raise ValueError(f"example {number}: {len(runs)} of {len(turns)} answers are trained")
    for turn, (start, stop) in zip(turns, runs, strict=True):
        prompt, [answer] = chat.encode_answers(
            tokenizer, messages[:turn], [messages[turn]["content"]]
        )
        if ids[:start] != prompt:
            raise ValueError(f"example {number}: the prompt trained on is not the one of inference")
        if ids[start:stop] != answer + chat.end_of_turn(tokenizer):
            raise ValueError(f"example {number}: labels are not the tokens of the answer")
