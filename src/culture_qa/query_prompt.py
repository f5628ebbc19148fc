"""The wording of the query writer, for answering and for training: constants only."""

# Three search queries for a question. {question}
QUERIES = """\
다음 질문에 답하는 데 필요한 글을 백과사전에서 찾으려고 합니다. 서로 다른 낱말을 쓴 검색어 세 개를 \
한 줄에 하나씩 쓰세요. 번호나 설명은 쓰지 않습니다.

[질문]
{question}"""
