"""Published sets of questions, in their layouts and with their known faults, as contest rows."""

from __future__ import annotations

import json

import pytest

from malmat.contests.typed_questions import CHOICE, LONG, SHORT, read_typed
from malmat.errors import InputError
from malmat.sources.qa import SETS, as_text, read_qa
from malmat.train.examples import read_training_rows, refuse_evaluation_only
from tests.conftest import ROOT, assert_refused

CASES = ROOT / "tests/cases/sources"
CONVERT = "src/culture_qa/convert.py"
WANTED = {
    ("click", "click.json"): (3, {}),
    ("kmmlu", "kmmlu.csv"): (3, {}),
    ("etri_qa", "etri_choice.csv"): (2, {"the answer is no choice": 1, "no answer": 1}),
    ("etri_qa", "etri_association.csv"): (1, {"an HTML entity": 1}),
    ("etri_qa", "etri_short.csv"): (1, {"no answer": 1}),
    ("etri_mrc", "etri_mrc.json"): (1, {"answer_start points at another text": 1}),
    ("korquad", "korquad.json"): (1, {}),
    ("korquad", "korquad_flat.jsonl"): (1, {"no answer": 1}),
    ("klue_mrc", "klue_mrc.json"): (1, {"impossible question": 1, "no answer": 1}),
    ("klue_mrc", "klue_mrc_flat.jsonl"): (1, {"impossible question": 1}),
    ("tydiqa", "tydiqa.json"): (1, {}),
    ("tydiqa", "tydiqa_flat.jsonl"): (1, {"not Korean": 1}),
    ("tydiqa", "tydiqa_passage.jsonl"): (1, {"not Korean": 1}),
    ("korwikitq", "korwikitq.json"): (2, {"an empty table": 1, "no answer": 1}),
    ("koalpaca", "koalpaca.jsonl"): (1, {"no answer": 1}),
    ("koalpaca_realqa", "koalpaca_realqa.jsonl"): (1, {}),
}


@pytest.mark.parametrize(("source", "name"), WANTED)
def test_each_set_gives_its_questions_and_counts_what_it_leaves_out(source, name):
    found = read_qa(CASES / name, source)
    count, left_out = WANTED[source, name]
    assert len(found.questions) == count
    assert dict(found.left_out) == left_out
    assert found.faults == []
    for one in found.questions:
        assert one.question
        assert all(one.answers)
        if one.choices:
            assert 1 <= int(one.answers[0]) <= len(one.choices)


def test_every_set_has_a_case():
    assert {source for source, _ in WANTED} == set(SETS)


def test_all_answers_are_alternatives_and_an_answer_with_a_blank_is_its_choice():
    flat = read_qa(CASES / "klue_mrc_flat.jsonl", "klue_mrc").questions[0]
    assert flat.answers == ["윷가락", "윷가락 네 개"]
    choices = read_qa(CASES / "etri_choice.csv", "etri_qa").questions
    assert [one.answers for one in choices] == [["1"], ["2"]]
    assert choices[1].choices == ["태종", "세종", "문종", "세조"]


def test_etri_files_are_read_in_cp949_and_others_are_not(tmp_path):
    text = (CASES / "etri_choice.csv").read_text(encoding="utf-8")
    path = tmp_path / "객관식.csv"
    path.write_bytes(text.encode("cp949"))
    assert read_qa(path, "etri_qa") == read_qa(CASES / "etri_choice.csv", "etri_qa")
    with pytest.raises(InputError, match="CP949"):
        read_qa(path, "kmmlu")


def test_ragged_tables_blank_headers_and_tables_of_one_row():
    table = [["이름", "날", ""], ["단오", "5월 5일"], ["추석", "8월 15일", "송편", "덤"], []]
    assert as_text(table, "명절").splitlines() == [
        "명절",
        "이름: 단오, 날: 5월 5일",
        "이름: 추석, 날: 8월 15일, 열 3: 송편, 열 4: 덤",
    ]
    assert as_text([["세종", 1446]]) == "세종, 1446"
    assert as_text([]) == as_text([[], [""]]) == ""


def test_a_passage_that_begins_with_a_blank_keeps_the_places_of_its_answers(tmp_path):
    path = tmp_path / "a.jsonl"
    row = {"context": "  나무", "question": "무엇?", "answers": {"text": ["나무"]}}
    rows = [{**row, "answers": {"text": ["나무"], "answer_start": [n]}} for n in (2, 0)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = read_qa(path, "korquad")
    assert [one.context for one in found.questions] == ["나무"]
    assert found.left_out.total() == 1


def test_a_file_of_another_set_is_refused():
    assert_refused(
        lambda path: read_qa(path, "korwikitq"), CASES / "korquad.json", ["korwikitq", "TBL"]
    )


def test_an_answer_with_the_mark_of_alternatives_or_of_a_sentence_is_left_out(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [
        {"context": f"{text}이다.", "question": "무엇?", "answers": {"text": [text]}}
        for text in ("C#", "가" * 61, "가")
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    found = read_qa(path, "korquad")
    assert [one.answers for one in found.questions] == [["가"]]
    assert found.left_out.total() == 2


@pytest.mark.parametrize(
    ("start", "left_out"),
    [
        ("0", {}),
        (" 0 ", {}),
        ("9", {"answer_start points at another text": 1}),
        ("처음", {"answer_start is no number": 1}),
        ([0], {"answer_start is no number": 1}),
        (float("nan"), {"answer_start is no number": 1}),
    ],
)
def test_a_place_that_is_given_as_text_is_a_number(tmp_path, start, left_out):
    answers = [{"text": "나무", "answer_start": start}]
    found = _of_flat(tmp_path, {"context": "나무 한 그루가 있다.", "answers": answers})
    assert (len(found.questions), found.left_out) == (0 if left_out else 1, left_out)


def _of_flat(tmp_path, row):
    from malmat.sources import qa

    made = qa.Found()
    for make in qa.extractive({"question": "무엇?", **row}):
        try:
            made.questions.append(make())
        except qa.LeftOut as reason:
            made.left_out[str(reason)] += 1
    return made


@pytest.mark.parametrize("output", [["x"], {"answer": "x"}, True])
def test_an_answer_that_is_no_text_is_left_out(tmp_path, output):
    path = tmp_path / "a.jsonl"
    rows = [{"instruction": "단오는?", "output": one} for one in (output, "오월 초닷새다.")]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    found = read_qa(path, "koalpaca")
    assert [one.answers for one in found.questions] == [["오월 초닷새다."]]
    assert found.left_out == {"an answer that is no text": 1}


def test_a_row_with_one_blank_choice_keeps_the_others(tmp_path):
    name = "보기()E_string"
    head = f"질문(Q_string),{name},{name},{name},{name},정답(A_ans)"
    path = tmp_path / "a.csv"
    path.write_text(f"{head}\n한글을 만든 임금은?,태종,,세종,문종,세종\n", encoding="utf-8")
    found = read_qa(path, "etri_qa")
    assert found.left_out == {}
    assert [(one.choices, one.answers) for one in found.questions] == [
        (["태종", "세종", "문종"], ["2"])
    ]


# --------------------------------------------------------------------------- convert.py


def test_convert_writes_the_contests_layout_with_licences(script, tmp_path):
    files = [
        f"{source}={CASES / name}" for source, name in WANTED if source not in ("kmmlu", "korquad")
    ]
    output, contexts = tmp_path / "rows.json", tmp_path / "contexts.jsonl"
    words = (CONVERT, *files, "--output", output, "--contexts_output", contexts)
    result = script(*words)
    assert result.returncode == 0, result.stderr
    assert "KLUE-MRC: CC BY-SA 4.0" in result.stdout
    assert "left out: 1 (answer_start points at another text)" in result.stdout
    questions, faults = read_typed(output)
    assert faults == []
    assert {one.type for one in questions} == {CHOICE, SHORT, LONG}
    assert all(one.answers and one.more["licence"] for one in questions)
    assert not any(one.problem for one in questions)
    known = {row["id"]: row["contexts"] for row in map(json.loads, contexts.open())}
    assert list(known) == [one.id for one in questions]
    assert sum(bool(some) for some in known.values()) == 8
    first = output.read_bytes()
    assert script(*words).returncode == 0
    assert output.read_bytes() == first


def test_rows_without_derivatives_keep_their_mark_and_training_refuses_them(script, tmp_path):
    rows, output = tmp_path / "rows.json", tmp_path / "train.jsonl"
    convert = (CONVERT, f"kmmlu={CASES / 'kmmlu.csv'}", "--output", rows)
    prepare = ("src/culture_qa/prepare.py", "--input", rows, "--output", output)
    assert "no derivatives: evaluation only" in script(*convert).stdout
    assert script(*prepare).returncode == 0
    assert_refused(refuse_evaluation_only, output, ["3 rows are for evaluation only"])
    assert script(*convert, "--allow_licence").returncode == 0
    assert script(*prepare).returncode == 0
    refuse_evaluation_only(output)
    assert len(read_training_rows(output, preferences=False)) == 3


def test_leaks_repeats_and_the_draw_of_a_source(script, tmp_path):
    held = tmp_path / "test.json"
    asked = {"question_type": "단답형", "question": "비가 내린 양을 재던, 조선의 기구는?"}
    held.write_text(json.dumps([{"id": "q-test-1", "input": asked}]), encoding="utf-8")
    output = tmp_path / "rows.jsonl"
    files = [f"etri_qa={CASES / name}" for name in ("etri_short.csv", "etri_choice.csv")]
    again = f"etri_qa={CASES / 'etri_choice.csv'}"
    words = (CONVERT, *files, again, f"click={CASES / 'click.json'}", "--output", output)
    result = script(*words, "--held_out", held, "--per_source", 2)
    assert result.returncode == 0, result.stderr
    assert "like a question of --held_out" in result.stdout
    assert "left out: 2 (like another question)" in result.stdout
    sources = [row["source"] for row in map(json.loads, output.open())]
    assert sources == ["etri_qa"] * 2 + ["click"] * 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("nothing=a.json",), "SET=FILE"),
        (("click",), "SET=FILE"),
        (("click=missing.json",), "no such file"),
    ],
)
def test_bad_usage_of_convert_is_one_line(script, tmp_path, words, expected):
    result = script(CONVERT, *words, "--output", tmp_path / "a.json")
    assert result.returncode == 2
    assert expected in result.stderr
    assert result.stderr.count("\n") == 1
    assert not (tmp_path / "a.json").exists()
