"""Labels of training examples and their template, proved: what is trained is what the model would
have to generate."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from malmat.lm import chat
from malmat.lm.chat import EMPTY_THOUGHT, IGNORE
from malmat.messages import trained_turns

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


_PROBE = [
    {"role": "user", "content": "주말에 뭐 해?"},
    {"role": "assistant", "content": "집콕이지"},
]


class ExampleFault(ValueError):
    """What keeps one example from being trained, where others may be.

    Args:
        number: of the example, from 1.
        fix: what can be done about it, where that is known.
    """

    def __init__(self, number: int, problem: str, *, fix: str | None = None):
        super().__init__(f"example {number}: {problem}")
        self.number, self.problem, self.fix = number, problem, fix


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
        ExampleFault: saying what is wrong with it.
    """
    ids, labels = example["input_ids"], example["labels"]
    runs = spans(labels)
    if len(ids) != len(labels) or not runs:
        raise ExampleFault(number, "there is no labelled token")
    if labels[-len(end) :] != end:
        raise ExampleFault(
            number,
            f"the end of turn {tokenizer.convert_ids_to_tokens(end)} carries no label: the model "
            "would never stop",
        )
    if runs[0][0] == 0:
        raise ExampleFault(number, "the loss falls on the prompt, too")
    bos = tokenizer.bos_token_id
    if bos is not None and ids[:2] == [bos, bos]:
        raise ExampleFault(number, "the prompt begins with two <bos> tokens")
    for start, stop in runs:
        answer = ids[start:stop]
        if labels[start:stop] != answer or answer[-len(end) :] != end:
            raise ExampleFault(number, "labels are not the tokens of the answer")
        if stops & set(answer[: -len(end)]):
            raise ExampleFault(
                number,
                "the answer holds a token that ends the turn in its middle: "
                f"{tokenizer.decode(answer)[:80]!r}",
                fix="Take the token out of the answer.",
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
        ExampleFault: saying where they part.
    """
    ids, runs, turns = example["input_ids"], spans(example["labels"]), trained_turns(messages)
    turns = turns[-1:] if len(runs) == 1 else turns
    if len(runs) != len(turns):
        raise ExampleFault(number, f"{len(runs)} of {len(turns)} answers are trained")
    for turn, (start, stop) in zip(turns, runs, strict=True):
        prompt, [answer] = chat.encode_answers(
            tokenizer, messages[:turn], [messages[turn]["content"]]
        )
        if ids[:start] != prompt:
            raise ExampleFault(number, "the prompt trained on is not the one of inference")
        if ids[start:stop] != answer + chat.end_of_turn(tokenizer):
            raise ExampleFault(number, "labels are not the tokens of the answer")


def check_template(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """Check the template on a plain question and answer.

    Returns:
        As ``thinking_off``.

    Raises:
        ValueError: it has no end of turn or two ``<bos>``, renders training and inference
            differently, or cannot switch thinking off. Whatever the rows are, it cannot be
            trained on.
    """
    end = chat.end_of_turn(tokenizer)
    thinking = thinking_off(tokenizer)
    round_trip(tokenizer, _PROBE)
    example = chat.encode_example(tokenizer, _PROBE)
    try:
        check_example(tokenizer, example, end, set(chat.terminators(tokenizer)), 1)
    except ExampleFault as fault:
        raise ValueError(f"{tokenizer.name_or_path}: of any question, {fault.problem}") from None
    return thinking


def thinking_off(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """``off`` where the template writes or knows a thinking block, None where it does not.

    Raises:
        ValueError: the prompt ends inside a thinking block all the same, so that the
            answer would be trained as a thought.
    """
    prompt = chat.render_prompt(tokenizer, _PROBE[:1]).rstrip()
    if prompt.endswith(("<think>", "assistant/think")):
        raise ValueError(
            f"{tokenizer.name_or_path}: the chat template opens a thinking block that cannot be "
            "switched off: answers would be trained as thoughts; use the instruct model"
        )
    known = any(name in str(tokenizer.chat_template) for name in chat.THINKING_OFF)
    return "off" if known or EMPTY_THOUGHT.search(prompt) else None


def round_trip(tokenizer: PreTrainedTokenizerBase, messages: list[dict]) -> None:
    """Whether a whole conversation is the prompt of inference, the answer and the end of turn.

    An empty thinking block is passed over: some templates (EXAONE 4) write it before
    an answer in the making only. What is trained is what inference sees. White space that the
    template writes before an answer is part of what is trained.

    Raises:
        ValueError: saying where the two renderings part.
    """
    prompt = chat.render_prompt(tokenizer, messages[:-1])
    answer = messages[-1]["content"].strip()
    trained = [*messages[:-1], {**messages[-1], "content": answer}]
    whole = EMPTY_THOUGHT.sub("", chat.render_conversation(tokenizer, trained))
    expected = EMPTY_THOUGHT.sub("", prompt) + chat.answer_lead(tokenizer) + answer
    if whole.startswith(expected):
        return
    at = next((n for n, (a, b) in enumerate(zip(expected, whole, strict=False)) if a != b), None)
    at = min(len(expected), len(whole)) if at is None else at
    raise ValueError(
        f"{tokenizer.name_or_path}: the chat template renders a conversation differently at "
        "training and at inference: the prompt with the answer has "
        f"{expected[max(0, at - 15) : at + 25]!r} where the conversation has "
        f"{whole[max(0, at - 15) : at + 25]!r}"
    )
