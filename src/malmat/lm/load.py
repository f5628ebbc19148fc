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
from malmat.lm import chat
from malmat.lm.embedded import EMBEDDED, EMBEDDED_FORMAT, EMBEDDED_SHA256, convert_embedded

OWN_BASE = "base"
"""The folder in an adapter's folder that holds its base, where that is a merged model."""


def quiet() -> None:
    """Keep the libraries' start-up chatter out of the terminal; their warnings stay."""
    import logging

    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    # bitsandbytes notes at import that an optional CPU kernel package is not there.
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)


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
        return str(path)
    parts = name.split("/")
    if name.startswith((".", "/", "~")) or len(parts) != 2 or not all(parts):
        raise InputError(
            f"no such model: '{name}'",
            field="model_name",
            fix="Give 'embedded', a folder, or a hub id 'owner/name'.",
        )
    return name


def check_model(name: str, adapter: str | None = None) -> None:
    """Say now, before anything is loaded, what could not be loaded.

    Raises:
        InputError: no such folder, or an adapter folder without a configuration.
    """
    if name != EMBEDDED:
        resolve(name)
    if adapter and base_of(adapter) is None:
        raise InputError("no adapter_config.json in that folder", path=adapter)


def base_of(folder: str | Path) -> str | None:
    """The base model an adapter folder was trained on, or None if it is no adapter."""
    config = Path(folder) / "adapter_config.json"
    if not config.is_file():
        return None
    if (Path(folder) / OWN_BASE / "config.json").is_file():
        return str(Path(folder) / OWN_BASE)
    return json.loads(config.read_text())["base_model_name_or_path"]


def short_name(name: str) -> str:
    """A model's name as used in file names: the last part of a path or hub id."""
    return Path(name.rstrip("/")).name or name


def fingerprint(name: str) -> str:
    """What identifies a model's weights, for journal keys: changes when they change.

    ``embedded`` by its checksum; a folder by its files' names, sizes and content
    (of files above 64 MiB the first and the last MiB); a hub id by its name.
    """
    if name == EMBEDDED:
        return f"{EMBEDDED_SHA256[:16]}.{EMBEDDED_FORMAT}"
    folder = Path(name).expanduser()
    if not folder.is_dir():
        return name
    total = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix not in (".safetensors", ".json", ".jinja", ".model") or not file.is_file():
            continue
        if file.name in ("run.json", "trainer_state.json"):  # times and paths, not the model
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

    source = resolve(name)
    if (base := base_of(source)) and not (Path(source) / "tokenizer_config.json").exists():
        source = resolve(base)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            source, trust_remote_code=trust_remote_code, revision=revision
        )
    except Exception as error:
        raise no_model(name, error) from None
    if given := chat.give_template(tokenizer):
        print(f"  the tokenizer has no chat template: {given}'s is used")
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    tokenizer.padding_side = "left"
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
) -> Any:
    """The model, in evaluation mode.

    Args:
        name: hub id, folder, adapter folder or ``embedded``.
        adapter: a PEFT adapter folder to put on top.
        dtype: ``auto`` (bfloat16 on a GPU that has it, float16 on an older one,
            float32 on the CPU, where bfloat16 batches are slower), or a torch name.
        quantization: ``4bit`` (NF4, double quantization), ``8bit`` or None.
        merge: fold the adapter into the weights (faster; not for training, nor into
            weights that are quantized, which would round it away).
        device: ``auto``, the best there is, or ``cpu``.

    Raises:
        InputError: no such model or adapter.
    """
    import torch
    from transformers import AutoModelForCausalLM

    quiet()
    source = resolve(name)
    if base := base_of(source):
        if adapter:
            raise InputError("is an adapter itself", field="model_name", path=name)
        source, adapter = resolve(base), source
    if dtype == "auto":
        dtype = default_dtype()
    options: dict[str, Any] = {"dtype": getattr(torch, dtype)}
    if quantization:
        options["quantization_config"] = _quantized(quantization, options["dtype"])
    if torch.cuda.is_available() and device == "auto":
        if not sharded():  # FSDP and DeepSpeed place the weights themselves
            options["device_map"] = {"": int(os.environ.get("LOCAL_RANK", 0))}
        options["attn_implementation"] = attention()
    try:
        model = AutoModelForCausalLM.from_pretrained(
            source,
            trust_remote_code=trust_remote_code,
            revision=revision,
            use_safetensors=True,
            **options,
        )
    except Exception as error:
        raise no_model(name, error) from None
    if adapter:
        model = _adapted(model, adapter, merge)
    return model.eval()


def _quantized(quantization: str, dtype: Any) -> Any:
    """bitsandbytes' settings for ``4bit`` (NF4, double quantization) or ``8bit``."""
    from transformers import BitsAndBytesConfig

    if quantization == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


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


def default_dtype() -> str:
    """bfloat16 where the GPU computes in it, float16 on older GPUs, float32 on the CPU."""
    import torch

    if not torch.cuda.is_available():
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def attention() -> str:
    """FlashAttention 2 where it is installed and the card has it (Ampere and later), else SDPA."""
    import torch
    from transformers.utils import is_flash_attn_2_available

    new = torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0)
    return "flash_attention_2" if new and is_flash_attn_2_available() else "sdpa"


def sharded() -> bool:
    """Whether Accelerate's launcher splits the weights over processes (FSDP, DeepSpeed)."""
    names = ("ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED")
    return any(os.environ.get(name, "").lower() in ("true", "1") for name in names)


def no_model(name: str, error: Exception) -> InputError:
    reason = str(error).strip().splitlines()[0][:200] if str(error).strip() else ""
    return InputError(
        f"'{name}' could not be loaded ({type(error).__name__}: {reason})",
        field="model_name",
        fix="Check the name, the network and the access rights, or use 'embedded'.",
    )
