"""Python literals and JSON in a cell of a table, read without running anything.

``{'question': '…', 'choices': ['…', '…'], 'answer': 3}``: what pandas makes of a dict. Only the
syntax tree is read, so that a cell can hold nothing but data. What has one meaning is read, however
it is spelt (nan, null, None, true; line breaks inside a text; curly quotes around all texts).
"""

from __future__ import annotations

import ast
import json
import re
from typing import Any

LARGEST = 1_000_000
"""Bytes of a cell."""

DEEPEST = 20
"""Brackets inside brackets."""

_NAMES = {"nan": None, "NaN": None, "null": None, "true": True, "false": False}
"""Names that other languages write for a value that Python spells otherwise."""

_TEXT = re.compile(r"'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"", re.DOTALL)
_CURLY = re.compile(
    r"(?<=[\[{,:])(\s*)(?:“([^“”]*)”|‘([^‘’]*)’)(?=\s*[\]},:])",
)


class NoLiteral(ValueError):
    """A cell that holds no literal, or one that could be read in two ways."""


def read_literal(text: str) -> Any:
    """The value of a cell.

    Raises:
        NoLiteral: what is wrong with it.
    """
    if len(text) > LARGEST or len(text.encode("utf-8", "replace")) > LARGEST:
        raise NoLiteral(f"larger than {LARGEST:,} bytes")
    text = text.strip()
    bare = _TEXT.sub("\0", text)
    if _depth(bare) > DEEPEST:
        raise NoLiteral(f"nested deeper than {DEEPEST} levels")
    if text.startswith('{"'):
        try:
            return json.loads(
                text, strict=False, object_pairs_hook=_unique, parse_constant=_constant
            )
        except NoLiteral:
            raise
        except (ValueError, RecursionError):
            pass  # Python's own spelling, maybe
    tree, problem = _parsed(text)
    if tree is None and not re.search("['\"]", text):
        tree = _parsed(_CURLY.sub(_straight, text))[0]
    if tree is None:
        raise NoLiteral(f"not a literal ({problem})")
    if re.search("\0\\s*\0", bare):  # which Python would join
        raise NoLiteral("two texts with no comma between them")
    try:
        return _value(tree)
    except RecursionError:
        raise NoLiteral("nested too deep") from None


def _depth(bare: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[\[\](){}]", bare):
        depth += 1 if bracket in "[({" else -1
        deepest = max(deepest, depth)
    return deepest


def _parsed(text: str) -> tuple[ast.expr | None, str]:
    """The syntax tree of a text, or None and what is wrong with it."""
    problem = ""
    try:
        for mend in (str, _one_line):
            try:
                return ast.parse(mend(text), mode="eval").body, ""
            except SyntaxError as error:
                problem = problem or error.msg
    except (ValueError, RecursionError, MemoryError) as error:
        problem = str(error) or type(error).__name__
    return None, problem


def _one_line(text: str) -> str:
    """The text with the real line breaks inside its quotes written as they are in Python."""
    return _TEXT.sub(lambda match: re.sub(r"\r?\n|\r", r"\\n", match[0]), text)


def _straight(match: re.Match[str]) -> str:
    inside = match[2] if match[2] is not None else match[3]
    return match[1] + json.dumps(inside, ensure_ascii=False)


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant) and isinstance(node.value, (str, int, float, type(None))):
        return node.value
    if isinstance(node, ast.List):
        return [_value(one) for one in node.elts]
    if isinstance(node, ast.Tuple):
        return tuple(_value(one) for one in node.elts)
    if isinstance(node, ast.Dict):
        if None in node.keys:
            raise NoLiteral("** in the literal")
        return _unique([(_key(k), _value(v)) for k, v in zip(node.keys, node.values, strict=True)])
    if isinstance(node, ast.Name):
        if node.id in _NAMES:
            return _NAMES[node.id]
        raise NoLiteral(f"the name {node.id[:40]} in the literal")
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = _value(node.operand)
        if isinstance(value, (int, float)):
            return -value
    what = "a call" if isinstance(node, ast.Call) else "an expression"
    raise NoLiteral(f"{what} in the literal ({ast.unparse(node)[:40]})")


def _key(node: ast.expr | None) -> str:
    value = _value(node) if node is not None else None
    if not isinstance(value, str):
        raise NoLiteral(f"a key that is no text ({value!r:.40})")
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for n, key in enumerate(keys) if key in keys[:n])
        raise NoLiteral(f"the key {twice!r} stands twice")
    return value


def _constant(name: str) -> None:
    return None
