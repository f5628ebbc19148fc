"""What runs on a GPU, as far as it shows without one: settings, estimates, batches, calls."""

from __future__ import annotations

import importlib
import sys
import types

import pytest
import torch

from malmat.errors import InputError
from malmat.lm import device, generate, read
from malmat.lm.sampling import Sampling
from malmat.train import optimizer
from malmat.train.memory import memory
from malmat.train.settings import settings_from
from malmat.train.trainers import AnswerTrainer, LabelledPositions
from tests.conftest import ROOT
from tests.test_run import settings  # noqa: F401  (a fixture)


def qwen3_8b():
    from transformers import Qwen3Config

    return Qwen3Config(
        vocab_size=151_936, hidden_size=4096, intermediate_size=12_288, num_hidden_layers=36,
        num_attention_heads=32, num_key_value_heads=8, head_dim=128, tie_word_embeddings=False,
    )  # fmt: skip


def estimate(**options):
    return memory(qwen3_8b(), tokens=512, labelled=128, dtype="bfloat16", **options)


def test_full_fine_tuning_in_bfloat16_rounds_by_chance(monkeypatch, settings):  # noqa: F811
    full = "train_transformers_full_fine_tuning"
    assert (settings(full, "full").optim, settings(full, "full").optim_args) == ("adamw_8bit", None)
    monkeypatch.setattr(optimizer, "default_dtype", lambda: "bfloat16")
    made = settings(full, "full")
    assert (made.optim, made.optim_args) == ("adamw_torch_8bit", "bf16_stochastic_round=True")
    assert made.shown()["optim_args"] == made.optim_args
    assert optimizer.rounding_note(made) is None
    plain = settings(full, "full", "--optim", "adamw_torch_fused")
    assert (plain.optim, plain.optim_args) == ("adamw_torch_fused", None)
    assert "--optim_args bf16_stochastic_round=True" in optimizer.rounding_note(plain)
    script, method = "train_unsloth_fine_tuning", "unsloth-full"
    assert settings(script, method, "--option_full").optim == "adamw_torch_8bit"
    for adapter in (settings(script, method), settings("train_lora_fine_tuning", "lora")):
        assert (adapter.optim, adapter.optim_args) == ("adamw_8bit", None)
        assert optimizer.rounding_note(adapter) is None


def test_a_run_hands_its_optimizers_arguments_to_transformers(monkeypatch, settings):  # noqa: F811
    from malmat.train import loop

    monkeypatch.setattr(optimizer, "default_dtype", lambda: "bfloat16")
    made = settings("train_transformers_full_fine_tuning", "full", "--report_to", "none")
    batches = types.SimpleNamespace(steps=1, shape=(1, 1))
    for own_loss in (False, True):
        job = types.SimpleNamespace(
            settings=made, held=None, batches=batches, packed=None, own_loss=own_loss
        )
        given = loop._arguments(job)
        assert (given.optim, given.optim_args) == ("adamw_torch_8bit", "bf16_stochastic_round=True")


def test_transformers_hands_the_rounding_to_torchao(monkeypatch):
    from transformers import Trainer, TrainingArguments, trainer_optimizer

    def adam(*args):
        return args

    module = types.ModuleType("torchao.optim")
    module.AdamW8bit = module.AdamW4bit = adam
    monkeypatch.setitem(sys.modules, "torchao.optim", module)
    monkeypatch.setattr(trainer_optimizer, "is_torchao_available", lambda: True)
    version = trainer_optimizer.importlib.metadata.version
    monkeypatch.setattr(
        trainer_optimizer.importlib.metadata,
        "version",
        lambda name: "0.18.0" if name == "torchao" else version(name),
    )
    name, more = optimizer.ROUNDED
    args = TrainingArguments("unused", optim=name, optim_args=more, use_cpu=True)
    kind, options = Trainer.get_optimizer_cls_and_kwargs(args)
    assert kind is adam
    assert options["bf16_stochastic_round"] == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--optim", "adm"], "optim.*unknown: 'adm'"),
        (["--optim_args", "bf16"], r"optim_args.*NAME=VALUE"),
        (["--optim", "adamw_torch_8bit"], "needs torchao"),
    ],
)
def test_an_optimizer_that_cannot_be_made_is_refused(monkeypatch, settings, words, said):  # noqa: F811
    monkeypatch.setattr(optimizer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=said):
        optimizer.check_optimizer(settings("train_lora_fine_tuning", "lora", *words))


def test_rounding_by_chance_takes_no_more_memory():
    rounded, plain = estimate(optim="adamw_torch_8bit"), estimate(optim="adamw_8bit")
    assert rounded["optimizer"] == plain["optimizer"]


def test_split_weights_are_float32_and_what_is_moved_is_not_on_the_card(monkeypatch):
    whole = estimate(optim="adamw_torch", shards=4)
    parts = sum(whole[part] for part in ("weights", "gradients", "optimizer"))
    assert parts == pytest.approx(16 * whole["parameters"] / 4 / 2**30, rel=1e-3)
    with_checkpoints = estimate(optim="adamw_torch", shards=4, gradient_checkpointing=True)
    assert 32 < with_checkpoints["total"] < 35  # about 33 GiB on each of four cards
    moved = estimate(optim="adamw_torch", shards=4, offload={"gradients", "optimizer"})
    assert moved["optimizer"] == moved["gradients"] == 0
    assert moved["offloaded"] == pytest.approx(4 * (whole["optimizer"] + whole["gradients"]), 1e-3)
    adapter = {"optim": "adamw_torch", "lora_r": 8}
    frozen = estimate(shards=4, **adapter)["weights"]
    assert frozen == pytest.approx(estimate(**adapter)["weights"] / 4, 1e-3)

    everything = {"weights", "gradients", "optimizer"}
    assert device.offloaded() == frozenset()
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "none")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "none")
    assert device.offloaded() == frozenset()
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu")
    assert device.offloaded() == {"gradients", "optimizer"}
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE", "nvme")
    assert device.offloaded() == everything
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_OFFLOAD_PARAMS", "true")
    assert device.offloaded() == everything


def test_unsloth_leaves_the_embeddings_as_they_are():
    options = {"optim": "adamw_8bit", "quantization": "4bit", "lora_r": 32}
    cast, kept = (estimate(embeddings_cast=c, **options)["weights"] for c in (True, False))
    embeddings = 2 * 151_936 * 4096
    assert cast - kept == pytest.approx(2 * embeddings / 2**30, rel=0.01)


def test_unsloth_gets_every_flag_and_the_exact_model(monkeypatch, tmp_path):
    asked = {}

    class FastLanguageModel:
        @staticmethod
        def from_pretrained(**options):
            asked["load"] = options
            return "model", "tokenizer"

        @staticmethod
        def get_peft_model(model, **options):
            asked["adapter"] = options
            return model

    fake = types.ModuleType("unsloth")
    fake.FastLanguageModel = FastLanguageModel
    monkeypatch.setitem(sys.modules, "unsloth", fake)
    monkeypatch.syspath_prepend(str(ROOT / "src" / "train"))
    script = importlib.import_module("train_unsloth_fine_tuning")

    def build(*words):
        given = ["--model_name", "owner/name-4bit", "--data_path", "rows.jsonl", *words]
        asked.clear()
        script.build(settings_from(script.build_parser().parse_args(given), "unsloth"))
        return asked

    for how, value in (("off", False), ("on", "unsloth")):
        full = build("--option_full", "--gradient_checkpointing", how)["load"]
        assert full["use_gradient_checkpointing"] is value or value == "unsloth"
        assert full["use_gradient_checkpointing"] == value
        assert (full["full_finetuning"], full["use_exact_model_name"]) == (True, True)
        assert "adapter" not in asked
        adapter = build("--option_4bit", "--gradient_checkpointing", how)["adapter"]
        assert adapter["use_gradient_checkpointing"] == value
    monkeypatch.setattr(script.lora, "merged_base", lambda made: str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    assert build()["load"]["model_name"] == str(tmp_path)  # an adapter's folder, merged


def test_packed_rows_say_where_examples_begin_and_end(tmp_path, tokenizer, model, monkeypatch):
    from trl import SFTConfig

    rows = [{"input_ids": [1] * n, "labels": [1] * n} for n in (3, 5, 2)]
    batch = LabelledPositions(
        pad_token_id=0, padding_free=True, return_flash_attn_kwargs=True
    ).torch_call(rows)
    for side in "qk":
        assert batch[f"cu_seq_lens_{side}"].tolist() == [0, 3, 8, 10]
        assert batch[f"cu_seq_lens_{side}"].dtype == torch.int32
        assert batch[f"max_length_{side}"] == 5
    # The probe would run the model, which this machine cannot with FlashAttention.
    monkeypatch.setattr("malmat.train.trainers.why_padded", lambda model: None)
    for implementation, wanted in (("sdpa", False), ("flash_attention_2", True)):
        monkeypatch.setattr(model.config, "_attn_implementation_internal", implementation)
        trainer = AnswerTrainer(
            model=model,
            args=SFTConfig(
                output_dir=str(tmp_path), max_length=None, use_cpu=True, report_to="none"
            ),
            train_dataset=importlib.import_module("malmat.train.trainers").data_set(rows),
            processing_class=tokenizer,
        )
        assert trainer.data_collator.return_flash_attn_kwargs is wanted


@pytest.mark.parametrize("installed", ["flash-attn", "kernels", "none"])
def test_flash_attention_is_asked_for_where_it_can_be_had(monkeypatch, installed):
    import transformers.utils as there

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(there, "is_flash_attn_2_available", lambda: installed == "flash-attn")
    monkeypatch.setattr(there, "is_kernels_available", lambda: installed == "kernels")
    packed, padded = device.attention(packed=True), device.attention()
    assert packed == ("sdpa" if installed == "none" else "flash_attention_2")
    assert padded == ("flash_attention_2" if installed == "flash-attn" else "sdpa")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    assert device.attention(packed=True) == "sdpa"


def test_the_gpu_boxs_packages_bring_the_kernels_that_transformers_takes():
    from packaging.requirements import Requirement
    from packaging.version import Version
    from transformers.dependency_versions_table import deps

    lines = (ROOT / "requirements-gpu.txt").read_text().splitlines()
    [pinned] = [line.removeprefix("kernels==") for line in lines if line.startswith("kernels")]
    assert Version(pinned) in Requirement(deps["kernels"]).specifier


def test_a_card_reads_more_prompts_at_a_time(monkeypatch, tokenizer, model):
    rows = read.PREFILL_ROWS["cuda"]
    prompts = [tokenizer.encode(f"오늘 {'밥 ' * (n % 7)}먹었어? {n}") for n in range(rows + 1)]

    def passes():
        calls = []
        seen = model.register_forward_pre_hook(lambda *_: calls.append(1))
        with seen, torch.inference_mode():
            logits = read.read_prompts(model, prompts, tokenizer.pad_token_id)[0]
        return len(calls) - 1, logits  # one reads what all prompts begin with

    few, expected = passes()
    assert few == -(-(rows + 1) // read.PREFILL_ROWS["cpu"])
    monkeypatch.setitem(read.PREFILL_ROWS, model.device.type, rows)  # as on a card
    many, logits = passes()
    assert many == 2
    assert torch.allclose(logits, expected, atol=1e-4)


def test_sdpa_takes_over_where_the_kernel_cannot_be_had(monkeypatch, capsys):
    from transformers import AutoModelForCausalLM

    from malmat.lm.load import _from_pretrained

    def loaded(source, attn_implementation, **options):
        if attn_implementation == "flash_attention_2":
            raise ImportError("no kernel for this card")
        return attn_implementation

    monkeypatch.setattr(AutoModelForCausalLM, "from_pretrained", loaded)
    assert _from_pretrained("owner/name", {"attn_implementation": "flash_attention_2"}) == "sdpa"
    assert "no kernel for this card" in capsys.readouterr().out


def test_stop_ids_are_copied_once_however_long_the_answer(monkeypatch, tokenizer, model):
    stops = generate.terminators(tokenizer, model.generation_config)
    real, copies = torch.tensor, []

    def tensor(values, *args, **options):
        if isinstance(values, list) and set(stops) <= {v for v in values if isinstance(v, int)}:
            copies.append(values)
        return real(values, *args, **options)

    monkeypatch.setattr(torch, "tensor", tensor)
    counts = []
    for length in (2, 12):
        copies.clear()
        sampling = Sampling(max_new_tokens=length)
        generate.generate(model, tokenizer, [[7, 8, 9], [5, 6, 11]], ["a", "b"], sampling)
        counts.append(len(copies))
    assert counts[0] == counts[1] <= 2
