"""Which passages are right for a question, as a file says it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from malmat.errors import InputError
from malmat.files import read_json

if TYPE_CHECKING:
    from malmat.retrieval.index import Index


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


def check_passages(path: str, index: Index, right: dict[str, list[str]]) -> None:
    """Print how many right passages the index does not hold.

    Raises:
        InputError: it holds none of them.
    """
    named = {name for some in right.values() for name in some}
    gone = sorted(name for name in named if not index.numbers_of([name]))
    if gone and len(gone) == len(named):
        problem = f"none of its {len(named)} passages is in the index, as {gone[0]}"
        raise InputError(problem, path=path, fix="Index their corpus, or name its qrels.")
    if gone:
        print(
            f"note: {len(gone)} of {len(named)} right passages are not in the index, as {gone[0]}"
        )
