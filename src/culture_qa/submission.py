"""Fill a test file's outputs with answers, or check a submission against its test file.

    python src/culture_qa/submission.py --input test.json --answers A.json B.json C.json \\
        --output submission.json
    python src/culture_qa/submission.py --input test.json --check submission.json

Reads   --input: the contest's test file; --answers: what infer.py or postprocess.py wrote to the
        three tasks, in any order.
Writes  --output: the test file, in which nothing but ``output`` differs: ``{"answer": …}``. With
        --check nothing: it compares keys, order, ids and all values, and leaves with 1 where one
        but ``output`` differs, an output is empty, or a 선다형 one is none of the choices.

An answer that failed is never filled in: every row needs one, else nothing is written (exit 2).
With --keep_cut an answer that was cut at its token limit is one, and is named.
"""

from __future__ import annotations

from malmat.cli import relative, run
from malmat.contests.predictions import read_predictions
from malmat.contests.submission import (
    OUTPUT,
    complete_answers,
    differences,
    filled,
    read_submission_rows,
    show_check,
    submission_arguments,
)
from malmat.contests.typed_questions import Question, read_typed
from malmat.errors import InputError
from malmat.evaluate.task import Row
from malmat.files import write_json


def main() -> int:
    args = submission_arguments(__doc__, nargs="+", cut=True)
    rows = read_submission_rows(args.input)
    questions = {one.id: one for one in read_typed(args.input)[0]}
    if args.check:
        return check(rows, questions, args.check)
    found, paths = read_predictions(args.answers), ", ".join(args.answers)
    if args.keep_cut and (cut := kept(found)):
        print(f"{len(cut)} answers were cut at their limit and stand as they are: {', '.join(cut)}")
    answers = complete_answers(found, paths, list(questions))
    if faulty := next((one for one in answers if not fits(questions[one], answers[one])), None):
        problem = f"the row {faulty}: {answers[faulty]!r} is none of its choices"
        raise InputError(problem, path=paths, field="answer")
    write_json(args.output, filled(rows, {one: {"answer": answers[one]} for one in answers}))
    print(f"wrote {relative(args.output)}")
    return check(rows, questions, args.output)


def kept(found: dict[str, Row]) -> list[str]:
    """Make answers of those that were cut, but for empty ones, marked as ``cut``; their ids."""
    texts = {one: row["answer"] for one, row in found.items() if row["status"] == "truncated"}
    cut = [one for one, text in texts.items() if text.strip()]
    for one in cut:
        found[one] |= {"status": "ok", "cut": True}
    return cut


def fits(question: Question, answer: object) -> bool:
    """Whether an answer is a text and, where there are choices, one of their numbers."""
    if not isinstance(answer, str) or not answer.strip():
        return False
    return not question.labels or answer in question.labels


def check(rows: list[dict], questions: dict[str, Question], path: str) -> int:
    """Print how a submission differs from its test file; 1 where it may not."""
    submitted = read_submission_rows(path)
    found = list(differences(rows, submitted))
    for row in submitted:
        output = row.get(OUTPUT)
        answer = output.get("answer") if isinstance(output, dict) else None
        if row["id"] in questions and not fits(questions[row["id"]], answer):
            found.append(f"the row {row['id']} has the output {output!r}")
    return show_check(path, found, f"{len(rows)} rows, nothing but output differs")


if __name__ == "__main__":
    run(main)
