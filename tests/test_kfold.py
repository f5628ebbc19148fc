"""k-fold training: a fold's model never saw its rows, and what is done is not done again."""

from __future__ import annotations

import pytest
from conftest import PAIRS

from malmat.files import read_json, read_rows, write_json, write_jsonl

TRAINED = {
    "script": "train_lora_fine_tuning.py",
    "max_steps": 1,
    "batch_size": 2,
    "gradient_accumulation_steps": 1,
    "optim": "adamw_torch",
}
WORDS = ("--models", "models.json", "--rows", "rows.jsonl", "--folds", "folds.json")
WORDS += ("--task", "reply", "--output_dir", "kfold", "--results_dir", "results")
KFOLD = ("src/train/kfold.py", "tiny", *WORDS)


def rows(first: int = 0) -> list[dict]:
    """Rows to train on that are questions of the task, too: two a cluster."""
    found = []
    for number, (question, reply) in enumerate(PAIRS, first):
        others = [PAIRS[(number + step) % len(PAIRS)][1] for step in (2, 3)]
        row = {"id": f"r{number}", "cluster": f"c{number // 2}", "title": f"c{number // 2}"}
        row |= {"question": f"{question} ({number})", "answer": reply, "target": reply}
        found.append(row | {"choices": [reply, *others]})
    return found


@pytest.fixture
def folder(tmp_path):
    write_jsonl(tmp_path / "rows.jsonl", rows())
    write_json(tmp_path / "folds.json", {"folds": {f"r{n}": n // 2 % 2 for n in range(8)}})
    write_json(tmp_path / "models.json", {"tiny": TRAINED | {"model_name": "nowhere/tiny"}})
    return tmp_path


def test_what_is_refused_before_anything_is_trained(script, folder):
    folds = {f"r{n}": n // 2 % 2 for n in range(8)}
    write_json(folder / "split.json", folds | {"r1": 1})
    write_json(folder / "short.json", {name: fold for name, fold in folds.items() if name != "r5"})
    write_jsonl(folder / "test.jsonl", [rows()[2] | {"id": "t1", "cluster": "other"}])
    for more, said in (
        (("--folds", "split.json"), "rows.jsonl, field 'cluster': 1 rows share something"),
        (("--folds", "short.json"), "short.json, field 'folds': the row r5 has no fold"),
        (("--test", "test.jsonl"), "r2 with t1 (near-duplicate, similarity 1.00)"),
        (("--task", "none"), "field 'task': no task 'none'"),
        (("--by", "dialogue"), "field 'dialogue': the row r"),
    ):
        result = script(*KFOLD, *more)
        assert result.returncode == 2, result.stdout
        assert said in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not (folder / "kfold").exists()
    assert not (folder / "results").exists()


def test_the_plan_starts_each_fold_from_the_base_model(script, folder):
    result = script(*KFOLD, "--dry_run", "--untrained", "--args=--seed 7")
    assert result.returncode == 0, result.stderr
    commands = [line for line in result.stdout.splitlines() if "src/" in line]
    training = [line for line in commands if "train_lora_fine_tuning.py" in line]
    assert len(training) == 2
    assert all("--model_name nowhere/tiny" in line and "--seed 7" in line for line in training)
    assert [f"kfold/tiny/fold{n}/model --data_path" in training[n] for n in (0, 1)] == [True] * 2
    assert "infer.py nowhere/tiny local reply --name tiny-untrained" in commands[-1]
    assert not (folder / "kfold").exists()


@pytest.mark.slow
def test_every_row_is_answered_by_a_model_that_never_saw_its_cluster(script, folder, model_folder):
    write_json(folder / "models.json", {"tiny": TRAINED | {"model_name": str(model_folder)}})
    write_jsonl(folder / "test.jsonl", [{**rows(40)[0], "question": "오늘은 어디로 갈까?"}])
    more = ("--untrained", "--test", "test.jsonl", "--test_output", "test.json")
    result = script(*KFOLD, *more, timeout=1200)
    assert result.returncode == 0, result.stderr
    answers = folder / "results/reply/infer_results"
    path = answers / "tiny_reply_inference_results.json"
    found = read_json(path)
    assert [row["id"] for row in found] == [row["id"] for row in rows()]
    for number, row in enumerate(found):
        assert row["fold"] == f"fold{number // 2 % 2}"
        assert sum(row["probabilities"]) == pytest.approx(1)
        held = [one for _, one in read_rows(folder / "kfold/tiny" / row["fold"] / "train.jsonl")]
        assert row["title"] not in {one["cluster"] for one in held}
    assert read_json(path.with_suffix(".run.json"))["out_of_fold"] is True
    untrained = read_json(answers / "tiny-untrained_reply_inference_results.json")
    assert [row["id"] for row in untrained] == [row["id"] for row in rows()]
    assert [row["id"] for row in read_json(folder / "test.json")] == ["r40"]

    before = path.read_bytes()
    (folder / "kfold/tiny/fold1/answers.json").unlink()
    path.unlink()
    again = script(*KFOLD, timeout=1200)
    assert again.returncode == 0, again.stderr
    assert again.stdout.count("already done: ") == 1
    assert again.stdout.count("already trained: ") == 1
    assert path.read_bytes() == before
