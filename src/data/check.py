"""Check the quality of dialogue pairs: a table, the offending rows, and a page with plots.

    python src/data/check.py
    python src/data/check.py --input published.json --terms published.json --show 10

Reads   --input (nested, as merged_final.json) and the term list (--terms; its ``forms`` show
        inflected and patterned terms, others are looked for by morphology).
Writes  --output, one HTML page with plots; --rows, the offending rows as JSONL (optional).

Leaves with 1 where a check is over its limit (LIMITS below), 0 where none is.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path

from malmat.cli import COMPLETE, FAILURES, parser, positive, relative, run, show_settings
from malmat.files import check_fields, read_rows, write_jsonl, write_text
from malmat.formats import read_terms
from malmat.text.duplicates import THRESHOLD, NearDuplicates, squeeze
from malmat.text.korean import EMOJI, hangul_share, normalize
from malmat.text.pairs import MAX_CHARACTERS
from malmat.text.terms import TermMatcher

HERE = Path(__file__).parent

# The largest share of rows (of pairs, or of terms where it says so) that a check may find.
LIMITS = {
    "missing key": 0.0,
    "stray key": 0.0,
    "term not found": 0.02,
    "exact duplicate": 0.0,
    "near-duplicate in the term": 0.0,
    "near-duplicate across terms": 0.0,
    "not Korean": 0.0,
    "conjoining jamo": 0.0,
    "emoji": 0.0,
    "too short or long": 0.0,
    "repeated opening": 0.0,  # terms
    "one setting for most": 0.0,  # terms
    "one position for most": 0.0,  # terms
    "too few pairs": 0.0,  # terms
}
PAIR_KEYS = {"context", "q", "a", "model"}
TERM_KEYS = {"title", "description", "conversations"}
FEWEST_PAIRS = 8
SHORTEST = 2
# Shares of a term's pairs from which a sameness is a pattern.
SAME_OPENING, SAME_SETTING, SAME_POSITION = 0.35, 0.5, 0.9


def arguments():
    options = parser(__doc__)
    options.add_argument("--input", default=str(HERE.parents[1] / "merged_final.json"))
    options.add_argument("--terms", default=str(HERE / "terms.csv"))
    options.add_argument("--output", default="check.html")
    options.add_argument("--rows", help="write the offending rows here, as JSONL")
    options.add_argument("--show", type=positive, default=3, help="offending rows a check shown")
    options.add_argument("--threshold", type=float, default=THRESHOLD, help="near-duplicates")
    return options.parse_args()


def main() -> int:
    args = arguments()
    show_settings("check", vars(args))
    terms = read_nested(args.input)
    found: dict[str, list[dict]] = {name: [] for name in LIMITS}
    pairs = check_keys(terms, found)
    check_texts(pairs, found)
    positions = check_terms_found(pairs, args.terms, found)
    check_duplicates(pairs, args.threshold, found)
    check_balance(pairs, positions, found)
    table = verdicts(found, len(pairs), len(terms))
    print_table(table, found, args.show)
    print(
        f"{len(terms)} terms, {len(pairs)} pairs: "
        f"{sum(not row['ok'] for row in table)} of {len(table)} checks over their limit"
    )
    write_text(args.output, render(args, terms, pairs, positions, table, found))
    print(f"wrote {relative(args.output)}")
    if args.rows:
        rows = [{"check": name, **row} for name, rows in found.items() for row in rows]
        write_jsonl(args.rows, rows)
        print(f"wrote {len(rows)} offending rows to {relative(args.rows)}")
    return COMPLETE if all(row["ok"] for row in table) else FAILURES


def read_nested(path: str) -> list[dict]:
    terms = []
    for line, row in read_rows(path):
        check_fields(row, {"title": str, "conversations": list}, path=path, line=line)
        for index, pair in enumerate(row["conversations"]):
            check_fields(pair, {}, path=path, line=line, where=f"conversations[{index}].")
        terms.append(row)
    return terms


# --------------------------------------------------------------------------- checks


def row_of(pair: dict, **more: object) -> dict:
    return {"title": pair["title"], "number": pair["number"], "q": pair["q"], "a": pair["a"]} | more


def check_keys(terms: list[dict], found: dict) -> list[dict]:
    """The pairs with their term's title and number (from 1), and what keys they lack or have."""
    pairs = []
    for term in terms:
        lacking = sorted({"description"} - {key for key in term if term[key]})
        extra = sorted(set(term) - TERM_KEYS)
        if lacking:
            found["missing key"].append({"title": term["title"], "keys": lacking})
        if extra:
            found["stray key"].append({"title": term["title"], "keys": extra})
        for number, turn in enumerate(term["conversations"], 1):
            pair = {name: str(turn.get(name) or "") for name in PAIR_KEYS}
            pair |= {"title": term["title"], "number": number}
            lacking = sorted(name for name in ("context", "q", "a") if not pair[name].strip())
            if lacking:
                found["missing key"].append(row_of(pair, keys=lacking))
            if extra := sorted(set(turn) - PAIR_KEYS):
                found["stray key"].append(row_of(pair, keys=extra))
            pairs.append(pair)
    return pairs


def check_texts(pairs: list[dict], found: dict) -> None:
    for pair in pairs:
        texts = (pair["q"], pair["a"])
        if not all(map(str.strip, texts)):
            continue  # a missing key, said above
        if min(map(hangul_share, texts)) < 0.5:
            found["not Korean"].append(row_of(pair))
        if any(re.search("[\u1100-\u11ff]", normalize(t)) or normalize(t) != t for t in texts):
            found["conjoining jamo"].append(row_of(pair))
        if any(EMOJI.search(text) for text in texts):
            found["emoji"].append(row_of(pair))
        if not all(SHORTEST <= len(text.strip()) <= MAX_CHARACTERS for text in texts):
            found["too short or long"].append(row_of(pair, lengths=[len(t) for t in texts]))


def check_terms_found(pairs: list[dict], terms_path: str, found: dict) -> list[str]:
    """Where each pair has its term: ``q``, ``a``, ``both`` or ``none``."""
    known = {term["title"]: term for term in read_terms(terms_path)}
    titles = dict.fromkeys(pair["title"] for pair in pairs)
    matcher = TermMatcher(known.get(title.strip(), {"title": title}) for title in titles)
    positions = []
    for pair in pairs:
        title = pair["title"].strip()
        in_q, in_a = (bool(matcher.find(pair[name], only=title)) for name in ("q", "a"))
        if not (in_q or in_a):
            found["term not found"].append(row_of(pair))
        positions.append("both" if in_q and in_a else "q" if in_q else "a" if in_a else "none")
    return positions


def check_duplicates(pairs: list[dict], threshold: float, found: dict) -> None:
    index, exact = NearDuplicates(threshold), {}
    for pair in pairs:
        key = squeeze(pair["q"]) + "\0" + squeeze(pair["a"])
        earlier = index.add(pair["q"] + pair["a"])
        if key in exact:
            found["exact duplicate"].append(row_of(pair, of=exact[key]))
        elif earlier:
            number, similarity = earlier[0]
            other = pairs[number]
            where = "in the term" if other["title"] == pair["title"] else "across terms"
            found[f"near-duplicate {where}"].append(
                row_of(
                    pair,
                    of=f"{other['title']} {other['number']}: {other['q']} / {other['a']}",
                    similarity=round(similarity, 3),
                )
            )
        exact.setdefault(key, f"{pair['title']} {pair['number']}")


def check_balance(pairs: list[dict], positions: list[str], found: dict) -> None:
    groups: dict[str, list[int]] = defaultdict(list)
    for index, pair in enumerate(pairs):
        groups[pair["title"]].append(index)
    for title, members in groups.items():
        count = len(members)

        def most(values: list[str], name: str, share: float, title=title, count=count) -> None:
            value, times = Counter(values).most_common(1)[0]
            if value and times > 2 and times / count > share:
                found[name].append({"title": title, "value": value, "times": f"{times}/{count}"})

        for side in ("q", "a"):
            openings = [squeeze(pairs[i][side])[:4] for i in members]
            most(openings, "repeated opening", SAME_OPENING)
        most([pairs[i]["context"].strip() for i in members], "one setting for most", SAME_SETTING)
        most([positions[i] for i in members], "one position for most", SAME_POSITION)
        if count < FEWEST_PAIRS:
            found["too few pairs"].append({"title": title, "value": str(count)})


# -------------------------------------------------------------------------- showing


def verdicts(found: dict, pairs: int, terms: int) -> list[dict]:
    table = []
    for name, limit in LIMITS.items():
        total = pairs
        if name in ("repeated opening", "one setting for most", "one position for most"):
            total = terms
        if name == "too few pairs":
            total = terms
        count = len(found[name])
        share = count / total if total else 0.0
        table.append(
            {
                "name": name,
                "count": count,
                "total": total,
                "of": "terms" if total is terms else "pairs",
                "share": share,
                "limit": limit,
                "ok": share <= limit,
            }
        )
    return table


def print_table(table: list[dict], found: dict, show: int) -> None:
    print(f"{'check':<28} {'found':>6} {'of':>6}        {'share':>7} {'limit':>7}")
    for row in table:
        mark = "" if row["ok"] else "  over"
        print(
            f"{row['name']:<28} {row['count']:>6} {row['total']:>6} {row['of']}  "
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


def render(args, terms, pairs, positions, table, found) -> str:
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
        (
            "Commonest settings",
            Counter(p["context"] or "none" for p in pairs).most_common(12),
        ),
    ]
    return environment.get_template("check_template.html.jinja").render(
        title=f"Quality of {relative(args.input)}",
        terms=len(terms),
        pairs=len(pairs),
        table=table,
        plots=plots,
        found={name: rows[:200] for name, rows in found.items() if rows},
        counts={name: len(rows) for name, rows in found.items()},
    )


if __name__ == "__main__":
    run(main)
