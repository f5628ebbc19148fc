"""The wording of Korean SAT questions: constants only; ``task.py`` has a renderer for each variant.

A prompt is made of parts, divided by a blank line. A ``{placeholder}`` in lower case stands for a
value; each constant's comment names the ones it must have. {numbers} names exactly as many numbers
as there are choices.
"""

# Above every prompt of the plain variants.
SYSTEM = """\
지문을 읽고 질문에 답하세요."""

# The system prompt of Rules.
SYSTEM_RULES = """\
당신은 수능 국어와 사회 문제를 푸는 전문가입니다. 다음을 지켜 정답을 하나만 고르세요.
1. 질문이 '옳은 것'을 묻는지 '옳지 않은 것'을 묻는지 먼저 확인합니다.
2. 지문에 적힌 사실만 근거로 삼습니다. 지문과 어긋나거나 지문으로 알 수 없는 선택지는 버립니다.
3. <보기>가 있으면 지문의 내용을 <보기>에 하나씩 맞추어 봅니다.
4. 선택지를 끝까지 모두 견준 다음에 고릅니다.
5. 지문이 사실을 묻는 실마리일 뿐이면 알고 있는 지식으로 판단합니다."""

# The system prompt of the variants that think before they answer.
SYSTEM_THINK = """\
지문을 읽고 질문의 답을 차근차근 생각한 뒤 정답을 고르세요."""

# The passage. {passage}
PASSAGE = """\
[지문]
{passage}"""

# The question. {question}
QUESTION = """\
[질문]
{question}"""

# The text that the question refers to, of items that have one. {plus}
PLUS = """\
<보기>
{plus}"""

# A hint that does not name the answer. {hint}
HINT = """\
[힌트]
{hint}"""

# The choices, a line each. {options}
OPTIONS = """\
[선택지]
{options}"""

# What is asked for. {numbers}
PICK = """\
{numbers} 가운데 정답의 번호 하나만 쓰세요."""

# The same where the item has a second text, which the question is about. {numbers}
PICK_WITH_PLUS = """\
<보기>와 지문을 함께 살펴 {numbers} 가운데 정답의 번호 하나만 쓰세요."""

# The same of the variants that think. {numbers} {mark}
PICK_THINKING = """\
각 선택지를 지문에 비추어 짧게 따져 본 다음, 마지막 줄에 '{mark}'이라고 쓰고 이어서 {numbers} \
가운데 정답의 번호 하나만 쓰세요."""

# What stands before the number at the end of a thought. No placeholder.
MARK = "정답:"

# What is asked for in ChoicesOnly, which shows neither passage nor question. {numbers}
PICK_BLIND = """\
어떤 시험 문제의 선택지입니다. {numbers} 가운데 정답일 것 같은 번호 하나만 쓰세요."""

# What a hint writer is asked for. No placeholder.
WRITE_HINT = """\
위 문제를 푸는 데 도움이 되는 힌트를 한두 문장으로 쓰세요. 정답의 번호나 내용을 밝히지 마세요."""
