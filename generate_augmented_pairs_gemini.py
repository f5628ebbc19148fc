"""Write dialogue pairs for slang terms with an LLM: terms.csv → augmented_jsons/*.json.

    python generate_augmented_pairs_gemini.py --limit 3 --dry_run
    python generate_augmented_pairs_gemini.py --model gemini-2.5-flash --concurrency 8 --max_cost 5
    python generate_augmented_pairs_gemini.py --titles 갓생 현타 --batch --screen
    python generate_augmented_pairs_gemini.py --provider local --model embedded --limit 3

Reads   a term list (--input): title, content, example_q, example_a; of it the --titles, else
        the terms without pairs in --merged, else (there is none) all.
Writes  one JSON file a term into --output_dir, with the pairs that pass the checks, as soon as it
        is settled; rejected.jsonl (rejected pairs and why); journal.jsonl, for a killed run.

Gemini needs GEMINI_API_KEY, OpenAI OPENAI_API_KEY (environment or .env). A term that came short
is asked again for the rest, up to --rounds times; one that was blocked only with --ask_blocked.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from malmat.answer.api import ApiEngine
from malmat.answer.batches import BatchEngine
from malmat.answer.local import LocalEngine
from malmat.answer.open import SDKS, open_model, room_for_thoughts
from malmat.answer.prices import BATCH_SHARE, Meter
from malmat.answer.request import Engine
from malmat.augment import PROMPTS, TERMS, Augmentation, Wanted, chosen_terms, rejected_rows
from malmat.cli import (
    COMPLETE,
    FAILURES,
    api_options,
    number,
    parser,
    positive,
    relative,
    run,
    share,
    show_settings,
)
from malmat.errors import InputError
from malmat.journal import Journal
from malmat.lm.load import short_name
from malmat.prompts import load_prompts
from malmat.text.pairs import parse_reply, parse_verdict

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", default=str(TERMS), help="the term list")
    options.add_argument("--titles", nargs="+", help="only these (default: terms without pairs)")
    options.add_argument("--merged", help="pairs that there are (of terms.csv: merged_final.json)")
    options.add_argument("--output_dir", default=str(HERE / "augmented_jsons"))
    options.add_argument("--model", default="gemini-2.5-flash")
    options.add_argument("--pairs_per_term", type=positive, default=10)
    options.add_argument("--rounds", type=positive, default=2, help="times a term may be asked")
    options.add_argument("--limit", type=positive, help="only the first N terms")
    options.add_argument("--screen", action="store_true", help="screen each pair for harm")
    options.add_argument("--batch_size", type=positive, default=4, help="prompts at once (local)")
    options.add_argument("--batch", action="store_true", help="the batch API: half price, slow")
    options.add_argument("--poll", type=number, default=60, help="seconds between status requests")
    # The published settings of KoCulture's augmentation: temperature, top_p, tokens, no thinking.
    api_options(
        options,
        *("provider", "sdk", "base_url", "extra_body", "ask_blocked", "concurrency"),
        *("temperature", "max_cost", "prices", "dry_run"),
        provider={"choices": ("gemini", "openai", "local"), "default": "gemini", "help": None},
        base_url={"help": "another server that speaks the provider's protocol"},
        temperature={"default": 0.5},
    )
    options.add_argument("--top_p", type=share, default=1.0)
    options.add_argument("--max_tokens", type=positive, default=4096)
    options.add_argument("--thinking_budget", type=int, default=0, help="google-genai only")
    options.add_argument("--seed", type=int, default=42, help="local models only")
    return options.parse_args()


def main() -> int:
    args = arguments()
    check(args)
    wanted = wanted_pairs(args)
    show_settings("augment", vars(args))
    terms = chosen_terms(args.input, args.titles, args.merged)[: args.limit]
    batch_share = BATCH_SHARE if args.batch else 1.0
    meter = Meter(args.model, max_cost=args.max_cost, prices=args.prices, share=batch_share)
    plan(args, wanted, terms, meter)
    if args.dry_run:
        return COMPLETE
    output, engine = Path(args.output_dir), open_engine(args, wanted)
    with (
        Journal(output / "journal.jsonl") as journal,
        rejected_rows(output / "rejected.jsonl") as reject,
        meter.shown_at_the_end(),
    ):
        if journal.notice:
            print(f"  {journal.notice}")
        ask = functools.partial(engine.answers, journal=journal, meter=meter)
        work = Augmentation(terms, wanted, short_name(args.model), output, reject)
        for round_number in range(1, args.rounds + 1):
            augment_round(args, ask, work, round_number)
            if not work.unfinished():
                break
    print(*work.summary(), f"wrote {relative(output)}", sep="\n")
    return FAILURES if work.failed() and args.provider != "local" else COMPLETE


def augment_round(args, ask: Callable, work: Augmentation, round_number: int) -> None:
    """Ask for what the terms lack, check what comes and, with --screen, have it screened."""
    last, terms, found = round_number == args.rounds, work.unfinished(), []
    with ask(
        map(work.pair_request, terms),
        accept=lambda _, text: parse_reply(text),
        label=f"round {round_number}",
        total=len(terms),
    ) as records:
        work.prepare()
        for term, record in zip(terms, records, strict=True):
            pairs = work.passing(term, record, round_number)
            if args.screen:
                found.append((term, pairs))
            else:
                work.add(term, pairs, last=last)
    if args.screen:
        pairs = [pair for _, pairs in found for pair in pairs]
        with ask(
            map(work.wanted.screen_request, pairs),
            accept=lambda _, text: parse_verdict(text),
            label="screening",
            total=len(pairs),
        ) as records:
            for term, pairs in found:
                safe = [p for p in pairs if work.is_safe(term, p, next(records), round_number)]
                work.add(term, safe, last=last)


def check(args) -> None:
    """Refuse options that would have no effect or make no sense."""
    for name in ("batch", "max_cost", "extra_body", "ask_blocked"):
        if getattr(args, name) not in (None, False) and args.provider == "local":
            raise InputError("has no meaning for a local model", field=name, fix="Leave it out.")
    if not args.poll >= 0:
        raise InputError("must be 0 or more seconds", field="poll")
    if args.sdk != SDKS[0] and args.provider != "gemini":
        raise InputError("chooses an SDK of Gemini's", field="sdk", fix="Leave it out.")
    if args.sdk != SDKS[0] and args.batch:
        raise InputError("this SDK has no batches", field="sdk", fix=f"Use {SDKS[0]}.")


def wanted_pairs(args) -> Wanted:
    """The settings of what is asked for."""
    names = ("temperature", "top_p", "max_tokens")
    has_budget = args.provider == "gemini" and args.sdk == SDKS[0]
    return Wanted(
        pairs_per_term=args.pairs_per_term,
        prompts=load_prompts(needed=PROMPTS),
        sampling={name: getattr(args, name) for name in names},
        thinking={"thinking_budget": args.thinking_budget} if has_budget else {},
        worked=args.provider == "local",
        ask_blocked=args.ask_blocked,
        room=room_for_thoughts(args.model, args.thinking_budget if has_budget else None),
    )


def plan(args, wanted: Wanted, terms: list[dict], meter: Meter) -> None:
    """What will be asked and, where there is a price, what it will cost."""
    calls, tokens = wanted.estimate(terms, screen=args.screen)
    print(
        f"plan: {len(terms)} terms × {args.pairs_per_term} pairs, {calls} calls in the first round "
        f"(at most {args.rounds} rounds); about {meter.show(tokens)} a round"
        + (", at half price" if args.batch else "")
        + f" → {relative(args.output_dir)}"
    )


def open_engine(args, wanted: Wanted) -> Engine:
    """What answers; it needs a key that is there."""
    if args.provider == "local":
        from malmat.lm.generate import Sampling

        # A local model is held to the published temperature too; greedy at 0.
        sampling = Sampling(
            max_new_tokens=args.max_tokens,
            temperature=args.temperature,
            top_p=args.top_p,
            repetition_penalty=1.0,
            seed=args.seed,
        )
        return LocalEngine(args.model, sampling, args.batch_size)
    given = {n: getattr(args, n) for n in ("base_url", "provider", "sdk", "extra_body")}
    model = open_model(args.model, **given)
    if args.batch:
        return BatchEngine(model, args.poll, wanted.reply_tokens)
    return ApiEngine(model, args.concurrency)


if __name__ == "__main__":
    run(main)
