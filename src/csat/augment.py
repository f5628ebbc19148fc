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

from augment_options import NEW, arguments

from malmat.answer.api import ApiEngine
from malmat.answer.batches import BatchEngine
from malmat.answer.open import open_model
from malmat.answer.prices import BATCH_SHARE, Meter, estimate_tokens
from malmat.answer.request import Engine
from malmat.augment import rejected_rows
from malmat.cli import COMPLETE, FAILURES, relative, run, show_settings
from malmat.contests.answer_back import (
    BY_HINT,
    WITHOUT_PASSAGE,
    WORDING,
    Probe,
    answer_requests,
    read_vote,
    with_passage,
)
from malmat.contests.augmentation import Augmentation, answer_tokens, maker_requests
from malmat.contests.exam_items import read_exam_items, write_contest_rows
from malmat.contests.faults import Fault, show_skipped
from malmat.contests.held_back import HeldBack
from malmat.contests.item_report import skew_lines
from malmat.contests.makers import Distractors, Draft, Hints, Maker, NewItems, Rationales, Seed
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
    prompts = load_prompts(
        PROMPTS, WORDING | ({maker.constant: maker.placeholders} if maker else {})
    )
    meters = open_meters(args)
    show_plan(args, maker, probes, fresh, prompts, meters)
    if args.dry_run:
        return COMPLETE
    output = Path(args.output)
    with rejected_rows(output.with_name(f"{output.name}.rejected.jsonl")) as reject:
        work = Augmentation(held, renames=args.kind in NEW, reject=reject)
        for seed in leaks:
            work.reject(Draft(seed, seed.item, raw=seed.paragraph[:80]), str(reasons[seed.id]))
        if maker is None:
            work.keep_shuffled(fresh, args.copies, args.seed)
        else:
            ask(args, work, maker, probes, fresh, prompts, meters)
        write_contest_rows(output, work.rows)
    write_json(
        output.with_name(f"{output.name}.report.json"), {"settings": vars(args)} | work.report()
    )
    print(*work.summary(), *skew_lines(work.items), sep="\n")
    print(f"wrote {relative(output)}")
    return FAILURES if work.missing else show_skipped(faults)


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
            seeds += [Seed(item.id, item.paragraph, item, row) for item, row in items]
            faults += bad
    if not seeds:
        raise InputError("nothing to start from", path=args.input[0])
    licence_gate((seed.row for seed in seeds), path=args.input[0], allow=args.allow_licence)
    return seeds, faults


def wanted(args) -> tuple[Maker | None, list[Probe]]:
    """What is made (None: other orders, which take no model), and how it is answered back."""
    back = [with_passage(args.agree), *([WITHOUT_PASSAGE] if args.needs_passage else [])]
    makers: dict[str, tuple[Maker | None, list[Probe]]] = {
        "items": (NewItems(args.per_passage, args.choices), back),
        "distractors": (Distractors(), back),
        "shuffle": (None, []),
        "rationales": (Rationales(), []),
        "hints": (Hints(), [BY_HINT]),
    }
    return makers[args.kind]


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


def ask(args, work: Augmentation, maker: Maker, probes, seeds, prompts, meters) -> None:
    """Have drafts made, and answered back."""
    engine = engine_of(args, args.model, args.base_url, maker.tokens)
    checker = engine
    if args.checker:
        checker = engine_of(args, args.checker, args.checker_base_url or args.base_url, 10)
    sampling = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    more = {"ask_blocked": args.ask_blocked}
    with Journal(journal_path(args.output)) as journal, contextlib.ExitStack() as at_the_end:
        for meter in dict.fromkeys(meters):
            at_the_end.enter_context(meter.shown_at_the_end())
        requests = list(maker_requests(maker, prompts, seeds, sampling, **more))
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
        votes = args.votes if probes else 0
        asked = {"temperature": args.temperature, **more}
        requests = list(answer_requests(prompts, drafts, probes, votes, **asked))
        options = {"meter": meters[1], "label": "answers", "total": len(requests)}
        with checker.answers(requests, journal, accept=read_vote, **options) as records:
            answered = zip(requests, records, strict=True)
            work.judge(drafts, probes, votes, answered, short_name(args.model))


def engine_of(args, name: str, base_url: str | None, output_tokens: int) -> Engine:
    """What answers. A key that is missing is noticed here."""
    # A provider that was named is that of the server, not of a checker elsewhere.
    provider = args.provider if name == args.model or base_url == args.base_url else None
    given = {"base_url": base_url, "provider": provider}
    model = open_model(name, sdk=args.sdk, extra_body=args.extra_body, **given)
    if args.batch:
        return BatchEngine(model, args.poll, output_tokens)
    return ApiEngine(model, args.concurrency)


if __name__ == "__main__":
    run(main)
