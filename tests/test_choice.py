"""Choices by logits equal one row at a time with full logits, however rows are batched."""

from __future__ import annotations

import math

import pytest

from malmat.answer.choices import ChoiceEngine
from malmat.answer.request import Request, request_key
from malmat.journal import Journal, key_of
from malmat.lm import branches, chat, choice, templates
from malmat.lm.choice import (
    NEUTRAL,
    NORMALIZATIONS,
    Encoder,
    choice_probabilities,
    compared,
    score_choices,
)
from tests.conftest import CHATML, PAIRS, make_tokenizer
from tests.test_generate import MODELS, ask

DIALOGUES = [" ".join(q for q, _ in PAIRS[start : start + 5]) * 2 for start in range(3)]


def rows(kind):
    """Rows of three dialogues and two of their own, with two to five choices."""
    texts = [f"{dialogue} {q}" for dialogue in DIALOGUES for q, _ in PAIRS[:3]]
    texts += ["뭐 해?", "주말에 뭐 해? 그 집 줄 길어?", texts[0]]
    labels = ["A", "B", "C", "D", "E"]
    answers = [a for _, a in PAIRS]
    found = []
    for n, text in enumerate(texts):
        choices = labels if kind == "label" else answers[n % 3 :]
        found.append((ask(text), tuple(choices[: 2 + n % 4])))
    return found


def scored(model, tokenizer, asked, kind, batch_size, **options):
    encode = Encoder(tokenizer, kind, unconditional=True)
    questions = [encode(messages, choices) for messages, choices in asked]
    result = {}
    for batch, scores, _ in score_choices(
        model, tokenizer, questions, batch_size=batch_size, **options
    ):
        result |= dict(zip(batch, scores, strict=True))
    return [result[index] for index in range(len(asked))]


def alone(model, prompt, target):
    """Log-probabilities of the target's tokens, from all logits of one row."""
    import torch

    with torch.no_grad():
        logs = model(torch.tensor([prompt + target])).logits[0].double().log_softmax(-1)
    return [float(logs[len(prompt) + n - 1, token]) for n, token in enumerate(target)]


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("kind", MODELS)
def test_labels_are_those_of_full_logits(tokenizer, kind, batch_size):
    import torch

    model, asked = MODELS[kind](tokenizer), rows("label")
    for (messages, labels), got in zip(
        asked, scored(model, tokenizer, asked, "label", batch_size), strict=True
    ):
        prompt, targets = chat.encode_answers(tokenizer, messages, list(labels))
        with torch.no_grad():
            logs = model(torch.tensor([prompt])).logits[0, -1].double().log_softmax(-1)
        values = logs[[target[0] for target in targets]]
        expected = values.log_softmax(-1)
        assert got["log_probabilities"] == pytest.approx(expected.tolist(), abs=1e-4)
        assert got["probabilities"] == pytest.approx(expected.exp().tolist(), abs=1e-5)
        assert got["mass"] == pytest.approx(float(values.exp().sum()), rel=1e-4)
        best = expected.exp().sort(descending=True).values
        assert got["margin"] == pytest.approx(float(best[0] - best[1]), abs=1e-5)
        entropy = -float((expected.exp() * expected).sum())
        assert got["entropy"] == pytest.approx(entropy, abs=1e-5)
        assert got["scored"] == "token"


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("kind", MODELS)
def test_texts_are_those_of_full_logits(tokenizer, kind, batch_size, monkeypatch):
    monkeypatch.setattr(branches, "LOGITS_AT_ONCE", 60 * len(tokenizer))
    model, asked = MODELS[kind](tokenizer), rows("text")
    for (messages, choices), got in zip(
        asked, scored(model, tokenizer, asked, "text", batch_size), strict=True
    ):
        for text, one in zip(choices, got["likelihoods"], strict=True):
            prompt, [target] = chat.encode_answers(tokenizer, messages, [text])
            *values, end = alone(model, prompt, target + chat.end_of_turn(tokenizer))
            total = sum(values)
            neutral = sum(
                alone(
                    model,
                    *[
                        part if n == 0 else part[0]
                        for n, part in enumerate(chat.encode_answers(tokenizer, NEUTRAL, [text]))
                    ],
                )
            )
            assert one["sum"] == pytest.approx(total, abs=1e-3)
            assert one["end"] == pytest.approx(end, abs=1e-3)
            assert one["unconditional"] == pytest.approx(total - neutral, abs=2e-3)
            assert one["tokens"] == len(target)
            assert one["per_token"] == pytest.approx(total / len(target), abs=1e-3)
            assert one["per_char"] == pytest.approx(total / len(text), abs=1e-3)
            assert one["per_byte"] == pytest.approx(total / len(text.encode()), abs=1e-3)
        assert sum(got["probabilities"]) == pytest.approx(1)


def test_a_shared_dialogue_is_read_once(model, tokenizer, monkeypatch):
    read, extend = [], branches.extend

    def counted(model, parts, tokens, pad, places):
        read.append(sum(map(len, tokens)))
        return extend(model, parts, tokens, pad, places)

    monkeypatch.setattr(branches, "extend", counted)
    asked = [(ask(f"{DIALOGUES[0]} {q}"), ("A", "B")) for q, _ in PAIRS[:4]]
    lengths = [len(chat.encode_prompt(tokenizer, messages)) for messages, _ in asked]
    scored(model, tokenizer, asked, "label", 8)
    assert sum(read) < sum(lengths) * 0.55


def test_what_is_done_is_passed_over_and_the_rest_is_the_same(model, tokenizer):
    asked = rows("text")
    whole = scored(model, tokenizer, asked, "text", 4)
    encode = Encoder(tokenizer, "text", unconditional=True)
    questions = [encode(*row) for row in asked]
    batches = list(
        score_choices(model, tokenizer, questions, batch_size=4, done=lambda index: index != 5)
    )
    [(batch, scores, _)] = batches
    assert len(batch) <= 4
    assert dict(zip(batch, scores, strict=True))[5] == whole[5]


def test_choice_probabilities_are_those_of_one_at_a_time_full_logits(model, tokenizer):
    import torch

    conversations = [ask(q) for q, _ in PAIRS]
    tokens = [target[0] for target in chat.encode_answers(tokenizer, ask("?"), list("12345"))[1]]
    ours = choice_probabilities(model, tokenizer, conversations, list("12345"), batch_size=3)
    for conversation, row in zip(conversations, ours, strict=True):
        ids = torch.tensor([chat.encode_prompt(tokenizer, conversation)])
        with torch.no_grad():
            expected = model(ids).logits[0, -1, tokens].double().softmax(-1)
        assert row == pytest.approx(expected.tolist(), abs=1e-5)
        assert sum(row) == pytest.approx(1)
    assert choice_probabilities(model, tokenizer, [], list("12345")) == []


@pytest.mark.parametrize("choices", [("가", "가"), ("가", "가 "), ("가", ""), ("가",), ()])
def test_choices_that_are_none_are_refused(tokenizer, choices):
    with pytest.raises(ValueError, match="different texts"):
        Encoder(tokenizer, "label")(ask("?"), choices)


def test_labels_that_begin_alike_are_scored_whole(model, tokenizer):
    """A tokenizer that cuts each label into the same first token and another (lighteval#159), and
    a label that begins another: then the end of turn tells them apart."""
    for labels, how in ((("보기 A", "보기 B"), "sequence"), (("1", "10", "2"), "sequence+end")):
        [got] = scored(model, tokenizer, [(ask("?"), labels)], "label", 4)
        assert got["scored"] == how
        prompt, targets = chat.encode_answers(tokenizer, ask("?"), list(labels))
        end = chat.end_of_turn(tokenizer) if how == "sequence+end" else []
        sums = [sum(alone(model, prompt, target + end)) for target in targets]
        assert got["mass"] == pytest.approx(sum(map(math.exp, sums)), rel=1e-3)
        expected = [math.exp(s) / sum(map(math.exp, sums)) for s in sums]
        assert got["probabilities"] == pytest.approx(expected, abs=1e-4)


def test_the_token_is_the_one_a_trained_answer_begins_with():
    """Alone it is "▁A", behind a line break "A" (CMMLU#11, lm-evaluation-harness#614)."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<|im_start|>", "<|im_end|>", "▁A", "▁B", "A", "B", "\n", "▁", "▁user"]
    core = Tokenizer(
        models.BPE({w: n for n, w in enumerate([*words, *"userait:"])}, [("▁", "A"), ("▁", "B")])
    )
    core.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", eos_token="<|im_end|>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>"]})
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in ("A", "B", "▁A", "▁B")}
    assert tokenizer("A")["input_ids"][-1] == ids["▁A"]
    for template, expected in (
        (CHATML, ("A", "B")),
        (CHATML.replace("assistant\n'", "a: '"), ("▁A", "▁B")),  # the prompt's last token is ▁
    ):
        tokenizer.chat_template = template
        question = Encoder(tokenizer, "label")(ask("user"), ("A", "B"))
        example = chat.encode_example(
            tokenizer, [*ask("user"), {"role": "assistant", "content": "A"}]
        )
        assert question.prompt.branches[0].wanted[0] == [ids[word] for word in expected]
        assert example["input_ids"][len(question.prompt.ids)] == ids[expected[0]]


def test_labels_are_cut_anew_where_the_prompts_end_may_change_them():
    tokenizer = make_tokenizer("{{ messages[0].content }}")
    encode = Encoder(tokenizer, "label")
    for text in ("오늘", "오", "답은 ", "점"):
        for label in ("늘", "먹"):
            question = encode([{"role": "user", "content": text}], (label, "A"))
            prompt, targets = chat.encode_answers(tokenizer, ask(text), [label, "A"])
            assert question.prompt.ids == prompt
            assert question.prompt.branches[0].wanted == [[target[0] for target in targets]]


def test_a_base_model_without_template_or_end_of_turn(model):
    tokenizer = make_tokenizer()
    tokenizer.chat_template = None
    assert templates.give_template(tokenizer, plain=True) == "plain"
    prompt = chat.encode_prompt(tokenizer, ask("뭐 해?"))
    assert tokenizer.decode(prompt) == "뭐 해?\n"
    tokenizer.eos_token = None
    [got] = scored(model, tokenizer, [(ask("뭐 해?"), ("갓생", "현타 와"))], "text", 4)
    assert [row["end"] for row in got["likelihoods"]] == [None, None]
    assert sum(got["probabilities"]) == pytest.approx(1)


def test_normalizations_may_disagree_and_all_are_named():
    """lm-evaluation-harness#3278: "KTX" (−4.0) and "기차" (−4.4)."""
    sizes = {"KTX": (-4.0, 3, 3), "기차": (-4.4, 2, 6)}
    likelihoods = [
        {
            "sum": total,
            "per_token": total,
            "per_char": total / chars,
            "per_byte": total / octets,
            "unconditional": total,
        }
        for total, chars, octets in sizes.values()
    ]
    picks = compared(likelihoods, "per_char")["picks"]
    assert set(picks) == set(NORMALIZATIONS)
    assert (picks["per_char"], picks["per_byte"]) == (0, 1)


def test_logits_are_picked_in_front_of_the_cap(tokenizer):
    """Gemma 2 caps its logits behind the head."""
    model = MODELS["short window"](tokenizer)
    model.config.final_logit_softcapping = 0.05
    asked = rows("label")
    capped = scored(model, tokenizer, asked, "label", 64)
    for (messages, labels), got in zip(asked, capped, strict=True):
        prompt, targets = chat.encode_answers(tokenizer, messages, list(labels))
        logs = [alone(model, prompt, target[:1])[0] for target in targets]
        assert got["mass"] == pytest.approx(sum(map(math.exp, logs)), rel=1e-4)


def requests_of(kind):
    return [
        Request(f"r{n}", messages, choices=choices)
        for n, (messages, choices) in enumerate(rows(kind))
    ]


def through(engine, requests, path, **options):
    with Journal(path) as journal, engine.answers(requests, journal, **options) as records:
        return list(records)


@pytest.mark.parametrize("score", ["label", "text"])
def test_the_engine_gives_a_record_a_request_in_order(model_folder, tmp_path, score):
    requests = requests_of(score)
    engine = ChoiceEngine(str(model_folder), score=score, batch_size=4)
    records = through(engine, requests, tmp_path / "j")
    assert [record["id"] for record in records] == [request.id for request in requests]
    for record, request in zip(records, requests, strict=True):
        assert record["status"] == "ok"
        assert record["finish_reason"] == "stop"
        assert record["text"] in request.choices
        best = max(record["probabilities"])
        assert record["text"] == request.choices[record["probabilities"].index(best)]
        assert record["usage"]["input"] > 0
        if score == "text":
            assert len(record["likelihoods"]) == len(request.choices)
            assert record["picks"]["per_byte"] == record["text"]
        else:
            assert 0 < record["mass"] <= 1
            assert {"margin", "entropy", "log_probabilities", "scored"} <= record.keys()


def test_a_resumed_run_gives_the_same_figures(model_folder, tmp_path):
    requests = requests_of("text")
    engine = ChoiceEngine(str(model_folder), score="text", batch_size=4)
    whole = through(engine, requests, tmp_path / "whole")
    lines = (tmp_path / "whole").read_text().splitlines(keepends=True)
    (tmp_path / "part").write_text("".join(lines[:3]) + "".join(lines[6:9]))
    resumed = ChoiceEngine(str(model_folder), score="text")  # its batch size is the journal's
    assert through(resumed, requests, tmp_path / "part") == whole
    assert len((tmp_path / "part").read_text().splitlines()) == len(lines)


def test_another_normalization_picks_from_the_same_journal(model_folder, tmp_path, monkeypatch):
    requests = requests_of("text")
    first = through(ChoiceEngine(str(model_folder), score="text"), requests, tmp_path / "j")
    monkeypatch.setattr("malmat.lm.load.load_model", None)  # nothing is computed
    engine = ChoiceEngine(str(model_folder), score="text", normalization="sum")
    second = through(engine, requests, tmp_path / "j")
    assert [record["text"] for record in second] == [record["picks"]["sum"] for record in first]


def test_a_row_that_cannot_be_scored_stops_no_other(model_folder, tmp_path):
    good = requests_of("label")[:2]
    bad = [
        Request("long", ask("길다 " * 2000), choices=("A", "B")),
        Request("twice", ask("?"), choices=("A", "A")),
        Request("free", ask("?")),
    ]
    refuse = Request("refused", ask("다른 것?"), choices=("A", "B"))

    def accept(request, text):
        if request is refuse:
            raise ValueError("not this one")

    engine = ChoiceEngine(str(model_folder), batch_size=2)
    records = through(engine, [bad[0], *good, *bad[1:], refuse], tmp_path / "j", accept=accept)
    by_id = {record["id"]: record for record in records}
    assert [by_id[r.id]["status"] for r in good] == ["ok", "ok"]
    for request in bad:
        assert by_id[request.id]["status"] == "out_of_range"
        assert by_id[request.id]["text"] == ""
    assert "context of 512" in by_id["long"]["error"]
    assert "different texts" in by_id["twice"]["error"]
    assert by_id["refused"]["status"] == "parse_error"


def test_figures_that_are_not_finite_are_no_answer(model_folder, tmp_path, monkeypatch):
    from malmat.lm import load

    def broken(*args, **options):
        model = load_model(*args, **options)
        model.get_output_embeddings().weight.data[5] = math.nan
        return model

    load_model = load.load_model
    monkeypatch.setattr(load, "load_model", broken)
    [record] = through(ChoiceEngine(str(model_folder)), requests_of("label")[:1], tmp_path / "j")
    assert (record["status"], record["text"]) == ("out_of_range", "")
    assert "not finite" in record["error"]


def test_the_key_of_a_request_without_choices_is_as_before():
    plain = Request("a", ask("?"))
    assert request_key({}, plain) == key_of(
        messages=plain.messages, sampling={}, schema=None, sample=0
    )
    assert request_key({}, Request("a", ask("?"), choices=("A", "B"))) != request_key({}, plain)


def test_a_batch_that_does_not_fit_is_halved(model, tokenizer, monkeypatch):
    asked = rows("label")
    whole = scored(model, tokenizer, asked, "label", 3)
    real = choice.branch_log_probabilities

    def little_memory(model, prompts, pad, *, rows):
        if len(prompts) > 3:
            raise MemoryError
        return real(model, prompts, pad, rows=rows)

    monkeypatch.setattr(choice, "branch_log_probabilities", little_memory)
    halved = scored(model, tokenizer, asked, "label", 12)
    for one, other in zip(whole, halved, strict=True):
        assert one["probabilities"] == pytest.approx(other["probabilities"], abs=1e-5)
