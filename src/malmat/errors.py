"""The two ways a script refuses to go on: bad input, and a run that has to stop."""

from __future__ import annotations

from pathlib import Path


class InputError(Exception):
    """Bad input or usage: one line, exit code 2, nothing spent or changed.

    Args:
        problem: what is wrong.
        path: the file it is in.
        line: 1-based line in that file.
        field: the field, column or option.
        fix: what the user can do about it.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: str | Path | None = None,
        line: int | None = None,
        field: str | None = None,
        fix: str | None = None,
    ):
        self.problem, self.line, self.field, self.fix = problem, line, field, fix
        where = ", ".join(
            part
            for part in (
                str(path) if path is not None else "",
                f"line {line}" if line is not None else "",
                f"field '{field}'" if field is not None else "",
            )
            if part
        )
        text = f"{where}: {problem}" if where else problem
        super().__init__(" ".join((f"{text}. {fix}" if fix else text).split()))


class StopRunning(Exception):
    """The run cannot go on, progress is kept: one line, exit code 1."""
