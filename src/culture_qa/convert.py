"""Convert published sets into rows of the contest's layout, to be trained on beside its own.

    python src/culture_qa/convert.py click=KIIP.json etri_qa=객관식.csv etri_qa=주관식.csv \\
        --output converted.json --held_out dev.json test.json --per_source 500
    python src/culture_qa/convert.py klue_mrc=klue-mrc-v1.1_train.json --output klue.json \\
        --contexts_output klue_contexts.jsonl

Reads   files of the sets that are named, as they were published: CSV, TSV, JSON, JSONL or Parquet;
        ETRI's CSV files in UTF-8 or CP949. --held_out: files in the contest's layout.
Writes  --output: a JSON list (or JSONL) in the contest's layout, with ``source, licence,
        evaluation_only``; prepare.py reads it. --contexts_output: the passage or table that answers
        each question, as retrieve.py writes contexts.

Left out and counted: rows without an answer, impossible ones, HTML entities, an answer_start that
points at another text, answers that are no choice or no short answer, other languages, questions
like one of --held_out (the leak gate), and those like one of a set before it. Rows of a licence
without derivatives are marked evaluation_only: prepare.py refuses them without --allow_licence.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Iterable

from malmat.cli import parser, positive, relative, run, show_settings
from malmat.contests.faults import Fault, show_skipped
from malmat.contests.typed_questions import (
    CHOICE,
    LONG,
    SHORT,
    Question,
    published_row,
    read_typed,
)
from malmat.errors import InputError
from malmat.files import kind_of, row_id, write_json, write_jsonl
from malmat.sources.licences import SOURCES, described, is_evaluation_only
from malmat.sources.qa import SETS, Qa, read_qa
from malmat.text.duplicates import NearDuplicates
from malmat.text.leaks import find_leaks


def arguments():
    options = parser(__doc__)
    options.add_argument("inputs", nargs="+", metavar="SET=FILE", help=f"{', '.join(SETS)}")
    options.add_argument("--output", required=True, help=".json or .jsonl")
    options.add_argument("--contexts_output", help=".jsonl")
    options.add_argument("--per_source", type=positive, help="at most so many of each set")
    options.add_argument("--seed", type=int, default=42, help="which they are")
    options.add_argument("--held_out", nargs="+", default=[], help="dev and test")
    options.add_argument("--skip_bad", action="store_true", help="go on without faulty rows")
    options.add_argument(
        "--allow_licence", action="store_true", help="you may train on them, whatever their licence"
    )
    args = options.parse_args()
    for one in args.inputs:
        source, mark, path = one.partition("=")
        if source not in SETS or not mark or not path:
            fix = f"SET is one of {', '.join(SETS)}."
            raise InputError(f"'{one}' is no SET=FILE", field="inputs", fix=fix)
    if kind_of(args.output) not in (".json", ".jsonl"):
        raise InputError("is written as JSON or JSONL", path=args.output, field="output")
    return args


def main() -> int:
    args = arguments()
    show_settings("convert", vars(args))
    found, faults, left_out = read_sets(args)
    for source in found:
        print(described(source))
    drop_leaks(found, args.held_out, left_out)
    drop_repeated(found, left_out)
    if not any(found.values()):
        raise InputError("nothing is left", path=args.inputs[0].partition("=")[2])
    rows, contexts = [], []
    for source, questions in found.items():
        kept = drawn(questions, args.per_source, args.seed)
        made = [row_of(source, one, args.allow_licence) for one in kept]
        types = Counter(row["input"]["question_type"] for row in made)
        listed = ", ".join(f"{count} {kind}" for kind, count in types.items()) or "nothing"
        print(f"{source}: {listed}" + f", of {len(questions)}" * (len(kept) < len(questions)))
        for reason, count in left_out[source].most_common():
            print(f"  left out: {count} ({reason})")
        rows += made
        contexts += [context_of(*pair) for pair in zip(made, kept, strict=True)]
    (write_json if kind_of(args.output) == ".json" else write_jsonl)(args.output, rows)
    print(f"wrote {relative(args.output)}")
    if args.contexts_output:
        write_jsonl(args.contexts_output, contexts)
        print(f"wrote {relative(args.contexts_output)}")
    return show_skipped(faults)


Sets = dict[str, list[Qa]]
LeftOut = dict[str, Counter[str]]


def read_sets(args) -> tuple[Sets, list[Fault], LeftOut]:
    """The questions of each set, in the order in which the sets are named."""
    found: Sets = {}
    faults: list[Fault] = []
    left_out: LeftOut = defaultdict(Counter)
    for one in args.inputs:
        source, _, path = one.partition("=")
        part = read_qa(path, source, skip_bad=args.skip_bad)
        found.setdefault(source, []).extend(part.questions)
        faults += part.faults
        left_out[source] += part.left_out
    return found, faults, left_out


def drop_leaks(found: Sets, paths: list[str], left_out: LeftOut) -> None:
    """Leave out what is like a question that is held out."""
    held = [text for path in paths for one in read_typed(path)[0] for text in texts_of(one)]
    for source, questions in found.items() if held else ():
        train = [
            {"id": str(n), "title": "", "question": text, "answer": ""}
            for n, one in enumerate(questions)
            for text in {one.question, asked(one)}
        ]
        leaks = {int(leak["id"]) for leak in find_leaks(train, questions=held)}
        found[source] = [one for n, one in enumerate(questions) if n not in leaks]
        left_out[source]["like a question of --held_out"] += len(leaks)
        left_out[source] = +left_out[source]


def texts_of(one: Question) -> set[str]:
    return {one.text, "\n".join([one.text, *one.choices])}


def asked(one: Qa) -> str:
    return "\n".join([one.question, *one.choices])


def drop_repeated(found: Sets, left_out: LeftOut) -> None:
    """Leave out what is like a question of the same set, or of one before it."""
    index = NearDuplicates()
    for source, questions in found.items():
        kept = [one for one in questions if not index.add(asked(one), only_new=True)]
        left_out[source]["like another question"] += len(questions) - len(kept)
        left_out[source] = +left_out[source]
        found[source] = kept


def drawn(questions: list[Qa], most: int | None, seed: int) -> Iterable[Qa]:
    """So many of them at random, in their order."""
    if most is None or len(questions) <= most:
        return questions
    places = random.Random(seed).sample(range(len(questions)), most)
    return [questions[place] for place in sorted(places)]


def row_of(source: str, one: Qa, allowed: bool) -> dict:
    """A question in the contest's layout, with where it comes from and its terms."""
    kind = CHOICE if one.choices else LONG if one.is_long else SHORT
    licence = SOURCES[source].licence
    return published_row(
        kind,
        one.question,
        "#".join(one.answers),
        choices=one.choices,
        id=f"{source}-{row_id(one.question, one.choices, one.answers)}",
        domain=one.field,
        keyword=one.title,
        source=source,
        licence=licence,
        evaluation_only=is_evaluation_only(licence) and not allowed,
    )


def context_of(row: dict, one: Qa) -> dict:
    """The row of a file of contexts: what answers the question, where its set has that."""
    context = {"title": one.title, "text": one.context, "id": f"{row['source']}:{one.title}"}
    return {"id": row["id"], "contexts": [context] if one.context else []}


if __name__ == "__main__":
    run(main)
