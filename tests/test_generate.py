"""Answers depend on the item, not on its neighbours, its batch or an interruption."""

from __future__ import annotations

import dataclasses

import pytest

from malmat import chat, generate
from malmat.choice import choice_probabilities, choice_tokens
from malmat.generate import Sampling, answer_all, batches
from tests.conftest import PAIRS, make_model, make_tokenizer

SAMPLING = Sampling(max_new_tokens=12, seed=7)


def ask(question: str) -> list[dict]:
    return [{"role": "user", "content": question}]


@pytest.fixture(scope="module")
def requests():
    questions = [q for q, _ in PAIRS] + [f"{q} {q} 진짜로 {q}" for q, _ in PAIRS[:5]]
    return [{"key": f"k{i}", "id": f"id{i}", "messages": ask(q)} for i, q in enumerate(questions)]


def answers(model, tokenizer, requests, batch_size, known=(), sampling=SAMPLING):
    found = {}
    done = lambda key: key in known or key in found  # noqa: E731
    batches = answer_all(model, tokenizer, requests, sampling, batch_size=batch_size, done=done)
    for records in batches:
        found |= {record["key"]: record["text"] for record in records}
    return found


def test_answers_do_not_change_with_the_batch_size(model, tokenizer, requests):
    alone = answers(model, tokenizer, requests, 1)
    assert answers(model, tokenizer, requests, 4) == alone
    assert answers(model, tokenizer, requests, 64) == alone


def test_another_seed_gives_other_answers(model, tokenizer, requests):
    other = dataclasses.replace(SAMPLING, seed=8)
    assert answers(model, tokenizer, requests, 4) != answers(
        model, tokenizer, requests, 4, sampling=other
    )


def test_only_what_is_missing_is_returned_and_it_is_the_same(model, tokenizer, requests):
    whole = answers(model, tokenizer, requests, 4)
    known = {request["key"] for request in requests[:6]}
    rest = answers(model, tokenizer, requests, 4, known=known)
    assert rest == {key: text for key, text in whole.items() if key not in known}


def test_greedy_is_what_transformers_gives(model, tokenizer):
    import torch

    prompt = chat.encode_prompt(tokenizer, ask("커피 마실래?"))
    greedy = Sampling(max_new_tokens=10, temperature=0, repetition_penalty=1.15)
    ours = generate.generate(model, tokenizer, [prompt], ["a"], greedy)[0]["text"]
    # Terminators are spared from the penalty here; this prompt's reply does not reach one.
    theirs = model.generate(
        torch.tensor([prompt]), max_new_tokens=10, do_sample=False, repetition_penalty=1.15
    )[0, len(prompt) :]
    assert ours == tokenizer.decode(theirs, skip_special_tokens=True).strip()


class Forced:
    """Stands in for a model's ``generate``: runs the processors on given scores."""

    def __init__(self, model, favour):
        self.model, self.favour = model, favour

    def __call__(self, *args, **kwargs):
        output = self.model.original(*args, **kwargs)
        for rank, token in enumerate(self.favour):
            output.logits[..., token] = 50.0 - rank
        return output


def forced(tokenizer, *favour):
    model = make_model(tokenizer)
    model.original = model.forward
    model.forward = Forced(model, favour)
    return model


def test_statuses_of_replies(tokenizer):
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    word = tokenizer("갓생")["input_ids"][0]
    start = tokenizer.convert_tokens_to_ids("<|im_start|>")
    prompt = chat.encode_prompt(tokenizer, ask("뭐 해?"))
    plain = Sampling(max_new_tokens=5, temperature=0, repetition_penalty=1.0)

    def status(*favour):
        reply = generate.generate(forced(tokenizer, *favour), tokenizer, [prompt], ["a"], plain)[0]
        return reply["status"], reply["finish_reason"]

    assert status(stop) == ("empty", "stop")
    assert status(word) == ("truncated", "length")
    assert status(start) == ("leaked", "length")


def test_the_repetition_penalty_spares_the_terminator(tokenizer):
    # The prompt ends its user turn with the same terminator that has to end the answer.
    stop = tokenizer.convert_tokens_to_ids("<|im_end|>")
    word = tokenizer("갓생")["input_ids"][0]
    prompt = chat.encode_prompt(tokenizer, ask("뭐 해?"))
    assert stop in prompt
    penalized = Sampling(max_new_tokens=5, temperature=0, repetition_penalty=1.5)
    model = forced(tokenizer, stop, word)
    reply = generate.generate(model, tokenizer, [prompt], ["a"], penalized)[0]
    assert reply["finish_reason"] == "stop"


def test_batches_are_made_from_the_input_alone():
    lengths = [3, 9, 1, 9, 5]
    assert batches(lengths, 2) == [[1, 3], [4, 0], [2]]
    assert sorted(i for batch in batches(lengths, 3) for i in batch) == [0, 1, 2, 3, 4]


def test_choice_probabilities_are_those_of_one_at_a_time_full_logits(model, tokenizer):
    import torch

    conversations = [ask(q) for q, _ in PAIRS]
    choices = list("12345")
    tokens = choice_tokens(tokenizer, conversations[0], choices)
    ours = choice_probabilities(model, tokenizer, conversations, choices, batch_size=3)
    for conversation, row in zip(conversations, ours, strict=True):
        ids = torch.tensor([chat.encode_prompt(tokenizer, conversation)])
        with torch.no_grad():
            expected = model(ids).logits[0, -1, tokens].double().softmax(-1)
        assert row == pytest.approx(expected.tolist(), abs=1e-5)
        assert sum(row) == pytest.approx(1)


def test_choices_that_begin_alike_are_refused():
    tokenizer = make_tokenizer()
    with pytest.raises(ValueError, match="different tokens"):
        choice_tokens(tokenizer, ask("?"), ["가", "가"])
