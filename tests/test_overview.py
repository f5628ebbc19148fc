"""The report over all tasks: what changed, which scorers make a headline, choices side by side."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace

import pytest
from test_report import WIDTHS, browser, probe

import report as page_script
from malmat.errors import InputError
from malmat.evaluate import plots, results
from malmat.evaluate import report as library
from malmat.evaluate.overview import overview, sentence
from malmat.evaluate.tables import own_figures
from malmat.evaluate.task import GRADE, LOSS, SHARE
from tasks import TASKS

CHOICES = ["<b>진짜</b>", "가짜 하나", "가짜 둘"]


def row(task, number, value, **more):
    title = f"말{number:02}"
    found = {"id": f"{task}{number}", "question": f"{title} 뭐야?", "title": title, "status": "ok"}
    found |= {"answer": "답", "value": value, "split": "seen" if number % 2 else "unseen"}
    return found | more


def choice(task, number, right, **more):
    picked = CHOICES[0] if right else CHOICES[1]
    chances = [0.7, 0.2, 0.1] if right else [0.2, 0.7, 0.1]
    known = {"choices": CHOICES, "target": CHOICES[0], "probabilities": chances}
    return row(task, number, float(right), answer=picked, **known, **more)


def save(root, task, model, scorer, rows, **more):
    run = results.Run(TASKS[task], model, scorer, {r["id"]: r for r in rows})
    results.save(results.scores_path(root, TASKS[task], model, scorer), run, more)


@pytest.fixture
def folder(tmp_path):
    """base and tuned: reply and loss get better, usage worse, meaning not, understanding by a
    judge that is known to be blind."""
    root = tmp_path / "results"
    for step, model in enumerate(("base", "tuned")):
        reply = [choice("reply", n, n < 10 + 14 * step) for n in range(40)]
        meaning = [choice("meaning", n, n % 4 == step) for n in range(40)]
        loss = [choice("reply", n, True) | {"value": 5.4 + n / 99 - step} for n in range(40)]
        usage = [row("usage", n, float(n < 20 - 12 * step)) for n in range(40)]
        grades = [row("understand", n, 3 + n % 2 / 2, answer=f"{model} {n}") for n in range(12)]
        if not step:
            reply[39] |= {"status": "truncated", "value": None, "answer": "잘린 답"}
        save(root, "reply", model, "accuracy", reply)
        save(root, "meaning", model, "accuracy", meaning)
        save(root, "loss", model, "nll", loss)
        save(root, "usage", model, "lexicon", usage)
        save(root, "understand", model, "local:embedded", grades)
    return root


def sections(root, baseline="base"):
    return page_script.read_sections(root, baseline)


def calibrate(root, task, scorer, kappa, interval):
    path = results.calibration_path(root, TASKS[task], scorer)
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"kappa": kappa, "interval": interval, "n_scored": 40}))


# -------------------------------------------------------------------- what changed


def test_one_sentence_says_what_changed(folder):
    (table,) = overview(sections(folder), "Training")
    figures = r"\(\d\.\d\d → \d\.\d\d, [+−]\d\.\d\d \[[+−]\d\.\d\d … [+−]\d\.\d\d\], n = \d\d\)"
    assert re.fullmatch(
        rf"Training improved Reply {figures} and Loss {figures} and worsened Usage {figures}; "
        rf"no change could be shown in Meaning {figures}; "
        r"Understanding was not judged by a scorer that can be trusted\.",
        table["sentence"],
    )
    # The base has no answer to one of the 40, and the means are of the other 39.
    assert "Reply (0.26 → 0.62, +0.36 [" in table["sentence"]
    assert "n = 39)" in table["sentence"]
    (table,) = overview(sections(folder))
    assert table["sentence"].startswith("The step from base to tuned improved Reply (")
    assert overview(sections(folder, None)) == []


def line(verdict, title="Reply", scorer="accuracy", **more):
    gap = {"verdict": verdict, "n_pairs": 9, "n_rows": 40, "means": [0.1, 0.2], "interval": None}
    part = {"task": replace(TASKS["reply"], title=title), "scorer": scorer}
    return {
        "part": part,
        "slice": None,
        "gap": gap | {"difference": 0.1} | more if verdict else None,
    }


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], ""),
        (
            [line("tied")],
            "It made no change that could be shown in Reply (0.10 → 0.20, +0.10, n = 9).",
        ),
        (
            [line("too few to compare"), line(None, "A"), line(None, "B")],
            "Too few rows have a score of both models in Reply (9 of 40); A and B were not judged "
            "by a scorer that can be trusted.",
        ),
        (
            [line("worse", scorer="x"), line("worse"), line(None, scorer="y")],
            "It worsened Reply, judged by x (0.10 → 0.20, +0.10, n = 9) and "
            "Reply (0.10 → 0.20, +0.10, n = 9).",
        ),
    ],
)
def test_sentences_of_other_outcomes(lines, said):
    assert sentence(lines, "It") == said


def test_the_table_has_a_line_a_task_and_a_line_a_slice(folder):
    (table,) = overview(sections(folder))
    shown = [(line["part"]["task"].name, line["slice"]) for line in table["lines"]]
    apart = [(name, ("split", value)) for name in ("reply",) for value in ("seen", "unseen")]
    assert shown[:3] == [("reply", None), *apart]
    assert [name for name, part in shown if part is None] == [
        "reply", "loss", "meaning", "usage", "understand",
    ]  # fmt: skip
    assert table["lines"][-1]["gap"] is None


# --------------------------------------------------------------- whom to trust


def test_a_scorer_known_to_be_blind_makes_no_headline(script, folder, tmp_path):
    page, table = tmp_path / "r.html", tmp_path / "r.md"
    words = ("--results_dir", folder, "--baseline", "base", "--output", page, "--markdown", table)
    result = script("src/eval/report.py", *words, "--change", "Training")
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[-1].startswith("Training improved Reply (")
    (shown, _) = [line for line in lines if line.startswith("understand ")]
    assert "answers only" in shown
    assert not re.search(r"\d\.\d", shown)
    assert table.read_text().splitlines()[2].endswith("| – (answers only) |")
    text = page.read_text(encoding="utf-8")
    titles = re.findall(r"<h2[^>]*>(.*?)</h2>", text)
    assert titles == [
        "Reply", "Loss", "Meaning", "Usage, judged by lexicon",
        "Understanding, judged by local:embedded",
    ]  # fmt: skip
    last = text[text.index(titles[-1] + "</h2>") :]
    folded = last.index("<details><summary>The figures of local:embedded: kappa 0.00 [0.00 … 0.01]")
    assert last.index("tuned 11") < folded < last.index("3.25")
    assert "kappa 0.24 [0.12 … 0.36] on 115 anchors" in text  # the lexicon's, which may be shown


def test_what_calibrate_found_wins(folder):
    calibrate(folder, "understand", "local:embedded", 0.6, [0.4, 0.7])
    calibrate(folder, "usage", "lexicon", 0.1, [-0.1, 0.2])
    found = {part["task"].name: part for part in sections(folder)}
    assert found["understand"]["trusted"]
    assert not found["usage"]["trusted"]
    assert found["usage"]["agreement"].anchors == 40
    assert list(found)[-1] == "usage"
    path = results.calibration_path(folder, TASKS["usage"], "lexicon")
    path.write_text("{}")
    with pytest.raises(InputError, match="no kappa"):
        sections(folder)


# ----------------------------------------------------------- values, axes, answers


def test_choices_stand_beside_what_each_model_made_of_them(script, folder, tmp_path):
    entry = next(e for e in sections(folder)[0]["answers"] if e["title"] == "말12")
    assert [one["right"] for one in entry["choices"]] == [True, False, False]
    assert [[m["picked"] for m in one["models"]] for one in entry["choices"]] == [
        [True, False], [False, True], [False, False],
    ]  # fmt: skip
    assert [answer["score"] for answer in entry["answers"]] == ["right", "wrong"]
    page = tmp_path / "r.html"
    words = ("--results_dir", folder, "--baseline", "base", "--output", page)
    assert script("src/eval/report.py", *words).returncode == 0
    text = page.read_text(encoding="utf-8")
    assert "<b>진짜" not in text
    assert '<span class="pick picked">tuned 70&nbsp;%, <b>picked</b></span>' in text
    assert "잘린 답" in text


def test_numbers_of_the_csv_are_round(script, folder, tmp_path):
    table = tmp_path / "r.csv"
    words = ("--results_dir", folder, "--baseline", "base", "--output", tmp_path / "r.html")
    assert script("src/eval/report.py", *words, "--csv", table).returncode == 0
    text = table.read_text(encoding="utf-8")
    assert not re.search(r"[1-9]\d*\.\d{6}|\d\.0*[1-9]\d{6}", text)
    loss = [r for r in csv.DictReader(text.splitlines()) if r["task"] == "loss"]
    assert [(r["model"], r["terms"], r["slice"]) for r in loss[:3]] == [
        ("tuned", "all", ""), ("tuned", "seen", "split"), ("tuned", "unseen", "split"),
    ]  # fmt: skip
    assert (loss[0]["verdict"], loss[0]["difference"]) == ("better", "-1")


def test_axes_and_histograms_of_all_scales():
    part = {"mean": 4.9, "interval": [4.43, 5.6]}
    assert plots.axis(LOSS, [part]) == {"low": 4, "high": 6, "ticks": [4, 4.5, 5, 5.5, 6]}
    assert plots.axis(LOSS, [{"mean": None, "interval": None}])["low"] == 0
    assert plots.axis(GRADE, [part])["ticks"] == [1, 2, 3, 4, 5]
    assert plots.bin_starts(GRADE, [1, 5]) == [1, 2, 3, 4, 5]
    assert plots.bin_starts(SHARE, [0.5]) == [pytest.approx(n / 10) for n in range(10)]
    starts = plots.bin_starts(LOSS, [4.43, 5.6])
    assert starts[0] <= 4.43
    assert starts[-1] <= 5.6 < starts[-1] + 0.2
    assert plots.round_limit([], float("inf")) == 1


def test_any_slice_and_any_figure_is_shown(folder):
    task = replace(
        TASKS["reply"],
        slices=("source", "n_choices"),
        figures={"macro-F1": lambda rows: sum(r["value"] for r in rows) / len(rows)},
    )
    runs = results.load_folder(folder, task)
    for run in runs:
        for number, one in enumerate(run.rows.values()):
            one |= {"source": "abc"[number % 3], "n_choices": 10 if number % 2 else 9}
    part = library.section(runs, "base", folder)
    first = part["rows"][0]
    assert [piece["name"] for piece in first["slices"]["source"]["parts"]] == ["a", "b", "c"]
    assert [piece["name"] for piece in first["slices"]["n_choices"]["parts"]] == ["9", "10"]
    assert first["slices"]["source"]["gap"] is None
    assert first["slices"]["n_choices"]["gap"]["interval"]
    text = page_script.render("t", [part], overview([part]))
    for shown in ("By source", "By n_choices", "macro-F1", "source a", "10 − 9"):
        assert shown in text
    # A task that asks about no terms has titles of another kind.
    assert "Title by title (" in text
    assert "Term by term" not in text
    (line,) = own_figures(runs)
    for run in runs:
        assert f"{run.model} {run.summary()['mean']:.3f} [" in line


@browser
def test_all_tasks_fit_a_phone(folder, tmp_path):
    page = sections(folder)
    found = probe(page_script.render("t", page, overview(page)), tmp_path)
    assert found["errors"] == []
    for width in WIDTHS:
        assert found[str(width)] == [0], width
    assert found["left"] == ["말03"]
