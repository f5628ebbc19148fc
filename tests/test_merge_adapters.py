"""Merged adapters: what each method gives, and adapters that cannot be merged."""

from __future__ import annotations

import json
import sys

import pytest

from malmat import cli
from malmat.errors import InputError
from malmat.lm.load import load_model, load_tokenizer
from malmat.train.checkpoints import is_whole
from malmat.train.merging import METHODS, PRUNES, Merge, check_adapters, merge_adapters
from malmat.train.record import read_run
from tests.conftest import ROOT, make_model


@pytest.fixture(scope="module")
def make_adapter(tmp_path_factory, model_folder, tokenizer):
    """A function that writes an adapter of the tiny model with random weights."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    made = tmp_path_factory.mktemp("adapters")

    def make(name: str, *, seed: int = 1, base=model_folder, **changes):
        if not (made / name).exists():
            settings = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj"]} | changes
            torch.manual_seed(seed)
            config = LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **settings)
            adapted = get_peft_model(AutoModelForCausalLM.from_pretrained(base), config)
            adapted.save_pretrained(made / name)
            tokenizer.save_pretrained(made / name)
            run = {"status": "done", "wording": changes.get("bias", "묻는다: {question}")}
            (made / name / "run.json").write_text(json.dumps(run))
        return str(made / name)

    return make


def logits_of(folder):
    import torch

    model = load_model(str(folder))
    with torch.no_grad():
        return model(torch.arange(5, 25)[None]).logits


def changes_of(folder):
    """Module → the change of its weights that an adapter makes."""
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    from malmat.lm.load import base_of

    model = AutoModelForCausalLM.from_pretrained(base_of(folder))
    model = PeftModel.from_pretrained(model, folder)
    return {
        name: module.get_delta_weight("default").detach()
        for name, module in model.named_modules()
        if hasattr(module, "get_delta_weight")
    }


@pytest.mark.parametrize("use_rslora", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_a_merge_of_nothing_new_is_the_adapter_itself(make_adapter, tmp_path, method, use_rslora):
    """With rsLoRA's scale, too: alpha / sqrt(r), which PEFT's own merge would apply once more."""
    prunes = method in PRUNES  # which average what agrees: two of a kind
    one = make_adapter(f"a{use_rslora}", seed=1, use_rslora=use_rslora)
    two = make_adapter(f"{prunes}{use_rslora}", seed=1 if prunes else 2, use_rslora=use_rslora)
    weights, density = ((1.0, 1.0), 1.0) if prunes else ((1.0, 0.0), None)
    out = tmp_path / "merged"
    merge_adapters(Merge((one, two), weights, method, density), out)
    wanted, found = changes_of(one), changes_of(out)
    assert wanted.keys() == found.keys()
    for name, change in wanted.items():
        assert change.abs().max() > 1e-3
        assert (found[name] - change).abs().max() < 1e-4


def test_svd_is_the_weighted_sum_of_the_changes_of_any_ranks(make_adapter, tmp_path):
    one, two = make_adapter("r4", seed=3), make_adapter("r2", seed=4, r=2, use_rslora=True)
    out = tmp_path / "merged"
    merge_adapters(Merge((one, two), (0.7, -0.3), "svd", None, 6), out)
    first, second, found = changes_of(one), changes_of(two), changes_of(out)
    for name, change in found.items():
        assert (change - (0.7 * first[name] - 0.3 * second[name])).abs().max() < 1e-4
    assert json.loads((out / "adapter_config.json").read_text())["r"] == 6


@pytest.fixture
def merge(monkeypatch, capsys):
    """Run the script in this process; its exit code and error output."""
    monkeypatch.syspath_prepend(str(ROOT / "src/train"))
    import merge_adapters as module

    def run(*words: object):
        monkeypatch.setattr(sys, "argv", ["merge_adapters.py", *map(str, words)])
        capsys.readouterr()  # of the models that were made before
        with pytest.raises(SystemExit) as left:
            cli.run(module.main)
        return left.value.code, capsys.readouterr().err

    return run


def test_the_merged_adapter_is_a_model_like_any_other(make_adapter, tmp_path, merge, model_folder):
    one, two, out = make_adapter("s1", seed=5), make_adapter("s2", seed=6), tmp_path / "m"
    words = ["--adapters", one, two, "--output"]
    assert merge(*words, out, "--method", "dare_ties", "--dry_run")[0] == 0
    assert not out.exists()
    assert merge(*words, out, "--method", "dare_ties")[0] == 0
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert is_whole(out)
    assert (logits_of(out) - logits_of(model_folder)).abs().max() > 1e-3
    assert load_tokenizer(str(out)).chat_template
    record = read_run(out)
    assert record["merge"]["method"] == "dare_ties"
    assert record["merge"]["weights"] == [1.0, 1.0]
    assert record["wording"] == "묻는다: {question}"
    again = tmp_path / "again"
    assert merge(*words, again, "--method", "dare_ties")[0] == 0
    assert (logits_of(out) == logits_of(again)).all()
    code, said = merge(*words, out)
    assert (code, "--overwrite" in said) == (2, True)
    assert merge(*words, out, "--overwrite")[0] == 0
    assert read_run(out)["merge"]["weights"] == [0.5, 0.5]


def test_adapters_of_another_base_are_refused(make_adapter, tmp_path, tokenizer):
    other = tmp_path / "other"
    make_model(tokenizer, seed=9).save_pretrained(other)
    tokenizer.save_pretrained(other)
    one, two = make_adapter("o1"), make_adapter("o2", base=other)
    with pytest.raises(InputError, match=r"stands on .*other.*one base"):
        check_adapters(Merge((one, two), (0.5, 0.5), "linear"))
    copy = tmp_path / "copy"  # the same weights under another name are the same base
    make_model(tokenizer).save_pretrained(copy)
    tokenizer.save_pretrained(copy)
    three = make_adapter("o3", base=copy)
    assert check_adapters(Merge((one, three), (0.5, 0.5), "linear"))


@pytest.mark.parametrize(
    ("changes", "method", "named"),
    [
        ({"r": 8}, "linear", "field 'r'.*svd"),
        ({"r": 8}, "dare_ties", "field 'r'.*svd"),
        ({"use_dora": True}, "svd", "use_dora"),
        ({"modules_to_save": ["lm_head"]}, "linear", "modules_to_save"),
        ({"rank_pattern": {"q_proj": 2}}, "svd", "rank_pattern"),
        ({"target_modules": "all-linear"}, "linear", None),
        ({"bias": "lora_only"}, "linear", "bias"),
    ],
)
def test_adapters_that_cannot_be_mixed_are_refused(make_adapter, changes, method, named):
    one, two = make_adapter("plain"), make_adapter("-".join(map(str, changes)), **changes)
    merge = Merge((one, two), (0.5, 0.5), method, 0.5)
    if named is None:
        assert check_adapters(merge)
        return
    with pytest.raises(InputError, match=named):
        check_adapters(merge)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--adapters", "{one}"], "two different adapters"),
        (["--adapters", "{one}", "{one}"], "two different adapters"),
        (["--adapters", "{one}", "{base}"], "no adapter_config.json"),
        (["--adapters", "{one}", "nowhere"], "no adapter_config.json"),
        (["--adapters", "{one}", "{two}", "--weights", "1"], "1 weights of 2"),
        (["--adapters", "{one}", "{two}", "--density", "0.5"], "density"),
        (["--adapters", "{one}", "{two}", "--method", "ties", "--rank", "4"], "rank"),
    ],
)
def test_options_that_make_no_sense_are_one_line(
    make_adapter, model_folder, merge, tmp_path, words, named
):
    values = {"one": make_adapter("w1"), "two": make_adapter("w2", seed=2), "base": model_folder}
    words = [word.format(**values) for word in words]
    code, said = merge(*words, "--output", tmp_path / "m")
    assert code == 2
    assert named in said
    assert len(said.splitlines()) == 1
    assert not (tmp_path / "m").exists()
