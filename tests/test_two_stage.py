"""SFT, merge, DPO: each stage stands on the one before it, and says so."""

from __future__ import annotations

import json
import shutil

import pytest

from malmat.errors import InputError, StopRunning
from malmat.lm.chat import encode_example
from tests.conftest import PAIRS, make_model
from tests.test_training import command, write_preferences
from tests.test_training_faults import preference_trainer

LORA, DPO = "train_lora_fine_tuning.py", "train_dpo.py"


def rows(path):
    lines = [json.dumps({"question": q, "answer": a}, ensure_ascii=False) for q, a in PAIRS]
    path.write_text("\n".join(lines))
    return path


def trained(script, *words, **options):
    result = script(*command(*words, allow_leaks=(), **options))
    assert result.returncode == 0, result.stderr
    return result.stdout


def texts(tokenizer):
    return [
        encode_example(
            tokenizer, [{"role": "user", "content": q}, {"role": "assistant", "content": a}]
        )
        for q, a in PAIRS
    ]


# --------------------------------------------------------------------- before step one


@pytest.mark.parametrize("fault", ["none", "adapter", "reference", "dropout"])
def test_training_begins_only_where_policy_and_reference_are_one(tmp_path, tokenizer, fault):
    import torch

    from malmat.train.reference import BeginsAsReference, log_ratios

    # The tests' trainer makes an adapter with weights of its own, unless it takes one step.
    steps = {} if fault == "adapter" else {"max_steps": 1}
    trainer = preference_trainer(tmp_path, tokenizer, make_model(tokenizer), 3, **steps)
    trainer.add_callback(BeginsAsReference(trainer))
    if fault == "reference":  # the model before its SFT, as where an adapter was not merged
        plain = trainer._compute_ref_log_probs
        trainer._compute_ref_log_probs = lambda *given: [part - 0.5 for part in plain(*given)]
    if fault == "dropout":
        for module in trainer.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.5
        with torch.no_grad():
            for name, weight in trainer.model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(1e-2)
    before = {n: p.detach().clone() for n, p in trainer.model.named_parameters()}
    if fault == "none":
        assert log_ratios(trainer, trainer.train_dataset).shape == (len(PAIRS), 2)
        collate, read = trainer.data_collator, []
        trainer.data_collator = lambda part: read.append(part) or collate(part)
        trainer.train()
        checked, trained = ([row["chosen_ids"] for row in part] for part in read[:2])
        assert sorted(checked) == sorted(trained)  # what the one step reads, and no more
        (row,) = [row for row in trainer.state.log_history if "log_ratio" in row]
        assert row["log_ratio"] == 0
        assert row["step"] == 0
        assert row["chosen_tokens"] > 1
        return
    pairs = 3 if steps else len(PAIRS)
    with pytest.raises(StopRunning, match=f"{pairs} of {pairs} pairs"):
        trainer.train()
    assert all(torch.equal(before[n], p) for n, p in trainer.model.named_parameters())


def test_the_log_ratio_is_one_a_token_and_answer(tmp_path, tokenizer):
    """Against log-probabilities counted one text at a time, in batches of any size."""
    from malmat.train.lora import mean_loss
    from malmat.train.reference import log_ratios

    trainer = preference_trainer(tmp_path, tokenizer, make_model(tokenizer), 3)
    found = log_ratios(trainer, trainer.train_dataset)
    trainer.model.eval()
    for number, text in enumerate(texts(tokenizer)):
        policy = mean_loss(trainer.model, [text])
        with trainer.model.disable_adapter():
            reference = mean_loss(trainer.model, [text])
        assert found[number, 0].item() == pytest.approx(reference - policy, abs=1e-5)


# ----------------------------------------------------------------------------- merging


@pytest.mark.parametrize("kind", ["4bit", "checkpoint"])
def test_a_merge_of_four_bits_is_the_tuned_model(tmp_path, tokenizer, kind, capsys):
    """Its loss is that of the quantized weights with their adapter, which the weights from before
    the rounding do not have."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    from malmat.lm.load import load_model
    from malmat.train.lora import mean_loss, write_merged

    base, adapter = tmp_path / "base", tmp_path / "adapter"
    make_model(tokenizer, hidden_size=128, intermediate_size=256).save_pretrained(base)
    quantized = load_model(str(base), quantization="4bit")
    if kind == "checkpoint":
        quantized.save_pretrained(tmp_path / "base4")
        base = tmp_path / "base4"
    tokenizer.save_pretrained(base)
    torch.manual_seed(0)
    tuned = get_peft_model(
        quantized, LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    )
    tuned.save_pretrained(adapter)
    tokenizer.save_pretrained(adapter)
    config = json.loads((adapter / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(base)
    (adapter / "adapter_config.json").write_text(json.dumps(config))
    settings = {"option_4bit": kind == "4bit"}
    (adapter / "run.json").write_text(json.dumps({"settings": settings}))
    rows = texts(tokenizer)
    wanted = mean_loss(tuned.train(), rows)  # not packed for the CPU's bfloat16, as in eval()

    write_merged(adapter, tmp_path / "merged", texts=rows)
    assert "merged into dequantized weights: loss" in capsys.readouterr().out
    said = json.loads((tmp_path / "merged" / "merge.json").read_text())
    assert said["texts"] == len(rows)
    assert said["loss_after"] == pytest.approx(wanted, abs=1e-4)
    assert said["loss_before"] == pytest.approx(wanted, abs=0.02)
    merged = load_model(str(tmp_path / "merged"))
    assert not getattr(merged, "is_quantized", False)
    assert mean_loss(merged, rows) == pytest.approx(wanted, abs=1e-4)
    if kind == "4bit":
        plain = PeftModel.from_pretrained(load_model(str(base)), adapter)
        assert abs(mean_loss(plain, rows) - wanted) > 1e-3


def test_a_merge_that_changes_the_loss_is_not_written(tmp_path, tokenizer, monkeypatch):
    from malmat.train import lora

    make_model(tokenizer).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    (tmp_path / "base" / "run.json").write_text('{"settings": {"option_4bit": true}}')
    losses = iter([2.0, 2.2])
    monkeypatch.setattr(lora, "mean_loss", lambda *_: next(losses))
    with pytest.raises(StopRunning, match=r"2\.0000 to 2\.2000"):
        lora.write_merged(tmp_path / "base", tmp_path / "merged", texts=texts(tokenizer))
    assert not (tmp_path / "merged").exists()


# ------------------------------------------------------------------------- the chain


@pytest.mark.slow
@pytest.mark.parametrize("bits", [(), ("--option_4bit",)])
def test_dpo_stands_on_the_merged_model_and_on_no_other(tmp_path, script, model_folder, bits):
    data, prefs = rows(tmp_path / "rows.jsonl"), write_preferences(tmp_path / "prefs.jsonl")
    sft, dpo = tmp_path / "sft", tmp_path / "dpo"
    quantized = {"option_4bit": ()} if bits else {}
    trained(script, model_folder, data, sft, LORA, max_steps=20, **quantized)
    output = trained(script, sft, prefs, dpo, DPO, max_steps=30, learning_rate="5e-3", **quantized)
    assert "reference: log-ratio at most 0 on 8 pairs" in output
    assert ("merged into dequantized weights: loss" in output) is bool(bits)
    record = json.loads((dpo / "run.json").read_text())
    assert record["reference"]["log_ratio"] == 0
    steps = record["losses"]
    assert steps[0]["reward_margin"] == pytest.approx(0, abs=1e-5)
    assert steps[-1]["reward_margin"] > 0.02
    base = json.loads((dpo / "base.json").read_text())
    assert base["merged_from"] == str(sft)
    assert ("loss_after" in base) is bool(bits)
    card = (dpo / "README.md").read_text()
    assert f"made by merging `{sft}`" in card
    assert base["weights"] in card

    from malmat.lm.load import load_model

    load_model(str(dpo))
    load_model(str(dpo / "base"), adapter=str(dpo))
    shutil.copytree(dpo / "base", tmp_path / "copy")  # the same weights elsewhere
    load_model(str(tmp_path / "copy"), adapter=str(dpo))
    ask = ["src/eval/infer.py", model_folder, "local", "usage", "--adapter", dpo, "--dry_run"]
    result = script(*ask)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "stands on a merged model" in result.stderr
    with pytest.raises(InputError, match="stands on a merged model"):
        load_model(str(model_folder), adapter=str(dpo))
    # Even where the adapter's own folder names the other base.
    shutil.rmtree(dpo / "base")
    config = json.loads((dpo / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = str(model_folder)
    (dpo / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match="stands on a merged model"):
        load_model(str(dpo))
