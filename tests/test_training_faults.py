"""Models, runs and hubs as people have them: what would fail late or go wrong in silence."""

from __future__ import annotations

import base64
import json
import math
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from malmat.lm import chat
from tests.conftest import CHATML, PAIRS, make_model, make_tokenizer
from tests.test_training import command, config, write_pairs, write_preferences

FULL, LORA = "train_transformers_full_fine_tuning.py", "train_lora_fine_tuning.py"


def one_line(result, code: int, *said: str) -> None:
    assert (result.returncode, result.stderr.count("\n")) == (code, 1), result.stderr
    for words in said:
        assert words in result.stderr


# ------------------------------------------------------------------- merging what is shared


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("rslora", [False, True])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize(
    "modules",
    [
        ["q_proj", "v_proj", "embed_tokens"],
        ["embed_tokens"],
        ["q_proj", "lm_head"],
        ["embed_tokens", "lm_head"],
        ["q_proj", "v_proj"],
    ],
)
def test_an_adapter_merges_to_the_logits_it_was_trained_with(
    tmp_path, tokenizer, modules, tied, rslora
):
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model
    from transformers import AutoModelForCausalLM

    from malmat.lm.load import load_model
    from malmat.train.lora import write_merged

    make_model(tokenizer, tie_word_embeddings=tied).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    adapter = LoraConfig(
        r=4, target_modules=modules, init_lora_weights=False, use_rslora=rslora,
        task_type="CAUSAL_LM",
    )  # fmt: skip
    get_peft_model(base, adapter).save_pretrained(tmp_path / "adapter")
    ids = torch.tensor([tokenizer("오늘 점심 뭐 먹지?")["input_ids"]])
    with torch.no_grad():
        base = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32).eval()
        plain = base(ids).logits
        wanted = PeftModel.from_pretrained(base, tmp_path / "adapter").eval()(ids).logits
        write_merged(tmp_path / "adapter", tmp_path / "merged")
        found = [load_model(str(tmp_path / name))(ids).logits for name in ("adapter", "merged")]
    for logits in found:
        assert (logits - wanted).abs().max() <= 1e-4
    assert (plain - wanted).abs().max() > 1e-2


# ---------------------------------------------------------------------- generation config


SHIPPED = {
    "temperature without sampling": {"do_sample": False, "temperature": 0.9, "top_p": 0.6},
    "sampling not mentioned": {"temperature": 0.7, "top_k": 20, "min_p": 0.1},
    "beams that are none": {"num_beams": 1, "length_penalty": 0.6, "early_stopping": True},
    "sampling": {"do_sample": True, "temperature": 0.7, "top_p": 0.8},
}


def shipped(folder, tokenizer, settings):
    """A model's folder with the generation config that its makers published."""
    make_model(tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 4, **settings}))
    return folder


@pytest.mark.parametrize("name", SHIPPED)
def test_a_published_generation_config_is_saved_and_means_the_same(
    tmp_path, tokenizer, name, capsys
):
    from malmat.lm.load import load_model
    from malmat.train.generation import prepare_generation

    model = load_model(str(shipped(tmp_path / "m", tokenizer, SHIPPED[name])))
    prepare_generation(model, tokenizer)
    model.save_pretrained(tmp_path / "out")
    saved = json.loads((tmp_path / "out" / "generation_config.json").read_text())
    assert saved["eos_token_id"] == chat.terminators(tokenizer)
    assert saved.get("do_sample", False) is SHIPPED[name].get("do_sample", False)
    idle = {} if name == "sampling" else SHIPPED[name]
    assert not set(saved) & {key for key in idle if key not in ("do_sample", "num_beams")}
    assert {key: saved[key] for key in SHIPPED["sampling"]} == SHIPPED[name] if not idle else True
    assert ("had no effect" in capsys.readouterr().out) is bool(idle)


def test_runs_and_merges_of_such_a_model_come_to_their_end(tmp_path, script, tokenizer):
    model = shipped(tmp_path / "m", tokenizer, SHIPPED["temperature without sampling"])
    data = write_pairs(tmp_path / "pairs.jsonl")
    for name, options in ((FULL, {}), (LORA, {"merge": ()})):
        output = tmp_path / name
        result = script(*command(model, data, output, name, max_steps=2, save_steps=1, **options))
        assert result.returncode == 0, result.stderr
        saved = output / "merged" if options else output
        assert "temperature" not in json.loads((saved / "generation_config.json").read_text())


# --------------------------------------------------------------------------- vocabulary


@pytest.mark.parametrize("where", ["template", "answer", "held out", "padding"])
def test_a_token_beyond_the_embedding_is_found_by_a_dry_run(tmp_path, script, where):
    tokenizer = make_tokenizer()
    make_model(tokenizer).save_pretrained(tmp_path / "m")
    more = ["<|im_start|>", "<|im_end|>", "<|plus|>"]
    tokenizer.add_special_tokens({"additional_special_tokens": more})
    if where == "template":
        tokenizer.chat_template = CHATML.replace("<|im_start|>", "<|plus|>")
    if where == "padding":
        tokenizer.pad_token = "<|plus|>"
    tokenizer.save_pretrained(tmp_path / "m")
    data, held = write_pairs(tmp_path / "pairs.jsonl"), tmp_path / "held.jsonl"
    row = {"question": "뭐 해?", "answer": "<|plus|> 라고 해"}
    held.write_text(json.dumps(row))
    if where == "answer":
        data = held
    options = {"eval_data_path": held} if where == "held out" else {}
    words = command(tmp_path / "m", data, tmp_path / "o", FULL, max_steps=1, **options)
    one_line(script(*words, "--dry_run"), 2, "<|plus|>", "beyond the model's")
    assert not (tmp_path / "o").exists()


# ---------------------------------------------------------------------------------- DPO


def preference_trainer(folder, tokenizer, model, size: int, accumulate: int = 1, **options):
    from peft import LoraConfig

    from malmat.train.trainers import PreferenceTrainer, data_set

    rows = []
    for number, (question, answer) in enumerate(PAIRS):
        ask = {"role": "user", "content": question}
        texts = [
            chat.encode_example(tokenizer, [ask, {"role": "assistant", "content": text}])
            for text in (answer, PAIRS[(number + 3) % len(PAIRS)][1])
        ]
        rows.append(dict(zip(("chosen", "rejected"), texts, strict=True)))
    return PreferenceTrainer(
        model=model,
        args=config(
            folder, "DPOConfig", per_device_train_batch_size=size, logging_steps=1,
            gradient_accumulation_steps=accumulate, save_strategy="no", beta=0.1, optim="sgd",
            learning_rate=0.1, lr_scheduler_type="constant", max_grad_norm=0, disable_tqdm=True,
            **options,
        ),
        train_dataset=data_set(rows),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=4, target_modules="all-linear", lora_dropout=0.2,
            init_lora_weights=options.get("max_steps", 0) == 1,
        ),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["attention", "modules", "layers"])
def test_the_first_preference_loss_is_ln_2_whatever_dropout_the_model_has(
    tmp_path, tokenizer, kind
):
    from transformers import GPT2Config, GPT2LMHeadModel, OPTConfig, OPTForCausalLM

    if kind == "attention":
        model = make_model(tokenizer, attention_dropout=0.3)
    elif kind == "modules":
        sizes = {"n_embd": 64, "n_layer": 2, "n_head": 4, "resid_pdrop": 0.3}
        model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **sizes))
    else:
        sizes = {"hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 4, "dropout": 0.3}
        sizes |= {"word_embed_proj_dim": 64, "num_attention_heads": 4, "layerdrop": 0.5}
        model = OPTForCausalLM(OPTConfig(vocab_size=len(tokenizer), **sizes))
    trainer = preference_trainer(tmp_path, tokenizer, model.train(), 8, max_steps=1)
    trainer.train()
    first = trainer.state.log_history[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-5)
    assert first["rewards/margins"] == pytest.approx(0, abs=1e-5)


def test_pairs_of_a_last_smaller_mini_batch_weigh_as_much_as_the_others(tmp_path, tokenizer):
    import torch

    def after(size: int, accumulate: int):
        torch.manual_seed(0)
        trainer = preference_trainer(
            tmp_path, tokenizer, make_model(tokenizer), size, accumulate, num_train_epochs=1
        )
        trainer.train()
        weights = [p.detach().flatten() for p in trainer.model.parameters() if p.requires_grad]
        return torch.cat(weights), trainer.state.log_history[0]["loss"]

    (whole, loss), *others = (after(*shape) for shape in ((8, 1), (1, 8), (3, 3)))
    for weights, found in others:
        assert found == pytest.approx(loss, rel=1e-5)
        assert (weights - whole).abs().max() < 1e-6


def test_a_run_that_failed_before_its_first_step_does_not_block_its_folder(
    tmp_path, script, model_folder
):
    prefs, broken = write_preferences(tmp_path / "prefs.jsonl"), tmp_path / "broken"
    broken.mkdir()
    for file in model_folder.iterdir():
        if not file.name.endswith(".safetensors"):  # weights that were not downloaded whole
            (broken / file.name).write_bytes(file.read_bytes())
    options = {"max_steps": 1, "allow_leaks": ()}
    words = command(broken, prefs, tmp_path / "o", "train_dpo.py", **options)
    assert script(*words).returncode == 2
    assert json.loads((tmp_path / "o" / "run.json").read_text())["status"] == "running"
    words = command(model_folder, prefs, tmp_path / "o", "train_dpo.py", **options)
    result = script(*words)
    assert result.returncode == 0, result.stderr
    one_line(script(*words, "--learning_rate", "1e-3"), 2, "--overwrite")


# ---------------------------------------------------------------------------------- hub


@contextmanager
def fake_hub(**refused: int):
    """The hub's endpoints of an upload, on loopback.

    Args:
        refused: a step (``whoami, create, write, commit``) → the status it is refused with.

    Yields:
        (address, the steps as they come, the files of the commit).
    """
    steps: list[str] = []
    files: dict[str, bytes] = {}

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            if self.path.endswith("/whoami-v2"):
                return self.reply("whoami", {"name": "me", "type": "user", "orgs": []})
            if self.path.endswith("/auth-check/write"):
                return self.reply("write", {})
            return self.reply("info", {"id": "me/x", "sha": "0" * 40, "siblings": []})

        def do_POST(self):
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.path.endswith("/repos/create"):
                return self.reply("create", {"url": f"{address}/me/x", "id": "me/x"})
            if "/preupload/" in self.path:
                asked = json.loads(body)["files"]
                known = [
                    {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for one in asked
                ]
                return self.reply("preupload", {"files": known})
            if "/commit/" in self.path and "commit" not in refused:
                for line in map(json.loads, body.splitlines()):
                    if line["key"] == "file":
                        files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            commit = {"commitUrl": f"{address}/me/x/commit/0", "commitOid": "0" * 40}
            return self.reply("commit", commit)

        def reply(self, step: str, value: dict):
            steps.append(step)
            known = "create" not in refused  # whether the repository is there
            status = refused.get(step, 200 if known or step != "info" else 404)
            text = json.dumps(value if status == 200 else {"error": f"no {step} for you"})
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    address = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield address, steps, files
    finally:
        server.shutdown()
        server.server_close()


def hub_settings(address: str, folder) -> dict[str, str]:
    """The environment of a user who is logged in to a hub."""
    return {
        "HF_ENDPOINT": address, "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0",
        "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "127.0.0.1",
    }  # fmt: skip


@pytest.mark.parametrize(("step", "status"), [("whoami", 401), ("create", 403), ("write", 403)])
def test_no_right_to_upload_is_said_before_the_training(
    tmp_path, script, model_folder, step, status
):
    data = write_pairs(tmp_path / "pairs.jsonl")
    words = command(model_folder, data, tmp_path / "o", LORA, max_steps=1, push_to_hub="me/x")
    with fake_hub(**{step: status}) as (address, steps, _):
        result = script(*words, **hub_settings(address, tmp_path))
    one_line(result, 2, "push_to_hub", "me/x")
    assert "hf_secret" not in result.stdout + result.stderr
    assert step in steps
    assert "commit" not in steps
    assert not (tmp_path / "o").exists()


def test_a_dry_run_makes_no_repository_and_no_hub_is_one_line(tmp_path, script, model_folder):
    data = write_pairs(tmp_path / "pairs.jsonl")
    words = command(model_folder, data, tmp_path / "o", LORA, max_steps=1, push_to_hub="me/x")
    with fake_hub(write=404) as (address, steps, _):
        result = script(*words, "--dry_run", **hub_settings(address, tmp_path))
    assert result.returncode == 0, result.stderr
    assert "create" not in steps
    one_line(script(*words, **hub_settings("http://127.0.0.1:9", tmp_path)), 2, "push_to_hub")


def test_a_failed_upload_is_one_line_and_the_same_command_uploads_what_was_kept(
    tmp_path, script, model_folder
):
    data = write_pairs(tmp_path / "pairs.jsonl")
    words = command(model_folder, data, tmp_path / "o", LORA, max_steps=1, push_to_hub="me/x")
    with fake_hub(commit=403) as (address, steps, _):
        result = script(*words, **hub_settings(address, tmp_path))
    assert result.returncode == 1
    said = result.stderr.splitlines()[-1]
    assert "the upload to 'me/x' failed" in said
    assert "no commit for you" in said
    assert "Traceback" not in result.stderr
    assert steps.index("write") < steps.index("commit")
    weights = (tmp_path / "o" / "adapter_model.safetensors").read_bytes()
    assert json.loads((tmp_path / "o" / "run.json").read_text())["status"] == "done"
    with fake_hub() as (address, _, files):
        result = script(*words, **hub_settings(address, tmp_path))
    assert result.returncode == 0, result.stderr
    assert "already trained" in result.stdout
    assert files["adapter_model.safetensors"] == weights
    assert {"run.json", "README.md"} <= set(files)
    assert not any(name.startswith("checkpoint-") for name in files)


# ------------------------------------------------------------------- rows of an older split


def test_a_split_of_rows_that_have_changed_since_is_said_with_the_way_out(
    tmp_path, script, model_folder
):
    source, folder = write_pairs(tmp_path / "pairs of mine.jsonl"), tmp_path / "data"
    split = ["src/data/split.py", "--input", source, "--output_dir", folder, "--leaks", "report"]
    result = script(*split)
    assert result.returncode == 0, result.stderr
    rows, output = folder / "train.jsonl", tmp_path / "o"
    words = [*command(model_folder, rows, output, LORA, max_steps=1, allow_leaks=()), "--dry_run"]

    def warned(*command_line) -> list[str]:
        result = script(*command_line)
        assert result.returncode == 0, result.stderr
        return [line for line in result.stdout.splitlines() if line.startswith("warning")]

    source.touch()  # as a checkout does
    assert warned(*words) == []
    source.write_text(source.read_text() + '\n{"question": "새 질문", "answer": "새 대답"}')
    (line,) = warned(*words)
    assert str(source) in line
    assert str(rows) in line
    assert line.endswith(f"src/data/split.py --input '{source}' --output_dir {folder}")
    assert warned("src/train/rows.py", "--dry_run", "--data_path", rows) == [line]
    assert script(*split).returncode == 0
    assert warned(*words) == []

    record = json.loads((folder / "split.json").read_text())  # as split.py left it before
    del record["input"]
    (folder / "split.json").write_text(json.dumps(record))
    assert warned(*words) == []
    source.touch()
    assert len(warned(*words)) == 1


def test_4bit_weights_are_not_repacked_by_an_evaluation(monkeypatch, model_folder):
    """Repacked ones pass no gradient; what is trained after an evaluation would be wrong."""
    import bitsandbytes.nn.modules as layers
    import torch

    from malmat.lm.load import load_model

    def repack(*_):
        raise AssertionError("repacked")

    monkeypatch.setattr(layers, "has_avx512bf16", lambda: True)  # as on a newer processor
    monkeypatch.setattr(layers, "_convert_weight_packed_for_cpu", repack)
    model = load_model(str(model_folder), quantization="4bit", device="cpu")
    with torch.no_grad():
        assert model(torch.tensor([[5, 6, 7]])).logits.isfinite().all()
