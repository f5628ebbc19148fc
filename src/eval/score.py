"""Score answers: understanding of slang (1–5) or its use (true/false).

    python src/eval/score.py --model_name embedded --score_mode usage --scorer_name lexicon
    python src/eval/score.py --model_name embedded --score_mode understand \\
        --scorer_name local:embedded
    python src/eval/score.py --model_name kanana --score_mode understand --scorer_name gpt-4.1

Reads   results/<mode>/infer_results/<model>_<mode>_inference_results.json (or --infer_results;
        the older two-key rows are read too), the term list (--terms), prompt.py.
Writes  results/<mode>/score_results/<model>_<mode>_<judge>_score_results.json (or --output):
        the average with n_scored/n_total, interval and bounds, and a row an answer.

Judges: ``auto`` (gpt-4.1 or gemini-2.5-flash where their key is set, else the offline ones),
an API model (gpt-*, gemini-*, or any name with --base_url), ``local:MODEL``
(understanding: probability-weighted 1–5 over the score tokens), ``lexicon`` (usage: the
term, an inflection or a variant stands in the answer, by Korean morphology; it cannot
see whether the meaning fits). Only answers whose status is ok are judged; a failed
judgement is a status, never a score.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from malmat import llm, stats
from malmat.cli import (
    COMPLETE,
    FAILURES,
    parser,
    positive,
    provenance,
    relative,
    run,
    show_settings,
)
from malmat.journal import Journal, journal_path, key_of
from malmat.korean import TermMatcher
from malmat.models import fingerprint, short_name
from malmat.pairs import parse_object
from malmat.prompts import fill, load_prompts
from malmat.records import (
    InputError,
    digest,
    read_answers,
    read_questions,
    read_rows,
    read_terms,
    write_json,
)

HERE = Path(__file__).parent
UNDERSTAND_SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "score": {"type": "integer"}},
    "required": ["reason", "score"],
    "additionalProperties": False,
}
USAGE_SCHEMA = {
    "type": "object",
    "properties": {"used": {"type": "boolean"}, "term": {"type": "string"}},
    "required": ["used", "term"],
    "additionalProperties": False,
}


def arguments():
    options = parser(__doc__)
    options.add_argument("--model_name", required=True, help="whose answers (a name in results)")
    options.add_argument("--score_mode", choices=("understand", "usage"), required=True)
    options.add_argument("--scorer_name", default="auto", help="the judge, as above")
    options.add_argument("--infer_results", help="another file of answers")
    options.add_argument("--output", help="another file for the scores")
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument(
        "--terms",
        default=str(HERE.parent / "data/terms.csv"),
        help="terms.csv or a merged_final.json: the meanings, and the terms of usage",
    )
    options.add_argument(
        "--questions",
        default=str(HERE / "understand_questions.json"),
        help="the terms of answers that do not name theirs (the older rows)",
    )
    options.add_argument(
        "--sample",
        default=str(HERE / "meme_sample_with_questions.jsonl"),
        help="which terms are unseen in training (split)",
    )
    options.add_argument("--n", type=positive, default=1, help="judgements an answer (API judges)")
    options.add_argument("--base_url", help="an OpenAI-compatible server")
    options.add_argument("--concurrency", type=positive, default=8)
    options.add_argument("--batch_size", type=positive, default=8, help="local judge")
    options.add_argument("--max_cost", type=float, help="stop after this many US dollars")
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    if args.scorer_name == "auto":
        args.scorer_name = best_judge(args.score_mode)
    check_judge(args)
    mode = args.score_mode
    prompts = load_prompts()
    terms = read_terms(args.terms)
    answers_file = args.infer_results or (
        f"{args.results_dir}/{mode}/infer_results/{args.model_name}_{mode}_inference_results.json"
    )
    answers = read_answers(answers_file)
    if mode == "understand":
        answers = with_terms(answers, terms, answers_file, args)
    judge = re.sub(r"[^\w.-]+", "-", short_name(args.scorer_name.replace("local:", "local-")))
    output = Path(
        args.output
        or f"{args.results_dir}/{mode}/score_results/"
        f"{args.model_name}_{mode}_{judge}_score_results.json"
    )
    show_settings("score", {**vars(args), "infer_results": answers_file, "output": str(output)})
    good = [row for row in answers if row["status"] == "ok"]
    print(f"plan: {len(good)} of {len(answers)} answers can be judged → {relative(output)}")
    requests = build_requests(args, prompts, terms, good)
    show_cost(args, requests)
    if args.dry_run:
        return COMPLETE
    if args.scorer_name == "lexicon":
        verdicts = judge_by_lexicon(good, terms)
    else:
        with Journal(journal_path(output)) as journal:
            if args.scorer_name.startswith("local:"):
                verdicts = judge_locally(args, prompts, good, journal)
            else:
                verdicts = judge_by_api(args, requests, journal)
    rows = [{**row, **verdict_of(row, verdicts, mode)} for row in answers]
    result = summarize(args, rows)
    write_json(output, result)
    counts = Counter(row["status"] for row in rows)
    print(f"rows: {', '.join(f'{n} {status}' for status, n in counts.most_common())}")
    print(f"{args.model_name}, {mode}, by {args.scorer_name}: {headline(result)}")
    print(f"wrote {relative(output)}")
    failed = any(r["status"] in llm.ASK_AGAIN and r["stage"] == "judge" for r in rows)
    return FAILURES if failed else COMPLETE


def best_judge(mode: str) -> str:
    """The judge that the keys at hand allow."""
    for provider, judge in (("openai", "gpt-4.1"), ("gemini", "gemini-2.5-flash")):
        try:
            llm.api_key(provider)
            return judge
        except InputError:
            continue
    return "lexicon" if mode == "usage" else "local:embedded"


def check_judge(args) -> None:
    name = args.scorer_name
    if name == "lexicon" and args.score_mode != "usage":
        raise InputError(
            "the lexicon judges usage only", field="scorer_name", fix="Use local:MODEL or an API."
        )
    if name.startswith("local:"):
        if args.score_mode != "understand":
            raise InputError(
                "local models judge understanding only", field="scorer_name", fix="Use lexicon."
            )
        if name != "local:embedded":
            from malmat.models import resolve

            resolve(name.removeprefix("local:"))


def with_terms(answers: list[dict], terms: list[dict], path: str, args) -> list[dict]:
    """Each answer with its term's title and meaning, joined by id, never by position."""
    meanings = {term["title"]: term["content"] for term in terms}
    asked = read_questions(args.questions)
    titles = {row["id"]: row["title"] for row in asked if row.get("title")}
    joined = []
    for row in answers:
        title = row.get("title") or titles.get(row["id"])
        if not title:
            raise InputError(
                f"no term is known for the question {row['question'][:30]!r}",
                path=path,
                field="title",
                fix="Give the questions that were answered with --questions.",
            )
        if title not in meanings:
            raise InputError(
                f"the term '{title}' is not in the term list",
                path=args.terms,
                field="title",
                fix="Give the right list with --terms.",
            )
        joined.append({**row, "title": title, "content": meanings[title]})
    return joined


def build_requests(args, prompts: dict, terms: list[dict], good: list[dict]) -> list[llm.Request]:
    """An API judge's requests (none for the offline judges)."""
    if args.scorer_name == "lexicon" or args.scorer_name.startswith("local:"):
        return []
    understand = args.score_mode == "understand"
    listing = "\n".join(f"- {term['title']}: {first_sentences(term['content'])}" for term in terms)
    requests = []
    for row in good:
        values = {"question": row["question"], "answer": row["answer"]}
        if understand:
            text = fill(
                prompts["JUDGE_UNDERSTAND"], title=row["title"], content=row["content"], **values
            )
        else:
            text = fill(prompts["JUDGE_USAGE"], terms=listing, **values)
        requests += [
            llm.Request(
                id=row["id"],
                messages=[{"role": "user", "content": text}],
                sampling={"temperature": 0.0 if args.n == 1 else 1.0},
                schema=UNDERSTAND_SCHEMA if understand else USAGE_SCHEMA,
                sample=sample,
            )
            for sample in range(args.n)
        ]
    return requests


def first_sentences(text: str, count: int = 2) -> str:
    return " ".join(re.split(r"(?<=[.!?다])\s+", text.replace("\n", " "))[:count])


def show_cost(args, requests: list[llm.Request]) -> None:
    if requests:
        tokens = {
            "input": sum(llm.estimate_tokens(r.messages[0]["content"]) for r in requests),
            "output": 60 * len(requests),
        }
        cost = llm.price(args.scorer_name, tokens)
        print(
            f"  {len(requests)} calls, about {tokens['input']:,} input tokens"
            + (f", about ${cost:.2f}" if cost is not None else "")
        )


# --------------------------------------------------------------------------- judges


def judge_by_lexicon(good: list[dict], terms: list[dict]) -> dict[str, dict]:
    """Usage by morphology: id → verdict."""
    matcher = TermMatcher(terms)
    verdicts = {}
    for row in good:
        found = matcher.find(row["answer"])
        verdicts[row["id"]] = {"status": "ok", "used": bool(found), "terms": found}
    return verdicts


def judge_locally(args, prompts: dict, good: list[dict], journal: Journal) -> dict[str, dict]:
    """Understanding by a local model: the expected score under its digits' probabilities."""
    name = args.scorer_name.removeprefix("local:")
    model_id = fingerprint(name)
    messages, keys = {}, {}
    for row in good:
        text = fill(
            prompts["JUDGE_UNDERSTAND_LOCAL"],
            **{field: row[field] for field in ("title", "content", "question", "answer")},
        )
        messages[row["id"]] = [{"role": "user", "content": text}]
        keys[row["id"]] = key_of(judge=model_id, messages=messages[row["id"]], kind="digits")
    missing = [row["id"] for row in good if journal.get(keys[row["id"]]) is None]
    if missing:
        from tqdm import tqdm

        from malmat.choice import choice_probabilities
        from malmat.models import load_model, load_tokenizer

        tokenizer, model = load_tokenizer(name), load_model(name)
        bar = tqdm(total=len(good), initial=len(good) - len(missing), desc="judge", unit="item")
        # Batches are cut from all answers, done or not, so that a resumed run pads alike.
        for start in range(0, len(good), args.batch_size):
            batch = [row["id"] for row in good[start : start + args.batch_size]]
            if not set(batch) & set(missing):
                continue
            table = choice_probabilities(
                model,
                tokenizer,
                [messages[i] for i in batch],
                list("12345"),
                batch_size=len(batch),
            )
            journal.extend(
                {"key": keys[i], "id": i, "probabilities": [round(p, 6) for p in row]}
                for i, row in zip(batch, table, strict=True)
                if i in missing
            )
            bar.update(len(batch))
        bar.close()
    verdicts = {}
    for row in good:
        probabilities = journal.get(keys[row["id"]])["probabilities"]
        score = sum(p * s for p, s in zip(probabilities, range(1, 6), strict=True))
        score = min(5.0, max(1.0, score / sum(probabilities)))
        verdicts[row["id"]] = {
            "status": "ok",
            "score": round(score, 4),
            "probabilities": probabilities,
        }
    return verdicts


def judge_by_api(args, requests: list[llm.Request], journal: Journal) -> dict[str, dict]:
    """Verdicts of an LLM, the mean of ``--n`` judgements; replies are kept."""
    read = read_score if args.score_mode == "understand" else read_used
    model = llm.open_model(args.scorer_name, base_url=args.base_url)
    records = llm.complete(
        model,
        requests,
        journal,
        accept=lambda _, text: read(text),
        concurrency=args.concurrency,
        max_cost=args.max_cost,
        label="judge",
    )
    grouped: dict[str, list[dict]] = {}
    for request in requests:
        record = dict(records[f"{request.id}#{request.sample}"])
        if record["status"] == "ok":
            try:
                record["value"] = read(record["text"])
            except OutOfRange:
                record["status"] = "out_of_range"
        grouped.setdefault(request.id, []).append(record)
    verdicts = {}
    for row_id, samples in grouped.items():
        values = [record["value"] for record in samples if record["status"] == "ok"]
        verdict = {
            "status": "ok" if values else samples[0]["status"],
            "judge_replies": [record["text"] for record in samples],
            "judge_version": samples[0]["model_version"],
            "n_judgements": len(values),
        }
        if errors := [record["error"] for record in samples if record["error"]]:
            verdict["judge_error"] = errors[0]
        if values and args.score_mode == "understand":
            verdict["score"] = sum(values) / len(values)
        elif values:
            verdict["used"] = sum(values) * 2 > len(values)
        verdicts[row_id] = verdict
    return verdicts


class OutOfRange(Exception):
    """A score that is not on the scale: the judge's, not a parse failure."""


def read_score(text: str) -> int:
    """The 1–5 score of a judge's reply.

    Raises:
        ValueError: unreadable. OutOfRange: a number that is not on the scale.
    """
    score = parse_object(text).get("score")
    if isinstance(score, bool) or not isinstance(score, (int, float)) or score != int(score):
        raise ValueError("no whole number in the judge's 'score'")
    if not 1 <= score <= 5:
        raise OutOfRange(str(score))
    return int(score)


def read_used(text: str) -> bool:
    """The true/false of a judge's reply.

    Raises:
        ValueError: unreadable.
    """
    used = parse_object(text).get("used")
    if not isinstance(used, bool):
        raise ValueError("no true or false in the judge's 'used'")
    return used


# -------------------------------------------------------------------------- results


def verdict_of(row: dict, verdicts: dict[str, dict], mode: str) -> dict:
    """What is added to an answer's row; ``stage`` says where a status other than ok arose."""
    field = "score" if mode == "understand" else "used"
    if row["status"] != "ok":
        return {field: None, "stage": "answer"}
    return {field: None, **verdicts[row["id"]], "stage": "judge"}


def summarize(args, rows: list[dict]) -> dict:
    understand = args.score_mode == "understand"
    unseen = {r.get("title") for _, r in read_rows(args.sample) if r.get("split") == "unseen"}

    def figures(part: list[dict]) -> dict:
        if understand:
            values = [row["score"] for row in part]
            clusters = [row["title"] for row in part]
            return stats.summarize(values, worst=1, best=5, clusters=clusters)
        values = [None if row["used"] is None else float(row["used"]) for row in part]
        return stats.summarize(values, worst=0, best=1, rate=True)

    total = figures(rows)
    result = {
        "model_name": args.model_name,
        "score_mode": args.score_mode,
        "scorer_name": args.scorer_name,
        "average_score" if understand else "total_usage_rate": total["mean"],
        **{name: total[name] for name in ("n_scored", "n_total", "interval", "bounds")},
    }
    if understand:
        result["seen"] = figures([row for row in rows if row["title"] not in unseen])
        result["unseen"] = figures([row for row in rows if row["title"] in unseen])
    result["statuses"] = dict(Counter(row["status"] for row in rows))
    names = ("scorer_name", "n", "terms", "base_url")
    result["settings"] = {name: getattr(args, name) for name in names} | {
        "prompts": digest(load_prompts())[:16]
    }
    result["provenance"] = provenance()
    result["results"] = [{k: v for k, v in row.items() if k != "content"} for row in rows]
    return result


def headline(result: dict) -> str:
    """``3.42 [3.20, 3.61] (98/100 scored; bounds 3.37–3.45)``."""
    mean = result.get("average_score", result.get("total_usage_rate"))
    text = "no row could be scored" if mean is None else f"{mean:.3f}"
    if result["interval"]:
        text += f" [{result['interval'][0]:.3f}, {result['interval'][1]:.3f}]"
    text += f" ({result['n_scored']}/{result['n_total']} scored"
    if result["n_scored"] < result["n_total"]:
        text += f"; bounds {result['bounds'][0]:.3f}–{result['bounds'][1]:.3f}"
    return text + ")"


if __name__ == "__main__":
    run(main)
