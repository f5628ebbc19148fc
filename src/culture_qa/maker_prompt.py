"""The wording of make_dpo_pairs.py and make_cot.py: constants only.

A ``{placeholder}`` in lower case stands for a value; each constant's comment names the ones that
it must have.
"""

# Wrong answers to a short question. {question} {answer} {count}
WRONG_SHORT = """\
아래 질문과 정답을 보고, 그럴듯하지만 분명히 틀린 답을 {count}개 쓰세요.

[질문]
{question}

[정답]
{answer}

규칙
1. 정답과 같은 종류의 말(사람이면 사람, 해면 해, 물건이면 물건)이어야 합니다.
2. 정답의 다른 이름, 줄임말, 다른 표기, 정답을 포함하는 말은 쓰지 않습니다.
3. 길이를 정답과 비슷하게 맞추고 설명을 붙이지 않습니다.
4. 정답일 수 있다는 의심이 조금이라도 들면 쓰지 않습니다."""

# Wrong answers to a question that is answered by a paragraph. {question} {answer} {count}
WRONG_LONG = """\
아래 질문에 대한 모범 답안을 보고, 사실이 틀린 답안을 {count}개 쓰세요.

[질문]
{question}

[모범 답안]
{answer}

규칙
1. 핵심이 되는 사실(때, 사람, 장소, 까닭, 방법)을 둘 이상 틀리게 씁니다.
2. 길이와 말투를 모범 답안과 같게 하고, 줄을 바꾸지 않습니다.
3. 모범 답안의 문장을 그대로 옮기지 않습니다.
4. 틀렸다는 표시나 설명을 붙이지 않습니다."""

# Is an answer right? {question} {answer}
CHECK = """\
아래 질문에 대한 답이 맞는지 판단하세요. 표기나 이름이 달라도 같은 것을 가리키면 맞는 답입니다. \
맞을 수도 있으면 right를 true로 하고, 분명히 틀렸을 때만 false로 합니다.

[질문]
{question}

[답]
{answer}"""

# A rationale that leads to an answer, right or wrong. {question} {answer}
RATIONALE = """\
아래 질문에 '{answer}'라고 답하게 되는 풀이를 쓰세요. \
알고 있는 사실에서 시작하여 차례로 좁혀 가며, 세 문장에서 여섯 문장으로 씁니다. \
번호나 '정답은'으로 답을 밝히지 말고 풀이만 씁니다.

[질문]
{question}"""

# The same, shorter. {question} {rationale}
REFINE = """\
아래 풀이를 두세 문장으로 줄이세요. 답에 이르는 데 꼭 필요한 사실만 남기고, \
새로운 사실을 더하지 않습니다. 번호나 '정답은'으로 답을 밝히지 않습니다.

[질문]
{question}

[풀이]
{rationale}"""

# A second reading: the answer, by the question and the rationale. {question} {rationale}
SECOND_READING = """\
아래 질문과 풀이를 읽고, 풀이가 이르는 답만 쓰세요. 보기가 있으면 그 번호만 씁니다.

[질문]
{question}

[풀이]
{rationale}"""
