"""What comes of an augmentation: rows that are kept, drafts that are rejected, and the report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from malmat.answer.prices import estimate_tokens
from malmat.answer.request import NEEDED, Request
from malmat.contests.answer_back import Judged, Probe, judged
from malmat.contests.choice_order import shuffled
from malmat.contests.exam_quality import skew
from malmat.contests.held_back import HeldBack, question_of
from malmat.contests.makers import Draft, Maker, Prompts, Seed
from malmat.contests.mcq_rows import contest_row, with_content_id
from malmat.sources.row import Mcq
from malmat.text.duplicates import NearDuplicates

ANSWER_TOKENS = 10
"""Of output of an answer back, for a plan."""

HANDED_ON = ("source", "category", "licence", "evaluation_only")
"""Fields of a seed's row that what is made of it keeps."""


def maker_requests(
    maker: Maker,
    prompts: Prompts,
    seeds: Iterable[Seed],
    **settings: Any,
) -> Iterator[Request]:
    """One request a seed; ``settings`` as ``Request``."""
    for seed in seeds:
        yield Request(
            id=seed.id,
            messages=[{"role": "user", "content": maker.prompt(prompts, seed)}],
            schema=maker.schema(seed),
            again=NEEDED,
            **settings,
        )


def answer_tokens(prompts: Prompts, seeds: Sequence[Seed], votes: int) -> dict[str, int]:
    """The tokens of answering one draft a seed back ``votes`` times, for a plan."""
    texts = (prompts["ANSWER_BACK"] + seed.paragraph for seed in seeds)
    asked = sum(estimate_tokens(text) + 150 for text in texts)
    return {"input": votes * asked, "output": votes * len(seeds) * ANSWER_TOKENS}


class Augmentation:
    """What has come so far. Drafts are handled in their seeds' order, so that a run that was
    killed and one that was not decide alike.

    Args:
        held: what nothing that is kept may be like.
        renames: whether a kept item is a new one, with an id and a source of its own.
        reject: writes a rejected row.
    """

    def __init__(self, held: HeldBack, *, renames: bool, reject: Callable[[dict], None]):
        self._held, self._renames, self._reject = held, renames, reject
        self._index = NearDuplicates()
        self.items: list[Mcq] = []
        self.rows: list[dict[str, Any]] = []
        self.replies: Counter[str] = Counter()
        self.answers: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.missing = 0

    def drafts(self, maker: Maker, seed: Seed, record: dict) -> list[Draft]:
        """The drafts of a reply that pass the checks; the others are rejected."""
        self.replies[record["status"]] += 1
        if record["status"] in NEEDED:
            self.missing += 1
        if record["status"] != "ok":
            return []
        good = []
        for draft in maker.drafts(seed, record["text"]):
            reason = draft.reason or self._reason(draft)
            if reason:
                self.reject(draft, reason)
            else:
                good.append(self._named(draft))
        return good

    def _named(self, draft: Draft) -> Draft:
        assert draft.item is not None
        item = with_content_id("aug", draft.item) if self._renames else draft.item
        return replace(draft, item=item)

    def _reason(self, draft: Draft) -> str | None:
        assert draft.item is not None
        if reason := self._held.reason(draft.item):
            return reason
        if self._renames and self._index.add(question_of(draft.item), only_new=True):
            return "near-duplicate"
        return None

    def reject(self, draft: Draft, reason: str, judgement: Judged | None = None) -> None:
        """Write a draft to the rejected rows, with its reason and its votes."""
        self.reasons[reason] += 1
        row = {"made_from": draft.seed.id, "reason": reason, **draft.more}
        row |= judgement.right if judgement else {}
        self._reject(row | (contest_row(draft.item) if draft.item else {"raw": draft.raw}))

    def judge(
        self,
        drafts: Sequence[Draft],
        probes: Sequence[Probe],
        votes: int,
        answered: Iterable[tuple[Request, dict]],
        model: str,
    ) -> None:
        """Keep the drafts whose votes allow it, and reject the others."""
        records = iter(answered)
        for draft in drafts:
            found = judged(draft, probes, votes, records, self.answers)
            if found.missing:
                self.missing += 1
            elif found.reason:
                self.reject(draft, found.reason, found)
            else:
                self.keep(draft, model=model, votes=votes, **found.right)

    def keep_shuffled(self, seeds: Iterable[Seed], copies: int, seed: int) -> None:
        """Keep up to ``copies`` other orders of each seed's choices (``choice_order.shuffled``)."""
        for one in seeds:
            assert one.item is not None
            found = shuffled(one.item, copies, seed)
            if not found:
                self.reject(Draft(one, one.item), "the choices stay in order")
            for item in found:
                self.keep(Draft(one, with_content_id("aug", item)))

    def keep(self, draft: Draft, **more: Any) -> None:
        """Add a draft's row."""
        assert draft.item is not None
        row = {name: draft.seed.row[name] for name in HANDED_ON if name in draft.seed.row}
        if self._renames:
            row["source"] = f"augmented-{row.get('source') or 'own'}"
            row["made_from"] = draft.seed.id
        self.items.append(draft.item)
        self.rows.append(contest_row(draft.item, **row, **draft.more, **more))

    def report(self) -> dict[str, Any]:
        """Counts, and what can be had of the kept items without reading them."""
        return {
            "kept": len(self.rows),
            "rejected": dict(self.reasons.most_common()),
            "missing": self.missing,
            "replies": dict(self.replies),
            "answers": dict(self.answers),
            **skew(self.items),
        }

    def summary(self) -> Iterator[str]:
        """The counts in lines."""
        for name, counts in (("replies", self.replies), ("answers", self.answers)):
            if counts:
                yield f"{name}: " + ", ".join(f"{n} {kind}" for kind, n in sorted(counts.items()))
        reasons = ", ".join(f"{n} {reason}" for reason, n in self.reasons.most_common())
        rejected = sum(self.reasons.values())
        yield f"kept {len(self.rows)}, rejected {rejected}" + (f" ({reasons})" if reasons else "")
        if self.missing:
            yield f"missing: {self.missing}, asked for again by the same command"
