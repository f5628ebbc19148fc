"""Chat templates as published (in structure): what is trained is what every server will send."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from malmat.errors import InputError
from malmat.lm import chat
from malmat.lm.chat import IGNORE
from malmat.lm.load import load_tokenizer
from malmat.train.card import model_card
from malmat.train.checks import check, report
from malmat.train.labels import round_trip
from tests.conftest import CHATML as PLAIN
from tests.conftest import PAIRS, ROOT, make_model, make_tokenizer
from tests.test_run import record, settings  # noqa: F401  (a fixture)
from tests.test_training import command

CASES = Path(__file__).parent / "cases" / "templates"
CHATML = {"tokens": ["<|im_start|>", "<|im_end|>", "<|endoftext|>"], "eos": "<|im_end|>"}
LLAMA_3 = {
    "tokens": ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
    "bos": "<|begin_of_text|>",
    "eos": "<|eot_id|>",
}
SPM = {"tokens": ["<unk>", "<s>", "</s>"], "bos": "<s>", "eos": "</s>", "add_bos": True}
GEMMA = ["<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]

FAMILIES = {  # template: its tokens, what an answer ends with, what comes before it
    "llama-3.1": {**LLAMA_3, "end": "<|eot_id|>", "date": "26 Jul 2024"},
    "llama-3.2": {**LLAMA_3, "end": "<|eot_id|>", "date": "today's"},
    "qwen2.5": {**CHATML, "end": "<|im_end|>"},
    "qwen3-2507": {**CHATML, "end": "<|im_end|>"},
    "qwen3.5": {**CHATML, "end": "<|im_end|>", "thinks": True},
    "gemma-2": {"tokens": GEMMA, "bos": "<bos>", "eos": "<eos>", "end": "<end_of_turn>"},
    "exaone-4-published": {
        "tokens": ["[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"],
        "eos": "[|endofturn|]", "end": "[|endofturn|]", "thinks": True,
    },
    "llama-2": {**SPM, "end": " </s>", "lead": " "},
    "vicuna": {**SPM, "end": "</s>", "lead": " "},
    "zephyr": {**SPM, "end": "</s>"},
}  # fmt: skip


def family(name: str):
    """A byte-level tokenizer with a published template and its special tokens."""
    from transformers import AddedToken

    facts = FAMILIES[name]
    tokenizer = make_tokenizer()
    added = [AddedToken(token, special=True, normalized=False) for token in facts["tokens"]]
    tokenizer.add_special_tokens({"additional_special_tokens": added})
    tokenizer.bos_token, tokenizer.eos_token = facts.get("bos"), facts["eos"]
    tokenizer.add_bos_token = facts.get("add_bos", False)
    tokenizer.name_or_path = name
    tokenizer.chat_template = (CASES / f"{name}.jinja").read_text("utf-8")
    return tokenizer


def ask(text: str) -> dict:
    return {"role": "user", "content": text}


def reply(text: str) -> dict:
    return {"role": "assistant", "content": text}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_published_template_trains_what_it_asks_and_its_end(name):
    tokenizer, facts = family(name), FAMILIES[name]
    talks = [[ask(question), reply(f" {answer}\n")] for question, answer in PAIRS]
    talks.append([ask("뭐 해?"), reply("쉬어"), ask("또?"), reply("응, 집콕")])
    examples = [chat.encode_example(tokenizer, talk) for talk in talks]
    for talk, example in zip(talks, examples, strict=True):
        prompt = chat.encode_prompt(tokenizer, talk[:-1])
        assert example["input_ids"][: len(prompt)] == prompt
        live = tokenizer.decode([label for label in example["labels"] if label != IGNORE])
        assert live == facts.get("lead", "") + talk[-1]["content"].strip() + facts["end"]
        round_trip(tokenizer, [*talk[:-1], reply(talk[-1]["content"].strip())])
    found = check(tokenizer, examples, talks)
    assert (found["thinking"], found["date"]) == (
        "off" if facts.get("thinks") else None,
        facts.get("date"),
    )


@pytest.mark.parametrize("name", ["llama-2", "vicuna"])
def test_a_blank_before_an_answer_is_trained_and_weighed_as_the_template_writes_it(name):
    tokenizer = family(name)
    talk = [ask("뭐 해?"), reply("쉬어")]
    whole = chat.render_conversation(tokenizer, talk)
    example = chat.encode_example(tokenizer, talk)
    # (Vicuna's template leaves <s> to the tokenizer.)
    assert tokenizer.decode(example["input_ids"]).removeprefix("<s>") == whole.removeprefix("<s>")
    _, [choice] = chat.encode_answers(tokenizer, talk[:1], ["쉬어"])
    assert tokenizer.decode(choice) == " 쉬어"


def test_a_date_in_the_prompt_is_said():
    for name, daily in (("llama-3.1", False), ("llama-3.2", True)):
        tokenizer = family(name)
        examples = [chat.encode_example(tokenizer, [ask(q), reply(a)]) for q, a in PAIRS]
        [line] = [line for line in report(check(tokenizer, examples)) if "date" in line]
        assert ("26 Jul 2024" in line, "another day" in line) == (not daily, daily)
    tokenizer = family("qwen2.5")
    examples = [chat.encode_example(tokenizer, [ask(q), reply(a)]) for q, a in PAIRS]
    assert not any("date" in line for line in report(check(tokenizer, examples)))


def test_a_template_that_opens_an_unclosed_thought_is_refused():
    tokenizer = family("qwen3-2507")
    tokenizer.chat_template = tokenizer.chat_template.replace(
        "assistant\\n' }}", "assistant\\n<think>\\n' }}"
    )
    with pytest.raises(ValueError, match="cannot be switched off"):
        check(tokenizer, [chat.encode_example(tokenizer, [ask("뭐 해?"), reply("쉬어")])])


@pytest.mark.parametrize("name", ["zephyr", "vicuna", "llama-2", "qwen2.5"])
def test_the_saved_template_gives_the_bos_that_was_trained_with(tmp_path, name):
    tokenizer = family(name)
    before = chat.encode_prompt(tokenizer, [ask("뭐 해?")])
    assert chat.write_bos(tokenizer) is (name in ("zephyr", "vicuna"))
    assert not chat.write_bos(tokenizer)
    assert chat.encode_prompt(tokenizer, [ask("뭐 해?")]) == before
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    saved = load_tokenizer(str(tmp_path))
    text = saved.apply_chat_template([ask("뭐 해?")], tokenize=False, add_generation_prompt=True)
    assert text.count("<s>") == ("bos" in FAMILIES[name])
    assert saved(text, add_special_tokens=False)["input_ids"] == before


def test_the_card_and_the_server_send_every_switch_that_training_used():
    snippet = model_card(record())
    sent = dict(re.findall(r"(\w+)=(True|False)\b", snippet.partition("apply_chat_template")[2]))
    assert {name: sent[name] == "True" for name in chat.THINKING_OFF} == chat.THINKING_OFF
    server = (ROOT / "src" / "eval" / "serve_vllm.sh").read_text()
    [kwargs] = re.findall(r"--default-chat-template-kwargs \\\s+'(\{.*?\})'", server)
    assert json.loads(kwargs) == chat.THINKING_OFF


# ------------------------------------------------------------------------- rows and templates


def spoken(*roles: str) -> dict:
    texts = {"system": "짧게 답해", "user": "뭐 해?", "assistant": "쉬어"}
    return {"messages": [{"role": role, "content": texts[role]} for role in roles]}


def write_rows(path, *rows: dict):
    path.write_text("\n".join(json.dumps(row, ensure_ascii=False) for row in rows))
    return path


@pytest.fixture
def dry_run(settings, tmp_path):  # noqa: F811
    """Check and plan a run on rows, with other rows held out; what was printed stays there."""
    from malmat.train.run import fit

    def run(train: list[dict], held: list[dict] = (), tokenizer=None):
        tokenizer = tokenizer or make_tokenizer()
        make_model(tokenizer).save_pretrained(tmp_path / "m")
        tokenizer.save_pretrained(tmp_path / "m")
        words = ["--model_name", str(tmp_path / "m"), "--report_to", "none", "--dry_run"]
        words += ["--data_path", str(write_rows(tmp_path / "train.jsonl", *train))]
        if held:
            words += ["--eval_data_path", str(write_rows(tmp_path / "held.jsonl", *held))]
        words += ["--optim", "adamw_torch"]
        fit(settings("train_lora_fine_tuning", "lora", *words), None)

    return run


GOOD = spoken("user", "assistant")
REFUSED_ROWS = {  # the row, and what is said of it with Gemma 2's template
    "a system message": (
        spoken("system", "user", "assistant"), ["refuses the messages (system, user)"],
    ),
    "two questions in a row": (
        spoken("user", "user", "assistant"), ["refuses the messages (user, user)"],
    ),
    "an answer that ends the turn in its middle": (
        {"question": "뭐 해?", "answer": "쉬어<end_of_turn>놀아"},
        ["ends the turn in its middle", "Take the token out"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("held_out", [False, True])
@pytest.mark.parametrize("name", REFUSED_ROWS)
def test_a_row_that_cannot_be_trained_is_named_with_its_file(dry_run, tmp_path, name, held_out):
    row, said = REFUSED_ROWS[name]
    rows = [{"question": "오늘?", "answer": "쉬어"}, row]
    with pytest.raises(InputError) as caught:
        dry_run([GOOD] if held_out else rows, rows if held_out else (), family("gemma-2"))
    message = str(caught.value)
    file = tmp_path / ("held.jsonl" if held_out else "train.jsonl")
    assert message.startswith(f"{file}: row 2 ('뭐 해?'): ")
    assert "model_name" not in message
    for words in said:
        assert words in message


def test_the_row_is_named_whatever_became_of_the_rows_before_it(dry_run):
    long = {"question": "뭐 해?", "answer": "쉬어" * 500}
    turns = spoken(*["user", "assistant"] * 3)
    bad = {"question": "또?", "answer": "쉬어<|im_end|>"}
    with pytest.raises(InputError, match=r"train.jsonl: row 3 \('또\?'\): the answer holds"):
        dry_run([turns, long, bad, GOOD])


def test_a_row_that_the_template_writes_otherwise_is_named(dry_run):
    cuts = make_tokenizer(PLAIN.replace("message.content", "message.content[:12]"))
    long = {"question": "왜?", "answer": "쉬어" * 10}
    with pytest.raises(
        InputError, match=r"held.jsonl: row 2 \('왜\?'\): .* differently at training"
    ):
        dry_run([GOOD], [GOOD, long], cuts)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (PLAIN.replace("<|im_end|>", " (끝)"), "never stop"),
        ("{{ bos_token + bos_token }}" + PLAIN, "two <bos>"),
        (None, "no chat template"),
    ],
)
def test_what_every_row_would_meet_is_the_models(dry_run, template, said):
    with pytest.raises(InputError, match=f"^field 'model_name': .*{said}"):
        dry_run([GOOD], tokenizer=make_tokenizer(template, bos=True))


def test_the_plan_counts_rows_that_stand_as_they_are(dry_run, capsys):
    bare = [{"question": f"{n}번?", "answer": "쉬어"} for n in range(3)]
    dry_run([GOOD, spoken("system", "user", "assistant"), *bare])
    [line] = [one for one in capsys.readouterr().out.splitlines() if one.startswith("wording:")]
    assert line.startswith("wording: 2 rows of messages stand as they are")
    assert line.endswith("3 bare questions get it")
    dry_run(bare)
    assert "wording: " not in capsys.readouterr().out


def test_a_run_saves_the_template_with_the_bos_that_it_trained_with(tmp_path, script):
    """SOLAR's template leaves ``<s>`` to the tokenizer, which writes it at training alone."""
    tokenizer = make_tokenizer((ROOT / "tests/templates/solar-10.7b.jinja").read_text(), bos=True)
    tokenizer.add_bos_token = True
    make_model(tokenizer).save_pretrained(tmp_path / "m")
    tokenizer.save_pretrained(tmp_path / "m")
    data = write_rows(tmp_path / "rows.jsonl", GOOD)
    trained = chat.encode_prompt(load_tokenizer(str(tmp_path / "m")), GOOD["messages"][:1])
    assert trained[0] == tokenizer.bos_token_id
    words = command(
        tmp_path / "m", data, tmp_path / "out", "train_lora_fine_tuning.py", max_steps=1
    )
    result = script(*words)
    assert result.returncode == 0, result.stderr
    assert "leaves <s> out: it is written into the copy" in result.stdout
    saved = load_tokenizer(str(tmp_path / "out"))
    text = saved.apply_chat_template(
        GOOD["messages"][:1], tokenize=False, add_generation_prompt=True
    )
    assert text.count("<s>") == 1
    assert saved(text, add_special_tokens=False)["input_ids"] == trained
