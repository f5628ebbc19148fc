"""Score files against each other: joined by id, tested by the book, refused where they differ."""

from __future__ import annotations

import json

import pytest
import scipy.stats

from malmat.errors import InputError
from malmat.evaluate import compare as library
from malmat.evaluate import results as store
from tasks import TASKS

TITLES = [f"말{number:02}" for number in range(20)]


def score_file(path, name, scores, *, judge="judge-a", task="understand", **more):
    """A score file; ``scores``: id → score, None for a failed answer."""
    field, figure = ("score", "average_score") if task == "understand" else ("used", None)
    rows = []
    for key, score in scores.items():
        status = "ok" if score is not None else "truncated"
        row = {"id": key, "question": f"{key}?", "answer": "응", "status": status, field: score}
        rows.append(row | ({"title": key.split("-")[0]} if task == "understand" else {}))
    present = [float(score) for score in scores.values() if score is not None]
    value = {
        "model_name": name,
        "scorer_name": judge,
        figure or "total_usage_rate": sum(present) / len(present) if present else None,
        "results": rows,
    } | more
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def results(folder, name, scores, *, judge="judge-a", task="understand", **more):
    path = folder / task / "score_results" / f"{name}_{task}_{judge}_score_results.json"
    return score_file(path, name, scores, judge=judge, task=task, **more)


@pytest.fixture
def three(tmp_path):
    """A base, one that is a point better on most terms, and one that is the base shuffled."""
    base = {title: 2 + (n % 2) for n, title in enumerate(TITLES)}
    better = {title: score + (n % 5 > 0) for n, (title, score) in enumerate(base.items())}
    other = {title: base[title] + (1, -1, 0, 0)[n % 4] for n, title in enumerate(TITLES)}
    for name, scores in (("base", base), ("better", better), ("other", other)):
        results(tmp_path, name, dict(reversed(scores.items())) if name == "better" else scores)
    return tmp_path


def read(folder, task="understand"):
    return {run.model: run for run in store.load_folder(folder, TASKS[task])}


# ------------------------------------------------------------------------- figures


def test_models_are_joined_by_id_and_tested(three):
    found = read(three)
    gap = library.compare(found["base"], found["better"])
    steps = [n % 5 > 0 for n in range(20)]
    assert gap["difference"] == pytest.approx(0.8)
    assert (gap["better"], gap["same"], gap["worse"]) == (16, 4, 0)
    assert (gap["n_pairs"], gap["n_rows"], gap["covered"]) == (20, 20, True)
    assert gap["p"] == pytest.approx(scipy.stats.wilcoxon([float(s) for s in steps]).pvalue)
    assert gap["interval"][0] > 0
    assert [row["item"] for row in gap["items"]] == sorted(
        TITLES, key=lambda title: (-steps[TITLES.index(title)], title)
    )
    assert gap["items"][0] == {"item": "말01", "before": 3, "after": 4, "difference": 1, "n": 1}


def test_rows_of_a_term_are_one_cluster(tmp_path):
    before = {f"{title}-{n}": 2 for title in TITLES[:3] for n in range(8)}
    results(tmp_path, "a", before)
    results(tmp_path, "b", dict.fromkeys(before, 3) | {f"말00-{n}": 2 for n in range(8)})
    found = read(tmp_path)
    gap = library.compare_all([found["a"], found["b"]], "a")[0]
    assert gap["better"] == 16
    # 24 rows, but three terms: no three things can be told from chance.
    assert gap["p"] == pytest.approx(scipy.stats.wilcoxon([0, 1, 1]).pvalue)
    assert gap["verdict"] == "tied"
    assert [(row["item"], row["n"]) for row in gap["items"]] == [
        ("말01", 8), ("말02", 8), ("말00", 8),
    ]  # fmt: skip


def test_usage_by_exact_mcnemar(tmp_path):
    before = {f"q{n}": n < 4 for n in range(30)}
    after = {f"q{n}": n in (0, 1, 2) or n >= 18 for n in range(30)}
    results(tmp_path, "a", before, task="usage")
    results(tmp_path, "b", after, task="usage")
    found = read(tmp_path, "usage")
    gap = library.compare_all(list(found.values()), "a")[0]
    assert (gap["better"], gap["worse"], gap["same"]) == (12, 1, 17)
    assert gap["p"] == pytest.approx(scipy.stats.binomtest(1, 13).pvalue)
    assert gap["p_holm"] == gap["p"]
    assert gap["verdict"] == "better"
    backwards = library.compare_all(list(found.values()), "b")[0]
    assert backwards["verdict"] == "worse"
    assert backwards["p"] == gap["p"]


def test_holm_over_all_models(three):
    gaps = {gap["model"]: gap for gap in library.compare_all(list(read(three).values()), "base")}
    assert gaps["better"]["verdict"] == "better"
    assert gaps["other"]["verdict"] == "tied"
    assert gaps["better"]["p_holm"] == pytest.approx(2 * gaps["better"]["p"])
    assert gaps["other"]["p_holm"] == max(gaps["other"]["p"], gaps["better"]["p_holm"])
    pairs = library.compare_all(list(read(three).values()))
    assert [(gap["baseline"], gap["model"]) for gap in pairs] == [
        ("base", "better"), ("base", "other"), ("better", "other"),
    ]  # fmt: skip
    assert pairs[0]["p_holm"] == pytest.approx(3 * pairs[0]["p"])


def test_holm_can_take_a_finding_back(tmp_path):
    before = {f"q{n}": False for n in range(40)}
    results(tmp_path, "a", before, task="usage")
    for name in "bcd":  # 6 gained, 0 lost: p = 0.03 alone, 0.09 among three
        results(tmp_path, name, {f"q{n}": n < 6 for n in range(40)}, task="usage")
    found = list(read(tmp_path, "usage").values())
    assert library.compare_all(found[:2], "a")[0]["verdict"] == "better"
    assert {gap["verdict"] for gap in library.compare_all(found, "a")} == {"tied"}


def test_a_minority_of_the_rows_is_too_few(tmp_path):
    results(tmp_path, "a", dict.fromkeys(TITLES, 1))
    for name, count in (("half", 10), ("most", 11), ("none", 0)):
        scores = {title: 5 if n < count else None for n, title in enumerate(TITLES)}
        results(tmp_path, name, scores)
    gaps = {gap["model"]: gap for gap in library.compare_all(list(read(tmp_path).values()), "a")}
    assert gaps["half"]["verdict"] == "too few to compare"
    assert gaps["half"]["p_holm"] is None
    assert gaps["most"]["verdict"] == "better"
    assert gaps["most"]["p_holm"] == gaps["most"]["p"]  # what is not compared is not counted
    assert gaps["none"]["verdict"] == "no common rows"
    assert gaps["none"]["difference"] is None


def test_terms_used_are_counted_on_common_rows(tmp_path):
    for name, terms in (("a", ["갓생"]), ("b", ["갓생", "점메추"])):
        scores = {"q0": True, "q1": True, "q2": None if name == "a" else True}
        path = results(tmp_path, name, scores, task="usage")
        value = json.loads(path.read_text())
        for row in value["results"]:
            row["terms"] = terms
        path.write_text(json.dumps(value))
    found = read(tmp_path, "usage")
    assert library.compare(found["a"], found["b"])["terms"] == [
        {"item": "점메추", "before": 0, "after": 2, "difference": 2},
        {"item": "갓생", "before": 2, "after": 2, "difference": 0},
    ]


def test_cautions_of_files_that_say_more_or_less(tmp_path):
    full = {"terms": "t", "judge_model": None, "full_list": False, "base_url": None}
    results(tmp_path, "a", {"말": 1}, settings=full)
    results(tmp_path, "b", {"말": 1}, settings=full | {"base_url": "http://x/v1", "terms": "u"})
    results(tmp_path, "c", {"말": 1})
    found = read(tmp_path)
    cautions = library.compare(found["a"], found["b"])["cautions"]
    assert [caution.split("(")[0].split(" of ")[-1] for caution in cautions] == [
        "the term list ", "base_url ",
    ]  # fmt: skip
    assert library.compare(found["a"], found["c"])["cautions"] == []


def test_figures_are_those_of_the_rows(tmp_path):
    more = {"n_scored": 9, "n_total": 9, "interval": [4, 5], "bounds": [4, 5]}
    path = score_file(tmp_path / "x.json", "x", {"말0": 1, "말1": 2, "말2": None}, **more)
    found = store.load(path, TASKS).summary()
    assert (found["mean"], found["n_scored"], found["n_total"]) == (1.5, 2, 3)
    assert found["bounds"] == [(3 + 1) / 3, (3 + 5) / 3]


def test_cautions_name_what_differs(tmp_path):
    results(tmp_path, "a", {"말": 1}, settings={"prompts": "aa", "n": 1})
    results(tmp_path, "b", {"말": 1}, settings={"prompts": "bb", "n": 1})
    found = read(tmp_path)
    (caution,) = library.compare(found["a"], found["b"])["cautions"]
    assert "the prompts (aa, bb)" in caution
    assert library.compare(found["a"], found["a"])["cautions"] == []


# --------------------------------------------------------------------------- files


def test_older_files_are_read(tmp_path):
    rows = [
        {"question": "갓생?", "answer": "부지런하게 산다는 말", "score": 5},
        {"question": "점메추?", "answer": "Error in generation: boom", "score": 1},
        {"question": "킹받네?", "answer": "화난다\nassistant\n또?", "score": 4},
        {"question": "억까?", "answer": "억지로 깐다", "score": 3},
    ]
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"model_name": "old", "average_score": 3.25, "results": rows}))
    run = store.load(path, TASKS)
    assert [row["status"] for row in run.rows.values()] == ["ok", "api_error", "leaked", "ok"]
    assert list(run.values().values()) == [5, None, None, 3]
    value = run.summary()
    assert (value["mean"], value["n_scored"], value["n_total"]) == (4, 2, 4)
    assert value["bounds"] == [(8 + 2) / 4, (8 + 10) / 4]
    assert len(run.rows) == 4
    from malmat.files import row_id

    assert next(iter(run.rows)) == row_id("question", "갓생?")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"average_score": ...}, "no mean nor average_score nor total_usage_rate"),
        ({"model_name": ...}, "field 'model_name': missing"),
        ({"settings": None}, "field 'settings': expected an object"),
        ({"score": 7}, r"results\[0\]\.score': expected a score from 1 to 5, found 7"),
        ({"score": None}, r"results\[0\]': no score, though the status is ok"),
        ({"status": "fine"}, r"results\[0\]\.status': unknown status"),
        ({"id": "말1"}, r"results\[1\]\.id': the same id"),
    ],
)
def test_bad_score_files_are_named(tmp_path, change, message):
    path = score_file(tmp_path / "x.json", "x", {"말0": 3, "말1": 4})
    value = json.loads(path.read_text())
    for key, new in change.items():
        place = value if key in value or key == "settings" else value["results"][0]
        if new is ...:
            del place[key]
        else:
            place[key] = new
    path.write_text(json.dumps(value))
    with pytest.raises(InputError, match=message):
        store.load(path, TASKS)


def test_two_files_of_one_model_are_told_apart(tmp_path):
    first = score_file(tmp_path / "understand/score_results/one.json", "m", {"말": 2})
    second = score_file(tmp_path / "understand/score_results/two.json", "m", {"말": 4})
    assert list(read(tmp_path)) == ["m (one)", "m (two)"]
    again = score_file(tmp_path / "elsewhere/one.json", "m", {"말": 2})
    names = store.distinct([store.load(path, TASKS) for path in (first, again)])
    assert [run.model for run in names] == [f"m ({first})", f"m ({again})"]
    assert names[0].answered_by == "m"
    assert second.exists()


# ---------------------------------------------------------------------- the script


def refused(result, *parts):
    assert result.returncode == 2, (result.stdout, result.stderr)
    (line,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert line.startswith("error: ")
    for part in parts:
        assert part in line


def test_the_script(script, three, tmp_path):
    output = tmp_path / "diff.json"
    result = script(
        "src/eval/compare.py", "base", "better", "other",
        *("--results_dir", three, "--output", output, "--show", 3),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert "understand, judged by judge-a: against base (2.50)" in lines
    row = next(line for line in lines if line.startswith("better "))
    assert "+0.80" in row
    assert "20/20" in row
    assert row.endswith("better")
    assert next(line for line in lines if line.startswith("other ")).endswith("tied")
    assert "better, better (16 of 20):" in lines
    assert "other, worse (5 of 20):" in lines
    (part,) = json.loads(output.read_text())
    assert part["baseline"] == "base"
    assert [gap["verdict"] for gap in part["comparisons"]] == ["better", "tied"]
    assert len(part["comparisons"][0]["items"]) == 20
    # The same by paths, and from another baseline.
    folder = three / "understand/score_results"
    paths = [folder / f"{n}_understand_judge-a_score_results.json" for n in ("base", "better")]
    result = script("src/eval/compare.py", *paths, "--baseline", paths[1])
    assert result.returncode == 0, result.stderr
    assert "against better" in result.stdout
    assert "−" not in result.stdout
    assert "-0.80" in result.stdout


def test_different_judges_are_refused(script, three):
    results(three, "far", dict.fromkeys(TITLES, 4), judge="judge-b")
    result = script("src/eval/compare.py", "base", "far", "--results_dir", three)
    refused(result, "different judges", "base: understand by judge-a", "far: understand by judge-b")
    found = list(read(three).values())
    with pytest.raises(InputError, match="different judges"):
        library.compare_all(found)
    # A judge that both were scored by is taken, and the other is named.
    results(three, "far", dict.fromkeys(TITLES, 4), judge="judge-a")
    result = script("src/eval/compare.py", "base", "far", "--results_dir", three)
    assert result.returncode == 0, result.stderr
    assert "left out, not scored for every model: understand by judge-b" in result.stdout


def test_what_is_not_there_is_named(script, three):
    words = ["--results_dir", three]
    refused(
        script("src/eval/compare.py", "base", "nobody", *words),
        "no scores of 'nobody'",
        "There are: base, better, other.",
    )
    refused(script("src/eval/compare.py", "base", *words), "two different models")
    refused(
        script("src/eval/compare.py", "base", "other", "--task", "usage", *words),
        "There are: understand by judge-a",
    )
    refused(
        script("src/eval/compare.py", "base", "nowhere.json", *words), "nowhere.json", "no such"
    )
