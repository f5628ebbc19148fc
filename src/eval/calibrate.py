"""Check a judge before its scores are believed: have it score anchors whose right score is known.

    python src/eval/calibrate.py --scorer_name lexicon
    python src/eval/calibrate.py --scorer_name local:embedded
    python src/eval/calibrate.py --scorer_name gpt-4.1 --dry_run
    python src/eval/calibrate.py --scorer_name my-judge --base_url http://localhost:8000/v1 --n 3

Reads   anchors.jsonl (or --anchors): answers with their right verdict (a task's file says in
        which field) and the probe each belongs to; the term list (--terms), where the meanings
        stand; the task's wording.
Writes  results/<task>/calibration_results/<scorer>_calibration.json (or --output): agreement
        with the anchors in all and by probe, and a row an anchor; beside it a journal, from
        which a killed run goes on.

The scorers are the language models and the lexicon of score.py, asked in the same way by the same
code, on every task that they score and that has anchors, unless --score_mode names one. A reply
that cannot be read is a status: it is listed and enters no figure.
"""

from __future__ import annotations

from pathlib import Path

from malmat.cli import (
    COMPLETE,
    FAILURES,
    parser,
    provenance,
    relative,
    run,
    show_settings,
    show_table,
)
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.agreement import text_of
from malmat.evaluate.anchors import SECOND, reached, read_anchors, tables
from malmat.evaluate.run_record import refuse_another_scorers
from malmat.evaluate.scorers import Scorer, reads_only, resolve_scorer, suits, timed_verdicts
from malmat.evaluate.task import Row, Task
from malmat.files import file_digest, write_json
from malmat.formats import read_terms
from scorer_options import add_scorer_options, scorer_for, show_cost, show_judgements
from tasks import TASKS

HERE = Path(__file__).parent


def arguments():
    options = parser(__doc__)
    options.add_argument("--score_mode", "--task", choices=tuple(TASKS), help="default: all")
    options.add_argument("--anchors", default=str(HERE / "anchors.jsonl"))
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--output", help="another file for the result (of one task)")
    add_scorer_options(options)
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    terms = read_terms(args.terms)
    anchors = read_anchors(args.anchors, TASKS, terms, args.terms)
    tasks = tasks_of(args, anchors)
    show_settings("calibrate", vars(args))
    scorers = [scorer_for(args, task, terms) for task in tasks]  # all, before any is paid for
    again = 0
    for scorer in scorers:
        task, rows = scorer.task, [row for row in anchors if row["task"] == scorer.task.name]
        path = results.calibration_path(args.results_dir, task, scorer.name)
        output = Path(args.output or path)
        if not args.output:
            refuse_another_scorers(output, scorer.name)
        print(f"plan: {len(rows)} anchors of {task.name} → {relative(output)}")
        show_cost(scorer, scorer.requests(rows))
        if args.dry_run:
            continue
        verdicts, _ = timed_verdicts(scorer, rows, output)
        joined = {row["id"]: row for row in results.join(rows, verdicts)}
        scored = results.Run(task, "anchors", scorer.name, joined)
        result = record_of(scored, scorer, args)
        write_json(output, result)
        show(scored, result)
        show_judgements(scored)
        print(f"wrote {relative(output)}")
        again += scored.missing()
    return FAILURES if again else COMPLETE


def tasks_of(args, anchors: list[Row]) -> list[Task]:
    """The tasks that have anchors and the scorer judges, or the one of them that is named."""
    held = [TASKS[name] for name in dict.fromkeys(row["task"] for row in anchors)]
    found = [t for t in held if args.score_mode in (None, t.name) and judges(args.scorer_name, t)]
    names = " and ".join(task.name for task in found)
    if not found:
        wanted = args.score_mode or " or ".join(task.name for task in held)
        problem = f"there is no judging {wanted} with '{args.scorer_name}' and these anchors"
        raise InputError(problem, path=args.anchors, field="scorer_name")
    if args.output and len(found) > 1:
        problem = f"this scorer is checked on {names}"
        raise InputError(problem, field="output", fix="Name one: --score_mode.")
    return found


def judges(name: str, task: Task) -> bool:
    """Whether a scorer finds its verdicts itself, and not in a row or a rater's file."""
    name = resolve_scorer(name, task)
    return suits(name, task) and not reads_only(name)


def record_of(scored: results.Run, scorer: Scorer, args) -> dict:
    """What the file of a calibration holds."""
    rows = list(scored.rows.values())
    unread = [row for row in rows if row["status"] != "ok"]
    settings = {"batch_size": args.batch_size, "anchors": file_digest(args.anchors)[:16]}
    return {
        "scorer_name": scored.scorer,
        "score_mode": scored.task.name,
        **reached(scored),
        "statuses": dict(scored.statuses()),
        "not_scored": [{name: row[name] for name in ("id", "status", "answer")} for row in unread],
        "settings": scorer.identity() | settings,
        "provenance": provenance(),
        "results": results.published(scored),
    }


def show(scored: results.Run, result: dict) -> None:
    """Print the figures, and what could not be scored."""
    total = f"{result['n_scored']}/{result['n_total']} anchors scored"
    print(f"{scored.scorer}, {scored.task.name}: {total}")
    for table in tables(scored, result):
        show_table([("", *line) for line in table])
    if second := result.get(SECOND):
        alike, kappa = text_of(second["exact"]), text_of(second, "kappa")
        print(f"  a second reader of the anchors: {alike} alike, kappa {kappa}")
    for row in result["not_scored"]:
        print(f"  not scored: {row['status']}, {row['answer'][:40]!r} ({row['id']})")


if __name__ == "__main__":
    run(main)
