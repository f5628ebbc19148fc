"""The contest's figures for Korean culture QA, and the project's own beside them."""

from __future__ import annotations

import json
import unicodedata

import pytest

from malmat.contests import typed_scores
from malmat.contests.predictions import joined, out_of_order, read_predictions
from malmat.contests.typed_questions import CHOICE, LONG, SHORT
from malmat.errors import InputError
from malmat.evaluate.korean_metrics import kiwi_words, mecab_words, relaxed, rouge_text, verbatim
from malmat.evaluate.neural_metrics import Missing
from malmat.evaluate.results import load
from malmat.evaluate.scorers import rouge1
from malmat.evaluate.task import registered_tasks
from tests.conftest import ROOT, assert_refused

SCORE = "src/culture_qa/score.py"
SAMPLE = ROOT / "src/culture_qa/sample"


def missing(answers, references):
    raise Missing("no weights")


NEURAL = {"bertscore": missing, "bleurt": missing}


def row(kind, answer, target, name="a", **more):
    item = {"id": name, "type": kind, "question": "q", "title": name, "target": target}
    choices = {"choices": ["1", "2", "3", "4"]} if kind == CHOICE else {}
    return {**item, **choices, "answer": answer, "status": "ok", **more}


def rouge(answer, target, words=mecab_words):
    return rouge1({"answer": answer, "target": target}, words)["value"]


# ------------------------------------------------------------------------------- metrics


def test_the_published_parts_give_the_published_final_score():
    parts = {CHOICE: 0.4715, SHORT: 0.4118, LONG: (0.4109 + 0.7198 + 0.5450) / 3}
    assert round(typed_scores.final_of(parts), 4) == 0.4806
    assert round(91 / 193, 4) == parts[CHOICE]


@pytest.mark.parametrize("words", [mecab_words, kiwi_words])
def test_rouge_of_korean_texts(words):
    text = "단오에는 창포물에 머리를 감았다."
    assert rouge(text, text, words) == 1.0
    assert rouge("1443년에 세종이 만들었다", "1443년에 이순신이 싸웠다", words) < 1
    assert rouge("ㅋㅋㅋ", text, words) == 0.0
    assert rouge(unicodedata.normalize("NFD", text), text, words) == 1.0


def test_rouge_by_hand():
    assert mecab_words("단오에는 머리를 감았다!") == [
        "단오",
        "에",
        "는",
        "머리",
        "를",
        "감",
        "았",
        "다",
    ]
    # 단오 에 는 | 그네 를 뛰 었 다 against 단오 에 는 | 머리 를 감 았 다: five of eight in common.
    assert rouge("단오에는 그네를 뛰었다", "단오에는 머리를 감았다") == pytest.approx(2 * 5 / 16)


def test_the_text_that_rouge_reads():
    assert rouge_text("KTX-산천, 漢字 ㅎ 3.1!") == "ktx 산천       3 1"
    assert rouge_text("가 " * 1500).split() == ["가"] * 1000


def test_our_reading_of_morphemes_is_the_packages():
    from mecab import MeCab

    text = "김장은 겨우내 먹을 김치를 초겨울에 한꺼번에 담그는 일이다"
    assert mecab_words(text) == MeCab().morphs(text)


@pytest.mark.parametrize(
    ("answer", "target", "is_verbatim", "is_relaxed"),
    [
        (" 환갑 ", ["환갑", "회갑"], 1, 1),
        (unicodedata.normalize("NFD", "회갑"), ["환갑", "회갑"], 1, 1),
        ("환갑이다", ["환갑"], 0, 1),
        ("'환갑'입니다.", ["환갑"], 0, 1),
        ("소수서원", ["소수 서원"], 0, 1),
        ("『난중일기』", ["난중일기"], 0, 1),
        ("화랑(花郞)", ["화랑"], 0, 1),
        ("baby shark", ["Baby Shark"], 0, 1),
        ("나이", ["나"], 0, 0),
        ("환갑잔치", ["환갑"], 0, 0),
        ("환", ["환갑"], 0, 0),
        ("", ["환갑"], 0, 0),
    ],
)
def test_short_answers(answer, target, is_verbatim, is_relaxed):
    one = {"answer": answer, "target": target}
    assert verbatim(one)["value"] == is_verbatim
    assert relaxed(one)["value"] == is_relaxed


@pytest.mark.parametrize(
    ("answer", "official", "read"),
    [("3", 1, 1), ("3번", 0, 1), ("정답: 3", 0, 1), ("추석", 0, 1), ("1", 0, 0), ("1이나 3", 0, 0)],
)
def test_choices(answer, official, read):
    one = row(CHOICE, answer, "3", options=["설날", "단오", "추석", "한식"])
    (found,), _ = typed_scores.scored([one], neural=NEURAL, kiwi=False)
    assert found["scores"] == {"accuracy": official, "accuracy_read": read}


# --------------------------------------------------------------------- figures of a model


def test_what_is_missing_is_named_and_gives_no_final_score_of_that_name():
    rows = [row(LONG, "가나다", "가나다"), row(SHORT, "가", ["나"], "b")]
    found, lacking = typed_scores.scored(rows, neural=NEURAL, kiwi=True)
    assert lacking == {"bertscore": "no weights", "bleurt": "no weights"}
    assert set(found[0]["scores"]) == {"rouge1_mecab", "rouge1_kiwi"}
    assert typed_scores.final_name(lacking) == "final_without_BLEURT_and_BERTScore"
    assert typed_scores.final_name({"bleurt": ""}) == "final_without_BLEURT"
    assert typed_scores.final_name({}) == "final"
    assert typed_scores.final_summary(found)["value"] == 0.5


def test_all_three_metrics_of_a_long_answer_and_the_level_of_random_pairs():
    def likeness(answers, references):
        return [0.7 if a == b else 0.5 for a, b in zip(answers, references, strict=True)]

    rows = [row(LONG, text, text, text) for text in ("가나다", "라마바")]
    neural = {"bertscore": likeness, "bleurt": likeness}
    found, lacking = typed_scores.scored(rows, neural=neural, kiwi=False)
    assert lacking == {}
    assert typed_scores.official(found[0]) == pytest.approx((1 + 0.7 + 0.7) / 3)
    assert found[0]["scores"]["bertscore_of_random_pairs"] == 0.5


def test_failed_answers_have_no_score_and_bounds_say_what_they_could_do():
    rows = [row(CHOICE, "1", "1", "a"), row(CHOICE, "", "1", "b", status="parse_error")]
    found, _ = typed_scores.scored([*rows, row(SHORT, "가", ["가"], "c")], neural={}, kiwi=False)
    assert found[1]["scores"] == {}
    part = typed_scores.summaries(found)[CHOICE]
    assert part["metrics"]["accuracy"]["n_scored"] == 1
    assert part["metrics"]["accuracy"]["bounds"] == [0.5, 1.0]
    assert part["chance"] == 0.25
    final = typed_scores.final_summary(found)
    assert (final["value"], final["bounds"]) == (1.0, [0.75, 1.0])
    assert (final["n_scored"], final["n_total"]) == (2, 3)


def test_the_paired_final_difference_and_agreement_with_length():
    target = "단오에는 머리를 감았다"

    def scored(*answers):
        long = [row(LONG, answer, target, str(n)) for n, answer in enumerate(answers)]
        rows = [*long, row(SHORT, answers[0], ["단오"], "s")]
        return typed_scores.scored(rows, neural=NEURAL, kiwi=False)[0]

    first, second = scored("단오에는 머리를", "단오에는", "감"), scored(target, target, target)
    gap = typed_scores.final_summary(first, second)
    values = [typed_scores.final_summary(one)["value"] for one in (first, second)]
    assert gap["value"] == pytest.approx(values[1] - values[0])
    assert gap["n_scored"] == 4
    assert typed_scores.length_agreement(first)["rouge1_mecab"]["difference"] < 0
    assert typed_scores.length_agreement(second)["rouge1_mecab"]["length"] is None


# ----------------------------------------------------------------------------- predictions


def saved(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


def test_predictions_are_joined_by_id(tmp_path):
    items = [{"id": "a"}, {"id": "b"}]
    published = {"id": "b", "input": {}, "output": {"answer": "나"}}
    path = saved(tmp_path / "p.json", [published, {"id": "a", "answer": " "}])
    found = read_predictions([path])
    assert [(r["id"], r["answer"], r["status"]) for r in joined(items, found, path)] == [
        ("a", " ", "empty"),
        ("b", "나", "ok"),
    ]
    assert out_of_order(items, found) == "b"
    assert out_of_order(items[::-1], found) == ""
    with pytest.raises(InputError, match=r"1 ids are missing: c; 1 ids are none .*: b"):
        joined([{"id": "a"}, {"id": "c"}], found, path)


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([{"id": "a", "answer": "1"}] * 2, "a stands on"),
        ([{"answer": "1"}], "without an id"),
        ([{"id": "a", "answer": ["1"]}], "expected text"),
        ([{"id": "a", "answer": "1", "status": "fine"}], "unknown status"),
    ],
)
def test_bad_predictions_are_one_line(tmp_path, rows, expected):
    path = saved(tmp_path / "p.json", rows)
    assert_refused(lambda p: read_predictions([p]), path, [expected])


# -------------------------------------------------------------------------------- score.py


@pytest.fixture(scope="module")
def gold():
    return json.loads((SAMPLE / "dev.json").read_text(encoding="utf-8"))


def test_scores_of_a_submission_and_a_comparison(script, tmp_path, gold):
    results = tmp_path / "results"
    right = [{"id": r["id"], "answer": r["output"]["answer"].split("#")[-1]} for r in gold]
    kinds = {r["id"]: r["input"]["question_type"] for r in gold}
    wrong = [{**r, "answer": "9" if kinds[r["id"]] != LONG else r["answer"][:50]} for r in right]
    common = (SCORE, "--gold", SAMPLE / "dev.json", "--results_dir", results, "--predictions")
    for name, rows in (("right", right), ("wrong", wrong[::-1])):
        result = script(*common, saved(tmp_path / f"{name}.json", rows), "--name", name)
        assert result.returncode == 0, result.stderr
        assert ("another order" in result.stdout) == (name == "wrong")
        assert "final_without_BLEURT_and_BERTScore" in result.stdout
    written = json.loads((results / "culture_qa" / "right_scores.json").read_text())
    assert written["final_without_BLEURT_and_BERTScore"]["value"] == 1.0
    assert "final" not in written
    assert set(written["types"]) == {CHOICE, SHORT, LONG}
    tasks = registered_tasks()
    for name, scorer in (("choice", "accuracy"), ("short", "verbatim"), ("long", "rouge1_mecab")):
        folder = results / f"culture_{name}" / "score_results"
        path = folder / f"right_culture_{name}_{scorer}_score_results.json"
        assert load(path, tasks).summary()["mean"] == 1.0
    compared = script(SCORE, "--compare", "right", "wrong", "--results_dir", results)
    assert compared.returncode == 0, compared.stderr
    lines = [line.split() for line in compared.stdout.splitlines()]
    assert [line[0] for line in lines[2:]] == [CHOICE, SHORT, LONG, "final"]
    assert all(float(line[3]) < 0 for line in lines[2:])


def test_each_type_by_a_model_of_its_own(script, tmp_path, gold):
    results = tmp_path / "results"
    names = {CHOICE: ("choice", "base"), SHORT: ("short", "tuned"), LONG: ("long", "tuned")}
    for kind, (task, model) in names.items():
        rows = [
            {"id": r["id"], "question": "q", "answer": r["output"]["answer"], "status": "ok"}
            for r in gold
            if r["input"]["question_type"] == kind
        ]
        path = results / f"culture_{task}" / "infer_results"
        path.mkdir(parents=True)
        saved(path / f"{model}_culture_{task}_inference_results.json", rows)
    words = (SCORE, "--gold", SAMPLE / "dev.json", "--results_dir", results, "--name", "routed")
    routes = [f"{kind}={model}" for kind, (_, model) in names.items()]
    result = script(*words, "--route", *routes)
    assert result.returncode == 0, result.stderr
    assert "accuracy (official): 1.000" in result.stdout
    assert "gain of the route: none of its models has scores of all types" in result.stdout
    for kind, (task, _) in names.items():
        rows = [
            {"id": r["id"], "question": "q", "answer": "9", "status": "ok"}
            for r in gold
            if r["input"]["question_type"] == kind
        ]
        folder = results / f"culture_{task}" / "infer_results"
        saved(folder / f"weak_culture_{task}_inference_results.json", rows)
    routes[0] = f"{CHOICE}=weak"
    result = script(*words, "--route", *routes)
    assert "gain of the route over its best single model, weak:" in result.stdout, result.stderr
    gain = result.stdout.partition("single model, weak:")[2]
    assert all(word in gain for word in (CHOICE, SHORT, LONG, "routed", "tied"))
    for bad, expected in (
        (("--route", *routes[:2]), "no model for 서술형"),
        (("--route", "배합형=base"), "TYPE=NAME"),
        (("--model_name", "base"), "no such file"),
        ((), "--predictions or --route"),
    ):
        refused = script(*words, *bad)
        assert refused.returncode == 2
        assert expected in refused.stderr
        assert refused.stderr.count("\n") == 1


def test_cut_answers_are_scored_where_they_are_submitted(script, tmp_path, gold):
    rows = [{"id": r["id"], "answer": r["output"]["answer"], "status": "ok"} for r in gold]
    short = [n for n, r in enumerate(gold) if r["input"]["question_type"] == SHORT]
    rows[short[0]]["status"] = rows[short[1]]["status"] = "truncated"
    rows[short[1]]["answer"] = ""
    path = saved(tmp_path / "p.json", rows)
    words = (SCORE, "--gold", SAMPLE / "dev.json", "--results_dir", tmp_path, "--predictions", path)
    scored = []
    for more in ((), ("--keep_cut",)):
        result = script(*words, "--name", "x", *more)
        assert result.returncode == 0, result.stderr
        assert ("1 answers were cut at their limit" in result.stdout) == bool(more)
        found = json.loads((tmp_path / "culture_qa" / "x_scores.json").read_text())
        scored.append(sum(row["scores"].get("exact") == 1 for row in found["results"]))
        assert sum(row.get("cut", False) for row in found["results"]) == len(more)
    assert scored == [len(short) - 2, len(short) - 1]


def test_a_row_that_holds_nothing_is_one_line(script, tmp_path):
    path = tmp_path / "culture_qa" / "a_scores.json"
    path.parent.mkdir()
    saved(path, {"model_name": "a", "results": [{}]})
    result = script(SCORE, "--results_dir", tmp_path, "--compare", "a", "a")
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "a_scores.json" in result.stderr
    assert "results[0].id" in result.stderr


def test_predictions_with_ids_missing_are_refused_before_anything_is_written(
    script, tmp_path, gold
):
    rows = [{"id": r["id"], "answer": "1"} for r in gold[1:]]
    path = saved(tmp_path / "p.json", rows)
    words = ("--gold", SAMPLE / "dev.json", "--results_dir", tmp_path / "results")
    result = script(SCORE, *words, "--predictions", path, "--name", "x")
    assert result.returncode == 2
    assert gold[0]["id"] in result.stderr
    assert not (tmp_path / "results").exists()
