"""What a model wrote: the JSON that was asked for, and thoughts kept apart from the answer."""

import json

import pytest

from malmat.answer.provider import reply_status
from malmat.answer.replies import parse_object, split_thoughts, without_thoughts
from malmat.evaluate.items import OutOfRange
from malmat.evaluate.judges import GradeJudge, TermJudge
from malmat.text.pairs import pair_problems, parse_reply, parse_verdict
from malmat.text.terms import TermMatcher

grade, use = GradeJudge("G").read, TermJudge("T").read

GRADES = {
    '{"reason": "첫 줄\n둘째 줄", "score": 3}': 3,
    '{"reason": "칸\t이 있음", "score": 3}': 3,
    '{"reason": "맞음", "score": 3,\n}': 3,
    '[{"reason": ["가", "나",], "score": 3},]': 3,
    r'{"reason": "\(웃음\) C:\dir \_", "score": 3}': 3,
    '{"reason": "맞음", "score": " 3 "}': 3,
    '{"reason": "맞음", "score": 3.0}': 3,
    '{"SCORE": 3}': 3,
    '{"평가": {"세부": [{"score": 3}]}}': 3,
    '형식: {"reason": "이유", "score": 1~5}\n{"score": 3}': 3,
    '형식: {"reason": 이유, "score": 정수}\n{"score": 3}': 3,
    '형식: {"reason": "이유", "score": "1에서 5"}\n{"score": 3}': 3,
    '{"reason": NaN}{"score": 3}': 3,
    '{"예": "답변은 이렇다"} {"score": 3} {}': 3,
    '{"score": 3} 다시 말해 {"reason": "맞음", "score": "3"}': 3,
    '{"score": 3, "reason": "맞음", "score": 3}': 3,
    '{"reason": "<think>라고만 썼다", "score": 3}': 3,
    '{"reason": "</think>로 끝난다", "score": 3}': 3,
    '{"reason": "\\"{\\"score\\": 5}\\"라고 썼다", "score": 3}': 3,
    '<think>{"score": 1} 아니 "{</think>{"score": 3}': 3,
    '1점? {"score": 1}\n</think>\n{"score": 3}': 3,
    '[THINK]{"score": 1}[/THINK]{"score": 3}': 3,
    '<|channel|>analysis<|message|>{"score": 1}<|end|>'
    '<|start|>assistant<|channel|>final<|message|>{"score": 3}<|return|>': 3,
    '```json\n{"score": 3}\n```': 3,
    '{\u00a0"reason":\u3000"맞음",\u200b "ok": True, "more": None, "score"：3}': 3,
    '{"reason": "True\u00a0None，：", "score": 3,}': 3,
    '<scratchpad>{"score": 1}</scratchpad>{"score": 3}': 3,
    '{"score": 0}': OutOfRange,
}


@pytest.mark.parametrize("reply", GRADES)
def test_a_plain_grade_is_read(reply):
    if isinstance(GRADES[reply], int):
        assert grade(reply) == GRADES[reply]
    else:
        with pytest.raises(GRADES[reply]):
            grade(reply)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "3점",
        '{"score": 2} 라고 하겠지만 {"score": 3}',
        '{"score": 1}\n(답변에는 {"score": 5}라고 적혀 있다)',
        '{"답변": {"score": 5}, "score": 1}',
        '{"score": 5, "score": 1}',
        '{"score": 5, "Score": 1}',
        '{"score": 1, "reason": "가", "reason": "나"}',
        '{"reason": "초안 {"score": 2\n{"score": 4}',
        '{"reason": "그는 "싫다"고 했다", "score": 2} {"score": 4}',
        '{"score": 2.5}',
        '{"score": 2.5} {"score": 2}',
        '{"score": "2/5"}',
        '{"score": null}',
        '{"score": true}',
        '{"score": [3]}',
        '<think>{"score": 3}',
        '{"score": 3}</think>',
        '{"score": 3',
        '{"a":' * 5000,
    ],
)
def test_a_grade_that_is_not_plain_is_unreadable(reply):
    with pytest.raises(ValueError, match=r"judge|JSON"):
        grade(reply)


def test_a_use_is_read_as_a_grade_is():
    assert use('{"Used": "True", "Term": "갓생", "other": "",}') == (True, "갓생", "")
    assert use('{"used": false} {"used": false, "term": "", "other": null}') == (False, "", "")
    assert use('{"used": true 또는 false, "term": "신조어"} {"used": false}') == (False, "", "")
    for reply in (
        '{"used": false}\n답변에 {"used": true, "term": "갓생"}이라고 적혀 있다.',
        '{"used": true, "term": "갓생"} {"used": true, "term": "점메추"}',
        '{"used": true, "term": "갓생", "used": false}',
        '{"used": 1, "term": "갓생"}',
    ):
        with pytest.raises(ValueError, match=r"judge|JSON"):
            use(reply)


def test_pairs_and_labels_go_through_the_same_reader():
    turn = '{"context": "", "q": "뭐 해?", "a": "갓생\n사는 중"}'
    (pair,) = parse_reply('{"title": "갓생", "conversations": [' + turn + ",],}")
    assert pair["a"] == "갓생\n사는 중"
    doubled = f'{{"conversations": [{turn}], "conversations": []}}'
    for reply in (doubled, doubled.replace("[]", f"[{turn.replace('뭐 해', '어디')}]")):
        with pytest.raises(ValueError, match="twice"):
            parse_reply(reply)
    with pytest.raises(ValueError, match="twice"):
        parse_reply('{"conversations": [{"context": "", "q": "가", "q": "나", "a": "다"}]}')
    assert parse_verdict('{"label": "1"}') == 1
    with pytest.raises(ValueError, match="differ"):
        parse_verdict('{"label": 0} 아니면 {"label": 1}')
    assert parse_object('{"Question": "갓생 살아?",}', "question")["question"] == "갓생 살아?"


def test_a_damaged_letter_is_no_training_text():
    term = {"title": "갓생", "content": "알찬 생활", "forms": []}
    reply = '{"conversations": [{"context": "", "q": "요즘 뭐 해?", "a": "갓생 사는 중%s"}]}'
    (pair,) = parse_reply(reply % "\ufffd")
    assert pair_problems(pair, term, TermMatcher([term])) == ["damaged text"]
    (pair,) = parse_reply(reply % "")
    assert pair_problems(pair, term, TermMatcher([term])) == []


THOUGHTS = {
    "<think>\n갓생?\n</think>\n\n김밥 먹자.": ("김밥 먹자.", "갓생?"),
    "갓생?\n</think>\n\n김밥 먹자.": ("김밥 먹자.", "갓생?"),
    "<thought>갓생?</thought>김밥 먹자": ("김밥 먹자", "갓생?"),
    "<Thinking>갓생?</Thinking> 김밥 먹자": ("김밥 먹자", "갓생?"),
    "<seed:think>갓생?</seed:think>김밥 먹자": ("김밥 먹자", "갓생?"),
    "[THINK]갓생?[/THINK]김밥 먹자": ("김밥 먹자", "갓생?"),
    "<|channel>thought\n갓생?<channel|>김밥 먹자": ("김밥 먹자", "갓생?"),
    "<think>갓생?</think>김밥<think>킹받네?</think> 먹자": ("김밥 먹자", "갓생?\n\n킹받네?"),
    "<think></think>김밥 먹자": ("김밥 먹자", ""),
    "<|channel|>analysis<|message|>갓생?<|end|><|start|>assistant"
    "<|channel|>final<|message|>김밥 먹자<|return|>": ("김밥 먹자", "갓생?"),
    "<|channel|>final<|message|>김밥 먹자": ("김밥 먹자", ""),
    "analysis갓생?assistantfinal김밥 먹자": ("김밥 먹자", "갓생?"),
    "<think time='3'>갓생?</think >김밥 먹자": ("김밥 먹자", "갓생?"),
    "<analysis>갓생?</analysis>김밥 먹자": ("김밥 먹자", "갓생?"),
    "◁think▷갓생?◁/think▷김밥 먹자": ("김밥 먹자", "갓생?"),
    "<|begin_of_thought|>갓생?<|end_of_thought|>"
    "<|begin_of_solution|>김밥 먹자<|end_of_solution|>": ("김밥 먹자", "갓생?"),
    "<|START_THINKING|>갓생?<|END_THINKING|><|START_RESPONSE|>김밥 먹자<|END_RESPONSE|>": (
        "김밥 먹자",
        "갓생?",
    ),
    "<think>갓생?</think>\n<answer>김밥 먹자</answer>": ("김밥 먹자", "갓생?"),
    "<answer>김밥 먹자</answer>": ("<answer>김밥 먹자</answer>", ""),
    "<think>갓생을 쓸까": ("", "갓생을 쓸까"),
    "<|channel|>analysis<|message|>갓생을 쓸까": ("", "갓생을 쓸까"),
    " 김밥 <3 먹자 [1] ": (" 김밥 <3 먹자 [1] ", ""),
}


@pytest.mark.parametrize("text", THOUGHTS)
def test_thoughts_are_no_answer(text):
    parts = split_thoughts(text)
    assert (parts.text, parts.thoughts) == THOUGHTS[text]
    assert parts.whole == bool(parts.text)


@pytest.mark.parametrize("text", ["", " \n", "\u200b", "\u3164 ", "\ufeff\u2800"])
def test_a_reply_that_shows_nothing_is_empty(text):
    assert reply_status(text, "stop")["status"] == "empty"
    thought = {"text": f"<think>음</think>{text}", "status": "ok"}
    assert without_thoughts(thought)["status"] == "empty"


FINISHED = {
    "ok": ["STOP", "end-turn", "FinishReason.STOP", "StopSequence", "eos_token_id", "COMPLETE"],
    "truncated": [
        *("FinishReason.MAX_TOKENS", "MaxTokens", "max_new_tokens", "max-completion-tokens"),
        *("length_limit", "context_length_exceeded", "context_window"),
    ],
    "blocked": ["content-filter", "IMAGE_SAFETY", "guardrail_intervened", "ERROR_TOXIC"],
    "api_error": ["abort", "cancelled", "tool_use", "OTHER", "time_limit", "stopped by a fault"],
}


@pytest.mark.parametrize("status", FINISHED)
def test_a_finish_reason_means_one_thing_however_it_is_spelt(status):
    for finish in FINISHED[status]:
        assert reply_status("응", finish)["status"] == status, finish


def test_long_replies_are_read_in_no_time():
    for text in ('{"' * 20_000, '{"a": ' * 20_000, "<think>" * 20_000, "</think>" * 20_000):
        with pytest.raises(ValueError, match="JSON"):
            grade(text)
        split_thoughts(text)
    assert grade('{"예": 1}' * 20_000 + json.dumps({"score": 2})) == 2
