"""Write dialogue pairs for slang terms with an LLM: terms.csv → augmented_jsons/*.json.

    python generate_augmented_pairs_gemini.py --limit 3 --dry_run
    python generate_augmented_pairs_gemini.py --model gemini-2.5-flash --concurrency 8 --max_cost 5
    python generate_augmented_pairs_gemini.py --batch --screen
    python generate_augmented_pairs_gemini.py --provider local --model embedded --limit 3

Reads   a term list (--input): title, content, example_q, example_a.
Writes  one JSON file a term into --output_dir, with the pairs that pass the checks, as soon as
        the term is settled; rejected.jsonl beside them, with each rejected pair and its reasons;
        journal.jsonl, which makes a killed run go on where it was.

Gemini needs GEMINI_API_KEY, OpenAI OPENAI_API_KEY (environment or .env). A term that came short
is asked again for the rest, up to --rounds times; one that the provider blocks is not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from malmat.answer import api
from malmat.answer.local import complete_locally
from malmat.answer.open import SDKS, open_model
from malmat.answer.prices import BATCH_SHARE, Meter, estimate_tokens
from malmat.answer.request import Request
from malmat.augment import Harvest, rejects, term_messages
from malmat.cli import (
    COMPLETE,
    FAILURES,
    number,
    parser,
    positive,
    relative,
    run,
    share,
    show_settings,
)
from malmat.errors import InputError
from malmat.files import row_id
from malmat.formats import read_terms
from malmat.journal import Journal
from malmat.lm.load import short_name
from malmat.prompts import fill, load_prompts
from malmat.text.pairs import REPLY_SCHEMA, VERDICT_SCHEMA, parse_reply, parse_verdict

HERE = Path(__file__).parent
TOKENS_A_PAIR = 60
"""Of output, for the plan."""


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", default=str(HERE / "src/data/terms.csv"), help="the term list")
    options.add_argument("--output_dir", default=str(HERE / "augmented_jsons"))
    options.add_argument("--provider", choices=("gemini", "openai", "local"), default="gemini")
    options.add_argument("--model", default="gemini-2.5-flash")
    options.add_argument("--sdk", choices=SDKS, default=SDKS[0], help="Gemini only")
    options.add_argument("--base_url", help="another server that speaks the provider's protocol")
    options.add_argument("--pairs_per_term", type=positive, default=10)
    options.add_argument("--rounds", type=positive, default=2, help="times a term may be asked")
    options.add_argument("--limit", type=positive, help="only the first N terms")
    options.add_argument("--screen", action="store_true", help="screen each pair for harm")
    options.add_argument("--concurrency", type=positive, default=8, help="requests at once (API)")
    options.add_argument("--batch_size", type=positive, default=4, help="prompts at once (local)")
    options.add_argument("--batch", action="store_true", help="the batch API: half price, slow")
    options.add_argument("--poll", type=number, default=60, help="seconds between looks at a batch")
    # The published settings of KoCulture's augmentation.
    options.add_argument("--temperature", type=number, default=0.5)
    options.add_argument("--top_p", type=share, default=1.0)
    options.add_argument("--max_tokens", type=positive, default=4096)
    options.add_argument("--thinking_budget", type=int, default=0, help="google-genai only")
    options.add_argument("--max_cost", type=number, help="stop after this many US dollars")
    options.add_argument("--prices", help="another price table (see src/malmat/answer/prices.json)")
    options.add_argument("--seed", type=int, default=42, help="local models only")
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    check(args)
    prompts = load_prompts()
    terms = read_terms(args.input)[: args.limit]
    show_settings("augment", vars(args))
    meter = Meter(
        args.model,
        max_cost=args.max_cost,
        prices=args.prices,
        share=BATCH_SHARE if args.batch else 1.0,
    )
    plan(args, prompts, terms, meter)
    if args.dry_run:
        return COMPLETE

    output, name = Path(args.output_dir), short_name(args.model)
    door = open_door(args, meter)
    with (
        Journal(output / "journal.jsonl") as journal,
        rejects(output / "rejected.jsonl") as reject,
        said_at_the_end(meter),
    ):
        if journal.notice:
            print(f"  {journal.notice}")
        harvest = Harvest(terms, args.pairs_per_term, name, output, reject)
        for number in range(1, args.rounds + 1):
            short, passed = harvest.short(), []
            last = number == args.rounds
            requests = (pair_request(args, prompts, term, harvest) for term in short)
            with door(journal, requests, len(short), f"round {number}", parse_reply) as records:
                harvest.prepare()
                for term, record in zip(short, records, strict=True):
                    pairs = harvest.take(term, record, number)
                    if args.screen:
                        passed.append((term, pairs))
                    else:
                        harvest.keep(term, pairs, last=last)
            if args.screen:
                for term, pairs in screen(args, prompts, door, journal, harvest, passed, number):
                    harvest.keep(term, pairs, last=last)
            if not harvest.kept:
                break
    return report(args, harvest)


def check(args) -> None:
    """Refuse options that would have no effect or make no sense."""
    for name, wanted in (("batch", args.batch), ("max_cost", args.max_cost is not None)):
        if wanted and args.provider == "local":
            raise InputError("has no meaning for a local model", field=name, fix="Leave it out.")
    if not args.poll >= 0:
        raise InputError("must be 0 or more seconds", field="poll")
    if args.sdk != SDKS[0] and args.provider != "gemini":
        raise InputError("chooses an SDK of Gemini's", field="sdk", fix="Leave it out.")
    if args.sdk != SDKS[0] and args.batch:
        raise InputError("this SDK has no batches", field="sdk", fix=f"Use {SDKS[0]}.")


def pair_request(args, prompts: dict, term: dict, harvest: Harvest | None = None) -> Request:
    """The request for what a term still lacks (without a harvest: for all of it)."""
    pairs = harvest.kept[term["title"]] if harvest else []
    sampling = {
        "temperature": args.temperature,
        "top_p": args.top_p,
        "max_tokens": args.max_tokens,
    }
    count, local = args.pairs_per_term - len(pairs), args.provider == "local"
    return Request(
        id=row_id("term", term["title"], len(pairs)),
        messages=term_messages(prompts, term, count, pairs, worked=local),
        sampling=sampling | thinking(args),
        schema=REPLY_SCHEMA,
        # After a reply of which nothing passed the prompt is the same: it takes another sample.
        sample=harvest.answers[term["title"]] if harvest else 0,
    )


def screen(
    args, prompts: dict, door, journal: Journal, harvest: Harvest, passed: list, number: int
) -> list[tuple[dict, list[dict]]]:
    """``[(term, pairs)]`` without the pairs that the screening does not call safe."""
    pairs = [(term, pair) for term, found in passed for pair in found]
    requests = [screen_request(args, prompts, pair) for _, pair in pairs]
    safe = {term["title"]: [] for term, _ in passed}
    with door(journal, requests, len(requests), "screening", parse_verdict) as records:
        for (term, pair), record in zip(pairs, records, strict=True):
            if harvest.safe(term, pair, record, number):
                safe[term["title"]].append(pair)
    return [(term, safe[term["title"]]) for term, _ in passed]


def screen_request(args, prompts: dict, pair: dict) -> Request:
    """The question whether a pair may stand in public data."""
    text = f"{pair['q']}\n{pair['a']}"
    return Request(
        id=row_id("screen", pair["q"], pair["a"]),
        messages=[{"role": "user", "content": fill(prompts["HARMFUL"], text=text)}],
        sampling={"temperature": 0.0, "max_tokens": 256} | thinking(args),
        schema=VERDICT_SCHEMA,
    )


def thinking(args) -> dict:
    """The thinking budget, for the one SDK that has it."""
    has = args.provider == "gemini" and args.sdk == SDKS[0]
    return {"thinking_budget": args.thinking_budget} if has else {}


def plan(args, prompts: dict, terms: list[dict], meter: Meter) -> None:
    """What will be asked and, where there is a price, what it will cost."""
    pairs = len(terms) * args.pairs_per_term
    calls, tokens = len(terms), {"input": 0, "output": pairs * TOKENS_A_PAIR}
    for term in terms:
        messages = pair_request(args, prompts, term).messages
        tokens["input"] += sum(estimate_tokens(m["content"]) for m in messages)
    if args.screen:
        calls += pairs
        tokens["input"] += pairs * (estimate_tokens(prompts["HARMFUL"]) + TOKENS_A_PAIR)
        tokens["output"] += pairs * TOKENS_A_PAIR
    print(
        f"plan: {len(terms)} terms × {args.pairs_per_term} pairs, {calls} calls in the first round "
        f"(at most {args.rounds} rounds); about {meter.show(tokens)} a round"
        + (", at half price" if args.batch else "")
        + f" → {relative(args.output_dir)}"
    )


def open_door(args, meter: Meter) -> Callable:
    """A context manager that answers requests with the chosen model, through a journal.

    Keys are checked here. ``door(journal, requests, total, label, parse)`` gives the records
    in the requests' order; ``parse`` raises ValueError for a reply that cannot be read.
    """
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

        def ask_locally(journal, requests, total, label, parse):
            records = complete_locally(
                args.model, list(requests), journal, sampling,
                batch_size=args.batch_size, label=label,
            )  # fmt: skip
            return contextlib.nullcontext(iter(records.values()))

        return ask_locally
    model = open_model(args.model, base_url=args.base_url, provider=args.provider, sdk=args.sdk)

    def ask(journal, requests, total, label, parse):
        options = {"accept": lambda _, text: parse(text), "meter": meter, "label": label}
        if args.batch:
            from malmat.answer.batches import complete_in_batches

            options |= {"poll_s": args.poll, "output_tokens": args.pairs_per_term * TOKENS_A_PAIR}
            return contextlib.nullcontext(
                complete_in_batches(model, list(requests), journal, **options)
            )
        options |= {"concurrency": args.concurrency, "total": total}
        return api.Stream(model, requests, journal, **options)

    return ask


@contextlib.contextmanager
def said_at_the_end(meter: Meter):
    """Print what was used, also where the run is stopped or interrupted."""
    try:
        yield
    finally:
        if any(meter.usage.values()):
            print(f"used in this run: {meter.show(meter.usage)}")


def report(args, harvest: Harvest) -> int:
    """Say what came of it; the exit code."""
    total, wanted = sum(harvest.found.values()), harvest.wanted
    listed = ", ".join(f"{n} {reason}" for reason, n in harvest.reasons.most_common())
    short = [title for title, found in harvest.found.items() if found < wanted]
    print(f"replies: {', '.join(f'{n} {name}' for name, n in sorted(harvest.replies.items()))}")
    print(f"pairs: {total} kept, {harvest.rejected} rejected" + (f" ({listed})" if listed else ""))
    print(f"terms: {len(harvest.terms) - len(short)}/{len(harvest.terms)} have all their {wanted}")
    for title in short[:20]:
        print(f"  {title}: {harvest.found[title]} ({harvest.status[title]})")
    if len(short) > 20:
        print(f"  … and {len(short) - 20} more")
    print(f"wrote {relative(args.output_dir)}")
    return FAILURES if harvest.failed() and args.provider != "local" else COMPLETE


if __name__ == "__main__":
    run(main)
