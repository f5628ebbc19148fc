"""Weights of votes: fitted on other rows, refused on the same ones; and what a vote is worth."""

from __future__ import annotations

import random
import unicodedata

import numpy as np
import pytest

from malmat.errors import InputError
from malmat.evaluate.vote import vote, voted_rows
from malmat.evaluate.vote_fit import Weigher, conditional_logit, log_odds
from malmat.evaluate.vote_read import read_ballots
from malmat.evaluate.vote_table import table
from malmat.files import read_json, write_json, write_jsonl

SKILLS = {"good": 1.5, "fair": 0.6, "liar": -1.5}


def made_up(name: str, count: int = 60, *, first: int = 0, sizes=(3,), seed: int = 0) -> list[dict]:
    """A model's answers: the higher its skill, the more the target's probability."""
    draw, rows = random.Random(f"{name}{seed}"), []
    for number in range(first, first + count):
        size = sizes[number % len(sizes)]
        choices = [f"{number}-{place}" for place in range(size)]
        target = number % size
        scores = [np.exp(draw.gauss(0, 1) + SKILLS[name] * (p == target)) for p in range(size)]
        chances = [float(score / sum(scores)) for score in scores]
        rows.append(
            {
                "id": f"r{number}",
                "question": f"질문 {number}",
                "title": f"대화 {number // 3}",
                "choices": choices,
                "target": choices[target],
                "answer": choices[chances.index(max(chances))],
                "status": "ok",
                "probabilities": chances,
            }
        )
    return rows


def files(folder, names=tuple(SKILLS), **how) -> dict:
    paths = {name: folder / f"{name}.json" for name in names}
    for name, path in paths.items():
        write_json(path, made_up(name, **how))
    return paths


@pytest.fixture
def dev(tmp_path):
    """Answers to r1000 and further, none of which is voted on."""
    return list(files(tmp_path / "dev", first=1000, count=120).values())


@pytest.fixture
def voted(tmp_path):
    return list(files(tmp_path / "voted").values())


def write_folds(path, count: int = 60, k: int = 4) -> dict:
    folds = {f"r{number}": number // 3 % k for number in range(count)}
    write_json(path, {"folds": folds})
    return folds


# ------------------------------------------------------------------------------ weights


def test_a_liar_gets_no_weight_and_the_better_model_more(tmp_path):
    sample = read_ballots(files(tmp_path, count=300))
    for weights in (conditional_logit(sample), log_odds(sample)):
        assert weights[0] > weights[1] > weights[2] == 0


def test_log_odds_by_hand(tmp_path):
    sample = read_ballots(files(tmp_path, count=30))
    right = (sample.picks == sample.targets).sum(1)
    expected = np.log(2 * (right + 1) / (31 - right)).clip(0)
    assert log_odds(sample) == pytest.approx(expected)


def test_stacking_of_two_choices_is_logistic_regression(tmp_path):
    from sklearn.linear_model import LogisticRegression

    names = ("good", "fair")
    sample = read_ballots(files(tmp_path, names, count=200, sizes=(2,)))
    gaps = np.log(sample.probabilities[:, :, 1] / sample.probabilities[:, :, 0]).T
    model = LogisticRegression(fit_intercept=False, tol=1e-8).fit(gaps, sample.targets)
    assert conditional_logit(sample) == pytest.approx(model.coef_[0], abs=1e-3)
    tally = vote(sample, "stack", model.coef_[0])
    assert tally.probabilities == pytest.approx(model.predict_proba(gaps), abs=1e-8)


def test_the_weights_of_a_fold_come_from_the_others(tmp_path):
    paths = files(tmp_path)
    folds = write_folds(tmp_path / "folds.json")
    before = Weigher(folds=folds).weights(read_ballots(paths), "stack")
    for name, path in paths.items():  # other right answers in fold 0
        rows = made_up(name)
        for row in rows:
            if folds[row["id"]] == 0:
                row["target"] = row["choices"][0]
        write_json(path, rows)
    after = Weigher(folds=folds).weights(read_ballots(paths), "stack")
    held = np.array([fold == 0 for fold in folds.values()])
    assert before[:, held] == pytest.approx(after[:, held])
    assert not np.allclose(before[:, ~held], after[:, ~held])


def test_the_best_models_alone_vote(tmp_path):
    paths = files(tmp_path / "a")
    sample = read_ballots(files(tmp_path / "b", first=500))
    weights = Weigher(sample=sample, best=1).weights(read_ballots(paths), "hard")
    assert weights.tolist() == [[1.0] * 60, [0.0] * 60, [0.0] * 60]


def test_stacked_rows_of_different_choice_counts(tmp_path):
    ballots = read_ballots(files(tmp_path, sizes=(2, 5, 10)))
    sample = read_ballots(files(tmp_path / "dev", first=100, sizes=(4, 3)))
    for method in ("hard", "soft", "weighted", "stack"):
        weights = Weigher(sample=sample).weights(ballots, method)
        rows = voted_rows(ballots, vote(ballots, method, weights))
        assert [len(row["probabilities"]) for row in rows] == [2, 5, 10] * 20
        assert all(sum(row["probabilities"]) == pytest.approx(1) for row in rows)
        assert all(row["answer"] in row["choices"] for row in rows)


# ----------------------------------------------------------------------------- refusals


def test_fitted_on_the_rows_that_are_voted_on(script, tmp_path, voted):
    same = list(files(tmp_path / "same").values())
    words = ("src/eval/vote.py", *voted, "--method", "stack", "--output", "v.json", "--fit_on")
    result = script(*words, *same)
    assert result.returncode == 2
    assert "same/good.json, field 'fit_on': 60 of its rows are voted on, as the row r0" in (
        result.stderr
    )
    for path, name in zip(same, SKILLS, strict=True):  # the same rows under other ids
        write_json(path, [{**row, "id": f"x{row['id']}"} for row in made_up(name)])
    result = script(*words, *same)
    assert result.returncode == 2
    assert "60 of its rows are voted on, as the row r0" in result.stderr
    assert not (tmp_path / "v.json").exists()
    result = script(*words, *same, "--in_sample")
    assert result.returncode == 0, result.stderr
    assert "in sample" in result.stdout
    assert read_json(tmp_path / "v.run.json")["in_sample"] is True
    assert all(row["in_sample"] for row in read_json(tmp_path / "v.json"))
    words = ("src/eval/vote.py", *voted, "--task", "reply", "--name", "v", "--in_sample")
    result = script(*words, "--results_dir", "results", "--weights", 2, 1, 0)
    assert result.returncode == 0, result.stderr
    names = [path.name for path in (tmp_path / "results/reply/infer_results").iterdir()]
    assert "v-in-sample_reply_inference_results.json" in names


def test_what_weights_were_fitted_on_is_recorded(script, tmp_path, voted, dev):
    words = ("src/eval/vote.py", *voted, "--method", "weighted", "--output", "v.json")
    result = script(*words, "--fit_on", *dev)
    assert result.returncode == 0, result.stderr
    record = read_json(tmp_path / "v.run.json")
    assert record["in_sample"] is False
    assert record["fitted_on"]["rows"] == 120
    assert len(record["fitted_on"]["ids"]) == 64
    assert [path.rsplit("/", 1)[-1] for path in record["fitted_on"]["files"]] == [
        f"{name}.json" for name in SKILLS
    ]
    assert record["weights"]["liar"] == 0
    names = [entry["name"] for entry in record["table"]["entries"]]
    assert names == [
        *SKILLS, "vote: hard", "vote: soft", "vote: weighted", "vote: stack", "any model right"
    ]  # fmt: skip


def test_fitting_that_cannot_be(script, tmp_path, voted, dev):
    folds = write_folds(tmp_path / "folds.json")
    write_json(tmp_path / "few.json", {n: fold for n, fold in folds.items() if n != "r7"})
    write_json(tmp_path / "split.json", folds | {"r4": 3})
    write_json(tmp_path / "one.json", dict.fromkeys(folds, 0))
    blank = tmp_path / "dev" / "blank.json"
    write_json(blank, [{**row, "target": None} for row in made_up("good", first=1000)])
    plain = tmp_path / "dev" / "plain.json"
    write_json(plain, [{**r, "probabilities": None} for r in made_up("good", 120, first=1000)])
    named = list(files(tmp_path / "named", first=1000).values())
    for path, name in zip(named, ("good", "liar", "fair"), strict=True):
        write_json(path.with_suffix(".run.json"), {"settings": {"name": name}})
    for more, said in (
        (("--method", "stack"), "stack needs answers to other rows"),
        (("--method", "weighted"), "weighted needs answers to other rows"),
        (("--best", 2), "needs answers to other rows"),
        (("--best", 2, "--weights", 2, 1, 1), "one of --weights and --best"),
        (("--folds", "folds.json", "--weights", 2, 1, 1), "nothing says on which rows"),
        (("--weights", 2, 1, 1), "field 'weights': nothing says on which rows"),
        (("--method", "stack", "--weights", 2, 1, 1, "--fit_on", *dev), "fitted by stacking"),
        (("--fit_on", *dev[:2]), "expected 3 files, of the models in their order, found 2"),
        (("--fit_on", *named), "fair.json, field 'fit_on': holds the answers of liar, not of fair"),
        (("--fit_on", blank, blank, blank), "blank.json, field 'fit_on': the row r1000 has no"),
        (("--method", "stack", "--fit_on", plain, *dev[1:]), "plain.json: the row r1000 has no p"),
        (("--fit_on", *dev, "--folds", "folds.json"), "one of --fit_on and --folds"),
        (("--folds", "few.json"), "few.json, field 'folds': the row r7 has no fold"),
        (("--folds", "split.json"), "the rows of '대화 1' lie in two folds, as r4"),
        (("--folds", "one.json"), "all rows lie in one fold"),
    ):
        result = script("src/eval/vote.py", *voted, "--output", "v.json", *more)
        assert result.returncode == 2, (more, result.stdout, result.stderr)
        assert said in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
        assert not (tmp_path / "v.json").exists()


# -------------------------------------------------------------------------------- table


def test_the_table_by_hand(tmp_path):
    picks = {"a": "가가가가나나", "b": "가가나나가나", "c": "가나가나나가"}
    for name, answers in picks.items():
        rows = [
            {
                "id": f"r{n}", "question": f"질문 {n}", "title": f"대화 {n // 2}",
                "choices": ["가", "나"], "target": "가", "answer": answer, "status": "ok",
            }
            for n, answer in enumerate(answers)
        ]  # fmt: skip
        write_json(tmp_path / f"{name}.json", rows)
    ballots = read_ballots({name: tmp_path / f"{name}.json" for name in picks})
    found = table(ballots, Weigher())
    means = {entry["name"]: entry["summary"]["mean"] for entry in found.entries}
    assert means == pytest.approx(
        {"a": 4 / 6, "b": 3 / 6, "c": 3 / 6, "vote: hard": 3 / 6, "any model right": 1}
    )
    assert found.best == "a"
    assert found.disagreement[0].tolist() == pytest.approx([0, 3 / 6, 3 / 6])
    assert found.disagreement[1, 2] == pytest.approx(4 / 6)
    # Two models that differ are tied, and the first one decides: without c, a; without a, b.
    assert found.leave_one_out == {"hard": pytest.approx([0, -1 / 6, -1 / 6])}
    entry = next(entry for entry in found.entries if entry["name"] == "vote: hard")
    assert (entry["gained"], entry["lost"], entry["p"], entry["verdict"]) == (0, 1, 1.0, "tied")


def test_a_vote_that_is_better_and_one_that_is_tied_are_said_so(script, tmp_path, monkeypatch):
    many = tuple(f"m{n}" for n in range(7))
    for name in many:
        monkeypatch.setitem(SKILLS, name, 1.0)
    result = script("src/eval/vote.py", *files(tmp_path / "many", many, count=300).values())
    assert result.returncode == 0, result.stderr
    assert "vote: hard: better than the best single model" in result.stdout
    assert "nothing written" in result.stdout
    result = script("src/eval/vote.py", *files(tmp_path / "few", many[:2], count=18).values())
    assert "vote: hard: tied with the best single model" in result.stdout


# ------------------------------------------------------------------------------ reading


def test_files_in_other_forms_are_read_alike(tmp_path):
    """What is read in haste and what is read with care say the same."""
    paths = files(tmp_path, sizes=(3, 4))
    expected = read_ballots(paths)
    for name, path in paths.items():
        rows = made_up(name, sizes=(3, 4))
        random.Random(0).shuffle(rows)
        write_jsonl(path.with_suffix(".jsonl"), rows)
    found = read_ballots({name: path.with_suffix(".jsonl") for name, path in paths.items()})
    order = [found.ids.index(one) for one in expected.ids]
    assert (found.picks[:, order] == expected.picks).all()
    assert np.nanmax(abs(found.probabilities[:, order] - expected.probabilities)) == 0
    mixed = {"good": paths["good"], "liar": paths["liar"].with_suffix(".jsonl")}
    assert read_ballots(mixed).reordered == ["liar"]
    assert (read_ballots(mixed).picks == expected.picks[[0, 2]]).all()


def test_texts_in_another_normal_form_are_the_same(tmp_path):
    known = {"choices": ["가", "나"], "answer": "나", "target": "가", "probabilities": [0.4, 0.6]}
    rows = [row | known for row in made_up("good", 4)]
    write_json(tmp_path / "a.json", rows)
    choices = [unicodedata.normalize("NFD", choice) for choice in known["choices"]]
    apart = [{**row, "choices": choices} for row in rows]
    write_json(tmp_path / "b.json", [{**row, "answer": row["choices"][1]} for row in apart])
    for order in ("ab", "ba"):
        ballots = read_ballots({name: tmp_path / f"{name}.json" for name in order})
        assert ballots.picks.tolist() == [[1] * 4] * 2


@pytest.mark.parametrize("value", ["0.5", True, None, 1.5, [0.5]])
def test_a_probability_that_is_none(tmp_path, value):
    rows = made_up("good", 3)
    write_json(tmp_path / "a.json", rows)
    rows[1]["probabilities"] = [value, 0.0, 0.0] if value is True else [value, 0.5, 0.5]
    write_json(tmp_path / "b.json", rows)
    paths = {name: tmp_path / f"{name}.json" for name in "ab"}
    if value is True:  # 1, as anywhere in Python
        assert read_ballots(paths).probabilities[1, 1, 0] == 1
        return
    with pytest.raises(InputError, match=r"b\.json: the row r1 has no probability from 0 to 1"):
        read_ballots(paths)
