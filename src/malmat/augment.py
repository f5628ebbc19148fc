"""Mechanics of ``generate_augmented_pairs_gemini.py``: prompts, files, what came of a term."""

from __future__ import annotations

import contextlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from malmat.answer.request import ASK_AGAIN
from malmat.errors import InputError, StopRunning
from malmat.files import row_id, sync_folder, write_text
from malmat.prompts import PROMPT_FILE, fill
from malmat.text.duplicates import NearDuplicates
from malmat.text.pairs import VERDICTS, parse_reply, parse_verdict, sift
from malmat.text.terms import TermMatcher


def term_messages(
    prompts: dict, term: dict, count: int, pairs: list[dict], *, worked: bool = False
) -> list[dict[str, str]]:
    """The request for ``count`` pairs of a term, which says what there is already.

    Args:
        pairs: what there is.
        worked: put the worked example first (for small local models).
    """
    known = ""
    if pairs:
        lines = "\n".join(f"- {pair['q']} / {pair['a']}" for pair in pairs)
        known = fill(prompts["AUGMENT_KNOWN"], pairs=lines)
    example = worked_example(prompts) if worked else []
    return [*example, _ask(prompts, term, count, known)]


def worked_example(prompts: dict) -> list[dict[str, str]]:
    """``AUGMENT_WORKED`` as a question and its answer."""
    try:
        row = json.loads(prompts["AUGMENT_WORKED"])
        reply = {
            "title": row["title"],
            "description": row["content"],
            "conversations": row["conversations"],
        }
        question = _ask(prompts, row, len(row["conversations"]))
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


def _ask(prompts: dict, row: dict, count: int, known: str = "") -> dict[str, str]:
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
def rejects(path: Path) -> Iterator[Callable[[dict], None]]:
    """A function that sets a row aside in the JSONL file at ``path``.

    Rows go to a temporary file beside it, moved into place at the end, also where the run
    was interrupted or had to stop. A killed run leaves the file of the run before: what was
    rejected comes out of the journal again.
    """
    temporary = path.with_name(f".{path.name}.part")

    def set_aside(row: dict) -> None:
        handle.write(json.dumps(row, ensure_ascii=False) + "\n")

    def publish() -> None:
        handle.flush()
        os.fsync(handle.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)

    with open(temporary, "w", encoding="utf-8", newline="\n") as handle:
        try:
            yield set_aside
        except (StopRunning, KeyboardInterrupt):
            publish()
            raise
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        publish()


class Harvest:
    """What has come of each term so far. Terms are taken in order, so a run that was killed
    and one that was not decide alike.

    Args:
        wanted: pairs a term.
        model: the name that goes into each pair.
        reject: takes the rows that are set aside.
    """

    def __init__(
        self,
        terms: list[dict],
        wanted: int,
        model: str,
        folder: Path,
        reject: Callable[[dict], None],
    ):
        self.terms, self.wanted = terms, wanted
        self._model, self._folder, self._reject = model, folder, reject
        # Only of terms that are not settled: the pairs of the others are in their files.
        self.kept: dict[str, list[dict]] = {term["title"]: [] for term in terms}
        self._passed: dict[str, list[dict]] = {}
        self.answers: Counter[str] = Counter()
        self.found: dict[str, int] = {}
        self.status: dict[str, str] = {}
        self.replies: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.rejected = 0
        self._index = NearDuplicates()
        self._matcher = TermMatcher(terms)

    def short(self) -> list[dict]:
        """The terms that are not settled, in order."""
        return [term for term in self.terms if term["title"] in self.kept]

    def prepare(self) -> None:
        """Load the morphology, which takes seconds: while the first requests are under way."""
        self._matcher.prepare()

    def take(self, term: dict, record: dict, number: int) -> list[dict]:
        """The pairs of round ``number``'s reply that pass; the others are set aside."""
        title = term["title"]
        status, pairs = read(record, parse_reply)
        self.status[title] = status
        self.replies[status] += 1
        self.answers[title] += status == "ok"
        room = self.wanted - len(self.kept[title])
        good, bad = sift(pairs or [], term, room, self._matcher, self._index)
        self._set_aside(term, number, bad)
        return good

    def safe(self, term: dict, pair: dict, record: dict, number: int) -> bool:
        """Whether the screening calls the pair safe; a failed screening is never a pass."""
        status, label = read(record, parse_verdict)
        self.replies[f"screening {status}"] += 1
        reason = VERDICTS[label] if status == "ok" else f"screening failed ({status})"
        if reason:
            self._set_aside(term, number, [{**pair, "reasons": [reason]}])
        return reason is None

    def keep(self, term: dict, pairs: list[dict], *, last: bool) -> None:
        """Add pairs to a term and, where nothing more can come, settle it: write its file."""
        title = term["title"]
        self.kept[title] += [{**pair, "model": self._model} for pair in pairs]
        may_grow = self.status[title] in ("ok", *ASK_AGAIN) and not last
        if len(self.kept[title]) >= self.wanted or not may_grow:
            pairs = self.kept.pop(title)
            self.found[title] = len(pairs)
            write_term(self._folder, term, pairs)

    def _set_aside(self, term: dict, number: int, pairs: list[dict]) -> None:
        for pair in pairs:
            self._reject({"title": term["title"], "round": number, **pair})
            self.reasons.update(pair["reasons"])
        self.rejected += len(pairs)

    def failed(self) -> int:
        """Replies that the next run asks for again."""
        return sum(self.replies[f"{kind}{s}"] for kind in ("", "screening ") for s in ASK_AGAIN)


def read(record: dict, parse: Callable) -> tuple[str, object]:
    """A record's status and what ``parse`` makes of it (None unless ``ok``).

    A local model's reply is parsed here for the first time, and a batch's of an earlier run.
    """
    if record["status"] != "ok":
        return record["status"], None
    try:
        return "ok", parse(record["text"])
    except ValueError:
        return "parse_error", None
