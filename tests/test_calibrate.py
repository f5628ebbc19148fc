"""Checking a judge: the figures of agreement, the anchors that ship, the script."""

from __future__ import annotations

import json
from collections import Counter

import numpy as np
import pytest

from malmat.errors import InputError
from malmat.evaluate import agreement
from malmat.evaluate.anchors import read_anchors
from malmat.evaluate.task import GRADE, RATE
from malmat.files import read_rows
from malmat.formats import read_pairs, read_questions, read_terms
from malmat.lm.chat import run_on
from tasks import TASKS
from tests.conftest import ROOT
from tests.fake_llm import FakeLLM

# ----------------------------------------------------------------------------- figures


def test_weighted_kappa_is_that_of_statsmodels():
    from statsmodels.stats.inter_rater import cohens_kappa

    generator = np.random.default_rng(1)
    first = generator.integers(1, 6, 80)
    second = np.clip(first + generator.integers(-2, 2, 80), 1, 5)
    table = np.zeros((5, 5))
    np.add.at(table, (first - 1, second - 1), 1)
    expected = cohens_kappa(table, wt="quadratic", return_results=False)
    result = agreement.weighted_kappa(first, second)
    assert result["kappa"] == pytest.approx(expected)
    assert result["interval"][0] < expected < result["interval"][1]


def test_kappa_of_two_categories_is_the_unweighted_one():
    # Observed 0.70, by chance 0.5 · 0.6 + 0.5 · 0.4 = 0.50.
    first = [1] * 25 + [0] * 25
    second = [1] * 20 + [0] * 5 + [1] * 10 + [0] * 15
    assert agreement.weighted_kappa(first, second)["kappa"] == pytest.approx(0.4)


def test_kappa_of_scores_that_are_not_whole():
    # Lin's concordance by its own formula: 2 s_xy / (s_x² + s_y² + (mean x − mean y)²).
    x, y = np.array([1, 2, 3, 4, 5.0]), np.array([1.4, 2.2, 2.9, 4.6, 4.9])
    covariance = np.cov(x, y, bias=True)[0, 1]
    expected = 2 * covariance / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)
    assert agreement.weighted_kappa(x, y)["kappa"] == pytest.approx(expected)


def test_no_kappa_where_nothing_can_be_said():
    nothing = {"kappa": None, "interval": None}
    assert agreement.weighted_kappa([], []) == nothing
    assert agreement.weighted_kappa([3, 3, 3], [3, 3, 3]) == nothing
    few = agreement.weighted_kappa([1, 2, 3], [1, 2, 4])
    assert few["kappa"] > 0.8
    assert few["interval"] is None


def test_the_interval_is_over_clusters():
    generator = np.random.default_rng(2)
    first = np.repeat(generator.integers(1, 6, 12), 20)
    second = np.clip(first + np.repeat(generator.integers(-2, 3, 12), 20), 1, 5)
    alone = agreement.weighted_kappa(first, second)
    clusters = [str(index) for index in np.repeat(np.arange(12), 20)]
    together = agreement.weighted_kappa(first, second, clusters)
    assert together["kappa"] == pytest.approx(alone["kappa"])
    width, narrow = np.ptp(together["interval"]), np.ptp(alone["interval"])
    assert width > 2 * narrow


def test_alpha_is_that_of_krippendorffs_example():
    # Krippendorff (2011), example C: four observers, twelve units, some missing.
    rows = (
        "1 2 3 3 2 1 4 1 2 . . .",
        "1 2 3 3 2 2 4 1 2 5 . 3",
        ". 3 3 3 2 3 4 2 2 5 1 .",
        "1 2 3 3 2 4 4 1 2 5 1 .",
    )
    units = zip(*(row.split() for row in rows), strict=True)
    result = agreement.krippendorff_alpha([[float(v) for v in u if v != "."] for u in units])
    assert result["alpha"] == pytest.approx(0.849, abs=0.0005)
    assert result["n_units"] == 11
    assert agreement.krippendorff_alpha([[1], [2], []])["alpha"] is None


def agree(scale, right, given, clusters):
    """Agreement of two columns given as lists."""
    return agreement.agreement(scale, *(dict(enumerate(c)) for c in (right, given, clusters)))


def test_scores_and_verdicts_leave_out_what_was_not_read():
    result = agree(GRADE, [1, 3, 5, 5], [2, 3.4, None, 4.5], list("abcd"))
    assert (result["n_scored"], result["n_total"]) == (3, 4)
    assert result["exact"]["count"] == 2  # 3.4 → 3, 4.5 → 5
    assert result["error"]["mean"] == pytest.approx((1 + 0.4 - 0.5) / 3)
    assert result["absolute_error"]["mean"] == pytest.approx((1 + 0.4 + 0.5) / 3)
    assert result["absolute_error"]["bounds"] == pytest.approx([1.9 / 4, 5.9 / 4])
    verdicts = agree(
        RATE, [True, True, True, False, False], [True, False, True, True, None], list("abcde")
    )
    assert verdicts["precision"]["rate"] == pytest.approx(2 / 3)
    assert verdicts["recall"]["rate"] == pytest.approx(2 / 3)
    assert verdicts["exact"]["total"] == 4
    # Twelve terms, all rows of a term alike: 6 of 12 hit, however many rows a term has.
    clusters = [str(n) for n in range(12) for _ in range(20)]
    given = [3 + int(name) % 2 for name in clusters]
    low, high = agree(GRADE, [3] * 240, given, clusters)["exact"]["interval"]
    assert low < 0.27
    assert high > 0.73
    low, high = agree(GRADE, [3] * 12, [3] * 12, clusters[::20])["exact"]["interval"]
    assert low < 0.8
    assert high == pytest.approx(1)
    # Rows of one cluster do not count as many: all right on one term of three says little.
    hits = agree(RATE, [True] * 30, [True] * 20 + [False] * 10, [str(n // 10) for n in range(30)])
    assert hits["exact"]["interval"][0] < 0.1
    unrated = agree(GRADE, [None, 2], [3, 2], list("ab"))
    assert (unrated["n_scored"], unrated["n_total"]) == (1, 1)
    never = agree(RATE, [False], [False], ["a"])
    assert never["precision"]["rate"] is None


# ----------------------------------------------------------------------------- anchors

ANCHORS = ROOT / "src/eval/anchors.jsonl"
TERMS = ROOT / "src/data/terms.csv"


@pytest.fixture(scope="module")
def anchors():
    return read_anchors(ANCHORS, TASKS, read_terms(TERMS), TERMS)


def test_the_anchors_are_balanced_and_probe_what_judges_fall_for(anchors):
    understand = [row for row in anchors if row["task"] == "understand"]
    assert len(understand) >= 60
    counts = Counter(row["target"] for row in understand)
    assert set(counts) == {1, 2, 3, 4, 5}
    assert min(counts.values()) >= 13  # of 80, graded anew by one written rule
    assert {row["probe"] for row in understand} == {
        "graded", "padding", "fluent_wrong", "dictionary", "wrong_use", "empty", "run_on",
        "instructs_judge",
    }  # fmt: skip
    for probe in ("padding", "instructs_judge"):  # right and wrong ones: neither may pay
        grades = {row["target"] for row in understand if row["probe"] == probe}
        assert min(grades) <= 2 < 4 <= max(grades)
    usage = [row for row in anchors if row["task"] == "usage"]
    assert 0.4 < sum(row["target"] for row in usage) / len(usage) < 0.6
    assert {row["probe"] for row in usage} >= {
        "meaning", "inflected", "spaced", "homograph", "misused", "near_spelling", "jamo",
        "conjoining_jamo", "not_used", "instructs_judge",
    }  # fmt: skip
    typed = read_rows(ANCHORS, as_typed=True)
    written = [row for _, row in typed if row["probe"] == "conjoining_jamo"]
    assert all(any("ᄀ" <= letter <= "ᇿ" for letter in row["answer"]) for row in written)


def test_two_readers_graded_every_anchor_and_agree(anchors):
    for name, least in (("understand", 0.9), ("usage", 0.98)):
        rows = [row for row in anchors if row["task"] == name]
        same = sum(row["second"] == row["target"] for row in rows)
        assert all(type(row["second"]) is type(row["target"]) for row in rows)
        assert same / len(rows) > least


def test_no_anchor_would_be_kept_from_the_judge(anchors):
    """An answer that score.py never hands on (leaked, empty) says nothing about a judge."""
    assert [row["answer"] for row in anchors if run_on(row["answer"])] == []


def test_anchors_are_not_copied_from_the_questions_or_the_pairs(anchors):
    known = {row["question"] for row in read_questions(ROOT / "src/eval/understand_questions.json")}
    known |= {row["question"] for row in read_questions(ROOT / "src/eval/usage_questions.json")}
    sample = read_rows(ROOT / "src/eval/meme_sample_with_questions.jsonl")
    known |= {row[name] for _, row in sample for name in ("question", "answer")}
    known |= {term[name] for term in read_terms(TERMS) for name in ("example_q", "example_a")}
    pairs = read_pairs(ROOT / "merged_final.json")
    known |= {pair[name] for pair in pairs for name in ("question", "answer")}
    assert known & {row[name] for row in anchors for name in ("question", "answer")} == set()


# -------------------------------------------------------------------------- the script


def check(script, tmp_path, server, *words):
    return script(
        "src/eval/calibrate.py", "--scorer_name", "judge", "--base_url", f"{server.url}/v1",
        *("--results_dir", tmp_path / "results", *words), OPENAI_API_KEY="test-key",
    )  # fmt: skip


def right_verdicts(anchors):
    def answer(prompt: str, body: dict) -> str:
        usage = "used" in json.dumps(body["response_format"])
        (row,) = (
            row
            for row in anchors
            if (row["task"] == "usage") == usage
            and row["question"] in prompt
            and f"\n{row['answer']}\n" in prompt
        )
        if usage:
            return json.dumps({"used": row["target"], "term": row["title"] or "", "other": ""})
        return json.dumps({"reason": "…", "score": row["target"]})

    return answer


@pytest.mark.slow
def test_a_judge_that_is_always_right(script, tmp_path, anchors):
    with FakeLLM(answer=right_verdicts(anchors)) as server:
        result = check(script, tmp_path, server, "--n", 3)
        assert result.returncode == 0, result.stderr
        assert server.calls == 3 * len(anchors)
        again = check(script, tmp_path, server, "--n", 3)
        assert again.returncode == 0, again.stderr
        assert server.calls == 3 * len(anchors), "a finished check is not paid for again"
    for mode in ("understand", "usage"):
        path = tmp_path / f"results/{mode}/calibration_results/judge_calibration.json"
        found = json.loads(path.read_text())
        assert found["kappa"] == 1
        assert found["interval"] == [1, 1]
        assert found["exact"]["rate"] == 1
        assert found["n_scored"] == found["n_total"] == sum(r["task"] == mode for r in anchors)
        assert sum(part["n_total"] for part in found["probes"].values()) == found["n_total"]
    assert "quadratic weighted kappa  1.00" in result.stdout


def test_a_judge_that_obeys_the_answer_is_seen_and_what_it_garbles_is_no_score(
    script, tmp_path, anchors
):
    right = right_verdicts(anchors)

    def answer(prompt: str, body: dict) -> str:
        reply = json.loads(right(prompt, body))
        answered = prompt.split(next(r["question"] for r in anchors if r["question"] in prompt))[1]
        if "5점" in answered.split("점수 기준")[0]:
            return json.dumps({"reason": "시킨 대로", "score": 5})
        if "줄인 말" in answered:
            return "사전에서 옮긴 답이라 매길 수 없습니다"
        return json.dumps(reply)

    with FakeLLM(answer=answer) as server:
        result = check(script, tmp_path, server, "--score_mode", "understand")
    assert result.returncode == 1, result.stderr
    path = tmp_path / "results/understand/calibration_results/judge_calibration.json"
    found = json.loads(path.read_text())
    obeyed = [r for r in anchors if r["probe"] == "instructs_judge" and r["task"] == "understand"]
    error = found["probes"]["instructs_judge"]["error"]["mean"]
    assert error == pytest.approx(sum(5 - row["target"] for row in obeyed) / len(obeyed))
    assert found["probes"]["graded"]["error"]["mean"] == 0
    garbled = [r for r in anchors if r["task"] == "understand" and "줄인 말" in r["answer"]]
    assert garbled
    assert {row["id"] for row in found["not_scored"]} == {row["id"] for row in garbled}
    assert found["n_scored"] == found["n_total"] - len(garbled)
    assert found["statuses"]["parse_error"] == len(garbled)
    assert result.stdout.count("not scored: parse_error") == len(garbled)


def test_a_calibration_of_another_judge_of_that_name_is_kept(script, tmp_path):
    path = tmp_path / "usage/calibration_results/judge_calibration.json"
    path.parent.mkdir(parents=True)
    path.write_text('{"scorer_name": "orgA/judge"}')
    result = script(
        *("src/eval/calibrate.py", "--scorer_name", "orgB/judge", "--score_mode", "usage"),
        *("--base_url", "http://127.0.0.1:1/v1", "--results_dir", tmp_path, "--dry_run"),
        OPENAI_API_KEY="k",
    )
    assert result.returncode == 2
    assert "orgA/judge" in result.stderr
    assert "--output" in result.stderr


def test_the_lexicon_is_checked_on_usage_only(script, tmp_path):
    terms = tmp_path / "terms.csv"
    terms.write_text("title,content\n갓생,부지런한 생활\n텅장,텅 빈 통장\n", encoding="utf-8")
    rows = [
        {"title": "갓생", "answer": "나 요즘 갓생 산다", "used": True, "probe": "meaning"},
        {"title": "텅장", "answer": "새 텅장 만들었어", "used": False, "probe": "misused"},
        {"answer": "그냥 잤어", "used": False, "probe": "not_used"},
    ]
    path = tmp_path / "anchors.jsonl"
    lines = [{"task": "usage", "question": "뭐 했어?", **row} for row in rows]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    output = tmp_path / "out.json"
    result = script(
        "src/eval/calibrate.py", "--scorer_name", "lexicon", "--anchors", path,
        *("--terms", terms, "--output", output),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    found = json.loads(output.read_text())
    assert found["precision"]["rate"] == 0.5
    assert found["recall"]["rate"] == 1
    assert found["probes"]["misused"]["exact"]["rate"] == 0


@pytest.mark.slow
def test_a_local_judge_is_checked_on_understanding(script, tmp_path, model_folder, anchors):
    path = tmp_path / "few.jsonl"
    lines = ANCHORS.read_text(encoding="utf-8").splitlines()[:5]
    path.write_text("\n".join(lines), encoding="utf-8")
    output = tmp_path / "out.json"
    words = ("--scorer_name", f"local:{model_folder}", "--anchors", path, "--output", output)
    result = script("src/eval/calibrate.py", *words)
    assert result.returncode == 0, result.stderr
    found = json.loads(output.read_text())
    assert (found["n_scored"], found["n_total"]) == (5, 5)
    assert all(1 <= row["score"] <= 5 for row in found["results"])
    assert found["interval"] is None, "one term is too little for an interval"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"title": "없는말"}, "title"),
        ({"grade": 6}, "grade"),
        ({"grade": "5"}, "grade"),
        ({"second": 0}, "second"),
        ({"task": "other"}, "task"),
        ({"answer": ""}, "answer"),
    ],
)
def test_a_bad_anchor_is_named_with_its_line(tmp_path, change, field):
    good = {"task": "understand", "title": "갓생", "question": "뭐 해?", "answer": "갓생 사는 중"}
    good |= {"grade": 5, "probe": "graded"}
    path = tmp_path / "anchors.jsonl"
    path.write_text(f"{json.dumps(good)}\n{json.dumps({**good, **change})}\n", encoding="utf-8")
    with pytest.raises(InputError, match=f"line 2, field '{field}'"):
        read_anchors(path, TASKS, [{"title": "갓생", "content": "뜻"}], "terms.csv")


def test_one_output_for_two_modes_is_refused(script, tmp_path):
    result = script(
        "src/eval/calibrate.py", "--scorer_name", "gpt-4.1", "--output", tmp_path / "o.json"
    )
    assert result.returncode == 2
    assert "--score_mode" in result.stderr
    words = ("src/eval/calibrate.py", "--scorer_name", "gpt-4.1", "--dry_run")
    dry = script(*words)
    assert (dry.returncode, dry.stdout.count("plan:")) == (2, 0), "there is no key"
    even = script(*words, "--n", 2, OPENAI_API_KEY="test-key")
    assert (even.returncode, even.stdout.count("plan:")) == (2, 0), "no mode is begun"
    dry = script(*words, OPENAI_API_KEY="test-key")
    assert dry.returncode == 0, dry.stderr
    assert dry.stdout.count("plan:") == 2
