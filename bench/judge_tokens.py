"""Usage judging: tokens of a call with the terms that may be in the answer, and with all of them.

    python bench/judge_tokens.py ANSWERS.json [MORE.json …]
    python bench/judge_tokens.py ANSWERS.json --terms merged_final.json --limit 50
    python bench/judge_tokens.py ANSWERS.json --scorer_name gpt-4.1 --max_cost 2

Reads answers as score.py does and counts with the embedded model's tokenizer (or --tokenizer).
With --scorer_name both kinds of call are made, and the share of equal verdicts is printed with
Cohen's kappa and what was paid for each; a journal in the system's temporary folder (or
--journal) keeps what was bought.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from malmat.answer.open import open_model
from malmat.answer.prices import price
from malmat.answer.request import Request
from malmat.cli import ROOT, parser, positive, run
from malmat.errors import InputError
from malmat.evaluate.agreement import agreement, text_of
from malmat.evaluate.judges import TermJudge, judge_by_api, judge_requests
from malmat.evaluate.results import read_answers
from malmat.evaluate.task import RATE
from malmat.formats import read_terms
from malmat.journal import Journal
from malmat.prompts import load_prompts

JUDGE = TermJudge("JUDGE_USAGE")


def main() -> None:
    options = parser(__doc__)
    options.add_argument("answers", nargs="+")
    options.add_argument("--terms", default=str(ROOT / "src/data/terms.csv"))
    options.add_argument("--limit", type=positive, help="only the first N answers of each file")
    options.add_argument("--tokenizer", default="embedded")
    options.add_argument("--scorer_name", help="a judge to ask for real")
    options.add_argument("--base_url")
    options.add_argument("--concurrency", type=positive, default=8)
    options.add_argument("--max_cost", type=float)
    options.add_argument(
        "--journal", default=str(Path(tempfile.gettempdir()) / "judge_tokens.journal.jsonl")
    )
    args = options.parse_args()
    good = [
        {**row, "id": f"{number}-{row['id']}"}
        for number, path in enumerate(args.answers)
        for row in read_answers(path)[: args.limit]
        if row["status"] == "ok"
    ]
    if not good:
        raise InputError("no answer in them can be judged", field="answers")
    terms = read_terms(args.terms)
    prompts = load_prompts(needed={JUDGE.prompt: JUDGE.placeholders})
    ways = {
        name: judge_requests(JUDGE, prompts, good, terms, full_list=full_list)
        for name, full_list in (("candidates", False), ("full list", True))
    }
    print(f"{len(good)} answers, {len(terms)} terms, tokens by {args.tokenizer}'s tokenizer")
    means = {name: count(args.tokenizer, requests) for name, requests in ways.items()}
    print(f"  ratio: 1/{means['full list'] / means['candidates']:.1f}")
    if args.scorer_name:
        compare(args, ways, terms)


def count(name: str, requests: list[Request]) -> float:
    """Mean tokens a call; printed with the largest."""
    from malmat.lm.load import load_tokenizer

    tokenizer = load_tokenizer(name)
    texts = [request.messages[0]["content"] for request in requests]
    tokens = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    mean = sum(tokens) / len(tokens)
    print(f"  {mean:9,.0f} tokens a call on average, {max(tokens):,} at most")
    return mean


def compare(args, ways: dict[str, list[Request]], terms: list[dict]) -> None:
    model, verdicts = open_model(args.scorer_name, base_url=args.base_url), {}
    for name, requests in ways.items():
        with Journal(args.journal) as journal:
            verdicts[name] = judge_by_api(
                model,
                JUDGE,
                requests,
                journal,
                terms,
                concurrency=args.concurrency,
                max_cost=args.max_cost,
            )
        bought = {
            side: sum(v["judge_tokens"][side] for v in verdicts[name].values())
            for side in ("input", "output")
        }
        cost = price(args.scorer_name, bought)
        dollars = "" if cost is None else f", ${cost:.4f}"
        print(f"{name}: {bought['input']:,} input, {bought['output']:,} output tokens{dollars}")
    columns = [
        {row: v.get("value") if v["status"] == "ok" else None for row, v in each.items()}
        for each in verdicts.values()
    ]
    found = agreement(RATE, columns[1], columns[0], {row: row for row in columns[0]})
    print(f"same verdicts: {text_of(found['exact'])}, Cohen's kappa {text_of(found, 'kappa')}")
    for name, column in zip(verdicts, columns, strict=True):
        given = [value for value in column.values() if value is not None]
        print(f"used by {name}: {sum(given):.0f}/{len(given)}")


if __name__ == "__main__":
    run(main)
