"""Check the contest's rows and render them for training and answering, in one variant.

    python src/csat/prepare.py --input train.csv --output data/train.jsonl --against test.csv
    python src/csat/prepare.py --input test.csv --output test.jsonl --variant QuestionFirst
    python src/csat/prepare.py --input train.csv --model embedded --clean --output rows.jsonl

Reads   --input: CSV or JSONL with ``id, paragraph, problems, question_plus`` (and source, licence,
        topic, hint, rationale); --against: other splits, for passages that stand in both. With
        --model, the row of models.json says the variant and, for training, the length.
Writes  --output: a chat row a line, with ``id, cluster, source, paragraph, question, question_plus,
        choices, options, answer, n_choices, topic, variant, messages``; ``cluster`` is the passage,
        and test rows have no ``answer``. Where there is one, the messages end with it, to be
        trained; infer.py takes the same rows and asks without it. --report: what is doubtful.

With --tokenizer (or --model), a passage that is too long for --max_seq_length loses sentences of
its middle, those that share no word with the question and the choices first; ``cut`` says how much.
A row whose question and choices alone are too long is faulty. Faulty rows are listed all at once,
and nothing is written; with --skip_bad the others are, and the exit code is 1.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from malmat.cli import parser, positive, relative, run, show_settings
from malmat.contests.exam_items import fields_of, item_of, shorten
from malmat.contests.exam_quality import clean, quality, quality_lines
from malmat.contests.exams import Exam, read_exams
from malmat.contests.faults import Fault, show_skipped, sound_or_refused
from malmat.contests.fit import Fitter
from malmat.errors import InputError
from malmat.evaluate.task import Item
from malmat.files import write_json, write_jsonl
from malmat.models import model_row
from task import DEFAULT, TASK, VARIANTS, topic_of, trained_answer

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", required=True)
    options.add_argument("--output", required=True)
    options.add_argument("--against", nargs="+", default=[], metavar="FILE", help="other splits")
    options.add_argument("--variant", choices=tuple(VARIANTS), help=f"default: {DEFAULT}")
    options.add_argument("--model", help="a row of models.json")
    options.add_argument("--models", default=str(HERE / "models.json"))
    options.add_argument("--tokenizer", help="a model whose tokens are counted")
    options.add_argument("--max_seq_length", type=positive, help="tokens, the answer included")
    options.add_argument("--source", help="where all rows come from: others are faulty")
    options.add_argument(
        "--without", nargs="+", default=[], metavar="SOURCE", help="forbidden ones"
    )
    options.add_argument("--clean", action="store_true", help="take reporters' lines out")
    options.add_argument("--report", metavar="FILE", help="what is doubtful, as JSON")
    options.add_argument("--skip_bad", action="store_true", help="go on without faulty rows")
    args = options.parse_args()
    if args.model:
        follow_model(args)
    if bool(args.tokenizer) != bool(args.max_seq_length):
        raise InputError("--tokenizer and --max_seq_length go together", field="max_seq_length")
    args.variant = args.variant or DEFAULT
    return args


def follow_model(args) -> None:
    """Set the variant and the length that the model's row names; a variant given goes before."""
    row = model_row(args.model, args.models)
    wanted = row.rows.variant if row.rows else None
    if wanted not in VARIANTS:
        known = f"One of {', '.join(VARIANTS)}."
        field = f"{args.model}.rows"
        raise InputError("names no variant", path=args.models, field=field, fix=known)
    args.variant = args.variant or wanted
    args.tokenizer = args.tokenizer or row.model_name
    args.max_seq_length = args.max_seq_length or row.training_options().get("max_seq_length")


def main() -> int:
    args = arguments()
    show_settings("prepare", vars(args))
    exams, faults = read_exams(args.input, source=args.source, skip_bad=True)
    left_out = Counter(one.source for one in exams if one.source in args.without)
    exams = [one for one in exams if one.source not in args.without]
    counts: Counter[str] = Counter()
    if args.clean:
        exams, counts = clean(exams)
    others = {Path(path).name: read_exams(path, skip_bad=True)[0] for path in args.against}
    cuts: dict[str, dict] = {}
    if args.tokenizer:
        exams, cuts = fit(args, exams, faults)
    sound_or_refused(args.input, faults, left=len(exams), skip=args.skip_bad)
    report: dict[str, Any] = {"n": len(exams), **quality(exams, others)}
    report |= {"cleaned": dict(counts), "left_out": dict(left_out), "cut": cuts}
    if args.report:
        write_json(args.report, report)
    write_jsonl(args.output, chat_rows(exams, args.variant, cuts))
    show(exams, report)
    print(f"wrote {relative(args.output)}")
    return show_skipped(faults)


def fit(args, exams: list[Exam], faults: list[Fault]) -> tuple[list[Exam], dict[str, dict]]:
    """The rows that fit, cut where they have to be, with their cuts; ``faults`` takes the others.

    The reader's ``sound`` rows are cut in their passage alone.
    """
    prompts, fitter = TASK.prompts(), Fitter(args.tokenizer, args.max_seq_length, shorten)
    found, cuts = [], {}
    for one in exams:
        item = item_of(fields_of(one))
        answer = trained_answer(prompts, item, args.variant)
        try:
            item, cut = fitter(item, lambda i: VARIANTS[args.variant](prompts, i), answer)
        except ValueError as error:
            fix = "Give a larger --max_seq_length."
            faults.append(Fault(one.id, one.line, "problems", str(error), fix))
            continue
        if cut:
            cuts[one.id] = {**cut, "passage": item["passage"]}
        found.append(one)
    faults.sort(key=lambda fault: fault.line)
    return found, cuts


def chat_rows(exams: list[Exam], variant: str, cuts: dict[str, dict]) -> Iterator[dict]:
    """Rows with their messages, which end with the answer where there is one."""
    prompts = TASK.prompts()
    for one in exams:
        row = {**fields_of(one), "variant": variant}
        item: Item = item_of(row)
        row["topic"] = row.get("topic") or topic_of(item)
        if cut := cuts.get(one.id):
            row["paragraph"] = item["passage"] = cut["passage"]
            row["cut"] = {name: value for name, value in cut.items() if name != "passage"}
        row["messages"] = VARIANTS[variant](prompts, item)
        if answer := trained_answer(prompts, item, variant):
            row["messages"].append({"role": "assistant", "content": answer})
        yield row


def show(exams: list[Exam], report: dict) -> None:
    """Print how many rows there are, of which kind, and what is doubtful."""
    passages = len({one.cluster for one in exams})
    answered = sum(one.answer is not None for one in exams)
    print(f"{len(exams)} rows of {passages} passages, {answered} with an answer")
    for what in (
        Counter(one.source for one in exams),
        Counter(f"with {len(one.choices)} choices" for one in exams),
        Counter(f"{'with' if one.plus else 'without'} 보기" for one in exams),
    ):
        print("  " + ", ".join(f"{count} {name}" for name, count in what.most_common()))
    for name, count in report["left_out"].items():
        print(f"left out: {count} rows of {name}")
    if gone := report["cleaned"]:
        print(f"cleaned: {', '.join(f'{count} {name}' for name, count in gone.items())}")
    if cuts := report["cut"].values():
        share = sum(cut["share"] for cut in cuts) / len(cuts)
        print(f"cut: {len(cuts)} passages, which lost {share:.0%} of their characters on average")
    print(*quality_lines(report), sep="\n")


if __name__ == "__main__":
    run(main)
