"""Write a new understanding question for each term of the evaluation set.

    python src/eval/understanding_evaluation_augmenter.py --dry_run
    python src/eval/understanding_evaluation_augmenter.py --model gemini-2.5-flash --output new.json

Reads   meme_sample_with_questions.jsonl (title, content, question: what must not be repeated).
Writes  --output: [{title, question}]; beside it a journal, from which a killed run goes on.

A question that does not hold its term, or that repeats the example, is asked for again
and then left out and listed (exit 1).
"""

from __future__ import annotations

import json
from pathlib import Path

from malmat import llm
from malmat.cli import COMPLETE, FAILURES, parser, positive, relative, run, show_settings
from malmat.journal import Journal, journal_path
from malmat.korean import TermMatcher
from malmat.pairs import squeeze
from malmat.prompts import fill, load_prompts
from malmat.records import check_fields, read_rows, read_terms, row_id, write_json

HERE = Path(__file__).parent
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
    options.add_argument("--base_url", help="an OpenAI-compatible server")
    options.add_argument("--temperature", type=float, default=0.7)
    options.add_argument("--concurrency", type=positive, default=8)
    options.add_argument("--limit", type=positive, help="only the first N terms")
    options.add_argument("--max_cost", type=float, help="stop after this many US dollars")
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    prompts = load_prompts()
    needed = {"title": str, "content": str, "question": str}
    rows = [
        check_fields(row, needed, path=args.input, line=line) for line, row in read_rows(args.input)
    ][: args.limit]
    show_settings("write understanding questions", vars(args))
    print(f"plan: {len(rows)} calls → {relative(args.output)}")
    if args.dry_run:
        return COMPLETE
    listed = {term["title"]: term for term in read_terms(args.terms)}
    matcher = TermMatcher([listed.get(row["title"], row) for row in rows])
    by_id = {row_id("term", row["title"]): row for row in rows}

    def accept(request: llm.Request, text: str) -> str:
        return read_question(text, by_id[request.id], matcher)

    requests = [
        llm.Request(
            id=key,
            messages=[
                {
                    "role": "user",
                    "content": fill(
                        prompts["AUGMENT_QUESTION"],
                        title=row["title"],
                        content=row["content"],
                        example_q=row["question"],
                    ),
                }
            ],
            sampling={"temperature": args.temperature, "max_tokens": 512},
            schema=SCHEMA,
        )
        for key, row in by_id.items()
    ]
    with Journal(journal_path(args.output)) as journal:
        records = llm.complete(
            llm.open_model(args.model, base_url=args.base_url),
            requests,
            journal,
            accept=accept,
            concurrency=args.concurrency,
            max_cost=args.max_cost,
            label="questions",
        )
    questions, missing = [], []
    for key, row in by_id.items():
        record = records[f"{key}#0"]
        if record["status"] == "ok":
            question = read_question(record["text"], row, matcher)
            questions.append({"title": row["title"], "question": question})
        else:
            missing.append(f"{row['title']} ({record['status']}: {record['error']})")
    write_json(args.output, questions)
    for line in missing:
        print(f"  left out: {line}")
    print(f"wrote {len(questions)} questions to {relative(args.output)}")
    return FAILURES if missing else COMPLETE


def read_question(text: str, row: dict, matcher: TermMatcher) -> str:
    """The question of a reply.

    Raises:
        ValueError: unreadable, without the term, or the example again.
    """
    start = text.find("{")
    if start < 0:
        raise ValueError("no JSON object in the reply")
    question = str(json.JSONDecoder().raw_decode(text, start)[0].get("question") or "").strip()
    if not matcher.find(question, only=row["title"]):
        raise ValueError(f"the question does not hold the term: {question[:60]!r}")
    if squeeze(question) == squeeze(row["question"]):
        raise ValueError("the question repeats the example")
    return question


if __name__ == "__main__":
    run(main)
