"""Two sets of dialogues side by side: what is drawn, how it is shown, and what the ratings say."""

from __future__ import annotations

import json

import pytest
from test_hostile import MARKUP, Structure

import human_prefer
import human_session
from malmat.evaluate import pairwise
from malmat.files import write_json, write_jsonl

PREFER = human_prefer.PREFER


def nested(path, name: str, titles, count: int = 3):
    """A set as merged_final.json and KoCulture have it."""
    rows = [
        {
            "title": title,
            "description": "뜻",
            "conversations": [
                {
                    "context": "채팅",
                    "q": f"{name} 질문 {n}",
                    "a": f"{name} {title} {n}",
                    "model": "m",
                }
                for n in range(count)
            ],
        }
        for title in titles
    ]
    write_json(path, rows)
    return path


@pytest.fixture
def sets(tmp_path):
    ours = nested(tmp_path / "ours.json", "ours", ["갓생", "텅장", "점메추", "우리만"])
    theirs = nested(tmp_path / "theirs.json", "theirs", ["텅장", "갓 생", "점메추", "그쪽만"], 2)
    return human_prefer.read_sets([ours, theirs])


# ---------------------------------------------------------------------------------- drawing


def test_a_pair_of_each_shared_term_is_drawn_and_then_a_second_one(sets):
    rows = pairwise.draw(sets, 1)
    assert {row["title"] for row in rows} == {"갓생", "텅장", "점메추"}, "spaces make no term"
    assert len(rows) == 3
    more = pairwise.draw(sets, 1, 100)
    assert more[:3] == rows
    assert len(more) == 6, "as many as the smaller set has of each"
    for row in more:
        ours, theirs = (row["dialogues"][name] for name in ("ours.json", "theirs.json"))
        assert ours["title"].replace(" ", "") == theirs["title"].replace(" ", "")
        assert ours["turns"][1]["content"].startswith("ours")
        assert theirs["turns"][1]["content"].startswith("theirs")
    texts = [one["id"] for row in more for one in row["dialogues"].values()]
    assert len(texts) == len(set(texts)), "no dialogue is shown twice"


def test_the_draw_is_the_seed_s_and_not_the_order_s(sets):
    rows = pairwise.draw(sets, 1, 100)
    assert rows == pairwise.draw(sets, 1, 100)
    turned = pairwise.draw(dict(reversed(sets.items())), 1, 100)
    assert {row["id"] for row in rows} == {row["id"] for row in turned}
    drawn = [[row["id"] for row in pairwise.draw(sets, seed)] for seed in range(6)]
    assert len({tuple(ids) for ids in drawn}) > 1


def test_sets_without_a_common_term_are_drawn_apart(tmp_path):
    ours = nested(tmp_path / "ours.json", "ours", ["가", "나"])
    theirs = nested(tmp_path / "theirs.json", "theirs", ["다", "라", "마"])
    rows = pairwise.draw(human_prefer.read_sets([ours, theirs]), 1)
    assert [row["title"] for row in rows] == ["", ""]
    assert {row["dialogues"]["ours.json"]["title"] for row in rows} == {"가", "나"}
    assert len({row["dialogues"]["theirs.json"]["title"] for row in rows}) == 2


def test_dialogues_of_one_text_are_no_pair(tmp_path):
    one = nested(tmp_path / "one.json", "same", ["갓생"])
    other = nested(tmp_path / "other.json", "same", ["갓생"])
    assert pairwise.draw(human_prefer.read_sets([one, other]), 1, 100) == []


def test_one_text_under_two_terms_is_two_questions(tmp_path):
    for name in ("ours", "theirs"):
        said = [{"q": f"{name} 뭐 해", "a": "그냥"}]
        rows = [{"title": t, "description": "뜻", "conversations": said} for t in ("가", "나")]
        write_json(tmp_path / f"{name}.json", rows)
    sets = human_prefer.read_sets([tmp_path / "ours.json", tmp_path / "theirs.json"])
    items = pairwise.for_rater(pairwise.draw(sets, 1), PREFER, "a", 1)
    assert len({item["key"] for item in items}) == 4


def test_conversations_of_several_turns_are_shown_whole(tmp_path):
    said = [("system", "반말"), ("user", "뭐 해"), ("assistant", "쉬어"), ("user", "또?")]
    said.append(("assistant", "갓생은 내일부터"))
    messages = [{"role": role, "content": text} for role, text in said]
    write_jsonl(tmp_path / "talk.jsonl", [{"title": "갓생", "messages": messages}])
    ours = nested(tmp_path / "ours.json", "ours", ["갓생"])
    [row] = pairwise.draw(human_prefer.read_sets([ours, tmp_path / "talk.jsonl"]), 1)
    turns = row["dialogues"]["talk.jsonl"]["turns"]
    assert [turn["content"] for turn in turns] == ["뭐 해", "쉬어", "또?", "갓생은 내일부터"]


def test_a_rater_has_an_order_and_sides_of_their_own(sets):
    rows = pairwise.draw(sets, 1, 100)
    first, second = (pairwise.for_rater(rows, PREFER, name, 1) for name in ("a", "b"))
    assert len(first) == 2 * len(rows)
    assert {item["key"] for item in first} == {item["key"] for item in second}
    assert [item["key"] for item in first] != [item["key"] for item in second]
    for one, other in zip(first[::2], first[1::2], strict=True):
        assert (one["id"], one["left"]) == (other["id"], other["left"])
        assert [one["question"], other["question"]] == list(PREFER.questions)
    later = {item["id"]: item["left"] for item in pairwise.for_rater(rows, PREFER, "a", 7)}
    assert later == {item["id"]: item["left"] for item in first}, "whatever the seed"


def test_either_set_stands_on_the_left(tmp_path):
    titles = [f"말{n}" for n in range(40)]
    files = [nested(tmp_path / f"{name}.json", name, titles, 1) for name in ("ours", "theirs")]
    rows = pairwise.draw(human_prefer.read_sets(files), 1)
    left = [item["left"] for item in pairwise.for_rater(rows, PREFER, "a", 1)[::2]]
    assert 8 < left.count("ours.json") < 32


# ---------------------------------------------------------------------------------- showing


def card_of(said: str, title: str) -> str:
    turns = [{"role": "user", "content": said}, {"role": "assistant", "content": said}]
    one = {"id": "x", "title": said, "turns": turns}
    item = {"title": title, "dialogues": {"ours": one, "theirs": one}, "left": "theirs"}
    terms = [{"title": said, "content": said, "forms": [], "near": []}]
    asked = human_prefer.Asked("", human_session.SIDES, lambda prompts: "")
    session = human_session.PairSession(asked, "", [item], {}, dict, terms)
    return session.card(0)


@pytest.mark.parametrize("shared", [True, False])
def test_no_text_becomes_structure(shared):
    cards = [card_of(said, said if shared else "") for said in ("보통 글", MARKUP)]
    assert Structure(cards[0]).tags == Structure(cards[1]).tags
    assert "<script" not in cards[1]
    assert "theirs" not in cards[0]


def test_the_meaning_is_found_however_the_term_is_spaced():
    turns = [{"role": "user", "content": "뭐 해"}]
    item = {"title": "갓 생", "dialogues": {"a": {"turns": turns}, "b": {"turns": turns}}}
    terms = [{"title": "갓생", "content": "알찬 삶", "forms": [], "near": []}]
    asked = human_prefer.Asked("", human_session.SIDES, lambda prompts: "")
    session = human_session.PairSession(asked, "", [item | {"left": "b"}], {}, dict, terms)
    assert "알찬 삶" in session.card(0)


# ---------------------------------------------------------------------------------- summary


def records_of(rater: str, given: dict[int, str | None], left: str = "ours") -> list[dict]:
    """Ratings of pairs by number, the same for both questions."""
    return [
        {
            "key": f"{question}-{number}",
            "id": f"pair-{number}",
            "title": f"말{number}",
            "question": question,
            "left": left,
            "dialogues": {"ours": f"o{number}", "theirs": f"t{number}"},
            "rater": rater,
            "rating": rating,
        }
        for number, rating in given.items()
        for question in PREFER.questions
    ]


def test_shares_count_ties_half_and_know_the_sides():
    given = {0: "left", 1: "left", 2: "right", 3: "same", 4: None}
    [found] = pairwise.summarize(PREFER, records_of("a", given))["comparisons"]
    part = found["questions"]["used_right"]
    ours, theirs = part["shares"]["ours"], part["shares"]["theirs"]
    assert (ours["mean"], theirs["mean"]) == (2.5 / 4, 1.5 / 4)
    assert (ours["n_scored"], ours["n_total"]) == (4, 5)
    assert theirs["interval"] == pytest.approx([1 - end for end in reversed(ours["interval"])])
    assert part["counts"] == {"ours": 2, "theirs": 1, "same": 1, "skipped": 1}
    [turned] = pairwise.summarize(PREFER, records_of("a", given, "theirs"))["comparisons"]
    part = turned["questions"]["used_right"]
    assert part["shares"]["ours"]["mean"] == 1.5 / 4
    assert part["left"]["mean"] == 2.5 / 4, "a habit of the left side shows"


def test_raters_are_averaged_and_their_agreement_is_given():
    first = records_of("a", {0: "left", 1: "right", 2: "same"})
    second = records_of("b", {0: "right", 1: "left", 2: "same"}, "theirs")
    [found] = pairwise.summarize(PREFER, first + second)["comparisons"]
    part = found["questions"]["typed_by_a_person"]
    assert part["alpha"]["alpha"] == pytest.approx(1), "the same set, on the other side"
    assert part["pairs"][0]["n_common"] == 3
    assert part["shares"]["ours"]["mean"] == 0.5
    third = records_of("c", {0: "left"}, "theirs")
    [found] = pairwise.summarize(PREFER, first + third)["comparisons"]
    assert found["questions"]["typed_by_a_person"]["shares"]["ours"]["mean"] == 1 / 3


def run(script, results, *words):
    return script("src/eval/human.py", *words, "--results_dir", results)


def test_the_summary_of_files_and_of_changed_sets(script, tmp_path, sets):
    results = tmp_path / "results"
    rows = pairwise.draw(sets, 1)
    for rater in ("a", "b"):
        lines = [
            pairwise.record_of(item, rater)
            | {"rating": "left" if item["left"] == "ours.json" else "right"}
            for item in pairwise.for_rater(rows, PREFER, rater, 1)
        ]
        write_jsonl(results / f"prefer/human_results/{rater}_prefer_ratings.jsonl", lines)
    done = run(script, results, "--summary")
    assert done.returncode == 0, done.stderr
    assert "ours.json: 1.00" in done.stdout
    assert "theirs.json: 0.00" in done.stdout
    assert "Krippendorff" in done.stdout
    value = json.loads((results / "prefer/human_results/summary.json").read_text("utf-8"))
    assert value["comparisons"][0]["sets"] == ["ours.json", "theirs.json"]
    nested(tmp_path / "ours.json", "anew", ["갓생"])
    words = ("--prefer", tmp_path / "ours.json", tmp_path / "theirs.json", "--summary")
    done = run(script, results, *words)
    assert done.returncode == 2
    assert "12 ratings left out" in done.stdout
    assert "no ratings" in done.stderr


def test_a_line_that_is_no_preference_is_refused(script, tmp_path):
    lines = records_of("a", {0: "left", 1: "better"})
    write_jsonl(tmp_path / "results/prefer/human_results/a_prefer_ratings.jsonl", lines)
    done = run(script, tmp_path / "results", "--summary")
    assert done.returncode == 2
    assert "line 3" in done.stderr
    assert "not a rating" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--prefer", "ours.json", "theirs.json"), "rater"),
        (("m", "usage", "--prefer", "ours.json", "theirs.json", "--rater", "a"), "models"),
        (("--prefer", "ours.json", "ours.json", "--rater", "a"), "same file twice"),
        (("--prefer", "ours.json", "none.json", "--rater", "a"), "no such file"),
    ],
)
def test_what_cannot_be_compared_is_named(script, tmp_path, sets, words, said):
    done = run(script, tmp_path / "results", *words)
    assert done.returncode == 2, done.stdout
    assert len(done.stderr.strip().splitlines()) == 1
    assert said in done.stderr
