"""Training and inference see the same prompt, and the model is taught to stop."""

from __future__ import annotations

import pytest

from malmat.lm import chat
from malmat.lm.chat import IGNORE
from malmat.train import checks as preflight
from tests.conftest import CHATML, make_tokenizer

ASK = {"role": "user", "content": "뭐 해?"}
REPLY = {"role": "assistant", "content": "갓생 사는 중"}


def test_training_example_is_the_inference_prompt_plus_answer_plus_end(tokenizer):
    example = chat.encode_example(tokenizer, [ASK, REPLY])
    prompt = chat.encode_prompt(tokenizer, [ASK])
    assert example["input_ids"][: len(prompt)] == prompt
    assert example["labels"][: len(prompt)] == [IGNORE] * len(prompt)
    target = example["labels"][len(prompt) :]
    assert target == example["input_ids"][len(prompt) :]
    assert tokenizer.decode(target) == "갓생 사는 중<|im_end|>"


def test_the_turn_terminator_has_a_live_label_and_stops_generation(tokenizer):
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert chat.end_of_turn(tokenizer) == [stop]
    assert chat.terminators(tokenizer) == sorted([stop, tokenizer.eos_token_id])


def test_a_terminator_that_is_also_the_pad_token_keeps_its_label():
    tokenizer = make_tokenizer()
    tokenizer.pad_token = "<|im_end|>"
    example = chat.encode_example(tokenizer, [ASK, REPLY])
    facts = preflight.check(tokenizer, [example])
    assert example["labels"][-1] == tokenizer.pad_token_id
    assert facts["pad_is_terminator"]


def test_one_bos_whether_the_template_writes_it_or_not():
    written = make_tokenizer("{{ bos_token }}" + CHATML, bos=True)
    assert chat.encode_prompt(written, [ASK]).count(written.bos_token_id) == 1
    left_out = make_tokenizer(CHATML, bos=True)
    left_out.add_bos_token = True
    ids = chat.encode_prompt(left_out, [ASK])
    assert ids[0] == left_out.bos_token_id
    assert ids.count(left_out.bos_token_id) == 1
    example = chat.encode_example(left_out, [ASK, REPLY])
    assert example["input_ids"][: len(ids)] == ids


def test_a_template_that_never_closes_the_turn_is_refused():
    tokenizer = make_tokenizer(CHATML.replace("<|im_end|>", " (끝)"))
    with pytest.raises(ValueError, match="never stop"):
        chat.encode_example(tokenizer, [ASK, REPLY])


def test_thinking_is_off_where_the_template_knows_it():
    template = CHATML.replace(
        "assistant\n' }}",
        "assistant\n' + ('<think>\n\n</think>\n\n' if enable_thinking is false else '') }}",
    )
    tokenizer = make_tokenizer(template)
    prompt = chat.render_prompt(tokenizer, [ASK])
    assert prompt.endswith("<think>\n\n</think>\n\n")
    example = chat.encode_example(tokenizer, [ASK, REPLY])
    assert tokenizer.decode(example["input_ids"]).startswith(prompt)


def test_no_chat_template_is_said(tokenizer):
    bare = make_tokenizer()
    bare.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        chat.render_prompt(bare, [ASK])


def test_gemma_template_puts_the_system_message_into_the_first_user_turn():
    tokenizer = make_tokenizer(chat.GEMMA_TEMPLATE, bos=True)
    text = chat.render_prompt(tokenizer, [{"role": "system", "content": "친구처럼"}, ASK])
    assert text == (
        "<s><start_of_turn>user\n친구처럼\n\n뭐 해?<end_of_turn>\n<start_of_turn>model\n"
    )


def test_an_answer_is_trained_without_the_white_space_around_it(tokenizer):
    padded = {**REPLY, "content": "\n 갓생 사는 중 "}
    assert chat.encode_example(tokenizer, [ASK, padded]) == chat.encode_example(
        tokenizer, [ASK, REPLY]
    )


def test_of_several_answers_the_last_one_is_trained(tokenizer):
    example = chat.encode_example(tokenizer, [ASK, REPLY, ASK, {**REPLY, "content": "아직도"}])
    live = [label for label in example["labels"] if label != IGNORE]
    assert tokenizer.decode(live) == "아직도<|im_end|>"


def test_preflight_is_the_check_of_the_module_of_that_name(tokenizer):
    examples = [chat.encode_example(tokenizer, [ASK, REPLY])]
    facts = preflight.check(tokenizer, examples)
    assert facts == preflight.check(tokenizer, examples)
    assert facts["terminator"] == "<|im_end|>"
