"""Where an answer runs on past its turn."""

import pytest

from malmat.lm.chat import run_on


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ("갓생 사는 중이야\nuser\n넌?", "user"),
        ("응\n  Assistant:  \n그래", "  Assistant"),
        ("model\n안녕", "model"),
        ("응\n사용자:\n넌?", "사용자"),
        ("응<end_of_turn>\n<start_of_turn>user", "<end_of_turn>"),
        ("응<|im_end|>\n<|im_start|>user", "<|im_end|>"),
        ("응<|eot_id|>", "<|eot_id|>"),
        ("응<|start_header_id|>user", "<|start_header_id|>"),
        ("응[|endofturn|]\n[|user|]", "[|endofturn|]"),
        ("응[INST] 다음 질문 [/INST]", "[INST]"),
        ("응\n### Instruction:\n다음", "### Instruction"),
        ("응\n### Response", "### Response"),
        ("<|endoftext|>", "<|endoftext|>"),
    ],
)
def test_the_place_where_another_turn_begins(answer, end):
    assert run_on(answer) == answer.index(end)


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "갓생 사는 중이야",
        "The user is happy.\nA model answer",
        "user 친화적인 앱이야",
        "사용자: 라고 쓰면 돼",
        "수식은 a<b, 배열은 [0] 이야",
        "### 요약\n좋아",
        "super user\n좋아",
        "<b>굵게</b> <end>",
    ],
)
def test_words_that_only_look_like_it(answer):
    assert run_on(answer) is None
