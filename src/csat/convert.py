"""Convert a published set into rows of the contest's layout, or into passages for augment.py.

    python src/csat/convert.py click --input Popular_KIIP.json KHB.json --output click.jsonl
    python src/csat/convert.py kobest --input boolq/train.jsonl --output boolq.csv
    python src/csat/convert.py kmmlu --input test.csv --output kmmlu.jsonl --allow_licence
    python src/csat/convert.py klue_mrc --input klue-mrc-v1.1_dev.json --output passages.jsonl

Reads   --input: files of the one set that is named: CSV, TSV, JSON, JSONL or Parquet, told by
        what is in them, whatever their names end in.
Writes  --output: a row an item, ``id, paragraph, problems {question, choices, answer},
        question_plus, source, category, licence, evaluation_only``, as JSONL or CSV. From
        klue_mrc and korquad a passage a line: ``id, title, paragraph, questions, source, …``.

An answer that is a choice's text is matched after normalization; one that is empty or no choice
is an error with the row's id. Rows of a licence without derivatives are marked evaluation_only,
and neither augment.py nor training takes them; --allow_licence leaves the mark out. Items of the
real 수능, which the contest forbids in training, are tagged in their source (click-csat).
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from malmat.cli import parser, relative, run, show_settings
from malmat.contests.exam_quality import answer_positions
from malmat.contests.faults import Fault, show_skipped
from malmat.contests.mcq_rows import (
    check_output,
    contest_row,
    write_contest_rows,
)
from malmat.errors import InputError
from malmat.files import write_jsonl
from malmat.sources.layouts import LAYOUTS
from malmat.sources.licences import SOURCES, described, is_evaluation_only
from malmat.sources.mcq import read_mcq_files
from malmat.sources.squad import read_passages

PASSAGES = ("klue_mrc", "korquad")


def arguments():
    options = parser(__doc__)
    options.add_argument("source", choices=(*LAYOUTS, *PASSAGES), help="which set it is")
    options.add_argument("--input", required=True, nargs="+")
    options.add_argument("--output", required=True, help=".jsonl or .csv")
    options.add_argument("--skip_bad", action="store_true", help="go on without faulty rows")
    options.add_argument("--no_csat", action="store_true", help="leave items of the 수능 out")
    options.add_argument(
        "--allow_licence", action="store_true", help="you may train on it, whatever its licence"
    )
    return options.parse_args()


def main() -> int:
    args = arguments()
    check_output(args.output)
    show_settings("convert", vars(args))
    print(described(args.source))
    licence = SOURCES[args.source].licence
    closed = is_evaluation_only(licence) and not args.allow_licence
    terms = {"licence": licence, "evaluation_only": "yes" if closed else "no"}
    convert = passages if args.source in PASSAGES else items
    faults, left_out = convert(args, terms)
    for reason, count in left_out.most_common():
        print(f"left out: {count} ({reason})")
    print(f"wrote {relative(args.output)}" + (", for evaluation only" if closed else ""))
    return show_skipped(faults)


def items(args, terms: dict[str, Any]) -> tuple[list[Fault], Counter[str]]:
    """Write the items of a multiple-choice set."""
    found = read_mcq_files(args.input, args.source, skip_bad=args.skip_bad)
    kept = [item for item in found.items if not (args.no_csat and item.is_exam)]
    found.left_out["items of the 수능"] += len(found.items) - len(kept)
    if not kept:
        raise InputError("nothing is left", path=args.input[0], fix="Leave --no_csat out.")
    rows = []
    for item in kept:
        source = f"{args.source}-csat" if item.is_exam else args.source
        rows.append(contest_row(item, source=source, category=item.category, **terms))
    write_contest_rows(args.output, rows)
    print(f"{len(rows)} items, {sum(bool(item.paragraph) for item in kept)} with a paragraph")
    for size, counts in answer_positions(kept).items():
        print(f"  {sum(counts)} with {size} choices; right: {' '.join(map(str, counts))}")
    return found.faults, +found.left_out


def passages(args, terms: dict[str, Any]) -> tuple[list[Fault], Counter[str]]:
    """Write the paragraphs of a reading-comprehension set, each once."""
    if args.output.endswith(".csv"):
        raise InputError("passages are written as JSONL", path=args.output, field="output")
    rows: dict[str, dict[str, Any]] = {}
    faults, left_out = [], Counter[str]()
    for path in args.input:
        found = read_passages(path, skip_bad=args.skip_bad)
        faults += found.faults
        left_out += found.left_out
        for one in found.passages:
            row = {"id": one.id, "title": one.title, "paragraph": one.text}
            row = rows.setdefault(one.id, {**row, "questions": [], "source": args.source, **terms})
            row["questions"] += [q for q in one.questions if q not in row["questions"]]
    write_jsonl(args.output, rows.values())
    questions = sum(len(row["questions"]) for row in rows.values())
    print(f"{len(rows)} passages with {questions} questions")
    return faults, left_out


if __name__ == "__main__":
    run(main)
