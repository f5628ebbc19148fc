"""Training and inference see the same prompt, and the model is taught to stop."""

from __future__ import annotations

import pytest

from malmat.lm import chat, templates
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
    tokenizer = make_tokenizer(templates.GEMMA_TEMPLATE, bos=True)
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


# ------------------------------------------------------------- every answer of a conversation

DROPS_THOUGHTS = (  # as Qwen3: an empty thought opens an answer in the making, and earlier ones not
    CHATML.replace(
        "assistant\n' }}",
        "assistant\n' + ('<think>\n\n</think>\n\n' if enable_thinking is false else '') }}",
    )
)
ENDS_AT_THE_END = CHATML.replace(  # nothing after an answer but the last
    "'<|im_end|>\n'", "('<|im_end|>' if message.role != 'assistant' or loop.last else '') + '\n'"
)
FORGETS = (  # writes the last question and what follows it
    "{%- set ns = namespace(at=0) -%}{%- for message in messages -%}"
    "{%- if message.role == 'user' -%}{%- set ns.at = loop.index0 -%}{%- endif -%}{%- endfor -%}"
    + CHATML.replace("in messages", "in messages[ns.at :]")
)
TALK = [ASK, REPLY, {**ASK, "content": "왜?"}, {**REPLY, "content": "시험 끝나서"}]
TALK += [{**ASK, "content": "부럽다"}, {**REPLY, "content": "너도 곧이야"}]


def trained(tokenizer, talk, max_length=1000):
    """Of each example, what is generated at each of its labelled turns: (prompt, answer)."""
    from malmat.train.examples import Examples
    from malmat.train.labels import spans

    row = {"id": "1", "title": "", "question": "", "answer": talk[-1]["content"], "messages": talk}
    examples = Examples([row], tokenizer, max_length)
    preflight.check(tokenizer, examples.texts(), examples.conversations)
    return [
        [
            (example["input_ids"][:start], tokenizer.decode(example["labels"][start:end]))
            for start, end in spans(example["labels"])
        ]
        for example in examples.encoded
    ]


@pytest.mark.parametrize(
    ("template", "examples"),
    [(CHATML, 1), (DROPS_THOUGHTS, 3), (ENDS_AT_THE_END, 3), (FORGETS, 3)],
)
def test_every_answer_is_trained_once_at_the_prompt_that_inference_sees(template, examples):
    tokenizer = make_tokenizer(template)
    found = trained(tokenizer, TALK)
    assert len(found) == examples
    turns = sorted((turn for example in found for turn in example), key=lambda turn: turn[1])
    wanted = [
        (chat.encode_prompt(tokenizer, TALK[:n]), TALK[n]["content"] + "<|im_end|>")
        for n in (1, 3, 5)
    ]
    assert turns == sorted(wanted, key=lambda turn: turn[1])


def test_a_template_that_shows_an_answer_another_past_than_it_was_generated_from_is_refused():
    tokenizer = make_tokenizer(CHATML.replace("in messages", "in messages[-2:]"))
    with pytest.raises(ValueError, match="differently at training and at inference"):
        trained(tokenizer, TALK)


@pytest.mark.parametrize("template", [CHATML, DROPS_THOUGHTS])
def test_an_answer_of_weight_0_stays_in_the_prompt_and_is_not_trained(template):
    tokenizer = make_tokenizer(template)
    talk = [dict(message) for message in TALK]
    talk[3]["weight"] = 0
    answers = [answer for example in trained(tokenizer, talk) for _, answer in example]
    assert sorted(answers) == ["갓생 사는 중<|im_end|>", "너도 곧이야<|im_end|>"]
    (whole, *_) = trained(tokenizer, talk)
    assert "시험 끝나서" in tokenizer.decode(whole[-1][0])


def test_a_greeting_or_a_second_answer_in_a_row_is_no_turn_of_its_own(tokenizer):
    talk = [{**REPLY, "content": "안녕!"}, *TALK[:2], {**REPLY, "content": "진짜로"}, *TALK[2:4]]
    (example,) = trained(tokenizer, talk)
    assert [answer for _, answer in example] == [
        "갓생 사는 중<|im_end|>",
        "시험 끝나서<|im_end|>",
    ]


def test_a_conversation_beyond_the_limit_is_trained_up_to_the_last_answer_that_fits(tokenizer):
    from malmat.train.examples import Examples

    limit = len(chat.encode_example(tokenizer, TALK[:4])["input_ids"])
    (example,) = trained(tokenizer, TALK, limit)
    assert [answer for _, answer in example][-1] == "시험 끝나서<|im_end|>"
    row = {"id": "1", "question": "", "answer": "", "messages": TALK}
    found = Examples([row], tokenizer, limit)
    assert (found.skipped, found.shortened) == (0, 1)


def test_a_single_turn_has_the_token_rows_it_always_had(tokenizer):
    from malmat.train.examples import Examples

    row = {"id": "1", "title": "", "question": ASK["content"], "answer": REPLY["content"]}
    (example,) = Examples([row], tokenizer, 1000).encoded
    assert example == chat.encode_example(tokenizer, [ASK, REPLY])


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda ids, labels, a, b: labels.__setitem__(a, IGNORE), "not the one of inference"),
        (lambda ids, labels, a, b: labels.__setitem__(b - 1, IGNORE), "tokens of the answer"),
        (lambda ids, labels, a, b: labels.__setitem__(b, ids[b]), "tokens of the answer"),
        (
            lambda ids, labels, a, b: labels.__setitem__(slice(a, b), [IGNORE] * (b - a)),
            "1 of 2 answers|2 of 3 answers",
        ),
        (lambda ids, labels, a, b: ids.__setitem__(a - 3, ids[a]), "not the one of inference"),
    ],
)
def test_labels_are_proved_turn_by_turn(tokenizer, spoil, said):
    from malmat.train.labels import spans

    [(example, _)] = chat.encode_conversation(tokenizer, TALK, [1, 3, 5], 1000)
    preflight.check(tokenizer, [example], [TALK])
    start, end = spans(example["labels"])[1]
    spoil(example["input_ids"], example["labels"], start, end)
    with pytest.raises(ValueError, match=said):
        preflight.check(tokenizer, [example], [TALK])
