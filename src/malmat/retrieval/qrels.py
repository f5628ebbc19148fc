"""Which passages are right for a question, as a file says it."""

from __future__ import annotations

from collections.abc import Iterable

from malmat.errors import InputError
from malmat.files import read_json


def read_qrels(path: str, questions: Iterable[str] = ()) -> dict[str, list[str]]:
    """Question id → the right passages; [] where no passage answers it.

    Args:
        questions: ids that must be in it.

    Raises:
        InputError: a file of another shape, or one without some of the questions.
    """
    qrels = read_json(path)
    shape = isinstance(qrels, dict) and all(
        isinstance(some, list) and all(isinstance(name, str) for name in some)
        for some in qrels.values()
    )
    if not shape:
        raise InputError("expected {question id: [passage id]}", path=path)
    if missing := [name for name in questions if name not in qrels]:
        problem = f"{len(missing)} questions are not in it, as {missing[0]}"
        raise InputError(problem, path=path, fix="Give [] where no passage is right.")
    return qrels
