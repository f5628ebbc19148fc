"""What a training run is named by, says of itself, and takes from the library that trains it."""

from __future__ import annotations

import importlib
import json

import pytest

from malmat.prompts import load_prompts
from malmat.train.card import model_card, read_card
from malmat.train.examples import conversations, is_bare
from malmat.train.record import run_identity
from malmat.train.settings import settings_from
from tests.conftest import PAIRS, ROOT
from tests.test_training import command, config

IDENTITIES = {  # script: method, options, the identity that earlier versions gave such a run
    "train_transformers_full_fine_tuning": (
        "full",
        [],
        "d421c3e7f7e1f062d9c8d4e2e420475337029f274b4432347c24fc5cf88979e6",
    ),
    "train_lora_fine_tuning": (
        "4bit",
        ["--option_4bit", "--merge", "--gradient_checkpointing", "on"],
        "47c10b785331749a9006bb76b049e7f6374f159efd44a080932ec4338b744123",
    ),
    "train_dpo": (
        "dpo",
        ["--lora_modules", "q_proj", "v_proj"],
        "41abf8857cf55c95def404a594aac33fce2a83474a0e9c6345b380edf2086b5b",
    ),
    "train_unsloth_fine_tuning": (
        "unsloth-lora",
        ["--batch_size", "4", "--eval_data_path", "rows.jsonl", "--eval_limit", "3"],
        "8a36c0b9bbd2b1d1428b5379ee13073ee556bec721329f620f6e73367b2c7916",
    ),
}


@pytest.fixture
def settings(monkeypatch, tmp_path):
    """A script's settings for given options."""
    monkeypatch.syspath_prepend(str(ROOT / "src" / "train"))
    monkeypatch.chdir(tmp_path)

    def make(script: str, method: str, *words: str):
        given = ["--model_name", "owner/name", "--data_path", "rows.jsonl", *words]
        args = importlib.import_module(script).build_parser().parse_args(given)
        return settings_from(args, method)

    (tmp_path / "rows.jsonl").write_text('{"question": "뭐 해?", "answer": "쉬어"}\n')
    return make


@pytest.mark.parametrize("script", IDENTITIES)
def test_a_finished_run_of_questions_is_still_the_same_run(settings, script):
    method, words, identity = IDENTITIES[script]
    made = settings(script, method, *words)
    assert run_identity(made, "말해: {question}") == identity
    assert run_identity(made, None) != identity
    aside = ["--card", "x.json", "--tasks", "usage", "--wording", "a.py:B", "--report_to", "none"]
    assert run_identity(settings(script, method, *words, *aside), "말해: {question}") == identity
    assert run_identity(settings(script, method, *words, "--seed", "1"), "말해: {question}") != (
        identity
    )


def test_the_settings_hold_every_option_once_as_the_record_has_them(settings):
    made = settings("train_lora_fine_tuning", "lora", "--lora_modules", "q_proj")
    shown = made.shown()
    assert not {"dry_run", "resume", "overwrite", "beta", "option_full", "lora"} & set(shown)
    assert (shown["method"], shown["lora_r"], shown["lora_modules"]) == ("lora", 32, ["q_proj"])
    assert shown["output_dir"].endswith("checkpoints/name-lora")
    assert json.loads(json.dumps(shown)) == shown
    with pytest.raises(AttributeError):
        made.seed = 1
    assert settings("train_dpo", "dpo").shown()["beta"] == 0.1
    assert "lora_r" not in settings("train_transformers_full_fine_tuning", "full").shown()


@pytest.mark.parametrize("kind", ["messages", "question"])
def test_a_run_is_touched_by_an_edited_wording_only_where_it_is_used(
    tmp_path, script, model_folder, kind
):
    rows = [
        {"question": q, "answer": a}
        if kind == "question"
        else {"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}
        for q, a in PAIRS
    ]
    data, prompts = tmp_path / "rows.jsonl", tmp_path / "prompt.py"
    data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    original = (ROOT / "src" / "eval" / "prompt.py").read_text("utf-8")
    prompts.write_text(original)
    words = command(
        model_folder, data, tmp_path / "out", "train_lora_fine_tuning.py", max_steps=1,
        wording=f"{prompts}:CHAT", allow_leaks=(),
    )  # fmt: skip
    result = script(*words)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    wording = record["wording"]
    assert (wording is None) is (kind == "messages")
    card = (tmp_path / "out" / "README.md").read_text()
    assert ("the wording of CHAT in" in card) is (kind == "question")
    assert "tuned on Korean slang (lora)" in card

    prompts.write_text(original.replace("{question}", "{question} 짧게 답해."))
    again = script(*words)
    if kind == "messages":
        assert (again.returncode, "already trained" in again.stdout) == (0, True)
    else:
        assert wording == load_prompts()["CHAT"]
        assert (again.returncode, "--overwrite" in again.stderr) == (2, True)
    bad = script(*words[:-3], "--wording", f"{prompts}")
    assert (bad.returncode == 2) is (kind == "question")


def test_only_bare_questions_are_worded():
    ask, answer = {"role": "user", "content": "뭐 해?"}, {"role": "assistant", "content": "쉬어"}
    bare, whole = {"question": "뭐 해?", "answer": "쉬어"}, {"messages": [ask, answer]}
    whole |= {"question": "뭐 해?", "answer": "쉬어"}
    preference = {"messages": [ask], "chosen": "쉬어", "rejected": "몰라"}
    assert [is_bare(row) for row in (bare, whole, preference)] == [True, False, False]
    assert is_bare({**preference, "question": "뭐 해?"})
    assert conversations(bare, "말해: {question}") == [[{**ask, "content": "말해: 뭐 해?"}, answer]]
    assert conversations(whole, "말해: {question}") == conversations(bare) == [[ask, answer]]
    assert len(conversations(preference, "말해: {question}")) == 2


def record(**changes) -> dict:
    settings = {"method": "lora", "model_name": "owner/name", "wording": "a.py:CHAT", "seed": 1}
    return {
        "settings": settings | {"lora_modules": ["q_proj", "v_proj"]},
        "base": "owner/name",
        "wording": None,
        "card": {},
        "licence": {"licence": "It's: \"own\"", "commercial": False},
        "losses": [{"step": 0, "eval_loss": 2.5}, {"step": 9, "loss": 1.0, "eval_loss": 1.5}],
        "heldout_loss": 1.5,
        "data": {
            "examples": 1234, "tokens": 9999, "labelled_tokens": 99, "skipped": 0,
            "source": "sha256:0",
        },
        "speed": {"seconds": 9.5, "steps": 3, "tokens_per_s": 100.0, "peak_memory_gib": 1.5},
        "provenance": {"versions": {"torch": "2", "transformers": "5"}, "commit": None},
    } | changes  # fmt: skip


def test_the_card_says_of_the_data_only_what_its_caller_gives():
    from huggingface_hub import ModelCard

    card = model_card(record())
    assert "slang" not in card
    assert "language" not in card
    data = ModelCard(card).data
    assert (data.base_model, data.license_name, data.tags) == (
        "owner/name", "It's: \"own\"", ["malmat"],
    )  # fmt: skip
    assert "| lora_modules | q_proj, v_proj |" in card
    assert "1.5000 (before training 2.5000)" in card
    assert "NOT for commercial use" in card
    assert 'PeftModel.from_pretrained(base, "THIS")' in card

    slang = model_card(record(card=read_card("src/train/card.json"), wording="{question}"))
    assert "# name, tuned on Korean slang (lora)" in slang
    assert "Loss on held-out terms: 1.5000" in slang
    assert "# the wording of CHAT in a.py" in slang
    data = ModelCard(slang).data
    assert (data.language, data.tags) == ("ko", ["korean", "slang", "malmat"])

    full = record(heldout_loss=None, settings={**record()["settings"], "method": "full"})
    assert "peft" not in model_card(full).lower()
    assert "not measured" in model_card(full)


def test_the_card_of_a_preference_run_counts_its_rows():
    data = record()["data"]
    assert "\n1,234 examples, 9,999 tokens" in model_card(record())
    pairs = model_card(record(data=data | {"unit": "pairs"}))
    assert "\n617 pairs, 9,999 tokens" in pairs
    assert "1,234" not in pairs


def test_a_card_file_with_an_unknown_field_is_refused(tmp_path):
    from malmat.errors import InputError

    (tmp_path / "card.json").write_text('{"titel": "x"}')
    with pytest.raises(InputError, match="titel"):
        read_card(str(tmp_path / "card.json"))


# ------------------------------------------------------------------------------- TRL


def test_a_step_is_the_same_as_trls_however_it_is_made_up(tmp_path, tokenizer):
    """TRL's loss and its chunked one, ours on the whole batch and on uneven parts of it."""
    import torch
    from trl import DPOTrainer, SFTTrainer

    from malmat.lm.chat import encode_example
    from malmat.train.trainers import AnswerTrainer, PreferenceTrainer, data_set
    from tests.conftest import make_model

    assert issubclass(AnswerTrainer, SFTTrainer)
    assert issubclass(PreferenceTrainer, DPOTrainer)
    talks = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": a * repeat}]
        for repeat, (q, a) in enumerate(PAIRS, 1)
    ]
    rows = data_set([encode_example(tokenizer, talk) for talk in talks])

    def step(kind, batch_size: int, loss_type: str = "nll") -> torch.Tensor:
        trainer = kind(
            model=make_model(tokenizer),
            args=config(
                tmp_path, per_device_train_batch_size=batch_size, max_steps=1, optim="sgd",
                gradient_accumulation_steps=len(rows) // batch_size, save_strategy="no",
                learning_rate=1.0, lr_scheduler_type="constant", loss_type=loss_type,
            ),
            train_dataset=rows,
            processing_class=tokenizer,
        )  # fmt: skip
        trainer.train()
        return torch.cat([p.detach().flatten() for p in trainer.model.parameters()])

    stock = step(SFTTrainer, 8)
    start = torch.cat([p.detach().flatten() for p in make_model(tokenizer).parameters()])
    assert (stock - start).abs().max() > 1e-2
    for other in (
        step(SFTTrainer, 8, "chunked_nll"),
        step(AnswerTrainer, 8),
        step(AnswerTrainer, 2),
        step(AnswerTrainer, 1),
    ):
        torch.testing.assert_close(other, stock, rtol=1e-4, atol=1e-5)


def test_adapters_on_quantized_weights_stay_in_float32(tmp_path, tokenizer, model_folder):
    import torch
    from peft import LoraConfig

    from malmat.lm.chat import encode_example
    from malmat.lm.load import load_model
    from malmat.train.trainers import AnswerTrainer, data_set

    talk = [{"role": "user", "content": "뭐 해?"}, {"role": "assistant", "content": "쉬어"}]
    trainer = AnswerTrainer(
        model=load_model(str(model_folder), quantization="4bit").train(),
        args=config(tmp_path),
        train_dataset=data_set([encode_example(tokenizer, talk)]),
        processing_class=tokenizer,
        peft_config=LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"),
    )
    trained = [p for p in trainer.model.parameters() if p.requires_grad]
    assert trained
    assert {p.dtype for p in trained} == {torch.float32}
