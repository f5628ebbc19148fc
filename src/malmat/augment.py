"""Mechanics of ``generate_augmented_pairs_gemini.py``: requests, files, what came of each term."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from malmat.answer.prices import estimate_tokens
from malmat.answer.request import NEEDED, Request
from malmat.cli import ROOT, relative
from malmat.errors import InputError, StopRunning
from malmat.files import row_id, sync_folder, write_text
from malmat.formats import read_pairs, read_terms
from malmat.prompts import PROMPT_FILE, fill
from malmat.text.duplicates import NearDuplicates
from malmat.text.korean import normalize
from malmat.text.pairs import (
    REPLY_SCHEMA,
    VERDICT_SCHEMA,
    VERDICTS,
    filter_pairs,
    parse_reply,
    parse_verdict,
)
from malmat.text.terms import TermMatcher

TOKENS_A_PAIR = 60
"""Of output, for a plan."""
PROMPTS: dict[str, set[str]] = {
    "AUGMENT": {"title", "content", "example_q", "example_a", "count", "known"},
    "AUGMENT_KNOWN": {"pairs"},
    "AUGMENT_WORKED": set(),
    "HARMFUL": {"text"},
}
"""The constants of prompt.py that augmentation needs → their placeholders."""


TERMS, MERGED = ROOT / "src" / "data" / "terms.csv", ROOT / "merged_final.json"
"""The term list of this repository, and the pairs of its terms."""


def chosen_terms(path: str, titles: Sequence[str] | None, merged: str | None) -> list[dict]:
    """The terms that pairs are to be written for; how they were chosen is printed.

    Args:
        path: the term list.
        titles: those of them; None takes the terms without pairs in the file ``merged`` or,
            where there are none, all.
        merged: None is ``MERGED`` for the list ``TERMS``, and no file for another list.

    Raises:
        InputError: a title that is not in the list.
    """
    terms = read_terms(path)
    if titles:
        wanted = {normalize(title).strip() for title in titles}
        if unknown := sorted(wanted - {term["title"] for term in terms}):
            raise InputError(f"'{unknown[0]}' is not in {path}", field="titles")
        return [term for term in terms if term["title"] in wanted]
    if merged is None and Path(path).resolve() == TERMS and MERGED.exists():
        merged = str(MERGED)
    if merged is None:
        return terms
    known = {pair["title"] for pair in read_pairs(merged)}
    new = [term for term in terms if term["title"] not in known]
    if 0 < len(new) < len(terms):
        print(f"  {len(new)} of {len(terms)} terms have no pairs in {relative(merged)}: only they")
    elif not new:
        print(f"  all {len(terms)} terms have pairs in {relative(merged)}: more of each (--titles)")
    return new or terms


@dataclass(frozen=True)
class Wanted:
    """What is asked for, and with which wording.

    Args:
        pairs_per_term: pairs a term.
        prompts: the constants of ``PROMPTS``.
        sampling: of the pairs (temperature, top_p, max_tokens).
        thinking: the thinking budget, for both kinds of requests, where the SDK has one.
        worked: put the worked example first (for small local models).
        ask_blocked, room: as ``Request``.
    """

    pairs_per_term: int
    prompts: dict[str, str]
    sampling: dict
    thinking: dict
    worked: bool = False
    ask_blocked: bool = False
    room: int = 0

    @property
    def reply_tokens(self) -> int:
        """Tokens that a reply may have, for a plan."""
        return self.pairs_per_term * TOKENS_A_PAIR

    def pair_request(self, term: dict, pairs: list[dict] | None = None, sample: int = 0) -> Request:
        """The request for the pairs that a term lacks, which says what there is already.

        Args:
            pairs: what there is.
            sample: how many replies there are. After one of which nothing passed the prompt is
                the same, and takes another sample.
        """
        pairs = pairs or []
        known = ""
        if pairs:
            lines = "\n".join(f"- {pair['q']} / {pair['a']}" for pair in pairs)
            known = fill(self.prompts["AUGMENT_KNOWN"], pairs=lines)
        count = self.pairs_per_term - len(pairs)
        example = worked_example(self.prompts) if self.worked else []
        return Request(
            id=row_id("term", term["title"], len(pairs)),
            messages=[*example, _question(self.prompts, term, count, known)],
            sampling=self.sampling | self.thinking,
            schema=REPLY_SCHEMA,
            sample=sample,
            again=NEEDED,
            ask_blocked=self.ask_blocked,
            room=self.room,
        )

    def screen_request(self, pair: dict) -> Request:
        """The question whether a pair may stand in public data."""
        text = fill(self.prompts["HARMFUL"], text=f"{pair['q']}\n{pair['a']}")
        return Request(
            id=row_id("screen", pair["q"], pair["a"]),
            messages=[{"role": "user", "content": text}],
            sampling={"temperature": 0.0, "max_tokens": 256} | self.thinking,
            schema=VERDICT_SCHEMA,
            again=NEEDED,
            ask_blocked=self.ask_blocked,
            room=self.room,
        )

    def estimate(self, terms: list[dict], *, screen: bool) -> tuple[int, dict[str, int]]:
        """Calls of the first round, and their tokens ``{input, output}``."""
        pairs = len(terms) * self.pairs_per_term
        calls, tokens = len(terms), {"input": 0, "output": pairs * TOKENS_A_PAIR}
        for term in terms:
            messages = self.pair_request(term).messages
            tokens["input"] += sum(estimate_tokens(message["content"]) for message in messages)
        if screen:
            calls += pairs
            a_pair = estimate_tokens(self.prompts["HARMFUL"]) + TOKENS_A_PAIR
            tokens["input"] += pairs * a_pair
            tokens["output"] += pairs * TOKENS_A_PAIR
        return calls, tokens


def worked_example(prompts: dict) -> list[dict[str, str]]:
    """``AUGMENT_WORKED`` as a question and its answer."""
    try:
        row = json.loads(prompts["AUGMENT_WORKED"])
        reply = {
            "title": row["title"],
            "description": row["content"],
            "conversations": row["conversations"],
        }
        question = _question(prompts, row, len(row["conversations"]))
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"not the JSON of a term with its conversations ({error})",
            path=PROMPT_FILE,
            field="AUGMENT_WORKED",
        ) from None
    return [
        question,
        {"role": "assistant", "content": json.dumps(reply, ensure_ascii=False)},
    ]


def _question(prompts: dict, row: dict, count: int, known: str = "") -> dict[str, str]:
    values = {name: row[name] for name in ("title", "content", "example_q", "example_a")}
    text = fill(prompts["AUGMENT"], **values, count=count, known=known)
    return {"role": "user", "content": text}


def file_name(title: str) -> str:
    """A safe file name for any title: no separators, no dots in front, below 255 bytes.

    The hash at its end keeps titles apart that look the same without their signs.
    """
    safe = "".join(c if c.isalnum() or c in " -_" else "_" for c in title).strip()
    while len(safe.encode()) > 150:
        safe = safe[:-1]
    return f"{safe or 'term'}_{row_id('title', title)[:8]}.json"


def write_term(folder: Path, term: dict, pairs: list[dict]) -> None:
    """The term's file, or none while no pair has passed; one that is right is left alone."""
    if not pairs:
        return
    row = {"title": term["title"], "description": term["content"], "conversations": pairs}
    text = json.dumps(row, ensure_ascii=False, indent=2, allow_nan=False) + "\n"
    path = folder / file_name(term["title"])
    if not (path.is_file() and path.read_bytes() == text.encode()):
        write_text(path, text)


@contextlib.contextmanager
def rejected_rows(path: Path) -> Iterator[Callable[[dict], None]]:
    """A function that adds a row to the JSONL file at ``path``.

    Rows go to a temporary file beside it, moved into place at the end, also where the run
    was interrupted or had to stop. A killed run leaves the file of the run before: what was
    rejected comes out of the journal again.
    """
    temporary = path.with_name(f".{path.name}.part")

    def write(row: dict) -> None:
        handle.write(json.dumps(row, ensure_ascii=False) + "\n")

    def publish() -> None:
        handle.flush()
        os.fsync(handle.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)

    with open(temporary, "w", encoding="utf-8", newline="\n") as handle:
        try:
            yield write
        except (StopRunning, KeyboardInterrupt):
            if handle.tell() or not path.exists():  # a run in which nothing came changes nothing
                publish()
            else:
                temporary.unlink()
            raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        publish()


class Augmentation:
    """What has come of each term so far.

    Terms are handled in their order, so a run that was killed and one that was not decide alike.

    Args:
        model: the name that goes into each pair.
        folder: where the terms' files go.
        reject: writes a rejected row.
    """

    def __init__(
        self,
        terms: list[dict],
        wanted: Wanted,
        model: str,
        folder: Path,
        reject: Callable[[dict], None],
    ):
        self.terms, self.wanted = terms, wanted
        self._model, self._folder, self._reject = model, folder, reject
        # Only of unfinished terms: the pairs of the others are in their files.
        self._pairs: dict[str, list[dict]] = {term["title"]: [] for term in terms}
        self._answers: Counter[str] = Counter()
        self.found: dict[str, int] = {}
        self.status: dict[str, str] = {}
        self.replies: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.rejected = 0
        self._index = NearDuplicates()
        self._matcher = TermMatcher(terms)

    def prepare(self) -> None:
        """Load the morphology, which takes seconds: while the first requests are under way."""
        self._matcher.prepare()

    def unfinished(self) -> list[dict]:
        """The terms that may still get pairs, in order."""
        return [term for term in self.terms if term["title"] in self._pairs]

    def pair_request(self, term: dict) -> Request:
        """The request for what a term still lacks."""
        title = term["title"]
        return self.wanted.pair_request(term, self._pairs[title], self._answers[title])

    def passing(self, term: dict, record: dict, number: int) -> list[dict]:
        """The pairs of round ``number``'s reply that pass the checks; the others are rejected."""
        title, status = term["title"], record["status"]
        self.status[title] = status
        self.replies[status] += 1
        self._answers[title] += status == "ok"
        pairs = parse_reply(record["text"]) if status == "ok" else []
        room = self.wanted.pairs_per_term - len(self._pairs[title])
        good, bad = filter_pairs(pairs, term, room, self._matcher, self._index)
        self._set_aside(term, bad, number)
        return good

    def is_safe(self, term: dict, pair: dict, record: dict, number: int) -> bool:
        """Whether the screening calls the pair safe; a failed screening is never a pass."""
        status = record["status"]
        self.replies[f"screening {status}"] += 1
        if status == "ok":
            reason = VERDICTS[parse_verdict(record["text"])]
        else:
            reason = f"screening failed ({status})"
        if reason:
            self._set_aside(term, [{**pair, "reasons": [reason]}], number)
        return reason is None

    def add(self, term: dict, pairs: list[dict], *, last: bool) -> None:
        """Add pairs to a term. Where it is full or nothing more can come, write its file."""
        title = term["title"]
        self._pairs[title] += [{**pair, "model": self._model} for pair in pairs]
        may_grow = self.status[title] in ("ok", *NEEDED) and not last
        if len(self._pairs[title]) >= self.wanted.pairs_per_term or not may_grow:
            pairs = self._pairs.pop(title)
            self.found[title] = len(pairs)
            write_term(self._folder, term, pairs)

    def _set_aside(self, term: dict, pairs: list[dict], number: int) -> None:
        for pair in pairs:
            self._reject({"title": term["title"], "round": number, **pair})
            self.reasons.update(pair["reasons"])
        self.rejected += len(pairs)

    def failed(self) -> int:
        """Replies that the next run asks for again."""
        lost = sum(status in NEEDED for status in self.status.values())
        return lost + sum(self.replies[f"screening {status}"] for status in NEEDED)

    def summary(self) -> Iterator[str]:
        """Lines that say what came of it."""
        total, wanted = sum(self.found.values()), self.wanted.pairs_per_term
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.reasons.most_common())
        short = [title for title, found in self.found.items() if found < wanted]
        yield f"replies: {', '.join(f'{n} {name}' for name, n in sorted(self.replies.items()))}"
        yield f"pairs: {total} kept, {self.rejected} rejected" + (
            f" ({reasons})" if reasons else ""
        )
        full = len(self.terms) - len(short)
        yield f"terms: {full}/{len(self.terms)} have all their {wanted}"
        for title in short[:20]:
            status = self.status[title]
            why = "the others did not pass" if status == "ok" else status
            yield f"  {title}: {self.found[title]} ({why})"
        if len(short) > 20:
            yield f"  … and {len(short) - 20} more"
