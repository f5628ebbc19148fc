"""Check a judge before its scores are believed: have it score anchors whose right score is known.

    python src/eval/calibrate.py --scorer_name lexicon
    python src/eval/calibrate.py --scorer_name local:embedded
    python src/eval/calibrate.py --scorer_name gpt-4.1 --dry_run
    python src/eval/calibrate.py --scorer_name my-judge --base_url http://localhost:8000/v1 --n 3

Reads   anchors.jsonl (or --anchors): answers with their right verdict, a grade of 1–5
        (understanding) or used/not used (usage), and the probe each belongs to; the term
        list (--terms), where the meanings stand; prompt.py.
Writes  results/<mode>/calibration_results/<judge>_calibration.json (or --output): agreement
        with the anchors in all and by probe, and a row an anchor; beside it a journal, from
        which a killed run goes on.

The judges are those of score.py, asked in the same way by the same code. An API judge is
checked on both modes unless --score_mode names one. A reply that cannot be read is a
status: it is listed and enters no figure.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import score
from malmat.cli import (
    COMPLETE,
    FAILURES,
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
from malmat.files import check_fields, file_digest, read_rows, row_id, write_json
from malmat.formats import read_terms
from malmat.journal import Journal, journal_path
from malmat.lm.load import short_name
from malmat.prompts import load_prompts
from malmat.text.korean import normalize

HERE = Path(__file__).parent
MODES = ("understand", "usage")
LABELS = {
    "exact": "exact agreement",
    "error": "mean error",
    "absolute_error": "mean absolute error",
    "precision": "precision",
    "recall": "recall",
}


def arguments():
    options = parser(__doc__)
    options.add_argument("--scorer_name", required=True, help="the judge, as in score.py")
    options.add_argument("--score_mode", choices=MODES, help="default: what the judge can do")
    options.add_argument("--anchors", default=str(HERE / "anchors.jsonl"))
    options.add_argument("--terms", default=str(HERE.parent / "data/terms.csv"))
    options.add_argument("--results_dir", default=str(HERE / "results"))
    options.add_argument("--output", help="another file for the result (with --score_mode)")
    options.add_argument("--n", type=positive, default=1, help="judgements an anchor (API judges)")
    options.add_argument("--base_url", help="an OpenAI-compatible server")
    options.add_argument("--concurrency", type=positive, default=8)
    options.add_argument("--batch_size", type=positive, default=8, help="local judge")
    options.add_argument("--max_cost", type=number, help="stop after this many US dollars a mode")
    options.add_argument(
        "--full_list", action="store_true", help="send a usage judge all terms with each anchor"
    )
    options.add_argument("--dry_run", action="store_true", help="check, show the plan, stop")
    return options.parse_args()


def main() -> int:
    args = arguments()
    modes = modes_of(args)
    prompts, terms = load_prompts(), read_terms(args.terms)
    anchors = read_anchors(args.anchors, terms, args.terms)
    show_settings("calibrate", vars(args))
    for mode in modes:  # all, before any is paid for
        args.score_mode = mode
        score.check_judge(args)
    failed = False
    for mode in modes:
        args.score_mode = mode
        part = [row for row in anchors if row["task"] == mode]
        if not part:
            raise InputError(f"no anchors of '{mode}' in it", path=args.anchors, field="task")
        output = output_of(args)
        print(f"plan: {len(part)} anchors of {mode} → {relative(output)}")
        requests = score.build_requests(args, prompts, terms, part)
        score.show_cost(args, requests)
        if args.dry_run:
            continue
        verdicts = judge(args, prompts, terms, part, requests, output)
        rows = [{**row, **score.verdict_of(row, verdicts, mode)} for row in part]
        result = summarize(args, rows)
        result["settings"] |= score.judge_settings(args, prompts, terms)
        write_json(output, result)
        show(result)
        score.show_judgements(rows)
        print(f"wrote {relative(output)}")
        failed = failed or score.asked_again(rows) > 0
    return FAILURES if failed else COMPLETE


def modes_of(args) -> list[str]:
    if args.score_mode:
        return [args.score_mode]
    if args.scorer_name == "lexicon":
        return ["usage"]
    if args.scorer_name.startswith("local:"):
        return ["understand"]
    if args.output:
        raise InputError(
            "this judge is checked on two modes", field="output", fix="Name one: --score_mode."
        )
    return list(MODES)


def output_of(args) -> Path:
    name = re.sub(r"[^\w.-]+", "-", short_name(args.scorer_name.replace("local:", "local-")))
    folder = Path(args.results_dir) / args.score_mode / "calibration_results"
    return Path(args.output) if args.output else folder / f"{name}_calibration.json"


def read_anchors(path: str, terms: list[dict], terms_path: str) -> list[dict]:
    """The anchors as answers that a judge can be given, with ``right``, the verdict to reach."""
    meanings = {term["title"]: term["content"] for term in terms}
    anchors: dict[str, dict] = {}
    for line, row in read_rows(path):
        texts = ("task", "question", "answer", "probe")
        check_fields(row, dict.fromkeys(texts, str), path=path, line=line)
        if row["task"] not in MODES:
            raise InputError(
                f"'{row['task']}' is neither {' nor '.join(MODES)}",
                path=path,
                line=line,
                field="task",
            )
        if row["task"] == "usage":
            check_fields(row, {"used": bool}, path=path, line=line)
        else:
            check_fields(row, {"grade": int, "title": str}, path=path, line=line)
            if row["grade"] not in range(1, 6):
                raise InputError("not from 1 to 5", path=path, line=line, field="grade")
        title = row.get("title")
        if title and title not in meanings:
            raise InputError(
                f"the term '{title}' is not in {terms_path}", path=path, line=line, field="title"
            )
        anchor = {
            "id": row_id("anchor", row["task"], title, row["question"], row["answer"]),
            **{name: row[name] for name in texts},
            "answer": normalize(row["answer"]),  # as score.py hands answers on
            "title": title,
            "content": meanings.get(title),
            "right": row["used"] if row["task"] == "usage" else row["grade"],
            "status": "ok",
        }
        if anchor["id"] in anchors:
            raise InputError("the same anchor stands in it twice", path=path, line=line)
        anchors[anchor["id"]] = anchor
    return list(anchors.values())


def judge(args, prompts, terms, anchors, requests, output: Path) -> dict[str, dict]:
    """The judge's verdicts, by score.py's own functions: id → verdict."""
    if args.scorer_name == "lexicon":
        return score.judge_by_lexicon(anchors, terms)
    with Journal(journal_path(output)) as journal:
        if args.scorer_name.startswith("local:"):
            return score.judge_locally(args, prompts, anchors, journal)
        return score.judge_by_api(args, requests, journal, terms)


# ------------------------------------------------------------------------------ figures


def summarize(args, rows: list[dict]) -> dict:
    unread = [row for row in rows if row["status"] != "ok"]
    names = ("scorer_name", "n", "base_url", "batch_size", "full_list")
    result = {
        "scorer_name": args.scorer_name,
        "score_mode": args.score_mode,
        **figures(rows, args.score_mode),
        "probes": {
            probe: figures([row for row in rows if row["probe"] == probe], args.score_mode)
            for probe in sorted({row["probe"] for row in rows})
        },
    }
    if args.score_mode == "understand":
        grades = {n: [row for row in rows if row["right"] == n] for n in range(1, 6)}
        result["score_of_grade"] = {
            str(grade): stats.summarize(
                [row["score"] for row in part],
                worst=1,
                best=5,
                clusters=[row["title"] for row in part],
            )
            for grade, part in grades.items()
        }
    return {
        **result,
        "statuses": dict(Counter(row["status"] for row in rows)),
        "not_scored": [{name: row[name] for name in ("id", "status", "answer")} for row in unread],
        "settings": {name: getattr(args, name) for name in names}
        | {"anchors": file_digest(args.anchors)[:16]},
        "provenance": provenance(),
        "results": [{k: v for k, v in row.items() if k != "content"} for row in rows],
    }


def figures(rows: list[dict], mode: str) -> dict:
    """Agreement of the judge's verdicts with the right ones."""
    from malmat.evaluate import agreement

    of, field = (
        (agreement.of_scores, "score") if mode == "understand" else (agreement.of_verdicts, "used")
    )
    return of(
        [row["right"] for row in rows],
        [row[field] for row in rows],
        [row["title"] or row["id"] for row in rows],
    )


def show(result: dict) -> None:
    """The result as a table."""
    from malmat.evaluate.agreement import text_of

    understand = result["score_mode"] == "understand"
    columns = ("error", "absolute_error") if understand else ("precision", "recall")

    def cell(part: dict, column: str) -> str:
        return text_of(part[column], sign="+" if column == "error" else "")

    print(
        f"{result['scorer_name']}, {result['score_mode']}: "
        f"{result['n_scored']}/{result['n_total']} anchors scored"
    )
    kappa = "quadratic weighted kappa" if understand else "Cohen's kappa"
    print(f"  {kappa:<26}{text_of(result, 'kappa')}")
    for column in ("exact", *columns):
        print(f"  {LABELS[column]:<26}{cell(result, column)}")
    for grade, part in result.get("score_of_grade", {}).items():
        print(f"  mean score of grade {grade:<6}{text_of(part)}")
    columns = ("exact", *columns)
    print(f"  {'probe':<17}{'scored':<8}" + "".join(f"{LABELS[name]:<27}" for name in columns))
    for probe, part in result["probes"].items():
        scored = f"{part['n_scored']}/{part['n_total']}"
        cells = "".join(f"{cell(part, name):<27}" for name in columns)
        print(f"  {probe:<17}{scored:<8}{cells}".rstrip())
    for row in result["not_scored"]:
        print(f"  not scored: {row['status']}, {row['answer'][:40]!r} ({row['id']})")


if __name__ == "__main__":
    run(main)
