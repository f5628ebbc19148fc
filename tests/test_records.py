"""Readers give whole rows or one clear line; writers leave the old file when they fail."""

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from malmat import files, formats
from malmat.errors import InputError
from malmat.evaluate import results
from tests.conftest import assert_refused

PAIR = '{"title": "갓생", "question": "뭐해?", "answer": "갓생 사는 중"}'
USER = '{"role": "user", "content": "q"}'
BEST = '{"role": "assistant", "content": "a"}'
DEEP = "[" * 100_000
WIDE = f'"{"가" * 140_000}"'  # above the csv module's limit of a field

BAD = {
    # name: (file name, bytes or text, reader, what the message must hold)
    "bad JSON on a line": ("a.jsonl", f"{PAIR}\n\n{{'title'\n", "pairs", ["line 3", "JSON"]),
    "bad JSON in a list": ("a.json", f"[{PAIR},\n{{bad}}]", "pairs", ["line 2", "JSON"]),
    "list not closed": ("a.json", f"[\n{PAIR}\n", "pairs", ["line 3", "expected ',' or ']'"]),
    "comma missing": ("a.json", f"[{PAIR}\n{PAIR}]", "pairs", ["line 2", "expected ','"]),
    "text after the list": ("a.json", f"[{PAIR}]\nx", "pairs", ["after the list"]),
    "object for a list": ("a.json", '{"b": 1}', "pairs", ["line 1", "keys b", "Read are question"]),
    "empty JSON file": ("a.json", "", "pairs", ["the file is empty"]),
    "empty list": ("a.json", "[]", "pairs", ["no dialogue pairs"]),
    "NaN": ("a.jsonl", f'{PAIR}\n{{"x": NaN}}', "pairs", ["line 2", "NaN"]),
    "infinity in a list": ("a.json", f'[{PAIR},\n{{"x": -Infinity}}]', "pairs", ["line 2", "Inf"]),
    "a number of 5000 digits": ("a.jsonl", f'{PAIR}\n{{"x": {"9" * 5000}}}', "pairs", ["line 2"]),
    "deep nesting, a line": ("a.jsonl", f"{PAIR}\n{DEEP}", "pairs", ["line 2", "JSON"]),
    "deep nesting, a list": ("a.json", f"[{PAIR},\n{DEEP}", "pairs", ["line 2", "JSON"]),
    "deep nesting, a value": ("a.json", '{"questions":' + DEEP, "questions", ["line 1", "JSON"]),
    "cp949": ("a.csv", "title,content\n갓생,부지런한 삶\n".encode("cp949"), "terms", ["line 2"]),
    "UTF-16": ("a.jsonl", PAIR.encode("utf-16"), "pairs", ["line 1", "UTF-8"]),
    "half a character": (
        "a.jsonl",
        PAIR + '\n{"title": "t", "question": "\\ud83d", "answer": "a"}',
        "pairs",
        ["line 2", "field 'question'", "half a character"],
    ),
    "half a character, nested": (
        "a.json",
        '[\n{"title": "t", "conversations": [{"q": "가", "a": "\\udc00"}]}]',
        "pairs",
        ["line 2", "field 'conversations[0].a'"],
    ),
    "half a character beyond the checked fields": (
        "a.json",
        '{"questions": ["가"], "note": "\\uD83D"}',
        "questions",
        ["field 'note'"],
    ),
    "field missing": ("a.jsonl", '{"question": "q"}', "pairs", ["line 1", "field 'answer'"]),
    "field null": (
        "a.jsonl",
        f'{PAIR}\n{{"question": null, "answer": "a"}}',
        "pairs",
        ["line 2", "field 'question'", "missing"],
    ),
    "wrong type": (
        "a.jsonl",
        '{"question": 3, "answer": "a"}',
        "pairs",
        ["line 1", "field 'question'", "expected str, found int"],
    ),
    "blank text": (
        "a.jsonl",
        '{"question": "q", "answer": " \\n"}',
        "pairs",
        ["line 1", "field 'answer'", "empty"],
    ),
    "no object": ("a.jsonl", f'{PAIR}\n"text"', "pairs", ["line 2", "expected an object"]),
    "nested field missing": (
        "a.json",
        '[{"title": "t", "conversations": [{"q": "q", "a": "a"}, {"q": "q"}]}]',
        "pairs",
        ["line 1", "field 'conversations[1].a'"],
    ),
    "nested wrong type": (
        "a.json",
        '[{"title": "t", "conversations": {"q": "q"}}]',
        "pairs",
        ["field 'conversations'", "expected list"],
    ),
    "message without content": (
        "a.jsonl",
        '{"messages": [{"role": "user", "content": "q"}, {"role": "assistant"}]}',
        "pairs",
        ["line 1", "field 'messages[1].content'"],
    ),
    "assistant not last": (
        "a.jsonl",
        '{"messages": [{"role": "user", "content": "q"}]}',
        "pairs",
        ["line 1", "field 'messages'", "assistant"],
    ),
    "one id for two rows": (
        "a.jsonl",
        f'{{"id": 7, "messages": [{USER}, {{"role": "assistant", "content": "a"}}]}}\n'
        f'{{"id": 7, "messages": [{USER}, {{"role": "assistant", "content": "b"}}]}}',
        "pairs",
        ["line 2", "field 'id'", "'7'"],
    ),
    "an answer to nothing": (
        "a.jsonl",
        f'{{"messages": [{BEST}]}}',
        "pairs",
        ["line 1", "field 'messages'", "follow a message of the user"],
    ),
    "a role nobody knows": (
        "a.jsonl",
        f'{PAIR}\n{{"messages": [{{"role": "narrator", "content": "q"}}, {BEST}]}}',
        "pairs",
        ["line 2", "field 'messages[0].role'", "'narrator'", "assistant"],
    ),
    "a completion that does not end on the answer": (
        "a.jsonl",
        f'{{"prompt": [{USER}], "completion": [{BEST}, {USER}]}}',
        "pairs",
        ["line 1", "field 'completion'", "assistant"],
    ),
    "a prompt of numbers": (
        "a.jsonl",
        '{"prompt": 3, "completion": "a"}',
        "pairs",
        ["line 1", "field 'prompt'", "expected str or list, found int"],
    ),
    "no preferences": ("a.json", "[]", "preferences", ["no preference rows"]),
    "pairs for preferences": ("a.jsonl", PAIR, "preferences", ["line 1", "field 'chosen'"]),
    "rejected missing": (
        "a.jsonl",
        '{"prompt": "q", "chosen": "a"}',
        "preferences",
        ["line 1", "field 'rejected'", "missing"],
    ),
    "rejected is chosen": (
        "a.csv",
        'prompt,chosen,rejected\nq,a,b\n"q,2",a, a\n',
        "preferences",
        ["line 3", "field 'rejected'", "same text as 'chosen'"],
    ),
    "text without a prompt": (
        "a.jsonl",
        '{"chosen": "q a", "rejected": "q b"}',
        "preferences",
        ["line 1", "field 'prompt'", "missing", "whole conversations"],
    ),
    "two conversations": (
        "a.jsonl",
        f'{{"chosen": [{USER}, {BEST}], "rejected": [{{"role": "user", "content": "r"}}, {BEST}]}}',
        "preferences",
        ["line 1", "field 'rejected'", "conversation of 'chosen'"],
    ),
    "a chosen conversation without an answer": (
        "a.jsonl",
        f'{{"chosen": [{USER}], "rejected": [{USER}, {BEST}]}}',
        "preferences",
        ["line 1", "field 'chosen'", "assistant"],
    ),
    "one id for two preferences": (
        "a.jsonl",
        '{"id": 7, "prompt": "q", "chosen": "a", "rejected": "b"}\n'
        '{"id": 7, "prompt": "q", "chosen": "a", "rejected": "c"}',
        "preferences",
        ["line 2", "field 'id'", "'7'"],
    ),
    "prompt without completion": (
        "a.jsonl",
        '{"prompt": "p"}',
        "pairs",
        ["line 1", "field 'completion'"],
    ),
    "CSV, a column too many": (
        "a.csv",
        'title,content\n갓생,"부지런한,\n삶"\n밈,따라 하는 것, 유행\n',
        "terms",
        ["line 4", "3 columns", "2"],
    ),
    "CSV, a column too few": ("a.csv", "title,content\n갓생\n", "terms", ["line 2", "1 columns"]),
    "CSV, a column twice": ("a.csv", "title,title\na,b\n", "terms", ["line 1", "twice"]),
    "CSV, quote not closed": ("a.csv", 'title,content\n갓생,"삶\n', "terms", ["line 2", "CSV"]),
    "CSV, a giant field": ("a.csv", f"title,content\n갓생,{WIDE}\n", "terms", ["line 2", "CSV"]),
    "CSV, empty": ("a.csv", "", "terms", ["empty"]),
    "CSV, header alone": ("a.csv", "title,content\n", "terms", ["no terms"]),
    "CSV, column missing": ("a.csv", "title,text\na,b\n", "terms", ["line 2", "field 'content'"]),
    "a title twice": (
        "a.csv",
        "title,content\n갓생,부지런한 삶\n 갓생,또\n",
        "terms",
        ["line 3", "field 'title'", "갓생", "line 2"],
    ),
    "a bad regular expression": (
        "a.csv",
        "title,content,forms\n갓생,부지런한 삶,갓(생\n",
        "terms",
        ["line 2", "field 'forms'", "regular expression"],
    ),
    "a question that is no text": (
        "a.json",
        '{"questions": ["q", 3]}',
        "questions",
        ["field 'questions[1]'"],
    ),
    "questions no list": ("a.json", '{"questions": "q"}', "questions", ["field 'questions'"]),
    "a question twice": ("a.json", '{"questions": ["뭐해?", "뭐해?"]}', "questions", ["뭐해?"]),
    "no questions": ("a.json", '{"questions": []}', "questions", ["no questions"]),
    "unknown status": (
        "a.json",
        '[{"question": "q", "answer": "a", "status": "fine"}]',
        "answers",
        ["line 1", "field 'status'", "'fine'"],
    ),
    "an answer that is no text": (
        "a.json",
        '[{"question": "q", "answer": ["a"]}]',
        "answers",
        ["line 1", "field 'answer'"],
    ),
    "ok without an answer": (
        "a.json",
        '[{"question": "q", "answer": null, "status": "ok"}]',
        "answers",
        ["line 1", "no answer"],
    ),
    "no Parquet": ("a.parquet", "title", "pairs", ["Parquet"]),
}

READERS = {
    "terms": formats.read_terms,
    "pairs": formats.read_pairs,
    "preferences": formats.read_preferences,
    "questions": formats.read_questions,
    "answers": results.read_answers,
}


@pytest.mark.parametrize("name", BAD)
def test_malformed_input_is_one_line_that_names_the_place(tmp_path, name):
    file_name, content, reader, expected = BAD[name]
    path = tmp_path / file_name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    assert_refused(READERS[reader], path, expected)


@pytest.mark.parametrize("reader", ["terms", "pairs", "preferences", "questions", "answers"])
def test_no_such_file_and_a_folder(tmp_path, reader):
    read = READERS[reader]
    with pytest.raises(InputError, match="no such file"):
        read(tmp_path / "none.json")
    (tmp_path / "folder.json").mkdir()
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path / "folder.json")


def test_a_missing_parquet_file(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        files.read_rows(tmp_path / "none.parquet")


# ------------------------------------------------------------------------- good input


def write(path: Path, text: str, encoding: str = "utf-8") -> Path:
    path.write_text(text, encoding=encoding)
    return path


@pytest.mark.parametrize("name", ["a.json", "a.jsonl", "a.csv"])
def test_a_byte_order_mark_is_no_part_of_the_data(tmp_path, name):
    text = {
        "a.json": '[{"title": "밈", "content": "유행"}]',
        "a.jsonl": '{"title": "밈", "content": "유행"}\r\n',
        "a.csv": "title,content\r\n밈,유행\r\n",
    }[name]
    (term,) = formats.read_terms(write(tmp_path / name, text, "utf-8-sig"))
    assert (term["title"], term["content"]) == ("밈", "유행")


def test_escaped_emoji_is_whole(tmp_path):
    path = write(tmp_path / "a.json", '{"questions": ["\\ud83d\\ude02 뭐해?"]}')
    assert formats.read_questions(path)[0]["question"] == "😂 뭐해?"


def test_line_numbers_of_rows(tmp_path):
    path = write(tmp_path / "a.json", '\n[\n\n  {"a":\n 1}\n,\n{"a": 2}, {"a": 3}]\n')
    assert files.read_rows(path) == [(4, {"a": 1}), (7, {"a": 2}), (7, {"a": 3})]
    path = write(tmp_path / "a.csv", 'a,b\n1,"x\ny"\n\n2,z\n')
    assert files.read_rows(path) == [(2, {"a": "1", "b": "x\ny"}), (5, {"a": "2", "b": "z"})]
    # U+2028 and U+0085 end a line for str.splitlines, not in JSONL.
    path = write(tmp_path / "a.jsonl", '{"a": "x\u2028y\u0085"}\n{"a": 2}')
    assert files.read_rows(path) == [(1, {"a": "x\u2028y\u0085"}), (2, {"a": 2})]


FLAT = {"title": "갓생", "question": "주말에 뭐해?", "answer": "갓생, 살지"}


def flat_file(folder: Path, kind: str) -> Path:
    path = folder / f"flat.{kind}"
    if kind == "json":
        files.write_json(path, [FLAT])
    elif kind == "jsonl":
        files.write_jsonl(path, [FLAT])
    elif kind == "csv":
        files.write_csv(path, list(FLAT), [FLAT])
    else:
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist([FLAT]), path)
    return path


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "parquet"])
def test_flat_pairs_are_the_same_from_every_format(tmp_path, kind):
    (pair,) = formats.read_pairs(flat_file(tmp_path, kind))
    assert pair == {"id": files.row_id("pair", *FLAT.values()), **FLAT}


def test_nested_pairs(tmp_path):
    turn = {"context": "친구 사이", "q": " 주말에 뭐해? ", "a": "갓생, 살지", "model": "m"}
    rows = [{"title": "갓생", "description": "부지런한 삶", "conversations": [turn, turn]}]
    files.write_json(tmp_path / "merged.json", rows)
    (pair,) = formats.read_pairs(tmp_path / "merged.json")  # the repeat stands once
    assert pair == {
        "id": files.row_id("pair", *FLAT.values()),
        **FLAT,
        "context": "친구 사이",
        "model": "m",
    }
    (term,) = formats.read_terms(tmp_path / "merged.json")
    assert (term["title"], term["content"]) == ("갓생", "부지런한 삶")


def test_message_and_completion_rows(tmp_path):
    messages = [
        {"role": "system", "content": "친구처럼"},
        {"role": "user", "content": "q"},
        {"role": "assistant", "content": "a"},
    ]
    rows = [{"messages": messages}, {"prompt": "p", "completion": "c"}]
    files.write_jsonl(tmp_path / "a.jsonl", rows)
    first, second = formats.read_pairs(tmp_path / "a.jsonl")
    assert first["messages"] == messages
    assert (first["question"], first["answer"], first["title"]) == ("q", "a", "")
    assert (second["question"], second["answer"]) == ("p", "c")
    assert first["id"] != second["id"]


def talk(*turns: str) -> list[dict]:
    roles = ("user", "assistant") * len(turns)
    return [{"role": r, "content": text} for r, text in zip(roles, turns, strict=False)]


def table(folder: Path, kind: str, rows: list[dict]) -> Path:
    """The rows in a file of that kind."""
    path = folder / f"rows.{kind}"
    if kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        {"json": files.write_json, "jsonl": files.write_jsonl}[kind](path, rows)
    return path


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
def test_prompt_and_completion_as_lists_of_messages(tmp_path, kind):
    whole = talk("뭐 해?", "집콕", "심심하지 않아?", "전혀")
    rows = [{"prompt": whole[:3], "completion": whole[3:]}]
    (pair,) = formats.read_pairs(table(tmp_path, kind, rows))
    assert pair["messages"] == whole
    assert (pair["question"], pair["answer"]) == ("심심하지 않아?", "전혀")
    (same,) = formats.read_pairs(table(tmp_path, kind, [{"messages": whole}]))
    assert same == pair


PREFERENCES = {
    "text": {"prompt": "뭐 해?", "chosen": "집콕 중", "rejected": "모르겠습니다."},
    "lists of messages": {
        "prompt": talk("뭐 해?"),
        "chosen": talk("", "집콕 중")[1:],
        "rejected": talk("", "모르겠습니다.")[1:],
    },
    "no prompt": {
        "chosen": talk("뭐 해?", "집콕 중"),
        "rejected": talk("뭐 해?", "모르겠습니다."),
    },
}


@pytest.mark.parametrize("kind", ["json", "jsonl", "parquet"])
@pytest.mark.parametrize("form", PREFERENCES)
def test_every_form_of_a_preference_is_the_same_row(tmp_path, form, kind):
    row = {**PREFERENCES[form], "title": "집콕", "score_chosen": 9.5}
    (found,) = formats.read_preferences(table(tmp_path, kind, [row, row]))
    question = {"question": "뭐 해?"} if form == "text" else {}
    assert found == {
        "id": files.row_id("preference", talk("뭐 해?"), "집콕 중", "모르겠습니다."),
        "title": "집콕",
        "messages": talk("뭐 해?"),
        "chosen": "집콕 중",
        "rejected": "모르겠습니다.",
        **question,
    }


def test_preferences_of_several_turns_and_from_csv(tmp_path):
    system = {"role": "system", "content": "친구처럼"}
    shared = [system, *talk("뭐 해?", "집콕", "또?")]
    row = {
        "chosen": [*shared, {"role": "assistant", "content": "좋아서"}],
        "rejected": [*shared, {"role": "assistant", "content": "네."}],
    }
    (found,) = formats.read_preferences(table(tmp_path, "jsonl", [row]))
    assert (found["messages"], found["chosen"], found["rejected"]) == (shared, "좋아서", "네.")
    path = write(tmp_path / "a.csv", "prompt,chosen,rejected\n뭐 해?,집콕 중,모르겠습니다.\n")
    (found,) = formats.read_preferences(path)
    assert (found["question"], found["rejected"]) == ("뭐 해?", "모르겠습니다.")


HUB = """
import json, shutil, sys
from pathlib import Path
from datasets import load_dataset
from malmat.errors import InputError
from malmat.formats import read_pairs, read_preferences

# A data set as the library keeps it after a download; a local file stands in for it.
made = Path(load_dataset("json", data_files=sys.argv[1], split="train").cache_files[0]["filename"])
kept = made.parents[4] / "malmat___slang" / "default" / "0.0.0" / ("0" * 40)
shutil.copytree(made.parent, kept)
(kept / made.name).rename(kept / "slang-train.arrow")
info = json.loads((kept / "dataset_info.json").read_text())
info |= {"dataset_name": "slang", "config_name": "default"}
(kept / "dataset_info.json").write_text(json.dumps(info))
rows = {"pairs": read_pairs, "preferences": read_preferences}[sys.argv[2]]("malmat/slang")
try:
    read_pairs("malmat/none")
except InputError as error:
    print(json.dumps([rows, str(error)]))
"""


@pytest.mark.parametrize("kind", ["pairs", "preferences"])
def test_a_hugging_face_data_set_by_its_name(tmp_path, kind):
    rows = [FLAT] if kind == "pairs" else list(PREFERENCES.values())[1:2]
    path = table(tmp_path, "jsonl", rows)
    child = subprocess.run(
        [sys.executable, "-c", HUB, str(path), kind],
        capture_output=True,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": str(Path(files.__file__).parents[1]),
            "HF_HOME": str(tmp_path / "hub"),
            "HF_HUB_OFFLINE": "1",
        },
        cwd=tmp_path,
    )
    found, error = json.loads(child.stdout.splitlines()[-1])
    assert found == READERS[kind](path)
    assert error.startswith("malmat/none: no such file, and no such Hugging Face data set")


def test_a_data_file_that_is_not_there_is_not_looked_for_on_the_hub():
    with pytest.raises(InputError, match=r"^data/none\.jsonl: no such file\. Check the path"):
        formats.read_pairs("data/none.jsonl")


def test_pairs_keep_the_order_of_their_first_appearance(tmp_path):
    rows = [{"question": name, "answer": "a"} for name in "가나가다"]
    files.write_jsonl(tmp_path / "a.jsonl", rows)
    assert [p["question"] for p in formats.read_pairs(tmp_path / "a.jsonl")] == ["가", "나", "다"]


def test_questions_of_both_kinds(tmp_path):
    files.write_json(tmp_path / "usage.json", {"questions": ["하나", "둘"]})
    usage = formats.read_questions(tmp_path / "usage.json")
    assert [row["question"] for row in usage] == ["하나", "둘"]
    files.write_json(tmp_path / "understand.json", [{"title": "밈", "question": "하나"}])
    (row,) = formats.read_questions(tmp_path / "understand.json")
    assert row == {"id": usage[0]["id"], "title": "밈", "question": "하나"}


def test_old_answers_get_an_id_and_a_status(tmp_path):
    old = [
        {"question": "1", "answer": "잘 지내"},
        {"question": "2", "answer": " "},
        {"question": "3", "answer": None},
        {"question": "4", "answer": "Error in generate: CUDA out of memory"},
        {"question": "5", "answer": "응\nuser\n뭐해?"},
    ]
    files.write_json(tmp_path / "a.json", [*old, {**old[0], "id": "x", "status": "refused"}])
    rows = results.read_answers(tmp_path / "a.json")
    statuses = ["ok", "empty", "empty", "api_error", "leaked", "refused"]
    assert [row["status"] for row in rows] == statuses
    assert rows[0]["id"] == files.row_id("question", "1")
    assert rows[5]["id"] == "x"


def test_terms_forms_are_split(tmp_path):
    path = write(tmp_path / "a.csv", "title,content,forms\n킹받네,화난다,킹받; 킹 ?받 ;\n")
    assert formats.read_terms(path)[0]["forms"] == ["킹받", "킹 ?받"]


TERMS = """title,content,example_q,example_a,category,forms,gloss,near
갓생,부지런한 삶,뭐 해?,갓생 사는 중,합성,갓생,알찬 하루,"나야, OO; 현생"
"""


def test_a_term_has_a_gloss_and_near_terms(tmp_path):
    (term,) = formats.read_terms(write(tmp_path / "a.csv", TERMS))
    assert (term["gloss"], term["near"]) == ("알찬 하루", ["나야, OO", "현생"])
    (term,) = formats.read_terms(write(tmp_path / "b.csv", "title,content\n밈,유행\n"))
    assert (term["gloss"], term["near"], term["forms"]) == ("", [], [])


def test_appended_terms_may_end_after_the_needed_columns(tmp_path):
    rows = "현타,허무함,왜?,현타 와서\n혜자,푸짐함,어때?,완전 혜자,이름\n"
    _, short, longer = formats.read_terms(write(tmp_path / "a.csv", TERMS + rows))
    assert short["example_a"] == "현타 와서"
    assert (short["category"], short["forms"], short["near"]) == ("", [], [])
    assert (longer["category"], longer["gloss"]) == ("이름", "")
    for row, columns in (("현타,허무함,왜?\n", 3), ("현타,허무함,왜?,현타,,,,,덤\n", 9)):
        with pytest.raises(InputError, match=f"line 3: {columns} columns where the header has 8"):
            formats.read_terms(write(tmp_path / "a.csv", TERMS + row))
    with pytest.raises(InputError, match="line 3: 2 columns where the header has 3"):
        formats.read_pairs(write(tmp_path / "b.csv", "title,question,answer\n가,나,다\n라,마\n"))


def test_a_preference_under_two_titles_is_one_row(tmp_path):
    row = PREFERENCES["text"]
    path = table(tmp_path, "jsonl", [{**row, "title": "집콕"}, {**row, "title": "집"}])
    assert [found["title"] for found in formats.read_preferences(path)] == ["집콕"]


def test_a_row_keeps_the_names_of_its_fields_in_errors(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"prompt": " ", "completion": "a"}')
    with pytest.raises(InputError, match="line 1, field 'prompt': empty"):
        formats.read_pairs(path)


def test_ids_do_not_hang_on_key_order_or_machine():
    assert files.digest({"b": 1, "a": "가"}) == files.digest({"a": "가", "b": 1})
    assert files.row_id("pair", "갓생") != files.row_id("pair", "밈")
    expected = hashlib.sha256('["가"]'.encode()).hexdigest()[:16]
    assert files.row_id("가") == expected


# ---------------------------------------------------------------------------- writing

WRITE_TOO_MUCH = """
import resource, sys
from malmat import cli, files
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
def main():
    getattr(files, sys.argv[1])(sys.argv[2], [{"text": "가" * 100}] * 100)
cli.run(main)
"""


@pytest.mark.parametrize("writer", ["write_json", "write_jsonl"])
def test_a_full_disk_leaves_the_old_file(tmp_path, writer):
    path = tmp_path / "results.json"
    files.write_json(path, ["old"])
    child = subprocess.run(
        [sys.executable, "-c", WRITE_TOO_MUCH, writer, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(files.__file__).parents[1])},
    )
    assert child.returncode == 1
    assert child.stderr.startswith("stopped: ")
    assert len(child.stderr.splitlines()) == 1
    assert json.loads(path.read_text()) == ["old"]
    assert os.listdir(tmp_path) == ["results.json"]


@pytest.mark.parametrize("value", [float("nan"), {"text": "\ud83d"}, object()])
def test_a_value_that_no_file_can_hold_leaves_the_old_file(tmp_path, value):
    path = tmp_path / "results.json"
    files.write_json(path, ["old"])
    for write_one in (files.write_json, files.write_jsonl):
        with pytest.raises((ValueError, TypeError)):
            write_one(path, [{"value": value}])
    assert json.loads(path.read_text()) == ["old"]
    assert os.listdir(tmp_path) == ["results.json"]


def test_written_files_are_read_back(tmp_path):
    rows = [{"a": '쉼표, "따옴표"', "b": "줄\n바꿈"}]
    files.write_csv(tmp_path / "deep" / "a.csv", ["a", "b"], rows)
    assert files.read_rows(tmp_path / "deep" / "a.csv") == [(2, rows[0])]
    files.write_jsonl(tmp_path / "a.jsonl", rows)
    assert files.read_rows(tmp_path / "a.jsonl") == [(1, rows[0])]
    assert "줄" in (tmp_path / "a.jsonl").read_text(encoding="utf-8")
