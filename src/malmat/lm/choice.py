"""Choice by logits: how probable the model finds each option as its next token."""

from __future__ import annotations

from typing import Any

from malmat.lm.chat import encode_prompt
from malmat.lm.generate import by_length, read_prompts


def choice_tokens(tokenizer: Any, messages: list[dict], choices: list[str]) -> list[int]:
    """The token that each choice begins with in its place after the prompt.

    Raises:
        ValueError: two choices begin with the same token, so that one forward pass
            cannot tell them apart.
    """
    from malmat.lm.chat import encode_example

    prompt = encode_prompt(tokenizer, messages)
    firsts = []
    for choice in choices:
        example = encode_example(tokenizer, [*messages, {"role": "assistant", "content": choice}])
        firsts.append(example["input_ids"][len(prompt)])
    if len(set(firsts)) != len(firsts):
        raise ValueError(f"the choices {choices} do not begin with different tokens")
    return firsts


def choice_probabilities(
    model: Any,
    tokenizer: Any,
    conversations: list[list[dict]],
    choices: list[str],
    *,
    batch_size: int = 16,
) -> list[list[float]]:
    """Softmax over the choices' first tokens at the position after each prompt.

    What the prompts of a batch begin with is read once, and logits are computed for the
    last position only.

    Args:
        conversations: messages a row, ending with the user's.
        choices: the options, the same for all rows.

    Returns:
        A list of ``len(choices)`` probabilities a row, in the order of the rows.
    """
    import torch

    if not conversations:
        return []
    tokens = choice_tokens(tokenizer, conversations[0], choices)
    prompts = [encode_prompt(tokenizer, messages) for messages in conversations]
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokens[0]
    result: list[list[float]] = [[] for _ in prompts]
    order = by_length([len(prompt) for prompt in prompts])
    for first in range(0, len(order), batch_size):
        batch = order[first : first + batch_size]
        with torch.inference_mode():
            logits = read_prompts(model, [prompts[index] for index in batch], pad)[0][:, tokens]
        for index, row in zip(batch, logits.double().softmax(-1).tolist(), strict=True):
            result[index] = row
    return result
