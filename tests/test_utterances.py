"""Tidying chat dialogues: what goes, what stays, and that marked utterances are never lost."""

from __future__ import annotations

import random

import pytest

from malmat.text.mojibake import damage, misread_as
from malmat.text.utterances import STEPS, tidy


def turn(text, ids="a", speaker=1):
    return {"speaker": speaker, "utterance": text, "utterance_id": list(ids)}


def tidied(text, steps=STEPS):
    """One utterance after the steps, "" where it was deleted."""
    conversation, _ = tidy([turn(text)], [], steps)
    return conversation[0]["utterance"] if conversation else ""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("비가    온다", "비가 온다"),  # three spaces and more
        ("비가\n\n 온다\t.", "비가 온다 ."),
        ("7:30에 봐", "7:30에 봐"),
        ("3~4시쯤", "3~4시쯤"),
        ("3시 ~ 4시", "3시 ~ 4시"),
        ("오전 9시~오후 6시", "오전 9시~오후 6시"),
        ("10%~20%", "10%~20%"),
        ("월요일~금요일", "월요일~금요일"),
        ("3/4만 먹어", "3/4만 먹어"),
        ("2024-01-05에", "2024-01-05에"),
        ("010-1234-5678", "010-1234-5678"),
        ("안녕리에 살아", "안녕리에 살아"),
        ("안녕하세요~ 처음이죠?", "처음이죠?"),
        ("안녕!", ""),
        ("name10이랑 name1", "화자10이랑 화자1"),
        ("username1", "username1"),
        ("ㄱ자로 꺾어", "ㄱ자로 꺾어"),
        ("OK.", "OK."),
        ("3.5", "3.5"),
        ("100%", "100%"),
        ("60㎏에 25℃", "60㎏에 25℃"),
        ("A/S 되나", "A/S 되나"),
        ("C++ 해?", "C++ 해?"),
        ("ㅋㅋㅋㅋ", ""),
        ("\u110f\u110f\u110f", ""),  # conjoining jamo
        ("그래 ㅠㅠ..", "그래"),
        ("그래ㅋㅋ", "그래ㅋㅋ"),
        ("ㅇㅇㅇ", "응"),
        ("\u110b\u110b 그래", "응 그래"),
        ("ㅇㅇ이", "ㅇㅇ이"),
        ("뭐.......", "뭐..."),
        ("뭐?????", "뭐??"),
        ("좋아~♥!!", "좋아"),
        ("좋아~그래", "좋아 그래"),
        ("^^;;", ""),
        ("???!!", ""),
        ("네", "네"),  # one character says something
    ],
)
def test_one_utterance(text, expected):
    assert tidied(text) == expected
    assert tidied(expected) == expected


def test_a_step_can_be_left_out():
    for step, text in [("yes", "ㅇㅇㅇ가 그래"), ("greetings", "안녕"), ("names", "name1")]:
        assert tidied(text, [name for name in STEPS if name != step]) == text
    assert tidied("ㅋㅋ", ["merge"]) == "ㅋㅋ"


def test_neighbours_of_one_speaker_are_merged_but_never_across_a_marked_one():
    speakers = [1, "1", 2, 2, 2, 1]
    turns = [turn(f"말{n}", str(n), who) for n, who in enumerate(speakers)]
    conversation, changes = tidy(turns, {"3"})
    assert [one["utterance_id"] for one in conversation] == [["0", "1"], ["2"], ["3"], ["4"], ["5"]]
    assert conversation[0]["utterance"] == "말0 말1"
    assert [change.step for change in changes] == ["merge"]
    conversation, _ = tidy([turn("가", "12"), turn("나", "34")], {"3"})
    assert len(conversation) == 2


def test_a_marked_utterance_is_left_as_it_was_where_a_step_would_empty_it():
    for text in ("ㅋㅋ", "!!!", "안녕", "?"):
        conversation, changes = tidy([turn("그래", "a", 2), turn(text, "b")], {"b"})
        assert conversation[1] == turn(text, "b")
        assert any(change.guarded for change in changes)
        again, _ = tidy(conversation, {"b"})
        assert again == conversation


def test_tidying_twice_is_tidying_once_and_loses_no_marked_utterance():
    pieces = [
        "안녕",
        "name1",
        "ㅇㅇ",
        "....",
        "ㅋㅋ",
        "3",
        "시",
        "~",
        ":",
        "!",
        "♥",
        " ",
        "\n",
        "℃",
    ]
    pieces += ["-", "/", "(", ")", "?", "가", "A", "_", "%", "&", "=", "'", "<", ">", "하이"]
    draw = random.Random(1)
    for _ in range(2000):
        texts = ["".join(draw.choices(pieces, k=draw.randint(0, 8))) for _ in range(4)]
        turns = [turn(t, str(n), draw.choice([1, 2, "1"])) for n, t in enumerate(texts)]
        marked = {str(draw.randrange(4))}
        once, _ = tidy(turns, marked)
        assert tidy(once, marked)[0] == once, texts
        ids = [one for said in once for one in said["utterance_id"]]
        assert ids == sorted(ids)
        assert marked <= set(ids)


@pytest.mark.parametrize("text", ["안녕하세요", "후행사건", "비가 온다? 좋다", "화자1은 기쁘다."])
def test_misread_text_is_recognized(text):
    data = text.encode()
    assert misread_as(data.decode("latin-1")) == "Latin-1"
    assert misread_as(data.decode("cp949", "replace")) == "CP949"
    assert misread_as(data.decode("cp949", "replace").replace("\ufffd", "?")) == "CP949"


@pytest.mark.parametrize("text", ["안녕하세요", "비가 온다? 좋다", "화자1은 기쁘다."])
def test_other_ways_to_damage_text_are_recognized(text):
    data = text.encode()
    assert misread_as(data.decode("mac_roman")) == "Mac Roman"
    assert misread_as(data.decode("latin-1").encode().decode("latin-1")) == "Latin-1"
    assert misread_as(data.decode("cp1252", "ignore").encode().decode("latin-1")) == "Latin-1"
    assert damage(data.decode("euc_kr", "replace"))
    assert "U+FFFD" in damage(text.encode("cp949").decode("utf-8", "replace"))
    assert damage(text.encode("cp949").decode("latin-1")) == "CP949 that was read as Latin-1"


def test_sound_text_is_not_taken_for_misread():
    for text in (
        "안녕하세요",
        "뭐? 가자? 나가",
        "café für",
        "OK.",
        "",
        "ㅋㅋ",
        "湯 한자 湯",
        "뷁 쀍 햏",
        "한 글자\ufffd만 없다",
        "naïve Häagen-Dazs déjà vu",
        "보통" * 5,
        "보통" * 20_000,
        "우린? 우린?",
        "서?서?서?서?서?",
    ):
        assert damage(text) is None, text
