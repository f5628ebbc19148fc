"""Unicode forms, particles, and terms found as people write them."""

import itertools

import pytest

from malmat.formats import read_pairs, read_terms
from malmat.text.duplicates import squeeze
from malmat.text.korean import EMOJI, fold, hangul_share, has_final, normalize, with_particle
from malmat.text.terms import TermMatcher
from tests.conftest import ROOT

CONJOINING = "\u110b\u110b \u1105\u110b"
"""ᄋᄋ ᄅᄋ as NFKC and some tokenizers leave them."""


def test_jamo_that_stand_alone_come_back():
    assert normalize(CONJOINING) == "ㅇㅇ ㄹㅇ"
    assert normalize("\u110f\u110f\u1173") == "ㅋ크"
    assert normalize("\u1161\u11ab") == "ㅏㄴ"


def test_composed_text_stays():
    for text in ("갓생 사는 중 ㅋㅋ", "GOAT! 😂 ♥ №", "ㄳ ㅄ ㅢ"):
        assert normalize(text) == text
    assert normalize("\u1112\u1161\u11ab\u1100\u1173\u11af") == "한글"


def test_normalizing_twice_is_normalizing_once():
    letters = [chr(code) for code in range(0x1100, 0x1200, 3)]
    letters += [chr(code) for code in range(0x3131, 0x3164, 2)] + ["가", "각", "a"]
    for pair in itertools.product(letters, repeat=2):
        once = normalize("".join(pair))
        assert normalize(once) == once


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("ＴＭＩ, 갓생", "TMI, 갓생"),
        ("ㅋㅠㅠ ㄱㅏ", "ㅋㅠㅠ ㄱㅏ"),  # no 큐ㅠ, no 가
        (CONJOINING, "ㅇㅇ ㄹㅇ"),
        ("\uffb7\uffb7", "ㅇㅇ"),  # half width
        ("쌀ㆍ보리", "쌀·보리"),  # a vowel, typed for a middle dot
        ("쌀\u119e보리", "쌀·보리"),
    ],
)
def test_folding_for_comparison(text, folded):
    assert fold(text) == fold(folded) == folded


def test_squeezed_text_has_letters_alone():
    assert squeeze("ＴＭＩ~ 진짜?! ㅋㅠㅠ") == squeeze("tmi 진짜") == "tmi진짜"


@pytest.mark.parametrize(
    ("text", "share"),
    [("갓생", 1), ("ㅋㅋ", 1), (CONJOINING, 1), ("ab 가나", 0.5), ("123 !?", 0), ("", 0)],
)
def test_share_of_hangul(text, share):
    assert hangul_share(text) == share


@pytest.mark.parametrize(
    "word", ["갓생", "밈", "ㄹㅇ", "10", "7", "13", "HTML", "갓생!", "'갓생'", "「밈」", "밈)"]
)
def test_words_with_a_final_consonant(word):
    assert has_final(word)
    assert with_particle(word, "은/는") == word + "은"


@pytest.mark.parametrize("word", ["억까", "어쩔티비", "ㅏ", "2", "45", "JMT", "억까?", "", "ㅠ"])
def test_words_without_a_final_consonant(word):
    assert not has_final(word)
    assert with_particle(word, "이/가") == word + "가"


@pytest.mark.parametrize(
    ("word", "said"), [("갓생", "갓생으로"), ("서울", "서울로"), ("버스", "버스로"), ("8", "8로")]
)
def test_the_particle_that_treats_rieul_apart(word, said):
    assert with_particle(word, "으로/로") == said


# -------------------------------------------------------------------------------- terms

TITLES = [
    "폼 미쳤다",
    "갓생",
    "ㄹㅇ",
    "ㅇㅇ",
    "각",
    "OO 못 잃어",
    "킹받네",
    "어쩔티비",
    "점메추/저메추",
    "중꺾마(중요한 건 꺾이지 않는 마음)",
    "JMT",
    "~도르",
    "GOOD",
    "갓생살다",
    "부먹 vs 찍먹",
    "갓갓(유행어)",
    "가보자고",
    "되겠냐",
    "보고싶다",
    "지린다",
    "쩔다",
    "먹고살자",
    "썰",
]


@pytest.fixture(scope="module")
def matcher():
    forms = {"title": "완내스", "forms": ["완전내스타일", "완내스"]}
    return TermMatcher([*({"title": title} for title in TITLES), forms])


FOUND = {
    "inflected": ("오늘 폼이 미쳤네", ["폼 미쳤다"]),
    "without its space": ("폼미쳤다 진짜", ["폼 미쳤다"]),
    "with a particle": ("요즘 갓생을 꿈꾸고 있어", ["갓생"]),
    "a noun and a verb apart": ("오늘도 갓생 살았어요", ["갓생", "갓생살다"]),
    "… the stem's ㄹ dropped": ("갓생을 사는 친구", ["갓생", "갓생살다"]),
    "one of two that are compared": ("나는 찍먹이야", ["부먹 vs 찍먹"]),
    "with a space inside": ("나 요즘 갓 생 꿈꾼다", ["갓생"]),
    "another ending": ("아 진짜 킹받아", ["킹받네"]),
    "spelt in two words": ("어쩔 티비~", ["어쩔티비"]),
    "the second spelling": ("오늘 저메추 해줘", ["점메추/저메추"]),
    "the spelling in brackets": ("중요한 건 꺾이지 않는 마음이지", [TITLES[9]]),
    "a placeholder": ("나는 민초 못 잃어", ["OO 못 잃어"]),
    "a placeholder's end inflected": ("치킨은 절대 못 잃지", ["OO 못 잃어"]),
    "a placeholder in front of a suffix": ("감자도르 봤어?", ["~도르"]),
    "jamo": ("그거 ㄹㅇ?", ["ㄹㅇ"]),
    "jamo with laughter": ("ㄹㅇㅋㅋ", ["ㄹㅇ"]),
    "conjoining jamo": ("\u1105\u110b 맞아", ["ㄹㅇ"]),
    "jamo that look like a placeholder": ("ㅇㅇ 알겠어", ["ㅇㅇ"]),
    "drawn out": ("ㅇㅇㅇㅇ", ["ㅇㅇ"]),
    "Latin in another case": ("여기 jmt네", ["JMT"]),
    "Latin with two O": ("오늘 기분 good!", ["GOOD"]),
    "one syllable as a word": ("이건 떡상각 아니고 그냥 각이다", ["각"]),
    "two terms, in the list's order": ("ㅇㅇ 갓생 ㄹㅇ", ["갓생", "ㄹㅇ", "ㅇㅇ"]),
    "everyday verbs as they stand": ("그래 가 보자고!", ["가보자고"]),
    "everyday verbs in dictionary form": ("엄마 보고 싶어", ["보고싶다"]),
    "an ending that goes on": ("다 먹고살자고 하는 짓", ["먹고살자"]),
    "… in two words": ("내가 가겠냐고? 되겠냐고!", ["되겠냐"]),
    "a predicate in the present": ("와 지렸다", ["지린다"]),
    "a predicate of one syllable": ("완전 쩔더라", ["쩔다"]),
    "one syllable as a noun": ("썰 풀어 봐", ["썰"]),
    "a form of its own": ("이거 완전 내 스타일이야", ["완내스"]),
}


@pytest.mark.parametrize("name", FOUND)
def test_found(matcher, name):
    text, titles = FOUND[name]
    assert matcher.find(text) == titles


NOT_FOUND = {
    "inside another word": "생각이 많은 하루야",
    "inside another run of jamo": "ㅋㄹㅇ",
    "jamo before another": "ㄹㅇㅂㅌ",
    "half of a phrase": "오늘 날씨 미쳤다",
    "a phrase torn apart": "폼을 잡고 있다가 사람들이 와서 미쳤다",
    "Latin inside a word": "AJMTB",
    "around the two O": "GD 좋아",
    "a placeholder's end alone": "기억을 다 잃어버렸어",
    "a form almost": "완전 네 스타일",
    "everyday verbs of a title": "거기 가 봤는데 좋더라",
    "the only verb of a title": "이게 돼?",
    "an auxiliary verb": "한 번 해 보고 싶은 일",
    "one syllable as a verb": "김치를 썰었다",
    "one syllable inside a word": "어쩔 수 없다며 저쩔 냉장고래",
    "a label in brackets": "요즘 유행어가 뭐야",
    "nothing": "",
    "blanks": " \n ",
}


@pytest.mark.parametrize("name", NOT_FOUND)
def test_not_found(matcher, name):
    assert matcher.find(NOT_FOUND[name]) == []


def test_forms_replace_the_search_and_runs_of_jamo_are_words():
    terms = [{"title": "각", "forms": ["떡상각"]}, {"title": "ㅇㅇㅈ"}, {"title": "100점"}]
    slang = TermMatcher(terms)
    assert slang.find("이건 각이다") == []
    assert slang.find("이건 떡상 각이다") == ["각"]
    assert slang.find("ㅇㅇㅈ") == ["ㅇㅇㅈ"]
    assert slang.find("아 ㅈ") == []
    assert slang.find("시험 1점") == []
    assert slang.find("시험 100점") == ["100점"]


def test_all_terms_are_found_that_are_found_one_by_one():
    """``find`` looks only at terms that begin as something in the text does."""
    titles = [*TITLES, *(term["title"] for term in read_terms(ROOT / "src/data/terms.csv"))]
    slang = TermMatcher({"title": title} for title in dict.fromkeys(titles))
    texts = [text for text, _ in FOUND.values()]
    texts += [
        p["question"] + "\n" + p["answer"] for p in read_pairs(ROOT / "merged_final.json")[::100]
    ]
    texts += [" ".join(titles[n : n + 9]) for n in range(0, len(titles), 40)]
    for text in [*texts, "ıſ TMİ ẞ GOOD"]:
        expected = [title for title in slang._terms if slang.find(text, only=title)]
        assert slang.find(text) == expected


def test_emoji_are_no_typing_habits():
    assert EMOJI.sub("", "ㅋㅋ^^ 😂👍🏽 ㅠㅠ") == "ㅋㅋ^^  ㅠㅠ"
