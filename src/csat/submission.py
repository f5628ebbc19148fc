"""Write a submission ``id,answer`` from a model's answers, or check one against its test file.

    python src/csat/submission.py --input test.csv --answers FILE --output submission.csv
    python src/csat/submission.py --input test.csv --check submission.csv

Reads   --input: the contest's test file, or prepare.py's rows of it; --answers: what infer.py,
        vote.py or baselines.py wrote.
Writes  --output: a row an item, in the order of the test file, with the number of the choice. With
        --check nothing: ids, their order and the numbers' range are compared, and the script leaves
        with 1 where one is wrong.

An answer that failed is never filled in: every row needs one, else nothing is written (exit 2).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from malmat.cli import relative, run
from malmat.contests.submission import (
    read_choices_made,
    show_check,
    submission_arguments,
)
from malmat.errors import InputError
from malmat.evaluate.task import Item
from malmat.files import read_rows, write_csv
from task import TASK

FIELDS = ["id", "answer"]


def main() -> int:
    args = submission_arguments(__doc__)
    items = TASK.read(Path(args.input))
    if args.check:
        return check(items, args.check)
    made = read_choices_made(args.answers, [item["id"] for item in items])
    for item in items:
        if made[item["id"]] not in item["choices"]:
            problem = f"the row {item['id']}: {made[item['id']]!r} is none of its choices"
            raise InputError(problem, path=args.answers, field="answer")
    rows = [dict(zip(FIELDS, (item["id"], made[item["id"]]), strict=True)) for item in items]
    write_csv(args.output, FIELDS, rows)
    print(f"wrote {relative(args.output)}")
    return check(items, args.output)


def check(items: list[Item], path: str) -> int:
    """Print what is wrong with a submission; 1 where something is."""
    rows = [row for _, row in read_rows(path, as_typed=True)]
    found = list(faults(items, rows))
    return show_check(path, found, f"{len(rows)} rows, ids, order and range are right")


def faults(items: list[Item], rows: list[dict]) -> Iterator[str]:
    if not rows or list(rows[0]) != FIELDS:
        yield f"the columns are {', '.join(rows[0]) if rows else 'none'}, not {', '.join(FIELDS)}"
        return
    ids, others = [item["id"] for item in items], [row["id"] for row in rows]
    twice = (
        {one for one in others if others.count(one) > 1} if len(set(others)) < len(others) else {}
    )
    yield from (f"the row {one} stands in it twice" for one in sorted(twice))
    yield from (f"the row {one} is missing" for one in ids if one not in set(others))
    yield from (f"the row {one} is not in the test file" for one in others if one not in set(ids))
    if sorted(ids) == sorted(others) and ids != others:
        first = next(n for n, (a, b) in enumerate(zip(ids, others, strict=True)) if a != b)
        yield f"the order differs from row {first + 1} on ({others[first]} for {ids[first]})"
    known = {item["id"]: item["choices"] for item in items}
    for row in rows:
        if row["id"] in known and row["answer"] not in known[row["id"]]:
            yield f"the row {row['id']} has the answer {row['answer']!r}"


if __name__ == "__main__":
    run(main)
