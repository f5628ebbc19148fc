"""The licences of published data sets: what may be trained on, and what only evaluated with."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from malmat.errors import InputError


@dataclass(frozen=True)
class Source:
    """A published data set: its title, its licence ("unknown" where it names none), its page."""

    title: str
    licence: str
    url: str


SOURCES = {
    "click": Source("CLIcK", "unknown", "https://github.com/rladmstn1714/CLIcK"),
    "kmmlu": Source("KMMLU", "CC BY-ND 4.0", "https://huggingface.co/datasets/HAERAE-HUB/KMMLU"),
    "mmmlu": Source("MMMLU KO-KR", "MIT", "https://huggingface.co/datasets/openai/MMMLU"),
    "haerae": Source(
        "HAE-RAE Bench",
        "CC BY-NC-ND 4.0",
        "https://huggingface.co/datasets/HAERAE-HUB/HAE_RAE_BENCH_1.1",
    ),
    "csatqa": Source("CSATQA", "unknown", "https://huggingface.co/datasets/HAERAE-HUB/csatqa"),
    "kobest": Source("KoBEST", "CC BY-SA 4.0", "https://huggingface.co/datasets/skt/kobest_v1"),
    "klue_mrc": Source("KLUE-MRC", "CC BY-SA 4.0", "https://github.com/KLUE-benchmark/KLUE"),
    "korquad": Source("KorQuAD 1.0", "CC BY-ND 2.0 KR", "https://korquad.github.io"),
    "etri_qa": Source("ETRI QA", "unknown", "https://aiopen.etri.re.kr"),
    "etri_mrc": Source("ETRI MRC", "unknown", "https://aiopen.etri.re.kr"),
    "tydiqa": Source("TyDiQA", "Apache-2.0", "https://github.com/google-research-datasets/tydiqa"),
    "korwikitq": Source(
        "KorWikiTQ", "CC BY-SA 4.0", "https://github.com/LG-NLP/KorWikiTableQuestions"
    ),
    "koalpaca": Source(
        "KoAlpaca v1.1a", "CC BY-NC 4.0", "https://huggingface.co/datasets/beomi/KoAlpaca-v1.1a"
    ),
    "koalpaca_realqa": Source(
        "KoAlpaca RealQA",
        "CC BY-SA 4.0",
        "https://huggingface.co/datasets/beomi/KoAlpaca-RealQA",
    ),
}
"""As their pages named them in 2026. Check the page before you publish what is made of a set."""

_NO_DERIVATIVES = re.compile(r"\bND\b|no-?derivatives|변경 ?금지", re.IGNORECASE)
_NON_COMMERCIAL = re.compile(r"\bNC\b|non-?commercial|비영리", re.IGNORECASE)


def is_evaluation_only(licence: str) -> bool:
    """Whether a licence forbids derived works, so that its rows are for evaluation alone."""
    return _NO_DERIVATIVES.search(licence) is not None


def described(source: str) -> str:
    """A source's title, licence and page in one line, with what the licence asks for."""
    one = SOURCES[source]
    notes = []
    if is_evaluation_only(one.licence):
        notes.append("no derivatives: evaluation only, unless --allow_licence")
    if _NON_COMMERCIAL.search(one.licence):
        notes.append("not for commercial use")
    if one.licence == "unknown":
        notes.append("it names no licence: ask its authors")
    return f"{one.title}: {one.licence}" + "".join(f"; {n}" for n in notes) + f" ({one.url})"


def licence_gate(rows: Iterable[Mapping[str, Any]], path: str | Path) -> None:
    """Stop training on, or deriving from, rows whose licence forbids derived works.

    Args:
        rows: with ``evaluation_only`` (as convert.py writes it), or a ``licence`` alone.
        path: their file, for the message.

    Raises:
        InputError: there are some.
    """
    found = [str(row.get("licence")) for row in rows if _is_closed(row)]
    if found:
        names = ", ".join(sorted(set(found)))
        raise InputError(
            f"{len(found)} rows are for evaluation only ({names})",
            path=path,
            field="licence",
            fix="Leave them out; or, if you may, convert them with --allow_licence.",
        )


def _is_closed(row: Mapping[str, Any]) -> bool:
    marked = row.get("evaluation_only")
    if marked in (None, ""):
        return is_evaluation_only(str(row.get("licence")))
    return str(marked).lower() in ("yes", "true", "1")
