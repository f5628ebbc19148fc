"""Score answers: understanding of slang (1–5) or its use (true/false).

    python src/eval/score.py --model_name embedded --score_mode usage --scorer_name lexicon
    python src/eval/score.py --model_name embedded --score_mode understand \\
        --scorer_name local:embedded
    python src/eval/score.py --model_name kanana --score_mode understand --scorer_name gpt-4.1

Reads   results/<mode>/infer_results/<model>_<mode>_inference_results.json (or --infer_results;
        the older two-key rows are read too), the term list (--terms), prompt.py.
Writes  results/<mode>/score_results/<model>_<mode>_<judge>_score_results.json (or --output):
        the average with n_scored/n_total, interval and bounds, what says how far to trust it
        (``trust``), tokens, cost and seconds, and a row an answer.

Judges: ``auto`` (gpt-4.1 or gemini-2.5-flash where their key is set, else the offline ones),
an API model (gpt-*, gemini-*, or any name with --base_url), ``local:MODEL``
(understanding: probability-weighted 1–5 over the score tokens), ``lexicon`` (usage: the
term, an inflection or a variant stands in the answer, by Korean morphology; an everyday
word counts with evidence only). Only answers whose status is ok are judged; a failed
judgement is a status, never a score.

An API judge of usage sees the terms that may be in the answer, not the whole list, and
may name other slang: that counts where it is a listed term after all.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from malmat.answer.prices import estimate_tokens, price
from malmat.answer.provider import NO_KEY, api_key
from malmat.answer.request import ASK_AGAIN, Request
from malmat.cli import (
    COMPLETE,
    FAILURES,
    ROOT,
    number,
    parser,
    positive,
    provenance,
    relative,
    run,
    show_settings,
)
from malmat.errors import InputError
from malmat.evaluate import stats
from malmat.evaluate.judges import (
    build_requests,
    is_offline,
    judge_by_api,
    judge_by_lexicon,
    judge_locally,
    judge_settings,
    open_judge,
    read_score,
    read_used,
)
from malmat.evaluate.results import read_answers
from malmat.evaluate.trust import trust_figures, trust_lines
from malmat.files import digest, read_json, read_rows, write_json
from malmat.formats import read_questions, read_terms
from malmat.journal import Journal, journal_path
from malmat.lm.load import short_name
from malmat.prompts import load_prompts
from malmat.text.korean import normalize

__all__ = [
    "build_requests",
    "judge_by_api",
    "judge_by_lexicon",
    "judge_locally",
    "read_score",
    "read_used",
]

HERE = Path(__file__).parent


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
    options.add_argument(
        "--pairs",
        default=str(ROOT / "merged_final.json"),
        help="the training pairs: who wrote them (their 'model')",
    )
    options.add_argument(
        "--full_list", action="store_true", help="send a usage judge all terms with each answer"
    )
    options.add_argument("--n", type=positive, default=1, help="judgements an answer (API judges)")
    options.add_argument("--base_url", help="an OpenAI-compatible server")
    options.add_argument("--concurrency", type=positive, default=8)
    options.add_argument("--batch_size", type=positive, default=8, help="local judge")
    options.add_argument("--max_cost", type=number, help="stop after this many US dollars")
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    if args.scorer_name == "auto":
        args.scorer_name = best_judge(args.score_mode)
    check_judge(args)
    mode, unseen = args.score_mode, set()
    prompts = load_prompts()
    terms = read_terms(args.terms)
    answers_file = args.infer_results or (
        f"{args.results_dir}/{mode}/infer_results/{args.model_name}_{mode}_inference_results.json"
    )
    answers = [
        {**row, "answer": normalize(row.get("answer") or "")} for row in read_answers(answers_file)
    ]
    if len({row["id"] for row in answers}) < len(answers):
        raise InputError(
            "an id (or, in older files, a question) stands in it twice",
            path=answers_file,
            field="id",
            fix="Verdicts are joined by id: keep one row of each.",
        )
    if mode == "understand":
        answers = with_terms(answers, terms, answers_file, args)
        unseen = {r.get("title") for _, r in read_rows(args.sample) if r.get("split") == "unseen"}
    writers = pair_writers(args.pairs)
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
        start = time.monotonic()
        verdicts = judge_by_lexicon(good, terms)
        seconds = round(time.monotonic() - start, 1)
    else:
        with Journal(journal_path(output)) as journal:
            with measured(journal):
                if args.scorer_name.startswith("local:"):
                    verdicts = judge_locally(args, prompts, good, journal)
                else:
                    verdicts = judge_by_api(args, requests, journal, terms)
            seconds = seconds_of(journal)
    rows = [{**row, **verdict_of(row, verdicts, mode)} for row in answers]
    result = summarize(args, rows, unseen, writers)
    result["seconds"] = seconds
    result["settings"] |= judge_settings(args, prompts, terms) | {"answers": digest(good)[:16]}
    keep_time(output, result)
    write_json(output, result)
    counts = Counter(row["status"] for row in rows)
    print(f"rows: {', '.join(f'{n} {status}' for status, n in counts.most_common())}")
    show_judgements(rows)
    print(f"{args.model_name}, {mode}, by {args.scorer_name}: {headline(result)}")
    for line in trust_lines(result["trust"]):
        print(f"  {line}")
    print(f"wrote {relative(output)}")
    return FAILURES if asked_again(rows) else COMPLETE


def best_judge(mode: str) -> str:
    """The judge that the keys at hand allow."""
    for provider, judge in (("openai", "gpt-4.1"), ("gemini", "gemini-2.5-flash")):
        if api_key(provider, needed=False)[0] != NO_KEY:  # a damaged one is refused
            return judge
    return "lexicon" if mode == "usage" else "local:embedded"


def check_judge(args) -> None:
    """Refuse now, before anything is asked or paid for, what this judge cannot do."""
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
            from malmat.lm.load import resolve

            resolve(name.removeprefix("local:"))
    if not is_offline(name):
        if args.score_mode == "usage" and args.n % 2 == 0:
            raise InputError(
                "an even number of true/false judgements can tie",
                field="n",
                fix=f"Take {args.n + 1}.",
            )
        open_judge(args)


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


def show_cost(args, requests: list[Request]) -> None:
    if requests:
        tokens = {
            "input": sum(estimate_tokens(r.messages[0]["content"]) for r in requests),
            "output": 60 * len(requests),
        }
        cost = price(args.scorer_name, tokens)
        print(
            f"  {len(requests)} calls, about {tokens['input']:,} input tokens"
            + (f", about ${cost:.2f}" if cost is not None else "")
        )


def verdict_of(row: dict, verdicts: dict[str, dict], mode: str) -> dict:
    """What is added to an answer's row; ``stage`` says where a status other than ok arose."""
    field = "score" if mode == "understand" else "used"
    if row["status"] != "ok":
        return {field: None, "stage": "answer"}
    return {field: None, **verdicts[row["id"]], "stage": "judge"}


def asked_again(rows: list[dict]) -> int:
    """How many judgements failed in a way that the next run tries again."""
    return sum(row.get("judge_statuses", {}).get(s, 0) for row in rows for s in ASK_AGAIN)


def show_judgements(rows: list[dict]) -> None:
    """The judgements by status, where some are missing."""
    counts = Counter()
    for row in rows:
        counts.update(row.get("judge_statuses", {}))
    if counts.total() > counts["ok"]:
        print(f"judgements: {', '.join(f'{n} {status}' for status, n in counts.most_common())}")
        if again := asked_again(rows):
            print(f"  the same command asks {again} of them again")


@contextlib.contextmanager
def measured(journal: Journal) -> Iterator[None]:
    """Add the time that new verdicts took to that of the runs which this one goes on from."""
    before, start = len(journal), time.monotonic()
    try:
        yield
    finally:
        if len(journal) > before:
            seconds = seconds_of(journal) + time.monotonic() - start
            journal.append({"key": "seconds", "seconds": round(seconds, 1)})


def seconds_of(journal: Journal) -> float:
    return (journal.get("seconds") or {"seconds": 0.0})["seconds"]


def summarize(args, rows: list[dict], unseen: set[str], writers: list[str]) -> dict:
    understand = args.score_mode == "understand"

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
    field = "score" if understand else "used"
    result["trust"] = trust_figures(rows, field, args.scorer_name, args.model_name, writers)
    if not understand:
        result["other_slang"] = sum(bool(row.get("other")) for row in rows)
    tokens = [row["judge_tokens"] for row in rows if "judge_tokens" in row]
    result["usage"] = {side: sum(t[side] for t in tokens) for side in ("input", "output")}
    free = is_offline(args.scorer_name)
    result["cost_usd"] = 0.0 if free else price(args.scorer_name, result["usage"])
    result["statuses"] = dict(Counter(row["status"] for row in rows))
    names = ("scorer_name", "n", "base_url", "full_list")
    result["settings"] = {name: getattr(args, name) for name in names}
    result["provenance"] = provenance()
    result["results"] = [{k: v for k, v in row.items() if k != "content"} for row in rows]
    return result


def pair_writers(path: str) -> list[str]:
    """The ``model`` of each training pair, nested or flat; [] where there is no such file."""
    if not Path(path).exists():
        return []
    rows = [row for _, row in read_rows(path) if isinstance(row, dict)]
    pairs = [pair for row in rows for pair in row.get("conversations") or [row]]
    return [str(pair["model"]) for pair in pairs if isinstance(pair, dict) and pair.get("model")]


def keep_time(output: Path, result: dict) -> None:
    """A run that found all its verdicts in the journal leaves the file as it was."""
    try:
        old = read_json(output)
    except InputError:
        return
    if isinstance(old, dict) and {**old, "seconds": None} == {**result, "seconds": None}:
        result["seconds"] = old.get("seconds")


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
