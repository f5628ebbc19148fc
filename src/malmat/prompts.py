"""Reads the wording in ``src/eval/prompt.py`` and checks its placeholders."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.files import read_text

PROMPT_FILE = ROOT / "src" / "eval" / "prompt.py"

PLACEHOLDERS = {
    "CHAT": {"question"},
    "AUGMENT": {"title", "content", "example_q", "example_a", "count", "known"},
    "AUGMENT_KNOWN": {"pairs"},
    "AUGMENT_WORKED": set(),
    "AUGMENT_QUESTION": {"title", "content", "example_q"},
    "JUDGE_UNDERSTAND": {"title", "content", "question", "answer"},
    "JUDGE_USAGE": {"terms", "question", "answer"},
    "JUDGE_UNDERSTAND_LOCAL": {"title", "content", "question", "answer"},
    "HARMFUL": {"text"},
}
"""The constants of ``prompt.py`` and the placeholders each must have."""

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")


def load_prompts(path: Path | None = None) -> dict[str, str]:
    """All wording, by constant name. The file is parsed, not run.

    Raises:
        InputError: not Python, a constant is missing or not a string, or its
            placeholders are not the ones it must have.
    """
    path = path or PROMPT_FILE
    try:
        tree = ast.parse(read_text(path))
    except SyntaxError as error:
        raise InputError(f"not Python ({error.msg})", path=path, line=error.lineno) from None
    prompts = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name = node.targets[0].id
        if name not in PLACEHOLDERS:
            raise InputError(
                "not a prompt that a script reads",
                path=path,
                line=node.lineno,
                field=name,
                fix=f"One of {', '.join(PLACEHOLDERS)}.",
            )
        try:
            text = ast.literal_eval(node.value)
        except ValueError:
            text = None
        if not isinstance(text, str):
            raise InputError("expected a string", path=path, line=node.lineno, field=name)
        found, needed = set(_PLACEHOLDER.findall(text)), PLACEHOLDERS[name]
        for placeholder in sorted(found - needed):
            raise InputError(
                f"unknown placeholder {{{placeholder}}}",
                path=path,
                line=node.lineno,
                field=name,
                fix=f"It may have {', '.join(f'{{{n}}}' for n in sorted(needed))}.",
            )
        for placeholder in sorted(needed - found):
            raise InputError(
                f"the placeholder {{{placeholder}}} is missing",
                path=path,
                line=node.lineno,
                field=name,
                fix="Put it where the value belongs.",
            )
        prompts[name] = text
    for name in PLACEHOLDERS:
        if name not in prompts:
            raise InputError("missing", path=path, field=name, fix="Add the constant.")
    return prompts


def fill(template: str, **values: object) -> str:
    """The template with its placeholders replaced; braces in the values stay as they are."""
    return _PLACEHOLDER.sub(lambda match: str(values[match.group(1)]), template)


def chat_messages(prompts: dict[str, str], question: str) -> list[dict]:
    """The messages of a question, the same at training and at inference."""
    return [{"role": "user", "content": fill(prompts["CHAT"], question=question)}]
