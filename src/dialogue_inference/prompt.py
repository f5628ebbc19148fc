"""The wording of dialogue inference: constants only; ``task.py`` has a renderer for each variant.

A prompt is made of parts, divided by a blank line. A ``{placeholder}`` in lower case stands for a
value; each constant's comment names the ones it must have.
"""

# A category a line: its name in the data | its official term | its definition.
TERMS = """\
원인 | 원인(cause) | 대화에 나온 일이 벌어지게 만든 사건
후행사건 | 후행 사건(subsequent event) | 대화에 나온 일에 이어서 벌어질 수 있는 사건
전제 | 전제 조건(prerequisite) | 대화에 나온 일이 가능하려면 먼저 있어야 하는 상태나 사건
동기 | 내적 동기(motivation) | 말하는 이가 그렇게 하도록 이끈 감정이나 기본 욕구
반응 | 감정 반응(emotional reaction) | 대화에 나온 일을 듣는 이가 보일 수 있는 감정적인 반응"""

# The dialogue, and the utterances that are asked about. {conversation} {references}
DIALOGUE = """\
[Conversation]
{conversation}

[Utterance References]
{references}"""

# The sentences to choose from, a line each. {options}
OPTIONS = """\
[Option]
{options}"""

# CustomRef asks by the short term. {asked}: the term with 으로 or 로.
CUSTOM_REF = """\
[Question]
위 대화에서 [Utterance References]에 적힌 발화의 {asked} 가장 알맞은 문장은?"""

# CustomRefOfficialTerm asks by the official term. {asked}
CUSTOM_REF_OFFICIAL_TERM = """\
[Question]
대화의 흐름을 볼 때 [Utterance References]에 적힌 발화의 {asked} 알맞은 것은 무엇인가요?"""

# CustomRefDefinition asks by the definition. {asked}
CUSTOM_REF_DEFINITION = """\
[Question]
[Utterance References]에 적힌 발화를 두고 볼 때, {asked} 가장 그럴듯한 문장은?"""

# CustomRefInstruction comes before the dialogue, the same for all categories; there is no question.
CUSTOM_REF_INSTRUCTION = """\
아래 대화를 끝까지 읽고, [Utterance References]에 적힌 발화와 [Inference]에 적힌 관계에 있는 문장을 \
[Option]에서 하나만 고르세요. 답은 기호와 문장을 함께 적습니다."""

# What is asked for, in CustomRefInstruction. {term}
INFERENCE = """\
[Inference]
{term}"""

# SystemRefOfficialTerm asks as CustomRefOfficialTerm does, below this system prompt. {terms}
SYSTEM_REF_OFFICIAL_TERM = """\
당신은 한국어 일상 대화를 세심하게 읽고 말 속에 드러나지 않은 맥락을 추론하는 전문가입니다.

[Conversation]에는 대화 전체가, [Utterance References]에는 그 가운데 질문의 대상이 되는 발화가, \
[Option]에는 후보 문장 세 개가 있습니다. 질문이 묻는 관계는 다음 다섯 가지 가운데 하나입니다.
{terms}

다음을 지키세요.
1. 대상 발화만 보지 말고 앞뒤 발화까지 읽어, 누가 무엇을 겪었고 무엇을 바라는지 먼저 정리합니다.
2. 화자를 혼동하지 않습니다. 문장의 주어가 대상 발화의 상황과 맞는지 확인합니다.
3. 질문이 묻는 관계의 뜻에 맞는 문장을 고릅니다. 대화에 나온 말을 되풀이했다고 해서 답이 되지는 않습니다.
4. 대화와 어긋나거나, 대화로는 알 수 없는 사실을 단정하는 문장은 버립니다.
5. 시간의 앞뒤를 따집니다. 이미 일어난 일, 먼저 있어야 할 일, 뒤에 일어날 일을 가립니다.
6. 답은 A, B, C 가운데 하나이며, 기호와 그 문장을 그대로 적습니다."""
