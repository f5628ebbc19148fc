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
    said = [{key: one[key] for key in one if key != "weight"} for one in messages]
    try:
        return tokenizer.apply_chat_template(
            said, tokenize=False, add_generation_prompt=add_generation_prompt, **THINKING_OFF
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise ValueError(
            f"{tokenizer.name_or_path}: the chat template refuses the messages ({roles}): {error}"
        ) from None


def _ids(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    # The template writes <bos> itself; letting the tokenizer add one makes two.
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def _adds_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether the tokenizer itself begins a text with ``<bos>``: its ``add_bos_token`` does not say
    so where a ``tokenizer.json`` does it (transformers 5.17)."""
    bos = tokenizer.bos_token_id
    return bos is not None and tokenizer("0", add_special_tokens=True)["input_ids"][:1] == [bos]


def _with_bos(tokenizer: PreTrainedTokenizerBase, ids: list[int]) -> list[int]:
    bos = tokenizer.bos_token_id
    # For a template that leaves <bos> to the tokenizer.
    return [bos, *ids] if ids[:1] != [bos] and _adds_bos(tokenizer) else ids


def encode_prompt(tokenizer: PreTrainedTokenizerBase, messages: list[dict]) -> list[int]:
    """Token ids of ``render_prompt``, with exactly one ``<bos>`` where the model has one."""
    return _with_bos(tokenizer, _ids(tokenizer, render_prompt(tokenizer, messages)))


def special_ids(tokenizer: PreTrainedTokenizerBase) -> set[int]:
    return set(tokenizer.all_special_ids) | {
        index for index, token in tokenizer.added_tokens_decoder.items() if token.special
    }


def write_bos(tokenizer: PreTrainedTokenizerBase) -> bool:
    """Let the chat template write ``<bos>`` where it leaves that to the tokenizer (SOLAR, Zephyr).

    Whoever applies the saved template, as servers do, then sends the prompt that was trained on.

    Returns:
        Whether the template was changed.
    """
    if not _adds_bos(tokenizer):
        return False
    if render_prompt(tokenizer, _EXCHANGE[:1]).startswith(tokenizer.bos_token):
        return False
    tokenizer.chat_template = "{{- bos_token -}}" + tokenizer.chat_template
    return True


_DATE = re.compile(
    r"\b(?:\d{1,2} [A-Z][a-z]{2,8}\.? \d{4}|[A-Z][a-z]{2,8} \d{1,2}, \d{4}|\d{4}-\d\d-\d\d)\b"
)


def date_in_prompt(tokenizer: PreTrainedTokenizerBase) -> str | None:
    """The date that the template writes into every prompt (Llama 3.1 and later), or None;
    ``today's`` where it is another one each day."""
    found = _DATE.search(render_prompt(tokenizer, _EXCHANGE[:1]))
    if found is None:
        return None
    return "today's" if "strftime_now" in str(tokenizer.chat_template) else found[0]


_EXCHANGE = [
    {"role": "user", "content": "질문0x5f"},
    {"role": "assistant", "content": "끝표시0x5e"},
]
"""A conversation whose texts no template writes by itself."""

EMPTY_THOUGHT = re.compile(r"<think>\s*</think>\s*")


def answer_lead(tokenizer: PreTrainedTokenizerBase) -> str:
    """The white space that the template writes between a prompt and its answer: a blank in
    Llama 2's and Vicuna's, nothing in most. Found once for a template."""
    known = _LEADS.get(tokenizer)
    if known is None or known[0] != tokenizer.chat_template:
        known = _LEADS[tokenizer] = (tokenizer.chat_template, _find_lead(tokenizer))
    return known[1]


_LEADS: WeakKeyDictionary[Any, tuple[Any, str]] = WeakKeyDictionary()


def _find_lead(tokenizer: PreTrainedTokenizerBase) -> str:
    try:
        whole = EMPTY_THOUGHT.sub("", render_conversation(tokenizer, _EXCHANGE))
    except ValueError:  # it takes questions only
        return ""
    prompt = EMPTY_THOUGHT.sub("", render_prompt(tokenizer, _EXCHANGE[:1]))
    between = whole.removeprefix(prompt).partition(_EXCHANGE[1]["content"])[0]
    return "" if between.strip() else between


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
    question = _EXCHANGE[:1]
    text = render_conversation(tokenizer, _EXCHANGE)
    _, found, text = text.rpartition(_EXCHANGE[1]["content"])
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
    space around an answer is left out, and written as the template does (``answer_lead``).
    """
    text, lead = render_prompt(tokenizer, messages), answer_lead(tokenizer)
    prompt = _with_bos(tokenizer, _ids(tokenizer, text))
    targets = []
    for answer in (lead + answer.strip() for answer in answers):
        together = _with_bos(tokenizer, _ids(tokenizer, text + answer))
        fits = together[: len(prompt)] == prompt
        targets.append(together[len(prompt) :] if fits else _ids(tokenizer, answer))
    return prompt, targets


def encode_example(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict]
) -> dict[str, list[int]]:
    """A training example: the last message is the target, everything before it the prompt.

    Returns:
        ``input_ids`` and ``labels`` of one length; labels are -100 on the prompt,
        live on the answer (without white space around it, which templates trim) and on
        the turn terminator.
    """
    prompt, [target] = encode_answers(tokenizer, messages[:-1], [messages[-1]["content"]])
    target = target + end_of_turn(tokenizer)
    return {"input_ids": prompt + target, "labels": [IGNORE] * len(prompt) + target}


def encode_conversation(
    tokenizer: PreTrainedTokenizerBase, messages: list[dict], turns: list[int], max_length: int
) -> list[tuple[dict[str, list[int]], list[int]]]:
    """Training examples in which each answer of a conversation is trained once, as it is generated.

    An example ends with an answer. An earlier answer is trained in it, too, if the example begins
    with what inference would see and write there: prompt, answer and end of turn. Where the
    template writes earlier answers in another way (Qwen3 without the thinking block that opens an
    answer in the making, SOLAR without an end), they are examples of their own.

    Args:
        turns: the places of the answers to be trained, in ascending order.
        max_length: tokens that an example may have; answers that end beyond it are left out.

    Returns:
        (the example as of ``encode_example``, the places of the answers that it trains), the one
        with the last answer first.
    """
    left = {turn: encode_example(tokenizer, messages[: turn + 1]) for turn in turns}
    left = {turn: one for turn, one in left.items() if len(one["input_ids"]) <= max_length}
    examples = []
    while left:
        last, example = left.popitem()
        inside = [turn for turn, one in left.items() if _begins_with(example, one)]
        for turn in inside:
            earlier = left.pop(turn)["labels"]
            example["labels"][: len(earlier)] = [
                own if label == IGNORE else label
                for own, label in zip(example["labels"], earlier, strict=False)
            ]
        examples.append((example, [*inside, last]))
    return examples


def _begins_with(example: dict[str, list[int]], other: dict[str, list[int]]) -> bool:
    return example["input_ids"][: len(other["input_ids"])] == other["input_ids"]
