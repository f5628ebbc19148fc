"""Near-duplicates, the leak gate, the quality check, and this repository's own data."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from malmat.text.duplicates import NearDuplicates, shingles
from tests.conftest import ROOT

SENTENCES = [
    "오늘 점심은 회사 앞 국숫집에서 먹기로 했어",
    "주말에 이사하는데 짐 싸는 것 좀 도와줄 수 있어?",
    "그 드라마 마지막 회 보다가 울어서 눈이 퉁퉁 부었잖아",
    "헬스장 등록하고 두 번 가고 안 간 사람이 바로 나야",
]


def test_a_near_duplicate_is_found_whatever_its_spacing_and_laughter():
    index = NearDuplicates()
    for sentence in SENTENCES:
        assert index.add(sentence) == []
    ((number, similarity),) = index.find("오늘 점심은 회사앞 국숫집에서 먹기로 했어!! ㅋㅋㅋㅋ")
    assert (number, similarity) == (0, 1.0)
    ((number, similarity),) = index.find("이번 주말에 이사하는데 짐 싸는 것 좀 도와줄 수 있어?")
    assert number == 1
    assert 0.7 <= similarity < 1
    assert index.find("점심은 회사에서 먹기로 했고 국숫집은 안 가") == []


def test_among_many_like_texts_a_new_one_is_still_found_like_some():
    index = NearDuplicates()
    sizes = [len(index.add(f"{SENTENCES[0]} {number}")) for number in range(1000)]
    assert min(sizes[1:]) > 0
    assert max(sizes) <= 25 * 200, "each is held against the first of its buckets alone"
    assert len(index.find(SENTENCES[0])) < 1000
    assert index.find(SENTENCES[1]) == []


def test_similarity_is_the_exact_jaccard_of_trigrams():
    one, two = "가나다라마바", "가나다라마사"
    index = NearDuplicates(threshold=0.5)
    index.add(one)
    ((_, similarity),) = index.find(two)
    assert similarity == len(shingles(one) & shingles(two)) / len(shingles(one) | shingles(two))


def test_conjoining_and_compatibility_jamo_are_the_same():
    assert shingles("ᄅᄋ 진짜 대박") == shingles("ㄹㅇ 진짜 대박")


# ---------------------------------------------------------------------- the leak gate


def term(title, *pairs):
    turns = [{"context": f"상황 {i}", "q": q, "a": a} for i, (q, a) in enumerate(pairs)]
    return {"title": title, "description": f"{title}의 뜻", "conversations": turns}


@pytest.fixture
def leaky(tmp_path):
    """Three training terms with one leak each, one unseen term, one evaluation question."""
    rows = [
        term("갓생", (SENTENCES[0], "갓생 사네"), ("뭐 해?", "점메추 받는 중이야")),
        term("현타", (SENTENCES[1] + "ㅋㅋ", "현타 온다"), ("왜 그래", "현타 와서 누워 있어")),
        term("국룰", (SENTENCES[2], "다음 날 얼음찜질은 국룰이지"), ("치킨엔?", "맥주가 국룰")),
        term("점메추", (SENTENCES[2], "다음 날 얼음찜질이 국룰이지"), ("점심?", "점메추 좀")),
    ]
    (tmp_path / "merged.json").write_text(json.dumps(rows, ensure_ascii=False))
    (tmp_path / "q.jsonl").write_text('{"title": "점메추", "split": "unseen"}\n')
    (tmp_path / "e.json").write_text(json.dumps({"questions": [SENTENCES[1]]}, ensure_ascii=False))
    (tmp_path / "terms.csv").write_text(
        "title,content,forms\n점메추,점심 메뉴 추천,점메추\n갓생,부지런한 삶,갓생\n"
    )
    return [
        "src/data/split.py",
        *("--input", tmp_path / "merged.json", "--questions", tmp_path / "q.jsonl"),
        *("--eval_questions", tmp_path / "e.json", "--terms", tmp_path / "terms.csv"),
        *("--output_dir", tmp_path / "data"),
    ]


def test_the_leak_gate_stops_with_a_list_and_writes_nothing(script, tmp_path, leaky):
    result = script(*leaky)
    assert result.returncode == 2
    assert result.stderr.count("\n") == 1
    assert "3 leaks" in result.stderr
    assert "held-out term '점메추' in the training row of '갓생'" in result.stdout
    assert "evaluation question" in result.stdout
    assert "held-out row" in result.stdout
    assert not (tmp_path / "data").exists()


def test_leaking_rows_can_be_dropped_or_kept_and_are_recorded(script, tmp_path, leaky):
    def train_rows():
        lines = (tmp_path / "data" / "train.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    assert script(*leaky, "--leaks", "drop").returncode == 0
    assert [row["title"] for row in train_rows()] == ["갓생", "현타", "국룰"]
    assert script(*leaky, "--leaks", "report").returncode == 0
    assert len(train_rows()) == 6
    record = json.loads((tmp_path / "data" / "split.json").read_text())
    kinds = {"held-out term": 1, "evaluation question": 1, "held-out row": 1}
    assert record["leaks"] == kinds
    listed = (tmp_path / "data" / "leaks.jsonl").read_text("utf-8").splitlines()
    assert Counter(json.loads(line)["kind"] for line in listed) == kinds


def test_spelling_variants_of_a_held_out_term_stay_on_its_side(script, tmp_path):
    rows = [
        term("점 메추~", ("배고파", "점 메추 받을래")),
        term("점메추", ("뭐 먹지", "점메추 좀")),
        term("국룰", ("치킨엔?", "맥주가 국룰")),
    ]
    (tmp_path / "m.json").write_text(json.dumps(rows, ensure_ascii=False))
    (tmp_path / "q.jsonl").write_text('{"title": "점메추", "split": "unseen"}\n')
    result = script(
        *("src/data/split.py", "--input", tmp_path / "m.json", "--questions", tmp_path / "q.jsonl"),
        *("--eval_questions", "--output_dir", tmp_path / "data"),
    )
    assert result.returncode == 0, result.stderr
    record = json.loads((tmp_path / "data" / "split.json").read_text())
    assert record["train"]["terms"] == ["국룰"]
    assert record["heldout"]["terms"] == ["점 메추~", "점메추"]


def test_a_finished_split_is_not_made_again(script, tmp_path, leaky):
    assert script(*leaky, "--leaks", "drop").returncode == 0
    again = script(*leaky, "--leaks", "drop")
    assert again.returncode == 0
    assert "already split" in again.stdout


@pytest.mark.parametrize("name", ["train.jsonl", "heldout.jsonl", "leaks.jsonl", "split.json"])
def test_a_split_that_lacks_a_file_is_made_again(script, tmp_path, leaky, name):
    """As where a run with other options was killed: split.json is removed first."""
    assert script(*leaky, "--leaks", "drop").returncode == 0
    file = tmp_path / "data" / name
    whole = file.read_bytes()
    file.unlink()
    again = script(*leaky, "--leaks", "drop")
    assert again.returncode == 0, again.stderr
    assert "already split" not in again.stdout
    assert file.read_bytes() == whole


def test_what_was_edited_by_hand_is_never_overwritten(script, tmp_path, leaky):
    assert script(*leaky, "--leaks", "drop").returncode == 0
    file = tmp_path / "data" / "train.jsonl"
    file.write_text(file.read_text("utf-8").splitlines()[0] + "\n", encoding="utf-8")
    mine = file.read_bytes()
    again = script(*leaky, "--leaks", "drop")
    assert again.returncode == 0
    assert "train.jsonl was edited since it was split, and is kept" in again.stdout
    other = script(*leaky, "--leaks", "report")
    assert other.returncode == 2
    assert "remove split.json" in other.stderr
    assert file.read_bytes() == mine
    (tmp_path / "data" / "split.json").unlink()
    assert script(*leaky, "--leaks", "report").returncode == 0
    assert file.read_bytes() != mine


def test_a_file_given_twice_and_a_title_spelt_twice_count_once(script, tmp_path, leaky):
    both = leaky.index("--input") + 1
    leaky.insert(both, leaky[both])
    rows = json.loads(leaky[both].read_text("utf-8"))
    rows.append(term("점 메추", ("오늘은?", "점 메추 부탁")))
    leaky[both].write_text(json.dumps(rows, ensure_ascii=False))
    assert script(*leaky, "--leaks", "report").returncode == 0
    record = json.loads((tmp_path / "data" / "split.json").read_text())
    assert record["leaks"]["held-out term"] == 1
    assert (record["train"]["pairs"], record["heldout"]["pairs"]) == (6, 3)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--threshold", "2"), "--threshold"),
        (("--threshold", "0"), "--threshold"),
        (("--output_dir", "terms.csv"), "is no folder"),
    ],
)
def test_options_that_cannot_be(script, tmp_path, leaky, words, said):
    done = script(*leaky, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# ------------------------------------------------------------------ the quality check


def test_check_finds_each_kind_of_fault(script, tmp_path):
    good = [
        (SENTENCES[i % 4] + f" {i}번째 이야기야", f"그건 갓생 {i}일차라서 그래") for i in range(8)
    ]
    rows = [term("갓생", *good)]
    turns = rows[0]["conversations"]
    turns[0] |= {"q2": "덤"}
    turns[1]["a"] = "그냥 살아"
    turns[2] |= {"a": "갓생 산다 \U0001f600"}
    turns[3]["context"] = ""
    turns[4]["a"] = "ᄅᄋ 갓생이네"
    turns.append(dict(turns[5]))
    turns.append({**turns[6], "q": turns[6]["q"].replace("이야기야", "얘기야")})
    turns.append({"context": "영어", "q": "Only English words here", "a": "갓생"})
    turns.append({"context": "끝", "q": "갓", "a": "갓생"})
    rows.append(
        term("현타", *[("왜 그래 " + s, f"현타가 와서 {n}") for n, s in enumerate(SENTENCES)])
    )
    path = tmp_path / "merged.json"
    path.write_text(json.dumps(rows, ensure_ascii=False))
    result = script(
        *("src/data/check.py", "--input", path, "--terms", path),
        *("--output", tmp_path / "c.html", "--rows", tmp_path / "rows.jsonl"),
    )
    assert result.returncode == 1, result.stderr
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    kinds = {(row["check"], row["title"], row.get("number")) for row in found}
    for name, number in [
        ("stray key", 1),
        ("term not found", 2),
        ("emoji", 3),
        ("missing key", 4),
        ("conjoining jamo", 5),
        ("exact duplicate", 9),
        ("near-duplicate in the term", 10),
        ("not Korean", 11),
        ("too short or long", 12),
    ]:
        assert (name, "갓생", number) in kinds, name
    assert ("repeated opening", "현타", None) in kinds
    assert ("one position for most", "현타", None) in kinds
    assert ("too few pairs", "현타", None) in kinds
    assert "14 checks over their limit" in result.stdout
    assert "갓생" in (tmp_path / "c.html").read_text()


def test_check_finds_glosses_that_do_not_fit(script, tmp_path):
    pairs = [(SENTENCES[i % 4], f"갓생 {i}일차") for i in range(3)]
    path = tmp_path / "merged.json"
    path.write_text(json.dumps([term("갓생", *pairs)], ensure_ascii=False))
    (tmp_path / "terms.csv").write_text(
        "title,content,example_q,example_a,gloss,near\n"
        "갓생,뜻,q,a,부지런한 갓 생 살이,현생;없음\n"
        f"현생,뜻,q,a,{'긴 ' * 21},\n"
        "밈,뜻,q,a\n"
    )
    result = script(
        *("src/data/check.py", "--input", path, "--terms", tmp_path / "terms.csv"),
        *("--output", tmp_path / "c.html", "--rows", tmp_path / "rows.jsonl"),
    )
    assert result.returncode == 1, result.stderr
    found = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]
    glosses = [(row["check"], row["title"], row.get("near")) for row in found[-4:]]
    assert glosses == [
        ("gloss too long", "현생", None),
        ("gloss holds its term", "갓생", None),
        ("near term not mutual", "갓생", "현생"),
        ("near term not mutual", "갓생", "없음"),
    ]
    assert "of 17 checks" in result.stdout


def test_check_of_a_file_without_pairs_is_one_line(script, tmp_path):
    (tmp_path / "m.json").write_text("[]")
    result = script("src/data/check.py", "--input", tmp_path / "m.json")
    assert result.returncode == 2
    assert "no dialogue pairs" in result.stderr


def test_this_repositorys_data_passes_its_checks(script, tmp_path):
    result = script("src/data/check.py", "--output", tmp_path / "c.html")
    assert result.returncode == 0, result.stdout
    result = script("src/data/split.py", "--output_dir", tmp_path / "data")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "60 of 120 evaluation terms are trained on, 60 are not" in result.stdout


def test_this_repositorys_evaluation_sets_have_their_shapes():
    from malmat.files import read_rows
    from malmat.formats import read_pairs, read_questions, read_terms
    from malmat.text.terms import TermMatcher

    terms = read_terms(ROOT / "src/data/terms.csv")
    assert len(terms) >= 320
    assert all(term["example_q"] and term["example_a"] for term in terms)
    assert len(read_pairs(ROOT / "merged_final.json")) >= 3500
    understand = read_questions(ROOT / "src/eval/understand_questions.json")
    usage = read_questions(ROOT / "src/eval/usage_questions.json")
    sample = [row for _, row in read_rows(ROOT / "src/eval/meme_sample_with_questions.jsonl")]
    assert (len(understand), len(usage), len(sample)) == (120, 100, 120)
    assert [row["split"] for row in sample].count("unseen") == 60
    assert [row["title"] for row in sample] == [row["title"] for row in understand]
    everyday = {term["title"] for term in terms if term["status"] == "everyday"}
    assert len(everyday) >= 20
    assert {row["title"] for row in sample} & everyday == set()
    assert sum(term["date"] >= "2023" for term in terms if term["title"] in {
        row["title"] for row in sample}) >= 40  # fmt: skip
    assert all(row["reference"] and len(row["rubric"].splitlines()) == 2 for row in understand)
    matcher = TermMatcher(terms)
    for row in understand:
        assert matcher.find(row["question"], only=row["title"]), row
    for row in usage:
        assert not matcher.find(row["question"]), row


def test_this_repositorys_misuses_turns_and_preferences(script, tmp_path):
    from malmat.files import read_rows
    from malmat.formats import read_pairs, read_preferences, read_terms
    from malmat.text.misuse import misuse_faults, read_misuse

    terms, rows = (
        read_terms(ROOT / "src/data/terms.csv"),
        read_misuse(ROOT / "src/data/misuse.jsonl"),
    )
    assert len(rows) >= 960
    assert list(misuse_faults(rows, terms)) == []
    turns = read_pairs(ROOT / "src/data/turns.jsonl")
    assert len(turns) >= 400
    assert {row["title"] for row in turns} <= {term["title"] for term in terms}
    assert all(row["messages"][0]["role"] == "user" for row in turns)
    output = tmp_path / "preferences.jsonl"
    result = script("src/data/preferences.py", "--output", output)
    assert result.returncode == 0, result.stdout + result.stderr
    preferences = read_preferences(output)
    sample = read_rows(ROOT / "src/eval/meme_sample_with_questions.jsonl")
    unseen = {row["title"] for _, row in sample if row["split"] == "unseen"}
    assert len(preferences) >= 500
    assert {row["title"] for row in preferences} & unseen == set()
    lengths = [len(row["rejected"]) / len(row["chosen"]) for row in preferences]
    assert 0.7 <= min(lengths) <= max(lengths) <= 1.43


def test_a_rejected_answer_that_holds_a_held_out_term_is_a_leak():
    from malmat.errors import InputError
    from malmat.text.leaks import leak_gate

    row = {"id": "1", "messages": [{"role": "user", "content": "점심 뭐 먹지"}]}
    row |= {"chosen": "김밥이나 먹자", "rejected": "점메추 받은 대로 먹자"}
    held = [{"title": "점메추", "split": "unseen"}]
    with pytest.raises(InputError, match="held-out term '점메추'"):
        leak_gate([row], held)
    assert leak_gate([row | {"rejected": "굶어"}], held) == []


def test_a_part_of_a_held_out_conversation_is_a_leak():
    from malmat.text.leaks import find_leaks

    talk = [
        {"role": "user", "content": SENTENCES[0]},
        {"role": "assistant", "content": "ㅇㅇ 나도"},
    ]
    talk += [{"role": "user", "content": "왜"}, {"role": "assistant", "content": SENTENCES[2]}]
    held = {"id": "h", "title": "", "question": "왜", "answer": SENTENCES[2], "messages": talk}
    pair = {"id": "p", "title": "", "question": SENTENCES[0], "answer": "ㅇㅇ 나도!"}
    assert [leak["kind"] for leak in find_leaks([pair], held=[held])] == ["held-out row"]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"kind": "rude"}, "kind"),
        ({"misuse": " "}, "misuse"),
        ({"reason": None}, "reason"),
    ],
)
def test_a_row_that_is_no_misuse_is_named(tmp_path, change, problem):
    from malmat.errors import InputError
    from malmat.text.misuse import misuse_faults, read_misuse

    row = {"id": "1", "title": "갓생", "kind": "literal", "context": "톡", "question": "뭐 해?"}
    row |= {"apt": "갓생 사느라 바빠", "misuse": "갓생이라는 가게 왔어", "reason": "가게가 아니다."}
    path = tmp_path / "m.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    terms = [{"title": "갓생"}]
    assert {n for n, _ in misuse_faults(read_misuse(path), terms)} == {"too few misuses"}
    short = [row | {"kind": "wrong_sense", "apt": "응", "misuse": "갓생을 먹는 중이야 지금"}]
    assert {n for n, _ in misuse_faults(short, terms)} == {
        "misuse without its term", "misuse of another length", "too few misuses",
    }  # fmt: skip
    path.write_text(json.dumps(row) + "\n" + json.dumps(row | change | {"id": "2"}))
    with pytest.raises(InputError, match=f"line 2, field '{problem}'"):
        read_misuse(path)


def test_shares_are_counted_of_what_is_typed():
    from malmat.text.shares import shares

    texts = [("야 뭐해ㅋㅋ", "집 가는중임.. ㄹㅇ 피곤"), ("점심 먹었어?", "네. 먹었어요")]
    found = shares([{"q": q, "a": a, "context": "엄마와 톡"} for q, a in texts], ["q", "a"])
    assert found["question with ㅋ"] == found["question with ?"] == 0.5
    assert found["answer with initials"] == found["answer with typed dots"] == 0.5
    assert found["answer with a full stop inside"] == found["polite answer"] == 0.5
    assert found["setting: family"] == 1
    assert found["term in question only"] == 0.5
    noun = shares([{"q": "뭐 함", "a": "자는중임ㅋㅋ"}, {"q": "뭐 함", "a": "내 마음"}])
    assert noun["answer ending in 음/ㅁ"] == 0.5


def test_of_many_answers_an_even_part_is_analysed():
    from malmat.text.shares import ANALYSED, spread

    few, many = ["가"] * ANALYSED, [str(n) for n in range(3 * ANALYSED + 1)]
    assert spread(few) is few
    assert len(spread(many)) == ANALYSED
    assert spread(many)[0] == "0"
    assert int(spread(many)[-1]) > 3 * ANALYSED - 5
