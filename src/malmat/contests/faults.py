"""Rows of a contest's file that cannot be used: one line names them all, or they are left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from malmat.cli import COMPLETE, FAILURES
from malmat.errors import InputError
from malmat.text.mojibake import damage


@dataclass(frozen=True)
class Fault:
    """What is wrong with one row.

    Args:
        row: its id, or its number where it has none.
        line: of the file.
        field: where in the row.
        problem: what it is.
        fix: what the user can do about it.
    """

    row: str
    line: int
    field: str
    problem: str
    fix: str = "Mend the row."


class BadRow(Exception):
    """A row that cannot be used. ``field``, ``problem`` and ``fix`` as in ``Fault``."""

    def __init__(self, field: str, problem: str, fix: str = "Mend the row."):
        super().__init__(problem)
        self.field, self.problem, self.fix = field, problem, fix

    def fault(self, row: str, line: int) -> Fault:
        return Fault(row, line, self.field, self.problem, self.fix)


def refusal(path: str | Path, faults: Sequence[Fault]) -> InputError:
    """The one line that names the first faulty row with its field, and the other ones after it."""
    first, *others = faults
    problem = f"the row {first.row}: {first.problem}"
    if others:
        listed = "; ".join(
            f"{one.row} (line {one.line}, {one.field}: {one.problem})" for one in others
        )
        problem += f"; {len(others)} more: {listed}"
    fix = f"{first.fix} Or go on without such rows: --skip_bad."
    return InputError(problem, path=path, line=first.line, field=first.field, fix=fix)


def sound_or_refused(path: str | Path, faults: Sequence[Fault], *, left: int, skip: bool) -> None:
    """Stop at faulty rows.

    Args:
        left: how many rows are sound.
        skip: go on without the faulty ones, as long as there are others.

    Raises:
        InputError: ``refusal``.
    """
    if faults and (not skip or not left):
        raise refusal(path, faults)


def show_skipped(faults: Sequence[Fault]) -> int:
    """Print the rows that were left out, one a line; the script's exit code comes back."""
    for one in faults:
        print(f"skipped: line {one.line}, row {one.row}, field '{one.field}': {one.problem}")
    return FAILURES if faults else COMPLETE


def refuse_misread(texts: dict[str, str]) -> None:
    """Stop at text whose encoding was misread.

    Args:
        texts: field → its text.

    Raises:
        BadRow: of the first such field.
    """
    for field, text in texts.items():
        if how := damage(text):
            problem = f"damaged letters: {how} ({text[:12]!r})"
            raise BadRow(field, problem, "Read the original file as UTF-8.")
