"""Render rows for training and answering, or write rows in the contest's layout.

    python src/culture_qa/prepare.py --input train.json --output data/culture_qa/train.jsonl \\
        --held_out dev.json test.json --alternatives each
    python src/culture_qa/prepare.py --input test.json --output test.jsonl --variant MetaReason
    python src/culture_qa/prepare.py --input rows.jsonl --output rows.json --contest

Reads   --input: files in the contest's layout (a JSON list or JSONL; convert.py writes it too), or
        rows of this script. --contexts: passages by question id (retrieve.py).
Writes  --output: a chat row a line with ``id, cluster, type, category, domain, keyword, question,
        choices, options, answer, answers, variant, messages``. Where there is an answer, the
        messages end with it, to be trained; infer.py takes the same rows and asks without it.
        With --contest a JSON list in the contest's layout, or of a name in .jsonl a row a line.

Choices are read from the question's text; where their numbers are no run from 1 they are left
there, and reported. A ``#`` divides alternatives: all of them count in scoring, and training takes
the first, or writes a row for each. Rows that stand in --held_out too, by id or by their question
(its choices in any order, near-duplicates too), are refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from malmat.cli import parser, relative, run, show_settings
from malmat.contests.faults import Fault, show_skipped
from malmat.contests.typed_questions import (
    AS_PUBLISHED,
    CHOICE,
    Question,
    item_of,
    prepared_row,
    published_row,
    read_typed,
)
from malmat.errors import InputError
from malmat.evaluate.contexts import passage_of, read_contexts
from malmat.files import kind_of, write_json, write_jsonl
from malmat.models import model_row
from malmat.text.duplicates import squeeze
from malmat.text.leaks import find_leaks
from task import DEFAULT, TASKS, VARIANTS

HERE = Path(__file__).parent
OWN = ("messages", "variant", AS_PUBLISHED)
"""Fields that are not the contest's."""


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", required=True, nargs="+")
    options.add_argument("--output", required=True)
    options.add_argument("--variant", choices=tuple(VARIANTS), help=f"default: {DEFAULT}")
    options.add_argument("--model", help="a row of models.json, which says the variant")
    options.add_argument("--models", default=str(HERE / "models.json"))
    options.add_argument("--types", nargs="+", help="only these, as 단답형")
    options.add_argument("--alternatives", choices=("first", "each"), default="first")
    options.add_argument("--contexts", help="passages for the questions, by id")
    options.add_argument("--held_out", nargs="+", default=[], help="files that must not be in it")
    options.add_argument("--contest", action="store_true", help="write the contest's layout")
    options.add_argument("--skip_bad", action="store_true", help="go on without faulty rows")
    args = options.parse_args()
    if args.model and args.variant:
        raise InputError("is the model's row's", field="variant", fix="Leave it out.")
    args.variant = args.variant or (variant_of(args) if args.model else DEFAULT)
    return args


def variant_of(args) -> str:
    """The variant that the model's row names."""
    wanted = model_row(args.model, args.models).rows
    if wanted is None or wanted.variant not in VARIANTS:
        field, fix = f"{args.model}.rows", f"One of {', '.join(VARIANTS)}."
        raise InputError("names no variant", path=args.models, field=field, fix=fix)
    return wanted.variant


def main() -> int:
    args = arguments()
    show_settings("prepare", vars(args))
    questions, faults = read_files(args)
    refuse_held_out(questions, args.held_out)
    show(questions)
    if args.contest:
        write = write_jsonl if kind_of(args.output) in (".jsonl", ".ndjson") else write_json
        write(args.output, [contest_row(one) for one in questions])
    else:
        write_jsonl(args.output, chat_rows(questions, args))
    print(f"wrote {relative(args.output)}")
    return show_skipped(faults)


def read_files(args) -> tuple[list[Question], list[Fault]]:
    """The questions of all files, of the wanted types, and the rows that were left out.

    Raises:
        InputError: an id in two files, or none left.
    """
    questions: list[Question] = []
    faults: list[Fault] = []
    first: dict[str, str] = {}
    for path in args.input:
        found, bad = read_typed(path, skip_bad=args.skip_bad)
        for one in found:
            if one.id in first:
                problem = f"the row {one.id} stands in {first[one.id]}, too"
                raise InputError(problem, path=path, line=one.line, field="id", fix="Keep one.")
            first[one.id] = path
        questions += [one for one in found if one.type in (args.types or one.type)]
        faults += bad
    if not questions:
        raise InputError("no question of these types", path=args.input[0], field="types")
    return questions, faults


def refuse_held_out(questions: list[Question], paths: list[str]) -> None:
    """Stop where a row stands in a file that is held out, under its id or with its question."""
    for path in paths:
        held = read_typed(path)[0]
        ids, texts = {one.id for one in held}, {squeeze(asked(one)) for one in held}
        alike = like_held(questions, held)
        shared = [
            one.id
            for one in questions
            if one.id in ids or squeeze(asked(one)) in texts or one.id in alike
        ]
        if shared:
            problem = f"{len(shared)} of its rows stand in the input, as {shared[0]}"
            raise InputError(problem, path=path, field="held_out", fix="Take them out of training.")


def like_held(questions: list[Question], held: list[Question]) -> set[str]:
    """The ids of questions that are near-duplicates of one that is held out."""
    rows = [{"id": one.id, "title": "", "question": asked(one), "answer": ""} for one in questions]
    return {leak["id"] for leak in find_leaks(rows, questions=map(asked, held))}


def asked(one: Question) -> str:
    """The question with its choices, whichever way they are ordered."""
    return "\n".join([one.text, *sorted(one.choices)])


def chat_rows(questions: list[Question], args) -> Iterator[dict]:
    """Rows with their messages, which end with the answer where there is one."""
    prompts = TASKS[0].prompts()
    contexts = read_contexts(args.contexts) if args.contexts else {}
    for one in questions:
        if contexts and one.id not in contexts:
            problem = f"the question {one.id} is not in it"
            raise InputError(problem, path=args.contexts, field="id", fix="Retrieve for all.")
        passages = [passage_of(found) for found in contexts.get(one.id, ())]
        messages = VARIANTS[args.variant](prompts, item_of(one), passages)
        row = {**prepared_row(one), "variant": args.variant}
        answers = one.answers if args.alternatives == "each" else one.answers[:1]
        for number, answer in enumerate(answers, 1):
            name = one.id if len(answers) == 1 else f"{one.id}#{number}"
            yield {**row, "id": name, "messages": [*messages, said(answer)]}
        if not answers:
            yield {**row, "messages": messages}


def said(answer: str) -> dict[str, str]:
    return {"role": "assistant", "content": answer}


def contest_row(one: Question) -> dict:
    """A question in the contest's layout; choices that were left in the text stay there."""
    names = ("id", "category", "domain", "keyword")
    fields = {name: getattr(one, name) for name in names}
    own = {name: one.more[name] for name in one.more if name not in OWN}
    text = str(one.more.get(AS_PUBLISHED) or one.text)
    return published_row(one.type, text, one.answer, choices=one.choices, **fields, **own)


def show(questions: list[Question]) -> None:
    """Print how many rows there are, of which kind, and whose choices were left in the text."""
    types = Counter(one.type for one in questions)
    clusters = len({one.cluster for one in questions})
    answered = sum(one.answer is not None for one in questions)
    print(f"{len(questions)} questions on {clusters} topics, {answered} with an answer")
    print("  " + ", ".join(f"{count} {name}" for name, count in types.items()))
    categories = Counter("".join(one.category.split()) for one in questions if one.category)
    print("  " + ", ".join(f"{count} {name}" for name, count in categories.most_common()))
    several = sum(len(one.answers) > 1 for one in questions)
    counts = Counter(len(one.choices) for one in questions if one.choices)
    choices = ", ".join(f"{n} with {size} choices" for size, n in sorted(counts.items()))
    print(f"  {several} with alternatives" + (f", {choices}" if choices else ""))
    for one in questions:
        if one.type == CHOICE and one.problem:
            print(f"  left in the text: line {one.line}, row {one.id}: {one.problem}")


if __name__ == "__main__":
    run(main)
