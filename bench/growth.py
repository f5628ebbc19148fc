"""How cost grows with the rows: seconds and memory of each step at 1, 10 and 100 times as many.

    python bench/growth.py                        # all: up to an hour on 2 cores
    python bench/growth.py merge check --rows 1000 --times 1 10
    python bench/growth.py page --models 20 --page_rows 1000

Steps   merge, check and split of 10,000, 100,000 and 1,000,000 made-up pairs (ten a term; one in a
        hundred nearly like another, one in a thousand one and the same message); score, vote,
        compare and report of 1,000, 10,000 and 100,000 answers of three models to ``reply``, and
        lexicon, the score of 100, 1,000 and 10,000 texts. Each is the script that people run.
Prints  of each step and size the seconds, the processor's, the most memory, and the exponent:
        log(processor's seconds more) ÷ log(rows more) against the size before. 1 is a step that
        does each row once; 2 one that holds each row against all others. To be reached: 8 GB, and
        no exponent near 2.
        ``page`` makes report.html of 20 models and 1,000 rows each: its megabytes and the seconds
        in which headless Chromium opens it, to be reached: 15 MB and 3 s.
Writes  --output, all figures as JSON (optional).
"""

from __future__ import annotations

import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src")]

from growth_data import write_answers, write_pairs  # noqa: E402

from malmat.cli import parser, positive, provenance, run, show_table  # noqa: E402
from malmat.errors import InputError  # noqa: E402
from malmat.files import write_json  # noqa: E402

BASES = {
    **dict.fromkeys(("merge", "check", "split"), 10_000),
    **dict.fromkeys(("score", "vote", "compare", "report"), 1_000),
    "lexicon": 100,
}
"""Rows of a step at its smallest size."""
MODELS = 3


def arguments():
    options = parser(__doc__)
    options.add_argument("steps", nargs="*", help="default: all, and page")
    options.add_argument("--rows", type=positive, help="of the smallest size, for every step")
    options.add_argument("--times", type=positive, nargs="+", default=[1, 10, 100])
    options.add_argument("--models", type=positive, default=20, help="of the page")
    options.add_argument("--page_rows", type=positive, default=1_000)
    options.add_argument("--output", help="a JSON file with all figures")
    args = options.parse_args()
    if unknown := set(args.steps) - {*BASES, "page"}:
        problem = f"unknown: {', '.join(sorted(unknown))}"
        raise InputError(problem, field="steps", fix=f"Of {', '.join(BASES)}, page.")
    args.steps = args.steps or [*BASES, "page"]
    return args


def main() -> None:
    args = arguments()
    found: list[dict] = []
    with tempfile.TemporaryDirectory() as folder:
        for step in [step for step in BASES if step in args.steps]:
            base = args.rows or BASES[step]
            for times in args.times:
                place = Path(folder) / f"{step}-{base * times}"
                place.mkdir()
                made = prepared(step, Path(folder), base * times)
                figures = {
                    "step": step,
                    "rows": base * times,
                    **measured(command_of(step, made, place)),
                }
                before = [row for row in found if row["step"] == step][-1:]
                figures["exponent"] = exponent(before[0], figures) if before else None
                found.append(figures)
                print("  ".join(line_of(figures)), flush=True)
        page = page_of(args, Path(folder) / "page") if "page" in args.steps else None
    if found:
        print()
        head = ("step", "rows", "seconds", "of the processor", "GB", "exponent")
        show_table([head, *map(line_of, found)])
    if page:
        said = "report.html of {models} models × {rows:,} rows: {megabytes:.1f} MB, "
        print((said + "opened in {seconds:.2f} s ({opened})").format(**page))
    if args.output:
        about = {"cores": os.cpu_count(), **provenance()}
        write_json(args.output, {"steps": found, "page": page, "machine": about})
        print(f"wrote {args.output}")


def line_of(figures: dict) -> tuple[str, ...]:
    grown = figures["exponent"]
    return (
        figures["step"],
        f"{figures['rows']:,}",
        f"{figures['seconds']:.1f}",
        f"{figures['processor']:.1f}",
        f"{figures['gigabytes']:.2f}",
        "" if grown is None else f"{grown:.2f}",
    )


def exponent(before: dict, after: dict) -> float:
    """How often the rows' growth stands in the growth of the processor's seconds."""
    more = after["processor"] / before["processor"]
    return math.log(more) / math.log(after["rows"] / before["rows"])


def prepared(step: str, folder: Path, rows: int) -> Path:
    """The folder of the input of so many rows, made once for the steps that share it."""
    kind = {"lexicon": "usage"}.get(step, "pairs" if BASES[step] == BASES["merge"] else "reply")
    place = folder / f"{kind}-{rows}"
    if not place.exists():
        place.mkdir()
        if kind == "pairs":
            write_pairs(place, rows)
        else:
            write_answers(place, kind, MODELS, rows)
    if step in ("compare", "report"):
        score_all(place)
    return place


def answers_in(place: Path) -> list[Path]:
    return sorted(place.glob("*_inference_results.json"))


def score_all(place: Path) -> None:
    for number, path in enumerate(answers_in(place)):
        if not list(place.glob(f"results/reply/score_results/model-{number:02}_*.json")):
            subprocess.run(score(path), check=True, stdout=subprocess.DEVNULL)


def score(answers: Path, *options: str) -> list[str]:
    """The command that scores a file of answers beside it."""
    model, task, *_ = answers.name.split("_")
    words = ["--model_name", model, "--score_mode", task, "--infer_results", answers]
    return script("eval/score.py", *words, "--results_dir", answers.parent / "results", *options)


def script(name: str, *words: object) -> list[str]:
    return [sys.executable, str(ROOT / "src" / name), *map(str, words)]


def command_of(step: str, made: Path, output: Path) -> list[str]:
    if step == "merge":
        halves = (made / "half-1.json", made / "half-2.json")
        return script("data/merge.py", *halves, "--output", output / "merged.json")
    if step in ("check", "split"):
        words = ["--input", made / "pairs.json", "--terms", made / "terms.csv"]
        if step == "check":
            return script("data/check.py", *words, "--output", output / "check.html")
        words += ["--questions", made / "evaluated.jsonl", "--heldout_share", 0.08]
        return script("data/split.py", *words, "--leaks", "report", "--output_dir", output)
    answers, results = answers_in(made), made / "results"
    if step == "lexicon":
        return score(answers[0], "--scorer_name", "lexicon")
    if step == "score":
        return score(answers[0])
    if step == "vote":
        return script("eval/vote.py", *answers, "--method", "soft", "--output", output / "v.json")
    if step == "compare":
        return script("eval/compare.py", *results.glob("reply/score_results/*[!n].json"))
    return report_of(results, output / "report.html")


def report_of(results: Path, page: Path) -> list[str]:
    return script("eval/report.py", "--results_dir", results, "--output", page)


def measured(command: list[str]) -> dict:
    """Seconds, of the processor too, and the most memory of a command that leaves with 0 or 1."""
    start = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        child = subprocess.Popen(command, stdout=said, stderr=said)
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.perf_counter() - start
        if child.returncode not in (0, 1):
            said.seek(0)
            raise InputError(said.read().decode()[-500:], field=command[1])
    return {
        "seconds": seconds,
        "processor": used.ru_utime + used.ru_stime,
        "gigabytes": used.ru_maxrss * 1024 / 1e9,
    }


def page_of(args, folder: Path) -> dict:
    """Size and loading time of the report of many models."""
    folder.mkdir()
    write_answers(folder, "reply", args.models, args.page_rows)
    score_all(folder)
    page = folder / "report.html"
    figures = measured(report_of(folder / "results", page))
    loaded = load_times(page)
    return {
        "models": args.models,
        "rows": args.page_rows,
        "made_in": figures,
        "megabytes": page.stat().st_size / 1e6,
        "loads": loaded,
        "seconds": statistics.median(loaded) if loaded else math.nan,
        "opened": "median of 3" if loaded else "no Chromium here",
    }


def load_times(page: Path) -> list[float]:
    """Seconds until headless Chromium has loaded and painted a page, three times."""
    from shutil import which

    browser = which("chromium") or which("chromium-browser") or which("google-chrome")
    if not browser:
        return []
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        for _ in range(3):
            view = chromium.new_page()
            start = time.perf_counter()
            view.goto(page.as_uri(), wait_until="load")
            view.evaluate(
                "() => new Promise(done => requestAnimationFrame(() => setTimeout(done)))"
            )
            times.append(time.perf_counter() - start)
            view.close()
        chromium.close()
    return times


if __name__ == "__main__":
    run(main)
