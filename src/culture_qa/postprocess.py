"""Clean written answers before they are scored, by steps that are counted and can be left out.

    python src/culture_qa/postprocess.py --answers ANSWERS.json --output CLEAN.json
    python src/culture_qa/postprocess.py --answers ANSWERS.json --output CLEAN.json --skip markdown

Reads   --answers: what infer.py wrote.
Writes  --output: the same rows; where something changed, ``raw_answer`` is what the model wrote
        and ``steps`` what was done. Beside it .run.json: how often each step changed an answer.

  jamo      conjoining jamo as they are typed
  ends      the marks that end a turn, and what follows them
  roles     the word of a role ("assistant")
  markdown  the signs of Markdown
  mark      all before the last "정답:", "답변:" … at the beginning of a line
  lines     line breaks and runs of blanks as one blank

An answer to a question with choices is then the number behind a mark, or the only one in it,
never the last digit somewhere; where there is none its status is parse_error. A choice that was
picked by logits is left as it is. A row that failed stays failed, but for an answer that ran on
into another turn (leaked), where ``ends`` or ``roles`` cut that off.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.errors import InputError
from malmat.evaluate.items import OutOfRange, read_label
from malmat.evaluate.results import read_answers, run_record
from malmat.evaluate.task import Row
from malmat.files import read_json, write_json
from malmat.lm.chat import run_on
from malmat.text.answer_steps import STEPS, stepped


def arguments():
    options = parser(__doc__)
    options.add_argument("--answers", required=True)
    options.add_argument("--output", required=True)
    options.add_argument("--skip", nargs="+", choices=tuple(STEPS), default=[])
    args = options.parse_args()
    if Path(args.answers).resolve() == Path(args.output).resolve():
        raise InputError("is the file of --answers", field="output", fix="Name another one.")
    return args


def main() -> None:
    args = arguments()
    show_settings("postprocess", vars(args))
    rows = [cleaned(row, args.skip) for row in read_answers(args.answers, unique=True)]
    counts = Counter(step for row in rows for step in row.get("steps", ()))
    write_json(args.output, rows)
    record = run_record(args.answers)
    known = read_json(record) if record.exists() else {"settings": {}}
    steps = {name: counts[name] for name in STEPS if name not in args.skip}
    write_json(run_record(args.output), {**known, "postprocess": steps})
    for name in STEPS:
        print(f"  {name}: " + ("left out" if name in args.skip else f"{counts[name]} answers"))
    statuses = Counter(row["status"] for row in rows)
    print("answers: " + ", ".join(f"{n} {name}" for name, n in statuses.most_common()))
    print(f"wrote {relative(args.output)}")


READ = ("ok", "parse_error", "leaked")
"""Statuses of rows that have a text to clean."""


def cleaned(row: Row, skip: list[str]) -> Row:
    """A row with its answer after the steps, and the status that this leaves it with."""
    raw, labels = row.get("raw_answer", row["answer"]), row.get("choices") or []
    if row["status"] not in READ or (row["status"] == "ok" and raw in labels):
        return row
    text, steps = stepped(raw, skip)
    status = "empty" if not text else "ok" if run_on(text) is None else "leaked"
    if labels and status == "ok":
        try:
            number, status = read_label(text, labels), "ok"
            text, steps = number, [*steps, "number"] if number != text else steps
        except OutOfRange:
            status = "out_of_range"
        except ValueError:
            status = "parse_error"
    if (text, status) == (raw, row["status"]):
        return row
    return {**row, "answer": text, "status": status, "raw_answer": raw, "steps": steps}


if __name__ == "__main__":
    run(main)
