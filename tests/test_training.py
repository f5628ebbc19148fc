"""Loss, memory and resume of the training engine, on a tiny model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from malmat import chat
from malmat.chat import IGNORE
from malmat.training import is_whole, newest_checkpoint, seal
from tests.conftest import PAIRS, ROOT, make_model


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


@pytest.mark.parametrize("way", ["packed", "padded", "native"])
def test_loss_equals_one_at_a_time_with_full_logits(tmp_path, tokenizer, examples, way):
    from transformers import TrainingArguments

    from malmat.sft import AnswerTrainer, can_pack

    model = make_model(tokenizer)
    assert can_pack(model)
    args = TrainingArguments(
        output_dir=str(tmp_path), per_device_eval_batch_size=3, use_cpu=True, report_to="none"
    )
    if way == "padded":  # as for a model whose code came from elsewhere
        type(model).__module__, original = "elsewhere", type(model).__module__
    try:
        trainer = AnswerTrainer(
            model=model,
            args=args,
            examples=examples,
            held=examples,
            tokenizer=tokenizer,
            native_loss=way == "native",
        )
    finally:
        if way == "padded":
            type(model).__module__ = original
    assert trainer._packed is (way == "packed")
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
    return [f"src/train/{script}", *(str(part) for pair in words.items() for part in pair)]


def test_full_fine_tuning_memorizes_pairs_and_stops_by_itself(tmp_path, script, model_folder):
    from malmat.generate import Sampling, generate
    from malmat.models import load_model, load_tokenizer
    from malmat.prompts import chat_messages, load_prompts

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
    tokenizer, model = load_tokenizer(str(tmp_path / "out")), load_model(str(tmp_path / "out"))
    prompts = load_prompts()
    for question, answer in PAIRS:
        ids = chat.encode_prompt(tokenizer, chat_messages(prompts, question))
        reply = generate(model, tokenizer, [ids], ["x"], Sampling(max_new_tokens=60))[0]
        assert (reply["status"], reply["text"]) == ("ok", answer)
    record = json.loads((tmp_path / "out" / "run.json").read_text())
    assert record["status"] == "done"
    assert record["losses"][-1]["loss"] < record["losses"][0]["loss"] / 10
    assert not list((tmp_path / "out").glob("*.bin"))

    again = script(*words)
    assert again.returncode == 0
    assert "already trained" in again.stdout

    other = script(*[word if word != "5e-3" else "1e-3" for word in words])
    assert other.returncode == 2
    assert other.stderr.count("\n") == 1
    assert "--overwrite" in other.stderr


def test_a_killed_lora_run_resumes_to_the_same_weights(tmp_path, script, model_folder):
    data = write_pairs(tmp_path / "pairs.jsonl")
    options = {"max_steps": 40, "learning_rate": "1e-2", "lora_r": 4}
    name = "train_lora_fine_tuning.py"
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    result = script(*command(model_folder, data, whole, name, **options))
    assert result.returncode == 0, result.stderr

    words = command(model_folder, data, cut, name, **options)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    child = subprocess.Popen(
        [sys.executable, str(ROOT / words[0]), *words[1:]],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not newest_whole(cut) and time.monotonic() < deadline:
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait()
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
    assert "8 examples (1 longer than 512 tokens left out)" in result.stdout
    assert not (tmp_path / "o").exists()
