"""Reads the wording in a ``prompt.py`` and checks its placeholders."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from pathlib import Path

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.files import read_text
from malmat.journal import valid_text

PROMPT_FILE = ROOT / "src" / "eval" / "prompt.py"

_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
_DOUBLED = re.compile(r"\{\{\s*([A-Za-z_]\w*)\s*\}\}")


def load_prompts(
    path: Path | None = None, needed: Mapping[str, Collection[str]] | None = None
) -> dict[str, str]:
    """All wording, by constant name. The file is parsed, not run.

    Args:
        needed: constant → the placeholders that it must have, each at least once, and
            no others. The file may hold further constants.

    Raises:
        InputError: not Python, or a needed constant is missing, is not a string, or
            has other placeholders.
    """
    path = path or PROMPT_FILE
    needed = needed or {}
    try:
        tree = ast.parse(read_text(path))
    except SyntaxError as error:
        raise InputError(f"not Python ({error.msg})", path=path, line=error.lineno) from None
    except (ValueError, MemoryError, RecursionError):
        raise InputError("not Python (nested too deep)", path=path) from None
    prompts = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
            continue
        name, text = node.targets[0].id, _string(node.value)
        if name in needed:
            if text is None:
                raise InputError("expected a string", path=path, line=node.lineno, field=name)
            check_placeholders(text, needed[name], path=path, line=node.lineno, field=name)
        if text is not None:
            prompts[name] = text
    for name in needed:
        if name not in prompts:
            raise InputError("missing", path=path, field=name, fix="Add the constant.")
    return prompts


def _string(node: ast.expr) -> str | None:
    """The text of a string literal (pieces one behind the other are one)."""
    value = node.value if isinstance(node, ast.Constant) else None
    return valid_text(value) if isinstance(value, str) else None


def check_placeholders(
    text: str,
    needed: Collection[str],
    *,
    path: Path | None = None,
    line: int | None = None,
    field: str,
) -> None:
    """Raises InputError unless a text has the needed placeholders, and no others."""
    found = set(_PLACEHOLDER.findall(text))
    if doubled := _DOUBLED.search(text):
        problem = f"the placeholder {doubled[0]} has its braces twice"
        fix = f"Write {{{doubled[1]}}}."
    elif unknown := sorted(found - set(needed)):
        problem = f"unknown placeholder {{{unknown[0]}}}"
        fix = f"It may have {', '.join(f'{{{n}}}' for n in sorted(needed)) or 'none'}."
    elif missing := sorted(set(needed) - found):
        problem = f"the placeholder {{{missing[0]}}} is missing"
        fix = "Put it where the value belongs."
    else:
        return
    raise InputError(problem, path=path, line=line, field=field, fix=fix)


def fill(template: str, **values: object) -> str:
    """The template with its placeholders replaced; braces in the values stay as they are."""
    return _PLACEHOLDER.sub(lambda match: str(values[match.group(1)]), template)


def user_message(template: str, **values: object) -> list[dict]:
    """A conversation of one message: the user's, from a template."""
    return [{"role": "user", "content": fill(template, **values)}]


def inert(text: str) -> str:
    """Text of a row for a place in a prompt: one line, which cannot be read as its structure.

    A heading in brackets ([Option]) and a token of a chat template (<end_of_turn>) that stand in
    the text get other brackets.
    """
    plain = " ".join(text.split())
    if "<" in plain:
        plain = re.sub(r"<([^\s<>]*)>", r"‹\1›", plain)
    return plain.replace("[", "［").replace("]", "］")
