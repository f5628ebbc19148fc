"""How answers are judged by a language model: what it is sent, what its reply says, the verdict.

A task names its judge. ``GradeJudge`` gives a grade of 1 to 5 to an answer about a term,
``TermJudge`` says whether an answer uses a listed term in its meaning. The term judge is sent
only the terms that may stand in the answer (``Candidates``), at a tenth of the tokens of a whole
list. What it names beside them in ``other`` counts where it turns out to be a listed term that
was not among the candidates; slang that is in no list is recorded and does not count, as the
rate is of *listed* terms.
"""

from __future__ import annotations

import contextlib
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from malmat.answer.api import ApiEngine
from malmat.answer.prices import Meter
from malmat.answer.provider import Model
from malmat.answer.replies import parse_object
from malmat.answer.request import ASK_AGAIN, Request, answers_by_id
from malmat.evaluate.items import OutOfRange
from malmat.evaluate.task import Row
from malmat.files import digest
from malmat.journal import Journal, key_of
from malmat.lm.load import fingerprint
from malmat.prompts import fill
from malmat.text.candidates import Candidates, letters_of, listing


@dataclass(frozen=True)
class JudgeRequest(Request):
    """A request with what its reply is held against: the answer, and the titles shown beside it."""

    answer: str = ""
    shown: frozenset[str] = frozenset()


@dataclass(frozen=True)
class GradeJudge:
    """Grades how well an answer understands the term it is about, from 1 to 5.

    Args:
        prompt: the constant of prompt.py that an API model is sent.
        local_prompt: the short form for a model on this machine, which answers with one digit.
    """

    prompt: str
    local_prompt: str | None = None
    label: ClassVar[str] = "grade"
    placeholders: ClassVar[set[str]] = {"title", "content", "question", "answer"}
    needs_meaning: ClassVar[bool] = True
    can_tie: ClassVar[bool] = False
    schema: ClassVar[dict] = {
        "type": "object",
        "properties": {"reason": {"type": "string"}, "score": {"type": "integer"}},
        "required": ["reason", "score"],
        "additionalProperties": False,
    }

    def read(self, text: str) -> int:
        """The 1–5 score of a reply.

        Raises:
            ValueError: unreadable. OutOfRange: a number that is not on the scale.
        """
        score = parse_object(text, "score")["score"]
        if isinstance(score, bool) or not isinstance(score, (int, float)) or score % 1:
            raise ValueError("no whole number in the judge's 'score'")
        if not 1 <= score <= 5:
            raise OutOfRange(str(score))
        return int(score)

    def values(self, row: Row, terms: list[dict], context: Any) -> tuple[dict, list[dict]]:
        """The prompt's values beside question and answer, and the terms that are shown."""
        return {"title": row["title"], "content": row["content"]}, []

    def context(self, terms: list[dict], full_list: bool) -> None:
        """Nothing is looked up."""

    def judgement(self, said: int, request: JudgeRequest, context: Any) -> dict:
        """What one reply comes to."""
        return {"value": said}

    def combine(self, judgements: list[dict]) -> dict:
        """The mean of several judgements."""
        return {"value": sum(one["value"] for one in judgements) / len(judgements)}


@dataclass(frozen=True)
class TermJudge:
    """Says whether an answer uses a term of the list in its meaning.

    Args:
        prompt: the constant of prompt.py that an API model is sent.
    """

    prompt: str
    local_prompt: ClassVar[None] = None
    label: ClassVar[str] = "use of a term"
    placeholders: ClassVar[set[str]] = {"terms", "question", "answer"}
    needs_meaning: ClassVar[bool] = False
    can_tie: ClassVar[bool] = True
    schema: ClassVar[dict] = {
        "type": "object",
        "properties": {
            "used": {"type": "boolean"},
            "term": {"type": "string"},
            "other": {"type": "string"},
        },
        "required": ["used", "term", "other"],
        "additionalProperties": False,
    }

    def read(self, text: str) -> tuple[bool, str, str]:
        """What a reply says: ``used``, the ``term`` and the ``other`` slang, or ''.

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

    def context(self, terms: list[dict], full_list: bool) -> Candidates | None:
        """What finds an answer's candidates; None where the whole list is sent."""
        return None if full_list else Candidates(terms)

    def values(
        self, row: Row, terms: list[dict], context: Candidates | None
    ) -> tuple[dict, list[dict]]:
        """The prompt's values beside question and answer, and the terms that are shown."""
        shown = terms if context is None else context.of(row["answer"])
        return {"terms": listing(shown, context is None)}, shown

    def judgement(
        self, said: tuple[bool, str, str], request: JudgeRequest, context: Candidates
    ) -> dict:
        """What one reply comes to: what it names is looked up, in the list and the answer."""
        used, term, other = said
        terms, beside = [], []
        if used and (title := context.named(term)):
            terms.append(title)
        elif used:
            beside.append(term)
        title = context.named(other)
        # Shown and not called used: the judge has seen its meaning and found that it does not fit.
        if title not in request.shown:
            beside.append(other)
        answer = letters_of(request.answer)
        beside = [word for word in beside if letters_of(word) and letters_of(word) in answer]
        if title and other in beside:
            terms.append(title)
        return {"value": bool(terms), "terms": terms, "other": beside}

    def combine(self, judgements: list[dict]) -> dict | None:
        """The majority of several judgements; None where they tie (one of an odd number is
        then missing)."""
        uses = sum(one["value"] for one in judgements)
        if uses * 2 == len(judgements):
            return None
        named = (title for one in judgements for title in one["terms"])
        used = uses * 2 > len(judgements)
        return {"value": float(used), "terms": list(dict.fromkeys(named)) if used else []}


AnyJudge = GradeJudge | TermJudge


# ------------------------------------------------------------------------ API models


def judge_requests(
    judge: AnyJudge,
    prompts: dict[str, str],
    rows: Sequence[Row],
    terms: list[dict],
    *,
    n: int = 1,
    full_list: bool = False,
) -> list[JudgeRequest]:
    """An API judge's requests, ``n`` a row.

    Args:
        rows: ``id, question, answer``, and ``title, content`` where the judge needs them.
        full_list: all ``terms`` are shown with each answer.
    """
    context = judge.context(terms, full_list)
    requests = []
    for row in rows:
        values, shown = judge.values(row, terms, context)
        values |= {"question": row["question"], "answer": fenced(row)}
        text = fill(prompts[judge.prompt], **values)
        requests += [
            JudgeRequest(
                id=row["id"],
                messages=[{"role": "user", "content": text}],
                sampling={"temperature": 0.0 if n == 1 else 1.0},
                schema=judge.schema,
                sample=sample,
                answer=row["answer"],
                shown=frozenset(term["title"] for term in shown),
            )
            for sample in range(n)
        ]
    return requests


def fenced(row: Row) -> str:
    """The answer between two marks that hold a hash of it, so that it cannot close them itself."""
    mark = digest([row["id"], row["answer"]])[:8]
    return f"<<{mark}>>\n{row['answer']}\n<</{mark}>>"


def judge_by_api(
    model: Model,
    judge: AnyJudge,
    requests: list[JudgeRequest],
    journal: Journal,
    terms: list[dict],
    *,
    concurrency: int = 8,
    max_cost: float | None = None,
) -> dict[str, dict]:
    """Verdicts of an API model, each from all judgements of its row; replies are kept.

    Args:
        requests: as from ``judge_requests``.
        terms: the list in which a term judge's words are looked up.

    Returns:
        Row id → ``status``, ``value``, ``judge_values`` (a value a judgement),
        ``judge_statuses`` (how many judgements came to what), ``judge_replies``,
        ``judge_version``, ``judge_tokens``; of a term judge also ``terms`` (listed ones in use)
        and ``other`` (other slang).
    """

    def accept(_: Request, text: str) -> None:
        with contextlib.suppress(OutOfRange):  # read, and off the scale: no reason to ask again
            judge.read(text)

    records = answers_by_id(
        ApiEngine(model, concurrency),
        list(requests),
        journal,
        accept=accept,
        meter=Meter(model.name, max_cost=max_cost),
        label="judge",
    )
    context = judge.context(terms, False)
    grouped: dict[str, list[dict]] = {}
    for request in requests:
        record = dict(records[f"{request.id}#{request.sample}"])
        if record["status"] == "ok":
            try:
                record |= judge.judgement(judge.read(record["text"]), request, context)
            except OutOfRange:
                record["status"] = "out_of_range"
        grouped.setdefault(request.id, []).append(record)
    return {row_id: _verdict(judge, samples) for row_id, samples in grouped.items()}


def _verdict(judge: AnyJudge, samples: list[dict]) -> dict:
    statuses = Counter(record["status"] for record in samples)
    good = [record for record in samples if record["status"] == "ok"]
    failures = sorted(statuses.keys() - {"ok"}, key=lambda status: status not in ASK_AGAIN)
    combined = judge.combine(good) if good else None
    versions = {record["model_version"] for record in samples if record["model_version"]}
    verdict = {
        "status": "ok" if combined is not None else failures[0],
        "judge_replies": [record["text"] for record in samples],
        "judge_version": ", ".join(sorted(versions)) or None,
        "judge_tokens": {
            side: sum(record["usage"][side] for record in samples) for side in ("input", "output")
        },
        "judge_values": [record["value"] for record in good],
        "judge_statuses": dict(statuses),
        "n_judgements": len(good),
    }
    if errors := [record["error"] for record in samples if record["error"]]:
        verdict["judge_error"] = errors[0]
    if others := list(dict.fromkeys(word for r in samples for word in r.get("other", ()))):
        verdict["other"] = others
    return verdict | (combined or {})


# ---------------------------------------------------------------------- local models


def judge_locally(
    model_name: str,
    template: str,
    rows: Sequence[Row],
    journal: Journal,
    *,
    batch_size: int = 8,
) -> dict[str, dict]:
    """Grades by a local model: the expected score under its digits' probabilities.

    G-Eval's weighting (Liu et al. 2023, *G-Eval*, eq. 1) over the five digits' tokens.

    Args:
        template: the wording, with {title} {content} {question} {answer}.
    """
    model_id = fingerprint(model_name)
    messages, keys = {}, {}
    for row in rows:
        values = {field: row[field] for field in ("title", "content", "question", "answer")}
        values["answer"] = unmarked(values["answer"])
        messages[row["id"]] = [{"role": "user", "content": fill(template, **values)}]
        keys[row["id"]] = key_of(judge=model_id, messages=messages[row["id"]], kind="digits")
    missing = {row["id"] for row in rows if journal.get(keys[row["id"]]) is None}
    if missing:
        _weigh_digits(model_name, messages, keys, missing, journal, batch_size)
    verdicts = {}
    for row in rows:
        probabilities = journal.get(keys[row["id"]])["probabilities"]
        score = sum(p * s for p, s in zip(probabilities, range(1, 6), strict=True))
        score = min(5.0, max(1.0, score / sum(probabilities)))
        verdicts[row["id"]] = {
            "status": "ok",
            "value": round(score, 4),
            "judge_probabilities": probabilities,
            "judge_version": model_name,
        }
    return verdicts


def _weigh_digits(
    model_name: str,
    messages: dict[str, list[dict]],
    keys: dict[str, str],
    missing: set[str],
    journal: Journal,
    batch_size: int,
) -> None:
    """Journal the probabilities of the digits 1 to 5 after each row's messages."""
    from tqdm import tqdm

    from malmat.lm.choice import choice_probabilities
    from malmat.lm.load import load_model, load_tokenizer

    tokenizer, model = load_tokenizer(model_name), load_model(model_name)
    order = list(messages)
    bar = tqdm(total=len(order), initial=len(order) - len(missing), desc="judge", unit="item")
    # Batches are cut from all answers, done or not, so that a resumed run pads alike.
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        if not set(batch) & missing:
            continue
        conversations = [messages[row_id] for row_id in batch]
        table = choice_probabilities(
            model, tokenizer, conversations, list("12345"), batch_size=len(batch)
        )
        journal.extend(
            {"key": keys[i], "id": i, "probabilities": [round(p, 6) for p in row]}
            for i, row in zip(batch, table, strict=True)
            if i in missing
        )
        bar.update(len(batch))
    bar.close()


# A chat template's own markup, spelt out in an answer, would be read as tokens:
# <|im_end|>, <start_of_turn>, </s>, <unused12>, <｜User｜>; [|user|], [/INST].
_MARKUP = re.compile(
    r"[<\[](?=[|｜]/?[\w▁]+[|｜][>\]])|<(?=/?[a-z0-9_]+>)|\[(?=/?INST\])", re.IGNORECASE
)


def unmarked(text: str) -> str:
    """The text with a space in each piece of a chat template's markup."""
    return _MARKUP.sub(r"\g<0> ", text)
