"""How answers are judged: what a judge is sent, what its reply says, what a verdict is.

A usage judge is sent only the terms that may stand in the answer (``Candidates``), at
a tenth of the tokens of a whole list. What it names beside them in ``other`` counts
where it turns out to be a listed term that was not among the candidates; slang that
is in no list is recorded and does not count, as the rate is of *listed* terms.
"""

from __future__ import annotations

import contextlib
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import Any

from malmat.answer import api
from malmat.answer.open import open_model
from malmat.answer.prices import Meter
from malmat.answer.provider import Model
from malmat.answer.replies import parse_object
from malmat.answer.request import ASK_AGAIN, Request
from malmat.files import digest
from malmat.journal import Journal, key_of
from malmat.lm.load import fingerprint
from malmat.prompts import fill
from malmat.text.korean import normalize
from malmat.text.lexicon import SlangLexicon
from malmat.text.terms import plain_text

UNDERSTAND_SCHEMA = {
    "type": "object",
    "properties": {"reason": {"type": "string"}, "score": {"type": "integer"}},
    "required": ["reason", "score"],
    "additionalProperties": False,
}


USAGE_SCHEMA = {
    "type": "object",
    "properties": {
        "used": {"type": "boolean"},
        "term": {"type": "string"},
        "other": {"type": "string"},
    },
    "required": ["used", "term", "other"],
    "additionalProperties": False,
}


CANDIDATES = 12
"""Terms that a usage judge is shown with an answer, at most."""


_GLOSS = 60
"""Characters of a candidate's explanation."""


_NEAR, _SAME = 65, 85
"""Likeness in per cent of letters (jamo): of a spelling to a part of the answer, to a word."""


def is_offline(judge: str) -> bool:
    """Whether a judge runs on this machine, without an API."""
    return judge == "lexicon" or judge.startswith("local:")


@dataclass(frozen=True)
class JudgeRequest(Request):
    """A request with what its reply is held against: the answer, and the titles shown beside it."""

    answer: str = ""
    shown: frozenset[str] = frozenset()


def build_requests(
    args: Any, prompts: dict, terms: list[dict], good: list[dict]
) -> list[JudgeRequest]:
    """An API judge's requests, ``args.n`` an answer (none for the offline judges).

    Args:
        args: ``scorer_name, score_mode, n`` and, for usage, ``full_list``.
        good: answers, ``id, question, answer``; with ``title, content`` for understanding.
    """
    if is_offline(args.scorer_name):
        return []
    understand = args.score_mode == "understand"
    full_list = getattr(args, "full_list", False)
    candidates = None if understand or full_list else Candidates(terms)
    requests = []
    for row in good:
        values = {"question": row["question"], "answer": fenced(row)}
        shown: list[dict] = []
        if understand:
            values |= {"title": row["title"], "content": row["content"]}
            text = fill(prompts["JUDGE_UNDERSTAND"], **values)
        else:
            shown = candidates.of(row["answer"]) if candidates else terms
            text = fill(prompts["JUDGE_USAGE"], terms=listing(shown, full_list), **values)
        requests += [
            JudgeRequest(
                id=row["id"],
                messages=[{"role": "user", "content": text}],
                sampling={"temperature": 0.0 if args.n == 1 else 1.0},
                schema=UNDERSTAND_SCHEMA if understand else USAGE_SCHEMA,
                sample=sample,
                answer=row["answer"],
                shown=frozenset(term["title"] for term in shown),
            )
            for sample in range(args.n)
        ]
    return requests


def fenced(row: dict) -> str:
    """The answer between two marks that hold a hash of it, so that it cannot close them itself."""
    mark = digest([row["id"], row["answer"]])[:8]
    return f"<<{mark}>>\n{row['answer']}\n<</{mark}>>"


def listing(terms: list[dict], full: bool = False) -> str:
    """Terms with their explanations, one a line."""
    lines = []
    for term in terms:
        gloss = first_sentences(term["content"])
        if not full and len(gloss) > _GLOSS:
            gloss = gloss[:_GLOSS].rsplit(" ", 1)[0] + "…"
        lines.append(f"- {term['title']}: {gloss}")
    return "\n".join(lines) or "(없음)"


def first_sentences(text: str, count: int = 2) -> str:
    """The first sentences of a text, on one line."""
    return " ".join(re.split(r"(?<=[.!?다])\s+", text.replace("\n", " "))[:count])


class Candidates:
    """Which of the listed terms may stand in an answer: by morphology, then by near spelling.

    Near spellings are compared by letters (jamo) with rapidfuzz: a spelling against the
    part of the answer that is most like it.
    """

    def __init__(self, terms: list[dict]):
        self._terms = {term["title"]: term for term in terms}
        self._lexicon = SlangLexicon(terms, lenient=True)
        self._spelt = {
            _letters(plain_text(surface)): title
            for title in reversed(self._terms)  # of two terms spelt alike the first
            for surface in (title, *self._lexicon.spellings_of(title))
        }
        self._letters = {
            title: [
                letters
                for surface in self._lexicon.spellings_of(title)
                if len(letters := _letters(plain_text(surface))) > 3
            ]
            for title in self._terms
        }

    def of(self, answer: str, most: int = CANDIDATES) -> list[dict]:
        """The terms, the likeliest first."""
        from rapidfuzz.fuzz import partial_ratio

        found = self._lexicon.find(answer)
        found.sort(key=lambda title: len(plain_text(title)) < 2)  # 각, 보: seldom what is meant
        text = _letters(answer)
        scores = {
            title: max(
                (partial_ratio(letters, text, score_cutoff=_NEAR) for letters in spelled),
                default=0,
            )
            for title, spelled in self._letters.items()
            if title not in found
        }
        near = sorted((t for t in scores if scores[t]), key=lambda t: -scores[t])
        return [self._terms[title] for title in [*found, *near][:most]]

    def named(self, word: str) -> str | None:
        """The listed term that a judge means by a word, or None."""
        from rapidfuzz.fuzz import ratio

        letters = _letters(word)
        if not letters or letters in self._spelt:
            return self._spelt.get(letters)
        likeness = {
            title: max((ratio(letters, one) for one in spelled), default=0)
            for title, spelled in self._letters.items()
        }
        best = max(likeness, key=likeness.get)
        if likeness[best] >= _SAME:
            return best
        ends = (word[:1], word[-1:])  # one syllable, as 각 in 치킨각, is no more than an end of it
        found = self._lexicon.find(word)
        return next((t for t in found if len(s := plain_text(t)) > 1 or s in ends), None)


def _letters(text: str) -> str:
    return unicodedata.normalize("NFD", re.sub(r"[^\w]", "", normalize(text)).casefold())


def judge_settings(args: Any, prompts: dict, terms: list[dict]) -> dict:
    """What else than its name a judge's verdicts depend on, as digests, to be stored with them."""
    local = args.scorer_name.startswith("local:")
    used = [] if args.scorer_name == "lexicon" else [f"JUDGE_{args.score_mode.upper()}"]
    asked = {name: prompts[name] for name in (f"{name}_LOCAL" if local else name for name in used)}
    name = args.scorer_name.removeprefix("local:")
    return {
        "prompts": digest(asked)[:16],
        "terms": digest(terms)[:16],
        "judge_model": fingerprint(name)[:16] if local else None,
    }


class OutOfRange(Exception):
    """A score that is not on the scale: the judge's, not a parse failure."""


def read_score(text: str) -> int:
    """The 1–5 score of a judge's reply.

    Raises:
        ValueError: unreadable. OutOfRange: a number that is not on the scale.
    """
    score = parse_object(text, "score")["score"]
    if isinstance(score, bool) or not isinstance(score, (int, float)) or score % 1:
        raise ValueError("no whole number in the judge's 'score'")
    if not 1 <= score <= 5:
        raise OutOfRange(str(score))
    return int(score)


def read_used(text: str) -> tuple[bool, str, str]:
    """What a usage judge's reply says: ``used``, the ``term`` and the ``other`` slang, or ''.

    Raises:
        ValueError: unreadable, or a use of nothing.
    """
    reply = parse_object(text, "used")
    used = reply["used"]
    if not isinstance(used, bool):
        raise ValueError("no true or false in the judge's 'used'")
    named = (reply.get(field) for field in ("term", "other"))
    term, other = (name.strip() if isinstance(name, str) else "" for name in named)
    if used and not term and not other:
        raise ValueError("the judge's 'used' is true, but it names no term")
    return used, term, other


def judge_by_lexicon(good: list[dict], terms: list[dict]) -> dict[str, dict]:
    """Usage by morphology: id → verdict (``malmat.text.lexicon`` says what counts)."""
    lexicon = SlangLexicon(terms)
    verdicts = {}
    for row in good:
        found = lexicon.find(row["answer"])
        verdicts[row["id"]] = {"status": "ok", "used": bool(found), "terms": found}
    return verdicts


def judge_locally(args: Any, prompts: dict, good: list[dict], journal: Journal) -> dict[str, dict]:
    """Understanding by a local model: the expected score under its digits' probabilities.

    G-Eval's weighting (Liu et al. 2023, *G-Eval*, eq. 1) over the five digits' tokens.
    """
    name = args.scorer_name.removeprefix("local:")
    model_id = fingerprint(name)
    messages, keys = {}, {}
    for row in good:
        values = {field: row[field] for field in ("title", "content", "question", "answer")}
        values["answer"] = unmarked(values["answer"])
        text = fill(prompts["JUDGE_UNDERSTAND_LOCAL"], **values)
        messages[row["id"]] = [{"role": "user", "content": text}]
        keys[row["id"]] = key_of(judge=model_id, messages=messages[row["id"]], kind="digits")
    missing = [row["id"] for row in good if journal.get(keys[row["id"]]) is None]
    if missing:
        from tqdm import tqdm

        from malmat.lm.choice import choice_probabilities
        from malmat.lm.load import load_model, load_tokenizer

        tokenizer, model = load_tokenizer(name), load_model(name)
        bar = tqdm(total=len(good), initial=len(good) - len(missing), desc="judge", unit="item")
        # Batches are cut from all answers, done or not, so that a resumed run pads alike.
        for start in range(0, len(good), args.batch_size):
            batch = [row["id"] for row in good[start : start + args.batch_size]]
            if not set(batch) & set(missing):
                continue
            table = choice_probabilities(
                model,
                tokenizer,
                [messages[i] for i in batch],
                list("12345"),
                batch_size=len(batch),
            )
            journal.extend(
                {"key": keys[i], "id": i, "probabilities": [round(p, 6) for p in row]}
                for i, row in zip(batch, table, strict=True)
                if i in missing
            )
            bar.update(len(batch))
        bar.close()
    verdicts = {}
    for row in good:
        probabilities = journal.get(keys[row["id"]])["probabilities"]
        score = sum(p * s for p, s in zip(probabilities, range(1, 6), strict=True))
        score = min(5.0, max(1.0, score / sum(probabilities)))
        verdicts[row["id"]] = {
            "status": "ok",
            "score": round(score, 4),
            "probabilities": probabilities,
            "judge_version": name,
        }
    return verdicts


# A chat template's own markup, spelt out in an answer, would be read as tokens:
# <|im_end|>, <start_of_turn>, </s>, <unused12>, <｜User｜>; [|user|], [/INST].
_MARKUP = re.compile(
    r"[<\[](?=[|｜]/?[\w▁]+[|｜][>\]])|<(?=/?[a-z0-9_]+>)|\[(?=/?INST\])", re.IGNORECASE
)


def unmarked(text: str) -> str:
    """The text with a space in each piece of a chat template's markup."""
    return _MARKUP.sub(r"\g<0> ", text)


def open_judge(args: Any) -> Model:
    """The API model that judges.

    Raises:
        InputError: no key, or ``--max_cost`` for a model without a price.
    """
    model = open_model(args.scorer_name, base_url=args.base_url)
    Meter(model.name, max_cost=args.max_cost)
    return model


def judge_by_api(
    args: Any, requests: list[JudgeRequest], journal: Journal, terms: list[dict] | None = None
) -> dict[str, dict]:
    """Verdicts of an LLM, the mean of ``--n`` judgements; replies are kept.

    Args:
        args: ``scorer_name, score_mode, base_url, concurrency, max_cost``.
        requests: of ``build_requests``.
        terms: the term list, to look up what a usage judge names.

    Returns:
        Row id → ``status``, ``score`` or ``used``, ``judge_values`` (a value a
        judgement), ``judge_statuses`` (how many judgements came to what),
        ``judge_replies``, ``judge_version``, ``judge_tokens``; of usage also ``terms``
        (listed ones in use) and ``other`` (other slang).
    """
    understand = args.score_mode == "understand"
    read = read_score if understand else read_used

    def accept(_: Request, text: str) -> None:
        with contextlib.suppress(OutOfRange):  # read, and off the scale: no reason to ask again
            read(text)

    records = api.complete(
        open_judge(args),
        requests,
        journal,
        accept=accept,
        concurrency=args.concurrency,
        max_cost=args.max_cost,
        label="judge",
    )
    candidates = None if understand else Candidates(terms)
    grouped: dict[str, list[dict]] = {}
    for request in requests:
        record = dict(records[f"{request.id}#{request.sample}"])
        if record["status"] == "ok":
            try:
                said = read(record["text"])
            except OutOfRange:
                record["status"] = "out_of_range"
            else:
                record |= {"value": said} if understand else _use(*said, request, candidates)
        grouped.setdefault(request.id, []).append(record)
    return {row_id: _verdict(samples, understand) for row_id, samples in grouped.items()}


def _use(used: bool, term: str, other: str, request: JudgeRequest, candidates: Candidates) -> dict:
    """What a usage judgement comes to: what it names is looked up, in the list and the answer."""
    terms, beside = [], []
    if used and (title := candidates.named(term)):
        terms.append(title)
    elif used:
        beside.append(term)
    title = candidates.named(other)
    # Shown and not called used: the judge has seen its meaning and found that it does not fit.
    if title not in request.shown:
        beside.append(other)
    answer = _letters(request.answer)
    beside = [word for word in beside if _letters(word) and _letters(word) in answer]
    if title and other in beside:
        terms.append(title)
    return {"value": bool(terms), "terms": terms, "other": beside}


def _verdict(samples: list[dict], understand: bool) -> dict:
    statuses = Counter(record["status"] for record in samples)
    values = [record["value"] for record in samples if record["status"] == "ok"]
    failures = sorted(statuses.keys() - {"ok"}, key=lambda status: status not in ASK_AGAIN)
    # Usage is asked an odd number of times: a tie has a judgement missing.
    tied = not understand and values and sum(values) * 2 == len(values)
    versions = {record["model_version"] for record in samples if record["model_version"]}
    verdict = {
        "status": "ok" if values and not tied else failures[0],
        "judge_replies": [record["text"] for record in samples],
        "judge_version": ", ".join(sorted(versions)) or None,
        "judge_tokens": {
            side: sum(record["usage"][side] for record in samples) for side in ("input", "output")
        },
        "judge_values": values,
        "judge_statuses": dict(statuses),
        "n_judgements": len(values),
    }
    if errors := [record["error"] for record in samples if record["error"]]:
        verdict["judge_error"] = errors[0]
    if others := list(dict.fromkeys(word for r in samples for word in r.get("other", ()))):
        verdict["other"] = others
    if verdict["status"] != "ok":
        return verdict
    if understand:
        verdict["score"] = sum(values) / len(values)
    else:
        verdict["used"] = sum(values) * 2 > len(values)
        named = (title for record in samples for title in record.get("terms", ()))
        verdict["terms"] = list(dict.fromkeys(named)) if verdict["used"] else []
    return verdict
