"""Answers depend on the item, not on its neighbours, its batch or an interruption."""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import subprocess
import sys

import pytest

from malmat.answer.local import LocalEngine
from malmat.answer.request import Request, answers_by_id
from malmat.journal import Journal
from malmat.lm import batching, chat, generate
from malmat.lm.batching import by_length
from malmat.lm.generate import Sampling, answer_all
from malmat.lm.sampling import choose, item_seed
from tests.conftest import PAIRS, ROOT, make_model

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


def locally(folder, path, texts, batch_size, sampling=SAMPLING):
    """Texts as requests with an id each, through a journal: id → answer."""
    requests = [Request(f"r{n}", ask(text)) for n, text in enumerate(texts)]
    with Journal(path) as journal:
        records = answers_by_id(LocalEngine(str(folder), sampling, batch_size), requests, journal)
    return {name: record["text"] for name, record in records.items()}


def test_equal_questions_have_an_answer_each_at_every_batch_size(model_folder, tmp_path):
    texts = ["뭐 해?", "오늘 점심 뭐 먹지?", "뭐 해?"]
    alone = locally(model_folder, tmp_path / "1", texts, 1)
    assert alone["r0#0"] != alone["r2#0"]  # each draws from its own seed
    assert locally(model_folder, tmp_path / "3", texts, 3) == alone


def test_equal_prompts_are_computed_once_without_draws(model_folder, tmp_path, monkeypatch):
    texts = ["뭐 해?", "오늘 점심 뭐 먹지?", "뭐 해?"]
    greedy = dataclasses.replace(SAMPLING, temperature=0)
    computed, computing = [], generate.answer_all

    def counted(model, tokenizer, items, *rest, **options):
        computed.append(len(items))
        return computing(model, tokenizer, items, *rest, **options)

    monkeypatch.setattr(generate, "answer_all", counted)
    whole = locally(model_folder, tmp_path / "whole", texts, 1, greedy)
    assert computed == [2]
    assert whole["r0#0"] == whole["r2#0"] != whole["r1#0"]

    first, *_ = (tmp_path / "whole").read_text().splitlines(keepends=True)
    (tmp_path / "cut").write_text(first)
    assert locally(model_folder, tmp_path / "cut", texts, 1, greedy) == whole
    assert len((tmp_path / "cut").read_text().splitlines()) == len(texts)


def test_a_short_first_run_does_not_cap_the_batches_of_the_next(model_folder, tmp_path):
    texts, path = [q for q, _ in PAIRS], tmp_path / "j"
    locally(model_folder, path, texts[:2], None)
    locally(model_folder, path, texts, None)
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(records) == len(texts)
    assert {record["batch_size"] for record in records} == {64}


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


def test_tokens_are_drawn_as_often_as_they_are_probable():
    """10 000 items over one distribution; top_p and min_p cut, the rest keeps its proportions."""
    import torch

    probabilities = torch.tensor([0.4, 0.25, 0.15, 0.1, 0.06, 0.04])
    logits = probabilities.log().repeat(10_000, 1)
    seeds = torch.tensor([item_seed(1, str(item)) for item in range(10_000)])
    none = torch.zeros((10_000, 1), dtype=torch.long)

    def shares(step, **settings):
        settings = {"temperature": 1.0, "top_p": 1.0, "top_k": 6, "repetition_penalty": 1.0} | (
            settings
        )
        drawn = choose(logits.clone(), none, seeds, step, Sampling(**settings), [])
        return (torch.bincount(drawn, minlength=6) / 10_000).tolist()

    # Three standard errors of a share are at most 0.015.
    for step in (0, 1, 200):
        assert shares(step) == pytest.approx(probabilities.tolist(), abs=0.015)
    assert shares(0, top_p=0.6) == pytest.approx([0.4 / 0.65, 0.25 / 0.65, 0, 0, 0, 0], abs=0.015)
    assert shares(0, min_p=0.3) == pytest.approx([0.5, 0.3125, 0.1875, 0, 0, 0], abs=0.015)
    assert shares(0, top_k=1) == [1, 0, 0, 0, 0, 0]
    sharp = probabilities**2 / (probabilities**2).sum()
    assert shares(3, temperature=0.5) == pytest.approx(sharp.tolist(), abs=0.015)
    # Positions and items draw independently: two steps agree as often as chance has it.
    plain = Sampling(temperature=1.0, top_p=1.0, top_k=6, repetition_penalty=1.0)
    first, second = (choose(logits.clone(), none, seeds, step, plain, []) for step in (0, 1))
    by_chance = float((probabilities**2).sum())
    assert float((first == second).double().mean()) == pytest.approx(by_chance, abs=0.015)


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
    assert by_length([3, 9, 1, 9, 5]) == [1, 3, 4, 0, 2]


def logits_in(model, tokenizer, prompts):
    """First and second logits of rows read as one batch, through cache and shared beginning."""
    import torch

    pad = tokenizer.pad_token_id
    with torch.inference_mode():
        first, cache, _, mask = generate.read_prompts(model, prompts, pad)
        token = torch.full((len(prompts), 1), tokenizer("갓생")["input_ids"][0])
        second = generate.last_logits(
            model, token, torch.nn.functional.pad(mask, (0, 1), value=1), cache
        )
    return torch.stack([first, second])


@pytest.mark.parametrize("kind", ["llama", "sliding", "short window", "recurrent"])
def test_a_row_in_a_batch_has_the_logits_it_has_alone(tokenizer, kind):
    """More rows than are read at a time, of many lengths, with one beginning; every cache kind."""
    import torch

    model = MODELS[kind](tokenizer)
    questions = [q * (1 + i % 5) for i, (q, _) in enumerate(PAIRS * 3)]
    prompts = [chat.encode_prompt(tokenizer, ask(q)) for q in questions]
    together = logits_in(model, tokenizer, prompts)
    for row, prompt in enumerate(prompts):
        token = tokenizer("갓생")["input_ids"][0]
        with torch.inference_mode():
            alone = model(torch.tensor([[*prompt, token]])).logits[0, -2:]
        torch.testing.assert_close(together[:, row], alone, atol=2e-5, rtol=1e-4)


def gemma(tokenizer, window):
    import torch
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    torch.manual_seed(0)
    config = Gemma3TextConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=16,
        sliding_window=window,
        layer_types=["sliding_attention", "full_attention", "sliding_attention"],
    )
    return Gemma3ForCausalLM(config).eval()


def recurrent(tokenizer):
    import torch
    from transformers import Lfm2Config, Lfm2ForCausalLM

    torch.manual_seed(0)
    config = Lfm2Config(
        vocab_size=len(tokenizer),
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        layer_types=["conv", "full_attention"],
    )
    return Lfm2ForCausalLM(config).eval()


MODELS = {
    "llama": make_model,
    "sliding": lambda tokenizer: gemma(tokenizer, 512),
    "short window": lambda tokenizer: gemma(tokenizer, 12),
    "recurrent": recurrent,
}


@pytest.mark.parametrize("kind", MODELS)
def test_rows_that_end_early_leave_and_change_no_other(tokenizer, kind):
    """One word in ten ends the answer: rows leave all along, some write to the limit."""
    import torch

    model = MODELS[kind](tokenizer)
    stop = chat.terminators(tokenizer)[0]
    with torch.no_grad():  # the terminator becomes likely
        model.get_output_embeddings().weight[stop] = (
            model.get_output_embeddings().weight[5:25].sum(0)
        )
    questions = [q * (1 + i % 3) for i, (q, _) in enumerate(PAIRS * 3)]
    requests = [{"key": f"k{i}", "id": f"{i}", "messages": ask(q)} for i, q in enumerate(questions)]
    sampling = Sampling(max_new_tokens=40, temperature=1.0)

    def run(batch_size):
        found = answer_all(
            model, tokenizer, requests, sampling, batch_size=batch_size, done=lambda key: False
        )
        return {r["key"]: (r["text"], r["output_tokens"]) for records in found for r in records}

    alone, together = run(1), run(24)
    assert together == alone
    lengths = [tokens for _, tokens in alone.values()]
    assert min(lengths) < 20
    assert max(lengths) > min(lengths) + 4


LITTLE_MEMORY = """
import json, resource, sys, torch
from malmat.lm.generate import Sampling, answer_all
from tests.conftest import make_model, make_tokenizer

torch.set_num_threads(1)
tokenizer = make_tokenizer()
model = make_model(tokenizer, vocab_size=200_000, hidden_size=16, num_hidden_layers=1)
requests = [
    {"key": str(i), "id": str(i), "messages": [{"role": "user", "content": "뭐 해? " * (i % 4)}]}
    for i in range(64)
]
def run(batch_size):
    return [
        record
        for records in answer_all(
            model, tokenizer, requests, Sampling(max_new_tokens=4), batch_size=batch_size,
            done=lambda key: False,
        )
        for record in records
    ]
run(2)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[1]) * 2**20, -1))
rows = sorted(run(64), key=lambda row: int(row["key"]))
print(json.dumps([[row["text"], row["batch_size"]] for row in rows]))
"""


@pytest.mark.slow
def test_a_batch_that_does_not_fit_into_memory_is_made_smaller():
    """The limit is real: the process may map so many more megabytes, and no more."""
    replies = {}
    for megabytes in (4000, 60):
        result = subprocess.run(
            [sys.executable, "-c", LITTLE_MEMORY, str(megabytes)],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        replies[megabytes] = json.loads(result.stdout.splitlines()[-1])
        assert ("out of memory at 64" in result.stdout) == (megabytes == 60)
    assert [text for text, _ in replies[60]] == [text for text, _ in replies[4000]]
    assert {size for _, size in replies[4000]} == {64}
    assert max(size for _, size in replies[60]) < 64


def test_the_batch_size_follows_the_free_memory(model, tokenizer, monkeypatch):
    assert batching.fitting_batch(model, 50) == 64  # a tiny model: as many as make sense
    sizes = []
    for free in (10**5, 10**6, 10**7):
        monkeypatch.setattr(batching, "free_memory", lambda device, free=free: free)
        sizes.append(batching.fitting_batch(model, 200))
    assert sizes[0] == 1
    assert sizes == sorted(sizes)
    assert batching.fitting_batch(model, 400) < sizes[-1] or sizes[-1] == 64


def answered_as(tokenizer, *pieces, until="line"):
    """The reply of a model that writes the given pieces, then a word again and again."""
    model = make_model(tokenizer)
    ids = [token for piece in pieces for token in tokenizer(piece)["input_ids"]]
    word = tokenizer("갓생")["input_ids"][0]
    written = iter([*ids, *[word] * 40])
    original = model.forward

    def forward(*args, **kwargs):
        output = original(*args, **kwargs)
        output.logits[..., next(written)] = 1000.0
        return output

    model.forward = forward
    sampling = Sampling(max_new_tokens=24, temperature=0, until=until)
    prompt = chat.encode_prompt(tokenizer, ask("뭐 해?"))
    return generate.generate(model, tokenizer, [prompt], ["a"], sampling)[0]


def test_an_answer_may_end_with_its_first_line(tokenizer):
    got = answered_as(tokenizer, "갓생 사는 중", "\n", "현타")
    assert (got["text"], got["status"], got["finish_reason"]) == ("갓생 사는 중", "ok", "stop")
    assert got["output_tokens"] == len(tokenizer("갓생 사는 중\n")["input_ids"])
    # A leading line break is no end, nor is one behind blanks alone.
    got = answered_as(tokenizer, "\n", " \n", "갓생", "\n\n", "현타")
    assert (got["text"], got["status"]) == ("갓생", "ok")
    # What another turn would be stands behind the end.
    got = answered_as(tokenizer, "갓생", "\n", "<|im_start|>", "user")
    assert (got["text"], got["status"]) == ("갓생", "ok")
    got = answered_as(tokenizer, "갓생", "<|im_start|>", "\n")
    assert got["status"] == "leaked"


def test_without_that_setting_a_line_break_ends_nothing(tokenizer):
    got = answered_as(tokenizer, "갓생 사는 중", "\n", "현타", until=None)
    assert got["text"].startswith("갓생 사는 중\n현타")
    assert got["status"] == "truncated"
    assert answered_as(tokenizer, "갓생")["status"] == "truncated"  # no line break comes


def test_the_line_break_that_ends_is_spared_from_the_penalty(tokenizer):
    import torch

    # The prompt's turns have line breaks, too.
    break_, word = (tokenizer(text)["input_ids"][0] for text in ("\n", "갓생"))
    prompt = chat.encode_prompt(tokenizer, ask("뭐 해?"))
    assert break_ in prompt
    logits = torch.zeros(1, len(tokenizer))
    logits[0, break_], logits[0, word] = 50.0, 49.0
    seen = torch.tensor([[break_]])
    seeds = torch.zeros(1, dtype=torch.long)
    greedy = Sampling(temperature=0, repetition_penalty=1.5)
    assert choose(logits.clone(), seen, seeds, 0, greedy, []).tolist() == [word]
    assert choose(logits.clone(), seen, seeds, 0, greedy, [break_]).tolist() == [break_]


@pytest.mark.parametrize("kind", MODELS)
def test_lines_end_alike_in_every_batch(tokenizer, kind):
    model = MODELS[kind](tokenizer)
    break_, original = tokenizer("\n")["input_ids"][0], model.forward

    def forward(*args, **kwargs):  # the line break becomes as likely as the likeliest token
        output = original(*args, **kwargs)
        output.logits[..., break_] = output.logits.max(-1).values
        return output

    forward.__signature__ = inspect.signature(original)
    model.forward = forward
    questions = [q * (1 + n % 3) for n, (q, _) in enumerate(PAIRS * 3)]
    requests = [{"key": str(n), "id": str(n), "messages": ask(q)} for n, q in enumerate(questions)]
    sampling = Sampling(max_new_tokens=40, temperature=1.0, until="line")

    def run(batch_size):
        found = answer_all(
            model, tokenizer, requests, sampling, batch_size=batch_size, done=lambda key: False
        )
        return {r["key"]: (r["text"], r["output_tokens"]) for records in found for r in records}

    alone = run(1)
    assert run(8) == alone
    assert min(tokens for _, tokens in alone.values()) < 20


def test_the_setting_leaves_older_keys_as_they_were():
    assert "until" not in Sampling().as_dict()
    assert Sampling(until="line").as_dict()["until"] == "line"
    with pytest.raises(ValueError, match="until"):
        Sampling(until="word")
