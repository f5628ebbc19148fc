"""Answers compared with reference texts in Korean: morphemes for ROUGE-1, short answers.

``mecab_words`` are the words that the contest's own evaluation code (teddysum/korean_evaluation)
counts, so that ``scorers.rouge1`` over them is its ROUGE-1 F1 (alpha 0.5, one reference).
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable

from malmat.errors import InputError
from malmat.evaluate.task import Row
from malmat.text.korean import fold, has_final, normalize

MOST_WORDS = 1000
"""Words (between blanks) of a text that are read; what follows them is not."""

_REMOVED = re.compile("[^a-z0-9가-힣]")


def rouge_text(text: str) -> str:
    """The first 1,000 words in small letters; all but letters, digits and syllables is blank."""
    cut = " ".join(normalize(text).split()[:MOST_WORDS])
    return _REMOVED.sub(" ", cut.lower()).strip()


@functools.cache
def _mecab() -> Callable[[str], list[str]]:
    try:
        from mecab import MeCab
        from mecab.utils import create_lattice
    except ImportError:  # other builds of MeCab-ko for Python 3.13 cut otherwise
        raise InputError(
            "ROUGE-1 over MeCab-ko's morphemes needs python-mecab-ko, which is not installed",
            fix="Use Python 3.11 or 3.12 (it has no wheel for 3.13).",
        ) from None

    tagger = MeCab()._tagger

    def morphs(text: str) -> list[str]:
        """As ``MeCab.morphs``, which takes twice the time: it reads each morpheme's features."""
        lattice = create_lattice(text)
        if not tagger.parse(lattice):
            raise ValueError(tagger.what())
        return [node.surface for _, node in lattice]

    return morphs


@functools.cache
def _kiwi() -> Callable:
    from kiwipiepy import Kiwi

    return Kiwi(num_workers=1).tokenize


@functools.lru_cache(maxsize=4096)
def _mecab_words(text: str) -> tuple[str, ...]:
    words = _mecab()(text) if text else []
    return tuple(part for word in words for part in word.split())


def mecab_words(text: str) -> list[str]:
    """The morphemes of ``rouge_text`` by MeCab-ko."""
    return list(_mecab_words(rouge_text(text)))


@functools.lru_cache(maxsize=4096)
def _kiwi_words(text: str) -> tuple[str, ...]:
    return tuple(token.form for token in _kiwi()(text))


def kiwi_words(text: str) -> list[str]:
    """The morphemes of ``rouge_text`` by Kiwi."""
    return list(_kiwi_words(rouge_text(text)))


# ------------------------------------------------------------------------ short answers


def _alternatives(row: Row) -> list[str]:
    return [row["target"]] if isinstance(row["target"], str) else row["target"]


def verbatim(row: Row) -> dict:
    """1 where the answer is, but for blanks around it, one of the target's alternatives."""
    answer = unicodedata.normalize("NFC", row["answer"]).strip()
    known = (unicodedata.normalize("NFC", one).strip() for one in _alternatives(row))
    return {"status": "ok", "value": float(answer in known)}


_HANJA = re.compile(r"[(\[（［〔]\s*[\u3400-\u9fff\uf900-\ufaff\s·,]+\s*[)\]）］〕]")
_MARKS = re.compile(r"[\s\"'‘’“”`´「」『』《》〈〉<>()\[\]{}（）［］〔〕【】.,!?·ㆍ~\-]+")
PARTICLES = (
    *("이/", "/가", "은/", "/는", "을/", "/를", "과/", "/와", "으로/", "/로", "의", "에", "도"),
    *("에서", "이다/다", "이다", "입니다", "이에요/", "/예요", "이라고 한다/라고 한다"),
)
"""What may follow a short answer; before ``/`` after a final consonant, behind it without one."""


def relaxed_form(text: str) -> str:
    """A short answer without spacing, case, quotes, brackets, ends and 한자 in brackets."""
    return _MARKS.sub("", _HANJA.sub("", fold(text))).casefold()


def relaxed(row: Row) -> dict:
    """1 where the answer is one of the alternatives in ``relaxed_form``, with a particle at the
    end or without one."""
    answer = relaxed_form(row["answer"])
    known = [form for one in _alternatives(row) if (form := relaxed_form(one))]
    right = any(answer == one or _is_particle(answer, one) for one in known)
    return {"status": "ok", "value": float(right)}


def _is_particle(answer: str, word: str) -> bool:
    """Whether the answer is the word with a particle that fits its last letter."""
    if not answer.startswith(word):
        return False
    rest = answer.removeprefix(word)
    for pair in PARTICLES:
        closed, slash, opened = pair.replace(" ", "").partition("/")
        if rest == (closed if has_final(word) or not slash else opened) and rest:
            return True
    return False
