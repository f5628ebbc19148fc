"""Make rows that teach a model to write three search queries for a question.

    python src/culture_qa/make_queries.py --input rows.jsonl --output queries.jsonl --dry_run
    python src/culture_qa/make_queries.py --input rows.jsonl --output queries.jsonl \\
        --model gpt-4.1 --index data/index --qrels qrels.json

Reads   --input: training questions (the contest's layout, or rows of prepare.py), and the wording
        of query_prompt.py, which retrieve.py asks the trained writer with. With --index and
        --qrels, what the queries find.
Writes  --output: chat rows ({id, cluster, messages}), three queries a line each for an answer;
        beside it .rejected.jsonl, and a journal, from which a killed run goes on.

A row is kept that has three different queries, none of them the question again and none with the
answer in it, which only who knows it could search for; with --index, one of whose queries finds a
right passage among the first --k. Leaves with 1 where replies are missing.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from maker_options import add_model, asking, check_model, open_engine, show_plan
from malmat.answer.request import Request
from malmat.cli import COMPLETE, FAILURES, parser, positive, relative, run, show_settings
from malmat.contests.typed_questions import SHORT, Question, read_typed
from malmat.errors import InputError
from malmat.files import write_jsonl
from malmat.prompts import inert, load_prompts, user_message
from malmat.retrieval.qrels import read_qrels
from malmat.retrieval.queries import MOST, ask_for_queries
from malmat.sources.licences import licence_gate
from malmat.text.alternatives import HOLDS, IS, Alternatives
from malmat.text.duplicates import squeeze

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", required=True)
    options.add_argument("--output", required=True)
    options.add_argument("--index", help="keep rows whose queries find a right passage in it")
    options.add_argument("--qrels", help="{question id: [right passage]}, with --index")
    options.add_argument("--k", type=positive, default=10, help="passages that a query finds")
    add_model(options, tokens=256)
    args = options.parse_args()
    check_model(args)
    if bool(args.index) != bool(args.qrels):
        raise InputError("goes with --index", field="qrels", fix="Give both, or none.")
    return args


def main() -> int:
    args = arguments()
    show_settings("make_queries", vars(args))
    prompt = load_prompts(HERE / "query_prompt.py", {"QUERIES": {"question"}})["QUERIES"]
    questions = read_typed(args.input)[0]
    licence_gate((one.more for one in questions), args.input)
    questions = questions[: args.limit]
    asked = {one.id: one.text for one in questions}
    finds = searching(args)
    requests = [Request(name, user_message(prompt, question=text)) for name, text in asked.items()]
    show_plan(args, requests, 60)
    if args.dry_run:
        return COMPLETE
    sampling = {"temperature": args.temperature, "max_tokens": args.max_tokens}
    with asking(args) as made:
        engine = open_engine(args, args.model, args.temperature)
        found = ask_for_queries(
            engine, asked, prompt, made.journal, sampling=sampling, meter=made.meter
        )
    rows, rejected, missing = [], [], 0
    for one in questions:
        status, queries = found[one.id]
        own = queries[:-1]  # the last is the question itself
        reason = problem(one, own)
        if status != "ok":
            reason, missing = f"no queries ({status})", missing + 1
        if reason is None and not finds(one.id, own):
            reason = "finds no right passage"
        if reason:
            rejected.append({"id": one.id, "reason": reason, "queries": own})
            continue
        messages = user_message(prompt, question=inert(one.text))
        answer = {"role": "assistant", "content": "\n".join(own)}
        rows.append({"id": one.id, "cluster": one.cluster, "messages": [*messages, answer]})
    output = Path(args.output)
    write_jsonl(output, rows)
    write_jsonl(output.with_name(f"{output.name}.rejected.jsonl"), rejected)
    for reason, count in Counter(row["reason"] for row in rejected).items():
        print(f"  rejected: {count} {reason}")
    print(f"wrote {len(rows)} rows to {relative(output)}")
    return FAILURES if missing and args.provider != "local" else COMPLETE


def problem(one: Question, queries: list[str]) -> str | None:
    """Why queries are not trained on, or None."""
    if len({squeeze(query) for query in queries} - {squeeze(one.text), ""}) < MOST:
        return f"fewer than {MOST} queries beside the question"
    known = Alternatives(one.answers if one.type == SHORT else [])
    if any(known.reason(query) in (IS, HOLDS) for query in queries):
        return "holds the answer"
    return None


def searching(args):
    """Whether one of a question's queries finds a right passage, as a function of both."""
    if not args.index:
        return lambda name, queries: True
    from malmat.retrieval.index import Index
    from malmat.retrieval.search import Choosing, Searcher

    right = read_qrels(args.qrels)
    index = Index(Path(args.index), None)
    searcher = Searcher(index, index.legs)

    def finds(name: str, queries: list[str]) -> bool:
        known = set(right.get(name, ()))
        found = (searcher.chunks([query], Choosing(args.k)) for query in queries)
        return any({chunk.id, chunk.document} & known for some in found for chunk, _ in some)

    return finds


if __name__ == "__main__":
    run(main)
