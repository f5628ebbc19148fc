"""Voting: several answer files of a task with choices → one more."""

from __future__ import annotations

import json

import pytest

from malmat.errors import InputError
from malmat.evaluate.vote import ADD_UP, vote, voted_rows
from malmat.evaluate.vote_read import read_ballots
from malmat.files import read_json, write_json

CHOICES = ["가", "나", "다"]


OPTIONS = ["ㄱ", "ㄴ", "ㄷ"]


def answer(number: int, picked: str | None, probabilities=None, **more) -> dict:
    row = {
        "id": f"r{number}", "question": f"질문 {number}", "choices": CHOICES, "target": "가",
        "options": OPTIONS,
        "title": f"말 {number // 2}", "answer": picked or "",
        "status": "ok" if picked else "refused", "finish_reason": "stop",
    }  # fmt: skip
    chances = {} if probabilities is None else {"probabilities": probabilities}
    return row | chances | more


FILES = {
    "a": [
        answer(0, "가", [0.5, 0.4, 0.1]),  # two of three
        answer(1, "가", [0.4, 0.3, 0.3]),  # all differ: the sums are 0.8, 1.2, 1.0
        answer(2, "나", [0.2, 0.6, 0.2]),
        answer(3, None),
        answer(4, None),
    ],
    "b": [
        answer(0, "가", [0.5, 0.4, 0.1]),
        answer(1, "나", [0.2, 0.6, 0.2]),
        answer(2, "다", [0.2, 0.2, 0.6]),  # a tie of points and of sums
        answer(3, "다", [0.1, 0.3, 0.6]),
        answer(4, None),
    ],
    "c": [
        answer(0, "나", [0.0, 0.9, 0.1]),
        answer(1, "다", [0.2, 0.3, 0.5]),
        answer(2, None),
        answer(3, "나", [0.1, 0.7, 0.2]),
        answer(4, None, status="api_error"),
    ],
}


@pytest.fixture
def folder(tmp_path):
    for name, rows in FILES.items():
        path = f"results/reply/infer_results/{name}_reply_inference_results.json"
        write_json(tmp_path / path, rows)
    return tmp_path / "results/reply/infer_results"


def path_of(folder, name: str):
    return folder / f"{name}_reply_inference_results.json"


def voted(folder, method: str, weights=None, names: str = "abc") -> dict[str, dict]:
    paths = {name: path_of(folder, name) for name in names}
    ballots = read_ballots(paths)
    if method in ADD_UP:
        ballots.need_probabilities(method)
    return {row["id"]: row for row in voted_rows(ballots, vote(ballots, method, weights))}


def test_hard_and_soft_votes(folder):
    hard, soft = voted(folder, "hard"), voted(folder, "soft")
    assert [hard[f"r{n}"]["answer"] for n in range(5)] == ["가", "나", "나", "나", ""]
    assert [soft[f"r{n}"]["answer"] for n in range(5)] == ["나", "나", "나", "나", ""]
    assert [hard[f"r{n}"]["tied"] for n in range(5)] == [False, True, True, True, False]
    assert [soft[f"r{n}"]["tied"] for n in range(5)] == [False, False, True, False, False]
    assert [hard[f"r{n}"]["missing"] for n in range(5)] == [0, 0, 1, 1, 3]
    assert (hard["r4"]["status"], hard["r4"]["answer"]) == ("refused", "")
    assert hard["r0"]["votes"] == {"a": "가", "b": "가", "c": "나"}
    assert hard["r0"]["probabilities"] == pytest.approx([1 / 3, 1.7 / 3, 0.3 / 3])
    assert (hard["r0"]["target"], hard["r0"]["title"]) == ("가", "말 0")
    assert "finish_reason" not in hard["r0"]


def test_a_tie_that_no_probability_decides_goes_to_the_first_file(folder):
    """Not to the choice that stands first, and not to a model that has no vote."""
    for name, picked in zip("abc", "다나가", strict=True):
        write_json(path_of(folder, name), [answer(0, picked)])
    assert voted(folder, "hard")["r0"]["answer"] == "다"
    assert voted(folder, "hard", names="bca")["r0"]["answer"] == "나"
    assert voted(folder, "hard", [0, 1, 1])["r0"]["answer"] == "나"
    write_json(path_of(folder, "a"), [answer(0, "가", [0.4, 0.3, 0.3])])
    write_json(path_of(folder, "c"), [answer(0, "다", [0.3, 0.2, 0.5])])
    assert voted(folder, "hard")["r0"]["answer"] == "다"  # the highest summed probability


def test_rows_in_another_order_are_joined_by_id(script, folder):
    write_json(path_of(folder, "b"), FILES["b"][::-1])
    assert [row["answer"] for row in voted(folder, "hard").values()] == ["가", "나", "나", "나", ""]
    result = script("src/eval/vote.py", *(path_of(folder, name) for name in "abc"))
    assert result.returncode == 0, result.stderr
    assert "b_reply_inference_results has the rows in another order: they are joined by id" in (
        result.stdout
    )


def test_weights(folder):
    assert voted(folder, "hard", [1, 1, 3])["r0"]["answer"] == "나"
    assert voted(folder, "soft", [5, 5, 1])["r0"]["answer"] == "가"
    none = voted(folder, "hard", [1, 0, 1])
    assert none["r2"]["answer"] == "나"
    assert none["r0"]["votes"] == {"a": "가", "c": "나"}


def test_answers_without_probabilities_vote_hard_only(folder):
    rows = [{k: v for k, v in row.items() if k != "probabilities"} for row in FILES["c"]]
    write_json(path_of(folder, "c"), rows)
    assert voted(folder, "hard")["r0"]["probabilities"] == pytest.approx([0.5, 0.4, 0.1])
    with pytest.raises(InputError, match=r"c_reply.*the row r0 has no probabilities"):
        voted(folder, "soft")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows.pop(2), r"the row r2 is missing; it is in .*a_reply"),
        (lambda rows: rows.append(answer(9, "가", [1, 0, 0])), "the row r9 is not in .*a_reply"),
        (lambda rows: rows.append(rows[0]), "the row r0 stands in it twice"),
        (lambda rows: rows[0].update(choices=["가", "다", "나"]), "r0 has other choices .* order"),
        (lambda rows: rows[0].update(choices=["가", "나", "더"]), "r0 has other choices .*a_reply"),
        (lambda rows: rows[3].update(options=["ㄱ", "ㄴ", "ㅁ"]), "r3 has other options .*a_reply"),
        (lambda rows: rows[0].update(target="나"), "r0 has another target than in .*a_reply"),
        (lambda rows: rows[0].update(answer="라"), "r0 has an answer that is none"),
        (lambda rows: rows[0].update(probabilities=[0.5, 0.5]), "r0 has no probability from 0"),
        (lambda rows: rows[0].update(probabilities=[2, 0, "x"]), "r0 has no probability from 0"),
        (lambda rows: rows[0].update(probabilities=[1.0, 0.5, 0.5]), "r0 has .* that sum to 2"),
        (lambda rows: rows[0].update(probabilities=[0, 0, 0]), "r0 has .* that sum to 0"),
        (lambda rows: rows[0].pop("choices"), "r0 has no choices"),
    ],
)
def test_rows_that_do_not_fit_are_named(folder, change, said):
    rows = json.loads(json.dumps(FILES["b"]))
    change(rows)
    write_json(path_of(folder, "b"), rows)
    with pytest.raises(InputError, match=f"b_reply_inference_results.json: .*{said}"):
        voted(folder, "hard")


def test_a_vote_is_scored_like_any_model(script, folder):
    results = folder.parent.parent
    words = ("src/eval/vote.py", "--task", "reply", "--results_dir", results)
    result = script(*words, "a", "b", path_of(folder, "c"), "--name", "all")
    assert result.returncode == 0, result.stderr
    assert "ties: 3" in result.stdout
    assert "without all votes: 3" in result.stdout
    rows = read_json(path_of(folder, "all"))
    assert [row["answer"] for row in rows] == ["가", "나", "나", "나", ""]
    record = read_json(folder / "all_reply_inference_results.run.json")
    assert list(record["settings"]["voters"]) == ["a", "b", "c"]
    again = script(*words, "a", "b", "c", "--name", "all")
    assert again.returncode == 0, again.stderr
    assert read_json(path_of(folder, "all")) == rows
    scored = script(
        "src/eval/score.py", "--task", "reply", "--model_name", "all", "--results_dir", results
    )
    assert scored.returncode == 0, scored.stderr
    value = read_json(results / "reply/score_results/all_reply_accuracy_score_results.json")
    assert (value["mean"], value["n_scored"], value["n_total"]) == (0.25, 4, 5)
    assert value["statuses"] == {"ok": 4, "refused": 1}


def test_what_cannot_be_voted_on_is_one_line(script, folder):
    before = path_of(folder, "b").read_bytes()
    words = ("src/eval/vote.py", "--results_dir", folder.parent.parent)
    for more, said in (
        (("--task", "reply", "a", "b", "--name", "b"), "holds a model's answers"),
        (("--task", "reply", "a", "c", "--name", "b"), "holds a model's answers"),
        (("--task", "reply", "a", "--name", "x"), "two or more"),
        (("--task", "reply", "a", "a", "--name", "x"), "two or more"),
        (("--task", "reply", "a", "unknown", "--name", "x"), "no such file"),
        (("--task", "loss", "a", "b", "--name", "x"), "answers to reply"),
        (("--task", "reply", *"abc", "--name", "x", "--weights", "1", "1"), "expected 3 weights"),
        (("--task", "reply", *"abc", "--name", "x", "--weights", *"000"), "not all 0"),
    ):
        result = script(*words, *more)
        assert result.returncode == 2, result.stderr
        assert said in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert path_of(folder, "b").read_bytes() == before


def test_a_vote_that_was_killed_before_its_record_goes_on(script, folder, tmp_path):
    words = ("src/eval/vote.py", "--task", "reply", "a", "b", "--name", "v")
    words += ("--results_dir", tmp_path / "results")
    assert script(*words).returncode == 0
    voted = path_of(folder, "v").read_bytes()
    path_of(folder, "v").with_suffix(".run.json").unlink()
    assert script(*words).returncode == 0
    assert path_of(folder, "v").read_bytes() == voted
    over = script(*words[:-4], "c", "--name", "a", *words[-2:])
    assert (over.returncode, "holds a model's answers already" in over.stderr) == (2, True)
