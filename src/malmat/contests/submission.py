"""A contest's test file with its outputs filled in, and the check that nothing else changed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from malmat.cli import COMPLETE, FAILURES, parser, relative
from malmat.errors import InputError
from malmat.evaluate.results import read_answers
from malmat.files import read_json
from malmat.text.korean import normalize

OUTPUT = "output"


def read_submission_rows(path: str | Path) -> list[dict[str, Any]]:
    """The rows of a contest's file as they stand, with their keys in order.

    Raises:
        InputError: not a list of rows with an id each, or an id that stands twice.
    """
    rows = read_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError("expected a list of rows", path=path, line=1)
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict) or not isinstance(row.get("id"), str):
            raise InputError(f"row {number} has no id", path=path, field="id")
        if row["id"] in seen:
            raise InputError(f"the row {row['id']} stands in it twice", path=path, field="id")
        seen.add(row["id"])
    return rows


def read_choices_made(path: str | Path, ids: Sequence[str]) -> dict[str, str]:
    """Id → the choice that a file of answers makes for each of ``ids``.

    Raises:
        InputError: as ``complete_answers``.
    """
    # Answers come in normal form, while a contest's ids are returned as they are.
    answers = {row["id"]: row for row in read_answers(path, unique=True)}
    return complete_answers(answers, path, ids)


def complete_answers(
    answers: Mapping[str, Mapping[str, Any]], path: str | Path, ids: Sequence[str]
) -> dict[str, str]:
    """Id → the answer to each of ``ids``.

    Args:
        answers: id in normal form → row with ``answer`` and ``status``.
        path: of them, for the message.

    Raises:
        InputError: ids that are missing, foreign or without an answer: all in one line.
    """
    asked = {one: normalize(one) for one in ids}
    plain = set(asked.values())
    known = {one: answers[form] for one, form in asked.items() if form in answers}
    failed = [f"{one} ({row['status']})" for one, row in known.items() if row["status"] != "ok"]
    faults = {
        "have no answer": failed,
        "are missing": [one for one in ids if one not in known],
        "are not in the test file": [one for one in answers if one not in plain],
    }
    if any(faults.values()):
        parts = (
            f"{len(some)} rows {what}: {', '.join(some)}" for what, some in faults.items() if some
        )
        fix = "Answer every row of the test file (infer.py asks failed rows again)."
        raise InputError("; ".join(parts), path=path, field="id", fix=fix)
    return {one: row["answer"] for one, row in known.items()}


def filled(rows: Sequence[dict[str, Any]], outputs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows with ``outputs`` by id, and nothing else changed."""
    return [{**row, OUTPUT: outputs[row["id"]]} for row in rows]


def differences(
    given: Sequence[Mapping[str, Any]], submitted: Sequence[Mapping[str, Any]]
) -> Iterator[str]:
    """In what a submission differs from the test file beside its outputs, a sentence each."""
    if len(given) != len(submitted):
        yield f"{len(submitted)} rows, where the test file has {len(given)}"
    ids, others = [row["id"] for row in given], [row["id"] for row in submitted]
    yield from (f"the row {one} is missing" for one in ids if one not in set(others))
    yield from (f"the row {one} is not in the test file" for one in others if one not in set(ids))
    if sorted(ids) == sorted(others) and ids != others:
        first = next(n for n, (a, b) in enumerate(zip(ids, others, strict=True)) if a != b)
        yield f"the order differs from row {first + 1} on ({others[first]} for {ids[first]})"
    known = {row["id"]: row for row in submitted}
    for row in given:
        other = known.get(row["id"], row)
        # An object's keys may not move, which equality of dicts would pass over.
        if list(row) != list(other) and [*row, OUTPUT] != list(other):
            yield f"the row {row['id']} has the keys {', '.join(other)}"
        for name in (name for name in row if name != OUTPUT and name in other):
            if _in_order(row[name]) != _in_order(other[name]):
                yield f"the row {row['id']} has another '{name}'"


def _in_order(value: Any) -> Any:
    """The value with its objects as lists of pairs, so that the order of keys counts."""
    if isinstance(value, dict):
        return [(name, _in_order(part)) for name, part in value.items()]
    return [_in_order(part) for part in value] if isinstance(value, list) else value


def submission_arguments(doc: str, *, cut: bool = False, **answers: Any) -> argparse.Namespace:
    """The options of a submission's script: --input, and --answers with --output, or --check.

    Args:
        cut: whether there is --keep_cut: answers of free text may be cut, choices may not.
        answers: more for the option --answers, as ``nargs``.

    Raises:
        InputError: neither or both of the two.
    """
    options = parser(doc)
    options.add_argument("--input", required=True, help="the contest's test file")
    options.add_argument("--answers", help="answers to it", **answers)
    options.add_argument("--output", help="the submission")
    if cut:
        text = "an answer cut at its token limit is one, too"
        options.add_argument("--keep_cut", action="store_true", help=text)
    options.add_argument("--check", metavar="SUBMISSION", help="compare this one, write nothing")
    args = options.parse_args()
    if bool(args.check) == bool(args.answers and args.output) or (args.check and args.answers):
        raise InputError("give --answers and --output, or --check", field="check")
    return args


def show_check(path: str | Path, found: Sequence[str], right: str) -> int:
    """Print what is wrong with a submission, or that it is ``right``; the exit code."""
    for problem in found:
        print(f"  {problem}")
    print(f"{relative(path)}: " + (f"{len(found)} differences" if found else right))
    return FAILURES if found else COMPLETE
