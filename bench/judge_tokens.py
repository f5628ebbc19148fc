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
from types import SimpleNamespace

from malmat.answer.prices import price
from malmat.answer.request import Request
from malmat.cli import ROOT, parser, positive, run
from malmat.errors import InputError
from malmat.evaluate.judges import build_requests, judge_by_api
from malmat.evaluate.results import read_answers
from malmat.formats import read_terms
from malmat.journal import Journal
from malmat.prompts import load_prompts
from malmat.text.korean import normalize


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
        {**row, "id": f"{number}-{row['id']}", "answer": normalize(row["answer"])}
        for number, path in enumerate(args.answers)
        for row in read_answers(path)[: args.limit]
        if row["status"] == "ok"
    ]
    if not good:
        raise InputError("no answer in them can be judged", field="answers")
    terms, prompts = read_terms(args.terms), load_prompts()
    ways = {}
    for name, full_list in (("candidates", False), ("full list", True)):
        settings = SimpleNamespace(
            scorer_name=args.scorer_name or "none",
            score_mode="usage",
            n=1,
            full_list=full_list,
            base_url=args.base_url,
            concurrency=args.concurrency,
            max_cost=args.max_cost,
        )
        ways[name] = settings, build_requests(settings, prompts, terms, good)
    print(f"{len(good)} answers, {len(terms)} terms, tokens by {args.tokenizer}'s tokenizer")
    means = {name: count(args.tokenizer, requests) for name, (_, requests) in ways.items()}
    print(f"  ratio: 1/{means['full list'] / means['candidates']:.1f}")
    if args.scorer_name:
        compare(ways, terms, args.journal)


def count(name: str, requests: list[Request]) -> float:
    """Mean tokens a call; printed with the largest."""
    from malmat.lm.load import load_tokenizer

    tokenizer = load_tokenizer(name)
    texts = [request.messages[0]["content"] for request in requests]
    tokens = [len(ids) for ids in tokenizer(texts)["input_ids"]]
    mean = sum(tokens) / len(tokens)
    print(f"  {mean:9,.0f} tokens a call on average, {max(tokens):,} at most")
    return mean


def compare(ways: dict, terms: list[dict], journal_file: str) -> None:
    verdicts = {}
    for name, (settings, requests) in ways.items():
        with Journal(journal_file) as journal:
            verdicts[name] = judge_by_api(settings, requests, journal, terms)
        bought = {
            side: sum(v["judge_tokens"][side] for v in verdicts[name].values())
            for side in ("input", "output")
        }
        cost = price(settings.scorer_name, bought)
        dollars = "" if cost is None else f", ${cost:.4f}"
        print(f"{name}: {bought['input']:,} input, {bought['output']:,} output tokens{dollars}")
    first, second = verdicts.values()
    pairs = [(first[i]["used"], second[i]["used"]) for i in first if both_ok(first[i], second[i])]
    if not pairs:
        print("no answer has two verdicts")
        return
    same = sum(a == b for a, b in pairs) / len(pairs)
    rates = [sum(side) / len(pairs) for side in zip(*pairs, strict=True)]
    chance = rates[0] * rates[1] + (1 - rates[0]) * (1 - rates[1])
    kappa = f"{(same - chance) / (1 - chance):.3f}" if chance < 1 else "not defined"
    print(f"same verdicts: {same:.1%} of {len(pairs)}/{len(first)} answers, Cohen's kappa {kappa}")
    print(f"used: {rates[0]:.1%} by candidates, {rates[1]:.1%} by the full list")


def both_ok(*verdicts: dict) -> bool:
    return all(verdict["status"] == "ok" for verdict in verdicts)


if __name__ == "__main__":
    run(main)
