"""Choice by logits: how probable the model finds each option as its next token."""

from __future__ import annotations

from typing import Any

from malmat.chat import encode_prompt
from malmat.generate import batches


def choice_tokens(tokenizer: Any, messages: list[dict], choices: list[str]) -> list[int]:
    """The token that each choice begins with in its place after the prompt.

    Raises:
        ValueError: two choices begin with the same token, so that one forward pass
            cannot tell them apart.
    """
    from malmat.chat import encode_example

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

    Logits are computed for the last position only: over a vocabulary of 262 144
    they cost more than the rest of a small model.

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
    for batch in batches([len(prompt) for prompt in prompts], batch_size):
        width = max(len(prompts[index]) for index in batch)
        ids = torch.full((len(batch), width), pad)
        mask = torch.zeros_like(ids)
        for row, index in enumerate(batch):
            ids[row, width - len(prompts[index]) :] = torch.tensor(prompts[index])
            mask[row, width - len(prompts[index]) :] = 1
        with torch.inference_mode():
            logits = model(
                input_ids=ids.to(model.device),
                attention_mask=mask.to(model.device),
                position_ids=(mask.cumsum(-1) - 1).clamp(min=0).to(model.device),
                logits_to_keep=1,
                use_cache=False,
            ).logits[:, -1, tokens]
        for index, row in zip(batch, logits.double().softmax(-1).tolist(), strict=True):
            result[index] = row
    return result
