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
from weakref import WeakKeyDictionary

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


THINKING_OFF = {"enable_thinking": False, "skip_reasoning": True, "thinking": False}
"""What switches reasoning off: Qwen3, EXAONE 4 and SmolLM3; HyperCLOVA X Think; DeepSeek and
Granite. A template passes over names it does not know."""


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


def render_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[dict]) -> str:
    """The prompt text up to where the assistant begins to write, thinking off.

    A special token that is spelt out in a message is text: a space in it keeps it from ending
    the turn.

    Raises:
        ValueError: the tokenizer has no chat template, or it refuses these messages.
    """
    messages = [{**one, "content": _as_text(tokenizer, one["content"])} for one in messages]
    return _render(tokenizer, messages, add_generation_prompt=True)


def _as_text(tokenizer: PreTrainedTokenizerBase, text: str) -> str:
    if not re.search(r"[<\[]", text):  # listing the tokens takes long
        return text
    special = (
        str(token) for token in tokenizer.convert_ids_to_tokens(list(special_ids(tokenizer)))
    )
    spelt = "|".join(re.escape(token) for token in special if len(token) > 1)
    return re.sub(spelt, lambda found: f"{found[0][0]} {found[0][1:]}", text) if spelt else text


def render_conversation(tokenizer: PreTrainedTokenizerBase, messages: list[dict]) -> str:
    """The whole conversation as the template writes it, the end of the last turn included.

    Raises:
        ValueError: as ``render_prompt``.
    """
    return _render(tokenizer, messages, add_generation_prompt=False)


def _render(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict], *, add_generation_prompt: bool
) -> str:
    from jinja2 import TemplateError

    if not tokenizer.chat_template:
        raise ValueError(
            f"{tokenizer.name_or_path}: the tokenizer has no chat template; "
            "use an instruction-tuned model or a folder with chat_template.jinja"
        )
    try:
        return tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt, **THINKING_OFF
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ValueError(
            f"{tokenizer.name_or_path}: the chat template refuses the messages ({roles}): {error}"
        ) from None


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


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return set(tokenizer.all_special_ids) | {
        index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    }


_ENDS: WeakKeyDictionary[Any, tuple[Any, list[int], set[int]]] = WeakKeyDictionary()


def _ending(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], set[int]]:
    """The end of turn and its special tokens, found once for a tokenizer as it is: listing
    Gemma's 6,000 added tokens takes longer than encoding an example."""
    state = (tokenizer.chat_template, tokenizer.eos_token, len(tokenizer))
    known = _ENDS.get(tokenizer)
    if known is None or known[0] != state:
        special = special_ids(tokenizer)
        end = _find_end(tokenizer, special)
        known = _ENDS[tokenizer] = (state, end, special & set(end))
    return known[1:]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that the chat template writes after an assistant's answer, up to the terminator.

    Found by rendering a marked answer, so that it holds for every template. Where the
    template ends on several special tokens (HyperCLOVA X: ``<|im_end|><|endofturn|>``),
    all of them are the end; what follows the first is left out only if it belongs to the
    next turn. A template that writes nothing (SOLAR) leaves the end to the EOS token.

    Raises:
        ValueError: the template closes the answer with something that is no special
            token, or that also opens a turn: a model trained on it could not learn to stop.
    """
    return list(_ending(tokenizer)[0])


def _find_end(tokenizer: PreTrainedTokenizerBase, special: set[int]) -> list[int]:
    name, eos = tokenizer.name_or_path, tokenizer.eos_token_id
    marker = "끝표시0x5e"
    question = [{"role": "user", "content": "질문0x5f"}]
    text = render_conversation(tokenizer, [*question, {"role": "assistant", "content": marker}])
    _, found, text = text.rpartition(marker)
    if not found:
        raise ValueError(f"{name}: the chat template does not write the assistant's answer whole")
    ids = _ids(tokenizer, text)
    if not text.strip():
        if eos is not None:
            return [eos]
    elif start := next((n for n, index in enumerate(ids, 1) if index in special), None):
        end = start
        while end < len(ids) and ids[end] in special:
            end += 1
        end = start if tokenizer.decode(ids[end:]).strip() else end
        if ids[start - 1] != eos and ids[start - 1] in _opening(tokenizer, question, special):
            raise ValueError(
                f"{name}: the chat template lets the assistant's turn run into "
                f"{tokenizer.convert_ids_to_tokens(ids[start - 1])}, which opens the next one, "
                "without an end of turn; a model trained on it would never stop"
            )
        return ids[:end]
    elif eos is not None and text.lstrip().startswith(tokenizer.eos_token):
        # A tokenizer that splits special tokens takes "</s>" for text; the model's EOS is one id.
        return [eos]
    raise ValueError(
        f"{name}: the chat template does not close the assistant's turn with a "
        "special token; a model trained on it would never stop"
    )


def _opening(
    tokenizer: PreTrainedTokenizerBase, question: list[dict], special: set[int]
) -> set[int]:
    """The special tokens that open a turn: the assistant's, and the last one before the user's."""
    without, prompt = render_conversation(tokenizer, question), render_prompt(tokenizer, question)
    opening = _ids(tokenizer, prompt[len(without) :] if prompt.startswith(without) else "")
    before = _ids(tokenizer, prompt.partition(question[0]["content"])[0])
    return special & {*opening, *[n for n in before if n in special][-1:]}


def terminators(tokenizer: PreTrainedTokenizerBase, generation_config: Any = None) -> list[int]:
    """Token ids that end generation: the template's end of turn and the tokenizer's EOS.

    Args:
        generation_config: the model's own, whose EOS ids are added. It can name more than
            the tokenizer does (Llama 3: ``<|end_of_text|>``), or lack the template's end of
            turn, which a model that is only served with it would then run past.
    """
    own = getattr(generation_config, "eos_token_id", None)
    ids = set(own if isinstance(own, (list, tuple)) else [own]) | {tokenizer.eos_token_id}
    ids |= _ending(tokenizer)[1]
    return sorted(index for index in ids if index is not None)


def encode_answers(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict], answers: list[str]
) -> tuple[list[int], list[list[int]]]:
    """Token ids of a prompt, and of each answer in its place behind it, without the end of turn.

    An answer is tokenized in its place, since some tokenizers write "▁A" for a lone "A". Where
    a token straddles the border, the prompt's ids are what inference will see, and stay. White
    space around an answer, which templates trim, is left out.
    """
    text = render_prompt(tokenizer, messages)
    prompt = _with_bos(tokenizer, _ids(tokenizer, text))
    targets = []
    for answer in (answer.strip() for answer in answers):
        together = _with_bos(tokenizer, _ids(tokenizer, text + answer))
        fits = together[: len(prompt)] == prompt
        targets.append(together[len(prompt) :] if fits else _ids(tokenizer, answer))
    return prompt, targets


def encode_example(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict]
) -> dict[str, list[int]]:
    """A training example: the last message is the target, everything before it the prompt.

    In a conversation of several turns the earlier answers carry no loss: templates write them
    differently from an answer in the making (Qwen3 drops the thinking block), so that only the
    last one is trained as it is generated.

    Returns:
        ``input_ids`` and ``labels`` of one length; labels are -100 on the prompt,
        live on the answer (without white space around it, which templates trim) and on
        the turn terminator.
    """
    prompt, [target] = encode_answers(tokenizer, messages[:-1], [messages[-1]["content"]])
    target = target + end_of_turn(tokenizer)
    return {"input_ids": prompt + target, "labels": [IGNORE] * len(prompt) + target}
