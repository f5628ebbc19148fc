"""Check the quality of dialogue pairs: a table, the offending rows, and a page with plots.

    python src/data/check.py
    python src/data/check.py --input published.json --terms published.json --show 10
    python src/data/check.py --against published.json      # how each is typed, side by side

Reads   --input (any shape of docs/data-formats.md) and the term list (--terms; its ``forms`` show
        inflected and patterned terms, others are looked for by morphology); --against, other sets
        that the input is set beside, each its own term list.
Prints  the checks, then shares of marks, endings, lengths and settings of the input, of the other
        sets, and of real messages where a study counted them (malmat.text.shares).
Writes  --output, one HTML page with plots; --rows, the offending rows as JSONL (optional).

Leaves with 1 where a check is over its limit (LIMITS below), 0 where none is.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from malmat.cli import (
    COMPLETE,
    FAILURES,
    parser,
    positive,
    relative,
    run,
    share,
    show_settings,
    show_table,
)
from malmat.files import write_jsonl, write_text
from malmat.formats import read_terms
from malmat.text import quality, shares
from malmat.text.duplicates import THRESHOLD

HERE = Path(__file__).parent

# The largest share of pairs, terms or listed terms that a check may find.
LIMITS = {
    "missing key": (0.0, "pairs"),
    "stray key": (0.0, "pairs"),
    "term not found": (0.02, "pairs"),
    "exact duplicate": (0.0, "pairs"),
    "near-duplicate in the term": (0.0, "pairs"),
    "near-duplicate across terms": (0.0, "pairs"),
    "not Korean": (0.0, "pairs"),
    "conjoining jamo": (0.0, "pairs"),
    "emoji": (0.0, "pairs"),
    "too short or long": (0.0, "pairs"),
    "repeated opening": (0.0, "terms"),
    "one setting for most": (0.0, "terms"),
    "one position for most": (0.0, "terms"),
    "too few pairs": (0.0, "terms"),
}
OF_NESTED = ("missing key", "stray key")  # checks of the nested shape, which others do not have
GLOSS_LIMITS = {  # of a term list that has glosses
    "gloss too long": (0.0, "listed"),
    "gloss holds its term": (0.0, "listed"),
    "near term not mutual": (0.0, "listed"),
}
COLUMN_LIMITS = {"unknown value": (0.0, "listed")}  # of one that has further columns


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", default=str(HERE.parents[1] / "merged_final.json"))
    options.add_argument("--terms", default=str(HERE / "terms.csv"))
    options.add_argument("--against", nargs="+", default=[], help="sets to be shown beside it")
    options.add_argument("--output", default="check.html")
    options.add_argument("--rows", help="write the offending rows here, as JSONL")
    options.add_argument("--show", type=positive, default=3, help="offending rows a check shown")
    options.add_argument("--threshold", type=share, default=THRESHOLD, help="near-duplicates")
    return options.parse_args()


def main() -> int:
    args = arguments()
    show_settings("check", vars(args))
    (terms, nested), listed = quality.read_terms_with_pairs(args.input), read_terms(args.terms)
    pairs = quality.pairs_of(terms)
    positions = quality.term_positions(pairs, listed)
    has_glosses = any(term["gloss"] or term["near"] for term in listed)
    has_columns = any(term.get("status") or term.get("polarity") for term in listed)
    limits = LIMITS | (GLOSS_LIMITS if has_glosses else {})
    limits |= COLUMN_LIMITS if has_columns else {}
    limits = {name: limits[name] for name in limits if nested or name not in OF_NESTED}
    found: dict[str, list[dict]] = {name: [] for name in limits}
    for name, row in (
        *(quality.key_faults(terms, pairs) if nested else ()),
        *quality.text_faults(pairs),
        *quality.position_faults(pairs, positions),
        *quality.duplicate_faults(pairs, args.threshold),
        *quality.balance_faults(pairs, positions),
        *(quality.gloss_faults(listed) if has_glosses else ()),
        *(quality.column_faults(listed) if has_columns else ()),
    ):
        found[name].append(row)
    totals = {"pairs": len(pairs), "terms": len(terms), "listed": len(listed)}
    table = [verdict(name, len(found[name]), totals, *limits[name]) for name in limits]
    print_table(table, found, args.show)
    print(
        f"{len(terms)} terms, {len(pairs)} pairs: "
        f"{sum(not row['ok'] for row in table)} of {len(table)} checks over their limit"
    )
    columns = {relative(args.input): shares.shares(pairs, positions)}
    for path in args.against:
        others = quality.pairs_of(quality.read_terms_with_pairs(path)[0])
        columns[relative(path)] = shares.shares(
            others, quality.term_positions(others, read_terms(path))
        )
    typed = shares.table({**columns, "real (2016)": shares.STUDY})
    print()
    show_table(typed)
    write_text(args.output, render(args, terms, pairs, positions, table, found, typed))
    print(f"wrote {relative(args.output)}")
    if args.rows:
        rows = [{"check": name, **row} for name, rows in found.items() for row in rows]
        write_jsonl(args.rows, rows)
        print(f"wrote {len(rows)} offending rows to {relative(args.rows)}")
    return COMPLETE if all(row["ok"] for row in table) else FAILURES


def verdict(name: str, count: int, totals: dict[str, int], limit: float, of: str) -> dict:
    """A row of the table."""
    share = count / totals[of]
    row = {"name": name, "count": count, "total": totals[of], "of": of}
    return row | {"share": share, "limit": limit, "ok": share <= limit}


def print_table(table: list[dict], found: dict, show: int) -> None:
    print(f"{'check':<28} {'found':>6} {'of':>6}        {'share':>7} {'limit':>7}")
    for row in table:
        mark = "" if row["ok"] else "  over"
        print(
            f"{row['name']:<28} {row['count']:>6} {row['total']:>6} {row['of']:<6} "
            f"{row['share']:>7.2%} {row['limit']:>7.2%}{mark}"
        )
        for offender in found[row["name"]][:show] if row["count"] else []:
            print("    " + ", ".join(f"{k}: {v}" for k, v in offender.items()))


def histogram(values: list[int], step: int) -> list[tuple[str, int]]:
    """(label, count) of bins of a width, from the lowest to the highest that holds something."""
    bins = Counter(value // step for value in values)
    return [
        (f"{n * step}" if step == 1 else f"{n * step}–{n * step + step - 1}", bins.get(n, 0))
        for n in range(min(bins), max(bins) + 1)
    ]


def render(args, terms, pairs, positions, table, found, typed) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader([HERE, HERE.parent / "eval"]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    names = {"q": "question only", "a": "answer only", "both": "both", "none": "not found"}
    counts = Counter(positions)
    plots = [
        ("Pairs a term", histogram([len(t["conversations"]) for t in terms], 1)),
        ("Where the term stands", [(text, counts[key]) for key, text in names.items()]),
        ("Characters of questions", histogram([len(p["q"]) for p in pairs], 10)),
        ("Characters of answers", histogram([len(p["a"]) for p in pairs], 10)),
        ("Written by", Counter(p["model"] or "not said" for p in pairs).most_common(12)),
        ("Commonest settings", Counter(p["context"] or "none" for p in pairs).most_common(12)),
    ]
    return environment.get_template("check_template.html.jinja").render(
        title=f"Quality of {relative(args.input)}",
        terms=len(terms),
        pairs=len(pairs),
        table=table,
        plots=plots,
        typed=typed,
        found={name: rows[:200] for name, rows in found.items() if rows},
        counts={name: len(rows) for name, rows in found.items()},
    )


if __name__ == "__main__":
    run(main)
