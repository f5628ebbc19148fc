"""One table of the scores of models × contexts, each figure paired with its neighbours.

    python src/culture_qa/table.py --results_dir results --models base sft dpo \\
        --contexts none bm25 dense hybrid two-stage gated gold random --output table.json

Reads   results/culture_qa/<MODEL-CONTEXTS>_scores.json (score.py), those that are there.
Writes  the terminal; --output: every figure as JSON; --markdown: the tables.

For each type and the final score: a row a model, a column a kind of contexts. Below, paired by
question, with intervals over topics and Holm's correction: each model against the one before it
with the same contexts (what training changed), and each kind of contexts against the first (none)
with the same model (what retrieval changed). Gold contexts show what retrieval could give, random
ones what mere length costs.
"""

from __future__ import annotations

from malmat.cli import parser, relative, run, show_table
from malmat.contests import typed_scores
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.compare import compare_all
from malmat.evaluate.task import Row
from malmat.files import check_fields, read_json, write_json, write_text
from score_tables import read_scores, scores_file
from task import BY_TYPE

Column = tuple[str, str]


def arguments():
    options = parser(__doc__)
    options.add_argument("--results_dir", required=True)
    options.add_argument("--models", nargs="+", required=True, help="in order: base sft dpo")
    options.add_argument("--contexts", nargs="+", required=True, help="in order: none first")
    options.add_argument("--output", help="a JSON file with every figure")
    options.add_argument("--markdown", help="a file with the tables")
    return options.parse_args()


def main() -> None:
    args = arguments()
    columns = read_columns(args)
    first = next(iter(columns.values()))
    kinds = typed_scores.types_of(first[1])
    final, chance = first[0], first[2]
    tables = []
    for kind in [*kinds, final]:
        title = kind + (f" (chance {chance:.3f})" if kind == kinds[0] and chance else "")
        tables.append((title, grid(args, columns, kind, final)))
    gaps = [*training(args, columns, kinds, final), *retrieval(args, columns, kinds, final)]
    tables.append(("paired differences", paired(gaps)))
    for title, lines in tables:
        print(f"\n{title}")
        show_table(lines)
    if args.output:
        cells = {f"{m}-{c}": summaries(rows, kinds, final) for (m, c), (_, rows, _) in
                 columns.items()}  # fmt: skip
        write_json(args.output, {"final": final, "scores": cells, "paired": gaps})
        print(f"wrote {relative(args.output)}")
    if args.markdown:
        write_text(args.markdown, "\n".join(map(as_markdown, tables)))
        print(f"wrote {relative(args.markdown)}")


def read_columns(args) -> dict[Column, tuple[str, list[Row], float | None]]:
    """(model, contexts) → the final score's name, the rows with their scores, chance.

    Raises:
        InputError: no scores, or scores of other questions.
    """
    found: dict[Column, tuple[list[Row], float | None]] = {}
    missing: dict[str, str] = {}
    for model in args.models:
        for contexts in args.contexts:
            path = scores_file(args.results_dir, f"{model}-{contexts}")
            if not path.is_file():
                print(f"note: no scores of {model}-{contexts} ({relative(path)})")
                continue
            rows, value = read_scores(path)[1], read_json(path)
            check_fields(value, {"missing": dict, "types": dict}, path=path, line=1)
            missing |= value["missing"]  # a column without a long answer misses no metric
            chance = [part["chance"] for part in value["types"].values() if "chance" in part]
            found[model, contexts] = (rows, chance[0] if chance else None)
            first = next(iter(found.values()))[0]
            if {row["id"] for row in rows} != {row["id"] for row in first}:
                problem = "has other questions than the first"
                raise InputError(problem, path=path, fix="Score all of them alike.")
    if not found:
        raise InputError("no scores in it", path=args.results_dir, fix="Run score.py first.")
    name = typed_scores.final_name(missing)
    return {column: (name, *known) for column, known in found.items()}


def summaries(rows: list[Row], kinds: list[str], final: str) -> dict:
    """Type → summary of its official value, and the final score's."""
    by_type = {
        kind: typed_scores.summary([r for r in rows if r["type"] == kind], typed_scores.official)
        for kind in kinds
    }
    return {**by_type, final: typed_scores.final_summary(rows)}


def grid(args, columns, kind: str, final: str) -> list[tuple[str, ...]]:
    """A row a model, a column a kind of contexts: value, interval, n_scored/n_total, cut."""
    lines = [("", *args.contexts)]
    for model in args.models:
        cells = []
        for contexts in args.contexts:
            rows = columns.get((model, contexts), ("", None, None))[1]
            cells.append("–" if rows is None else cell(rows, kind, final))
        lines.append((model, *cells))
    return lines


def cell(rows: list[Row], kind: str, final: str) -> str:
    some = [row for row in rows if kind in (final, row["type"])]
    if kind == final:
        found = typed_scores.final_summary(some)
        found = {"mean": found["value"], **found}
    else:
        found = typed_scores.summary(some, typed_scores.official)
    cut = sum(bool(row.get("cut")) for row in some)
    count = f"{found['n_scored']}/{found['n_total']}" + f", {cut} cut" * (cut > 0)
    if found["mean"] is None:
        return f"– {count}"
    low, high = found["interval"] or (float("nan"),) * 2
    return f"{found['mean']:.3f} [{low:.2f} {high:.2f}] {count}"


# ------------------------------------------------------------------------- paired differences


def training(args, columns, kinds, final) -> list[dict]:
    """Each model against the one before it, with the same contexts."""
    gaps = []
    for before, after in zip(args.models, args.models[1:], strict=False):
        for contexts in args.contexts:
            pair = ((before, contexts), (after, contexts))
            if all(name in columns for name in pair):
                gaps += differences(columns, pair[0], [pair[1]], kinds, final)
    return gaps


def retrieval(args, columns, kinds, final) -> list[dict]:
    """Each kind of contexts against the first one, with the same model."""
    gaps = []
    for model in args.models:
        names = [(model, contexts) for contexts in args.contexts if (model, contexts) in columns]
        if names[:1] == [(model, args.contexts[0])] and names[1:]:
            gaps += differences(columns, names[0], names[1:], kinds, final)
    return gaps


def differences(columns, base: Column, others: list[Column], kinds, final) -> list[dict]:
    found = []
    for kind in kinds:
        task = BY_TYPE[kind]
        runs = [
            results.Run(task, "-".join(name), task.scorer,
                        {r["id"]: r for r in columns[name][1] if r["type"] == kind})
            for name in (base, *others)
        ]  # fmt: skip
        found += [
            {"of": kind, "base": runs[0].model, **g} for g in compare_all(runs, runs[0].model)
        ]
    for name in others:
        gap = typed_scores.final_summary(columns[base][1], columns[name][1])
        own = {"difference": gap["value"], "interval": gap["interval"], "n_pairs": gap["n_scored"]}
        own |= {"of": final, "base": "-".join(base), "model": "-".join(name)}
        found.append({**own, "p_holm": None, "verdict": ""})
    return found


def paired(gaps: list[dict]) -> list[tuple[str, ...]]:
    lines: list[tuple[str, ...]] = [
        ("", "", "against", "difference", "95 % interval", "pairs", "p (Holm)", "verdict")
    ]
    for gap in gaps:
        difference, interval, p = gap["difference"], gap["interval"], gap["p_holm"]
        lines.append(
            (
                *(gap["of"], gap["model"], gap["base"]),
                "–" if difference is None else f"{difference:+.4f}",
                "{:+.4f} … {:+.4f}".format(*interval) if interval else "–",
                *(str(gap["n_pairs"]), "–" if p is None else f"{p:.3g}", gap["verdict"]),
            )
        )
    return lines


def as_markdown(table: tuple[str, list[tuple[str, ...]]]) -> str:
    title, lines = table
    rule = "|".join(["", *["---"] * len(lines[0]), ""])
    rows = ["| " + " | ".join(line) + " |" for line in lines]
    return "\n".join([f"### {title}", "", rows[0], rule, *rows[1:], ""])


if __name__ == "__main__":
    run(main)
