"""Choices of four and five in one batch, after a thought, by two models, and what their scores say
of the next ones: on tiny models and made-up answers."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest

from malmat.answer.choices import ChoiceEngine
from malmat.answer.local import LocalEngine
from malmat.answer.request import Request
from malmat.answer.thinking import ThinkingEngine, up_to_label
from malmat.errors import InputError
from malmat.evaluate.classes import macro_f1
from malmat.evaluate.luck import simulate
from malmat.evaluate.reliability import calibration_error, reliability
from malmat.evaluate.second import fitted_rule, gain, read_twice
from malmat.evaluate.vote_fit import BY_RANK
from malmat.evaluate.vote_read import read_ballots
from malmat.files import read_json, write_json, write_jsonl
from malmat.journal import Journal
from malmat.lm.sampling import Sampling
from tests.conftest import ROOT
from tests.test_generate import ask

SAMPLE = ROOT / "src/csat/sample"
FIVE = ("1", "2", "3", "4", "5")


# ------------------------------------------------------------------------- after a thought


@pytest.mark.parametrize(
    ("reply", "before"),
    [
        ("1은 틀렸다. 3일 수도 있다.\n정답: 3", "1은 틀렸다. 3일 수도 있다.\n정답: "),
        ("정답: **4**", "정답: **"),
        ("생각한다.\n정답은 2번입니다.", "생각한다.\n정답은 "),
        ("정답: 1\n다시 보니\n정답: 5. 다섯째", "정답: 1\n다시 보니\n정답: "),
        ("정답 : ③", "정답 : "),
    ],
)
def test_the_label_behind_the_last_mark_is_found(reply, before):
    assert up_to_label(reply, FIVE) == before


@pytest.mark.parametrize(
    "reply",
    ["3", "셋 가운데 2가 맞다.", "정답은 3이 될 수 없다.", "정답: 없음", "정답: 3.5", "정답: ", ""],
)
def test_numbers_of_the_reasoning_are_no_answer(reply):
    with pytest.raises(ValueError, match="no label behind"):
        up_to_label(reply, FIVE)


def test_a_number_beyond_the_choices_is_none_of_them():
    with pytest.raises(LookupError):
        up_to_label("정답: 5", FIVE[:4])


class Said(LocalEngine):
    """A writer whose replies are given."""

    def __init__(self, folder, replies):
        super().__init__(str(folder), Sampling())
        self.replies = replies

    def _records(self, requests, journal, accept, meter, label):
        basis = {"finish_reason": "stop", "usage": {"input": 9, "output": 7}, "error": None}
        for request in requests:
            assert request.choices == ()
            status, text = self.replies[request.id]
            yield {**basis, "id": request.id, "key": "k", "status": status, "text": text}


def test_labels_are_weighed_behind_what_was_thought(tmp_path, model_folder, model, tokenizer):
    import torch

    from malmat.lm.chat import encode_answers

    replies = {
        "four": ("ok", "셋은 3이다.\n정답: 2"),
        "five": ("ok", "정답: 5"),
        "none": ("ok", "2와 3 가운데 모르겠다."),
        "beyond": ("ok", "정답: 7"),
        "long": ("truncated", "정답: 1 그리고 또"),
    }
    engine = ThinkingEngine(Said(model_folder, replies), ChoiceEngine(str(model_folder)))
    requests = [
        Request(name, ask(f"{name} 질문"), choices=FIVE[:4] if name == "four" else FIVE)
        for name in replies
    ]
    with Journal(tmp_path / "j.jsonl") as journal, engine.answers(requests, journal) as found:
        records = {record["id"]: record for record in found}
    assert {name: one["status"] for name, one in records.items()} == {
        "four": "ok",
        "five": "ok",
        "none": "parse_error",
        "beyond": "out_of_range",
        "long": "truncated",
    }
    assert records["none"]["text"] == ""
    assert records["four"]["thoughts"] == replies["four"][1]
    assert "mass" not in records["four"]
    assert records["four"]["usage"]["output"] == 7
    answers = ["셋은 3이다.\n정답: " + label for label in FIVE[:4]]
    prompt, targets = encode_answers(tokenizer, ask("four 질문"), answers)
    shared = next(n for n, ids in enumerate(zip(*targets, strict=False)) if len(set(ids)) > 1)
    with torch.inference_mode():
        logits = model(torch.tensor([prompt + targets[0][:shared]])).logits[0, -1]
    expected = logits[[target[shared] for target in targets]].softmax(-1)
    assert np.allclose(records["four"]["probabilities"], expected, atol=1e-5)


def test_infer_chooses_among_four_and_five_and_thinks_first(script, tmp_path, model_folder):
    words = (model_folder, "local", "csat", "--questions", SAMPLE / "dev.csv", "--limit", 6)
    plain, thought = tmp_path / "plain.json", tmp_path / "cot.json"
    result = script("src/eval/infer.py", *words, "--permute", "cyclic", "--output", plain)
    assert result.returncode == 0, result.stderr
    rows = read_json(plain)
    assert {len(row["choices"]) for row in rows} == {4, 5}
    for row in rows:
        assert row["answer"] in row["choices"]
        assert len(row["probabilities"]) == len(row["orders"]) == row["n_choices"]
        assert sum(row["probabilities"]) == pytest.approx(1)
    more = ("--cot", "--max_new_tokens", 8, "--output", thought)
    result = script("src/eval/infer.py", *words, *more)
    assert result.returncode in (0, 1), result.stderr
    assert {row["status"] for row in read_json(thought)} <= {"parse_error", "truncated", "empty"}
    assert not any(row.get("probabilities") for row in read_json(thought))


# ---------------------------------------------------------------------------- made-up answers


def made_up(seed, skill=0.6, count=200, first=0):
    draw, rows = random.Random(f"{seed} {first}"), []
    for number in range(first, first + count):
        size = 4 + number % 2
        labels = list(FIVE[:size])
        target = number % size
        scores = [
            draw.expovariate(1) + skill * 3 * (n == target) * draw.random() for n in range(size)
        ]
        chances = [score / sum(scores) for score in scores]
        item = {"id": f"r{number}", "question": f"질문 {number}", "title": f"지문 {number // 2}"}
        answer = labels[chances.index(max(chances))]
        rows.append(
            {
                **item,
                "choices": labels,
                "target": labels[target],
                "answer": answer,
                "status": "ok",
                "probabilities": chances,
            }
        )
    return rows


def right(rows):
    return sum(row["answer"] == row["target"] for row in rows)


def test_macro_f1_is_scikit_learns_over_both_sets_of_classes():
    from sklearn.metrics import f1_score

    rows = [row for row in made_up(1) if row["target"] != "5"]
    pairs = list(zip(*((row["target"], row["answer"]) for row in rows), strict=True))
    for classes in (None, FIVE, ("1", "2", "9")):
        expected = f1_score(*pairs, labels=classes, average="macro", zero_division=0)
        assert macro_f1(rows, classes) == pytest.approx(expected)


def test_calibration_is_the_gap_of_confidence_and_accuracy():
    def one(sure, hit):
        choices = ["1", "2"]
        return {
            "status": "ok",
            "choices": choices,
            "answer": "1",
            "target": "1" if hit else "2",
            "probabilities": [sure, 1 - sure],
        }

    rows = [one(0.95, n < 3) for n in range(4)] + [one(0.65, n < 1) for n in range(2)]
    rows += [{**one(0.9, True), "status": "parse_error"}, {**one(0.9, True), "target": None}]
    lines = reliability(rows)
    assert [line["n"] for line in lines] == [2, 4]
    assert calibration_error(lines) == pytest.approx((2 * 0.15 + 4 * 0.2) / 6)
    assert calibration_error([]) is None


def ballots(tmp_path, skills, count=400):
    paths = {}
    for number, skill in enumerate(skills):
        paths[f"m{number}"] = tmp_path / f"m{number}.json"
        write_json(paths[f"m{number}"], made_up(f"model {number}", skill, count))
    return read_ballots(paths), list(paths.values())


def test_the_public_order_of_equal_models_means_nothing(script, tmp_path):
    equal, paths = ballots(tmp_path, [0.6] * 8)
    luck = simulate(equal, splits=300, public=0.5)
    assert not luck.means_something()
    assert luck.sent(2)["hit"] >= luck.sent(1)["hit"]
    assert luck.sent(8)["hit"] == 1
    assert luck.sent(8)["lost"] == 0
    result = script(
        "src/csat/simulate.py", *paths, "--splits", 100, "--output", tmp_path / "s.json"
    )
    assert result.returncode == 0, result.stderr
    assert "means nothing" in result.stdout
    assert read_json(tmp_path / "s.json")["p_equal"] == pytest.approx(luck.p_equal)
    for row in (rows := made_up("model 0")):
        row["target"] = None
    write_json(tmp_path / "x.json", rows)
    assert script("src/csat/simulate.py", tmp_path / "x.json", paths[0]).returncode == 2


def test_halves_are_scored_as_they_are(tmp_path):
    from sklearn.metrics import f1_score

    own, _ = ballots(tmp_path, [0.2, 0.6, 3.0], 60)
    luck = simulate(own, splits=40, public=0.25, seed=1)
    assert luck.means_something()
    assert np.allclose(15 * luck.public + 45 * luck.private, 60 * luck.whole)
    assert set(np.round(luck.public * 15, 6).ravel() % 1) == {0}
    assert luck.sent(1)["hit"] > 0.9
    whole = simulate(own, splits=2, public=0.5, metric="macro_f1").whole
    for model in range(3):
        expected = f1_score(own.targets, own.picks[model], average="macro")
        assert whole[model] == pytest.approx(expected, abs=1e-6)


def test_unsure_rows_are_read_twice_by_a_margin_of_other_rows(script, tmp_path):
    dev = [made_up("weak", 0.4), made_up("strong", 3.0)]
    test = [made_up("weak", 0.4, first=1000), made_up("strong", 3.0, first=1000)]
    rule = fitted_rule(dev[0], {row["id"]: row for row in dev[1]})
    assert rule.right[2] >= max(rule.right[:2]) == right(dev[1])
    second = {row["id"]: row for row in test[1]}
    both = read_twice(test[0], second, rule.margin)
    assert right(both) > right(test[0])
    found = gain(test[0], both)
    assert found["difference"] == pytest.approx((right(both) - right(test[0])) / 200)
    failed = {name: {**row, "status": "parse_error"} for name, row in second.items()}
    assert right(read_twice(test[0], failed, rule.margin)) == right(test[0])
    with pytest.raises(InputError, match="are missing"):
        read_twice(test[0], {}, rule.margin)
    none = fitted_rule(dev[1], {row["id"]: row for row in dev[0]})
    assert none.sent < 200

    paths = {}
    for name, rows in {"d1": dev[0], "d2": dev[1], "t1": test[0], "t2": test[1]}.items():
        write_json(paths.setdefault(name, tmp_path / f"{name}.json"), rows)
    words = ("--fit_on", paths["d1"], paths["d2"], "--first", paths["t1"])
    more = ("--rows", paths["t1"], "--ask", tmp_path / "low.jsonl")
    more += ("--second", paths["t2"], "--output", tmp_path / "both.json")
    result = script("src/csat/second_reading.py", *words, *more)
    assert result.returncode == 0, result.stderr
    asked = [json.loads(line)["id"] for line in (tmp_path / "low.jsonl").read_text().splitlines()]
    twice = [row["id"] for row in read_json(tmp_path / "both.json") if row["readings"] == 2]
    assert asked == twice
    assert "McNemar p" in result.stdout
    words = ("--fit_on", paths["t1"], paths["t2"], "--first", paths["t1"])
    assert script("src/csat/second_reading.py", *words).returncode == 2


def test_the_published_weights_are_always_labelled_in_sample(script, tmp_path):
    _, paths = ballots(tmp_path, [0.2, 3.0, 0.6, 1.0, 0.4, 0.8], 120)
    words = ("--task", "csat", "--published", "--name", "vote", "--results_dir", tmp_path)
    result = script("src/eval/vote.py", *paths, *words)
    assert result.returncode == 0, result.stderr
    assert "no figure here is a fair one" in result.stdout
    name = "vote-in-sample_csat_inference_results"
    record = read_json(tmp_path / f"csat/infer_results/{name}.run.json")
    weights = record["weights"]
    assert sorted(weights.values(), reverse=True) == [*BY_RANK, 0]
    assert max(weights, key=lambda one: weights[one]) == "m1"
    assert record["in_sample"] is True
    assert all(row["in_sample"] for row in read_json(tmp_path / f"csat/infer_results/{name}.json"))
    for wrong in (("--method", "stack"), ("--weights", *"111111"), ("--best", 2)):
        assert script("src/eval/vote.py", *paths, *words[:3], *wrong).returncode == 2


# ------------------------------------------------------------------------------------ training


def test_dora_is_a_knob_and_its_absence_no_setting(script, tmp_path, model_folder):
    rows = tmp_path / "rows.jsonl"
    turns = [(ask(f"{n}번 가운데 정답은?"), str(n)) for n in range(1, 5)]
    write_jsonl(
        rows,
        [{"messages": [*asked, {"role": "assistant", "content": told}]} for asked, told in turns],
    )
    words = ("--model_name", model_folder, "--data_path", rows, "--max_steps", 1, "--optim")
    words += ("adamw_torch", "--max_seq_length", 256, "--lora_r", 4, "--batch_size", 1)
    words += ("--gradient_accumulation_steps", 1, "--report_to", "none", "--output_dir")
    for name, more in (("plain", ()), ("dora", ("--use_dora", "--use_rslora"))):
        result = script("src/train/train_lora_fine_tuning.py", *words, tmp_path / name, *more)
        assert result.returncode == 0, result.stderr
        config = read_json(tmp_path / name / "adapter_config.json")
        assert (config["use_dora"], config["use_rslora"]) == (bool(more),) * 2
    settings = [read_json(tmp_path / n / "run.json")["settings"] for n in ("plain", "dora")]
    assert "use_dora" not in settings[0]
    assert settings[1]["use_dora"] is True


def test_the_published_rows_hold_the_published_settings():
    from malmat.models import read_models

    models = read_models(ROOT / "src/csat/models.json")
    published = [row for name, row in models.items() if name not in ("embedded", "hint-writer")]
    assert len(published) == 5
    for row in published:
        options = row.training_options()
        wanted = {"option_4bit": True, "use_rslora": True, "lora_r": 64, "lora_alpha": 128}
        wanted |= {"learning_rate": 1e-5, "gradient_accumulation_steps": 4, "max_seq_length": 2048}
        assert {name: options[name] for name in wanted} == wanted
