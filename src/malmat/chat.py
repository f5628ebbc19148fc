"""Messages → token ids and labels, the same at training and at inference.

The mistakes that spoil tuned chat models are made here: a prompt that differs
between training and inference, a double ``<bos>``, a turn terminator that carries
no label (so the model never learns to stop), a loss on the prompt. So there is
one rendering of a prompt, used by both sides, and a training example is *that
prompt's ids* followed by the answer and the template's own end of turn.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORE = -100
"""Label of a token without loss (PyTorch's cross-entropy ``ignore_index``)."""

GEMMA_TEMPLATE = (
    "{{ bos_token }}"
    "{%- set ns = namespace(system='') -%}"
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}"
    "{%- set ns.system = message.content | trim + '\n\n' -%}"
    "{%- else -%}"
    "{{ '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\n'"
    " + (ns.system if message.role == 'user' else '') + message.content | trim"
    " + '<end_of_turn>\n' }}"
    "{%- if message.role == 'user' -%}{%- set ns.system = '' -%}{%- endif -%}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<start_of_turn>model\n' }}{%- endif -%}"
)
"""Gemma's turn format (https://ai.google.dev/gemma/docs/core/prompt-structure), for the base model
that comes without a template. A system message opens the first user turn, as Gemma has no system
role."""

_RUN_ON = re.compile(
    r"^[ \t]*(?:assistant|user|model|system|human|사용자|어시스턴트)[ \t]*:?[ \t]*$"
    r"|<\|?/?(?:start_of_turn|end_of_turn|im_start|im_end|eot_id|start_header_id|end_header_id"
    r"|endofturn|begin_of_text|end_of_text|endoftext)\|?>"
    r"|\[\|(?:user|assistant|system|endofturn)\|\]"
    r"|\[/?INST\]"
    r"|^###[ \t]*(?:instruction|response|user|assistant|input)\b",
    re.IGNORECASE | re.MULTILINE,
)


def run_on(text: str) -> int | None:
    """Where an answer runs past the end of its turn into another (character index), or None.

    Found by what such answers show: a line that is only a role name, or a chat
    template's own markup.
    """
    match = _RUN_ON.search(text)
    return match.start() if match else None


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[dict]) -> str:
    """The prompt text up to where the assistant begins to write, thinking off.

    Raises:
        ValueError: the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise ValueError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; "
            "use an instruction-tuned model or a folder with chat_template.jinja"
        )
    return tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template writes <bos> itself; letting the tokenizer add one makes two.
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _with_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    bos = tokenizer.bos_token_id
    if bos is not None and getattr(tokenizer, "add_bos_token", False) and ids[:1] != [bos]:
        return [bos, *ids]  # for a template that leaves <bos> to the tokenizer
    return ids


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[dict]) -> list[int]:
    """Token ids of ``render_prompt``, with exactly one ``<bos>`` where the model has one."""
    return _with_bos(tokenizer, _ids(tokenizer, render_prompt(tokenizer, messages)))


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that the chat template writes after an assistant's answer, terminator first.

    Found by rendering a marked answer, so that it holds for every template; cut
    after the first special token, since what follows belongs to the next turn.

    Raises:
        ValueError: the template closes the answer without a special token, so that a
            model trained on it could not learn to stop.
    """
    marker = "끝표시0x5e"
    question = {"role": "user", "content": "질문"}
    text = tokenizer.apply_chat_template(
        [question, {"role": "assistant", "content": marker}], tokenize=False, enable_thinking=False
    )
    ids = _ids(tokenizer, text.rpartition(marker)[2])
    special = set(tokenizer.all_special_ids) | {
        index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    }
    for position, index in enumerate(ids):
        if index in special:
            return ids[: position + 1]
    if not ids and tokenizer.eos_token_id is not None:
        return [tokenizer.eos_token_id]
    raise ValueError(
        f"{tokenizer.name_or_path}: the chat template does not close the assistant's turn with a "
        "special token; a model trained on it would never stop"
    )


def terminators(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Token ids that end generation: the template's end of turn and the tokenizer's EOS."""
    ids = {end_of_turn(tokenizer)[-1]}
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return sorted(ids)


def encode_example(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict]
) -> dict[str, list[int]]:
    """A training example: the last message is the target, everything before it the prompt.

    Returns:
        ``input_ids`` and ``labels`` of one length; labels are -100 on the prompt,
        live on the answer and on the turn terminator.
    """
    text, answer = render_prompt(tokenizer, messages[:-1]), messages[-1]["content"]
    prompt = _with_bos(tokenizer, _ids(tokenizer, text))
    together = _with_bos(tokenizer, _ids(tokenizer, text + answer))
    target = together[len(prompt) :]
    # The answer is tokenized in its place, since some tokenizers write "▁A" for a lone "A". Where
    # a token straddles the border, the prompt's ids are what inference will see, and stay.
    if together[: len(prompt)] != prompt:
        target = _ids(tokenizer, answer)
    target = target + end_of_turn(tokenizer)
    return {"input_ids": prompt + target, "labels": [IGNORE] * len(prompt) + target}


def preflight(
    tokenizer: PreTrainedTokenizerBase, examples: list[dict[str, Any]], pad_token_id: int | None
) -> dict[str, Any]:
    """Check encoded examples before any GPU hour is spent.

    Returns:
        Token statistics: ``examples, tokens, labelled_tokens, longest``.

    Raises:
        ValueError: an example has no live label on the terminator, starts with two
            ``<bos>``, or padding would mask the terminator's label.
    """
    stop = end_of_turn(tokenizer)[-1]
    bos = tokenizer.bos_token_id
    for example in examples:
        if example["labels"][-1] != stop:
            raise ValueError("the end-of-turn token carries no label: the model would never stop")
        if bos is not None and example["input_ids"][:2] == [bos, bos]:
            raise ValueError("the prompt begins with two <bos> tokens")
        if all(label == IGNORE for label in example["labels"]):
            raise ValueError("an example has no labelled token")
    lengths = [len(example["input_ids"]) for example in examples]
    return {
        "examples": len(examples),
        "tokens": sum(lengths),
        "labelled_tokens": sum(
            label != IGNORE for example in examples for label in example["labels"]
        ),
        "longest": max(lengths),
        "terminator": tokenizer.convert_ids_to_tokens(stop),
        "pad_is_terminator": pad_token_id == stop,
    }
