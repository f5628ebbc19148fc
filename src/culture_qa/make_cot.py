"""Make rationales for questions, keep those that lead a second reader to the answer.

    python src/culture_qa/make_cot.py --input rows.jsonl --output cot.jsonl --dry_run
    python src/culture_qa/make_cot.py --input rows.jsonl --output cot.jsonl \\
        --negatives wrong.jsonl --model gpt-4.1 --checker gemini-2.5-pro --max_cost 10

Reads   --input: training rows of prepare.py (선다형 and 단답형: a paragraph has no key that a
        second reading could come to); the wording of maker_prompt.py.
Writes  --output: chat rows to train on, in the variant MetaReason: a rationale, then "정답:" and
        the answer. --negatives: pairs for train_dpo.py, a rationale that leads to the answer and
        one that leads to a wrong one. Beside --output .report.json, .rejected.jsonl, a journal,
        from which a killed run goes on.

A rationale is written for a question and its answer, shortened by a second request (--refine), and
read again by --checker (default: --model) with the question, without the key; what it says of the
answer outright is cut off before. It is kept where that reading comes to the answer it was written
for: the key, or with --negatives another choice (--wrong: wrong short answers, rows of {id,
rejected}). Leaves with 1 where replies are missing: the same command asks for them again.
"""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

from cot_requests import WORDING, Draft, read_again, refined, with_text, writing
from maker_options import add_model, asking, check_model, show_plan
from malmat.cli import COMPLETE, FAILURES, parser, relative, run, show_settings
from malmat.contests.rationales import can_reason, read_rationale, reasoned
from malmat.contests.rejected_answers import asked_rows, problem
from malmat.contests.typed_questions import CHOICE, Question, item_of, prepared_row, read_typed
from malmat.errors import InputError
from malmat.files import check_fields, read_rows, row_id, write_json, write_jsonl
from malmat.prompts import load_prompts
from malmat.sources.licences import licence_gate
from task import TASKS, VARIANTS

HERE = Path(__file__).parent
VARIANT = "MetaReason"


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", required=True, help="training rows of prepare.py")
    options.add_argument("--output", required=True)
    options.add_argument("--negatives", help="write pairs of right and wrong rationales here")
    options.add_argument("--wrong", help="wrong short answers, as make_dpo_pairs.py writes them")
    options.add_argument("--no_refine", dest="refine", action="store_false", help="do not shorten")
    options.add_argument("--checker", help="the second reader (default: --model)")
    add_model(options, tokens=1024)
    args = options.parse_args()
    check_model(args)
    if args.wrong and not args.negatives:
        raise InputError("goes with --negatives", field="wrong")
    return args


def main() -> int:
    args = arguments()
    show_settings("make_cot", vars(args))
    prompts = load_prompts(HERE / "maker_prompt.py", WORDING)
    given = read_typed(args.input)[0]
    licence_gate((one.more for one in given), args.input)
    rows = [one.question for one in asked_rows(given, args.input)]
    questions = [one for one in rows if can_reason(one)][: args.limit]
    left = len(rows) - sum(map(can_reason, rows))
    print(f"{len(questions)} questions; {left} of a type that has no key left out")
    drafts = [Draft(one, str(one.answer)) for one in questions]
    drafts += [Draft(one, text) for one, text in wrong_answers(args, questions)]
    requests = [writing(args, prompts, one) for one in drafts]
    calls = len(drafts) * (2 + args.refine)
    show_plan(args, requests, 200, f"; {calls} with shortening and second readings")
    if args.dry_run:
        return COMPLETE
    with asking(args) as asked:
        records = asked.records(requests, lambda _, text: read_rationale(text), "rationales")
        drafts = [with_text(*pair) for pair in zip(drafts, records, strict=True)]
        if args.refine:
            drafts = refined(args, prompts, drafts, asked)
        drafts = read_again(args, prompts, drafts, asked)
    write(args, drafts, asked.missing)
    return FAILURES if asked.missing and args.provider != "local" else COMPLETE


def wrong_answers(args, questions: list[Question]) -> list[tuple[Question, str]]:
    """A wrong answer a question, to write a rationale for: another choice, or one of --wrong."""
    if not args.negatives:
        return []
    known: dict[str, list[str]] = {}
    for line, row in read_rows(args.wrong) if args.wrong else ():
        check_fields(row, {"rejected": str}, path=args.wrong, line=line)
        known.setdefault(str(row.get("question_id", row.get("id"))), []).append(row["rejected"])
    found = []
    for asked in asked_rows(questions, args.input):
        one = asked.question
        texts = one.labels if one.type == CHOICE else known.get(one.id, [])
        texts = [text for text in texts if problem(asked, text) is None]
        if texts:
            found.append((one, random.Random(f"{args.seed} {one.id}").choice(texts)))
    return found


def write(args, drafts: list[Draft], missing: int) -> None:
    """Write rows, pairs, what was rejected and the report."""
    output, prompts = Path(args.output), TASKS[0].prompts()
    right = {one.question.id: one for one in drafts if one.is_right and one.reason is None}
    rows, pairs = [], []
    for one in right.values():
        row = {**prepared_row(one.question), "variant": VARIANT}
        messages = VARIANTS[VARIANT](prompts, item_of(one.question), [])
        answer = reasoned(one.text, one.question.answers[0])
        rows.append({**row, "messages": [*messages, {"role": "assistant", "content": answer}]})
    for one in drafts:
        if one.is_right or one.reason or one.question.id not in right:
            continue
        chosen, question = right[one.question.id], one.question
        pairs.append(
            {
                "id": row_id("rationales", chosen.text, one.text),
                "cluster": question.cluster,
                "prompt": VARIANTS[VARIANT](prompts, item_of(question), []),
                "chosen": reasoned(chosen.text, question.answers[0]),
                "rejected": reasoned(one.text, one.answer),
            }
        )
    write_jsonl(output, rows)
    if args.negatives:
        write_jsonl(args.negatives, pairs)
    bad = [one for one in drafts if one.reason]
    write_jsonl(
        output.with_name(f"{output.name}.rejected.jsonl"),
        [
            {"id": one.question.id, "for": one.answer, "reason": one.reason, "text": one.text}
            for one in bad
        ],
    )
    reasons = {
        kind: dict(Counter(one.reason for one in bad if one.is_right is is_right))
        for kind, is_right in (("right", True), ("wrong", False))
    }
    report = {"rows": len(rows), "pairs": len(pairs), "missing": missing, "rejected": reasons}
    write_json(output.with_name(f"{output.name}.report.json"), {"settings": vars(args), **report})
    for kind, counts in reasons.items():
        for reason, count in counts.items():
            print(f"  rejected: {count} {kind} ones: {reason}")
    print(f"wrote {len(rows)} rows to {relative(output)}, {len(pairs)} pairs of rationales")


if __name__ == "__main__":
    run(main)
