"""A fake Gemini that writes Korean dialogue pairs: for trying and testing augmentation.

    python -m tests.fake_gemini --fault_rate 0.33 --latency 0.5

prints its URL (for ``--base_url``) and serves until SIGTERM or SIGINT. What it writes depends on
the prompt alone, so that faults, kills and the order of the calls cannot change it. Some pairs are
bad on purpose: an emoji, no term, a copy of the example, a copy of another term's pair.
"""

from __future__ import annotations

import json
import random
import re

from tests.fake_llm import main

WHO = [
    "엄마가",
    "동생이",
    "팀장님이",
    "룸메가",
    "선배가",
    "사촌이",
    "짝꿍이",
    "과대가",
    "사장님이",
    "이모가",
    "담임이",
    "후배가",
]
WHEN = [
    "어제",
    "아까",
    "주말에",
    "새벽에",
    "방금",
    "점심때",
    "퇴근길에",
    "월요일에",
    "수업 끝나고",
    "자기 전에",
]
WHERE = [
    "카페에서",
    "버스에서",
    "편의점에서",
    "단톡방에서",
    "도서관에서",
    "헬스장에서",
    "시장에서",
    "옥상에서",
]
WHAT = [
    "라면을 두 개나 끓였대",
    "우산을 또 잃어버렸어",
    "이사 갈 집을 보고 왔대",
    "머리를 짧게 잘랐더라",
    "자격증 시험을 신청했어",
    "고양이를 데려왔대",
    "약속을 까먹었더라",
    "새 노트북을 질렀어",
    "택시를 반대로 탔대",
    "발표 자료를 날렸어",
    "김장을 도와 달래",
    "낮잠을 네 시간 잤어",
]
SAY = [
    "완전 {} 느낌이네",
    "그건 {} 아니냐",
    "나도 요즘 {} 중이야",
    "역시 {} 소리 들을 만하다",
    "{} 하나로 설명 끝이지",
    "솔직히 {} 인정한다",
    "오늘도 {} 각이네",
    "이러다 {} 되겠다",
]
END = ["ㅋㅋㅋ", "ㅠㅠ", "", "!", "~", "ㅎㅎ"]


def dialogues(prompt: str, body: dict) -> str:
    """The reply to ``AUGMENT``, ``HARMFUL`` or ``AUGMENT_QUESTION``."""
    draw = random.Random(prompt)
    if "[글 시작]" in prompt:
        return json.dumps({"label": 1 if draw.random() < 0.03 else 0, "reason": "지어낸 까닭"})
    title = _field(prompt, "신조어")
    if "[이미 있는 질문]" in prompt:
        return json.dumps({"question": f"{_event(draw)} 이거 {title} 맞지?"}, ensure_ascii=False)
    count = int(re.search(r"(\d+)개 써", prompt)[1])
    pairs = [_pair(draw, title, prompt) for _ in range(count)]
    turns = [{"context": "친구와 1:1 대화", "q": q, "a": a} for q, a in pairs]
    reply = {"title": title, "description": _field(prompt, "뜻"), "conversations": turns}
    return json.dumps(reply, ensure_ascii=False)


def _field(prompt: str, name: str) -> str:
    return re.search(rf"^\[{name}\] (.*)$", prompt, re.MULTILINE)[1]


def _event(draw: random.Random) -> str:
    return " ".join(draw.choice(words) for words in (WHEN, WHERE, WHO, WHAT))


def _pair(draw: random.Random, title: str, prompt: str) -> tuple[str, str]:
    kind = draw.random()
    question, answer = _event(draw) + draw.choice(END), draw.choice(SAY).format(title)
    if kind < 0.01:
        return question, answer + " 😂"
    if kind < 0.02:
        return question, "그건 잘 모르겠는데 다음에 얘기하자"
    if kind < 0.03:
        return _field(prompt, "예시 질문"), answer
    if kind < 0.04:  # the same wherever it turns up: only one of them can be kept
        return "아까 카페에서 담임이 우산을 또 잃어버렸어", f"{title} 그 자체네 진짜"
    return question, f"{answer} {_event(draw)}{draw.choice(END)}"


if __name__ == "__main__":
    main(dialogues, __doc__)
