"""Every reader on thousands of inputs that nobody would think of: a valid result, or one line.

Half of the inputs are sound files with a few edits, half are values of any shape under the names
that the files have. The same inputs are drawn at every run.
"""

from __future__ import annotations

import json
import random
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import merge
from malmat.answer.prices import read_prices
from malmat.answer.replies import parse_object, split_thoughts, whole_number, without_thoughts
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.anchors import read_anchors
from malmat.evaluate.items import OutOfRange, numbers, read_choices, read_label, read_splits
from malmat.evaluate.judges import GradeJudge, TermJudge
from malmat.evaluate.ratings import read_ratings
from malmat.evaluate.task import load_tasks, registered_tasks
from malmat.files import canonical, read_json, read_rows
from malmat.formats import read_pairs, read_preferences, read_questions, read_terms
from malmat.models import read_models
from malmat.prompts import load_prompts
from malmat.text.pairs import parse_reply, parse_verdict
from malmat.train.card import read_card

pytestmark = pytest.mark.slow

INPUTS = 1000
TASKS = registered_tasks()
TERMS = [{"title": "갓생", "content": "부지런한 삶"}]


def merged(path):
    whole = merge.Merged()
    whole.add_file(path)
    return [whole.terms]


def tasks_of(path):
    return [task.name for task in load_tasks([path]).values()]


TURNS = [{"role": "user", "content": "뭐 해?"}, {"role": "assistant", "content": "갓생 살아"}]
OTHER = {"role": "assistant", "content": "휴식 중"}
FLAT = {"title": "갓생", "question": "뭐 해?", "answer": "갓생 살아"}
NESTED = {"title": "갓생", "description": "뜻", "conversations": [{"q": "뭐 해?", "a": "쉬어"}]}
SHARED = {"conversations": [{"from": "human", "value": "뭐 해"}, {"from": "gpt", "value": "쉬어"}]}
ALPACA = {"instruction": "뭐 해?", "input": "지금", "output": "쉬어", "history": [["아", "응"]]}
PREFERENCE = {"prompt": "뭐 해?", "chosen": "갓생 살아", "rejected": "휴식 중입니다"}
SCORE = {"model_name": "m", "task": "understand", "average_score": 3.0, "scorer_name": "j"}
SCORED = {"id": "1", "question": "뭐 해?", "answer": "쉬어", "status": "ok", "score": 3.0}
RATING = {"key": "k", "id": "1", "model": "m", "rater": "r", "rating": 3}
TABLE = 'title,content,example_q,example_a,forms\n갓생,뜻,뭐 해?,갓생,갓생\n현타,"뜻, 둘",왜,응,\n'
TASK_FILE = """from malmat.evaluate.task import GRADE, RATE, SHARE, Task
from malmat.evaluate.items import read_choices
from pathlib import Path
def render(prompts, item, passages):
    return []
TASK = Task(name="a", title="A", about="b", scale=RATE, questions=Path("q.json"),
            read=read_choices, render=render, scorer="accuracy", slices=("source",))
"""


def rows_of(*rows):
    """Sound files of these rows: a list, and a row a line."""
    return [
        json.dumps(rows, ensure_ascii=False, indent=1),
        "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows),
    ]


READERS = {  # name: reader, ending, sound files
    "rows": (read_rows, "json", rows_of(FLAT, [1, None], "가")),
    "table": (read_rows, "csv", [TABLE, TABLE.replace(",", "\t"), "sep=;\na;b\n1;2\n"]),
    "terms": (read_terms, "csv", [TABLE]),
    "terms_json": (read_terms, "json", rows_of(NESTED, {"title": "a", "content": "b"})),
    "pairs": (read_pairs, "json", rows_of(FLAT, NESTED, {"messages": TURNS}, SHARED, ALPACA)),
    "pairs_csv": (read_pairs, "csv", ["title,question,answer\n갓생,뭐 해?,쉬어\n,\"가\n나\",다\n"]),
    "preferences": (
        read_preferences,
        "jsonl",
        rows_of(PREFERENCE, {"chosen": TURNS, "rejected": [TURNS[0], OTHER]}),
    ),
    "questions": (
        read_questions,
        "json",
        [*rows_of(FLAT, "왜?"), '{"questions": ["가", "나"]}', '{"questions": [{"q": "가"}]}'],
    ),
    "questions_txt": (read_questions, "txt", ["뭐 해?\n왜?\n"]),
    "choices": (
        read_choices,
        "json",
        rows_of({"question": "뭐?", "choices": ["가", "나"], "target": "가", "title": "갓생"}),
    ),
    "splits": (read_splits, "jsonl", rows_of({"title": "갓생", "split": "unseen"})),
    "anchors": (
        lambda path: read_anchors(path, TASKS, TERMS, "terms.csv"),
        "jsonl",
        rows_of({"task": "understand", "probe": "a", "grade": 3, **FLAT}),
    ),
    "answers": (
        results.read_answers,
        "json",
        rows_of(SCORED, FLAT, {"prompt": "a", "predict": "b"}),
    ),
    "scores": (
        lambda path: list(results.load(path, TASKS).rows.values()),
        "json",
        [json.dumps({**SCORE, "results": [SCORED]}, ensure_ascii=False, indent=1)],
    ),
    "ratings": (
        lambda path: read_ratings(path, TASKS["understand"]).records,
        "jsonl",
        rows_of(RATING),
    ),
    "merge": (merged, "json", rows_of(NESTED, FLAT)),
    "models": (
        lambda path: [repr(row) for row in read_models(path).values()],
        "json",
        ['{\n"a": {"script": "train_x.py",\n "model_name": "o/n", "lora_r": 4},\n'
         '"b": {"answer": {"api": "gpt", "top_p": 0.5}}}'],
    ),
    "prices": (
        read_prices,
        "json",
        ['{"date": "d", "models": {"a": {"input": 1, "output": 2.5}}}'],
    ),
    "card": (lambda path: read_card(str(path)), "json", ['{"about": "a", "tags": ["b"]}']),
    "prompt": (
        lambda path: load_prompts(path, {"CHAT": {"question"}, "JUDGE": set()}),
        "py",
        ['"""Words."""\n\nCHAT = "말해: {question}"\nJUDGE = """가\n나"""\nLIST = [1]\n'],
    ),
}  # fmt: skip

WORDS = sorted(
    {word for _, _, files in READERS.values() for text in files for word in text.split('"')}
    | {'"', "{", "}", "[", "]", ",", ":", "\n", "\r", "\r\n", "\t", ";", "\\", "\\n", "\\u0000"}
    | {"\\ud800", "\ufeff", "\u200b", "\u3164", "NaN", "1e999", "-0", "null", "true", "9" * 30}
    | {"1" * 5000, "{" * 60, "[" * 3000, "(" * 300, "-" * 9000, "#", "'", '"""', "=", "f", "{a}"}
    | {"\x1b[31m", "\x00", "<script>", "../", "한" * 300, "e\u0301", "각", "NULL", "N/A", "sep="}
)
TEXT = st.one_of(st.sampled_from(WORDS), st.text(max_size=8))
SCALAR = st.one_of(
    *(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
    st.sampled_from(["", " ", "ok", "blocked", "user", "assistant", "understand", 3, 1e308, -1]),
)
KNOWN = (
    *("messages", "results", "choices", "target", "split", "forms", "near", "content", "role"),
    *("from", "value", "q", "models", "api", "script", "model_name", "weight", "task", "grade"),
)
NAMES = st.one_of(
    st.sampled_from(
        [*NESTED, *FLAT, *ALPACA, *PREFERENCE, *SCORE, *SCORED, *RATING, *KNOWN],
    ),
    TEXT,
)
VALUE = st.recursive(
    SCALAR,
    lambda part: st.one_of(
        st.lists(part, max_size=3), st.dictionaries(NAMES, part, max_size=5), st.just(TURNS)
    ),
    max_leaves=8,
)
VALUES = st.lists(st.one_of(st.dictionaries(NAMES, VALUE, max_size=6), VALUE), max_size=3)
EDIT = st.tuples(
    st.integers(0, 10**6), st.sampled_from([0, 0, 1, 2, 9]), st.one_of(st.just(""), TEXT)
)
EDITS = st.lists(EDIT, min_size=1, max_size=4)


def edited(text: str, edits) -> bytes:
    for place, cut, put in edits:
        place %= len(text) + 1
        text = text[:place] + put + text[place + cut :]
    return text.encode("utf-8", "surrogatepass")


def written(rows, shape: int) -> bytes:
    """Rows as a list, as lines, the first alone, or as a table."""
    if shape == 0:
        text = json.dumps(rows, ensure_ascii=False)
    elif shape == 1:
        text = "\n".join(json.dumps(row) for row in rows)
    elif shape == 2:
        text = json.dumps(rows[0] if rows else None)
    else:
        tables = [row for row in rows if isinstance(row, dict)]
        text = "\n".join(
            [",".join(tables[0] if tables else ["a"])]
            + [",".join(map(str, row.values())) for row in tables]
        )
    return text.encode("utf-8", "surrogatepass")


def inputs(files):
    return st.one_of(
        st.builds(edited, st.sampled_from(files), EDITS),
        st.builds(written, VALUES, st.integers(0, 3)),
        st.binary(max_size=40),
    )


def many(count: int = INPUTS):
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def outcome(reader, path) -> str:
    """``read`` with a result that a file can hold, or ``refused`` in a line that names it."""
    try:
        result = reader(path)
    except InputError as error:
        said = str(error).encode().decode()
    else:
        canonical(result).decode("utf-8")
        return "read"
    assert str(path) in said
    assert "\n" not in said
    return "refused"


@pytest.mark.parametrize("name", READERS)
def test_a_reader_reads_or_says_in_one_line_where_it_cannot(name, tmp_path, record_property):
    reader, ending, files = READERS[name]
    path, began, count = tmp_path / f"file.{ending}", time.monotonic(), {"read": 0, "refused": 0}

    for text in files:  # the sound files are sound
        path.write_text(text, encoding="utf-8")
        assert reader(path) is not None

    @many()
    @given(data=inputs(files))
    def read(data):
        path.write_bytes(data)
        count[outcome(reader, path)] += 1
        assert path.read_bytes() == data

    read()
    seconds = time.monotonic() - began
    record_property(
        "account", f"{name}: {count['read']} read, {count['refused']} refused, {seconds:.1f} s"
    )


FIELD = st.sampled_from(["name", "scorer", "choose", "slices", "scale", "questions", "judge", "x"])
LITERAL = st.one_of(SCALAR, st.lists(SCALAR, max_size=2), st.just(()))


def test_a_task_file_is_a_task_or_one_line(tmp_path, record_property):
    path, began = tmp_path / "task.py", time.monotonic()

    @many()
    @given(name=FIELD, value=LITERAL, edit=st.tuples(st.integers(0, 600), st.integers(0, 3)))
    def read(name, value, edit):
        place, cut = edit
        text = TASK_FILE[:-2] + f", **{{{name!r}: {value!r}}})\n"
        text = text[:place] + text[place + cut :]  # only cuts: a task file is run
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        outcome(tasks_of, path)

    read()
    record_property("account", f"task file: {INPUTS} inputs, {time.monotonic() - began:.1f} s")


REPLIES = (
    '{"reason": "이유", "score": 4}',
    '<think>4 아니면 5</think>\n```json\n{"score": "3", "reason": "가\n나"}\n```',
    '{"used": true, "term": "갓생", "reason": "\\"있다\\""}',
    '{"title": "a", "description": "b", "conversations": [{"context": "c", "q": "가", "a": "나"}]}',
    '<|channel|>analysis<|message|>음<|end|><|channel|>final<|message|>{"label": -1, "reason": ""}',
    "정답: 2",
)
REPLY = st.one_of(
    st.builds(edited, st.sampled_from(REPLIES), EDITS),
    st.builds(written, VALUES, st.integers(0, 2)),
)
REPLY_READERS = {
    "object": lambda text: parse_object(text, "score"),
    "pairs": parse_reply,
    "verdict": parse_verdict,
    "grade": GradeJudge("JUDGE_UNDERSTAND").read,
    "used": TermJudge("JUDGE_USAGE").read,
    "choice": lambda text: read_label(text, numbers(["가", "나", "다"])),
}


@pytest.mark.parametrize("name", REPLY_READERS)
def test_a_reply_is_read_or_unreadable(name, record_property):
    reader, began, count = REPLY_READERS[name], time.monotonic(), {"read": 0, "unreadable": 0}

    @many()
    @given(data=REPLY)
    def read(data):
        text = data.decode("utf-8", "replace")
        parts = split_thoughts(text)
        assert isinstance(parts.text, str)
        without_thoughts({"text": text, "status": "ok"})
        try:
            reader(text)
            count["read"] += 1
        except (ValueError, OutOfRange):
            count["unreadable"] += 1

    read()
    seconds = time.monotonic() - began
    record_property("account", f"reply, {name}: {count}, {seconds:.1f} s")


@given(value=VALUE)
@many()
def test_a_whole_number_is_one_or_nothing(value):
    assert type(whole_number(value)) in (int, type(None))


def test_a_damaged_gzip_or_parquet_file_is_one_line(tmp_path):
    import gzip

    import pyarrow
    import pyarrow.parquet

    packed = gzip.compress(json.dumps([FLAT], ensure_ascii=False).encode())
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([FLAT]), tmp_path / "a.parquet")
    table = (tmp_path / "a.parquet").read_bytes()
    draw = random.Random(1)
    for number in range(200):
        for name, data in (("a.json.gz", packed), ("a.parquet", table)):
            place = draw.randrange(len(data))
            broken = data[:place] + draw.randbytes(number % 3) + data[place + 1 :]
            path = tmp_path / name
            path.write_bytes(broken)
            outcome(read_pairs, path)


def test_read_json_reads_or_says_where(tmp_path):
    path = tmp_path / "a.json"

    @many()
    @given(data=inputs(rows_of(FLAT)))
    def read(data):
        path.write_bytes(data)
        outcome(read_json, path)

    read()
