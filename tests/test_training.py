"""Loss, memory and resume of the training engine, on a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from malmat.errors import InputError
from malmat.lm import chat
from malmat.lm.chat import IGNORE
from malmat.train.checkpoints import is_whole, newest_checkpoint, seal
from malmat.train.record import batch_shape
from tests.conftest import PAIRS, ROOT, ending, make_model


@pytest.fixture(scope="module")
def examples(tokenizer):
    return [
        chat.encode_example(
            tokenizer,
            [{"role": "user", "content": q}, {"role": "assistant", "content": a}],
        )
        for q, a in PAIRS
    ]


def plain_loss(model, examples) -> float:
    """One example at a time with full logits: what every faster way must equal."""
    import torch
    from torch.nn.functional import cross_entropy

    total, count = 0.0, 0
    for example in examples:
        ids, labels = torch.tensor([example["input_ids"]]), torch.tensor(example["labels"])
        with torch.no_grad():
            logits = model(ids).logits[0, :-1]
        total += cross_entropy(logits, labels[1:], ignore_index=IGNORE, reduction="sum").item()
        count += (labels[1:] != IGNORE).sum().item()
    return total / count


def config(folder, kind="SFTConfig", **options):
    import trl

    return getattr(trl, kind)(
        output_dir=str(folder), max_length=None, use_cpu=True, bf16=False, report_to="none",
        gradient_checkpointing=False, **options,
    )  # fmt: skip


def encode(path, folder):
    """The rows of a file as a script encodes them for the model in a folder."""
    from malmat.lm.load import load_tokenizer
    from malmat.train.examples import Examples, read_training_rows, read_wording

    rows = read_training_rows(str(path), preferences=False)
    wording = read_wording("src/eval/prompt.py:CHAT")
    return Examples(rows, load_tokenizer(str(folder)), 512, wording=wording).texts()


@pytest.mark.parametrize("way", ["packed", "padded", "native"])
def test_loss_equals_one_at_a_time_with_full_logits(tmp_path, tokenizer, examples, way):
    from malmat.train.trainers import AnswerTrainer, OwnLossTrainer, can_pack, data_set

    model = make_model(tokenizer)
    assert can_pack(model)
    args = config(tmp_path, per_device_eval_batch_size=3)
    if way == "padded":  # as for a model whose code came from elsewhere
        type(model).__module__, original = "elsewhere", type(model).__module__
    try:
        trainer = (OwnLossTrainer if way == "native" else AnswerTrainer)(
            model=model,
            args=args,
            train_dataset=data_set(examples),
            eval_dataset=data_set(examples),
            processing_class=tokenizer,
        )
    finally:
        if way == "padded":
            type(model).__module__ = original
    assert trainer.packed is (way == "packed")
    assert trainer.evaluate()["eval_loss"] == pytest.approx(plain_loss(model, examples), rel=1e-5)


def write_pairs(path):
    rows = [{"title": "", "question": q, "answer": a} for q, a in PAIRS]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return path


COMMON = {
    "--batch_size": 4,
    "--gradient_accumulation_steps": 1,
    "--optim": "adamw_torch",
    "--report_to": "none",
    "--save_steps": 5,
    "--logging_steps": 1,
}


def command(folder, data, output, script, **options):
    words = {"--model_name": folder, "--data_path": data, "--output_dir": output} | COMMON
    words |= {f"--{name}": value for name, value in options.items()}
    listed = {name: value if isinstance(value, (list, tuple)) else [value]
              for name, value in words.items()}  # fmt: skip
    return [f"src/train/{script}", *(str(p) for n, v in listed.items() for p in (n, *v))]


def answers_by_heart(folder, **options) -> int:
    """How many of the pairs a tuned model answers word for word, and ends by itself."""
    from malmat.lm.generate import Sampling, generate
    from malmat.lm.load import load_model, load_tokenizer
    from malmat.prompts import load_prompts, user_message

    tokenizer, model = load_tokenizer(str(folder)), load_model(str(folder), **options)
    chat_text = load_prompts()["CHAT"]
    ids = [chat.encode_prompt(tokenizer, user_message(chat_text, question=q)) for q, _ in PAIRS]
    names = [str(number) for number in range(len(ids))]
    replies = generate(model, tokenizer, ids, names, Sampling(max_new_tokens=60))
    return sum(
        (reply["status"], reply["text"]) == ("ok", answer)
        for reply, (_, answer) in zip(replies, PAIRS, strict=True)
    )


@pytest.mark.slow
def test_full_fine_tuning_memorizes_pairs_and_stops_by_itself(tmp_path, script, model_folder):
    data = write_pairs(tmp_path / "pairs.jsonl")
    words = command(
        model_folder,
        data,
        tmp_path / "out",
        "train_transformers_full_fine_tuning.py",
        max_steps=150,
        learning_rate="5e-3",
        save_steps=1000,
    )
    result = script(*words)
    assert result.returncode == 0, result.stderr
    assert answers_by_heart(tmp_path / "out") == len(PAIRS)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "done"
    assert record["losses"][-1]["loss"] < record["losses"][0]["loss"] / 10
    assert not list((tmp_path / "out").glob("*.bin"))
    assert (tmp_path / "out" / "loss_curve.png").read_bytes().startswith(b"\x89PNG")
    stops = json.loads((tmp_path / "out" / "generation_config.json").read_text())["eos_token_id"]
    assert len(stops) == 2  # the template's end of turn and the tokenizer's EOS

    again = script(*words)
    assert again.returncode == 0
    assert "already trained" in again.stdout

    other = script(*[word if word != "5e-3" else "1e-3" for word in words])
    assert other.returncode == 2
    assert other.stderr.count("\n") == 1
    assert "--overwrite" in other.stderr


@pytest.mark.slow
def test_a_killed_lora_run_resumes_to_the_same_weights(tmp_path, script, model_folder):
    data = write_pairs(tmp_path / "pairs.jsonl")
    options = {"max_steps": 40, "learning_rate": "1e-2", "lora_r": 4}
    name = "train_lora_fine_tuning.py"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    result = script(*command(model_folder, data, whole, name, **options))
    assert result.returncode == 0, result.stderr

    words = command(model_folder, data, cut, name, **options)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    process = subprocess.Popen(
        [sys.executable, str(ROOT / words[0]), *words[1:]],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with ending(process) as child:
        deadline = time.monotonic() + 120
        while not newest_whole(cut) and time.monotonic() < deadline:
            time.sleep(0.002)
        child.send_signal(signal.SIGKILL)
    assert json.loads((cut / "run.json").read_text())["status"] == "running"
    # A checkpoint that a kill or a full disk left half written must not be taken.
    broken = cut / "checkpoint-39"
    broken.mkdir()
    (broken / "adapter_model.safetensors").write_bytes(b"half")

    result = script(*words)
    assert result.returncode == 0, result.stderr
    assert "going on from checkpoint-" in result.stdout
    assert "was not written to its end" in result.stdout
    weights = "adapter_model.safetensors"
    assert (cut / weights).read_bytes() == (whole / weights).read_bytes()


def newest_whole(output) -> bool:
    return any(is_whole(folder) for folder in output.glob("checkpoint-*"))


def test_seal_names_every_file_and_notices_a_missing_or_cut_one(tmp_path):
    folder = tmp_path / "checkpoint-3"
    folder.mkdir()
    assert not is_whole(folder)
    (folder / "model.safetensors").write_bytes(b"12345")
    (folder / "optimizer.pt").write_bytes(b"123")
    seal(folder)
    assert is_whole(folder)
    assert newest_checkpoint(tmp_path) == folder
    (folder / "optimizer.pt").write_bytes(b"1")
    assert not is_whole(folder)
    (folder / "optimizer.pt").unlink()
    assert not is_whole(folder)
    assert newest_checkpoint(tmp_path) is None
    assert not folder.exists()


def test_pairs_longer_than_the_limit_are_left_out_whole_and_counted(tmp_path, script, model_folder):
    data = tmp_path / "pairs.jsonl"
    rows = [{"question": q, "answer": a} for q, a in PAIRS] + [
        {"question": "길게 말해 봐", "answer": "아주 긴 대답 " * 100}
    ]
    data.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    words = command(model_folder, data, tmp_path / "o", "train_lora_fine_tuning.py", max_steps=1)
    result = script(*words, "--dry_run")
    assert result.returncode == 0, result.stderr
    assert "data: 8 examples (1 too long, left out)" in result.stdout
    assert not (tmp_path / "o").exists()


EVERY_LAYER = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
METHODS = {  # name → options, quantization to load with
    "lora": ({"learning_rate": "1e-2", "max_steps": 300}, None),
    "rslora": ({"learning_rate": "2e-3", "max_steps": 300, "use_rslora": ()}, None),
    "4bit": ({"learning_rate": "1e-2", "max_steps": 300, "option_4bit": ()}, "4bit"),
    "8bit": ({"learning_rate": "5e-3", "max_steps": 350, "option_8bit": ()}, "8bit"),
}


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_every_kind_of_adapter_memorizes_pairs_and_stops_by_itself(
    tmp_path, script, model_folder, method
):
    options, quantization = METHODS[method]
    data, output = write_pairs(tmp_path / "pairs.jsonl"), tmp_path / "out"
    words = command(
        model_folder, data, output, "train_lora_fine_tuning.py", save_steps=1000, logging_steps=50,
        lora_modules=[*EVERY_LAYER, "lm_head"], merge=(), optim="adamw_8bit", **options,
    )  # fmt: skip
    result = script(*words)
    assert result.returncode == 0, result.stderr
    assert answers_by_heart(output, quantization=quantization) == len(PAIRS)
    record = json.loads((output / "run.json").read_text())
    assert (record["settings"]["method"], record["speed"]["tokens_per_s"] > 0) == (method, True)
    if quantization is None:
        assert answers_by_heart(output / "merged") == len(PAIRS)


@pytest.mark.filterwarnings("ignore:.*tie_word_embeddings", "ignore:Setting `save_embedding")
def test_an_adapted_head_that_shares_the_embeddings_merges_to_the_same_logits(tmp_path, tokenizer):
    """Merging into a shared weight would change what the model reads, not only what it writes."""
    import torch
    from peft import LoraConfig, get_peft_model

    from malmat.lm.load import load_model
    from malmat.train.lora import write_merged

    base = make_model(tokenizer, tie_word_embeddings=True)
    base.save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    config = LoraConfig(r=4, target_modules=["q_proj", "lm_head"], init_lora_weights=False)
    adapted = get_peft_model(load_model(str(tmp_path / "base")), config).eval()
    adapted.save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([tokenizer("오늘 점심 뭐 먹지?")["input_ids"]])
    with torch.no_grad():
        wanted, plain = adapted(ids).logits, load_model(str(tmp_path / "base"))(ids).logits
        write_merged(tmp_path / "adapter", tmp_path / "merged")
        for folder in ("adapter", "merged"):
            found = load_model(str(tmp_path / folder))(ids).logits
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert not torch.allclose(plain, wanted, atol=1e-2)


# ------------------------------------------------------------------------------- DPO


def write_preferences(path):
    rows = [
        {"prompt": question, "chosen": answer, "rejected": PAIRS[index - 3][1]}
        for index, (question, answer) in enumerate(PAIRS)
    ]
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return path


@pytest.fixture
def preferences(tokenizer):
    """Each question with its own answer, and with that of another."""
    rows = []
    for (question, chosen), (_, rejected) in zip(PAIRS, PAIRS[3:], strict=False):
        ask = {"role": "user", "content": question}
        answers = [{"role": "assistant", "content": text} for text in (chosen, rejected)]
        texts = [chat.encode_example(tokenizer, [ask, answer]) for answer in answers]
        rows.append(dict(zip(("chosen", "rejected"), texts, strict=True)))
    return rows


def test_dpo_loss_is_the_papers_formula(tmp_path, tokenizer, preferences):
    """Against log-probabilities counted one text at a time with full logits."""
    import math

    from peft import LoraConfig
    from trl import DPOTrainer

    from malmat.train.trainers import PreferenceTrainer, data_set

    def score(net, example) -> float:
        labelled = sum(label != IGNORE for label in example["labels"])
        return -plain_loss(net, [example]) * labelled

    base, rows = make_model(tokenizer), preferences
    reference = [[score(base, row[side]) for side in ("chosen", "rejected")] for row in rows]
    trainer = PreferenceTrainer(
        model=base,
        args=config(tmp_path, "DPOConfig", per_device_eval_batch_size=2, beta=0.3),
        train_dataset=data_set(rows),
        eval_dataset=data_set(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False
        ),
    )
    assert isinstance(trainer, DPOTrainer)
    policy = trainer.model.eval()
    losses = []
    for row, (chosen, rejected) in zip(rows, reference, strict=True):
        margin = (score(policy, row["chosen"]) - chosen) - (
            score(policy, row["rejected"]) - rejected
        )
        losses.append(math.log1p(math.exp(-0.3 * margin)))
    found = trainer.evaluate()["eval_loss"]
    assert found == pytest.approx(sum(losses) / len(losses), rel=1e-4)
    assert abs(found - math.log(2)) > 0.01  # the adapter does differ from its reference


@pytest.mark.slow
def test_dpo_prefers_the_chosen_answers_on_top_of_a_merged_adapter(tmp_path, script, model_folder):
    sft = tmp_path / "sft"
    data = write_pairs(tmp_path / "pairs.jsonl")
    result = script(*command(model_folder, data, sft, "train_lora_fine_tuning.py", max_steps=20))
    assert result.returncode == 0, result.stderr
    prefs, output = write_preferences(tmp_path / "prefs.jsonl"), tmp_path / "dpo"
    words = command(
        sft, prefs, output, "train_dpo.py", max_steps=60, learning_rate="5e-3",
        lora_modules=[*EVERY_LAYER, "lm_head"],
    )  # fmt: skip
    result = script(*words)
    assert result.returncode == 0, result.stderr
    losses = json.loads((output / "run.json").read_text())["losses"]
    assert losses[0]["loss"] == pytest.approx(0.6931, abs=1e-3)  # ln 2: policy and reference agree
    assert losses[-1]["loss"] < 0.1
    assert losses[-1]["reward_accuracy"] == 1
    from malmat.lm.load import base_of

    assert base_of(output) == str(output / "base")
    assert (output / "base" / "model.safetensors").is_file()
    answers_by_heart(output)  # loads, on the merged model

    (tmp_path / "bad.jsonl").write_text('{"prompt": "뭐 해", "chosen": "쉬어", "rejected": "쉬어"}')
    words[words.index(str(prefs))] = str(tmp_path / "bad.jsonl")
    words[words.index(str(output))] = str(tmp_path / "elsewhere")
    result = script(*words)
    assert result.returncode == 2
    assert "bad.jsonl, line 1" in result.stderr


# ----------------------------------------------------------------- runs to be trusted


def test_the_best_checkpoint_is_kept_and_training_stops_when_it_gets_no_better(
    tmp_path, script, model_folder
):
    data, held = write_pairs(tmp_path / "pairs.jsonl"), tmp_path / "held.jsonl"
    rows = [{"question": "날씨 어때?", "answer": "비가 와서 집에만 있었어"}]
    held.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    words = command(
        model_folder, data, tmp_path / "out", "train_transformers_full_fine_tuning.py",
        eval_data_path=held, eval_steps=5, early_stopping_patience=2, max_steps=200,
        learning_rate="5e-3",
    )  # fmt: skip
    result = script(*words)
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    curve = {row["step"]: row["eval_loss"] for row in record["losses"] if "eval_loss" in row}
    best = min(curve, key=curve.get)
    assert record["stopped_early"] is True
    assert max(curve) == best + 10 < 200
    assert record["best_step"] == best
    assert record["heldout_loss"] == curve[best] < curve[0]

    from malmat.lm.load import load_model

    folder = str(tmp_path / "out")
    assert plain_loss(load_model(folder), encode(held, folder)) == pytest.approx(
        curve[best], rel=1e-4
    )


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint_and_the_run_goes_on(
    tmp_path, script, model_folder
):
    data = write_pairs(tmp_path / "pairs.jsonl")
    name, options = "train_transformers_full_fine_tuning.py", {"max_steps": 12, "save_steps": 4}
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    result = script(*command(model_folder, data, whole, name, **options))
    assert result.returncode == 0, result.stderr
    words = command(model_folder, data, cut, name, **options)
    command_line = [sys.executable, str(ROOT / words[0]), *words[1:]]
    environment = os.environ | {
        "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    process = subprocess.Popen(
        command_line, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with ending(process) as child:
        deadline = time.monotonic() + 120
        while not newest_whole(cut) and child.poll() is None and time.monotonic() < deadline:
            time.sleep(0.001)
        import resource

        resource.prlimit(child.pid, resource.RLIMIT_FSIZE, (20_000, 20_000))  # no weights fit
        _, said = child.communicate()
    assert child.returncode == 1
    assert "is kept: make room and run the same command" in said
    kept = [folder.name for folder in cut.glob("checkpoint-*") if is_whole(folder)]
    assert kept
    result = script(*words)
    assert result.returncode == 0, result.stderr
    newest = max(kept, key=lambda name: int(name.removeprefix("checkpoint-")))
    assert f"going on from {newest}" in result.stdout
    weights = "model.safetensors"
    assert (cut / weights).read_bytes() == (whole / weights).read_bytes()


def weights(folder) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.glob("*model.safetensors")))


def forget_the_end(output) -> None:
    """As if a kill had come after the last checkpoint, before the result was whole."""
    record = json.loads((output / "run.json").read_text())
    (output / "run.json").write_text(json.dumps(record | {"status": "running"}))
    (output / "COMPLETE.json").unlink()
    for path in output.glob("*model.safetensors"):
        path.unlink()


@pytest.mark.slow
def test_a_run_cut_off_after_its_last_step_trains_no_step_more(tmp_path, script, model_folder):
    data = write_pairs(tmp_path / "pairs.jsonl")
    words = command(
        model_folder, data, tmp_path / "out", "train_lora_fine_tuning.py",
        max_steps=3, learning_rate="1e-2", lr_scheduler_type="constant",
    )  # fmt: skip
    assert script(*words).returncode == 0
    before = weights(tmp_path / "out")
    forget_the_end(tmp_path / "out")
    result = script(*words)
    assert result.returncode == 0, result.stderr
    assert weights(tmp_path / "out") == before
    assert not (tmp_path / "out" / "checkpoint-4").exists()


@pytest.mark.slow
def test_early_stopping_counts_on_and_the_best_is_found_in_a_moved_folder(
    tmp_path, script, model_folder
):
    data, held = write_pairs(tmp_path / "pairs.jsonl"), tmp_path / "held.jsonl"
    held.write_text(json.dumps({"question": "날씨 어때?", "answer": "비가 와서 집에만 있었어"}))
    options = {
        "eval_data_path": held, "eval_steps": 5, "early_stopping_patience": 3, "max_steps": 200,
        "learning_rate": "5e-3",
    }  # fmt: skip
    name = "train_lora_fine_tuning.py"
    whole, moved = tmp_path / "whole", tmp_path / "moved"
    assert script(*command(model_folder, data, whole, name, **options)).returncode == 0
    record = json.loads((whole / "run.json").read_text())
    steps = [row["step"] for row in record["losses"] if "eval_loss" in row]
    assert record["stopped_early"] is True

    # Stopped early, then cut off: nothing more is trained, and the best weights are kept.
    before = weights(whole)
    forget_the_end(whole)
    whole.rename(moved)
    result = script(*command(model_folder, data, moved, name, **options))
    assert result.returncode == 0, result.stderr
    assert weights(moved) == before

    # Cut off one evaluation before it stops: it stops where it would have.
    forget_the_end(moved)
    import shutil

    shutil.rmtree(moved / f"checkpoint-{steps[-1]}")
    result = script(*command(model_folder, data, moved, name, **options))
    assert result.returncode == 0, result.stderr
    again = json.loads((moved / "run.json").read_text())
    assert [row["step"] for row in again["losses"] if "eval_loss" in row] == steps
    assert again["best_step"] == record["best_step"]
    assert weights(moved) == before


@pytest.mark.slow
def test_starting_anew_leaves_nothing_of_the_run_before(tmp_path, script, model_folder):
    data, output = write_pairs(tmp_path / "pairs.jsonl"), tmp_path / "out"
    words = command(model_folder, data, output, "train_lora_fine_tuning.py", max_steps=2, merge=())
    assert script(*words).returncode == 0
    assert (output / "merged" / "model.safetensors").is_file()
    name = "train_transformers_full_fine_tuning.py"
    words = command(model_folder, data, output, name, max_steps=2)
    result = script(*words, "--overwrite")
    assert result.returncode == 0, result.stderr
    assert not (output / "merged").exists()
    assert not (output / "adapter_config.json").exists()


@pytest.mark.slow
def test_an_adapter_is_trained_on_together_with_what_it_learned(tmp_path, script, model_folder):
    from malmat.lm.load import load_model

    data, name = write_pairs(tmp_path / "pairs.jsonl"), "train_lora_fine_tuning.py"
    options = {"max_steps": 40, "learning_rate": "1e-2"}
    assert script(*command(model_folder, data, tmp_path / "a1", name, **options)).returncode == 0
    options = {"max_steps": 5, "learning_rate": "1e-4"}
    result = script(*command(tmp_path / "a1", data, tmp_path / "a2", name, **options))
    assert result.returncode == 0, result.stderr
    loss = {}
    for folder in (model_folder, tmp_path / "a1", tmp_path / "a2"):
        loss[folder.name] = plain_loss(load_model(str(folder)), encode(data, folder))
    assert loss["a2"] <= loss["a1"] < loss["tiny-llama"] - 0.3
    card = (tmp_path / "a2" / "README.md").read_text()
    assert "\nbase_model:" not in card  # a folder of this machine is no model of the hub
    assert f"tuned `{model_folder}`" in card
    assert 'from_pretrained("THIS", subfolder="base"' in card


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"lr_scheduler_type": "cosin"}, "lr_scheduler_type"),
        ({"report_to": "wandbb"}, "report_to"),
        ({"optim": "adamw9"}, "optim"),
        ({"early_stopping_patience": 2}, "eval_data_path"),
    ],
)
def test_a_misspelt_option_changes_nothing(tmp_path, script, model_folder, options, said):
    data, name = write_pairs(tmp_path / "pairs.jsonl"), "train_lora_fine_tuning.py"
    words = command(model_folder, data, tmp_path / "out", name, max_steps=1) + [
        part for key, value in options.items() for part in (f"--{key}", str(value))
    ]
    result = script(*words)
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    assert said in result.stderr
    assert not (tmp_path / "out").exists()


def test_dpo_runs_padded_where_examples_cannot_share_a_row(tmp_path, tokenizer, preferences):
    from peft import LoraConfig

    from malmat.train.trainers import PreferenceTrainer, data_set

    rows, found = preferences, []
    for packed in (True, False):
        base = make_model(tokenizer)
        kind = type(base)
        kind.__module__, original = (
            ("transformers.models.x" if packed else "elsewhere"),
            (kind.__module__),
        )
        try:
            trainer = PreferenceTrainer(
                model=base,
                args=config(
                    tmp_path, "DPOConfig", max_steps=2, per_device_train_batch_size=2,
                    save_strategy="no", beta=0.1,
                ),
                train_dataset=data_set(rows),
                eval_dataset=data_set(rows),
                processing_class=tokenizer,
                peft_config=LoraConfig(r=4, target_modules=["q_proj"], init_lora_weights=False),
            )  # fmt: skip
        finally:
            kind.__module__ = original
        assert trainer.packed is packed
        found.append(trainer.evaluate()["eval_loss"])
        trainer.train()
    assert found[0] == pytest.approx(found[1], rel=1e-4)


# -------------------------------------------------------------------- many processes


def test_the_effective_batch_stays_whatever_the_number_of_processes():
    assert batch_shape(1, 64, 1) == (1, 64)
    assert batch_shape(1, 64, 8) == (1, 8)
    assert batch_shape(8, 1, 4) == (2, 1)
    assert batch_shape(6, 2, 4) == (3, 1)
    with pytest.raises(InputError, match="cannot be shared out to 3 processes"):
        batch_shape(4, 2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_two_processes_have_the_losses_of_one(tmp_path, script, model_folder, method):
    """Data parallel over gloo, as Accelerate starts it on machines without a GPU."""
    if method == "sft":
        data, name = write_pairs(tmp_path / "rows.jsonl"), "train_transformers_full_fine_tuning.py"
    else:
        data, name = write_preferences(tmp_path / "rows.jsonl"), "train_dpo.py"
    options = {"max_steps": 6, "learning_rate": "1e-3", "batch_size": 2}
    options |= {"gradient_accumulation_steps": 2, "eval_steps": 3, "allow_leaks": ()}
    held = tmp_path / "held.jsonl"  # an odd number of rows
    held.write_text("\n".join(data.read_text().splitlines()[:3]))
    options["eval_data_path"] = held
    one = command(model_folder, data, tmp_path / "one", name, **options)
    result = script(*one)
    assert result.returncode == 0, result.stderr
    two = command(model_folder, data, tmp_path / "two", name, **options)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    result = subprocess.run(
        [*launch, str(ROOT / two[0]), *two[1:]],
        cwd=tmp_path,
        env=os.environ | {
            "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1",
            "CUDA_VISIBLE_DEVICES": "",
        },
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    records = [json.loads((tmp_path / n / "run.json").read_text()) for n in ("one", "two")]
    assert [record["batch"]["processes"] for record in records] == [1, 2]
    for kind in ("loss", "eval_loss"):
        curves = [[row[kind] for row in record["losses"] if kind in row] for record in records]
        assert len(curves[0]) >= 3
        assert curves[1] == pytest.approx(curves[0], rel=1e-5)
    assert result.stdout.count("wrote ") == 1
