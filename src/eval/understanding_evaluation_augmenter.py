"""Write a new understanding question for each term of the evaluation set.

    python src/eval/understanding_evaluation_augmenter.py --dry_run
    python src/eval/understanding_evaluation_augmenter.py --model gemini-2.5-flash --output new.json

Reads   meme_sample_with_questions.jsonl (title, content, question: what must not be repeated).
Writes  --output: [{title, question}]; beside it a journal, from which a killed run goes on.

A question that does not hold its term, or that repeats the example or nearly does, is asked
for again and then left out and listed (exit 1).
"""

from __future__ import annotations

from pathlib import Path

from malmat.answer.api import ApiEngine
from malmat.answer.open import open_model, room_for_thoughts, sent_budget
from malmat.answer.prices import Meter, estimate_tokens
from malmat.answer.replies import parse_object
from malmat.answer.request import NEEDED, Request
from malmat.cli import (
    COMPLETE,
    FAILURES,
    api_options,
    parser,
    positive,
    relative,
    run,
    show_settings,
)
from malmat.evaluate.run_record import keep_where_nothing_came
from malmat.files import check_fields, read_rows, row_id, write_json
from malmat.formats import read_terms
from malmat.journal import Journal, journal_path, valid_text
from malmat.prompts import fill, load_prompts
from malmat.text.pairs import copies
from malmat.text.terms import TermMatcher

HERE = Path(__file__).parent
TOKENS_A_QUESTION = 60
"""Of output, for the plan."""
SCHEMA = {
    "type": "object",
    "properties": {"question": {"type": "string"}},
    "required": ["question"],
    "additionalProperties": False,
}


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", default=str(HERE / "meme_sample_with_questions.jsonl"))
    options.add_argument("--output", default=str(HERE / "understand_questions_new.json"))
    options.add_argument(
        "--terms", default=str(HERE.parent / "data/terms.csv"), help="forms of the terms, if listed"
    )
    options.add_argument("--model", default="gemini-2.5-flash")
    options.add_argument("--limit", type=positive, help="only the first N terms")
    api_options(
        options,
        *("provider", "sdk", "base_url", "extra_body", "thinking_budget", "ask_blocked"),
        *("temperature", "concurrency"),
        *("max_cost", "prices", "dry_run"),
        base_url={"help": "another server (OpenAI-compatible, unless --provider)"},
        temperature={"default": 0.7},
    )
    return options.parse_args()


def main() -> int:
    args = arguments()
    prompts = load_prompts(needed={"AUGMENT_QUESTION": {"title", "content", "example_q"}})
    needed = {"title": str, "content": str, "question": str}
    rows = [
        check_fields(row, needed, path=args.input, line=line) for line, row in read_rows(args.input)
    ][: args.limit]
    show_settings("write understanding questions", vars(args))
    meter = Meter(args.model, max_cost=args.max_cost, prices=args.prices)
    requests = [request_for(prompts, row, args) for row in rows]
    tokens = {
        "input": sum(estimate_tokens(request.messages[0]["content"]) for request in requests),
        "output": len(requests) * TOKENS_A_QUESTION,
    }
    print(f"plan: {len(rows)} calls, about {meter.show(tokens)} → {relative(args.output)}")
    if args.dry_run:
        return COMPLETE
    names = ("base_url", "provider", "sdk", "extra_body")
    model = open_model(args.model, **{name: getattr(args, name) for name in names})
    engine = ApiEngine(model, args.concurrency)
    listed = {term["title"]: term for term in read_terms(args.terms)}
    matcher = TermMatcher([listed.get(row["title"], row) for row in rows])
    by_id = dict(zip((request.id for request in requests), rows, strict=True))

    def accept(request: Request, text: str) -> str:
        return read_question(text, by_id[request.id], matcher)

    questions, missing, came = [], [], []
    with Journal(journal_path(args.output)) as journal, meter.shown_at_the_end():
        if journal.notice:
            print(f"  {journal.notice}")
        with engine.answers(
            requests, journal, accept=accept, meter=meter, label="questions", total=len(requests)
        ) as records:
            for request, row, record in zip(requests, rows, records, strict=True):
                came.append(record | {"answer": record["text"]})
                if record["status"] == "ok":
                    question = accept(request, record["text"])
                    questions.append({"title": row["title"], "question": question})
                else:
                    missing.append(f"{row['title']} ({record['status']}: {record['error']})")
    keep_where_nothing_came(Path(args.output), came)
    write_json(args.output, questions)
    for line in missing:
        print(f"  left out: {line}")
    print(f"wrote {len(questions)} questions to {relative(args.output)}")
    return FAILURES if missing else COMPLETE


def request_for(prompts: dict, row: dict, args) -> Request:
    """The request for a new question about a row's term."""
    where = {"base_url": args.base_url, "provider": args.provider, "sdk": args.sdk}
    budget = sent_budget(args.thinking_budget, args.model, **where)
    text = fill(
        prompts["AUGMENT_QUESTION"],
        title=row["title"],
        content=row["content"],
        example_q=row["question"],
    )
    return Request(
        id=row_id("term", row["title"], row["question"]),
        messages=[{"role": "user", "content": text}],
        sampling={"temperature": args.temperature, "max_tokens": 512} | budget,
        schema=SCHEMA,
        again=NEEDED,
        ask_blocked=args.ask_blocked,
        room=room_for_thoughts(args.model, args.thinking_budget),
    )


def read_question(text: str, row: dict, matcher: TermMatcher) -> str:
    """The question of a reply.

    Raises:
        ValueError: unreadable, without the term, or the example again, or nearly.
    """
    question = parse_object(text, "question")["question"]
    if not isinstance(question, str):
        raise ValueError("no question in the reply")
    question = valid_text(question).strip()
    if not matcher.find(question, only=row["title"]):
        raise ValueError(f"the question does not hold the term: {question[:60]!r}")
    if copies(question, row["question"]):
        raise ValueError("the question repeats the example")
    return question


if __name__ == "__main__":
    run(main)
