"""Fill a test file's outputs with a model's answers, or check a submission against its test file.

    python src/dialogue_inference/submission.py --input test.json --answers FILE --output sub.json
    python src/dialogue_inference/submission.py --input test.json --check sub.json

Reads   --input: the contest's test file; --answers: what infer.py, vote.py or baselines.py wrote.
Writes  --output: the test file, in which nothing but ``output`` differs. With --check nothing: it
        compares keys, order, ids and all values, and leaves with 1 where one but ``output`` differs
        or an output is none of the options.

An answer that failed is never filled in: every row needs one, else nothing is written (exit 2).
"""

from __future__ import annotations

from malmat.cli import relative, run
from malmat.contests.dialogues import LABELS, OPTIONS
from malmat.contests.submission import (
    OUTPUT,
    differences,
    filled,
    read_choices_made,
    read_submission_rows,
    show_check,
    submission_arguments,
)
from malmat.errors import InputError
from malmat.files import write_json


def main() -> int:
    args = submission_arguments(__doc__)
    rows = read_submission_rows(args.input)
    if args.check:
        return check(rows, args.check)
    choices = read_choices_made(args.answers, [row["id"] for row in rows])
    if other := next((one for one in choices if choices[one] not in LABELS), None):
        problem = f"the row {other}: {choices[other]!r} is none of {', '.join(LABELS)}"
        raise InputError(problem, path=args.answers, field="answer")
    outputs = {one: OPTIONS[LABELS.index(choice)] for one, choice in choices.items()}
    write_json(args.output, filled(rows, outputs))
    print(f"wrote {relative(args.output)}")
    return check(rows, args.output)


def check(rows: list[dict], path: str) -> int:
    """Print how a submission differs from its test file; 1 where it may not."""
    submitted = read_submission_rows(path)
    found = list(differences(rows, submitted))
    found += [
        f"the row {row['id']} has the output {row.get(OUTPUT)!r}"
        for row in submitted
        if row.get(OUTPUT) not in OPTIONS
    ]
    return show_check(path, found, f"{len(rows)} rows, nothing but output differs")


if __name__ == "__main__":
    run(main)
