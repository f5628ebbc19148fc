"""The report: what it shows of score files, as figures, as a page, as Markdown and CSV."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest

from malmat.evaluate import plots, stats
from malmat.evaluate import report as library
from malmat.evaluate.results import Run, load_folder
from tasks import TASKS

TITLES = [f"말{number:02}" for number in range(12)]


def summary(rows, task):
    if task == "understand":
        values, clusters = [row["score"] for row in rows], [row["title"] for row in rows]
        return stats.summarize(values, low=1, high=5, clusters=clusters)
    values = [None if row["used"] is None else float(row["used"]) for row in rows]
    return stats.summarize(values, low=0, high=1, rate=True)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")


def score_file(folder, name, task, judge, rows, **more):
    """A score file as score.py writes it."""
    total = summary(rows, task)
    value = {
        "model_name": name,
        "scorer_name": judge,
        "average_score" if task == "understand" else "total_usage_rate": total["mean"],
        **{key: total[key] for key in ("n_scored", "n_total", "interval", "bounds")},
        "settings": {"scorer_name": judge, "n": 1, "prompts": "ab12"},
        "provenance": {"python": "3.11.7", "versions": {"openai": "3.52.0"}, "commit": "c0ffee"},
        "results": rows,
    }
    if task == "understand":
        for index, row in enumerate(rows):
            row["split"] = "seen" if index < 6 else "unseen"
    write(folder / task / f"score_results/{name}_{task}_{judge}_score_results.json", value | more)


@pytest.fixture
def folder(tmp_path):
    """Three models: one whole, one with failures of several kinds, one with the ways out."""
    folder = tmp_path / "results"
    for name, lift in (("base", 0), ("tuned", 1), ("weak|er", 0)):
        rows = []
        for number, title in enumerate(TITLES):
            row = {"id": f"u{number}", "title": title, "question": f"{title} 뭐야?", "status": "ok"}
            score = 2 + number % 3 + lift
            reply = json.dumps({"reason": f"{title} 뜻을 안다", "score": score}, ensure_ascii=False)
            row |= {"answer": f"{name}의 답", "score": score, "judge_replies": [reply]}
            rows.append(row | {"stage": "judge", "judge_version": "j-1"})
        if name == "weak|er":
            rows[0] |= {"status": "leaked", "score": None, "stage": "answer", "judge_replies": []}
            rows[0]["answer"] = "몰라\nassistant\n<script>alert(1)</script>"
            rows[1] |= {"status": "parse_error", "score": None, "judge_replies": ["글쎄요"]}
            rows[2] |= {"status": "blocked", "score": None, "answer": "", "stage": "answer"}
            rows[2] |= {"error": "blocked: SAFETY", "judge_replies": []}
        trust = {
            "length_correlation": {"rho": 0.31, "p": 0.0004, "n": 12},
            "run_on_rate": {"leaked": 1, "total": 12, "rate": 1 / 12},
            "self_agreement": {"n_judgements": 3, "exact": 0.75, "mean_sd": 0.2},
            "judge_family_warning": "Judge and model are relatives.",
            "judge_versions": ["j-1"],
        }
        more = {"usage": {"input": 1234, "output": 56}, "cost_usd": 0.25, "seconds": 75.0}
        score_file(folder, name, "understand", "judge", rows, trust=trust, **more)
        run = {"settings": {"temperature": 0.7 + lift, "top_p": 0.8, "output": "x"}}
        run |= {"provenance": {"python": "3.12"}}
        run["run"] = {"seconds": 2.0, "items_per_second": 6.0, "tokens": {"input": 77, "output": 8}}
        write(
            folder / f"understand/infer_results/{name}_understand_inference_results.run.json", run
        )
    for name, count in (("base", 2), ("tuned", 11)):
        rows = []
        for number in range(12):
            used = number < count
            row = {
                "id": f"q{number}",
                "question": f"질문 {number}?",
                "answer": "응",
                "status": "ok",
            }
            rows.append(row | {"used": used, "terms": ["갓생", "점메추"][: 1 + lift] * used})
        score_file(folder, name, "usage", "lexicon", rows)
    return folder


def section(folder, task="understand", baseline="base"):
    return library.section(load_folder(folder, TASKS[task]), baseline, folder)


# ------------------------------------------------------------------------- figures


def test_leaderboard_has_counts_intervals_bounds_and_verdicts(folder):
    part = section(folder)
    assert [row["name"] for row in part["rows"]] == ["tuned", "base", "weak|er"]
    tuned, base, weak = part["rows"]
    assert (weak["all"]["n_scored"], weak["all"]["n_total"]) == (9, 12)
    assert weak["all"]["bounds"][0] < weak["all"]["mean"] < weak["all"]["bounds"][1]
    assert (tuned["difference"]["verdict"], weak["difference"]["verdict"]) == ("better", "tied")
    assert base["difference"] is None
    assert tuned["slices"]["split"]["gap"]["difference"] == 0
    assert [piece["name"] for piece in tuned["slices"]["split"]["parts"]] == ["seen", "unseen"]


def test_a_mean_over_a_minority_does_not_lead(folder):
    runs = load_folder(folder, TASKS["understand"])
    for row in list(runs[1].rows.values())[:6]:
        row |= {"status": "truncated", "value": None}
    part = library.section(runs, "base", folder)
    assert [row["name"] for row in part["rows"]] == ["base", "weak|er", "tuned"]


def test_without_a_baseline_each_is_compared_with_each(folder):
    part = section(folder, baseline=None)
    assert len(part["gaps"]) == 3
    assert all(row["difference"] is None for row in part["rows"])
    assert part["baseline"] is None


def test_ledger_says_where_each_row_ended(folder):
    ledger = section(folder)["ledger"]
    assert ledger["columns"] == [
        ("", "ok"), ("answer", "blocked"), ("answer", "leaked"), ("judge", "parse_error"),
    ]  # fmt: skip
    counts = {row["name"]: (row["counts"], row["total"]) for row in ledger["rows"]}
    assert counts == {
        "tuned": ([12, 0, 0, 0], 12), "weak|er": ([9, 1, 1, 1], 12), "base": ([12, 0, 0, 0], 12),
    }  # fmt: skip


def test_failed_rows_show_what_is_left(folder):
    failed = {row["item"]: row for row in section(folder)["failed"]}
    assert set(failed) == {"말00", "말01", "말02"}
    assert failed["말00"]["text"].startswith("몰라 assistant")
    assert failed["말01"]["text"] == "글쎄요"
    assert failed["말02"]["text"] == "blocked: SAFETY"
    long = {"status": "truncated", "question": "?", "answer": "처음" + "가" * 999 + "끝"}
    (row,) = library.failed(Run(TASKS["understand"], "m", "judge", {"a": long}))
    assert row["text"].startswith("…")
    assert row["text"].endswith("끝")
    assert len(row["text"]) == library.EXCERPT + 2


def test_distributions_count_scores_and_not_failures(folder):
    tuned, _, weak = section(folder)["distributions"]["figures"]
    assert [bar["count"] for bar in tuned["bars"]] == [0, 0, 4, 4, 4]
    assert sum(bar["count"] for bar in weak["bars"]) == weak["n"] == 9
    assert sum(bar["share"] for bar in weak["bars"]) == pytest.approx(1)
    usage = section(folder, "usage")["distributions"]["figures"]
    base = next(figure for figure in usage if figure["name"] == "base")
    assert [bar["count"] for bar in base["bars"]] == [10, 2, 0, 0]


def test_fractional_scores_get_half_points(tmp_path):
    rows = [
        {"id": f"{score}", "title": f"{score}", "question": "?", "answer": "응", "status": "ok"}
        | {"score": score, "probabilities": [0.1, 0.2, 0.3, 0.3, 0.1]}
        for score in (1.0, 1.49, 1.5, 4.99, 5.0)
    ]
    score_file(tmp_path, "m", "understand", "local", rows)
    part = section(tmp_path, baseline=None)
    bars = {bar["label"]: bar["count"] for bar in part["distributions"]["figures"][0]["bars"]}
    assert bars == {"1": 2, "1.5": 1, "2": 0, "2.5": 0, "3": 0, "3.5": 0, "4": 0, "4.5": 2}
    assert part["answers"][0]["answers"][0]["judge"] == ["1: 10%  2: 20%  3: 30%  4: 30%  5: 10%"]
    assert part["gaps"] == []


def test_terms_and_answers_are_joined_by_id(folder):
    part = section(folder)
    row = next(row for row in part["terms"] if row["term"] == "말01")
    assert [cell["note"] for cell in row["cells"]] == ["4", "3", "parse_error"]
    assert [cell["value"] for cell in row["cells"]] == [4, 3, None]
    entry = next(entry for entry in part["answers"] if entry["title"] == "말01")
    shown = {a["model"]: (a["score"], a["status"], a["judge"]) for a in entry["answers"]}
    assert shown == {
        "tuned": ("4", "ok", ["말01 뜻을 안다"]),
        "weak|er": (None, "parse_error", ["글쎄요"]),
        "base": ("3", "ok", ["말01 뜻을 안다"]),
    }
    usage = section(folder, "usage")
    assert {row["term"]: [c["value"] for c in row["cells"]] for row in usage["terms"]} == {
        "갓생": [11, 2],
    }


def test_settings_that_differ_stand_apart(folder):
    settings = section(folder)["settings"]
    assert settings["differing"] == [("answer.temperature", [1.7, 0.7, 0.7])]
    assert ("answer.top_p", 0.8) in settings["common"]
    assert ("judge.prompts", "ab12") in settings["common"]
    assert not any("output" in key for key, _ in settings["common"])


@pytest.mark.parametrize(
    ("reach", "limit"), [(0.05, 0.1), (0.11, 0.2), (0.5, 0.5), (0.72, 1), (1.2, 2), (3.5, 4)]
)
def test_the_axis_of_differences(reach, limit):
    gaps = [{"interval": [-0.01, reach]}, {"interval": None}]
    assert plots.round_limit(gaps, 4) == pytest.approx(limit)


# ---------------------------------------------------------------------------- page


class Page(HTMLParser):
    """Tags that are opened and closed, and what is on them."""

    VOID = ("meta", "br", "input", "line", "circle", "rect")

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text = [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open and "script" not in self.open:
            self.text.append(data)


@pytest.fixture
def page(script, folder, tmp_path):
    path = tmp_path / "report.html"
    files = ("--output", path, "--markdown", tmp_path / "r.md", "--csv", tmp_path / "r.csv")
    result = script("src/eval/report.py", "--results_dir", folder, "--baseline", "base", *files)
    assert result.returncode == 0, result.stderr
    assert "9/12" in result.stdout
    assert "(9 pairs, tied)" in result.stdout
    return path


def test_the_page_stands_alone_and_is_well_formed(page):
    text = page.read_text(encoding="utf-8")
    parsed = Page(text)
    assert parsed.open == []
    for outside in ("http://", "https://", "src=", "@import", "url("):
        assert outside not in text
    ids = [attrs["id"] for _, attrs in parsed.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in parsed.tags:
        if tag == "th":
            assert attrs.get("scope")
        if tag == "a":
            assert attrs["href"].removeprefix("#") in ids
        if tag == "svg":
            assert attrs.get("aria-label") or attrs.get("aria-hidden")
        if "data-filter" in attrs:
            assert attrs["data-filter"] in ids
    # Text of a model is text: nothing in an answer is markup.
    assert "<script>alert" not in text
    assert html.escape("<script>alert(1)</script>") in text
    assert len([tag for tag, _ in parsed.tags if tag == "script"]) == 1


def test_the_page_says_all_there_is(page):
    text = " ".join(" ".join(Page(page.read_text(encoding="utf-8")).text).split())
    for shown in (
        "Understanding, judged by judge",
        "Usage, judged by lexicon",
        "Holm's correction over 2 comparisons",
        "better",
        "tied",
        "seen",
        "말01 뜻을 안다",  # the judge's reason
        "글쎄요",  # a reply that could not be read
        "blocked: SAFETY",
        "ρ = +0.31",
        "p < 0.001, n = 12",
        "75 %",
        "Judge and model are relatives.",
        "1 min",
        "2 s",
        "77",
        "1,234",
        "Together $0.75",
        "answer.temperature",
        "commit c0ffee",
    ):
        assert shown in text.replace("\xa0", " "), shown
    assert text.count("Judge and model are relatives.") == 1


def test_without_the_added_figures_the_page_leaves_them_out(script, folder, tmp_path):
    for path in folder.glob("*/score_results/*.json"):
        value = json.loads(path.read_text())
        for key in ("trust", "usage", "cost_usd", "seconds", "settings", "provenance"):
            value.pop(key, None)
        path.write_text(json.dumps(value))
    shutil.rmtree(folder / "understand/infer_results")
    page = tmp_path / "r.html"
    result = script("src/eval/report.py", "--results_dir", folder, "--output", page)
    assert result.returncode == 0, result.stderr
    text = page.read_text(encoding="utf-8")
    assert "Cost and time" not in text
    assert "How far to trust" not in text
    assert "Difference of each pair" in text


def test_nothing_scored_at_all_is_shown_as_such(script, tmp_path):
    rows = [
        {"id": "a", "title": "말", "question": "?", "answer": "", "status": "empty", "score": None}
    ]
    for name in ("one", "two"):
        score_file(tmp_path / "out", name, "understand", "judge", rows)
    page = tmp_path / "r.html"
    words = ("--results_dir", tmp_path / "out", "--output", page, "--baseline", "one")
    result = script("src/eval/report.py", *words)
    assert result.returncode == 0, result.stderr
    assert "0/1" in result.stdout
    assert "no common rows" in page.read_text(encoding="utf-8")


def test_markdown_and_csv(page, tmp_path):
    lines = (tmp_path / "r.md").read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("| Model | Understanding, judged by judge | Usage, judged by")
    assert lines[2].startswith("| tuned | 4.00 [")
    assert "(12/12), better" in lines[2]
    assert lines[4].startswith("| weak\\|er | ")
    assert re.search(r"\(9/12, bounds \d\.\d\d … \d\.\d\d\), tied \| – \|$", lines[4])
    assert lines[3].startswith("| base (baseline) | ")
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 4 for line in lines[:5])
    rows = list(csv.DictReader((tmp_path / "r.csv").open(encoding="utf-8")))
    assert len(rows) == 3 * 3 + 2
    tuned = next(row for row in rows if (row["model"], row["task"]) == ("tuned", "understand"))
    assert (tuned["terms"], float(tuned["mean"]), tuned["verdict"]) == ("all", 4, "better")
    assert float(tuned["difference"]) == 1
    assert float(tuned["p_holm"]) < 0.05
    weak = next(row for row in rows if row["model"] == "weak|er")
    assert (weak["n_scored"], weak["n_total"]) == ("9", "12")


def test_a_baseline_that_is_not_there_is_refused(script, folder, tmp_path):
    page = tmp_path / "r.html"
    words = ("--results_dir", folder, "--output", page, "--baseline", "nobody")
    result = script("src/eval/report.py", *words)
    assert result.returncode == 2
    assert result.stderr == "error: field 'baseline': no scores of 'nobody'\n"
    assert not page.exists()


# ------------------------------------------------------------------------- browser

WIDTHS = [320, 390, 768, 959, 961, 1280]
PROBE = """<!doctype html><body><pre id="found"></pre><script>
var page = PAGE, found = {errors: []};
const show = (width) => new Promise((done) => {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width: ${width}px; height: 900px`;
  frame.onload = () => done(frame);
  frame.srcdoc = page;
  document.body.append(frame);
});
const check = async () => {
  for (const width of WIDTHS) {
    const frame = await show(width), inside = frame.contentDocument;
    for (const part of inside.querySelectorAll("details")) part.open = true;
    const root = inside.documentElement;
    const wide = [...inside.body.querySelectorAll("*")].filter((part) =>
      part.getBoundingClientRect().right > root.clientWidth + 1 && !part.closest(".scroll *"));
    found[width] = [root.scrollWidth - root.clientWidth, ...wide.map((part) => part.outerHTML)];
  }
  const frame = await show(1280), inside = frame.contentDocument;
  const box = inside.querySelector("[data-filter$=-terms]");
  found.search = !box.closest(".find").hidden;
  box.value = "말03";
  box.dispatchEvent(new frame.contentWindow.Event("input"));
  const table = inside.getElementById(box.dataset.filter);
  const left = () => [...table.tBodies[0].rows].filter((row) => !row.hidden);
  found.left = left().map((row) => row.cells[0].textContent);
  box.value = "";
  box.dispatchEvent(new frame.contentWindow.Event("input"));
  table.tHead.rows[0].cells[1].querySelector("button").click();
  found.sorted = left().map((row) => +row.cells[1].dataset.value);
};
addEventListener("error", (event) => found.errors.push(event.message));
check().catch((error) => found.errors.push(String(error))).finally(() => {
  document.getElementById("found").textContent = JSON.stringify(found);
  document.title = "done";
});
</script>"""

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_in_a_browser_nothing_overflows_and_search_and_sorting_work(page, tmp_path):
    text = page.read_text(encoding="utf-8")
    # Errors of the page itself are raised to the frame's parent.
    listen = (
        "<script>addEventListener('error', (e) => parent.found.errors.push(e.message))</script>"
    )
    text = json.dumps(text.replace("<head>", "<head>" + listen)).replace("</", "<\\/")
    probe = tmp_path / "probe.html"
    probe.write_text(PROBE.replace("PAGE", text).replace("WIDTHS", str(WIDTHS)), encoding="utf-8")
    result = subprocess.run(
        [
            CHROMIUM,
            *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--disable-background-networking", "--virtual-time-budget=10000", "--dump-dom"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1400,1000"),
            probe.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    shown = re.search(r'<pre id="found">(.*?)</pre>', result.stdout, re.DOTALL)
    assert shown, result.stderr
    found = json.loads(html.unescape(shown[1]))
    assert found["errors"] == []
    for width in WIDTHS:
        assert found[str(width)] == [0], width
    assert found["search"]
    assert found["left"] == ["말03"]
    assert found["sorted"] == sorted(found["sorted"], reverse=True)
    assert len(found["sorted"]) == 12
