"""models.json: its rows, the commands and the ways to answer that are made of them."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys

import pytest

from malmat.cli import ROOT
from malmat.errors import InputError
from malmat.models import answering, answering_for, read_models, row_of, training_command
from tests.conftest import PAIRS

TRAINED = {"script": "train_lora_fine_tuning.py", "model_name": "owner/base", "num_epochs": 1}


@pytest.fixture
def models(tmp_path):
    def write(**rows):
        path = tmp_path / "models.json"
        path.write_text(json.dumps(rows, indent=1), encoding="utf-8")
        return path

    return write


def options_of(script: str) -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(allow_abbrev=False)
    options.add_argument("--model_name", required=True)
    options.add_argument("--output_dir")
    options.add_argument("--num_epochs", type=float)
    options.add_argument("--modules", nargs="+")
    options.add_argument("--merge", action="store_true")
    options.add_argument("--private", action=argparse.BooleanOptionalAction, default=True)
    options.add_argument("--optim", choices=("a", "b"))
    return options


def test_a_row_becomes_a_command(models):
    more = {"merge": True, "private": False, "modules": ["q", "k"], "cpu": True, "optim": None}
    row = read_models(models(mine=TRAINED | more))["mine"]
    assert row.cpu
    words = training_command("mine", row, options_of)
    assert words == [
        *("train_lora_fine_tuning.py", "--output_dir", "checkpoints/mine"),
        *("--model_name", "owner/base", "--num_epochs", "1", "--merge"),
        *("--no-private", "--modules", "q", "k"),
    ]


@pytest.mark.parametrize(
    ("row", "line", "field", "said"),
    [
        (TRAINED | {"lerning_rate": 1}, 6, "lerning_rate", "not an option of train_lora"),
        (TRAINED | {"num_epochs": "many"}, 5, "num_epochs", "invalid float"),
        (TRAINED | {"num_epochs": True}, 5, "num_epochs", "expected one argument"),
        (TRAINED | {"merge": "yes"}, 6, "merge", "true or false"),
        (TRAINED | {"optim": "c"}, 6, "optim", "invalid choice"),
        (TRAINED | {"modules": {"q": 1}}, 6, "modules", ""),
        (TRAINED | {"cpu": "yes"}, 6, "cpu", "boolean"),
        (TRAINED | {"script": "rm.sh"}, 3, "script", "pattern"),
        ({"script": "train_dpo.py"}, 2, "a", "'model_name' is missing"),
        ({}, 2, "a", "neither 'script' nor 'answer'"),
        ([], 2, "a", ""),
        ({"model_name": "x", "answer": {"api": "m"}}, 2, "a", "'model_name' is for training"),
        ({"answer": {"api": "m", "tempreature": 1}}, 5, "answer.tempreature", "no such key"),
        ({"answer": {"api": "m", "temperature": -1}}, 5, "answer.temperature", ""),
        ({"answer": {"model": "x", "batch_size": 0}}, 5, "answer.batch_size", ""),
        ({"answer": {"model": "x", "quantization": "2bit"}}, 5, "answer.quantization", ""),
        ({"answer": {"api": "m", "adapter": "x"}}, 3, "answer", "'adapter' is not for api"),
        ({"answer": {"model": "m", "max_cost": 1}}, 3, "answer", "'max_cost' is not for local"),
        ({"answer": {"quantization": "4bit"}}, 2, "a", "neither 'api', 'base_url' nor 'model'"),
    ],
)
def test_what_a_row_may_not_hold_is_named_with_its_line(models, row, line, field, said):
    path = models(a=row)
    with pytest.raises(InputError) as refused:
        training_command("a", read_models(path)["a"], options_of)
    text = str(refused.value)
    assert re.match(rf"{re.escape(str(path))}, line {line}, field '{re.escape(field)}': ", text)
    assert said in text


def test_rows_say_how_they_answer(models):
    rows = read_models(
        models(
            plain=TRAINED,
            own_code=TRAINED | {"trust_remote_code": True},
            small=TRAINED | {"answer": {"quantization": "4bit", "max_new_tokens": 64}},
            paid={"answer": {"api": "gpt-4o", "temperature": 0, "max_cost": 2.5}},
            served=TRAINED | {"answer": {"base_url": "http://localhost:8000/v1"}},
            base={"answer": {"model": "owner/base", "adapter": "checkpoints/x"}},
        )
    )
    found = {name: answering(name, row) for name, row in rows.items()}
    ways = {name: (how.kind, how.model, how.options) for name, how in found.items()}
    folder = str(ROOT / "checkpoints")
    assert ways == {
        "plain": ("local", f"{folder}/plain", {}),
        "own_code": ("local", f"{folder}/own_code", {"trust_remote_code": True}),
        "small": ("local", f"{folder}/small", {"quantization": "4bit", "max_new_tokens": 64}),
        "paid": ("api", "gpt-4o", {"temperature": 0, "max_cost": 2.5}),
        "served": ("api", "served", {"base_url": "http://localhost:8000/v1"}),
        "base": ("local", "owner/base", {"adapter": "checkpoints/x"}),
    }
    assert all(how.name == name for name, how in found.items())


def test_a_model_is_a_row_or_what_its_name_says(models, tmp_path, monkeypatch):
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    path = models(mine=TRAINED, embedded=TRAINED, paid={"answer": {"api": "gpt-4o"}})

    def found(model, **given):
        how = answering_for(model, path=path, **given)
        return how.kind, how.model, how.name

    assert found("mine") == ("local", str(ROOT / "checkpoints/mine"), "mine")
    assert found("mine", kind="api") == ("api", "mine", "mine")  # a server answers for it
    assert found("mine", base_url="http://localhost:1/v1") == ("api", "mine", "mine")
    assert found("paid") == ("api", "gpt-4o", "paid")
    assert found("gpt-4.1") == ("api", "gpt-4.1", "gpt-4.1")
    for name in ("models/gemini-2.5-flash", "google/gemini-2.5-flash", "ft:gpt-4o:me::1"):
        assert found(name)[0] == "api"
    assert found("embedded") == ("local", "embedded", "embedded")
    assert found("checkpoints/not-there/final/") == (
        "local", "checkpoints/not-there/final/", "final",
    )  # fmt: skip
    assert found(str(tmp_path))[0] == "local"
    assert found("owner/name") == ("local", "owner/name", "name")
    assert found("owner/name", base_url="http://localhost:1/v1")[0] == "api"
    assert found("o3-mini")[0] == found("nobody-knows-it", kind="api")[0] == "api"
    for name, guess in (("minee", "mean mine?"), ("embeded", "mean embedded?"), ("xyz", "--type")):
        with pytest.raises(InputError, match=guess):
            found(name)
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:1/v1")
    assert found("owner/name")[0] == found("nobody-knows-it")[0] == "api"
    assert found("mine")[0] == "local"


def test_every_row_of_the_repository_has_a_command(script):
    result = script("src/train/rows.py", "--dry_run", *read_models())
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("\n=== ") == len(read_models())


def test_rows_are_trained_one_after_the_other(models, script, tmp_path, model_folder):
    """The first fails, the second takes a step of DPO, and the table says so."""
    rows = [{"prompt": q, "chosen": a, "rejected": a[::-1]} for q, a in PAIRS]
    data = tmp_path / "prefs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    small = {"script": "train_dpo.py", "gradient_accumulation_steps": 1, "max_steps": 1}
    path = models(
        bad=small | {"model_name": str(tmp_path / "nowhere")},
        good=small | {"model_name": str(model_folder), "optim": "adamw_torch", "lora_r": 2},
    )
    output = tmp_path / "out"
    result = script(
        "src/train/rows.py", "bad", "good", "--models", path, "--data_path", data,
        f"--args=--output_dir {output} --allow_leaks",
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    assert "=== good" in result.stdout
    assert re.search(r"^bad +failed", result.stdout, re.M)
    assert (output / "adapter_model.safetensors").is_file()


def test_exp_sh_finds_the_type_and_asks_for_no_key(tmp_path, model_folder):
    command = ["bash", str(ROOT / "src/eval/exp.sh"), str(model_folder), "", "usage"]
    environment = {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT / "src"),
        "PATH": "/usr/bin:/bin",
    }
    environment |= {"RESULTS": str(tmp_path), "JUDGE": "lexicon", "HF_HUB_OFFLINE": "1"}
    environment |= {"PATH": os.environ["PATH"], "ARGS": "--limit 1 --max_new_tokens 2 --dry_run"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "KEY" not in result.stderr
    assert f"=== {model_folder.name} · usage" in result.stdout
    assert re.search(r"type +local", result.stdout)
    command = [*command[:2], "checkpoints/not-there"]  # which has no more to tell it by
    result = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "KEY" not in result.stderr
    assert re.search(r"=== not-there · usage(.|\n)*type +local", result.stdout)


def test_trained_rows_share_the_defaults(models):
    path = models(
        defaults={"script": "train_lora_fine_tuning.py", "num_epochs": 4, "merge": True},
        one={"model_name": "owner/base", "rows": {"variant": "Short", "data": "refined"}},
        two={"model_name": "owner/other", "num_epochs": 1},
        served={"answer": {"api": "gpt-4o"}},
    )
    rows = read_models(path)
    assert list(rows) == ["one", "two", "served"]
    assert rows["one"].training_options() == {
        "model_name": "owner/base",
        "num_epochs": 4,
        "merge": True,
    }
    assert (rows["one"].rows.variant, rows["one"].rows.data) == ("Short", "refined")
    assert rows["two"].training_options()["num_epochs"] == 1
    assert "--merge" in training_command("one", rows["one"], options_of)
    assert answering("served", rows["served"]).model == "gpt-4o"
    assert answering_for("one", path=path).model.endswith("checkpoints/one")


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"defaults": []}, "defaults", "expected an object"),
        ({"a": {"rows": {"variant": "x", "dta": "raw"}}}, "rows.dta", "One of variant, data."),
        ({"a": {"rows": {"variant": "x", "data": "fresh"}}}, "rows.data", "'raw' or 'refined'"),
        ({"a": {"rows": {}}}, "rows", ""),
    ],
)
def test_what_rows_and_defaults_may_not_be(models, changes, field, said):
    row = {"a": TRAINED | changes.get("a", {})}
    with pytest.raises(InputError) as refused:
        read_models(models(**{**changes, **row}))
    assert f"field '{field}" in str(refused.value)
    assert said in str(refused.value)


def test_one_row_is_found_by_name(models):
    path = models(a=TRAINED)
    rows = read_models(path)
    assert row_of(rows, "a", path).model_name == "owner/base"
    with pytest.raises(InputError, match=r"no row 'b'\. One of a\."):
        row_of(rows, "b", path)
