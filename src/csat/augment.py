"""Make training items with an LLM, and keep those that it answers back without their key.

    python src/csat/augment.py --input passages.jsonl book.pdf --output new.jsonl --dry_run
    python src/csat/augment.py --input passages.jsonl --output new.jsonl --against test.jsonl \\
        --model gpt-4.1 --checker gemini-2.5-pro --needs_passage --max_cost 20 --batch
    python src/csat/augment.py --distractors --input train.jsonl --output more.jsonl
    python src/csat/augment.py --shuffle --copies 2 --input train.jsonl --output shuffled.jsonl
    python src/csat/augment.py --rationales --input train.jsonl --output reasoned.jsonl
    python src/csat/augment.py --hints --input train.jsonl --output hinted.jsonl

Reads   --input: passages for new items (text, PDF, or rows with a paragraph), else items (rows of
        prepare.py or convert.py). --against: the test and dev items, which nothing may be like.
Writes  --output: rows of the contest's layout (.jsonl or .csv), which prepare.py reads; beside
        it a report, the rejected drafts with their reasons, and a journal, from which a killed
        run goes on.

--items (the default) and --distractors: each item is answered back --votes times without its key,
by --checker where one is given, with its choices in another order each time. It is kept where
--agree votes (default: all) come to the key, and with --needs_passage only where fewer do without
the passage. --shuffle asks nobody: choices move with their key, unless one names others. A
rationale is kept that comes to the key, which it was not told; a hint, where the hint and the
choices alone do not give the key away.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

from augment_options import NEW, arguments, asked_as, server_of, wanted

from malmat.answer.api import ApiEngine
from malmat.answer.batches import BatchEngine
from malmat.answer.open import open_model
from malmat.answer.prices import BATCH_SHARE, Meter, estimate_tokens
from malmat.answer.request import Engine
from malmat.augment import rejected_rows
from malmat.cli import COMPLETE, FAILURES, provenance, relative, run, show_settings
from malmat.contests.answer_back import (
    WORDING,
    answer_requests,
    read_vote,
)
from malmat.contests.augmentation import ANSWER_TOKENS, Augmentation, answer_tokens, maker_requests
from malmat.contests.exam_quality import skew_lines
from malmat.contests.faults import Fault, show_skipped
from malmat.contests.held_back import HeldBack
from malmat.contests.makers import Draft, Maker, Seed
from malmat.contests.mcq_rows import read_exam_items, write_contest_rows
from malmat.contests.passages import read_texts
from malmat.errors import InputError
from malmat.files import write_json
from malmat.journal import Journal, journal_path
from malmat.lm.load import short_name
from malmat.prompts import load_prompts
from malmat.sources.licences import licence_gate

PROMPTS = Path(__file__).with_name("augment_prompt.py")


def main() -> int:
    args = arguments(__doc__)
    show_settings("augment", vars(args))
    held = HeldBack(args.against)
    seeds, faults = read_seeds(args)
    reasons = {seed.id: held.seed_reason(seed) for seed in seeds}
    leaks = [seed for seed in seeds if reasons[seed.id]]
    fresh = [seed for seed in seeds if not reasons[seed.id]][: args.limit]
    print(f"{len(seeds)} read; {len(leaks)} of them leak one of {held.items} held-out items")
    maker, probes = wanted(args)
    needed = {maker.constant: set(maker.placeholders)} if maker else {}
    prompts = load_prompts(PROMPTS, WORDING | needed)
    meters = open_meters(args)
    show_plan(args, maker, probes, fresh, prompts, meters)
    if args.dry_run:
        return COMPLETE
    output = Path(args.output)
    with contextlib.ExitStack() as stack:
        # First: it is what keeps a second run away from all the files.
        journal = stack.enter_context(Journal(journal_path(output))) if maker else None
        reject = stack.enter_context(rejected_rows(beside(output, "rejected.jsonl")))
        work = Augmentation(held, renames=args.kind in NEW, reject=reject)
        for seed in leaks:
            work.reject(Draft(seed, seed.item, raw=seed.paragraph[:80]), str(reasons[seed.id]))
        if maker is None or journal is None:
            work.keep_shuffled(fresh, args.copies, args.seed)
        else:
            ask(args, journal, work, maker, probes, fresh, prompts, meters)
        write_contest_rows(output, work.rows)
    report = work.report()
    settings = {"settings": vars(args), "prompts": prompts, "environment": provenance()}
    write_json(beside(output, "report.json"), {**report, **settings})
    print(*work.summary(), *skew_lines(report), sep="\n")
    print(f"wrote {relative(output)}")
    return FAILURES if work.missing else show_skipped(faults)


def beside(output: Path, name: str) -> Path:
    return output.with_name(f"{output.name}.{name}")


def read_seeds(args) -> tuple[list[Seed], list[Fault]]:
    """Passages for new items, items for all else; evaluation-only rows are refused."""
    seeds: list[Seed] = []
    faults: list[Fault] = []
    if args.kind == "items":
        texts = read_texts(args.input, args.min_chars, args.max_chars)
        seeds = texts.seeds
        for line in texts.pages:
            print(f"  not sent: {line}")
        for reason, count in texts.left_out.items():
            print(f"  left out: {count} ({reason})")
    else:
        for path in args.input:
            items, bad = read_exam_items(path, answered=True, skip_bad=args.skip_bad)
            if twice := {item.id for item, _ in items} & {seed.id for seed in seeds}:
                problem = f"the row {min(twice)} stands in another file already"
                raise InputError(problem, path=path, field="id", fix="Keep one.")
            seeds += [Seed(item.id, item.paragraph, item, row) for item, row in items]
            faults += bad
    if not seeds:
        raise InputError("nothing to start from", path=args.input[0])
    licence_gate((seed.row for seed in seeds), args.input[0])
    return seeds, faults


def open_meters(args) -> tuple[Meter, Meter]:
    """Of the model and of the checker, which may be one."""
    given = {"prices": args.prices, "share": BATCH_SHARE if args.batch else 1.0}
    limit = None if args.kind == "shuffle" else args.max_cost
    meter = Meter(args.model, max_cost=limit, **given)
    return meter, Meter(args.checker, max_cost=limit, **given) if args.checker else meter


def show_plan(args, maker, probes, seeds, prompts, meters) -> None:
    """Calls, tokens and, where there is a price, what they cost."""
    if maker is None:
        print(f"plan: up to {len(seeds) * args.copies} items, no calls → {relative(args.output)}")
        return
    texts = (maker.prompt(prompts, seed) for seed in seeds)
    made = {"input": sum(map(estimate_tokens, texts)), "output": len(seeds) * maker.tokens}
    drafts = len(seeds) * (args.per_passage if args.kind == "items" else 1)
    calls = drafts * len(probes) * args.votes
    print(f"plan: {len(seeds)} calls of {args.model}, about {meters[0].show(made)}")
    if calls:
        tokens = answer_tokens(prompts, seeds, calls // max(1, len(seeds)))
        print(f"  up to {calls} calls of {args.checker or args.model}, {meters[1].show(tokens)}")
    print(f"  → {relative(args.output)}")


def ask(args, journal, work, maker: Maker, probes, seeds, prompts, meters) -> None:
    """Have drafts made, and answered back."""
    engine = engine_of(args, args.model, maker.tokens)
    checker = engine_of(args, args.checker, ANSWER_TOKENS) if args.checker else engine
    with contextlib.ExitStack() as at_the_end:
        for meter in dict.fromkeys(meters):
            at_the_end.enter_context(meter.shown_at_the_end())
        requests = list(maker_requests(maker, prompts, seeds, **asked_as(args, args.model)))
        by_id = dict(zip((request.id for request in requests), seeds, strict=True))
        drafts: list[Draft] = []
        with engine.answers(
            requests,
            journal,
            accept=lambda request, text: maker.drafts(by_id[request.id], text),
            meter=meters[0],
            label=args.kind,
            total=len(requests),
        ) as records:
            for seed, record in zip(seeds, records, strict=True):
                drafts += work.drafts(maker, seed, record)
        if args.checker and args.max_cost is not None:  # one limit for both
            meters[1].max_cost = max(0.0, args.max_cost - (meters[0].cost or 0.0))
        asked = asked_as(args, args.checker or args.model)
        requests = list(answer_requests(prompts, drafts, probes, args.votes, **asked))
        options = {"meter": meters[1], "label": "answers", "total": len(requests)}
        with checker.answers(requests, journal, accept=read_vote, **options) as records:
            answered = zip(requests, records, strict=True)
            work.judge(drafts, probes, args.votes, answered, short_name(args.model))


def engine_of(args, name: str, output_tokens: int) -> Engine:
    """What answers. A key that is missing is noticed here."""
    model = open_model(name, sdk=args.sdk, extra_body=args.extra_body, **server_of(args, name))
    if args.batch:
        return BatchEngine(model, args.poll, output_tokens)
    return ApiEngine(model, args.concurrency)


if __name__ == "__main__":
    run(main)
