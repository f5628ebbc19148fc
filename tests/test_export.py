"""Exports of a trained model: what other programs read says what the model itself says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import CHATML, make_model, make_tokenizer

from malmat.errors import InputError
from malmat.lm.chat import render_prompt
from malmat.lm.ollama import turns_of

TEMPLATES = sorted((Path(__file__).parent / "templates").glob("*.jinja"))
WORDING = '친구 "말투"로\n답하기: {question} 끝'
TALK = [
    {"role": "user", "content": "하나"},
    {"role": "assistant", "content": "둘"},
    {"role": "user", "content": "셋"},
    {"role": "assistant", "content": "넷"},
    {"role": "user", "content": "다섯"},
]
CONVERTER = """\
import sys
from pathlib import Path
folder, flag, outfile, _, outtype = sys.argv[1:]
if not (Path(folder) / "model.safetensors").is_file() or outtype == "bf16":
    sys.exit("BF16 is not for this model")
Path(outfile).write_text(f"GGUF {outtype}")
"""


def executed(template: str, messages: list[dict]) -> str:
    """What Go's text/template makes of the actions that ``Turns.go_template`` writes."""
    template = re.sub(r"\s*\{\{- ", "{{ ", template)
    tokens = re.findall(r"\{\{ (.*?) \}\}|((?:(?!\{\{ ).)+)", template, re.DOTALL)
    system = "".join(one["content"] for one in messages if one["role"] == "system")
    scope = {"$first": True, "$.System": system}

    def block(at: int) -> int:
        """The place behind the ``end`` of the block that begins before ``at``."""
        depth = 1
        while depth:
            word = tokens[at][0].split(" ")[0]
            depth += (word in ("if", "range")) - (word == "end")
            at += 1
        return at

    def true(condition: str, message: dict) -> bool:
        if condition.startswith("eq .Role "):
            return message["role"] == json.loads(condition.removeprefix("eq .Role "))
        return bool(scope[condition])

    def run(start: int, end: int, message: dict) -> str:
        text, at = "", start
        while at < end:
            action, plain = tokens[at]
            at += 1
            if plain:
                text += plain
            elif action == ".Content":
                text += message["content"]
            elif action.startswith('"'):
                text += json.loads(action)
            elif "=" in action:
                scope["$first"] = action.endswith("true")
            elif action == "$.System":
                text += system
            elif action == "range .Messages":
                stop = block(at)
                text += "".join(run(at, stop - 1, one) for one in messages)
                at = stop
            elif action.startswith("if "):
                stop = block(at)
                text += chosen(action, at, stop - 1, message)
                at = stop
            else:
                raise AssertionError(action)
        return text

    def chosen(action: str, at: int, end: int, message: dict) -> str:
        branches, start, here = [], at, at
        condition = action.removeprefix("if ")
        while here < end:
            word = tokens[here][0]
            if word.startswith(("if ", "range ")):
                here = block(here + 1)
                continue
            if word.startswith("else"):
                branches.append((condition, start, here))
                condition, start = word.removeprefix("else").removeprefix(" if ") or None, here + 1
            here += 1
        branches.append((condition, start, end))
        for condition, first, last in branches:
            if condition is None or true(condition, message):
                return run(first, last, message)
        return ""

    return run(0, len(tokens), {})


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.stem)
@pytest.mark.parametrize("system", [[], [{"role": "system", "content": "안내 {{ .X }}"}]])
@pytest.mark.parametrize("turns", [1, 3, 5])
def test_ollama_writes_what_the_chat_template_writes(path, system, turns):
    tokenizer = make_tokenizer(path.read_text(encoding="utf-8"), bos=True)
    messages = [*system, *TALK[:turns]]
    prompt = render_prompt(tokenizer, messages).removeprefix("<s>")
    found = turns_of(tokenizer)
    assert found.render(messages) == prompt
    assert executed(found.go_template(), messages) == prompt


def test_the_wording_goes_around_each_message_of_the_user(tokenizer):
    worded = [
        one
        | ({"content": WORDING.format(question=one["content"])} if one["role"] == "user" else {})
        for one in TALK
    ]
    template = turns_of(tokenizer).go_template(WORDING)
    assert '"""' not in template
    assert executed(template, TALK) == render_prompt(tokenizer, worded)


def test_a_template_that_is_not_turn_by_turn_is_refused():
    counting = CHATML.replace("message.content", "message.content + ' ' ~ messages | length")
    with pytest.raises(InputError, match="Ollama"):
        turns_of(make_tokenizer(counting))


# ------------------------------------------------------------------------------- the script


@pytest.fixture(scope="module")
def adapter(tmp_path_factory, tokenizer):
    """An adapter with weights of its own, and the run.json of its wording."""
    from peft import LoraConfig, get_peft_model

    place = tmp_path_factory.mktemp("run")
    model = make_model(tokenizer)
    model.save_pretrained(place / "small-base")
    tokenizer.save_pretrained(place / "small-base")
    config = LoraConfig(r=4, target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    model = get_peft_model(model, config)
    model.peft_config["default"].base_model_name_or_path = str(place / "small-base")
    model.save_pretrained(place / "my-lora")
    (place / "my-lora" / "run.json").write_text(json.dumps({"wording": WORDING}))
    return place / "my-lora"


OUTSIDE = """\
import json, sys, torch
from transformers import AutoModelForCausalLM, AutoTokenizer
folder, text = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder)
ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")["input_ids"]
print(json.dumps(model(ids).logits[0, -1, :8].tolist()))
assert "malmat" not in sys.modules
"""


def test_the_merged_model_is_loaded_anywhere_and_says_the_same(script, adapter, tmp_path):
    import torch
    from peft import AutoPeftModelForCausalLM
    from transformers import AutoTokenizer

    done = script("src/train/export.py", adapter, "--to", "merged,ollama", "--output_dir", "out")
    assert done.returncode == 0, done.stderr
    merged = tmp_path / "out" / "merged"
    before = (merged / "model.safetensors").stat().st_mtime_ns
    command = [sys.executable, "-c", OUTSIDE, str(merged), "오늘 점심 뭐 먹지?"]
    outside = subprocess.run(command, cwd=merged, capture_output=True, text=True, check=True)
    tokenizer = AutoTokenizer.from_pretrained(adapter.parent / "small-base")
    ids = tokenizer("오늘 점심 뭐 먹지?", return_tensors="pt")["input_ids"]
    own = AutoPeftModelForCausalLM.from_pretrained(adapter).eval()
    expected = own(ids).logits[0, -1, :8]
    assert torch.allclose(torch.tensor(json.loads(outside.stdout)), expected, atol=1e-4)
    plain = make_model(tokenizer)(ids).logits[0, -1, :8]
    assert not torch.allclose(plain, expected, atol=1e-2), "the adapter does something"

    text = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    assert "\nFROM ./merged\n" in text
    assert 'PARAMETER stop "<|im_end|>"\n' in text
    assert "PARAMETER repeat_penalty 1.15\n" in text
    assert '친구 \\"말투\\"로\\n답하기: ' in text

    row = {"answer": {"model": str(adapter), "temperature": 0.25, "until": "line"}}
    (tmp_path / "models.json").write_text(json.dumps({adapter.name: row}))
    words = ("--to", "ollama", "--output_dir", "out", "--no-wording", "--models", "models.json")
    again = script("src/train/export.py", f"{adapter}/", *words)
    assert again.returncode == 0, again.stderr
    assert (merged / "model.safetensors").stat().st_mtime_ns == before
    text = (tmp_path / "out" / "Modelfile").read_text(encoding="utf-8")
    assert "말투" not in text
    assert "PARAMETER temperature 0.25\n" in text
    assert "PARAMETER repeat_penalty 1.15\n" in text


def test_gguf_by_the_converter_that_is_there(script, adapter, tmp_path):
    (tmp_path / "convert_hf_to_gguf.py").write_text(CONVERTER)
    words = ("src/train/export.py", adapter, "--to", "gguf,ollama", "--output_dir", "out")
    words = (*words, "--no-check")  # this converter's file is none that llama.cpp could read back
    done = script(*words, LLAMA_CPP=str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "my-lora-f16.gguf").read_text() == "GGUF f16"
    assert "FROM ./my-lora-f16.gguf\n" in (tmp_path / "out" / "Modelfile").read_text("utf-8")

    given = ("--converter", "convert_hf_to_gguf.py", "--outtype", "bf16")
    failed = script(*words, *given)
    assert failed.returncode == 1
    assert "stopped: llama.cpp's converter failed: BF16 is not for this model" in failed.stderr
    assert [file.name for file in (tmp_path / "out").glob("*gguf*")] == ["my-lora-f16.gguf"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--to", "gguf"), "converter is not on this machine"),
        (("--to", "gguf", "--converter", "none.py"), "none.py"),
        (("--to", "merged,onnx"), "onnx"),
        (("--to", "hub"), "repo"),
        (("--to", "hub", "--repo", "me/x", "--dry_run"), "cannot be uploaded to"),
        (("--repo", "me/x"), "repo"),
        (("--output_dir", "mine"), "something else"),
    ],
)
def test_what_is_missing_is_said_before_anything_is_written(script, adapter, tmp_path, words, said):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("mine")
    done = script("src/train/export.py", adapter, *words, LLAMA_CPP="", PATH="", HF_TOKEN="")
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert [file.name for file in tmp_path.rglob("*")] == ["mine", "thesis.txt"]
