"""The wording of augment.py: constants only.

A ``{placeholder}`` in lower case stands for a value; each constant's comment names the ones that
it must have. ``{item}`` is an item as ``ITEM`` shows it.
"""

# How an item is shown. Parts of which there is none are left out with their heading.
# {passage} {question} {plus} {choices}
ITEM = """\
[지문]
{passage}

[질문]
{question}

[보기]
{plus}

[선택지]
{choices}"""

# New items from a passage. {passage} {count} {n_choices}
NEW_ITEMS = """\
당신은 대학수학능력시험 국어·사회 영역의 출제 위원입니다. \
아래 지문만 읽고 풀 수 있는 객관식 문항을 {count}개 만드세요.

[지문]
{passage}

규칙
1. 선택지는 {n_choices}개이고, 정답은 하나뿐이며, 나머지는 지문에 비추어 분명히 틀립니다.
2. 지문을 읽지 않고 상식만으로는 풀 수 없어야 합니다.
3. 선택지의 길이와 말투를 비슷하게 맞추고, 정답만 길거나 자세하지 않게 합니다.
4. 정답의 위치를 문항마다 바꿉니다.
5. 지문의 문장을 그대로 옮기지 않고 뜻을 살려 바꾸어 씁니다.
6. 보기가 필요하면 question_plus에 쓰고, 필요 없으면 빈 문자열로 둡니다. \
ㄱ, ㄴ, ㄷ을 고르는 문항이면 보기에 ㄱ, ㄴ, ㄷ을 모두 적습니다.
7. answer는 정답의 번호(1부터)입니다."""

# New wrong choices for an item. {item} {answer} {count}
DISTRACTORS = """\
아래 객관식 문항의 오답 선택지를 새로 만드세요.

{item}

[정답]
{answer}

규칙
1. 오답은 {count}개입니다. 지문을 잘못 읽은 사람이 고를 만하되, 지문에 비추어 분명히 틀려야 합니다.
2. 정답과 길이, 말투, 자세한 정도가 비슷해야 합니다.
3. 이미 있는 오답을 되풀이하지 않습니다.
4. 다른 선택지를 가리키는 말(위의 모두, 정답 없음)을 쓰지 않습니다."""

# Reasoning that leads to the answer, which is not told. {item}
RATIONALE = """\
아래 객관식 문항을 차근차근 풀어 보세요. rationale에는 지문의 어느 부분이 근거인지, \
나머지 선택지는 왜 틀리는지 적고, answer에는 정답의 번호를 적습니다.

{item}"""

# A hint that does not name the answer. {item} {answer}
HINT = """\
아래 객관식 문항을 푸는 사람에게 줄 힌트를 한두 문장으로 쓰세요.

{item}

[정답]
{answer}

규칙
1. 지문의 어디를 어떻게 읽어야 하는지 알려 줍니다.
2. 정답의 번호나 내용을 말하지 않고, 어느 선택지가 틀렸는지도 말하지 않습니다.
3. 힌트와 선택지만 보고는 답을 고를 수 없어야 합니다."""

# An item is answered back. {item} {numbers}
ANSWER_BACK = """\
아래 객관식 문항을 풀고, 정답의 번호를 {numbers} 가운데 하나로 답하세요.

{item}"""

# The same without what is to be read. {item} {numbers}
ANSWER_BLIND = """\
아래 객관식 문항은 지문 없이 주어집니다. \
그래도 가장 그럴듯한 선택지의 번호를 {numbers} 가운데 하나로 답하세요.

{item}"""

# The hint alone, without passage and question. {hint} {choices} {numbers}
ANSWER_BY_HINT = """\
어떤 객관식 문항의 힌트와 선택지만 주어집니다. \
가장 그럴듯한 선택지의 번호를 {numbers} 가운데 하나로 답하세요.

[힌트]
{hint}

[선택지]
{choices}"""
