"""Folds by cluster, and the check for leaks between training rows and those to be scored."""

from __future__ import annotations

import random
from collections import Counter, defaultdict

import pytest

from malmat.errors import InputError
from malmat.files import read_json, read_rows, write_jsonl
from malmat.folds import assign, find_leaks, refuse_leaks, unite

WORDS = [
    *("바람", "구름", "나무", "강물", "돌담", "별빛", "노을", "새벽"),
    *("겨울", "봄비", "여름", "가을", "하늘", "바다", "산길", "들꽃"),
]
CATEGORIES = ("원인", "전제", "동기", "반응")


def row(number: int, cluster: object, text: str = "", **more) -> dict:
    content = f"[대화]\n{text}\n[질문]\n알맞은 것은?"
    messages = [{"role": "user", "content": content}, {"role": "assistant", "content": "A"}]
    category = CATEGORIES[number % len(CATEGORIES)]
    return {
        "id": f"r{number}",
        "cluster": cluster,
        "category": category,
        "messages": messages,
    } | more


def dialogue(seed: int) -> str:
    draw = random.Random(seed)
    return "\n".join(f"화자{n % 2 + 1}: {' '.join(draw.choices(WORDS, k=6))}" for n in range(6))


ROWS = [row(n, f"c{n // 4}", dialogue(n // 4)) for n in range(120)]


def test_a_cluster_lies_in_one_fold_and_folds_are_balanced():
    folds = assign(ROWS, k=5, seed=42, by="cluster", balance="category")
    assert list(folds) == [one["id"] for one in ROWS]
    places = defaultdict(set)
    for one in ROWS:
        places[one["cluster"]].add(folds[one["id"]])
    assert all(len(found) == 1 for found in places.values())
    assert Counter(folds.values()) == dict.fromkeys(range(5), 24)
    for category in CATEGORIES:
        held = Counter(folds[one["id"]] for one in ROWS if one["category"] == category)
        assert set(held.values()) == {6}


def test_folds_depend_on_the_seed_and_not_on_the_order():
    settings = {"k": 4, "by": "cluster", "balance": None}
    folds, shuffled = assign(ROWS, seed=1, **settings), list(ROWS)
    random.Random(3).shuffle(shuffled)
    assert assign(shuffled, seed=1, **settings) == folds
    assert assign(ROWS, seed=2, **settings) != folds


def test_values_rarer_than_the_folds_and_numbers_as_clusters():
    rows = [row(n, n // 2, kind=n) for n in range(12)]
    folds = assign(rows, k=6, seed=0, by="cluster", balance="kind")
    assert set(Counter(folds.values()).values()) == {2}


@pytest.mark.parametrize(
    ("rows", "k", "said"),
    [
        ([], 2, "rows.jsonl: no rows"),
        ([*ROWS[:9], ROWS[3]], 2, "row r3 stands in it twice"),
        ([*ROWS[:9], {"cluster": "c"}], 2, "field 'id': row 10 has no id"),
        (
            [*ROWS[:9], {"id": "r77", "category": "원인"}],
            2,
            "field 'cluster': the row r77",
        ),
        ([*ROWS[:9], row(77, " ")], 2, "field 'cluster': the row r77"),
        ([*ROWS[:9], row(77, ["c1"])], 2, "field 'cluster': the row r77"),
        ([*ROWS[:9], row(77, "c", category=None)], 2, "field 'category': the row r77"),
        (ROWS[:12], 4, "3 clusters do not fill 4 folds"),
        (ROWS[:3], 2, "1 clusters do not fill 2 folds. Folds need two clusters or more"),
        (ROWS, 1, "two folds or more"),
    ],
)
def test_rows_that_cannot_be_divided(rows, k, said):
    with pytest.raises(InputError, match=said):
        assign(rows, k=k, seed=0, by="cluster", balance="category", path="rows.jsonl")


def test_leaks_by_id_cluster_and_text():
    train, held = ROWS[:60], ROWS[60:]
    assert find_leaks(train, held, by="cluster") == []
    copy = row(900, "another", dialogue(20) + "\n화자1: 그래")
    same = row(901, "c20", dialogue(400))
    leaks = find_leaks([*train, copy, same, held[0]], held, by="cluster")
    assert [(leak.train, leak.what) for leak in leaks] == [
        ("r900", "near-duplicate"),
        ("r901", "cluster"),
        ("r60", "id"),
    ]
    assert leaks[0].held == "r80"
    assert 0.7 <= leaks[0].similarity < 1
    with pytest.raises(InputError, match=r"a.jsonl, field 'cluster': 1 rows share .*r900 with r80"):
        refuse_leaks([*train, copy], held, by="cluster", train_path="a.jsonl")


def test_a_long_wording_makes_no_near_duplicates():
    wording = " ".join(WORDS * 3)
    rows = [row(n, f"c{n}", f"{wording}\n{dialogue(n)[:40]}") for n in range(20)]
    assert find_leaks(rows[:10], rows[10:], by="cluster") == []
    assert unite(rows, by="cluster") == {}


def test_choices_are_no_part_of_the_dialogue():
    choices = [f"{WORDS[n]} 때문에 늦은 저녁에 집을 나섰다" for n in range(3)]
    one, two = (
        row(n, f"c{n}", dialogue(n)[:30] + "\n" + "\n".join(choices), choices=choices)
        for n in range(2)
    )
    assert find_leaks([one], [two], by="cluster") == []


def test_the_script_writes_folds_that_pass_its_own_check(script, tmp_path):
    twin = [row(n, "twin", dialogue(7)) for n in range(200, 204)]  # dialogue c7, another name
    write_jsonl(tmp_path / "rows.jsonl", [*ROWS, *twin])
    words = ("src/data/folds.py", "--data", "rows.jsonl")
    more = ("--balance", "category", "--output", "folds.json", "--split_dir", "folds")
    result = script(*words, *more)
    assert result.returncode == 0, result.stderr
    record = read_json(tmp_path / "folds.json")
    assert record["united"] == {"twin": "c7"}
    assert record["folds"]["r200"] == record["folds"]["r28"]
    held = []
    for fold in range(5):
        sides = [f"folds/fold{fold}/{name}.jsonl" for name in ("train", "held")]
        train, scored = ([r for _, r in read_rows(tmp_path / side)] for side in sides)
        assert len(train) + len(scored) == 124
        held += [r["id"] for r in scored]
        check = script("src/data/folds.py", "--data", sides[0], "--against", sides[1])
        assert check.returncode == 0, check.stderr
    assert sorted(held) == sorted(record["folds"])
    before = (tmp_path / "folds.json").read_bytes()
    assert script(*words, *more).returncode == 0
    assert (tmp_path / "folds.json").read_bytes() == before


def test_the_script_refuses_a_leak(script, tmp_path):
    write_jsonl(tmp_path / "train.jsonl", ROWS[:60])
    write_jsonl(tmp_path / "test.jsonl", [row(500, "c3", dialogue(900)), *ROWS[60:]])
    words = ("--data", "train.jsonl", "--against", "test.jsonl")
    result = script("src/data/folds.py", *words)
    assert result.returncode == 2
    assert len(result.stderr.strip().splitlines()) == 1
    assert "4 rows share something with test.jsonl (4 by cluster)" in result.stderr
    assert "r12 with r500" in result.stderr
    assert script("src/data/folds.py", "--data", "train.jsonl").returncode == 2
