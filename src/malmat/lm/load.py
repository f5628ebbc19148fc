"""Load a model: a hub id, a local folder, an adapter folder, or ``embedded``.

``embedded`` is Gemma 3 270M, which installs from the package index, so that the
whole chain runs on a fresh machine without a hub, a key or a GPU.
"""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

from malmat.errors import InputError
from malmat.lm import templates
from malmat.lm.device import attention, check_driver, default_dtype, quantized, sharded
from malmat.lm.embedded import (
    EMBEDDED,
    EMBEDDED_FORMAT,
    EMBEDDED_SHA256,
    convert_embedded,
    embedded_folder,
)
from malmat.lm.gguf import GgufModel
from malmat.lm.gguf_tokenizer import SUFFIX, GgufTokenizer, check_gguf, gguf_digest, is_gguf
from malmat.lm.hub import check_hub, no_model
from malmat.lm.remote import mend_tied_weights

RUN_FILE = "run.json"
"""What a training run says of itself, in the folder that it leaves."""

OWN_BASE = "base"
"""The folder in an adapter's folder that holds its base, where that is a merged model."""

BASE_FILE = "base.json"
"""What an adapter's folder says of such a base: ``merged_from``, ``weights`` (their digest)."""


def quiet() -> None:
    """Keep the libraries' start-up chatter out of the terminal; their warnings stay."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # bitsandbytes notes at import that an optional CPU kernel package is not there.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    # torchao names each library that it has for other machines.
    logging.getLogger("torchao").setLevel(logging.ERROR)


def resolve(name: str) -> str:
    """A name as given on the command line → what ``from_pretrained`` takes.

    Raises:
        InputError: it looks like a folder, and is not one with a model in it.
    """
    if name == EMBEDDED:
        return str(convert_embedded())
    path = Path(name).expanduser()
    if path.is_dir():
        if not any((path / file).is_file() for file in ("config.json", "adapter_config.json")):
            raise InputError(
                "no config.json or adapter_config.json in that folder",
                path=name,
                field="model_name",
                fix="Give a model's or an adapter's folder.",
            )
        return str(path.absolute())
    parts = name.split("/")
    own = parts[0] in ("checkpoints", "runs", "exports")  # folders that this project writes
    if name.startswith((".", "/", "~")) or own or len(parts) != 2 or not all(parts):
        raise InputError(
            f"no such model: '{name}'",
            field="model_name",
            fix="Give 'embedded', a folder, or a hub id 'owner/name'.",
        )
    return name


def check_model(name: str, adapter: str | None = None) -> None:
    """Say now, before anything is loaded, what could not be loaded.

    Raises:
        InputError: no such folder, an adapter folder without a configuration, or as ``check_gguf``
            and ``check_hub``.
    """
    if is_gguf(name):
        check_gguf(name)
        return
    if name != EMBEDDED:
        check_hub(resolve(name))
    if adapter and base_of(name):
        raise InputError("is an adapter itself", field="model_name", path=name)
    if adapter and base_of(adapter) is None:
        raise InputError("no adapter_config.json in that folder", path=adapter)
    if base := name if adapter else base_of(name):
        check_base(adapter or name, base)


def base_of(folder: str | Path) -> str | None:
    """The base model an adapter folder was trained on, or None if it is no adapter.

    ``embedded`` where the adapter names the folder that the embedded model is converted to, here
    or on the machine that it was trained on.
    """
    folder = Path(folder)
    config = folder / "adapter_config.json"
    if not config.is_file():
        return None
    if (folder / OWN_BASE / "config.json").is_file():
        return str(folder / OWN_BASE)
    named = json.loads(config.read_text())["base_model_name_or_path"]
    place = Path(named)
    if place.is_absolute() and place.name == embedded_folder().name:
        moved = not place.is_dir() and _trained_on(folder) == EMBEDDED
        return EMBEDDED if moved or place == embedded_folder().absolute() else named
    return named


def check_base(adapter: str | Path, base: str) -> None:
    """Refuse a base that is not the merged model that an adapter was trained on.

    On the model as it was before the merge such an adapter loads without a word, and lacks the
    stage that was merged. Other adapters are passed over.

    Raises:
        InputError: naming both.
    """
    own = Path(adapter) / OWN_BASE
    try:
        wanted = json.loads((Path(adapter) / BASE_FILE).read_text())["weights"]
    except (OSError, ValueError, KeyError):
        wanted = weights_digest(own) if own.is_dir() else None
    folder = Path(base).expanduser()
    if wanted and not (folder.is_dir() and weights_digest(folder) == wanted):
        raise InputError(
            f"the adapter stands on a merged model (weights {wanted}), and '{base}' is another",
            path=adapter,
            field="adapter",
            fix=f"Load it on the merged model that it was saved with ({own}).",
        )


def _trained_on(folder: Path) -> str | None:
    """The ``--model_name`` of the run that left a folder, by its run.json."""
    try:
        return json.loads((folder / RUN_FILE).read_text())["settings"]["model_name"]
    except (OSError, ValueError, KeyError):
        return None


def resolve_base(adapter: str | Path) -> str:
    """What ``from_pretrained`` takes for the base of an adapter folder.

    Raises:
        InputError: no such model, with its name and who names it.
    """
    base = base_of(adapter) or ""
    try:
        return resolve(base)
    except InputError:
        if base == EMBEDDED:
            raise
        raise InputError(
            f"the adapter's base model '{base}' is not there",
            path=Path(adapter) / "adapter_config.json",
            field="base_model_name_or_path",
            fix="Write into that field where it is: a folder, or a hub id 'owner/name'.",
        ) from None


def short_name(name: str) -> str:
    """A model's name as used in file names: the last part of a path or hub id."""
    return Path(name.rstrip("/")).name.removesuffix(SUFFIX) or name


def fingerprint(name: str) -> str:
    """What identifies a model's weights, for journal keys: changes when they change.

    ``embedded`` and a GGUF file by their checksum; a folder by its files' names, sizes and content
    (of files above 64 MiB the first and the last MiB); a hub id by its name.
    """
    if name == EMBEDDED:
        return f"{EMBEDDED_SHA256[:16]}.{EMBEDDED_FORMAT}"
    folder = Path(name).expanduser()
    if is_gguf(name) and folder.is_file():
        return gguf_digest(folder)
    if not folder.is_dir():
        return name
    return _digest(folder, (".safetensors", ".json", ".jinja", ".model"))


def weights_digest(folder: Path) -> str:
    """As ``fingerprint``, of a folder's weights alone."""
    return _digest(folder, (".safetensors",))


def _digest(folder: Path, suffixes: tuple[str, ...]) -> str:
    total = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix not in suffixes or not file.is_file():
            continue
        if file.name in (RUN_FILE, "trainer_state.json"):  # times and paths, not the model
            continue
        size = file.stat().st_size
        total.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as handle:
            if size <= 64 << 20:
                total.update(handle.read())
            else:
                total.update(handle.read(1 << 20))
                handle.seek(-(1 << 20), os.SEEK_END)
                total.update(handle.read())
    return total.hexdigest()[:16]


def load_tokenizer(name: str, *, trust_remote_code: bool = False, revision: str | None = None):
    """The tokenizer of ``name``, with a pad token and left padding.

    Raises:
        InputError: no such model.
    """
    from transformers import AutoTokenizer

    if is_gguf(name):
        return with_template(GgufTokenizer(name))
    source = resolve(name)
    if base_of(source) and not (Path(source) / "tokenizer_config.json").exists():
        source = resolve_base(source)
    check_hub(source)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, trust_remote_code=trust_remote_code, revision=revision
        )
    except Exception as error:
        raise no_model(name, error) from None
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
    return with_template(tokenizer)


def with_template(tokenizer: Any) -> Any:
    """The tokenizer, given a chat template where it has none and one fits."""
    if given := templates.give_template(tokenizer):
        print(f"  the tokenizer has no chat template: {given}'s is used")
    return tokenizer


def load_model(
    name: str,
    *,
    adapter: str | None = None,
    dtype: str = "auto",
    quantization: str | None = None,
    trust_remote_code: bool = False,
    revision: str | None = None,
    merge: bool = True,
    device: str = "auto",
    packed: bool = False,
    dequantize: bool = False,
) -> Any:
    """The model, in evaluation mode.

    Args:
        name: hub id, folder, adapter folder, GGUF file or ``embedded``.
        adapter: a PEFT adapter folder to put on top; neither it nor the following for a GGUF file.
        dtype: ``auto`` (bfloat16 on a GPU that has it, float16 on an older one,
            float32 on the CPU, where bfloat16 batches are slower), or a torch name.
        quantization: ``4bit`` (NF4, double quantization), ``8bit`` or None.
        merge: fold the adapter into the weights (faster), unless quantization would round it away.
        device: ``auto``, the best there is, or ``cpu``.
        packed: rows of several examples will be read (``device.attention``).
        dequantize: give quantized weights back their precision, with the rounding in them.

    Raises:
        InputError: no such model or adapter, or an adapter of another base (``check_base``).
    """
    import torch

    quiet()
    if is_gguf(name):
        return GgufModel(name)
    if base_of(source := resolve(name)):
        if adapter:
            check_model(name, adapter)
        name, adapter = base_of(source) or name, source
        source = resolve_base(adapter)
    if adapter:
        check_base(adapter, source if name != EMBEDDED else name)
    number = getattr(torch, default_dtype() if dtype == "auto" else dtype)
    options: dict[str, Any] = {"dtype": number, **_placed(device, packed=packed)}
    options |= {"trust_remote_code": trust_remote_code, "revision": revision}
    if quantization:
        options["quantization_config"] = quantized(quantization, number)
    check_hub(source)
    try:
        if trust_remote_code:
            mend_tied_weights(source, revision)
        model = _from_pretrained(source, options)
    except Exception as error:
        raise no_model(name, error) from None
    _keep_layout(model)
    if dequantize and getattr(model, "is_quantized", False):
        model = model.dequantize()
        model._weight_conversions = None  # how a quantized file was read: saving would undo it
    if adapter:
        model = _adapted(model, adapter, merge)
    return model.eval()


def _placed(device: str, *, packed: bool) -> dict[str, Any]:
    """Where the weights go and how attention is computed there; as ``load_model``."""
    import torch

    if device == "cpu":
        return {"device_map": {"": "cpu"}}  # quantized weights would look for a card
    check_driver()
    if not torch.cuda.is_available():
        return {}
    place = {"": int(os.environ.get("LOCAL_RANK", 0))}
    found = {} if sharded() else {"device_map": place}  # FSDP and DeepSpeed place them themselves
    return {**found, "attn_implementation": attention(packed=packed)}


def _from_pretrained(source: str, options: dict[str, Any]) -> Any:
    """The model; with SDPA where FlashAttention was asked for and cannot be had: the model may
    not take it, or its kernel may be on a hub that is out of reach."""
    from transformers import AutoModelForCausalLM

    try:
        return AutoModelForCausalLM.from_pretrained(source, use_safetensors=True, **options)
    except (ImportError, ValueError, OSError) as error:
        if options.get("attn_implementation") != "flash_attention_2":
            raise
        options = options | {"attn_implementation": "sdpa"}
        model = AutoModelForCausalLM.from_pretrained(source, use_safetensors=True, **options)
        print(f"  attention by SDPA: FlashAttention cannot be had here ({str(error)[:120]})")
        return model


def _keep_layout(model: Any) -> None:
    """Forbid bitsandbytes to repack 4-bit weights on the CPU.

    On a CPU with AVX512-BF16 a 4-bit layer repacks its weights when it is first read in
    evaluation mode (bitsandbytes 0.50). No gradient passes through the packed ones, so all that is
    trained after an evaluation would be wrong without a word, and dequantized they are another
    layer.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _adapted(model: Any, adapter: str, merge: bool) -> Any:
    """The model with the adapter of a folder, folded into its weights where it may be.

    Raises:
        InputError: no adapter in that folder.
    """
    from peft import PeftModel

    if base_of(adapter) is None:
        raise InputError("no adapter_config.json in that folder", path=adapter, field="adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(model, adapter)
        if merge and not getattr(model.get_base_model(), "is_quantized", False):
            _untie(model)
            model = model.merge_and_unload()
    return model


def _untie(model: Any) -> None:
    """Give the output head weights of its own where it shares the embeddings' and one of the two
    is adapted: merging would change the other along with it."""
    import torch

    head, embeddings = model.get_output_embeddings(), model.get_input_embeddings()
    adapted = [place for place in (head, embeddings) if hasattr(place, "base_layer")]
    own = getattr(head, "base_layer", head)
    if adapted and own is not None and own.weight is embeddings.weight:
        own.weight = torch.nn.Parameter(own.weight.detach().clone())
        model.config.get_text_config().tie_word_embeddings = False
        model.config.tie_word_embeddings = False
