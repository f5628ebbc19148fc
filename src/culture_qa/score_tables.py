"""What ``score.py`` prints: a model's figures, and models compared."""

from __future__ import annotations

from pathlib import Path

from malmat.cli import show_table
from malmat.contests import typed_scores
from malmat.contests.typed_questions import TYPES
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.compare import compare_all
from malmat.evaluate.task import Row
from malmat.files import check_fields, plain_name, read_json
from task import BY_TYPE


def scores_file(folder: str, name: str) -> Path:
    return Path(folder) / "culture_qa" / f"{plain_name(name)}_scores.json"


def show(figures: dict, name: str) -> None:
    """Print the figures, the contest's first."""
    for kind, part in figures["types"].items():
        chance = f", chance {part['chance']:.3f}" if "chance" in part else ""
        print(f"{kind}{chance}")
        for metric in sorted(part["metrics"], key=lambda m: m not in typed_scores.OFFICIAL[kind]):
            whose = "official" if metric in typed_scores.OFFICIAL[kind] else "own"
            print(f"  {metric} ({whose}): {results.headline(part['metrics'][metric])}")
        for field in ("category", "domain"):
            for value, summary in part[field].items():
                print(f"    {value}: {results.headline(summary)}")
    for metric, why in figures["missing"].items():
        print(f"missing: {metric}: {why}")
    for metric, rho in figures["agreement_with_length"].items():
        said = ", ".join(f"{what} {r:+.2f}" for what, r in rho.items() if r is not None)
        print(f"  {metric} by Spearman's rho with the answer's {said or 'length: –'}")
    final = figures[name]
    if final["value"] is None:
        counts = f"{final['n_scored']}/{final['n_total']}"
        print(f"{name}: – ({counts}; a type has no scored row)")
    else:
        print(f"{name}: {results.headline({'mean': final['value'], **final})}")


def compare(folder: str, names: list[str]) -> None:
    """Compare models with the first one, paired by id, by type and in the final score."""
    compare_rows([read_scores(scores_file(folder, name)) for name in names])


def compare_rows(files: list[tuple[str, list[Row]]]) -> None:
    """The same for models' names and rows, as ``read_scores`` gives them."""
    lines = [("", "model", "score", "difference", "95 % interval", "pairs", "p (Holm)", "verdict")]
    for kind in typed_scores.types_of(files[0][1]):
        task = BY_TYPE[kind]
        runs = [
            results.Run(task, name, task.scorer, {r["id"]: r for r in rows if r["type"] == kind})
            for name, rows in files
        ]
        for gap in compare_all(runs, runs[0].model):
            lines.append((kind, gap["model"], *cells(gap, gap["means"][1], gap["n_pairs"])))
    for name, rows in files[1:]:
        gap = typed_scores.final_summary(files[0][1], rows)
        value = typed_scores.final_summary(rows)["value"]
        gap |= {"difference": gap["value"], "p_holm": None, "verdict": ""}
        lines.append(("final", name, *cells(gap, value, gap["n_scored"])))
    print(f"against {files[0][0]}, intervals over topics")
    show_table(lines)


def cells(gap: dict, value: float | None, pairs: int) -> tuple[str, ...]:
    low_high, p = gap["interval"], gap["p_holm"]
    return (
        "–" if value is None else f"{value:.4f}",
        "–" if gap["difference"] is None else f"{gap['difference']:+.4f}",
        "{:+.4f} … {:+.4f}".format(*low_high) if low_high else "–",
        str(pairs),
        "–" if p is None else f"{p:.3g}",
        gap["verdict"],
    )


def read_scores(path: Path) -> tuple[str, list[Row]]:
    """A score file's name and rows, each with its ``value`` by the task's scorer.

    Raises:
        InputError: a file, or a row of it, that score.py did not write.
    """
    value = check_fields(read_json(path), {"model_name": str, "results": list}, path=path, line=1)
    for number, row in enumerate(value["results"]):
        check_row(row, f"results[{number}]", path)
    return value["model_name"], with_values(value["results"])


def check_row(row: object, where: str, path: Path) -> None:
    kinds = {"id": str, "type": str, "status": str, "scores": dict}
    known = row if isinstance(row, dict) else {}
    wrong = [name for name, kind in kinds.items() if not isinstance(known.get(name), kind)]
    if not wrong and known["type"] not in TYPES:
        wrong = ["type"]
    if not wrong and not (known.get("title") or known.get("question")):
        wrong = ["title"]
    if wrong:
        problem = f"is missing or not as score.py writes it, in the row {known.get('id', where)!r}"
        fix = "Score the answers again (score.py)."
        raise InputError(problem, path=path, field=f"{where}.{wrong[0]}", fix=fix)


def with_values(rows: list[Row]) -> list[Row]:
    """Rows with ``value``: by the first of the contest's metrics."""
    return [
        {**row, "value": row["scores"].get(typed_scores.OFFICIAL[row["type"]][0])} for row in rows
    ]
