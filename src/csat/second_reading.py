"""Give the rows that a model is unsure of to a second one, below a margin fitted on dev rows.

    python src/csat/second_reading.py --fit_on dev/A.json dev/B.json --first test/A.json \\
        --rows test.jsonl --ask low.jsonl                       # the rows for B to answer
    python src/csat/second_reading.py --fit_on dev/A.json dev/B.json --first test/A.json \\
        --second low/B.json --output both.json

Reads   --fit_on: both models' answers to the same rows with right answers, other rows than those of
        --first; --second: the second model's answers, to the rows below the margin at least.
Writes  --ask: those rows of --rows; --output: the answers of both, scored like any model's, and
        beside it .run.json with the margin.
Prints  the margin, what it brought on dev (where it was fitted, which flatters it) and on --first,
        and what it cost: rows read twice, and the second model's tokens and seconds.
"""

from __future__ import annotations

import math
from pathlib import Path

from malmat.cli import parser, provenance, relative, run, show_settings, show_table
from malmat.errors import InputError
from malmat.evaluate.results import read_answers, run_record
from malmat.evaluate.second import Rule, fitted_rule, gain, read_twice, unsure
from malmat.evaluate.task import Row
from malmat.files import file_digest, read_json, read_rows, write_json, write_jsonl


def arguments():
    options = parser(__doc__)
    options.add_argument("--fit_on", nargs=2, required=True, metavar=("FIRST", "SECOND"))
    options.add_argument("--first", required=True, help="the first model's answers")
    options.add_argument("--second", help="the second model's")
    options.add_argument("--rows", help="rows that --first answered")
    options.add_argument("--ask", help="where those below the margin go")
    options.add_argument("--output", help="the answers of both")
    args = options.parse_args()
    if bool(args.rows) != bool(args.ask) or bool(args.second) != bool(args.output):
        problem = "--rows and --ask go together, and so do --second and --output"
        raise InputError(problem, field="ask" if bool(args.rows) != bool(args.ask) else "output")
    return args


def main() -> None:
    args = arguments()
    show_settings("second reading", vars(args))
    dev = [read_answers(path, unique=True) for path in args.fit_on]
    first = read_answers(args.first, unique=True)
    check(args, dev, first)
    other = {row["id"]: row for row in dev[1]}
    rule = fitted_rule(dev[0], other)
    low = unsure(first, rule.margin)
    show_rule(rule, len(low), len(first))
    if args.ask:
        ids = {row["id"] for row in low}
        rows = [row for _, row in read_rows(args.rows, as_typed=True) if row.get("id") in ids]
        if len(rows) < len(ids):
            raise InputError("lacks rows that were answered", path=args.rows, field="id")
        write_jsonl(args.ask, rows)
        print(f"wrote {relative(args.ask)}: {len(rows)} rows")
    if args.output:
        second = {row["id"]: row for row in read_answers(args.second, unique=True)}
        both = read_twice(first, second, rule.margin)
        write_json(args.output, both)
        margin = rule.margin if math.isfinite(rule.margin) else None
        files = [args.first, args.second, *args.fit_on]
        record = {"settings": {**vars(args), "model": "second reading"}, "margin": margin}
        record |= {"files": {relative(p): file_digest(p) for p in files}}
        write_json(run_record(args.output), {**record, "provenance": provenance()})
        show_gain(first, both, cost_of(args.second), len(low))
        print(f"wrote {relative(args.output)}")


def check(args, dev: list[list[Row]], first: list[Row]) -> None:
    """
    Raises:
        InputError: the two files of --fit_on hold other rows than each other, rows without a
            target, or rows of --first.
    """
    ids = [{row["id"] for row in side} for side in dev]
    if ids[0] != ids[1]:
        raise InputError("other rows than the first model's", path=args.fit_on[1], field="id")
    if any(row.get("target") is None for row in dev[0]):
        raise InputError("a row without a target", path=args.fit_on[0], field="target")
    if shared := ids[0] & {row["id"] for row in first}:
        problem = f"{len(shared)} of its rows are to be read twice, as {min(shared)}"
        raise InputError(problem, path=args.fit_on[0], field="fit_on", fix="Fit on dev rows.")


def cost_of(answers: str) -> dict[str, float]:
    """Seconds and tokens a row of a model's answers, as far as the record beside them has it."""
    path = run_record(answers)
    known = read_json(path).get("run", {}) if Path(path).is_file() else {}
    if not known.get("items"):
        return {}
    tokens = sum((known.get("tokens") or {}).values())
    return {"seconds": known["seconds"] / known["items"], "tokens": tokens / known["items"]}


def show_rule(rule: Rule, low: int, rows: int) -> None:
    first, second, both = (f"{count / rule.n:.3f}" for count in rule.right)
    shown = f"{rule.margin:.4f}" if math.isfinite(rule.margin) else "none"
    print(f"margin: {shown}; below it are {rule.sent} of {rule.n} dev rows, {low} of {rows} rows")
    print(f"dev, in sample: first {first}, second {second}, both {both}")


def show_gain(first: list[Row], both: list[Row], cost: dict[str, float], low: int) -> None:
    found = gain(first, both)
    lines = [("rows", "read twice", "gain", "95 %", "gained", "lost", "McNemar p", "cost")]
    spent = ", ".join(f"{value * low:.0f} {name}" for name, value in cost.items()) or "not known"
    if not found["n"]:
        lines.append((str(len(both)), str(low), "no targets", "", "", "", "", spent))
    else:
        ends = found["interval"]
        span = f"[{ends[0]:+.3f}, {ends[1]:+.3f}]" if ends else ""
        counts = (str(found["gained"]), str(found["lost"]), f"{found['p']:.3f}")
        lines.append(
            (str(len(both)), str(low), f"{found['difference']:+.3f}", span, *counts, spent)
        )
    show_table(lines)


if __name__ == "__main__":
    run(main)
