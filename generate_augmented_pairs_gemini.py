"""Write dialogue pairs for slang terms with an LLM: terms.csv → augmented_jsons/*.json.

    python generate_augmented_pairs_gemini.py --limit 3 --dry_run
    python generate_augmented_pairs_gemini.py --model gemini-2.5-flash --concurrency 8
    python generate_augmented_pairs_gemini.py --provider local --model embedded --limit 3

Reads   a term list (--input): title, content, example_q, example_a.
Writes  one JSON file a term into --output_dir, with the pairs that pass the checks;
        rejected.jsonl beside them, with each rejected pair and its reason; journal.jsonl,
        which makes a killed run go on where it was.

Gemini needs GEMINI_API_KEY, OpenAI OPENAI_API_KEY (environment or .env). A term
that came short is asked again for the rest, up to --rounds times.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from malmat import llm
from malmat.cli import COMPLETE, FAILURES, parser, positive, relative, run, show_settings
from malmat.journal import Journal
from malmat.korean import TermMatcher
from malmat.models import short_name
from malmat.pairs import REPLY_SCHEMA, pair_problems, parse_reply, squeeze
from malmat.prompts import fill, load_prompts
from malmat.records import read_terms, row_id, write_json, write_jsonl

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", default=str(HERE / "src/data/terms.csv"), help="the term list")
    options.add_argument("--output_dir", default=str(HERE / "augmented_jsons"))
    options.add_argument("--provider", choices=("gemini", "openai", "local"), default="gemini")
    options.add_argument("--model", default="gemini-2.5-flash")
    options.add_argument("--base_url", help="another server that speaks the provider's protocol")
    options.add_argument("--pairs_per_term", type=positive, default=10)
    options.add_argument("--rounds", type=positive, default=2, help="times a term may be asked")
    options.add_argument("--limit", type=positive, help="only the first N terms")
    options.add_argument("--concurrency", type=positive, default=8, help="requests at once (API)")
    options.add_argument("--batch_size", type=positive, default=4, help="prompts at once (local)")
    # The published settings of KoCulture's augmentation.
    options.add_argument("--temperature", type=float, default=0.5)
    options.add_argument("--top_p", type=float, default=1.0)
    options.add_argument("--max_tokens", type=positive, default=4096)
    options.add_argument("--thinking_budget", type=int, default=0, help="Gemini only")
    options.add_argument("--max_cost", type=float, help="stop after this many US dollars")
    options.add_argument("--seed", type=int, default=42, help="local models only")
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    prompts = load_prompts()
    terms = read_terms(args.input)[: args.limit]
    show_settings("augment", vars(args))
    messages = [term_messages(prompts, term, args.pairs_per_term, [], args) for term in terms]
    plan(args, messages)
    if args.dry_run:
        return COMPLETE

    output = Path(args.output_dir)
    kept: dict[str, list[dict]] = {term["title"]: [] for term in terms}
    rejected: list[dict] = []
    statuses: Counter[str] = Counter()
    with Journal(output / "journal.jsonl") as journal:
        ask = open_door(args, journal)
        matcher = TermMatcher(terms)
        for number in range(1, args.rounds + 1):
            short = [t for t in terms if len(kept[t["title"]]) < args.pairs_per_term]
            requests = [request_for(prompts, term, kept[term["title"]], args) for term in short]
            records = ask(requests, f"round {number}") if requests else {}
            for term, request in zip(short, requests, strict=True):
                record = records[f"{request.id}#0"]
                statuses[status_of(record)] += 1
                good, bad = sift(record, term, kept, matcher, args.pairs_per_term)
                kept[term["title"]] += [{**pair, "model": short_name(args.model)} for pair in good]
                rejected += [{"title": term["title"], "round": number, **pair} for pair in bad]
        for term in terms:
            write_term(output, term, kept[term["title"]])
        write_jsonl(output / "rejected.jsonl", rejected)
    return report(args, terms, kept, rejected, statuses)


def term_messages(
    prompts: dict, term: dict, count: int, pairs: list[dict], args
) -> list[dict[str, str]]:
    """The request for ``count`` pairs, which says what there is already.

    A small local model gets a worked example first: it continues a shape that it
    has seen far better than one that is described to it.
    """
    known = ""
    if pairs:
        lines = "\n".join(f"- {pair['q']} / {pair['a']}" for pair in pairs)
        known = fill(prompts["AUGMENT_KNOWN"], pairs=lines)

    def ask(row: dict, number: int, known: str = "") -> dict[str, str]:
        names = ("title", "content", "example_q", "example_a")
        values = {name: row[name] for name in names}
        text = fill(prompts["AUGMENT"], **values, count=number, known=known)
        return {"role": "user", "content": text}

    if args.provider != "local":
        return [ask(term, count, known)]
    reply = {
        "title": WORKED["title"],
        "description": WORKED["content"],
        "conversations": WORKED["conversations"],
    }
    return [
        ask(WORKED, len(WORKED["conversations"])),
        {"role": "assistant", "content": json.dumps(reply, ensure_ascii=False)},
        ask(term, count, known),
    ]


WORKED = {
    "title": "칼퇴",
    "content": "'칼같이 퇴근하다'를 줄인 말로, 정해진 시각이 되자마자 바로 퇴근하는 것을 가리킨다.",
    "example_q": "오늘 저녁에 시간 돼?",
    "example_a": "당연하지 오늘은 무조건 칼퇴야",
    "conversations": [
        {
            "context": "회사 동기 1:1 대화",
            "q": "너 왜 벌써 가방 싸고 있어ㅋㅋ",
            "a": "칼퇴하려면 10분 전부터 준비해야지",
        },
        {
            "context": "대학 친구 단체 대화방",
            "q": "약속 7시로 미뤄도 돼? 일이 안 끝나",
            "a": "칼퇴한다더니 또 야근이구나ㅠㅠ 천천히 와",
        },
    ],
}


def request_for(prompts: dict, term: dict, pairs: list[dict], args) -> llm.Request:
    missing = args.pairs_per_term - len(pairs)
    sampling = {
        "temperature": args.temperature,
        "top_p": args.top_p,
        "max_tokens": args.max_tokens,
    }
    if args.provider == "gemini":
        sampling["thinking_budget"] = args.thinking_budget
    return llm.Request(
        id=row_id("term", term["title"], len(pairs)),
        messages=term_messages(prompts, term, missing, pairs, args),
        sampling=sampling,
        schema=REPLY_SCHEMA,
    )


def plan(args, messages: list[list[dict]]) -> None:
    """What will be asked and, where there is a price, what it will cost."""
    tokens = {
        "input": sum(llm.estimate_tokens(m["content"]) for row in messages for m in row),
        "output": len(messages) * args.pairs_per_term * 60,
    }
    cost = None if args.provider == "local" else llm.price(args.model, tokens)
    print(
        f"plan: {len(messages)} terms × {args.pairs_per_term} pairs, {len(messages)} calls in the "
        f"first round (at most {args.rounds} rounds), about {tokens['input']:,} input and "
        f"{tokens['output']:,} output tokens"
        + (f", about ${cost:.3f} a round" if cost is not None else "")
        + f" → {relative(args.output_dir)}"
    )


def open_door(args, journal: Journal):
    """A function that answers requests with the chosen model; keys are checked here."""
    if args.provider == "local":
        from malmat.generate import Sampling

        # A local model is held to the published temperature too; greedy at 0.
        sampling = Sampling(
            max_new_tokens=args.max_tokens,
            temperature=args.temperature,
            top_p=args.top_p,
            repetition_penalty=1.0,
            seed=args.seed,
        )
        return lambda requests, label: llm.complete_locally(
            args.model, requests, journal, sampling, batch_size=args.batch_size, label=label
        )
    kind = {"gemini": llm.Gemini, "openai": llm.OpenAI}[args.provider]
    model = kind(args.model, args.base_url)
    return lambda requests, label: llm.complete(
        model,
        requests,
        journal,
        accept=lambda _, text: parse_reply(text),
        concurrency=args.concurrency,
        max_cost=args.max_cost,
        label=label,
    )


def status_of(record: dict) -> str:
    """A record's status; a local reply is parsed here for the first time."""
    if record["status"] == "ok":
        try:
            parse_reply(record["text"])
        except ValueError:
            return "parse_error"
    return record["status"]


def sift(
    record: dict, term: dict, kept: dict[str, list[dict]], matcher: TermMatcher, most: int
) -> tuple[list[dict], list[dict]]:
    """The pairs of a reply that pass, and those that do not, each with its ``reasons``."""
    from rapidfuzz import fuzz, process

    if status_of(record) != "ok":
        return [], []
    seen = [squeeze(pair["q"] + pair["a"]) for pairs in kept.values() for pair in pairs]
    good: list[dict] = []
    bad: list[dict] = []
    for pair in parse_reply(record["text"]):
        reasons = pair_problems(pair, term, matcher)
        text = squeeze(pair["q"] + pair["a"])
        if not reasons and process.extractOne(text, seen, scorer=fuzz.ratio, score_cutoff=90):
            reasons = ["near-duplicate"]
        if not reasons and len(kept[term["title"]]) + len(good) >= most:
            reasons = ["more than asked for"]
        if reasons:
            bad.append({**pair, "reasons": reasons})
        else:
            good.append(pair)
            seen.append(text)
    return good, bad


def file_name(title: str) -> str:
    """A safe file name for any title: no separators, no dots in front, below 255 bytes."""
    safe = "".join(c if c.isalnum() or c in " -_" else "_" for c in title).strip()
    while len(safe.encode()) > 150:
        safe = safe[:-1]
    return f"{safe or 'term'}_{row_id('title', title)[:8]}.json"


def write_term(folder: Path, term: dict, pairs: list[dict]) -> None:
    """The term's file, or none while no pair has passed."""
    if pairs:
        row = {"title": term["title"], "description": term["content"], "conversations": pairs}
        write_json(folder / file_name(term["title"]), row)


def report(args, terms: list[dict], kept: dict, rejected: list[dict], statuses: Counter) -> int:
    done = sum(len(pairs) >= args.pairs_per_term for pairs in kept.values())
    total = sum(map(len, kept.values()))
    reasons = Counter(reason for pair in rejected for reason in pair["reasons"])
    print(f"replies: {', '.join(f'{n} {status}' for status, n in sorted(statuses.items()))}")
    listed = ", ".join(f"{n} {reason}" for reason, n in reasons.most_common())
    print(f"pairs: {total} kept, {len(rejected)} rejected" + (f" ({listed})" if listed else ""))
    print(f"terms: {done}/{len(terms)} have all their {args.pairs_per_term} pairs")
    print(f"wrote {relative(args.output_dir)}")
    failed = sum(statuses[status] for status in llm.ASK_AGAIN)
    return FAILURES if failed and args.provider != "local" else COMPLETE


if __name__ == "__main__":
    run(main)
