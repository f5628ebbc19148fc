"""Packed clusters: the loss, gradients and weights of the rows apart, on tiny models."""

from __future__ import annotations

import json
import shutil

import pytest

from malmat.errors import InputError
from malmat.lm import chat
from malmat.lm.chat import IGNORE
from malmat.train.clusters import apart, sequences
from tests.conftest import PAIRS, make_model
from tests.test_training import COMMON, command, config, plain_loss

TALK = "\n".join(f"화자{n % 2 + 1}: {text}" for n, pair in enumerate(PAIRS[:3]) for text in pair)
ROWS = [
    ("a", TALK, "A와 B 가운데?", "A. 점메추"),
    ("b", TALK + "\n화자3: 그렇구나", "앞의 말의 원인은 무엇인가?", "B. 오운완"),
    ("a", TALK, "다음에 올 일은?", "B. 갓생은 내일부터 하자고 한다"),
    (None, PAIRS[3][0], "", PAIRS[3][1]),
    ("a", TALK, "C인가?", "C"),
    ("c", PAIRS[4][0], "동기는?", PAIRS[4][1]),
    ("b", TALK + "\n화자3: 그렇구나", "앞의 말의 반응은 무엇인가?", "A. 오픈런 아니면 못 먹어"),
    # Only the answers differ: all of the prompt is shared but its last token.
    ("d", TALK, "하나를 골라", "가"),
    ("d", TALK, "하나를 골라", "나"),
]


def messages(talk, question, answer):
    asked = {"role": "user", "content": f"{talk}\n\n{question}".strip()}
    return [asked, {"role": "assistant", "content": answer}]


@pytest.fixture(scope="module")
def rows(tokenizer):
    return [chat.encode_example(tokenizer, messages(*texts)) for _, *texts in ROWS]


CLUSTERS = [cluster for cluster, *_ in ROWS]


def make_gemma(tokenizer, **changes):
    """Two layers of Gemma 3 in float32, one with a window that is shorter than the rows."""
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "query_pre_attn_scalar": 16,
        "layer_types": ["sliding_attention", "full_attention"],
        "sliding_window": 12,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "bos_token_id": None,
    }
    return Gemma3ForCausalLM(Gemma3TextConfig(**(settings | changes))).eval()


MAKE = {"llama": make_model, "gemma": make_gemma}


def trainer_of(folder, model, tokenizer, data, *, packed=True, adapter=False, **options):
    from malmat.train.cluster_batches import Clusters, prepare
    from malmat.train.trainers import AnswerTrainer, data_set

    own = {}
    if packed:
        assert prepare(model, max(data, key=lambda one: len(one["input_ids"])), 0) is None
        own["data_collator"] = Clusters(tokenizer.pad_token_id, padding_free=True)
    if adapter:
        from peft import LoraConfig

        own["peft_config"] = LoraConfig(
            task_type="CAUSAL_LM", r=4, target_modules="all-linear", init_lora_weights=False
        )
    train, held = data_set(data), data_set(data)
    return AnswerTrainer(
        model=model, args=config(folder, **options), train_dataset=train, eval_dataset=held,
        processing_class=tokenizer, **own,
    )  # fmt: skip


def loss_and_gradients(trainer, data, size):
    """Of a step over the data in batches of so many: summed as the trainer does it."""
    model, total = trainer.model.train(), 0.0
    model.zero_grad()
    labels = sum(label != IGNORE for row in data for label in row["labels"])
    for start in range(0, len(data), size):
        batch = trainer.data_collator([dict(one) for one in data[start : start + size]])
        loss = trainer.compute_loss(model, batch, num_items_in_batch=labels)
        loss.backward()
        total += loss.item()
    return total, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("adapter", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("most", [1024, 100], ids=["whole", "split"])
@pytest.mark.parametrize("kind", MAKE)
def test_loss_and_gradients_are_those_of_rows_apart(tmp_path, tokenizer, rows, kind, most, adapter):
    import torch

    packed = sequences(rows, CLUSTERS, max(most, max(len(row["input_ids"]) for row in rows)))
    found = []
    for data, size in ((packed, 2), (rows, 1)):
        torch.manual_seed(1)
        model = MAKE[kind](tokenizer)
        trainer = trainer_of(
            tmp_path, model, tokenizer, data, packed=data is packed, adapter=adapter
        )
        found.append(loss_and_gradients(trainer, data, size))
    (loss, gradients), (expected, apart_gradients) = found
    assert loss == pytest.approx(expected, rel=1e-4)
    assert gradients.keys() == apart_gradients.keys()
    assert gradients
    for name, gradient in gradients.items():
        difference = (gradient - apart_gradients[name]).norm() / apart_gradients[name].norm()
        assert difference <= 1e-4, name


@pytest.mark.parametrize("kind", MAKE)
def test_training_ends_at_the_weights_of_rows_apart(tmp_path, tokenizer, rows, kind):
    """Steps of several batches of unlike sequences: no row weighs more for the cluster it is in."""
    packed = sequences(rows, CLUSTERS, 1024)
    weights = []
    for data in (packed, rows):
        model = MAKE[kind](tokenizer)
        trainer = trainer_of(
            tmp_path, model, tokenizer, data, packed=data is packed, optim="sgd",
            learning_rate=1.0, lr_scheduler_type="constant", num_train_epochs=3, save_strategy="no",
            per_device_train_batch_size=2, gradient_accumulation_steps=8,
        )  # fmt: skip
        held = trainer.evaluate()["eval_loss"]
        assert held == pytest.approx(plain_loss(trainer.model.float(), rows), rel=1e-4)
        trainer.train()
        assert trainer.state.global_step == 3
        weights.append({name: p.detach() for name, p in model.named_parameters()})
    start = dict(MAKE[kind](tokenizer).named_parameters())
    for name, ours in weights[0].items():
        moved = (weights[1][name] - start[name]).norm()
        assert (ours - weights[1][name]).norm() <= 1e-3 * moved, name


def test_each_row_stands_in_one_sequence_of_the_allowed_length(rows):
    whole = sequences(rows, CLUSTERS, 1024)
    assert [len(one["seq_lengths"]) - 1 for one in whole] == [3, 2, 1, 1, 2]
    most = max(len(row["input_ids"]) for row in rows) + 8
    split = sequences(rows, CLUSTERS, most)
    assert len(split) > len(whole)
    order = sorted(range(len(rows)), key=lambda n: (CLUSTERS.index(CLUSTERS[n]), n))
    for packed in (whole, split):
        assert [row for one in packed for row in apart(one)] == [rows[n] for n in order]
        for one in packed:
            assert sum(one["seq_lengths"]) == len(one["input_ids"]) == len(one["labels"])
    assert max(len(one["input_ids"]) for one in split) <= most


def test_rows_that_share_no_more_than_the_template_stand_alone(rows):
    packed = sequences([rows[0], rows[3]], ["x", "x"], 1024)
    assert [one["seq_lengths"][0] for one in packed] == [0, 0]


@pytest.mark.parametrize("fault", ["eager", "wrong", "raises"])
def test_a_model_that_does_not_take_packed_rows_is_found_and_left_as_it_was(
    tokenizer, rows, monkeypatch, fault
):
    from malmat.train import cluster_batches

    model = make_model(tokenizer)
    attention = "eager" if fault == "eager" else "sdpa"
    model.set_attn_implementation(attention)
    ours = cluster_batches.cluster_attention

    def spoilt(*args, seq_lengths=None, **options):
        if seq_lengths and fault == "raises":
            raise TypeError("unexpected argument")
        # All that a sequence holds as one branch: each question sees those before it.
        lengths = seq_lengths and [[0, sum(lengths)] for lengths in seq_lengths]
        return ours(*args, seq_lengths=lengths, **options)

    monkeypatch.setattr(cluster_batches, "cluster_attention", spoilt)
    [packed] = sequences(rows[:3:2], ["a", "a"], 1024)
    why = cluster_batches.prepare(model, packed, 0)
    assert why
    assert model.config._attn_implementation == attention
    said = {"eager": "eager", "wrong": "logits differ", "raises": "unexpected argument"}
    assert said[fault] in why


def write_rows(path, rows=ROWS):
    lines = [
        {"id": str(number), "cluster": cluster, "messages": messages(*texts), "answer": "x"}
        for number, (cluster, *texts) in enumerate(rows)
    ]
    path.write_text("\n".join(json.dumps(line, ensure_ascii=False) for line in lines))
    return path


LORA = "train_lora_fine_tuning.py"


@pytest.mark.slow
def test_a_packed_run_says_its_sequences_and_resumes_to_the_same_weights(
    tmp_path, script, model_folder
):
    data, out, cut = write_rows(tmp_path / "rows.jsonl"), tmp_path / "out", tmp_path / "cut"
    options = {
        "pack_by": "cluster", "num_epochs": 2, "save_steps": 2, "tasks": [], "lora_r": 4,
        "eval_data_path": data, "eval_steps": 2, "allow_leaks": [], "learning_rate": "1e-2",
    }  # fmt: skip
    words = command(model_folder, data, out, LORA, **options)
    result = script(*words)
    assert result.returncode == 0, result.stderr
    # 9 rows in 5 sequences: a step of 4 rows is one of 2 sequences.
    assert "plan: 6 steps of 4 examples" in result.stdout
    assert "9 examples ride in 5 sequences" in result.stdout
    record = json.loads((out / "run.json").read_text())
    assert (record["resolved"]["rows"], record["resolved"]["sequences"]) == (9, 5)
    assert record["speed"]["steps"] == 6
    assert record["settings"]["pack_by"] == "cluster"

    shutil.copytree(out, cut)
    shutil.rmtree(cut / "checkpoint-6")
    (cut / "COMPLETE.json").unlink()
    (cut / "run.json").write_text(json.dumps(record | {"status": "running"}))
    result = script(*command(model_folder, data, cut, LORA, **options))
    assert result.returncode == 0, result.stderr
    assert "going on from checkpoint-4" in result.stdout
    weights = "adapter_model.safetensors"
    assert (cut / weights).read_bytes() == (out / weights).read_bytes()


def settings_of(*words):
    import argparse

    from malmat.train.settings import add_arguments, settings_from

    options = argparse.ArgumentParser()
    add_arguments(options)
    return settings_from(options.parse_args(list(map(str, words))), "full")


def test_a_run_on_a_model_without_such_attention_trains_plain_rows_and_says_so(
    tmp_path, tokenizer, model_folder, capsys
):
    from malmat.train.run import fit

    def build(settings):
        model = make_model(tokenizer)
        model.set_attn_implementation("eager")
        return model.train(), None

    common = [str(word) for pair in COMMON.items() for word in pair]
    out = tmp_path / "out"
    data = write_rows(tmp_path / "rows.jsonl")
    settings = settings_of(
        "--model_name", model_folder, "--data_path", data, "--output_dir", out, *common,
        "--pack_by", "cluster", "--num_epochs", 1,
    )  # fmt: skip
    fit(settings, build)
    said = capsys.readouterr().out
    assert "packing: none, since the model does not take it" in said
    assert "plain rows, 3 steps of 4 examples" in said
    record = json.loads((out / "run.json").read_text())
    assert (record["resolved"]["rows"], record["resolved"]["sequences"]) == (9, 9)
    assert record["batch"] == {"device": 4, "accumulation": 1, "processes": 1}
    assert record["speed"]["steps"] == 3


def test_packing_needs_clusters_and_answers_to_train(tmp_path, tokenizer, model_folder, script):
    from malmat.train.run import fit

    data = write_rows(tmp_path / "rows.jsonl", [(None, *texts) for _, *texts in ROWS])
    words = ("--model_name", model_folder, "--data_path", data, "--output_dir", tmp_path / "out")
    settings = settings_of(*words, "--pack_by", "cluster", "--report_to", "none", "--dry_run")
    with pytest.raises(InputError, match="no row has a 'cluster'"):
        fit(settings, None)
    result = script("src/train/train_dpo.py", *words, "--pack_by", "cluster")
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "preference rows are not packed" in result.stderr
