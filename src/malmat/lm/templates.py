"""Chat templates for the tokenizers of base models, which come without one."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

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


LLAMA3_TEMPLATE = (
    "{{ bos_token }}"
    "{%- for message in messages -%}"
    "{{ '<|start_header_id|>' + message.role + '<|end_header_id|>\n\n'"
    " + message.content | trim + '<|eot_id|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}"
    "{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
    "{%- endif -%}"
)
"""Llama 3's turn format (https://www.llama.com/docs/model-cards-and-prompt-formats/), for base
models of that family, such as kanana-1.5-8b-base."""


SOLAR_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message.role == 'system' -%}"
    "{{ '### System:\n' + message.content + '\n\n' }}"
    "{%- elif message.role == 'user' -%}"
    "{{ '### User:\n' + message.content + '\n\n' }}"
    "{%- else -%}"
    "{{ '### Assistant:\n' + message.content + eos_token + '\n\n' }}"
    "{%- endif -%}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '### Assistant:\n' }}{%- endif -%}"
)
"""The turn format of SOLAR-10.7B-Instruct, for its relatives whose tokenizers come without one
(POLAR, Solar-Ko-Recovery). SOLAR itself writes nothing after an answer; here ``</s>`` ends it, so
that in a conversation of several turns, too, the model sees what it has to write."""


PLAIN_TEMPLATE = "{%- for message in messages -%}{{ message.content | trim + '\n' }}{%- endfor -%}"
"""A line break after each message and nothing else, for base models that know no turns."""


def give_template(tokenizer: PreTrainedTokenizerBase, *, plain: bool = False) -> str | None:
    """A chat template for a tokenizer that has none, as base models' often do.

    The format is the one whose special tokens the vocabulary holds, which the model's
    relatives were tuned with; SOLAR's, which has none, goes by the name.

    Args:
        plain: gives ``PLAIN_TEMPLATE`` where no format fits.

    Returns:
        The name of the format given (``Gemma``, ``Llama 3``, ``SOLAR``, ``plain``); None
        where the tokenizer has a template already or no format fits.
    """
    if tokenizer.chat_template:
        return None
    known = tokenizer.get_vocab()
    for name, template, tokens in (
        ("Gemma", GEMMA_TEMPLATE, ("<start_of_turn>", "<end_of_turn>")),
        ("Llama 3", LLAMA3_TEMPLATE, ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
    ):
        if all(token in known for token in tokens):
            tokenizer.chat_template = template
            return name
    if re.search(r"solar|polar", str(tokenizer.name_or_path), re.IGNORECASE):
        tokenizer.chat_template = SOLAR_TEMPLATE
        return "SOLAR"
    if plain:
        tokenizer.chat_template = PLAIN_TEMPLATE
        return "plain"
    return None
