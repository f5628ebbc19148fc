"""What is checked before a GPU hour is spent, for each family's turn format."""

import json
from pathlib import Path

import pytest

from malmat.errors import InputError
from malmat.files import write_json
from malmat.lm import chat, templates
from malmat.lm.chat import IGNORE
from malmat.text.leaks import find_leaks, leak_gate
from malmat.train import licence as licences
from malmat.train.checks import check, plan, report
from malmat.train.labels import round_trip
from malmat.train.memory import memory
from tests.conftest import CHATML, PAIRS, ROOT, make_model, make_tokenizer

TEMPLATES = Path(__file__).parent / "templates"
ASK = {"role": "user", "content": "주말에 뭐 해?"}
REPLY = {"role": "assistant", "content": "집콕하면서 정주행"}
AGAIN = {"role": "user", "content": "커피 마실래?"}
SYSTEM = {"role": "system", "content": "친구처럼 말해"}

TURN = ["[|system|]", "[|user|]", "[|assistant|]", "[|endofturn|]"]
CHATML_TOKENS = ["<|im_start|>", "<|im_end|>", "<|endoftext|>"]
LLAMA = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>"]
LLAMA += ["<|eot_id|>"]
LLAMA_3 = {"bos": "<|begin_of_text|>", "tokens": LLAMA, "end": ["<|eot_id|>"]}

# template: special tokens, what ends a turn, and the tokenizer's bos, eos and pad
FAMILIES = {
    "exaone-3.5": {
        "tokens": ["[BOS]", *TURN],
        "bos": "[BOS]",
        "eos": "[|endofturn|]",
        "end": ["[|endofturn|]"],
    },
    "exaone-4": {"tokens": TURN, "eos": "[|endofturn|]", "end": ["[|endofturn|]"], "thinks": True},
    "hyperclovax-seed": {
        "tokens": [*CHATML_TOKENS, "<|endofturn|>", "<|stop|>"],
        "bos": "<|endoftext|>",
        "eos": "<|endofturn|>",
        "pad": "<|endoftext|>",
        "end": ["<|im_end|>", "<|endofturn|>"],
        "thinks": True,
    },
    "qwen3": {
        "tokens": CHATML_TOKENS,
        "eos": "<|im_end|>",
        "pad": "<|endoftext|>",
        "end": ["<|im_end|>"],
        "thinks": True,
    },
    "gemma-3": {
        "tokens": ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>"],
        "bos": "<bos>",
        "eos": "<eos>",
        "pad": "<pad>",
        "end": ["<end_of_turn>"],
    },
    "llama-3": {**LLAMA_3, "eos": "<|eot_id|>"},
    "kanana-1.5": {**LLAMA_3, "eos": "<|end_of_text|>"},
    "solar-10.7b": {
        "tokens": ["<unk>", "<s>", "</s>"],
        "bos": "<s>",
        "eos": "</s>",
        "pad": "</s>",
        "end": ["</s>"],
        "add_bos": True,
    },
}


def family(name: str, template: str | None = None):
    """A byte-level tokenizer with the family's special tokens and turn format."""
    from transformers import AddedToken

    facts = FAMILIES[name]
    tokenizer = make_tokenizer()
    tokenizer.add_special_tokens(
        {
            "additional_special_tokens": [
                AddedToken(token, special=True, normalized=False) for token in facts["tokens"]
            ]
        }
    )
    tokenizer.bos_token = facts.get("bos")
    tokenizer.eos_token = facts["eos"]
    tokenizer.pad_token = facts.get("pad", facts["eos"])
    tokenizer.add_bos_token = facts.get("add_bos", False)
    tokenizer.name_or_path = name
    path = TEMPLATES / f"{name}.jinja"
    tokenizer.chat_template = path.read_text("utf-8") if template is None else template
    return tokenizer


@pytest.fixture(params=FAMILIES)
def any_family(request):
    return family(request.param), FAMILIES[request.param]


def encode(tokenizer, conversations):
    return [chat.encode_example(tokenizer, messages) for messages in conversations]


def test_the_answer_and_the_familys_own_end_of_turn_carry_the_loss(any_family):
    tokenizer, facts = any_family
    example = chat.encode_example(tokenizer, [ASK, REPLY])
    live = [label for label in example["labels"] if label != IGNORE]
    assert tokenizer.decode(live) == REPLY["content"] + "".join(facts["end"])
    assert example["labels"][-1] == tokenizer.convert_tokens_to_ids(facts["end"][-1])


def test_every_end_token_stops_generation_and_no_opening_one(any_family):
    tokenizer, facts = any_family
    stops = tokenizer.convert_ids_to_tokens(chat.terminators(tokenizer))
    assert set(stops) == {*facts["end"], facts["eos"]}


def test_training_and_inference_see_one_prompt_with_one_bos(any_family):
    tokenizer, facts = any_family
    messages = [SYSTEM, ASK, REPLY, AGAIN, {"role": "assistant", "content": "얼죽아는 아이스"}]
    for conversation in ([ASK, REPLY], messages[1:], messages):
        prompt = chat.encode_prompt(tokenizer, conversation[:-1])
        example = chat.encode_example(tokenizer, conversation)
        assert example["input_ids"][: len(prompt)] == prompt
        assert example["labels"][: len(prompt)] == [IGNORE] * len(prompt)
        if "bos" in facts and facts["bos"] != facts.get("pad"):
            written = facts.get("add_bos") or "bos_token" in tokenizer.chat_template
            assert prompt.count(tokenizer.bos_token_id) == int(written)
        round_trip(tokenizer, conversation)


def test_a_whole_data_set_passes(any_family):
    tokenizer, facts = any_family
    conversations = [
        [{"role": "user", "content": q}, {"role": "assistant", "content": f" {a}\n"}]
        for q, a in PAIRS
    ]
    examples = encode(tokenizer, conversations)
    found = check(tokenizer, examples, conversations, skipped=2, batch_size=3)
    lengths = sorted(len(example["input_ids"]) for example in examples)
    assert found["examples"] == len(PAIRS)
    assert found["skipped"] == 2
    assert found["tokens"] == sum(lengths)
    assert (found["longest"], found["p95"], found["median"]) == (
        lengths[-1],
        lengths[-1],
        lengths[3],
    )
    assert found["worst_tokens"] == sum(lengths[-3:])
    assert found["labelled_tokens"] == sum(
        label != IGNORE for example in examples for label in example["labels"]
    )
    assert found["terminator"] == facts["end"][-1]
    assert found["pad_is_terminator"] == (tokenizer.pad_token == facts["end"][-1])
    assert found["thinking"] == ("off" if facts.get("thinks") else None)


def test_a_pad_token_that_is_the_terminator_is_not_masked_in_a_batch(any_family):
    from transformers import DataCollatorForSeq2Seq

    tokenizer, facts = any_family
    tokenizer.pad_token = facts["end"][-1]
    examples = encode(tokenizer, [[ASK, REPLY], [ASK, {**REPLY, "content": "응"}]])
    batch = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=IGNORE)(
        [dict(example) for example in examples]
    )
    for example, labels in zip(examples, batch["labels"].tolist(), strict=True):
        live = [label for label in labels if label != IGNORE]
        assert live[-1] == tokenizer.pad_token_id
        assert live == [label for label in example["labels"] if label != IGNORE]


def test_thinking_is_off_in_the_prompt():
    assert chat.render_prompt(family("qwen3"), [ASK]).endswith("<think>\n\n</think>\n\n")
    assert chat.render_prompt(family("exaone-4"), [ASK]).endswith("<think>\n\n</think>\n\n")
    assert chat.render_prompt(family("hyperclovax-seed"), [ASK]).endswith("assistant\n")


def test_stops_of_the_models_own_generation_config_are_added():
    from transformers import GenerationConfig

    tokenizer = family("llama-3")
    known = tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"])
    config = GenerationConfig(eos_token_id=[known[1]])
    assert chat.terminators(tokenizer, config) == sorted(known)
    assert chat.terminators(tokenizer, GenerationConfig(eos_token_id=known[1])) == sorted(known)
    assert chat.terminators(tokenizer, GenerationConfig()) == known[:1]


def test_an_eos_that_the_tokenizer_would_split_is_still_one_id():
    tokenizer = family("solar-10.7b", templates.SOLAR_TEMPLATE)
    example = chat.encode_example(tokenizer, [ASK, REPLY])
    tokenizer.split_special_tokens = True
    assert chat.end_of_turn(tokenizer) == [tokenizer.eos_token_id]
    tokenizer.chat_template += " "  # as it is now, found anew
    assert chat.end_of_turn(tokenizer) == [tokenizer.eos_token_id]
    assert chat.encode_example(tokenizer, [ASK, REPLY])["labels"][-1] == example["labels"][-1]


def test_a_solar_like_model_learns_to_stop():
    """Its template writes no end; a model tuned on ``</s>`` stops there, in a few steps of SGD."""
    import torch

    from malmat.lm.generate import Sampling, generate

    tokenizer = family("solar-10.7b")
    model = make_model(tokenizer, vocab_size=len(tokenizer)).train()
    example = chat.encode_example(tokenizer, [ASK, REPLY])
    ids, labels = torch.tensor([example["input_ids"]]), torch.tensor([example["labels"]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(60):
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    prompt = chat.encode_prompt(tokenizer, [ASK])
    (reply,) = generate(
        model.eval(), tokenizer, [prompt], ["a"], Sampling(temperature=0, repetition_penalty=1.0)
    )
    assert (reply["text"], reply["finish_reason"]) == (REPLY["content"], "stop")


@pytest.mark.parametrize(
    ("name", "tokens", "given"),
    [
        ("x2bee/POLAR-14B-v0.2", ["<s>", "</s>"], "SOLAR"),
        ("kakaocorp/kanana-1.5-8b-base", LLAMA, "Llama 3"),
        ("google/gemma-3-270m", FAMILIES["gemma-3"]["tokens"], "Gemma"),
    ],
)
def test_a_base_model_without_a_template_gets_its_familys(name, tokens, given):
    tokenizer = make_tokenizer(bos=True)
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.eos_token = {"SOLAR": "</s>", "Llama 3": "<|end_of_text|>"}.get(given, "<eos>")
    # POLAR's own tokenizer would end a prompt with </s>.
    tokenizer.add_bos_token = tokenizer.add_eos_token = True
    tokenizer.name_or_path, tokenizer.chat_template = name, None
    assert templates.give_template(tokenizer) == given
    assert templates.give_template(tokenizer) is None
    prompt = chat.encode_prompt(tokenizer, [SYSTEM, ASK])
    assert prompt.count(tokenizer.bos_token_id) == 1
    assert prompt[-1] != tokenizer.eos_token_id
    conversation = [SYSTEM, ASK, REPLY, AGAIN, REPLY]
    check(tokenizer, encode(tokenizer, [conversation]), [conversation])


def test_no_format_fits_a_model_without_a_template():
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    assert templates.give_template(tokenizer) is None
    assert tokenizer.chat_template is None


BROKEN = {
    "no terminator": (CHATML.replace("<|im_end|>", " (끝)"), "never stop"),
    "the next turn for an end": (
        "{%- for message in messages -%}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content }}{%- endfor -%}"
        "{{ '<|im_start|>assistant\n' }}",
        "opens the next one",
    ),
    "end of turn that opens one": (
        "{%- for message in messages -%}{{ message.content + '<|im_start|>' }}{%- endfor -%}"
        "{%- if add_generation_prompt -%}{{ '<|im_start|>' }}{%- endif -%}",
        "opens the next one",
    ),
    "another generation prompt": (
        CHATML.replace("'<|im_start|>assistant\n'", "'<|im_start|>bot\n'"),
        "differently .*bot",
    ),
    "no generation prompt": (CHATML.split("{%- if add_generation_prompt")[0], "differently"),
    "an answer cut by the template": (
        CHATML.replace("message.content", "message.content[:6]"),
        "answer whole",
    ),
    "two bos": ("{{ bos_token + bos_token }}" + CHATML, "two <bos>"),
    "thinking that stays on": (
        CHATML.replace("assistant\n' }}", "assistant\n<think>\n' }}"),
        "cannot be switched off",
    ),
    "a role that it does not take": (
        "{{ raise_exception('System role not supported') }}",
        "refuses the messages .*System role",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_template_is_refused_in_one_clear_line(name):
    template, expected = BROKEN[name]
    tokenizer = make_tokenizer(template, bos=True)
    with pytest.raises(ValueError, match=expected) as caught:
        check(tokenizer, encode(tokenizer, [[ASK, REPLY]]))
    assert "\n" not in str(caught.value)


def test_an_older_template_that_always_opens_the_next_turn_still_ends_on_its_own_token():
    template = (TEMPLATES / "llama-3.jinja").read_text("utf-8")
    template = template.replace("{%- if add_generation_prompt -%}", "{%- if true -%}")
    tokenizer = family("llama-3", template)
    assert tokenizer.convert_ids_to_tokens(chat.end_of_turn(tokenizer)) == ["<|eot_id|>"]


def spoil(change):
    tokenizer = make_tokenizer(bos=True)
    example = chat.encode_example(tokenizer, [ASK, {**REPLY, "content": "글쎄, 아직 모르겠어"}])
    change(example, tokenizer)
    return tokenizer, example


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda e, t: e["labels"].__setitem__(-1, IGNORE), "never stop"),
        (lambda e, t: e.update(labels=list(e["input_ids"])), "falls on the prompt"),
        (lambda e, t: e.update(labels=[IGNORE] * len(e["labels"])), "no labelled token"),
        (lambda e, t: e["labels"].__setitem__(-3, IGNORE), "not the tokens of the answer"),
        (
            lambda e, t: [
                e[k].__setitem__(-3, e["input_ids"][-1]) for k in ("input_ids", "labels")
            ],
            "ends the turn in its middle",
        ),
        (
            lambda e, t: e.update(
                input_ids=[t.bos_token_id] * 2 + e["input_ids"], labels=[IGNORE] * 2 + e["labels"]
            ),
            "two <bos>",
        ),
    ],
)
def test_a_spoilt_example_is_refused(change, expected):
    tokenizer, example = spoil(change)
    good = chat.encode_example(tokenizer, [ASK, REPLY])
    with pytest.raises(ValueError, match=f"example 2.*{expected}"):
        check(tokenizer, [good, example])


def test_examples_of_other_messages_are_noticed(tokenizer):
    examples = encode(tokenizer, [[ASK, REPLY], [AGAIN, REPLY]])
    with pytest.raises(ValueError, match="example 2: the prompt trained on is not"):
        check(tokenizer, examples, [[ASK, REPLY], [ASK, REPLY]])
    with pytest.raises(ValueError, match="1 conversations for 2"):
        check(tokenizer, examples, [[ASK, REPLY]])
    with pytest.raises(ValueError, match="no example"):
        check(tokenizer, [])


# ------------------------------------------------------------------------------ plan


@pytest.mark.parametrize(
    ("examples", "batch", "accumulation", "epochs"), [(17, 2, 4, 2), (8, 8, 1, 1.5), (3, 2, 64, 3)]
)
def test_steps_are_those_the_trainer_takes(
    tmp_path, model, tokenizer, examples, batch, accumulation, epochs
):
    from transformers import Trainer, TrainingArguments

    row = {"input_ids": [1, 2], "labels": [1, 2]}
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(tmp_path),
            per_device_train_batch_size=batch,
            gradient_accumulation_steps=accumulation,
            num_train_epochs=epochs,
            use_cpu=True,
        ),
        train_dataset=[row] * examples,
    )
    expected = trainer.set_initial_training_values(trainer.args, trainer.get_train_dataloader())
    found = plan(
        examples, batch_size=batch, gradient_accumulation_steps=accumulation, num_epochs=epochs
    )
    assert found == {"effective": batch * accumulation, "steps": expected[-1]}


def test_max_steps_and_devices():
    settings = {"batch_size": 2, "gradient_accumulation_steps": 4, "num_epochs": 1}
    assert plan(100, **settings, max_steps=7)["steps"] == 7
    assert plan(100, **settings, world_size=2) == {"effective": 16, "steps": 7}


# ---------------------------------------------------------------------------- memory


def test_parameters_are_counted_without_weights(model_folder, model):
    from peft import LoraConfig, get_peft_model

    estimate = memory(str(model_folder), tokens=100, labelled=30, dtype="float32")
    assert estimate["parameters"] == estimate["trained"] == model.num_parameters()
    modules = ["q_proj", "down_proj"]
    lora = memory(
        model.config, tokens=100, labelled=30, lora_r=4, lora_modules=modules, dtype="float32"
    )
    adapted = get_peft_model(
        make_model(make_tokenizer()), LoraConfig(r=4, target_modules=modules, task_type="CAUSAL_LM")
    )
    assert lora["trained"] == adapted.get_nb_trainable_parameters()[0]


def test_optimizer_states_are_as_large_as_said():
    import torch

    tokenizer = make_tokenizer()
    model = make_model(tokenizer, hidden_size=256, intermediate_size=1024)
    estimate = memory(model.config, tokens=1, labelled=1, optim="adamw_torch", dtype="float32")
    optimizer = torch.optim.AdamW(model.parameters())
    model(input_ids=torch.tensor([[1, 2]]), labels=torch.tensor([[1, 2]])).loss.backward()
    optimizer.step()
    held = sum(
        tensor.numel() * tensor.element_size()
        for state in optimizer.state.values()
        for tensor in state.values()
    )
    assert estimate["optimizer"] == pytest.approx(held / 2**30, rel=0.01, abs=1e-3)
    assert estimate["gradients"] == pytest.approx(held / 2**31, rel=0.01, abs=1e-3)


def test_activations_are_near_what_autograd_keeps():
    import torch

    tokenizer = make_tokenizer()
    model = make_model(tokenizer, hidden_size=256, intermediate_size=1024, num_hidden_layers=4)
    weights = {p.data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if tensor.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(5, 300, (1, 400))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model(input_ids=ids, logits_to_keep=1, use_cache=False)
    assert output.logits.requires_grad
    estimate = memory(model.config, tokens=400, labelled=0, dtype="float32")
    assert estimate["activations"] == pytest.approx(sum(kept.values()) / 2**30, rel=0.3, abs=1e-3)


def test_what_needs_less_memory_is_said_to_need_less():
    tokenizer = make_tokenizer()
    config = make_model(tokenizer, hidden_size=512, intermediate_size=2048).config
    config.num_hidden_layers = 24

    def held(part, **changes):
        options = {"tokens": 50_000, "labelled": 100, "dtype": "bfloat16", **changes}
        return memory(config, **options)[part]

    assert held("activations", gradient_checkpointing=True) < held("activations") / 5
    assert held("optimizer", optim="adamw_8bit") < held("optimizer", optim="paged_adamw_32bit") / 3
    assert held("weights", quantization="4bit") < held("weights", quantization="8bit")
    assert held("weights", quantization="8bit") < held("weights")
    # Accelerate keeps split weights in float32, twice the bytes of bfloat16.
    assert held("weights", shards=4) == pytest.approx(held("weights") * 2 / 4, abs=1e-3)
    assert held("logits", labelled=1000) > held("logits")
    assert held("total", lora_r=8, tokens=500) < held("total", tokens=500)
    with pytest.raises(InputError, match=r"optim.*'adm'"):
        held("total", optim="adm")


def test_a_config_that_needs_code_of_its_own_is_not_estimated(tmp_path):
    write_json(tmp_path / "config.json", {"model_type": "no-such-model"})
    assert memory(str(tmp_path), tokens=1, labelled=1) is None


# ----------------------------------------------------------------------------- leaks


def pair(question, answer, title=""):
    return {"id": question, "title": title, "question": question, "answer": answer}


def test_leaks_of_each_kind():
    train = [
        pair("오늘 점심 뭐 먹지?", "점메추 받는다며 김밥 먹자"),
        pair("그 영화 결말 어땠는지 말해 줘", "재미있었어"),
        pair("시험 끝나고 뭐 할 거야?", "일단 집에 가서 푹 자려고"),
        pair("커피 마실래?", "좋아"),
    ]
    leaks = find_leaks(
        train,
        terms=[{"title": "점메추", "forms": ["점메추"]}],
        questions=["그 영화 결말 어땠는지 말해 줘!"],
        held=[pair("시험 끝나고 뭐 할거야?", "일단 집에 가서 푹 자려고")],
    )
    assert [(leak["id"], leak["kind"]) for leak in leaks] == [
        (train[0]["id"], "held-out term"),
        (train[1]["id"], "evaluation question"),
        (train[2]["id"], "held-out row"),
    ]


def test_every_turn_of_a_conversation_is_looked_through():
    messages = [{**ASK, "content": "그 영화 결말 어땠는지 말해 줘"}, REPLY, AGAIN, REPLY]
    row = {**pair(AGAIN["content"], REPLY["content"]), "messages": messages}
    (leak,) = find_leaks([row], questions=["그 영화 결말 어땠는지 말해 줘"])
    assert leak["kind"] == "evaluation question"


def test_the_gate_stops_and_names_the_way_out():
    held = pair("오픈런 하자는데 갈까?", "줄 서다 하루 다 가겠다", "오픈런")
    clean = pair("커피 마실래?", "따뜻한 걸로 부탁해")
    assert leak_gate([clean], held=[held]) == []
    with pytest.raises(InputError, match=r"train\.jsonl: .*오픈런.*--allow_leaks"):
        leak_gate([clean, held], held=[held], path="train.jsonl")
    kinds = [leak["kind"] for leak in leak_gate([held], held=[held], allow=True)]
    assert kinds == ["held-out term", "held-out row"]


def test_the_gate_knows_the_items_that_its_caller_gives():
    items = [
        {"id": "q", "question": "그 영화 결말 어땠는지 말해 줘"},
        {"id": "u", "title": "점메추", "split": "unseen", "question": "점메추 뜻이 뭐야?"},
        {"id": "s", "title": "오픈런", "split": "seen"},
    ]
    asked = pair("그 영화 결말 어땠는지 말해 줘!", "재미있었어")
    unseen = pair("점심 뭐 먹지", "오늘의 점메추는 김밥")
    seen = pair("줄 길어?", "오픈런 아니면 못 먹어")
    assert leak_gate([asked, unseen, seen]) == []
    leaks = leak_gate([asked, unseen, seen], items, allow=True)
    assert [(leak["id"], leak["kind"]) for leak in leaks] == [
        (asked["id"], "evaluation question"),
        (unseen["id"], "held-out term"),
    ]
    forms = [{"title": "점메추", "forms": ["점심메뉴추천"]}]
    other = pair("뭐 먹지", "점심 메뉴 추천 받는다")
    assert leak_gate([other], items) == []
    with pytest.raises(InputError, match="held-out term"):
        leak_gate([other], items, terms=forms)


@pytest.mark.parametrize("task", ["understand", "usage"])
def test_the_training_scripts_keep_the_questions_of_their_tasks_out(monkeypatch, task):
    monkeypatch.syspath_prepend(str(ROOT / "src" / "train"))
    from evaluated import evaluation_items

    written = json.loads((ROOT / "src/eval" / f"{task}_questions.json").read_text("utf-8"))
    asked = written[0]["question"] if task == "understand" else written["questions"][0]
    preference = {
        "id": "p",
        "messages": [{**ASK, "content": asked}],
        "chosen": "응",
        "rejected": "아니",
    }
    items = evaluation_items(["understand", "usage"])
    assert sum(item.get("split") == "unseen" for item in items) == 60
    with pytest.raises(InputError, match="evaluation question"):
        leak_gate([preference], items)
    assert leak_gate([preference], evaluation_items([])) == []
    with pytest.raises(InputError, match="no task 'usege'"):
        evaluation_items(["usege"])


# --------------------------------------------------------------------------- licence


@pytest.mark.parametrize(
    ("name", "licence", "commercial"),
    [
        (
            "LGAI-EXAONE/EXAONE-3.5-7.8B-Instruct",
            "EXAONE AI Model License Agreement 1.1 - NC",
            False,
        ),
        ("LGAI-EXAONE/EXAONE-4.0-1.2B", "EXAONE AI Model License Agreement 1.2 - NC", False),
        ("kakaocorp/kanana-1.5-8b-instruct-2505", "Apache 2.0", True),
        ("Qwen/Qwen3-8B", "Apache 2.0", True),
        ("unsloth/Qwen2.5-32B-Instruct-bnb-4bit", "Apache 2.0", True),
        ("Qwen/Qwen2.5-3B-Instruct", "Qwen Research License", False),
        ("google/gemma-3-4b-it", "Gemma Terms of Use", None),
        ("embedded", "Gemma Terms of Use", None),
        ("beomi/Solar-Ko-Recovery-11B", "Apache 2.0", True),
        ("upstage/SOLAR-10.7B-Instruct-v1.0", "CC BY-NC 4.0", False),
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama 3.1 Community License", None),
        ("someone/something", None, None),
    ],
)
def test_known_licences(name, licence, commercial):
    found = licences.licence(name)
    assert (found["licence"], found["commercial"]) == (licence, commercial)


@pytest.mark.parametrize(
    ("files", "licence", "commercial"),
    [
        ({"README.md": "---\nlicense: apache-2.0\n---\n# x"}, "apache-2.0", True),
        (
            {"README.md": "---\nlicense: other\nlicense_name: exaone\nlanguage: ko\n---\n"},
            "exaone",
            False,
        ),
        ({"README.md": "---\nlicense: cc-by-nc-4.0\n---\n"}, "cc-by-nc-4.0", False),
        ({"LICENSE": "\n  My Model License - NC\n\nText"}, "My Model License - NC", False),
        (
            {"README.md": "---\nbase_model:\n- LGAI-EXAONE/EXAONE-3.5-2.4B\ntags: [a]\n---\n"},
            "EXAONE AI Model License Agreement 1.1 - NC",
            False,
        ),
        (
            {
                "adapter_config.json": '{"base_model_name_or_path": "Qwen/Qwen3-8B"}',
                "README.md": "x",
            },
            "Apache 2.0",
            True,
        ),
        ({"config.json": '{"_name_or_path": "google/gemma-3-1b-it"}'}, "Gemma Terms of Use", None),
        ({"config.json": "{}"}, None, None),
    ],
)
def test_the_licence_of_a_folder(tmp_path, files, licence, commercial):
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    found = licences.licence(str(tmp_path))
    assert (found["licence"], found["commercial"]) == (licence, commercial)


# ---------------------------------------------------------------------------- report


def test_the_report_says_it_all(model_folder, tokenizer):
    examples = encode(tokenizer, [[ASK, REPLY]])
    facts = check(tokenizer, examples, skipped=3)
    steps = plan(1, batch_size=1, gradient_accumulation_steps=64, num_epochs=3)
    estimate = memory(str(model_folder), tokens=50, labelled=9)
    terms = licences.licence("LGAI-EXAONE/EXAONE-3.5-2.4B-Instruct")
    lines = report(facts, steps, estimate, terms)
    text = "\n".join(lines)
    assert len(lines) == 5
    assert "3 too long" in text
    assert "<|im_end|>" in text
    assert "3 steps of 64" in text
    assert "NOT for commercial use" in text
    assert "hardly fit" not in text
    wide = report(facts, steps, {**estimate, "fits": False})
    assert any("hardly fit" in line for line in wide)
    unknown = report(facts, terms=licences.licence("a/b"))[-1]
    assert "unknown" in unknown
