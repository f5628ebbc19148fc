"""Rating by hand: the page as a rater's browser talks to it, kills, and what the ratings say."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

from malmat.evaluate.results import ratings_path
from malmat.files import digest, row_id, write_json, write_jsonl
from malmat.journal import key_of
from tasks import TASKS
from tests.conftest import ROOT, serving

TERMS = "title,content\n갓생,부지런한 생활을 뜻한다.\n텅장,텅 빈 통장을 뜻한다.\n"
MODELS = ("secret-alpha", "secret-beta")


def answers_of(task: str, model: str) -> list[dict]:
    """Six questions, the second not answered; no two answers are alike."""
    rows = []
    for number in range(6):
        question = f"질문 {number} <b>갓생</b>?"
        answer = f"{model.split('-')[1]} 답 {number}\n<script>갓생</script>"
        row = {"id": row_id("question", question), "question": question, "answer": answer}
        status = "truncated" if number == 1 else "ok"
        rows.append({**row, "status": status, "title": "갓생" if number % 2 else "텅장"})
    return rows


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results"
    for task in ("understand", "usage"):
        for model in MODELS:
            name = f"{task}/infer_results/{model}_{task}_inference_results.json"
            write_json(folder / name, answers_of(task, model))
    (tmp_path / "terms.csv").write_text(TERMS, encoding="utf-8")
    return folder


def command(results, *words) -> list[str]:
    terms = results.parent / "terms.csv"
    options = ["--results_dir", results, "--terms", terms]
    return [sys.executable, str(ROOT / "src/eval/human.py"), *map(str, [*words, *options])]


def refused(results, *words) -> str:
    result = subprocess.run(command(results, *words), capture_output=True, text=True)
    assert result.returncode == 2, (result.stdout, result.stderr)
    assert len(result.stderr.strip().splitlines()) == 1, result.stderr
    return result.stderr


def served(results, *words):
    """The page's address and its process."""
    return serving(command(results, " ".join(MODELS), *words))


def rater(url: str):
    from gradio_client import Client

    return Client(url, verbose=False, analytics_enabled=False)


def shown(outputs) -> str:
    """The answer's own mark on the page, as ``alpha 답 3``."""
    (found,) = re.findall(r"(alpha|beta) 답 (\d)", str(outputs))
    return " 답 ".join(found)


def ratings(results, task: str, name: str) -> list[dict]:
    path = results / task / "human_results" / f"{name}_{task}_ratings.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [row for row in rows if "status" not in row]


@pytest.mark.slow
def test_a_rater_rates_is_killed_goes_on_and_corrects(results):
    with served(results, "understand", "--rater", "지민") as (url, process):
        page = rater(url)
        seen = [shown(page.predict(api_name="/start"))]
        for name in ("/rate_4", "/rate_1", "/skip", "/rate_5"):
            seen.append(shown(page.predict(api_name=name)))
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert len(set(seen)) == 5
    rows = ratings(results, "understand", "지민")
    assert [row["rating"] for row in rows] == [4, 1, None, 5]

    with served(results, "understand", "--rater", "지민") as (url, process):
        page = rater(url)
        outputs = page.predict(api_name="/start")
        assert shown(outputs) == seen[4], "it goes on at the first that is not rated"
        assert "10개 중 4개를 평가했습니다" in str(outputs)
        page.predict(api_name="/back")
        page.predict(api_name="/back")
        assert shown(page.predict(api_name="/back")) == seen[1]
        assert shown(page.predict(api_name="/rate_2")) == seen[2]
        assert shown(page.predict(api_name="/forth")) == seen[3]
        assert shown(page.predict(api_name="/forth")) == seen[4]
        for _ in range(6):
            outputs = page.predict(api_name="/rate_3")
            seen += re.findall(r"(?:alpha|beta) 답 \d", str(outputs))
        assert "모두 마쳤습니다" in str(outputs)
        page.predict(api_name="/rate_3")  # a press too many rates nothing
        process.send_signal(signal.SIGINT)
        assert "ratings are in" in process.communicate(timeout=60)[0]
        assert process.returncode == 0
    rows = ratings(results, "understand", "지민")
    assert len(rows) == 4 + 1 + 6
    last = {row["key"]: row["rating"] for row in rows}
    assert sorted(last.values(), key=str) == [2, 3, 3, 3, 3, 3, 3, 4, 5, None]
    assert set(seen) == {f"{m} 답 {n}" for m in ("alpha", "beta") for n in (0, 2, 3, 4, 5)}
    assert {row["model"] for row in rows} == set(MODELS)
    for row in rows:
        (answer,) = [a for a in answers_of("understand", row["model"]) if a["id"] == row["id"]]
        assert row["answer"] == digest(answer["answer"])


@pytest.mark.slow
def test_the_page_is_blind_escaped_and_calls_nobody(results):
    with served(results, "usage", "--rater", "jimin", "--limit", 2) as (url, _):
        page = rater(url)
        outputs = [page.predict(api_name="/start")]
        outputs += [page.predict(api_name=name) for name in ("/rate_true", "/rate_false", "/skip")]
        outputs.append(page.predict(api_name="/rate_true"))
        with urllib.request.urlopen(url) as reply:
            served_page = reply.read().decode()
        refusal = refused(results, " ".join(MODELS), "usage", "--rater", "jimin")
        assert "another process" in refusal
    text = str(outputs)
    assert "- 갓생: 부지런한 생활을 뜻한다." in text, "a usage rater sees the meaning"
    assert "secret" not in text + served_page
    assert "&lt;script&gt;" in text
    assert "<script>" not in text
    fetched = re.findall(
        r"<(?:script|link|img|iframe)\b[^>]*(?:src|href)=[\"'](\S+?)[\"']", served_page
    )
    assert fetched
    assert [link for link in fetched if re.match(r"(https?:)?//(?!127\.0\.0\.1)", link)] == []
    result, _ = summary_of(results, "usage")
    (failed,) = {row["id"] for row in answers_of("usage", MODELS[0]) if row["status"] != "ok"}
    path = results / "usage/human_results/jimin_usage_ratings.jsonl"
    drawn = {json.loads(line)["id"] for line in path.read_text().splitlines()}
    total = sum(part["n_total"] for part in result["models"].values())
    assert total == 4 + 2 * (failed in drawn)
    rows = ratings(results, "usage", "jimin")
    assert [row["rating"] for row in rows] == [True, False, None, True]
    assert len({row["id"] for row in rows}) == 2, "the limit counts questions, for all models"


def test_each_rater_has_an_order_of_their_own_over_the_same_questions(results):
    from argparse import Namespace

    import human

    def items(name: str, limit: int | None = 3) -> list[tuple]:
        args = Namespace(
            models=" ".join(MODELS), task="usage", rater=name, limit=limit, seed=1,
            results_dir=str(results), questions=None,
        )  # fmt: skip
        return [(item["model"], item["id"]) for item in human.read_items(args, [])]

    drawn = {key for _, key in items("a", 6)}
    assert drawn == {row["id"] for row in answers_of("usage", MODELS[0])}, "failed ones too"

    assert items("a") == items("a")
    assert items("a") != items("b")
    assert set(items("a")) == set(items("b"))
    assert len(items("a")) == 6
    assert [item for item in items("a", None) if item in items("a")] == items("a")


def test_answers_that_failed_are_counted(results):
    with served(results, "understand", "--rater", "a") as (url, _):
        page = rater(url)
        page.predict(api_name="/start")
        for _ in range(10):
            page.predict(api_name="/rate_4")
    with served(results, "understand", "--rater", "a"):
        pass  # a second start writes nothing twice
    path = results / "understand/human_results/a_understand_ratings.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["status"] for line in lines if "status" in line] == ["truncated"] * 2
    found, _ = summary_of(results, "understand")
    for model in MODELS:
        part = found["models"][model]
        assert (part["mean"], part["n_scored"], part["n_total"]) == (4, 5, 6)
        assert part["bounds"] == [21 / 6, 25 / 6]
    assert found["raters"]["a"] == {"n_rated": 10, "n_skipped": 0}


def test_names_that_are_no_file_names(results, tmp_path):
    for name in ("../../jimin", "a/b", "C:\\x", "지민 ★", "ㅋ" * 200):
        path = ratings_path(results, TASKS["usage"], name)
        assert path.parent == results / "usage/human_results"
        assert len(path.name.encode()) < 200
    assert "rater" in refused(results, MODELS[0], "usage", "--rater", "../..")
    row = {"key": "k", "rater": "a/b", "rating": True}
    write_jsonl(results / "usage/human_results/a-b_usage_ratings.jsonl", [row])
    assert "ratings of 'a/b'" in refused(results, MODELS[0], "usage", "--rater", "a-b")


def test_what_is_missing_is_named(results):
    assert "rater" in refused(results, MODELS[0], "usage")
    assert "models" in refused(results, "--rater", "a")
    assert "no such file" in refused(results, "unknown", "usage", "--rater", "a")
    assert "no ratings" in refused(results, "--summary")


# ----------------------------------------------------------------------------- summary


def rate(results, task: str, name: str, given: dict[tuple[str, int], object]) -> None:
    rows = []
    for (model, number), value in given.items():
        answer = answers_of(task, model)[number]
        key = key_of(task=task, model=model, id=answer["id"], answer=answer["answer"])
        row = {"key": key, "id": answer["id"], "model": model, "title": answer["title"]}
        more = {"task": task, "rater": name, "answer": digest(answer["answer"])}
        rows.append({**row, **more, "rating": value})
    write_jsonl(results / task / "human_results" / f"{name}_{task}_ratings.jsonl", rows)


def summary_of(results, task: str) -> tuple[dict, str]:
    words = command(results, "--summary")
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads((results / task / "human_results/summary.json").read_text()), result.stdout


def test_summary_of_grades(results):
    alpha, beta = MODELS
    first = {(alpha, 0): 5, (alpha, 2): 4, (alpha, 3): 5, (beta, 0): 1, (beta, 2): None}
    second = {(alpha, 0): 5, (alpha, 2): 2, (beta, 0): 1, (beta, 3): 2}
    rate(results, "understand", "a", first)
    rate(results, "understand", "b", second)
    scored = [
        {**row, "score": score, "status": "ok" if score else "parse_error"}
        for row, score in zip(answers_of("understand", alpha), [5, None, 3, 4, 1, 1], strict=True)
    ]
    value = {"model_name": alpha, "scorer_name": "judge-x", "average_score": 3, "results": scored}
    write_json(results / f"understand/score_results/{alpha}_understand_j.json", value)
    found, text = summary_of(results, "understand")
    assert found["models"][alpha]["mean"] == pytest.approx((5 + 3 + 5) / 3)
    assert found["models"][beta]["mean"] == pytest.approx((1 + 2) / 2)
    assert (found["models"][beta]["n_scored"], found["models"][beta]["n_total"]) == (2, 3)
    assert found["raters"]["a"] == {"n_rated": 4, "n_skipped": 1}
    (pair,) = found["pairs"]
    assert pair["n_common"] == 3
    # 1 − (4/3) ÷ the mean of (x − y)² over all nine pairs of 5, 4, 1 with 5, 2, 1
    assert pair["kappa"] == pytest.approx(1 - (4 / 3) / (56 / 9))
    assert found["alpha"]["n_units"] == 3
    judge = found["judges"]["judge-x"]
    assert judge["n_scored"] == 3  # the judge's other scores are of answers nobody rated
    assert judge["error"]["mean"] == pytest.approx((0 + 0 - 1) / 3)
    assert "judge judge-x" in text


def test_summary_of_usage_and_of_answers_that_changed(results):
    alpha, beta = MODELS
    rate(results, "usage", "a", {(alpha, 0): True, (alpha, 2): True, (beta, 3): False})
    rate(results, "usage", "b", {(alpha, 0): True, (alpha, 2): False, (beta, 3): False})
    scored = [{**row, "used": True} for row in answers_of("usage", alpha)]
    scored[1] |= {"used": None}
    del scored[2]["id"]  # older rows have none
    value = {"model_name": alpha, "scorer_name": "lexicon", "results": scored}
    value["total_usage_rate"] = 1.0
    write_json(results / f"usage/score_results/{alpha}_usage_lexicon.json", value)
    found, _ = summary_of(results, "usage")
    assert found["models"][alpha]["mean"] == 0.75
    assert found["models"][beta]["mean"] == 0
    assert found["pairs"][0]["n_common"] == 3
    # the raters' tie on the second answer is no verdict, so one is left to compare
    assert found["judges"]["lexicon"]["n_scored"] == 1

    rows = answers_of("usage", alpha)
    rows[0]["answer"] = "다시 물었더니 다른 답"
    write_json(results / f"usage/infer_results/{alpha}_usage_inference_results.json", rows)
    found, text = summary_of(results, "usage")
    assert "2 ratings left out" in text
    assert found["models"][alpha]["mean"] == 0.5


def test_a_rating_that_is_none_is_refused(results):
    rate(results, "understand", "a", {(MODELS[0], 0): 5, (MODELS[0], 2): True})
    error = refused(results, "--summary")
    assert "line 2" in error
    assert "rating" in error


def test_a_rater_is_a_scorer(results, script):
    alpha = MODELS[0]
    rate(results, "usage", "지민", {(alpha, 0): True, (alpha, 2): None, (alpha, 3): False})
    path = results / "usage/human_results/지민_usage_ratings.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    failed = answers_of("usage", alpha)[1]
    key = key_of(task="usage", model=alpha, id=failed["id"], answer=failed["answer"])
    rows.append({**rows[0], "key": key, "id": failed["id"], "rating": None, "status": "truncated"})
    write_jsonl(path, rows)
    words = ("src/eval/score.py", "--score_mode", "usage", "--results_dir", results)
    words += ("--terms", results.parent / "terms.csv", "--model_name")
    result = script(*words, alpha, "--scorer_name", "human:지민")
    assert result.returncode == 0, result.stderr
    (path,) = (results / "usage/score_results").glob("*.json")
    value = json.loads(path.read_text())
    assert (value["scorer_name"], value["total_usage_rate"]) == ("human:지민", 0.5)
    assert (value["n_scored"], value["n_total"]) == (2, 4), "two were never drawn"
    assert value["statuses"] == {"ok": 2, "truncated": 1, "refused": 1}
    assert [row["used"] for row in value["results"]] == [True, None, None, False]
    assert [row["stage"] for row in value["results"]] == ["judge", "answer", "judge", "judge"]
    found, _ = summary_of(results, "usage")
    assert found["judges"] == {}, "a rater's own score file is no judge's"
    for model, name, said in (
        (MODELS[1], "human:지민", "rates none of these"),
        (alpha, "human:nobody", "no such file"),
    ):
        result = script(*words, model, "--scorer_name", name)
        assert result.returncode == 2, result.stderr
        assert said in result.stderr


def test_a_task_that_nobody_is_asked_about_is_refused(results):
    assert "not rated by hand" in refused(results, MODELS[0], "reply", "--rater", "a")


def test_a_port_that_is_taken_is_one_line(results):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        error = refused(results, MODELS[0], "usage", "--rater", "a", "--port", port)
    assert "port" in error
