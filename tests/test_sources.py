"""Published sets: files told by content, answers matched, other sets refused, licences kept."""

from __future__ import annotations

import ast
import csv
import gzip
import json
import unicodedata
from pathlib import Path

import pytest

from malmat.contests.faults import BadRow
from malmat.contests.mcq_rows import read_exam_items
from malmat.errors import InputError
from malmat.sources.layouts import LAYOUTS
from malmat.sources.licences import SOURCES, is_evaluation_only, licence_gate
from malmat.sources.mcq import read_mcq, read_mcq_files
from malmat.sources.open import read_source
from malmat.sources.row import lettered, matched, numbered
from malmat.sources.squad import read_passages
from malmat.train.examples import refuse_evaluation_only
from tests.conftest import ROOT

CASES = ROOT / "tests/cases/sources"
CONVERT = "src/csat/convert.py"
BOOLQ = [{"paragraph": "비가 온다.", "question": "비가 오는가?", "label": 1}]


def saved(path: Path, rows: list[dict] | str) -> Path:
    text = rows if isinstance(rows, str) else json.dumps(rows, ensure_ascii=False)
    path.write_text(text, encoding="utf-8")
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


# ------------------------------------------------------------- each set's published layout

KEYS = {  # file → right choices, in order
    "click.json": ["김장 김치", "물레방아는 물의 힘으로 돈다.", "세종"],
    "kmmlu.csv": ["경주", "NULL", "60"],
    "kmmlu_old.csv": ["황해"],
    "mmmlu.csv": ["진공", "30"],
    "haerae.jsonl": ["는개", "사과가 많으면 값이 내린다.", "셈틀"],
    "csatqa.jsonl": ["법이 사회를 지킨다."],
    "kobest_boolq.jsonl": ["예", "아니오"],
    "kobest_boolq.tsv": ["예"],
    "kobest_copa.jsonl": ["땅이 젖었다."],
    "kobest_copa.tsv": ["아이가 넘어졌다."],
    "kobest_wic.jsonl": ["아니오"],
    "kobest_hellaswag.jsonl": ["뚜껑을 덮고 기다린다."],
    "kobest_sentineg.jsonl": ["긍정"],
}


@pytest.mark.parametrize("name", KEYS)
def test_each_set_keeps_its_keys(name):
    found = read_mcq(CASES / name, name.split(".")[0].split("_")[0])
    assert [one.choices[one.answer - 1] for one in found.items] == KEYS[name]
    assert not found.faults
    assert len({one.id for one in found.items}) == len(found.items)


@pytest.mark.parametrize("name", KEYS)
def test_a_row_says_no_more_than_the_set_does(name):
    """No prompt of a benchmark stays in it: the chat template and the wording are the model's."""
    for one in read_mcq(CASES / name, name.split(".")[0].split("_")[0]).items:
        text = f"{one.paragraph} {one.question}"
        assert not any(mark in text for mark in ("###", "정답", "(A)", "<bos>", "선택지"))
        assert 2 <= len(one.choices) <= 5


def test_the_five_choice_row_has_five_and_is_tagged_as_of_the_exam():
    items = read_mcq(CASES / "click.json", "click").items
    exam = next(one for one in items if "CSAT" in one.id)
    assert (len(exam.choices), exam.answer, exam.is_exam) == (5, 5, True)
    assert [one.is_exam for one in items] == [False, True, False]


def test_a_prompt_is_taken_apart_into_paragraph_question_and_choices():
    _, read, loan = read_mcq(CASES / "haerae.jsonl", "haerae").items
    assert read.paragraph == "시장에 사과가 많이 나오면 값이 내린다."
    assert read.question == "글의 내용과 같은 것은?"
    assert loan.choices == ["셈틀", "누리집", "그림판", "글틀", "다람쥐"]


def test_paragraphs_come_without_impossible_questions_and_without_answers():
    found = read_passages(CASES / "klue_mrc.json")
    assert [(one.title, len(one.questions)) for one in found.passages] == [("온돌", 1), ("단오", 0)]
    assert found.left_out == {"impossible question": 1, "no answer": 1}
    for name in ("korquad.json", "korquad_flat.jsonl"):
        (one,) = read_passages(CASES / name).passages
        assert one.questions == [
            {"id": "1-0-0", "question": "장승은 어디에 세웠나?", "answers": ["마을 어귀"]}
        ]
    assert read_passages(CASES / "korquad_flat.jsonl").left_out == {"no answer": 1}


# ------------------------------------------------------------------------ told by content


@pytest.mark.parametrize("kind", ["json", "jsonl", "csv", "tsv", "parquet", "jsonl.gz", "bom"])
def test_a_file_is_told_by_its_content(tmp_path, kind):
    path = tmp_path / "anything.dat"
    text = json.dumps(BOOLQ[0], ensure_ascii=False)
    if kind == "json":
        path.write_text(f"[{text}]", encoding="utf-8")
    elif kind == "bom":
        path.write_text(text + "\n", encoding="utf-8-sig")
    elif kind == "jsonl.gz":
        path.write_bytes(gzip.compress((text + "\n").encode()))
    elif kind == "parquet":
        import pyarrow
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(BOOLQ), path)
    else:
        mark = "," if kind == "csv" else "\t"
        with open(path, "w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle, delimiter=mark)
            writer.writerows([list(BOOLQ[0]), list(BOOLQ[0].values())])
    (item,) = read_mcq(path, "kobest").items
    assert (item.question, item.answer) == ("비가 오는가?", 2)


def test_equal_headers_are_numbered_and_cells_stay_text(tmp_path):
    path = saved(tmp_path / "a.csv", "질문,보기,보기,보기\nq,NULL,None,nan\n")
    assert read_source(path)[0] == [
        (2, {"질문": "q", "보기": "NULL", "보기.1": "None", "보기.2": "nan"})
    ]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "empty"),
        ("question,answer\n", "no rows"),
        ('question,answer\nq,"a', "line 2"),
        ('[{"id": 1}', "line 1"),
        ("PK\x03\x04", "zip"),
    ],
)
def test_a_file_that_is_none_is_refused_with_its_line(tmp_path, text, named):
    with pytest.raises(InputError, match=named):
        read_source(saved(tmp_path / "a.csv", text))


# ------------------------------------------------------------------------ answers and keys


@pytest.mark.parametrize(
    "answer",
    ["양궁 ", " 양궁", unicodedata.normalize("NFD", "양궁"), "양궁", "양궁\u200b", "\u3000양궁"],
)
def test_an_answer_is_matched_after_normalization(answer):
    assert matched(answer, ["야구", "양궁"]) == 2


@pytest.mark.parametrize("answer", ["", " ", "양", "축구"])
def test_an_answer_that_is_no_choice_is_a_fault(tmp_path, answer):
    row = {"id": "A_1", "paragraph": "", "question": "활을 쏘는 것은?"}
    rows = [{**row, "choices": ["양궁", "야구"], "answer": answer}]
    with pytest.raises(InputError, match=r"line 1, field 'answer'.*A_1"):
        read_mcq(saved(tmp_path / "a.json", rows), "click")


@pytest.mark.parametrize("value", [3, "3", 3.0, "3.0", "③", "(3)", " 3 ", "３"])
def test_a_number_is_read_in_every_spelling(value):
    assert numbered(value, 5) == 3


@pytest.mark.parametrize("value", ["", None, 0, 6, "셋", 1.5, True, "B", [3], "33", "-1"])
def test_what_is_no_number_of_a_choice_is_a_fault(value):
    with pytest.raises(BadRow):
        numbered(value, 5)


@pytest.mark.parametrize(("value", "number"), [("B", 2), ("(B)", 2), ("b.", 2), ("Ｂ", 2)])
def test_a_letter_is_read_in_every_spelling(value, number):
    assert lettered(value, 4) == number


@pytest.mark.parametrize("value", ["", None, "E", "AB", "2", "가"])
def test_what_is_no_letter_of_a_choice_is_a_fault(value):
    with pytest.raises(BadRow):
        lettered(value, 4)


HEAD = "question,answer,A,B,C,D,Category,Human Accuracy\n"
ROW = "첨성대가 있는 도시는?,2,서울,경주,부여,공주,History,0.9\n"


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("질문?,,가,나,다,라,X,0.5", "answer.*no answer"),  # never "A"
        ("질문?,0,가,나,다,라,X,0.5", "beyond the 4 choices"),
        ("질문?,5,가,나,다,라,X,0.5", "beyond the 4 choices"),
        ("질문?,2,가,나,다 라,X,0.5", "7 columns where the header has 8"),  # a comma is missing
        ("질문, 둘?,2,가,나,다,라,X,0.5", "9 columns where the header has 8"),
        ("질문, 둘?,2,가,나,다 라,X,0.5", "answer.*no whole number"),  # one missing, one too many
        ("질문?,2,가,나,,라,X,0.5", "'C'.*empty"),
        ("질문?,2,가,나,나 ,라,X,0.5", "'C'.*choices 2 and 3 are equal"),
        (",2,가,나,다,라,X,0.5", "'question'.*empty"),
    ],
)
def test_a_faulty_row_is_named_and_can_be_skipped(tmp_path, line, named):
    path = saved(tmp_path / "a.csv", HEAD + ROW + line + "\n" + ROW.replace("도시", "고을"))
    with pytest.raises(InputError, match=f"line 3.*{named}"):
        read_mcq(path, "kmmlu")
    found = read_mcq(path, "kmmlu", skip_bad=True)
    assert (len(found.items), [fault.line for fault in found.faults]) == (2, [3])


def test_all_faulty_rows_are_named_in_one_run(tmp_path):
    text = HEAD + ROW + "질문?,,가,나,다,라,X,\n질문?,9,가,나,다,라,X,\n질문?,2,가\n"
    with pytest.raises(InputError) as caught:
        read_mcq(saved(tmp_path / "a.csv", text), "kmmlu")
    assert all(f"line {number}" in str(caught.value) for number in (3, 4, 5))


def test_repeats_are_left_out_and_two_rows_of_one_id_refused(tmp_path):
    row = {"id": "A_1", "question": "무엇인가?", "choices": ["가", "나"], "answer": "가"}
    found = read_mcq(saved(tmp_path / "a.json", [row, row]), "click")
    assert (len(found.items), found.left_out) == (1, {"repeats another row": 1})
    other = saved(tmp_path / "b.json", [row, {**row, "answer": "나"}])
    with pytest.raises(InputError, match=r"A_1.*line 1 has this id"):
        read_mcq(other, "click")
    third = saved(tmp_path / "c.json", [{**row, "answer": "나"}])
    with pytest.raises(InputError, match="another one in"):
        read_mcq_files([str(tmp_path / "a.json"), str(third)], "click")


def test_options_that_differ_from_the_prompt_are_a_fault(tmp_path):
    row = {"query": "무엇? (A) 가 (B) 나 ### 정답", "options": ["가", "다"], "answer": "(A)"}
    with pytest.raises(InputError, match="differ from the choices in the query"):
        read_mcq(saved(tmp_path / "a.json", [row]), "haerae")


@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("name", ["click.json", "kmmlu.csv", "mmmlu.csv", "csatqa.jsonl"])
def test_a_set_given_for_another_is_refused(source, name):
    if name.startswith(source):
        return
    with pytest.raises(
        InputError, match=f"is no file of .*looks like {LAYOUTS[name.split('.')[0]].title}"
    ):
        read_mcq(CASES / name, source)


def test_a_file_of_items_is_no_file_of_paragraphs():
    with pytest.raises(InputError, match="no file of paragraphs"):
        read_passages(CASES / "kmmlu.csv")


def test_no_label_or_a_third_one_is_a_fault(tmp_path):
    for label in (None, 2, "아마", ""):
        path = saved(tmp_path / "a.json", [{**BOOLQ[0], "label": label}])
        with pytest.raises(InputError, match="field 'label'"):
            read_mcq(path, "kobest")


# ---------------------------------------------------------------------------- convert.py


def test_rows_are_written_in_the_contests_layout(script, tmp_path):
    for name in ("a.jsonl", "a.csv"):
        out = tmp_path / name
        result = script(CONVERT, "click", "--input", CASES / "click.json", "--output", out)
        assert result.returncode == 0, result.stderr
        assert "2 with 4 choices; right: 1 1 0 0" in result.stdout
        assert "1 with 5 choices; right: 0 0 0 0 1" in result.stdout
    row = lines(tmp_path / "a.jsonl")[0]
    assert row["problems"]["answer"] == 1
    assert (row["source"], row["question_plus"]) == ("click", "")
    with open(tmp_path / "a.csv", encoding="utf-8", newline="") as handle:
        cells = list(csv.DictReader(handle))
    assert ast.literal_eval(cells[0]["problems"]) == row["problems"]
    assert [item.answer for item, _ in read_exam_items(tmp_path / "a.jsonl", answered=True)[0]] == [
        *(1, 5, 2)
    ]


def test_items_of_the_exam_can_be_left_out(script, tmp_path):
    out = tmp_path / "a.jsonl"
    words = ("--input", CASES / "click.json", "--output", out, "--no_csat")
    result = script(CONVERT, "click", *words)
    assert result.returncode == 0
    assert "left out: 1 (items of the 수능)" in result.stdout
    assert [row["source"] for row in lines(out)] == ["click", "click"]
    words = ("--input", CASES / "csatqa.jsonl", "--output", out, "--no_csat")
    assert script(CONVERT, "csatqa", *words).returncode == 2


def test_a_licence_without_derivatives_keeps_rows_out_of_training(script, tmp_path):
    out = tmp_path / "a.jsonl"
    words = ("--input", CASES / "kmmlu.csv", "--output", out)
    result = script(CONVERT, "kmmlu", *words)
    assert "CC BY-ND 4.0; no derivatives" in result.stdout
    assert "for evaluation only" in result.stdout
    with pytest.raises(InputError, match=r"3 rows are for evaluation only.*--allow_licence"):
        licence_gate(lines(out), out)
    script(CONVERT, "kmmlu", *words, "--allow_licence")
    licence_gate(lines(out), out)
    licence_gate([{"licence": "CC BY 4.0"}, {}, {"evaluation_only": "no"}], out)
    with pytest.raises(InputError, match=r"CC BY-ND 4\.0"):
        licence_gate([{"licence": "CC BY-ND 4.0"}], out)


def test_training_refuses_rows_for_evaluation_alone(tmp_path):
    row = {"question": "첨성대가 있는 도시는?", "answer": "경주", "evaluation_only": "yes"}
    path = saved(tmp_path / "a.json", [row])
    with pytest.raises(InputError, match="1 rows are for evaluation only"):
        refuse_evaluation_only(str(path))
    refuse_evaluation_only(str(saved(path, [{**row, "evaluation_only": "no"}])))
    refuse_evaluation_only(str(saved(path, [{"question": "도시는?", "answer": "경주"}])))


def test_the_sets_that_forbid_derivatives_are_known():
    closed = {name for name, one in SOURCES.items() if is_evaluation_only(one.licence)}
    assert closed == {"kmmlu", "haerae", "korquad"}


def test_nothing_is_written_where_a_row_is_faulty(script, tmp_path):
    path = saved(tmp_path / "a.csv", HEAD + ROW + "질문?,,가,나,다,라,X,\n")
    out = tmp_path / "o.jsonl"
    result = script(CONVERT, "kmmlu", "--input", path, "--output", out)
    assert (result.returncode, out.exists()) == (2, False)
    assert len(result.stderr.splitlines()) == 1
    result = script(CONVERT, "kmmlu", "--input", path, "--output", out, "--skip_bad")
    assert (result.returncode, len(lines(out))) == (1, 1)
    assert "skipped: line 3" in result.stdout


def test_passages_are_written_for_augmentation(script, tmp_path):
    out = tmp_path / "p.jsonl"
    result = script(CONVERT, "klue_mrc", "--input", CASES / "klue_mrc.json", "--output", out)
    assert result.returncode == 0
    assert "left out: 1 (impossible question)" in result.stdout
    assert [row["title"] for row in lines(out)] == ["온돌", "단오"]
    assert lines(out)[0]["licence"] == "CC BY-SA 4.0"
