"""Score answers to a task: by what is right, by a term list, or by a judge.

    python src/eval/score.py --model_name embedded --score_mode usage --scorer_name lexicon
    python src/eval/score.py --model_name embedded --score_mode reply
    python src/eval/score.py --model_name kanana --score_mode understand --scorer_name gpt-4.1

Reads   results/<task>/infer_results/<model>_<task>_inference_results.json (or --infer_results;
        the older two-key rows are read too), the term list (--terms), the task's wording.
Writes  results/<task>/score_results/<model>_<task>_<scorer>_score_results.json (or --output):
        the average with n_scored/n_total, interval and bounds, what says how far to trust it
        (``trust``), tokens, cost and seconds, and a row an answer.

Scorers: ``auto`` (the task's own; where it needs a judge, gpt-4.1 or gemini-2.5-flash if their
key is set, else an offline one); an API model (gpt-*, gemini-*, or any name with
--base_url); ``local:MODEL`` (grades: probability-weighted 1–5 over the score tokens);
``lexicon`` (the term, an inflection or a variant stands in the answer, by Korean morphology; an
everyday word counts with evidence only); ``human:RATER`` (the ratings given in human.py);
``accuracy``, ``exact``, ``verbatim``, ``rouge1``, ``rouge1_mecab``, ``nll``. Only answers whose
status is ok are scored; a failed judgement is a status, never a score.

An API judge of used terms sees the terms that may be in the answer, not the whole list, and
may name other slang: that counts where it is a listed term after all.
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import (
    COMPLETE,
    FAILURES,
    ROOT,
    parser,
    provenance,
    relative,
    run,
    show_settings,
)
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.confidence import choice_figures, choice_lines
from malmat.evaluate.items import complete, items_of, read_splits
from malmat.evaluate.run_record import keep_where_nothing_came, refuse_another_scorers
from malmat.evaluate.scorers import Scorer, timed_verdicts
from malmat.evaluate.task import Row, Task, cluster
from malmat.evaluate.trust import pair_writers, trust_figures, trust_lines
from malmat.files import digest
from malmat.formats import read_terms
from scorer_options import add_scorer_options, scorer_for, show_cost, show_judgements
from tasks import TASKS

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("--model_name", required=True, help="whose answers (a name in results)")
    options.add_argument("--score_mode", "--task", choices=tuple(TASKS), required=True)
    options.add_argument("--infer_results", help="another file of answers")
    options.add_argument("--output", help="another file for the scores")
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--questions", help="the items of answers that do not name their term")
    options.add_argument("--sample", help="which terms are unseen in training (title, split)")
    options.add_argument(
        "--pairs",
        default=str(ROOT / "merged_final.json"),
        help="the training pairs: who wrote them (their 'model')",
    )
    add_scorer_options(options)
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    task, terms = TASKS[args.score_mode], read_terms(args.terms)
    scorer = scorer_for(args, task, terms, args.model_name)
    source = args.infer_results or results.answers_path(args.results_dir, task, args.model_name)
    answers = results.read_answers(source, unique=True)
    rows = prepare(args, task, scorer, answers, source)
    writers = pair_writers(args.pairs)
    output = Path(
        args.output or results.scores_path(args.results_dir, task, args.model_name, scorer.name)
    )
    if not args.output:
        refuse_another_scorers(output, scorer.name)
    shown = {**vars(args), "scorer_name": scorer.name, "infer_results": source}
    show_settings("score", {**shown, "output": str(output)})
    good = [row for row in rows if row["status"] == "ok"]
    print(f"plan: {len(good)} of {len(rows)} answers can be judged → {relative(output)}")
    show_cost(scorer, scorer.requests(good))
    if args.dry_run:
        return COMPLETE
    verdicts, seconds = timed_verdicts(scorer, good, output)
    if scorer.journaled:
        keep_where_nothing_came(output, map(judge_reply, verdicts.values()))
    scored = results.Run(
        task, args.model_name, scorer.name, {r["id"]: r for r in results.join(rows, verdicts)}
    )
    written = results.save(output, scored, more(scored, scorer, good, writers, seconds))
    report(scored, written)
    print(f"wrote {relative(output)}")
    return FAILURES if scored.missing() else COMPLETE


def prepare(args, task: Task, scorer: Scorer, answers: list[Row], source) -> list[Row]:
    """The answers with what scoring needs of their items: target, term, meaning, slices."""
    rows = complete(answers, items_of(task, args.questions))
    if scorer.needs_meaning:
        rows = results.with_meanings(rows, scorer.terms, source, args.terms)
    rows = scorer.covered(rows)
    if not rows:
        raise InputError(f"'{scorer.name}' rates none of these answers", path=source)
    if args.sample and "split" in task.slices:
        splits = read_splits(args.sample)
        rows = [{**row, "split": splits.get(row.get("title"), "seen")} for row in rows]
    return rows


def judge_reply(verdict: dict) -> dict:
    """What came of a verdict's judge, as ``keep_where_nothing_came`` reads it."""
    replies = "".join(verdict.get("judge_replies", ()))
    return {**verdict, "answer": replies, "error": verdict.get("judge_error")}


def more(
    scored: results.Run, scorer: Scorer, good: list[Row], writers: list[str], seconds: float
) -> dict:
    """What stands in a score file beside figures and rows."""
    rows = list(scored.rows.values())
    tokens = [row["judge_tokens"] for row in rows if "judge_tokens" in row]
    usage = {side: sum(t[side] for t in tokens) for side in ("input", "output")}
    refused = sorted({name for row in rows for name in row.get("judge_without", ())})
    others = sum(bool(row.get("other")) for row in rows)
    return {
        "score_mode": scored.task.name,
        "trust": trust_figures(rows, scorer.name, scored.model, writers),
        **({"choices": figures} if (figures := choice_figures(rows)) else {}),
        **({"other_slang": others} if scored.task.judge and not scorer.needs_meaning else {}),
        **({"judge_without": refused} if refused else {}),
        "usage": usage,
        "cost_usd": scorer.cost_of(usage),
        "settings": scorer.identity() | {"answers": digest(good)[:16]},
        "provenance": provenance(),
        "seconds": seconds,
    }


def report(scored: results.Run, written: dict) -> None:
    """Print what came of it."""
    counts = scored.statuses().most_common()
    print(f"rows: {', '.join(f'{n} {status}' for status, n in counts)}")
    show_judgements(scored)
    said = results.headline(scored.summary())
    if (clusters := len({cluster(row) for row in scored.rows.values()})) < len(scored.rows):
        said += f" in {clusters} clusters"
    print(f"{scored.model}, {scored.task.name}, by {scored.scorer}: {said}")
    for name, parts in scored.slices().items():
        for value, part in parts.items():
            print(f"  {name} {value}: {results.headline(part)}")
    for name, figure in written["figures"].items():
        ends = [f"{end:.3f}" for end in figure["interval"] or ()]
        print(f"  {name}: {figure['value']:.3f} [{', '.join(ends) or '–'}]")
    for line in choice_lines(written.get("choices", {})):
        print(f"  {line}")
    if not scored.task.has_choices:  # how long a choice is, is no doing of the model's
        for line in trust_lines(written["trust"]):
            print(f"  {line}")


if __name__ == "__main__":
    run(main)
