"""Split dialogue pairs by term into training and held-out rows, behind a leak gate.

    python src/data/split.py --input merged_final.json --output_dir data
    python src/data/split.py --input published.json --questions published.jsonl --leaks report

Reads   --input (files of any shape ``malmat.formats.read_pairs`` takes), the understanding terms
        (--questions: ``split: unseen`` marks those no model may be trained on), --eval_questions.
Writes  train.jsonl, heldout.jsonl (``id, title, question, answer`` a line), leaks.jsonl (``id,
        kind, found``) and split.json (settings, counts, terms of each side).

All pairs and conversations of a term fall on one side, with its spelling variants, so that
held-out loss and unseen-term scores measure understanding and not memory. Beside the unseen
terms a seeded share of the others (--heldout_share) is held out.

The leak gate stops (exit 2, nothing written) where a held-out term stands in a training
row, or an evaluation question or a held-out row, or a near-duplicate of either, is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from malmat.cli import parser, relative, run, share, show_settings
from malmat.errors import InputError
from malmat.evaluate.items import held_back
from malmat.evaluate.task import registered_tasks
from malmat.files import digest, file_digest, read_rows, write_json, write_jsonl
from malmat.formats import read_pairs, read_questions
from malmat.schema import OptionalText, Row, Text, validate
from malmat.text.duplicates import THRESHOLD
from malmat.text.leaks import find_leaks
from malmat.text.variants import draw, variant, with_forms
from malmat.train.record import json_of

HERE = Path(__file__).parent
EVAL = HERE.parent / "eval"
FILES, RECORD = ("train.jsonl", "heldout.jsonl", "leaks.jsonl"), "split.json"
SHOWN = 20


def arguments():
    options = parser(__doc__)
    own = [str(HERE.parents[1] / "merged_final.json"), str(HERE / "turns.jsonl")]
    options.add_argument("--input", nargs="+", default=own, help="pairs and conversations")
    options.add_argument("--questions", default=str(EVAL / "meme_sample_with_questions.jsonl"))
    options.add_argument(
        "--eval_questions", nargs="*", help="files of questions (default: those of all tasks)"
    )
    options.add_argument("--terms", default=str(HERE / "terms.csv"), help="forms of the terms")
    options.add_argument("--output_dir", default=str(HERE.parents[1] / "data"))
    options.add_argument("--heldout_share", type=float, default=0.0, help="of the other terms")
    options.add_argument("--seed", type=int, default=42)
    options.add_argument("--threshold", type=share, default=THRESHOLD, help="near-duplicates")
    options.add_argument(
        "--leaks", choices=("stop", "report", "drop"), default="stop", help="what the gate does"
    )
    return options.parse_args()


def main() -> None:
    args = arguments()
    if not 0 <= args.heldout_share < 1:
        raise InputError("must be at least 0 and below 1", field="heldout_share")
    show_settings("split", vars(args))
    output = Path(args.output_dir)
    if output.exists() and not output.is_dir():
        raise InputError("is no folder", path=output, field="output_dir")
    identity = identity_of(args)
    if is_done(output, identity):
        print(f"already split: {relative(output)}")
        return
    pairs = list({pair["id"]: pair for path in args.input for pair in read_pairs(path)}.values())
    evaluated, questions = evaluated_terms_and_questions(args)
    titles = list(dict.fromkeys(pair["title"] for pair in pairs))
    unseen = [term.title for term in evaluated if term.split == "unseen"]
    heldout = draw(titles, unseen, args.heldout_share, args.seed)
    train = [pair for pair in pairs if pair["title"] not in heldout]
    held = [pair for pair in pairs if pair["title"] in heldout]

    terms = with_forms(sorted({*heldout, *unseen}), args.terms)
    found = find_leaks(train, terms=terms, questions=questions, held=held, threshold=args.threshold)
    leaks = gate(found, args)
    if args.leaks == "drop":
        leaking = {leak["id"] for leak in leaks}
        train = [pair for pair in train if pair["id"] not in leaking]
    if not train:
        raise InputError("nothing is left to train on", path=args.input[0], fix="Hold out less.")
    (output / RECORD).unlink(missing_ok=True)  # of another split: killed now, this one is none
    for name, rows in zip(FILES, (train, held, leaks), strict=True):
        write_jsonl(output / name, rows)
    trained = list(dict.fromkeys(pair["title"] for pair in train))
    write_json(
        output / RECORD,
        {
            "identity": identity,
            "files": digests(output),
            "input": [{"path": relative(p), "sha256": sha256_of(p)} for p in args.input],
            "settings": {name: str(value) for name, value in vars(args).items()}
            | {"input": ", ".join(args.input)},
            "train": {"pairs": len(train), "terms": trained},
            "heldout": {"pairs": len(held), "terms": [t for t in titles if t in heldout]},
            "leaks": Counter(leak["kind"] for leak in leaks),
        },
    )
    known = {variant(title) for title in trained}
    seen = sum(variant(term.title) in known for term in evaluated)
    print(
        f"train: {len(train)} pairs of {len(trained)} terms; "
        f"held out: {len(held)} pairs of {len(heldout & set(titles))} terms"
    )
    rest = len(evaluated) - seen
    print(f"{seen} of {len(evaluated)} evaluation terms are trained on, {rest} are not")
    print(f"wrote {relative(output)}/{', '.join((*FILES, RECORD))}")


class EvaluatedTerm(Row):
    title: Text
    split: OptionalText = ""


def evaluated_terms_and_questions(args) -> tuple[list[EvaluatedTerm], list[str]]:
    """The terms that the evaluation is about, and the texts of its questions."""
    rows = read_rows(args.questions)
    terms = [validate(EvaluatedTerm, row, path=args.questions, line=n) for n, row in rows]
    if args.eval_questions is None:
        items = held_back(registered_tasks().values())
        return terms, [item["question"] for item in items if item.get("question")]
    return terms, [row["question"] for path in args.eval_questions for row in read_questions(path)]


def identity_of(args) -> str:
    """A digest of what determines the split: the settings and the bytes of every file it reads."""
    asked = args.eval_questions
    if asked is None:
        asked = list(dict.fromkeys(str(task.questions) for task in registered_tasks().values()))
    files = [args.questions, args.terms, *asked, *args.input]
    contents = [file_digest(path) for path in files if Path(path).is_file()]
    knobs = {name: value for name, value in vars(args).items() if name != "output_dir"}
    return digest({"files": contents, **knobs})


def sha256_of(path: str) -> str | None:
    """Of the input's bytes, by which training sees that it has changed; None of a hub data set."""
    return file_digest(path) if Path(path).is_file() else None


def is_done(output: Path, identity: str) -> bool:
    """Whether the folder holds the split of this identity, with all of its files. What was edited
    by hand since is kept.

    Raises:
        InputError: files of another split were edited.
    """
    record, now = json_of(output / RECORD), digests(output)
    written = record.get("files", now)
    edited = [name for name in now if now[name] != written.get(name)]
    if edited and record.get("identity") != identity:
        problem = "was edited since it was split, and would be written anew"
        fix = "Name another --output_dir, or remove split.json."
        raise InputError(problem, path=output / edited[0], fix=fix)
    for name in edited:
        print(f"note: {relative(output / name)} was edited since it was split, and is kept")
    return record.get("identity") == identity and now.keys() >= {*FILES[:2], *written}


def digests(output: Path) -> dict[str, str]:
    return {name: file_digest(output / name) for name in FILES if (output / name).is_file()}


def gate(leaks: Iterable[dict], args) -> list[dict]:
    """What of the leaks is recorded; the first are printed, and where none may be, it stops.

    Among a million rows they are millions: the texts of each are let go.
    """
    found = []
    for leak in leaks:
        found.append({name: leak.pop(name) for name in ("id", "kind", "found")})
        if len(found) <= SHOWN:
            said = "  {kind} {found!r} in the training row of '{title}': {question} / {answer}"
            print(said.format(**found[-1], **leak))
    if not found:
        print("leak gate: no held-out term, evaluation question or near-duplicate in training")
        return found
    if len(found) > SHOWN:
        print(f"  … and {len(found) - SHOWN} more")
    if args.leaks == "stop":
        raise InputError(
            f"{len(found)} leaks from evaluation into training (listed above)",
            path=", ".join(args.input),
            fix="Mend the rows, or --leaks drop leaves them out, --leaks report keeps them.",
        )
    print(f"leak gate: {len(found)} leaks, {args.leaks}")
    return found


if __name__ == "__main__":
    run(main)
