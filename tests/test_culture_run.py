"""The grid of models and contexts, its table, and the chain as a whole."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT
from tests.test_culture_pairs import CULTURE, ROWS, lines, prepared, refused, write

__all__ = ["prepared"]

MODELS = {
    "tiny": {
        "script": "train_lora_fine_tuning.py",
        "model_name": "embedded",
        "rows": {"variant": "Plain"},
        "answer": {"temperature": 0, "max_new_tokens": 4, "batch_size": 8},
    }
}


def grid_words(tmp_path, prepared, model, *more):
    contexts = [
        {"id": one["id"], "contexts": [{"id": "p", "title": "제목", "text": "찾은 글"}]}
        for one in ROWS
    ]
    models = tmp_path / "models.json"
    models.write_text(json.dumps(MODELS))
    return [
        CULTURE + "grid.py", "--row", "tiny", "--models", models, "--questions", prepared,
        "--models_of", f"base={model}", "--work", tmp_path / "work",
        "--results_dir", tmp_path / "results", "--contexts", "none",
        f"bm25={write(tmp_path / 'bm25.jsonl', contexts)}", *more,
    ]  # fmt: skip


@pytest.mark.slow
def test_a_model_answers_every_condition_and_each_is_a_column(
    tmp_path, script, prepared, model_folder
):
    words = grid_words(tmp_path, prepared, model_folder, "--limit", 2)
    result = script(*words)
    assert result.returncode == 0, result.stderr
    folder = tmp_path / "results" / "culture_short" / "infer_results"
    for name in ("base-none", "base-bm25"):
        path = folder / f"{name}_culture_short_inference_results.json"
        rows = json.loads(path.read_text())
        assert [row["id"] for row in rows] == ["word", "bow"]
        assert [row["contexts"] for row in rows] == [["p"] if name == "base-bm25" else []] * 2
        record = json.loads(path.with_suffix(".run.json").read_text())
        assert record["settings"]["name"] == name
    asked = lines(tmp_path / "work" / "gold.jsonl")
    assert [one["id"] for one in asked] == ["pick", "word", "bow", "text"]
    again = script(*words)
    assert "tokens" not in again.stdout.partition("===")[0]
    assert again.returncode == 0


def test_bad_input_of_the_grid_is_one_line(tmp_path, script, prepared, model_folder):
    words = grid_words(tmp_path, prepared, model_folder)
    refused(script(*words, "--contexts", "bm25"), "field 'contexts'")
    refused(script(*words, "--models_of", "a=x", "a=y"), "field 'models_of'")
    write(tmp_path / "short.jsonl", [{"id": "pick", "contexts": []}])
    result = script(*words, "--contexts", f"x={tmp_path / 'short.jsonl'}")
    refused(result, "short.jsonl", "the question word is not in it")


def scores(folder, name: str, right: dict[str, float]) -> None:
    """A file of score.py: choices and short answers, right or wrong."""
    rows = [
        {
            "id": one, "type": "선다형" if one < "e" else "단답형", "title": one, "question": one,
            "status": "ok", "answer": "1",
            "scores": {"accuracy" if one < "e" else "exact": value},
        }
        for one, value in right.items()
    ]  # fmt: skip
    path = folder / "culture_qa" / f"{name}_scores.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    value = {"model_name": name, "missing": {"bleurt": "x"}, "results": rows}
    value["types"] = {"선다형": {"chance": 0.25}, "단답형": {}}
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")


def test_the_table_pairs_each_figure_with_its_neighbours(tmp_path, script):
    names = "abcdefgh"
    scores(tmp_path, "base-none", {n: float(n in "ae") for n in names})
    scores(tmp_path, "sft-none", {n: float(n in "abe") for n in names})
    scores(tmp_path, "sft-gold", {n: float(n in "abcdefg") for n in names})
    output = tmp_path / "table.json"
    words = [
        CULTURE + "table.py", "--results_dir", tmp_path, "--models", "base", "sft",
        "--contexts", "none", "gold", "--output", output, "--markdown", tmp_path / "t.md",
    ]  # fmt: skip
    result = script(*words)
    assert result.returncode == 0, result.stderr
    found = json.loads(output.read_text())
    assert found["final"] == "final_without_BLEURT"
    values = {name: part["선다형"]["mean"] for name, part in found["scores"].items()}
    assert values == {"base-none": 0.25, "sft-none": 0.5, "sft-gold": 1.0}
    gaps = {(g["of"], g["base"], g["model"]): g["difference"] for g in found["paired"]}
    final = found["final"]
    assert gaps[final, "base-none", "sft-none"] == pytest.approx((0.25 + 0) / 2)
    assert gaps[final, "sft-none", "sft-gold"] == pytest.approx((0.5 + 0.5) / 2)
    assert ("선다형", "base-none", "sft-gold") not in gaps
    assert "chance 0.250" in result.stdout
    assert "| sft | 0.500" in (tmp_path / "t.md").read_text()

    path = tmp_path / "culture_qa" / "sft-none_scores.json"
    value = json.loads(path.read_text("utf-8"))
    value["results"][0]["cut"] = True
    path.write_text(json.dumps(value), "utf-8")
    assert "4/4, 1 cut" in script(*words).stdout

    scores(tmp_path, "sft-gold", dict.fromkeys(names[1:], 1.0))
    refused(script(*words), "sft-gold_scores.json", "other questions")
    refused(script(*words[:-8], "--models", "x", "--contexts", "none"), "no scores")


def test_the_chain_is_a_shell_script_that_explains_itself():
    command = ["bash", str(ROOT / CULTURE / "run_all.sh"), "--help"]
    found = subprocess.run(command, capture_output=True, text=True, env=os.environ)
    assert found.returncode == 0
    assert "run_all.sh embedded" in found.stdout


STUB = """#!/usr/bin/env bash
case $1 in
  -c) exec "{python}" "$@" ;;
  *build_index.py) mkdir -p "$4" && cp "{manifest}" "$4/manifest.json" ;;
esac
echo "$*" >>"{log}"
"""


def chain(tmp_path, data, corpus):
    """run_all.sh with a Python that only notes what it is asked to run."""
    log, stub, manifest = tmp_path / "log", tmp_path / "python", tmp_path / "manifest.json"
    legs = {"embedded": {"kind": "dense"}, "bm": {"kind": "bm25"}}
    files = {"a": {"sha256": hashlib.sha256(corpus.read_bytes()).hexdigest()}}
    manifest.write_text(json.dumps({"legs": legs, "files": files}))
    stub.write_text(STUB.format(python=sys.executable, manifest=manifest, log=log))
    stub.chmod(0o755)
    given = {"PYTHON": stub, "DATA": data, "CORPUS": corpus, "RUN": tmp_path / "run"}
    found = subprocess.run(
        ["bash", str(ROOT / CULTURE / "run_all.sh"), "embedded"],
        capture_output=True,
        text=True,
        env=os.environ | {name: str(value) for name, value in given.items()},
    )
    return found, log.read_text().splitlines() if log.exists() else []


def test_the_contests_own_files_have_no_qrels_and_no_answers(tmp_path):
    data, sample = tmp_path / "data", ROOT / CULTURE / "sample"
    data.mkdir()
    corpus = write(tmp_path / "corpus.jsonl", [{"id": "p", "title": "제목", "text": "글"}])
    rows = json.loads((sample / "test.json").read_text("utf-8"))
    (data / "test.json").write_text(json.dumps([{**row, "output": {}} for row in rows]))
    found, asked = chain(tmp_path, data, corpus)
    assert found.returncode == 0, found.stderr
    assert "without the contexts gated, gold and random" in found.stdout
    assert "without scores and the table" in found.stdout
    assert not [one for one in asked if "--qrels" in one or "score.py" in one or "table.py" in one]
    (submission,) = [one for one in asked if "submission.py" in one]
    assert submission.endswith(f"--output {tmp_path / 'run' / 'submission.json'}")
    first = next(one for one in asked if "contexts/test/bm25" in one)
    assert "--legs bm" in first

    (data / "qrels.json").write_text("{}")
    (data / "test.json").write_text(json.dumps(rows))
    (tmp_path / "log").unlink()
    found, asked = chain(tmp_path, data, corpus)
    assert found.returncode == 0, found.stderr
    assert [one for one in asked if "--by gold --qrels" in one]
    assert any("score.py" in one and "--keep_cut" in one and "dpo-random" in one for one in asked)

    (tmp_path / "log").unlink()
    found, asked = chain(tmp_path, data, write(tmp_path / "other.jsonl", [{"text": "다른 글"}]))
    assert found.returncode == 2
    assert "Name another RUN" in found.stderr
    assert not asked
