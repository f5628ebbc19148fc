"""The preferences of ``human.py``: what raters are asked of two dialogues, and what they said."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from human_session import SIDES, PairSession, Session
from malmat.cli import relative
from malmat.errors import InputError
from malmat.evaluate import pairwise, results
from malmat.evaluate.agreement import text_of
from malmat.evaluate.task import Asked
from malmat.files import write_json
from malmat.formats import read_pairs, read_terms
from malmat.journal import Journal

PREFER = pairwise.Preference(
    name="prefer",
    questions={
        "typed_by_a_person": "어느 쪽이 사람이 친 것 같나요?",
        "used_right": "어느 쪽이 표현을 맞게 썼나요?",
    },
)
RULES = """\
- 두 대화는 서로 다른 모음에서 하나씩 뽑았고, 좌우는 무작위입니다. 한 쌍에 두 가지를 묻습니다.
- **사람이 친 것 같은 쪽**: 내용보다 말투, 줄임, 띄어쓰기, 반응이 실제 채팅 같은 쪽을 고릅니다.
- **표현을 맞게 쓴 쪽**: 위에 적힌 표현이 뜻과 말맛에 맞게 쓰인 쪽을 고릅니다.
- 어느 쪽이라 하기 어려우면 '비슷함'을, 표현을 몰라 답할 수 없으면 '모르겠어요'를 고릅니다."""


def read_sets(paths: list[str]) -> dict[str, list[dict]]:
    """Name → dialogues, of two files; a file's name, or its path where the names are the same."""
    names = [Path(path).name for path in paths]
    if names[0] == names[1]:
        names = [relative(path) for path in paths]
    if names[0] == names[1]:
        raise InputError("the same file twice", field="prefer", fix="Name two sets.")
    return {name: read_pairs(path) for name, path in zip(names, paths, strict=True)}


def prepared(args) -> Callable[[Journal], Session]:
    """The pairs drawn for a rater: a journal → their session."""
    sets, terms = read_sets(args.prefer), read_terms(args.terms)
    drawn = pairwise.draw(sets, args.seed, args.limit)
    if not drawn:
        raise InputError("no two dialogues that differ", field="prefer")
    of_one_term = bool(drawn[0]["title"])
    count = len({row["title"] for row in drawn}) if of_one_term else 0
    print(
        f"{len(drawn)} pairs, each of one of {count} terms that both sets have"
        if of_one_term
        else f"{len(drawn)} pairs of any terms: the sets have no term in common"
    )
    items = pairwise.for_rater(drawn, PREFER, args.rater, args.seed)
    asked = Asked(question="", labels=SIDES, rules=lambda prompts: RULES)

    def session(journal: Journal) -> Session:
        return PairSession(
            *(asked, RULES, items, journal),
            lambda item: pairwise.record_of(item, args.rater),
            terms,
        )

    return session


def summary(args) -> bool:
    """Print and write what the raters prefer; False where nobody rated."""
    files = results.ratings_files(args.results_dir, PREFER)
    records = [record for path in files for record in pairwise.read_preferences(path)]
    if args.prefer:
        given = len(records)
        records = pairwise.of_sets(records, read_sets(args.prefer))
        print(f"{given - len(records)} ratings left out: of other sets, or of changed dialogues")
    if not records:
        return False
    result = pairwise.summarize(PREFER, records)
    for comparison in result["comparisons"]:
        show(comparison)
    output = files[0].with_name("summary.json")
    write_json(output, result)
    print(f"wrote {relative(output)}")
    return True


def show(comparison: dict) -> None:
    print(f"{PREFER.name}: {' beside '.join(comparison['sets'])}, rated by hand")
    for name, asked in PREFER.questions.items():
        part = comparison["questions"][name]
        print(f" {asked}")
        for one, share in part["shares"].items():
            said = part["counts"].get(one, 0)
            print(
                f"  {one}: {text_of(share)} (preferred {said} times; "
                f"{share['n_scored']}/{share['n_total']} pairs rated)"
            )
        ties, skipped = (part["counts"].get(word, 0) for word in (pairwise.SAME, "skipped"))
        print(f"  the same {ties} times, skipped {skipped}; the left side {text_of(part['left'])}")
        show_agreement(part, "pairs")


def show_agreement(result: dict, what: str) -> None:
    """Print ``ratings.between_raters``; ``what`` was rated."""
    alpha = result["alpha"]
    print(
        f"  between raters: Krippendorff's alpha {text_of(alpha, 'alpha')} "
        f"({alpha['n_units']} {what} rated twice or more)"
    )
    for pair in result["pairs"]:
        names = " and ".join(pair["raters"])
        print(f"  {names}: weighted kappa {text_of(pair, 'kappa')} ({pair['n_common']} {what})")
