"""The lexicon judge: coined words count, everyday words need evidence."""

from __future__ import annotations

import pytest

from malmat.text.lexicon import SlangLexicon

TERMS = {
    "갓생": "부지런하고 알차게 사는 생활을 뜻한다.",
    "폼 미쳤다": "실력이나 상태가 아주 뛰어나다는 감탄이다.",
    "오히려 좋아": "나쁜 상황을 뒤집어 긍정적으로 받아들인다는 말이다.",
    "쉽지 않음": "난처한 상황에 짧게 답하는 말이다.",
    "고구마": "이야기 전개나 상황이 답답하다는 뜻으로 쓴다.",
    "사랑입니다": "무언가를 몹시 좋아한다는 표현이다.",
    "큰 그림": "먼 앞날을 내다보는 계획을 가리킨다.",
    "각": "무엇을 하기에 딱 좋은 상황이나 조짐을 뜻한다.",
    "러": "어떤 일을 자주 하는 사람을 가리킨다.",
    "갓(유행어)": "뛰어난 사람이나 물건을 높이는 말로, 명사 앞에 붙인다. 접두사처럼 쓴다.",
    "메타": "게임에서 요즘 통하는 전략을 가리킨다.",
    "갓생살다": "부지런히 산다는 말이다.",
    "어서오고": "반갑게 맞이하는 인사말이다.",
    "말아주다": "무언가를 해 준다는 말이다.",
    "꾸안꾸 꾸꾸꾸": "'꾸안꾸'는 꾸민 듯 안 꾸민 듯, '꾸꾸꾸'는 꾸며도 꾸질꾸질하다는 말이다.",
    "광속 탈락": "아주 일찍 떨어졌다는 말이다. 줄여서 광탈이라고도 한다.",
    "완내스": "마음에 꼭 든다는 말이다.",
}


@pytest.fixture(scope="module")
def lexicon():
    forms = {"완내스": ["완전내스타일"]}
    return SlangLexicon(
        {"title": title, "content": content, "forms": forms.get(title)}
        for title, content in TERMS.items()
    )


USED = {
    "coined, with a particle": ("요즘 갓생을 꿈꾸는 중", "갓생"),
    "coined, inflected": ("오늘 폼이 미쳤네", "폼 미쳤다"),
    "a rare phrase as it is written": ("비 온다고? 오히려 좋아 집에서 쉬자", "오히려 좋아"),
    "… without its space": ("오히려좋아 하루 종일 이불 속에서 만화책이나 봐야지", "오히려 좋아"),
    "everyday, quoted": ("주인공이 계속 참기만 하니 완전 '고구마'", "고구마"),
    "everyday, beside its explanation": ("이번 화는 너무 답답하다 고구마야", "고구마"),
    "everyday, with laughter behind a sentence": ("엄마 밥은 사랑입니다ㅋㅋㅋ", "사랑입니다"),
    "a syllable that ends a compound": ("오늘은 치킨각이다", "각"),
    "… after a space": ("이건 산책 각이지", "각"),
    "… after an ending": ("오늘 밤 샐 각이다", "각"),
    "… in quotation marks": ('"치킨" 각이네', "각"),
    "a compound that is in no dictionary": ("너 완전 산책러 됐네", "러"),
    "a syllable in front": ("이번엔 갓티켓팅 성공", "갓(유행어)"),
    "a noun and a verb written as one": ("오늘도 갓생 살았어요", "갓생살다"),
    "… with a particle, the stem's ㄹ dropped": ("갓생을 사는 친구가 있어", "갓생살다"),
    "a stem written as one word": ("노래 하나 말아줬다", "말아주다"),
    "half of a title that its explanation defines": ("꾸안꾸 느낌으로 입어", "꾸안꾸 꾸꾸꾸"),
    "a short form that the explanation names": ("나 이번에도 광탈했어", "광속 탈락"),
    "a form of its own": ("완전 내 스타일", "완내스"),
}


@pytest.mark.parametrize("name", USED)
def test_used(lexicon, name):
    text, title = USED[name]
    assert title in lexicon.find(text)


NOT_USED = {
    "everyday food": ("아침엔 삶은 고구마랑 우유를 먹어", "고구마"),
    "everyday phrase": ("벽에 큰 그림을 하나 걸었어", "큰 그림"),
    "everyday inflection of a phrase": ("멘토를 찾기가 쉽지 않습니다", "쉽지 않음"),
    "inside another word": ("메타인지를 길러야 해", "메타"),
    "a syllable of common words": ("각자 생각이 다르고 감각도 달라", "각"),
    "a determiner": ("연휴에 각 지역 축제를 찾아봐", "각"),
    "an ending": ("운동하러 가거나 영화 보러 가자", "러"),
    "a loanword's end": ("컬러 프린터와 스피커", "러"),
    "an adverb": ("방금 갓 만든 빵이야", "갓(유행어)"),
    "an exclamation that ends so": ("오마이갓 큰일 났다", "갓(유행어)"),
    "the words of a greeting apart": ("집에 어서 오고 싶다", "어서오고"),
    "another verb and auxiliary": ("그렇게 하지 말아 주세요", "말아주다"),
    "the label in a title's brackets": ("요즘 유행어가 뭐야", "갓(유행어)"),
}


@pytest.mark.parametrize("name", NOT_USED)
def test_not_used(lexicon, name):
    text, title = NOT_USED[name]
    assert title not in lexicon.find(text)


def test_compounds_of_a_syllable_are_more_than_forms_can_list():
    content = "그렇게 될 조짐을 뜻하며 다른 말 뒤에 붙는다."
    slang = SlangLexicon([{"title": "~각", "content": content, "forms": ["야근각"]}])
    assert slang.find("오늘도 야근각") == slang.find("이건 퇴사각이야") == ["~각"]
    assert slang.find("각자 생각해 봐") == []


def test_a_form_does_not_hide_a_word_that_stands_by_itself():
    content = "나쁜 상황을 뒤집어 긍정적으로 받아들인다는 말이다."
    forms = ["오히려좋(아(?!하)|네)"]  # 오히려 좋아하다 is another word
    slang = SlangLexicon([{"title": "오히려 좋아", "content": content, "forms": forms}])
    assert slang.find("오히려좋아 하루 종일 잘 거야") == ["오히려 좋아"]
    assert slang.find("걔는 그걸 오히려 좋아하더라") == []
    slang = SlangLexicon([{"title": "고구마", "content": content, "forms": ["고구마드라마"]}])
    assert slang.find("저녁은 고구마 하나") == []


def test_a_lenient_lexicon_finds_all_that_may_be_a_use():
    terms = [{"title": title, "content": content} for title, content in TERMS.items()]
    lenient = SlangLexicon(terms, lenient=True)
    assert "고구마" in lenient.find(NOT_USED["everyday food"][0])
    assert "각" in lenient.find("오늘은 치킨각이다")
