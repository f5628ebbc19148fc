"""Which models may read several examples in one row, and the order of rows after a cut."""

from __future__ import annotations

import itertools
import json

import pytest

from tests.conftest import PAIRS, make_model

LINEAR = {
    "layer_types": ["linear_attention", "full_attention"],
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_key_head_dim": 16,
    "linear_value_head_dim": 16,
}
SLIDING = {"layer_types": ["sliding_attention", "full_attention"], "sliding_window": 16}
EXPERTS = {"num_local_experts": 4, "num_experts_per_tok": 2}
SMALL_EXPERTS = {"num_experts_per_tok": 2, "moe_intermediate_size": 32}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 16}
APART = {
    **{name: {} for name in ("llama", "mistral", "qwen2", "qwen3", "phi3", "smollm3", "gpt_neox")},
    **dict.fromkeys(("gemma2", "gemma3_text", "exaone4", "cohere2"), SLIDING),
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4},
    "hyperclovax": {},
    "gemma4_text": SLIDING | {"vocab_size_per_layer_input": 500, "hidden_size_per_layer_input": 8},
    "mixtral": EXPERTS,
    "solar_open": SMALL_EXPERTS | {"n_routed_experts": 4},
}
READ_EACH_OTHER = {
    "opt": {"ffn_dim": 128, "word_embed_proj_dim": 64},
    "lfm2": {"layer_types": ["conv", "full_attention"], "block_ff_dim": 128},
    "lfm2_moe": SMALL_EXPERTS | {"layer_types": ["conv", "full_attention"], "num_experts": 4},
    "qwen3_5_text": LINEAR,
    "falcon_h1": {"mamba_d_ssm": 64, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 16},
    "qwen3_next": {
        **LINEAR, **SMALL_EXPERTS, "num_experts": 4, "shared_expert_intermediate_size": 32,
    },
    "bamba": MAMBA | {"attn_layer_indices": [1]},
    "granitemoehybrid": {
        **MAMBA, "layer_types": ["mamba", "attention"], "shared_intermediate_size": 64,
        "num_local_experts": 2, "num_experts_per_tok": 1,
    },
    "nemotron_h": {
        "layers_block_type": ["mamba", "attention"], "mamba_num_heads": 8, "mamba_head_dim": 16,
        "ssm_state_size": 16, "n_groups": 1,
    },
    "jamba": {
        "num_experts": 2, "num_experts_per_tok": 1, "attn_layer_period": 2,
        "attn_layer_offset": 1, "use_mamba_kernels": False,
    },
    "minimax": EXPERTS | {"layer_types": ["linear_attention", "full_attention"]},
    "gpt_oss": SLIDING | EXPERTS,
    "llama4_text": EXPERTS | {"intermediate_size_mlp": 128},
}  # fmt: skip


def tiny(name: str, options: dict, dtype: str = "float32"):
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    torch.manual_seed(0)
    common = {
        "vocab_size": 500, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "max_position_embeddings": 512, "pad_token_id": 0, "eos_token_id": 4, "bos_token_id": 1,
    }  # fmt: skip
    config = CONFIG_MAPPING[name](**{**common, **options})
    return AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype)).train()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", APART)
def test_families_that_keep_examples_apart_are_packed(name, dtype):
    from malmat.train.packing import KEEP_APART, interaction, why_padded

    model = tiny(name, APART[name], dtype)
    assert why_padded(model) is None
    assert model.training
    if dtype == "float32":
        assert interaction(model) == pytest.approx((0, 0), abs=1e-5)
    asked = ("hyperclovax", "gemma4_text", "mixtral", "solar_open")
    assert (name in asked) is (name not in KEEP_APART)


def test_every_family_that_is_packed_unasked_is_shown_here():
    from malmat.train.packing import KEEP_APART

    assert set(KEEP_APART) <= set(APART)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("name", READ_EACH_OTHER)
def test_families_that_read_each_other_in_a_row_are_padded_and_it_is_said(name, dtype):
    from malmat.train.packing import why_padded

    said = why_padded(tiny(name, READ_EACH_OTHER[name], dtype))
    assert said is not None
    assert ("in chunks" if name == "llama4_text" else "read each other") in said


def test_where_weights_are_split_only_known_families_are_packed(monkeypatch):
    from malmat.train.packing import why_padded

    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert why_padded(tiny("qwen3", {})) is None
    assert "cannot be asked" in (why_padded(tiny("mixtral", EXPERTS)) or "")


def test_the_run_says_that_rows_are_padded_and_has_the_loss_of_rows_alone(
    tmp_path, tokenizer, script
):
    from tests.test_training import COMMON, encode, plain_loss, write_pairs

    folder, data, output = tmp_path / "opt", write_pairs(tmp_path / "pairs.jsonl"), tmp_path / "o"
    model = tiny("opt", READ_EACH_OTHER["opt"] | {"vocab_size": len(tokenizer), "dropout": 0.0})
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    options = COMMON | {
        "--model_name": folder, "--data_path": data, "--output_dir": output, "--max_steps": 1,
        "--eval_data_path": data,
    }  # fmt: skip
    words = [word for pair in options.items() for word in pair]
    result = script("src/train/train_transformers_full_fine_tuning.py", *words, "--allow_leaks")
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("rows are padded, not packed: in one row of OPTFor") == 1
    record = json.loads((output / "run.json").read_text())
    assert record["resolved"]["packed"] is False
    want = plain_loss(model.eval(), encode(data, folder))
    assert record["losses"][0]["eval_loss"] == pytest.approx(want, rel=1e-5)


# --------------------------------------------------------------------------- order of rows


def trainer_that_notes_its_rows(folder, tokenizer, way: str, stop: int | None):
    """A trainer of eight rows, two a step, cut off after a step; and what it has read."""
    from transformers import TrainerCallback

    from malmat.lm import chat
    from malmat.train.trainers import AnswerTrainer, data_set
    from tests.test_training import config

    class Cut(TrainerCallback):
        def on_save(self, args, state, control, **kwargs):
            control.should_training_stop = state.global_step == stop

    model = make_model(tokenizer)
    if way == "padded":
        model.config._attn_implementation = "flex_attention"
    talks = [[{"role": "user", "content": q}, {"role": "assistant", "content": a}]
             for q, a in PAIRS]  # fmt: skip
    rows = [chat.encode_example(tokenizer, talk) for talk in talks]
    trainer = AnswerTrainer(
        model=model,
        args=config(
            folder, num_train_epochs=4, per_device_train_batch_size=2, save_steps=1, data_seed=7,
            disable_tqdm=True,
        ),
        train_dataset=data_set(rows),
        processing_class=tokenizer,
        callbacks=[Cut()],
    )  # fmt: skip
    model.config._attn_implementation = "sdpa"
    assert trainer.packed is (way == "packed")
    seen: list[list[int]] = []
    collate = trainer.data_collator

    def noting(batch):
        numbers = [next(n for n, row in enumerate(rows) if row["input_ids"] == one["input_ids"])
                   for one in batch]  # fmt: skip
        seen.append(numbers)
        return collate(batch)

    trainer.data_collator = noting
    return trainer, seen


@pytest.mark.parametrize("way", ["packed", "padded"])
@pytest.mark.parametrize("cut", [3, 4, 6])
def test_after_a_cut_each_row_is_still_read_once_an_epoch(tmp_path, tokenizer, way, cut):
    whole, rows = trainer_that_notes_its_rows(tmp_path / "whole", tokenizer, way, None)
    whole.train()
    epochs = [sorted(itertools.chain(*rows[n : n + 4])) for n in range(0, 16, 4)]
    assert epochs == [list(range(8))] * 4
    assert len({str(rows[n : n + 4]) for n in range(0, 16, 4)}) > 1  # another order each epoch

    first, _ = trainer_that_notes_its_rows(tmp_path / "cut", tokenizer, way, cut)
    first.train()
    import torch

    torch.manual_seed(99)  # what happens between two starts is no part of the order
    again, rest = trainer_that_notes_its_rows(tmp_path / "cut", tokenizer, way, None)
    again.train(resume_from_checkpoint=str(tmp_path / "cut" / f"checkpoint-{cut}"))
    assert rest == rows[cut:]
