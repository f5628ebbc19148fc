"""Files as people have them: what has one meaning is read, what has two is refused with a clue."""

from __future__ import annotations

import gzip
import json
import re
import unicodedata
from pathlib import Path

import pytest

from malmat import files, formats
from malmat.errors import InputError
from malmat.evaluate import results
from malmat.evaluate.items import read_choices, read_splits
from malmat.text.candidates import Candidates
from malmat.text.leaks import find_leaks
from malmat.text.terms import TermMatcher
from tests.conftest import ROOT, assert_refused

TITLE, QUESTION, ANSWER = "국룰", "치킨엔 뭐 마셔?", "치킨엔 맥주가 국룰이지"
FLAT = {"title": TITLE, "question": QUESTION, "answer": ANSWER}
USER, BEST = {"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}


def line(row: object) -> str:
    return json.dumps(row, ensure_ascii=False)


def store(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    data = content if isinstance(content, bytes) else content.encode()
    path.write_bytes(
        gzip.compress(data) if name.endswith(".gz") and data[:2] != b"\x1f\x8b" else data
    )
    return path


def cell(value: object) -> str:
    return '"' + line(value).replace('"', '""') + '"'


# ------------------------------------------------------------------------- normal form

SPELT = {
    "NFD": unicodedata.normalize("NFD", ANSWER),
    "zero-width space": ANSWER.replace("국룰", "국\u200b룰"),
    "word joiner and byte order mark": "\ufeff" + ANSWER.replace("맥", "\u2060맥"),
    "soft hyphen": ANSWER.replace("국룰", "국\u00ad룰"),
    "joiner between letters": ANSWER.replace("국룰", "국\u200d룰"),
    "filler for a space": ANSWER.replace(" ", "\u3164"),
}


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("name", SPELT)
def test_text_is_read_in_normal_form(tmp_path, name, kind):
    row = {**FLAT, "answer": SPELT[name]}
    text = line(row) if kind == "jsonl" else ",".join(row) + "\n" + ",".join(row.values())
    (pair,) = formats.read_pairs(store(tmp_path, f"a.{kind}", text))
    assert pair == {"id": files.row_id("pair", *FLAT.values()), **FLAT}
    ((_, typed),) = files.read_rows(tmp_path / f"a.{kind}", as_typed=True)
    assert typed["answer"] in (SPELT[name], SPELT[name].lstrip("\ufeff"))


def test_two_spellings_of_a_title_are_one_term(tmp_path):
    rows = [{"title": TITLE, "content": "뜻"}, {"title": SPELT["NFD"][:5], "content": "뜻"}]
    rows[1]["title"] = unicodedata.normalize("NFD", TITLE) + "\u200b"
    path = store(tmp_path, "a.jsonl", "\n".join(map(line, rows)))
    assert [term["title"] for term in formats.read_terms(path)] == [TITLE]


def test_a_picture_keeps_its_joiner(tmp_path):
    path = store(tmp_path, "a.jsonl", line({**FLAT, "answer": "👩\u200d💻 국룰"}))
    assert formats.read_pairs(path)[0]["answer"] == "👩\u200d💻 국룰"


@pytest.mark.parametrize("blank", ["\u200b", "\u3164", " \u2060\u3164", "\ufeff", "\u2800"])
def test_a_blank_of_any_letters_is_empty(tmp_path, blank):
    path = store(tmp_path, "a.jsonl", line({**FLAT, "answer": blank}))
    with pytest.raises(InputError, match="field 'answer': empty"):
        formats.read_pairs(path)
    files.write_json(tmp_path / "b.json", [{"question": QUESTION, "answer": blank}])
    assert results.read_answers(tmp_path / "b.json")[0]["status"] == "empty"


@pytest.mark.parametrize("missing", ["NaN", "N/A", "NULL", "#N/A", " nan ", "null", "<NA>"])
def test_a_missing_value_of_a_table_is_no_answer(tmp_path, missing):
    path = store(
        tmp_path, "a.csv", f"title,question,answer\n{missing},가,나\n{TITLE},다,{missing}\n"
    )
    with pytest.raises(InputError, match="line 3, field 'answer': missing"):
        formats.read_pairs(path)
    path = store(tmp_path, "b.csv", f"{HEAD}{missing},가,나\n")
    assert formats.read_pairs(path)[0]["title"] == ""


@pytest.mark.parametrize(
    ("written", "read"),
    [
        (r"갓생 살아\n너는?", "갓생 살아\n너는?"),
        (r"갓생 살아\r\n너는?\n", "갓생 살아\n너는?"),
        (r"C:\notes 봐", r"C:\notes 봐"),  # may be a path
        (r"두 개\\n", r"두 개\\n"),
    ],
)
def test_a_break_that_is_spelt_out_is_a_break_where_nothing_else_is_meant(tmp_path, written, read):
    path = store(tmp_path, "a.csv", f"question,answer\n가,{written}\n")
    assert formats.read_pairs(path)[0]["answer"] == read


def test_full_width_letters_are_found_as_the_others():
    term = {"title": "TMI", "content": "굳이 몰라도 되는 정보"}
    for forms in ([], ["TMI"]):
        matcher = TermMatcher([{**term, "forms": forms}])
        assert matcher.find("ＴＭＩ인데 나 라면 끓여") == ["TMI"]
    assert TermMatcher([{**term, "title": "ＴＭＩ"}]).find("TMI인데 나 라면 끓여") == ["ＴＭＩ"]
    row = {"id": "1", "title": "", "question": "뭐해", "answer": "ＴＭＩ인데 라면"}
    assert [leak["found"] for leak in find_leaks([row], terms=[{**term, "forms": []}])] == ["TMI"]
    assert Candidates([term]).named("ＴＭＩ") == "TMI"


def test_no_spelling_hides_a_held_out_term(tmp_path):
    rows = [
        {"title": "다른 말", "question": f"{number}번은?", "answer": text}
        for number, text in enumerate(SPELT.values())
    ]
    train = formats.read_pairs(store(tmp_path, "a.jsonl", "\n".join(map(line, rows))))
    leaks = list(find_leaks(train, terms=[{"title": TITLE, "forms": ["국룰"]}]))
    assert [leak["id"] for leak in leaks] == [pair["id"] for pair in train]
    assert len(leaks) == len(SPELT)


def test_ids_of_this_repositorys_files_are_those_of_their_text():
    rows = json.loads((ROOT / "merged_final.json").read_text("utf-8"))
    parts = [(t["title"], turn["q"], turn["a"]) for t in rows for turn in t["conversations"]]
    ids = [pair["id"] for pair in formats.read_pairs(ROOT / "merged_final.json")]
    assert ids == [files.row_id("pair", *map(str.strip, part)) for part in parts]
    for path in (ROOT / "src/eval").glob("*_questions.json"):
        value = json.loads(path.read_text("utf-8"))
        value = value["questions"] if isinstance(value, dict) else value
        texts = [row if isinstance(row, str) else row["question"] for row in value]
        own = [row.get("id") if isinstance(row, dict) else None for row in value]
        expected = [
            one or files.row_id("question", text) for one, text in zip(own, texts, strict=True)
        ]
        assert [row["id"] for row in formats.read_questions(path)] == expected


# -------------------------------------------------------------------- shapes and kinds

HEAD = "title,question,answer\n"
CSV = f"{TITLE},{QUESTION},{ANSWER}\n"
TALK = [{"from": "human", "value": QUESTION}, {"from": "gpt", "value": ANSWER}]

SAME_PAIR = {
    # name: (file name, content): all hold the one pair
    "tabs": ("a.tsv", (HEAD + CSV).replace(",", "\t")),
    "tabs in .csv": ("a.csv", (HEAD + CSV).replace(",", "\t")),
    "tabs in .txt": ("a.txt", (HEAD + CSV).replace(",", "\t")),
    "semicolons": ("a.csv", (HEAD + CSV).replace(",", ";")),
    "Excel's line of the separator": ("a.csv", "sep=;\r\n" + (HEAD + CSV).replace(",", ";")),
    "capital names": ("a.CSV", "Title, QUESTION ,Answer\n" + CSV),
    "Korean names": ("a.csv", "신조어,질문,답변\n" + CSV),
    "full width names": ("a.csv", "ｔｉｔｌｅ,ｑｕｅｓｔｉｏｎ,ａｎｓｗｅｒ\n" + CSV),
    "capital keys": ("a.jsonl", line({"Title": TITLE, "Question": QUESTION, "Answer": ANSWER})),
    "trailing commas": ("a.csv", "title,question,answer,,\n" + CSV.strip() + ",,\n,,,,\n"),
    "more commas than columns": ("a.csv", HEAD + CSV.strip() + ",,\n"),
    "blank rows": ("a.csv", "\n" + HEAD + ",,\n" + CSV + ",,\n"),
    "the index of pandas": ("a.csv", "," + HEAD + "0," + CSV),
    "gzip": ("a.jsonl.gz", line(FLAT)),
    "gzip, a table": ("a.csv.gz", HEAD + CSV),
    "ndjson": ("a.ndjson", line(FLAT) + "\n"),
    "lines named .json": ("a.json", line(FLAT) + "\n" + line(FLAT)),
    "a list named .jsonl": ("a.jsonl", line([FLAT])),
    "lists behind each other": ("a.jsonl", line([FLAT]) + "\n" + line([FLAT])),
    "a lone object": ("a.json", json.dumps(FLAT, indent=2)),
    "objects over several lines": ("a.jsonl", json.dumps(FLAT, indent=2) + "\n" + line(FLAT)),
    "objects on one line": ("a.jsonl", line(FLAT) + line(FLAT)),
    "commas behind lines": ("a.jsonl", line(FLAT) + ",\n" + line(FLAT) + ",\n"),
    "JSON in .txt": ("a.txt", line(FLAT)),
    "a byte order mark within": ("a.jsonl", line(FLAT) + "\n\ufeff" + line(FLAT)),
    "wrapped": ("a.json", line({"data": [FLAT]})),
    "tabs, and lines that end with a carriage return": (
        "a.csv",
        (HEAD + CSV).replace(",", "\t").replace("\n", "\r"),
    ),
    "by columns": ("a.json", line({name: {"0": text} for name, text in FLAT.items()})),
    "q and a": ("a.jsonl", line({"title": TITLE, "q": QUESTION, "a": ANSWER})),
    "prompt and response": (
        "a.jsonl",
        line({"title": TITLE, "prompt": QUESTION, "response": ANSWER}),
    ),
    "Alpaca": (
        "a.json",
        line([{"title": TITLE, "instruction": QUESTION, "input": "", "output": ANSWER}]),
    ),
    "a spare empty column": ("a.jsonl", line({**FLAT, "messages": None, "prompt": None})),
    "nested, in a cell": (
        "a.csv",
        f"title,conversations\n{TITLE},{cell([{'q': QUESTION, 'a': ANSWER}])}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME_PAIR)
def test_a_pair_is_the_same_from_every_file(tmp_path, name):
    (pair,) = formats.read_pairs(store(tmp_path, *SAME_PAIR[name]))
    assert pair == {"id": files.row_id("pair", *FLAT.values()), **FLAT}


SAME_TALK = {
    "ShareGPT": line({"conversations": TALK}),
    "roles in conversations": line({"conversations": [USER, BEST]}),
    "content in parts": line(
        {"messages": [{**USER, "content": [{"type": "text", "text": QUESTION}]}, BEST]}
    ),
    "an empty system message": line({"messages": [{"role": "system", "content": ""}, USER, BEST]}),
    "lists of messages": line({"prompt": [USER], "response": [BEST]}),
    "an answer behind it that is not to be trained": line(
        {"messages": [USER, BEST, USER, {**BEST, "content": "몰라", "weight": 0}]}
    ),
    "an answer with a weight": line({"messages": [USER, {**BEST, "weight": 1}]}),
    "a weight as text": line({"messages": [USER, {**BEST, "weight": "1.0"}]}),
    "a weight of a table's": line({"messages": [USER, {**BEST, "weight": None}]}),
    "roles in capitals": line({"messages": [{**USER, "role": "User"}, {**BEST, "role": "MODEL"}]}),
}  # fmt: skip


@pytest.mark.parametrize("name", SAME_TALK)
def test_a_conversation_is_the_same_in_every_shape(tmp_path, name):
    (pair,) = formats.read_pairs(store(tmp_path, "a.jsonl", SAME_TALK[name]))
    plain = store(tmp_path, "b.jsonl", line({"messages": [USER, BEST]}))
    assert [pair] == formats.read_pairs(plain)


@pytest.mark.parametrize("name", ["messages", "conversations"])
@pytest.mark.parametrize("spelt", [cell, lambda value: f'"{value}"'])
def test_messages_in_a_cell_of_a_table(tmp_path, name, spelt):
    value = [USER, BEST] if name == "messages" else TALK
    (pair,) = formats.read_pairs(store(tmp_path, "a.csv", f"{name}\n{spelt(value)}\n"))
    assert pair["messages"] == [USER, BEST]


def test_system_prompts_and_earlier_turns_in_fields_of_their_own(tmp_path):
    system = {"role": "system", "content": "친구처럼"}
    rows = [
        {"system": "친구처럼", "conversations": TALK},
        {"instruction": QUESTION, "input": "", "output": ANSWER, "system": "친구처럼"},
        {"instruction": QUESTION, "output": ANSWER, "history": [["가", "나"]]},
    ]
    found = formats.read_pairs(store(tmp_path, "a.json", line(rows)))
    talk = [{"role": "user", "content": "가"}, {"role": "assistant", "content": "나"}]
    assert [pair["messages"] for pair in found] == [[system, USER, BEST], [*talk, USER, BEST]]
    path = store(
        tmp_path, "b.json", line([{"messages": [{**system, "role": "developer"}, USER, BEST]}])
    )
    assert formats.read_pairs(path)[0]["messages"] == [system, USER, BEST]


def test_an_input_stands_behind_its_instruction(tmp_path):
    path = store(
        tmp_path, "a.json", line([{"instruction": "옮겨", "input": "hi", "output": "안녕"}])
    )
    assert formats.read_pairs(path)[0]["question"] == "옮겨\n\nhi"


def test_answers_of_weight_0_are_context_alone(tmp_path):
    bad = {"role": "assistant", "content": "몰라", "weight": 0}
    rows = [{"messages": [USER, bad, USER, BEST]}, {"messages": [USER, bad]}]
    (pair,) = formats.read_pairs(store(tmp_path, "a.jsonl", "\n".join(map(line, rows))))
    assert pair["messages"] == [USER, bad, USER, BEST]
    with pytest.raises(InputError, match="no dialogue pairs"):
        formats.read_pairs(store(tmp_path, "b.jsonl", line(rows[1])))


@pytest.mark.parametrize("weight", ["0", 0.0, False, " 0.0 "])
def test_a_weight_of_0_however_it_is_spelt(tmp_path, weight):
    bad = {"role": "assistant", "content": "몰라", "weight": weight}
    (pair,) = formats.read_pairs(
        store(tmp_path, "a.jsonl", line({"messages": [USER, bad, USER, BEST]}))
    )
    assert pair["messages"][1]["weight"] == 0


@pytest.mark.parametrize("weight", [0.5, -1, 2, "half", [0]])
def test_a_weight_between_is_refused(tmp_path, weight):
    path = store(tmp_path, "a.jsonl", line({"messages": [USER, {**BEST, "weight": weight}]}))
    with pytest.raises(InputError, match=r"line 1.*messages\[1\].weight.*expected 0 or 1"):
        formats.read_pairs(path)


def test_columns_of_lists_are_rows(tmp_path):
    table = {"question": ["가?", "나?"], "answer": ["응", "아니"]}
    found = formats.read_pairs(store(tmp_path, "a.json", line(table)))
    assert [(one["question"], one["answer"]) for one in found] == [("가?", "응"), ("나?", "아니")]
    with pytest.raises(InputError):
        formats.read_pairs(store(tmp_path, "b.json", line({**table, "answer": ["응"]})))


@pytest.mark.parametrize("cell", ["#REF!", "#VALUE!", "#NAME?", "#DIV/0!"])
def test_errors_of_excel_are_no_text(tmp_path, cell):
    path = store(tmp_path, "a.csv", f"question,answer\n뭐?,{cell}\n")
    with pytest.raises(InputError, match="line 2, field 'answer': missing"):
        formats.read_pairs(path)


def test_damaged_letters_are_not_trained(tmp_path):
    whole = "안녕하세요 반가워요"
    for text in (
        whole.encode().decode("latin-1"),
        whole.encode().decode("cp949", "replace"),
        whole.encode("cp949").decode("utf-8", "replace"),
        whole.encode("cp949").decode("latin-1"),
    ):
        for row in (
            {"question": "뭐?", "answer": text},
            {"messages": [{**USER, "content": text}, BEST, USER, BEST]},
        ):
            with pytest.raises(InputError, match=r"line 1.*damaged letters"):
                formats.read_pairs(store(tmp_path, "a.jsonl", line(row)))
    for text in ("café에서 50×30", "한 글자\ufffd 없다고 다 버리진 않는다"):
        path = store(tmp_path, "b.jsonl", line({"question": "뭐?", "answer": text}))
        assert formats.read_pairs(path)[0]["answer"] == text


@pytest.mark.parametrize(
    ("start", "said"),
    [
        (b"PK\x03\x04\x14\0", "Excel"),
        (b"\xd0\xcf\x11\xe0", "old Excel"),
        (b"PAR1", "Parquet"),
        (b"BZh91AY", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x28\xb5\x2f\xfd", "Zstandard"),
    ],
)
def test_a_file_that_is_no_text_is_called_by_its_name(tmp_path, start, said):
    path = tmp_path / "rows.csv"
    path.write_bytes(start + b"\0\xff")
    with pytest.raises(InputError, match=f"rows.csv: is an? .*{said}"):
        formats.read_pairs(path)


PREFERENCES = {
    "question": {"question": QUESTION, "chosen": ANSWER, "rejected": "몰라"},
    "Alpaca": {"instruction": QUESTION, "input": "", "chosen": ANSWER, "rejected": "몰라"},
}


@pytest.mark.parametrize("name", PREFERENCES)
def test_preferences_under_other_names(tmp_path, name):
    (row,) = formats.read_preferences(store(tmp_path, "a.json", line([PREFERENCES[name]])))
    assert (row["question"], row["chosen"], row["rejected"]) == (QUESTION, ANSWER, "몰라")
    talk = {
        "conversations": TALK[:1],
        "chosen": TALK[1],
        "rejected": {"from": "gpt", "value": "몰라"},
    }
    whole = {
        "prompt": QUESTION,
        "chosen": [USER, BEST],
        "rejected": [USER, {**BEST, "content": "몰라"}],
    }
    for other in (talk, whole):
        (same,) = formats.read_preferences(store(tmp_path, "b.json", line([other])))
        assert (same["id"], same["messages"]) == (row["id"], [USER])


QUESTIONS = {
    "plain lines": ("q.txt", "오늘 뭐 해?\r\n\r\n[속보] 점심 뭐 먹지\r\n"),
    "a list of texts": ("q.json", '["오늘 뭐 해?", "[속보] 점심 뭐 먹지"]'),
    "objects under questions": (
        "q.json",
        '{"questions": [{"question": "오늘 뭐 해?"}, {"question": "[속보] 점심 뭐 먹지"}]}',
    ),
    "a table": ("q.csv", "질문\n오늘 뭐 해?\n[속보] 점심 뭐 먹지\n"),
    "ids left empty": ("q.csv", "id,Question\n,오늘 뭐 해?\n,[속보] 점심 뭐 먹지\n"),
    "prompts": ("q.jsonl", '{"prompt": "오늘 뭐 해?"}\n{"prompt": "[속보] 점심 뭐 먹지"}'),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_questions_are_the_same_from_every_file(tmp_path, name):
    texts = ["오늘 뭐 해?", "[속보] 점심 뭐 먹지"]
    rows = formats.read_questions(store(tmp_path, *QUESTIONS[name]))
    assert [row["question"] for row in rows] == texts
    assert [row["id"] for row in rows] == [files.row_id("question", text) for text in texts]


@pytest.mark.parametrize("mark", [",", "\t", ";"])
def test_terms_under_korean_names(tmp_path, mark):
    text = mark.join(["신조어", "뜻", "예시 질문", "예시답변"]) + "\n"
    path = store(
        tmp_path, "t.csv", text + mark.join(["갓생", "부지런한 삶", "뭐 해?", "갓생 살아"])
    )
    (term,) = formats.read_terms(path)
    assert [term[name] for name in formats.TERM_COLUMNS] == [
        "갓생",
        "부지런한 삶",
        "뭐 해?",
        "갓생 살아",
    ]


@pytest.mark.parametrize("names", [("prompt", "response"), ("prompt", "predict"), ("질문", "답변")])
def test_answers_under_other_names(tmp_path, names):
    path = store(tmp_path, "a.jsonl", line(dict(zip(names, (QUESTION, ANSWER), strict=True))))
    (row,) = results.read_answers(path)
    assert (row["question"], row["answer"], row["status"]) == (QUESTION, ANSWER, "ok")
    path = store(tmp_path, "b.jsonl", line({"prompt": "가", "output": "정답", "predict": ANSWER}))
    assert results.read_answers(path)[0]["answer"] == ANSWER


# ---------------------------------------------------------------------------- refusals

REFUSED = {
    # name: (file name, content, reader, what the message must hold)
    "a doubled key": (
        "a.jsonl",
        f'{line(FLAT)}\n{{"question": "가", "answer": "나", "answer": "다"}}',
        "pairs",
        ["line 2", "'answer' stands twice"],
    ),
    "a doubled key, nested": (
        "a.json",
        '[{"title": "가",\n"conversations": [\n{"q": "나", "a": "다"},\n'
        '{"q": "나",\n"a": "다",\n"a": "라"}]}]',
        "pairs",
        ["line 6", "'a' stands twice"],
    ),
    "a NUL": ("a.csv", "question,answer\n가,나\0\n", "pairs", ["line 2", "NUL"]),
    "a NUL by an escape": (
        "a.jsonl",
        '{"question": "가\\u0000", "answer": "나"}',
        "pairs",
        ["line 1", "field 'question'", "NUL"],
    ),
    "half a gzip file": ("a.jsonl.gz", gzip.compress(b"{}" * 999)[:-9], "pairs", ["gzip"]),
    "CP949": ("a.csv", "질문,답변\n가,나\n".encode("cp949"), "pairs", ["line 1", "CP949", "UTF-8"]),
    "UTF-16 without a mark": ("a.csv", "질문,답변\n".encode("utf-16-le"), "pairs", ["UTF-16"]),
    "no shape": ("a.jsonl", '{"text": "뭐 해?"}', "pairs", ["line 1", "keys text", "messages"]),
    "lists of texts": (
        "a.jsonl",
        '{"conversations": ["가", "나"]}',
        "pairs",
        ["keys conversations", "{from, value}"],
    ),
    "two lists in one object": (
        "a.json",
        line({"data": [FLAT], "more": []}),
        "pairs",
        ["keys data, more", "Read are"],
    ),
    "plain text for pairs": ("a.txt", "가\n나\n", "pairs", ["found str", "Read are"]),
    "an answer missing": (
        "a.jsonl",
        '{"question": "가", "label": 3}',
        "pairs",
        ["field 'answer': missing", "keys are question, label"],
    ),
    "an unknown separator": ("a.csv", "질문，답변\n가，나\n", "pairs", ["keys 질문", "Read are"]),
    "too few cells": (
        "a.csv",
        "title,question,answer\n가,나\n",
        "pairs",
        ["2 columns", "Fill in"],
    ),
    "a column without a name": ("a.csv", "질문,답변,\n가,나,덤\n", "pairs", ["column 3 has no"]),
    "a tool call": (
        "a.jsonl",
        line({"messages": [USER, {"role": "assistant", "content": None, "tool_calls": [{}]}]}),
        "pairs",
        ["field 'messages[1].content'", "tool call"],
    ),
    "a picture": (
        "a.jsonl",
        line({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, BEST]}),
        "pairs",
        ["field 'messages[0].content'", "no text"],
    ),
    "ShareGPT that ends on the user": (
        "a.jsonl",
        line({"conversations": [*TALK, TALK[0]]}),
        "pairs",
        ["field 'conversations'", "last message"],
    ),
    "an answer to be avoided": (
        "a.jsonl",
        '{"prompt": "가", "completion": "나", "label": false}',
        "pairs",
        ["field 'label'", "avoided"],
    ),
    "a history that is none": (
        "a.jsonl",
        '{"instruction": "가", "output": "나", "history": ["다"]}',
        "pairs",
        ["field 'history'"],
    ),
    "one id for two questions": (
        "a.jsonl",
        '{"id": 1, "question": "가"}\n{"id": 1, "question": "나"}',
        "questions",
        ["the id 1", "line 1, line 2"],
    ),
    "a question twice, spelt apart": (
        "a.txt",
        "뭐 해?\n뭐\u200b 해?\n",
        "questions",
        ["뭐 해?", "line 1, line 2"],
    ),
    "a form that fits everything": (
        "a.csv",
        "title,content,forms\n갓생,삶,.*\n",
        "terms",
        ["line 2", "field 'forms'", "every text"],
    ),
    "a term without its content": (
        "a.jsonl",
        '{"title": "갓생", "note": "삶"}',
        "terms",
        ["field 'content': missing", "keys are title, note"],
    ),
}  # fmt: skip

READERS = {
    "pairs": formats.read_pairs,
    "questions": formats.read_questions,
    "terms": formats.read_terms,
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_told_with_its_way_out(tmp_path, name):
    file_name, content, reader, expected = REFUSED[name]
    path = store(tmp_path, file_name, content)
    message = assert_refused(READERS[reader], path, expected)
    sound = ("key", "JSON")
    assert "Mend that line" not in message or any(word in message for word in sound)


def test_a_doubled_key_is_refused_in_every_json_file(tmp_path):
    with pytest.raises(InputError, match=r"line 2: .*'b' stands twice"):
        files.read_json(store(tmp_path, "a.json", '{"a": {"b": 1,\n"b": 2}}'))


def test_choices_in_one_object_of_questions_are_refused_in_one_line(tmp_path):
    with pytest.raises(InputError, match="field 'choices': missing"):
        read_choices(store(tmp_path, "a.json", '{"questions": ["가", "나"]}'))


# ----------------------------------------------------------------- merge.py and check.py


def nested(*pairs: tuple[str, str]) -> dict:
    turns = [{"context": "톡", "q": q, "a": a, "model": "m"} for q, a in pairs]
    return {"title": TITLE, "description": "당연한 일", "conversations": turns}


def test_merge_leaves_a_file_alone_that_is_no_source(script, tmp_path):
    kept = store(tmp_path, "merged_final.json", line([nested((QUESTION, ANSWER))]))
    before = kept.read_bytes()
    folder, empty = tmp_path / "new", tmp_path / "empty"
    folder.mkdir()
    empty.mkdir()
    store(folder, "b.json", line(nested(("라면엔?", "김치가 국룰"))))
    for sources in ([folder], [empty]):
        result = script("src/data/merge.py", *sources, "--output", kept)
        assert result.returncode == 2
        assert result.stderr.count("\n") == 1
        assert "is there and is no source" in result.stderr
    result = script("src/data/merge.py", empty, "--output", tmp_path / "none.json")
    assert (result.returncode, (tmp_path / "none.json").exists()) == (2, False)
    assert "no dialogue pairs" in result.stderr
    assert kept.read_bytes() == before
    result = script("src/data/merge.py", folder, "--output", kept, "--overwrite")
    assert result.returncode == 0, result.stderr
    assert "1 pairs added, 1 dropped, 0 replaced; 0 terms added, 0 dropped" in result.stdout


def test_merge_into_one_of_its_sources_says_what_changes(script, tmp_path):
    kept = store(tmp_path, "merged_final.json", line([nested((QUESTION, ANSWER))]))
    folder = tmp_path / "augmented_jsons"
    folder.mkdir()
    store(folder, "b.json", line({**nested(("라면엔?", "김치가 국룰")), "note": "덤"}))
    for added in (1, 0):
        result = script("src/data/merge.py", kept, folder, "--output", kept)
        assert result.returncode == 0, result.stderr
        assert f"{added} pairs added, 0 dropped, 0 replaced" in result.stdout
        assert "left out: 'note' of 1 terms or pairs" in result.stdout
        (term,) = json.loads(kept.read_text("utf-8"))
        assert [pair["q"] for pair in term["conversations"]] == [QUESTION, "라면엔?"]
    result = script("src/data/merge.py", folder, kept, "--output", kept)
    assert "0 pairs added, 0 dropped" in result.stdout


def test_merge_takes_every_shape_that_can_be_nested(script, tmp_path):
    sources = [
        store(tmp_path, "a.tsv", (HEAD + CSV).replace(",", "\t")),
        store(tmp_path, "b.jsonl", line({"title": TITLE, "conversations": TALK})),
        store(tmp_path, "c.csv", f"신조어,질문,답변\n{unicodedata.normalize('NFD', CSV)}"),
    ]
    result = script("src/data/merge.py", *sources, "--output", tmp_path / "out.json")
    assert result.returncode == 0, result.stderr
    assert "merged 1 terms, 1 pairs; 2 repeated pairs left out" in result.stdout
    several = store(tmp_path, "d.jsonl", line({"title": TITLE, "messages": [USER, BEST] * 2}))
    untitled = store(tmp_path, "e.jsonl", line({"conversations": TALK}))
    for path, field in ((several, "messages"), (untitled, "title")):
        result = script("src/data/merge.py", path, "--output", tmp_path / "other.json")
        assert result.returncode == 2
        assert f"field '{field}'" in result.stderr


def test_check_takes_every_shape(script, tmp_path):
    for name, content in {
        "flat.tsv": (HEAD + CSV).replace(",", "\t"),
        "talk.jsonl": line({"conversations": TALK}),
    }.items():
        path = store(tmp_path, name, content)
        result = script("src/data/check.py", "--input", path, "--output", tmp_path / "c.html")
        assert result.returncode in (0, 1), result.stderr
        assert "1 terms, 1 pairs" in result.stdout
        assert "missing key" not in result.stdout


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv", "a.txt", "a.jsonl.gz"])
def test_check_of_an_empty_file_is_one_line(script, tmp_path, name):
    result = script("src/data/check.py", "--input", store(tmp_path, name, ""))
    assert (result.returncode, result.stderr.count("\n")) == (2, 1)
    assert "empty" in result.stderr or "no dialogue pairs" in result.stderr


def test_the_examples_of_the_page_on_formats_are_read(tmp_path):
    page = (ROOT / "docs/data-formats.md").read_text("utf-8")
    shapes, others = page.split("## Shapes of dialogues")[1].split("## Preferences")
    blocks = re.findall(r"```\n(.*?)```", shapes, re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        path = store(tmp_path, "a.jsonl", block)
        first, second = formats.read_pairs(path)
        assert first["question"] == "치킨엔?"
        assert second["answer"] in ("갓생 사는 중", "갓생", "안녕")
    preferences, questions, terms = re.findall(r"```\n(.*?)```", others, re.DOTALL)
    assert len(formats.read_preferences(store(tmp_path, "p.jsonl", preferences))) == 2
    for text in questions.splitlines():
        assert formats.read_questions(store(tmp_path, "q.json", text))
    assert len(formats.read_terms(store(tmp_path, "t.csv", terms))) == 1


def test_a_number_that_no_file_can_hold_is_refused(tmp_path):
    path = store(
        tmp_path, "a.jsonl", f'{line(FLAT)}\n{{"question": "q", "answer": "a", "n": 1e999}}'
    )
    with pytest.raises(InputError, match=r"line 2, field 'n': a number without end"):
        formats.read_pairs(path)


def test_what_a_parquet_table_holds_beside_text(tmp_path):
    import datetime
    import decimal

    import pyarrow
    import pyarrow.parquet

    row = {"day": datetime.date(2026, 1, 2), "price": decimal.Decimal("1.50")}
    row |= {"answer": ANSWER.encode(), "picture": b"\x89PNG\0", "n": float("nan")}
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist([{"question": QUESTION, **row}]), path)
    ((_, found),) = files.read_rows(path)
    assert found == {
        **{"question": QUESTION, "answer": ANSWER, "day": "2026-01-02", "price": "1.50"},
        **{"picture": None, "n": None},
    }
    files.write_json(tmp_path / "a.json", found)
    assert [pair["answer"] for pair in formats.read_pairs(path)] == [ANSWER]


@pytest.mark.parametrize("row", ["null", "5", '"갓생"', '{"title": 1, "split": "seen"}'])
def test_splits_of_no_shape_are_one_line(tmp_path, row):
    with pytest.raises(InputError, match="line 1"):
        read_splits(store(tmp_path, "a.jsonl", row))


def test_an_id_that_is_neither_text_nor_number_is_named(tmp_path):
    path = tmp_path / "q.json"
    path.write_text('[{"question": "뭐 해?"}, {"question": "왜?", "id": []}]', encoding="utf-8")
    with pytest.raises(InputError, match=r"field .id.: .*found \[\] \(line 1"):
        formats.read_questions(path)
