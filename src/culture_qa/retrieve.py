"""Find contexts for questions, and say how well each way of searching finds them.

    python src/culture_qa/retrieve.py --index data/index --questions test.json --output ctx.jsonl
    python src/culture_qa/retrieve.py --index data/index --questions dev.json test.json \\
        --qrels qrels.json --evaluate
    python src/culture_qa/retrieve.py --index data/index --questions dev.json --qrels qrels.json \\
        --fit_gate gate.json
    python src/culture_qa/retrieve.py --index data/index --questions test.json --output ctx.jsonl \\
        --gate gate.json --queries model --model embedded --adapter checkpoints/queries

Reads   --index (build_index.py), --questions (the contest's layout, or rows of prepare.py), with
        --queries model the wording of query_prompt.py, and --qrels: {question id: [passage ids]}.
Writes  --output: ``{id, contexts: [{id, title, text, score}]}`` a line, for infer.py. Of --queries
        model also the queries, and beside it the journal, from which a killed run goes on.
        --report: the figures of --evaluate. --fit_gate: the threshold and what it was fitted on.

Several legs (--legs) are fused by reciprocal ranks (1 / (60 + rank)) or by points for ranks, which
with two legs and --alpha 0.5 is the published hybrid. With --queries model the model writes three
queries, the question is the fourth, and their rankings are fused. A question of stop words alone
has no contexts. With --gate, a question has none that the first leg is not confident of: the best
chunk's share of what the question's terms could score (BM25), or its cosine. --by gold gives the
right passages and --by random any: what retrieval could give, and what mere length costs.
"""

from __future__ import annotations

import random
from pathlib import Path

from malmat.cli import COMPLETE, FAILURES, relative, run, show_settings
from malmat.contests.typed_questions import CHOICE, SHORT, Question, read_typed
from malmat.errors import InputError
from malmat.files import digest, read_json, write_json, write_jsonl
from malmat.journal import Journal, journal_path
from malmat.prompts import load_prompts
from malmat.retrieval.qrels import check_passages, read_qrels
from retrieve_options import HERE, arguments, open_writer


def main() -> int:
    args = arguments(__doc__)
    from malmat.retrieval.fuse import Fusion
    from malmat.retrieval.index import Index
    from malmat.retrieval.search import Searcher

    show_settings("retrieve", vars(args))
    read = [read_typed(path, skip_bad=args.skip_bad)[0] for path in args.questions]
    questions = {one.id: one for some in read for one in some}
    if len(questions) < sum(map(len, read)):
        raise InputError("an id stands in two of the files", field="questions")
    index = Index(Path(args.index), args.legs)
    right = read_qrels(args.qrels, questions) if args.qrels else {}
    if args.qrels:
        check_passages(args.qrels, index, right)
    fusion = Fusion(args.fuse, args.rrf_k, args.alpha)
    searcher = Searcher(index, index.legs, fusion, gate_of(args, index))
    if args.evaluate:
        show_evaluation(args, index, questions, right)
    if args.fit_gate:
        fit(args, searcher, questions, right)
    return write_contexts(args, searcher, questions, right) if args.output else COMPLETE


def query_of(one: Question, added: list[str]) -> str:
    parts = {"keyword": [one.keyword], "choices": one.choices}
    return " ".join([one.text, *(text for name in added for text in parts[name] if text)])


def answers_of(one: Question) -> list[str]:
    """Texts that a context can hold; none for a long answer."""
    if one.type == CHOICE and one.choices and one.answer:
        return [one.choices[one.labels.index(one.answer)]]
    return one.answers if one.type == SHORT else []


def show_evaluation(args, index, questions: dict[str, Question], right: dict) -> None:
    """Print every leg and fusion over the groups of questions, and keep the report."""
    from malmat.retrieval.evaluate import Judged, evaluate, show_systems

    asked = [
        Judged(
            name,
            query_of(one, args.add),
            right[name] if args.qrels else None,
            answers_of(one),
            str(one.more.get(args.group, "")),
        )
        for name, one in questions.items()
    ]
    report = evaluate(index, asked, args.k, args.alpha)
    show_systems(report)
    if args.report:
        write_json(args.report, {"index": index.stamp(), **report})
        print(f"wrote {relative(args.report)}")


def gate_of(args, index) -> float:
    """The least confidence of --gate, 0 without one.

    Raises:
        InputError: no number from 0 to 1 and no file of a gate, or one of another index or leg.
    """
    if not args.gate:
        return 0.0
    try:
        threshold = float(args.gate)
    except ValueError:
        gate = read_json(args.gate)
        now = {"index": index.stamp(), "leg": index.legs[0].name, "add": args.add}
        for name, value in now.items():
            if not isinstance(gate, dict) or gate.get(name) != value:
                problem = f"was not fitted on this index with the {name} of now"
                raise InputError(problem, path=args.gate, fix="Fit it again.") from None
        threshold = gate["threshold"]
    if not 0 <= threshold <= 1:
        raise InputError("not from 0 to 1", field="gate")
    return threshold


def fit(args, searcher, questions: dict[str, Question], right: dict) -> None:
    """Fit a gate on questions of which some have their passage among their contexts."""
    from malmat.retrieval.search import fit_gate

    confidences, answerable = [], []
    for name, one in questions.items():
        query, known = query_of(one, args.add), right[name]
        found = searcher.chunks([query], choosing(args))
        confidences.append(searcher.legs[0].confidence(query))
        answerable.append(any({chunk.id, chunk.document} & {*known} for chunk, _ in found))
    gate = fit_gate(confidences, answerable)
    known = {"index": searcher.index.stamp(), "leg": searcher.legs[0].name, "add": args.add}
    write_json(args.fit_gate, {**known, "questions": digest(sorted(questions)), **gate})
    print(
        f"gate: {gate['threshold']:.4f} of {known['leg']}; {gate['passing']:.0%} of "
        f"{gate['n_answerable']} questions with their passage pass, {gate['stopped']:.0%} of "
        f"{gate['n_others']} others are stopped; wrote {relative(args.fit_gate)}"
    )


def choosing(args):
    from malmat.retrieval.search import Choosing

    return Choosing(args.k, args.diversity, args.relevance)


def write_contexts(args, searcher, questions: dict[str, Question], right: dict) -> int:
    from malmat.retrieval import search

    asked = {name: query_of(one, args.add) for name, one in questions.items()}
    rows, failed = [], 0
    if args.by == "search":
        written = written_queries(args, asked) if args.queries == "model" else {}
        for name, query in asked.items():
            status, queries = written.get(name, ("ok", [query]))
            found = search.contexts(searcher.chunks(queries, choosing(args)))
            more = {"status": status, "queries": queries} if written else {}
            rows.append({"id": name, **more, "contexts": found})
            failed += status != "ok"
    else:
        for name in asked:
            draw = random.Random(f"{args.seed} {name}")
            known = (searcher.index, right.get(name, []), args.k)
            gold = args.by == "gold"
            found = search.right_chunks(*known) if gold else search.random_chunks(*known, draw)
            rows.append({"id": name, "contexts": search.contexts(found)})
    write_jsonl(args.output, rows)
    empty = sum(not row["contexts"] for row in rows)
    print(f"contexts: {len(rows)} questions, {empty} without any; wrote {relative(args.output)}")
    if failed:
        print(f"  {failed} without queries of the model: searched by the question alone")
    return FAILURES if failed and args.type == "api" else COMPLETE


def written_queries(args, asked: dict[str, str]) -> dict[str, tuple[str, list[str]]]:
    """Question id → (status, queries), by the model."""
    from malmat.retrieval.queries import ask_for_queries

    prompt = load_prompts(HERE / "query_prompt.py", {"QUERIES": {"question"}})["QUERIES"]
    engine, sampling, meter = open_writer(args)
    with Journal(journal_path(args.output)) as journal:
        if journal.notice:
            print(f"  {journal.notice}")
        return ask_for_queries(engine, asked, prompt, journal, sampling=sampling, meter=meter)


if __name__ == "__main__":
    run(main)
