"""Answers by a model on this machine, through the journal."""

from __future__ import annotations

from typing import Any

from malmat.answer.request import Request, request_key
from malmat.journal import Journal


def local_identity(
    name: str, sampling: Any, *, adapter: str | None = None, quantization: str | None = None
) -> dict:
    """What of a model on this machine determines an answer, for the journal's key."""
    from malmat.lm.generate import DRAWS
    from malmat.lm.load import base_of, fingerprint

    base = base_of(name)
    return {
        "provider": "local",
        "model": fingerprint(name),
        **({"base": fingerprint(base)} if base else {}),
        "adapter": fingerprint(adapter) if adapter else None,
        "quantization": quantization,
        "settings": sampling.as_dict(),
        "draws": DRAWS,
    }


LOCAL_FIELDS = ("key", "text", "status", "finish_reason", "batch_size")


def complete_locally(
    name: str,
    requests: list[Request],
    journal: Journal,
    sampling: Any,
    *,
    batch_size: int | None,
    adapter: str | None = None,
    quantization: str | None = None,
    trust_remote_code: bool = False,
    label: str = "",
) -> dict[str, dict]:
    """As ``complete``, by a model on this machine, loaded only if something is missing.

    Args:
        name: hub id, folder, adapter folder or ``embedded``.
        sampling: a ``generate.Sampling``.
        batch_size: None takes the one that the journal's answers came with, so that a resumed
            run repeats the batches of the first, or else finds one that fits into memory.

    Returns:
        Request id and sample → record, as ``complete``.
    """
    from tqdm import tqdm

    from malmat.lm.generate import answer_all
    from malmat.lm.load import load_model, load_tokenizer

    identity = local_identity(name, sampling, adapter=adapter, quantization=quantization)
    items = [
        {
            "key": request_key(identity | {"id": request.id}, request),
            "id": f"{request.id}#{request.sample}",
            "messages": request.messages,
        }
        for request in requests
    ]
    known = [record for item in items if (record := journal.get(item["key"]))]
    if len(known) < len(items):
        if batch_size is None and known:
            batch_size = min(record.get("batch_size") or len(items) for record in known)
        options = {"trust_remote_code": trust_remote_code}
        tokenizer = load_tokenizer(adapter or name, **options)
        model = load_model(name, adapter=adapter, quantization=quantization, **options)
        bar = tqdm(total=len(items), initial=len(known), desc=label, unit="item")
        for batch in answer_all(
            model,
            tokenizer,
            items,
            sampling,
            batch_size=batch_size,
            done=lambda key: journal.get(key) is not None,
        ):
            journal.extend(
                {
                    **{name: record[name] for name in LOCAL_FIELDS},
                    "id": record["id"].partition("#")[0],
                    "usage": {"input": record["input_tokens"], "output": record["output_tokens"]},
                    "attempts": 1,
                    "model_version": None,
                    "error": None,
                }
                for record in batch
            )
            bar.update(len(batch))
        bar.close()
    return {item["id"]: journal.get(item["key"]) for item in items}
