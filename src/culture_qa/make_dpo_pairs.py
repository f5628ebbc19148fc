"""Make preference pairs: an answer that counts, and one that is wrong for certain.

    python src/culture_qa/make_dpo_pairs.py --input rows.jsonl --output pairs.jsonl \\
        --sources options neighbours own --contexts near.jsonl --samples answers.json
    python src/culture_qa/make_dpo_pairs.py --input rows.jsonl --output pairs.jsonl \\
        --sources llm options --model gpt-4.1 --checker gemini-2.5-pro --max_cost 5 --dry_run

Reads   --input: training rows of prepare.py; of the sources of rejected answers that are named:
          options     the other choices of a question
          neighbours  --contexts: passages near the question (retrieve.py --k 8): titles of short
                      answers, sentences of long ones; right passages (--qrels) are left out.
                      Long ones need --qrels or --checker, and without --qrels none is of the
                      question's own keyword
          own         --samples: the model's own answers (infer.py, with a temperature); of long
                      ones those with a ROUGE-1 below --below
          llm         written by --model
          file        --candidates: rows of {id, rejected}
Writes  --output: pairs for train_dpo.py ({prompt, chosen, rejected, source …}, a line each); beside
        it .report.json (by source and reason), .rejected.jsonl (what was refused, and why), and a
        journal, from which a killed run goes on.

Refused is a rejected answer that is equal to an accepted alternative, holds one, is a part or a
spelling of one (a number in words, too), is in another script, answers another type of question,
is empty, is no match in length (--ratio: chosen over rejected, in characters, since DPO learns
length first), stands twice, or is called right by --checker. Leaves with 1 where a model's replies
are missing: the same command asks for them again.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from maker_options import add_model, asking, check_model, show_plan
from malmat.cli import (
    COMPLETE,
    FAILURES,
    parser,
    positive,
    relative,
    run,
    share,
    show_settings,
    show_table,
)
from malmat.contests import rejected_answers as wrong
from malmat.contests.rejected_answers import Asked, Candidate, Pairs
from malmat.contests.typed_questions import LONG, read_typed
from malmat.errors import InputError
from malmat.evaluate.contexts import read_contexts
from malmat.files import check_fields, read_rows, write_json, write_jsonl
from malmat.prompts import load_prompts
from malmat.retrieval.qrels import read_qrels
from malmat.sources.licences import licence_gate
from pair_requests import WORDING, checked, writing, written

HERE = Path(__file__).parent
SOURCES = {"options": None, "neighbours": "contexts", "own": "samples", "llm": None}
SOURCES |= {"file": "candidates"}
"""Source → the option that names its file."""


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", required=True, help="training rows of prepare.py")
    options.add_argument("--output", required=True)
    options.add_argument("--sources", nargs="+", choices=tuple(SOURCES), default=["options"])
    options.add_argument("--contexts", help="of neighbours: passages by question id")
    options.add_argument("--qrels", help="of neighbours: {question id: [right passage]}")
    options.add_argument("--samples", nargs="+", help="of own: answers of infer.py")
    options.add_argument("--candidates", help="of file: rows of {id, rejected}")
    options.add_argument("--below", type=share, default=0.3, help="ROUGE-1 of a wrong paragraph")
    options.add_argument("--count", type=positive, default=3, help="of llm: answers a question")
    options.add_argument("--per_question", type=positive, default=4, help="pairs, at the most")
    options.add_argument("--ratio", type=float, nargs=2, default=wrong.RATIO, metavar=("LO", "HI"))
    options.add_argument("--checker", help="a model that reads each rejected answer")
    add_model(options, tokens=2048)
    args = options.parse_args()
    check_model(args)
    for source, option in SOURCES.items():
        if option and bool(getattr(args, option)) != (source in args.sources):
            raise InputError(f"goes with --sources {source}", field=option)
    if not 0 < args.ratio[0] <= 1 <= args.ratio[1]:
        raise InputError("not from below 1 to above it", field="ratio", fix="As 0.5 2.")
    return args


def main() -> int:
    args = arguments()
    show_settings("make_dpo_pairs", vars(args))
    questions = read_typed(args.input)[0]
    licence_gate((one.more for one in questions), args.input)
    rows = wrong.asked_rows(questions, args.input)[: args.limit]
    prompts = load_prompts(HERE / "maker_prompt.py", WORDING)
    pairs = Pairs({one.question.id: one for one in rows}, tuple(args.ratio), args.per_question)
    found = read_candidates(args, pairs.asked)
    requests = writing(args, prompts, rows) if "llm" in args.sources else []
    show_plan(args, requests, 40 * args.count, f"; {len(found)} candidates without a call")
    if args.dry_run:
        return COMPLETE
    with asking(args) as asked:
        found += written(asked, requests)
        sound = pairs.sound(found)
        for one, reason in checked(args, prompts, pairs, sound, asked):
            if reason:
                pairs.refuse(one, reason)
            else:
                pairs.add(one)
    write_jsonl(args.output, pairs.rows)
    output = Path(args.output)
    write_jsonl(output.with_name(f"{output.name}.rejected.jsonl"), pairs.refused)
    report = {"settings": vars(args), "missing": asked.missing, **pairs.report()}
    write_json(output.with_name(f"{output.name}.report.json"), report)
    show_table(pairs.table())
    mean = report["mean_characters"]
    print(f"mean characters: {mean['chosen']} chosen, {mean['rejected']} rejected")
    print(f"wrote {len(pairs.rows)} pairs to {relative(output)}")
    return FAILURES if asked.missing and args.provider != "local" else COMPLETE


# ------------------------------------------------------------------ rejected answers by source


def read_candidates(args, asked: Mapping[str, Asked]) -> list[Candidate]:
    """The candidates of all sources that need no call.

    Raises:
        InputError: a candidate of a question that is not in --input.
    """
    from malmat.evaluate.results import read_answers  # here, since --help is to answer at once

    found: list[Candidate] = []
    if "options" in args.sources:
        found += [c for one in asked.values() for c in wrong.from_options(one)]
    if args.contexts:
        contexts = read_contexts(args.contexts)
        qrels = read_qrels(args.qrels) if args.qrels else {}
        for name, one in asked.items():
            right = set(qrels.get(name, ()))
            near = [c for c in contexts.get(name, []) if not is_right(str(c.get("id")), right)]
            judged = {"judged": name in qrels, "checked": bool(args.checker)}
            found += wrong.from_contexts(one, near, **judged)
    for path in args.samples or ():
        rows = [row for row in read_answers(path) if row["id"] in asked]
        some = wrong.from_answers(rows, "own")
        found += [c for c in some if is_wrong(asked[c.question], c.text, args.below)]
    if args.candidates:
        rows = [
            check_fields(row, {"id": str}, path=args.candidates, line=line)
            for line, row in read_rows(args.candidates)
        ]
        for name in (row["id"] for row in rows):
            if name not in asked:
                problem = f"the question {name} is not in {args.input}"
                raise InputError(problem, path=args.candidates, field="id")
        found += wrong.from_answers(rows, "file")
    return found


def is_right(chunk: str, right: set[str]) -> bool:
    """Whether a chunk (``document`` or ``document#n``) is of a right passage."""
    return chunk in right or chunk.rpartition("#")[0] in right


def is_wrong(asked: Asked, text: str, below: float) -> bool:
    """Whether a paragraph of a model's own is far from the reference; others are checked later."""
    if asked.question.type != LONG or not text.strip():
        return True
    from malmat.evaluate.korean_metrics import mecab_words
    from malmat.evaluate.scorers import rouge1

    row = {"answer": text, "target": asked.chosen}
    return rouge1(row, tokens=mecab_words)["value"] < below


if __name__ == "__main__":
    run(main)
