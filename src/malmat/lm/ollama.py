"""A chat template as Ollama writes it, in Go's template language, found by rendering marks."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from malmat.errors import InputError
from malmat.lm.chat import render_prompt, special_ids, terminators
from malmat.lm.sampling import Sampling

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_USER, _ANSWER, _NEXT, _SYSTEM = "첫말0x5a", "대답0x5b", "다음말0x5c", "안내0x5d"
"""Texts that no template writes by itself."""


@dataclass(frozen=True)
class Turns:
    """What a chat template writes around the texts of a conversation, ``<bos>`` left out.

    Args:
        head: before the first message of the user.
        system: before and after a system message, up to the user's; None: there is no place.
        answer: between a message and its answer.
        following: between an answer and the next message.
        tail: after the last message, up to where the model begins to write.
    """

    head: str
    system: tuple[str, str] | None
    answer: str
    following: str
    tail: str

    def render(self, messages: list[dict]) -> str:
        """A conversation as Ollama writes it by ``go_template``."""
        system = "".join(one["content"] for one in messages if one["role"] == "system")
        head, text = self.head, ""
        if system and self.system:
            head = system.join(self.system)
        for message in messages:
            if message["role"] == "user":
                text += (self.following if text else head) + message["content"]
            elif message["role"] == "assistant":
                text += self.answer + message["content"]
        return text + self.tail

    def go_template(self, wording: str = "{question}") -> str:
        """The template for a Modelfile.

        Args:
            wording: what each message of the user is put into.
        """
        before, _, after = wording.partition("{question}")
        content = f"{_go(before)}{{{{ .Content }}}}{_go(after)}"
        head = _go(self.head)
        if self.system:
            with_system = f"{_go(self.system[0])}{{{{ $.System }}}}{_go(self.system[1])}"
            head = f"{{{{ if $.System }}}}{with_system}{{{{ else }}}}{head}{{{{ end }}}}"
        return (
            "{{- $first := true }}\n"
            "{{- range .Messages }}\n"
            '{{- if eq .Role "user" }}\n'
            f"{{{{- if $first }}}}{head}{{{{ $first = false }}}}"
            f"{{{{ else }}}}{_go(self.following)}{{{{ end }}}}{content}\n"
            f'{{{{- else if eq .Role "assistant" }}}}{_go(self.answer)}{{{{ .Content }}}}\n'
            "{{- end }}\n"
            "{{- end }}" + _go(self.tail)
        )


def _go(text: str) -> str:
    """An action that writes a text as it is; JSON's strings are Go's."""
    return f"{{{{ {json.dumps(text, ensure_ascii=False)} }}}}" if text else ""


def turns_of(tokenizer: PreTrainedTokenizerBase) -> Turns:
    """The turns of a tokenizer's chat template.

    Raises:
        InputError: a template that writes a conversation in another way than turn by turn.
    """
    asked, said = {"role": "user", "content": _USER}, {"role": "assistant", "content": _ANSWER}
    more = {"role": "user", "content": _NEXT}
    head, *after = _cut(tokenizer, [asked])
    _, answer, following, tail = _cut(tokenizer, [asked, said, more])
    try:
        before, behind, _ = _cut(tokenizer, [{"role": "system", "content": _SYSTEM}, asked])
        system = (before, behind)
    except ValueError:  # the template refuses system messages, or leaves them out
        system = None
    turns = Turns(head, system, answer, following, tail)
    conversation = [asked, said, more, said, asked]
    bos = tokenizer.bos_token or ""
    if after != [tail] or turns.render(conversation) != render_prompt(
        tokenizer, conversation
    ).removeprefix(bos):
        raise InputError(
            "the chat template writes earlier turns in a way that Ollama's cannot",
            field="to",
            fix="Leave ollama out: Ollama reads the GGUF's own template where it knows it.",
        )
    return turns


def _cut(tokenizer: PreTrainedTokenizerBase, messages: list[dict]) -> list[str]:
    """The rendered prompt, without ``<bos>``, cut at the messages' texts.

    Raises:
        ValueError: a text is not in it.
    """
    text = render_prompt(tokenizer, messages).removeprefix(tokenizer.bos_token or "")
    pieces = []
    for message in messages:
        piece, found, text = text.partition(message["content"])
        if not found:
            raise ValueError("the chat template leaves a message out")
        pieces.append(piece)
    return [*pieces, text]


def modelfile(
    tokenizer: PreTrainedTokenizerBase,
    generation_config: object,
    source: str,
    *,
    sampling: Sampling,
    wording: str | None = None,
    notes: tuple[str, ...] = (),
) -> str:
    """An Ollama Modelfile: weights, template, stop tokens and sampling.

    Args:
        source: a GGUF file or a folder of safetensors, from the Modelfile's own folder on.
        wording: what the model was trained to be asked in.
        notes: written as comments.
    """
    template = turns_of(tokenizer).go_template(wording or "{question}")
    special = special_ids(tokenizer)
    stops = [i for i in terminators(tokenizer, generation_config) if i in special]
    parameters = [
        *(f"stop {json.dumps(tokenizer.convert_ids_to_tokens(i))}" for i in stops),
        f"temperature {sampling.temperature}",
        f"top_p {sampling.top_p}",
        f"top_k {sampling.top_k}",
        f"min_p {sampling.min_p}",
        f"repeat_penalty {sampling.repetition_penalty}",
        "repeat_last_n -1",  # as here, over the whole text
        f"num_predict {sampling.max_new_tokens}",
    ]
    lines = [
        *(f"# {' '.join(note.split())}" for note in notes),
        f"FROM ./{source}",
        f'TEMPLATE """{template}"""',
        *(f"PARAMETER {parameter}" for parameter in parameters),
    ]
    return "\n".join(lines) + "\n"
