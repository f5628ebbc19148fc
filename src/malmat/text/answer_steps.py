"""What is taken off a model's answer before it is compared with a reference, step by step."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from malmat.text.korean import normalize

_END = re.compile(
    r"<\|?(?:im_end|im_start|eot_id|eom_id|end_of_text|endoftext|endofturn|end_of_turn"
    r"|start_of_turn|end)\|?>|</?s>|<eos>|<pad>|\[\|endofturn\|\]"
    r"|^[^\S\n]*(?:user|assistant|model|system)[^\S\n]*:?[^\S\n]*$",
    re.MULTILINE,
)
_ROLE = r"(?:assistant|model|bot|AI|어시스턴트)"
_MARK = re.compile(
    r"^[\s#>*\-]*(?:최종 ?)?(?:답변|정답|해답|답|[Aa]nswer)\s*(?:은|는)?\s*[:：]\s*",
    re.MULTILINE,
)


def without_ends(text: str) -> str:
    """The text up to the first mark that ends a turn, or line that begins another one."""
    while (first := _END.match(text.lstrip())) is not None:
        text = text.lstrip()[first.end() :]
    end = _END.search(text)
    return text[: end.start()].rstrip() if end else text


def without_roles(text: str) -> str:
    """The text without the word of a role before a colon, or stuck to its end."""
    text = re.sub(rf"\A\s*{_ROLE}\s*(?:[:：]|\n)\s*", "", text)
    return re.sub(rf"(?:\n|(?<=[.!?]))\s*{_ROLE}\s*[:：]?\s*\Z", "", text)


def after_mark(text: str) -> str:
    """What follows the last ``답변:``, ``정답:`` … at the beginning of a line; all of the text
    where there is none."""
    marks = list(_MARK.finditer(text))
    return text[marks[-1].end() :] if marks else text


def without_markdown(text: str) -> str:
    """The text without the signs of Markdown: emphasis, headings, bullets, code, quotations."""
    text = re.sub(r"^```.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"^\s*(?:#{1,6}|[-*+•>])\s+", "", text, flags=re.MULTILINE)
    text = re.sub(r"(\*\*|__|`)(?=\S)(.+?)(?<=\S)\1", r"\2", text, flags=re.DOTALL)
    return re.sub(r"(?<![\w*])\*(?=\S)([^*\n]+?)(?<=\S)\*(?![\w*])", r"\1", text)


def on_one_line(text: str) -> str:
    """The text with each run of blanks and line breaks, literal ones too, as one blank."""
    return " ".join(text.replace("\\n", " ").split())


STEPS: dict[str, Callable[[str], str]] = {
    "jamo": normalize,
    "ends": without_ends,
    "roles": without_roles,
    "markdown": without_markdown,
    "mark": after_mark,
    "lines": on_one_line,
}
"""In their order. ``jamo`` turns conjoining jamo back into those that are typed."""


def stepped(text: str, skip: Collection[str] = ()) -> tuple[str, list[str]]:
    """The text after all steps but those of ``skip``, and the names of those that changed it."""
    changed = []
    for name, step in STEPS.items():
        if name not in skip and (new := step(text)) != text:
            changed.append(name)
            text = new
    return text, changed
