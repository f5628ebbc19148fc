"""A tiny model with a SentencePiece-like tokenizer, as a folder and as a GGUF file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from conftest import PAIRS, make_model

from malmat.lm.templates import GEMMA_TEMPLATE
from malmat.train.sentencepiece import pieces_of

CONTROL = ["<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"]


def make_tokenizer() -> Any:
    """A BPE that writes blanks as ▁ and unknown characters as bytes, with Gemma's turns."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    core.normalizer = normalizers.Replace(" ", "▁")
    core.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    core.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    )
    data = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = trainers.BpeTrainer(
        vocab_size=700, special_tokens=[*CONTROL, *data], show_progress=False
    )
    texts = [text for pair in PAIRS for text in pair]
    core.train_from_iterator([*texts, *["user model 1 2 3 4 5 A B C D \n"] * 3], trainer)
    parts = json.loads(core.to_str())
    parts["added_tokens"] = [one for one in parts["added_tokens"] if one["content"] in CONTROL]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(parts)),
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<bos>",
        unk_token="<unk>",
    )
    tokenizer.chat_template = GEMMA_TEMPLATE
    return tokenizer


def make_folder(folder: Path, *, seed: int = 0) -> Path:
    """The model and its tokenizer as a folder."""
    import torch

    tokenizer = make_tokenizer()
    model = make_model(tokenizer, seed=seed, bos_token_id=2)
    with torch.no_grad():  # so that the next token is not a matter of rounding
        for weights in model.parameters():
            if weights.dim() > 1:
                weights *= 8
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def write_gguf(folder: Path, path: Path) -> Path:
    """A folder of ``make_folder`` as a GGUF file in float32, by the package gguf alone."""
    import gguf
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder)
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    pieces = pieces_of(folder)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece for piece, *_ in pieces])
    writer.add_token_scores([score for _, score, _ in pieces])
    writer.add_token_types([int(gguf.TokenType[kind]) for *_, kind in pieces])
    writer.add_pad_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_bos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_add_space_prefix(False)
    writer.add_chat_template(GEMMA_TEMPLATE)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weights in model.state_dict().items():
        array = weights.float().numpy()
        module = name.split(".")[-2]
        if module in heads:  # llama.cpp turns neighbours, transformers the halves
            shape = (heads[module], 2, array.shape[0] // heads[module] // 2, array.shape[1])
            array = array.reshape(shape).swapaxes(1, 2).reshape(array.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
