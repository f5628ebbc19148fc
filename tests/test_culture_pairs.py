"""Preference pairs, rationales, queries and rows with contexts of the culture questions."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest

from malmat.contests import rejected_answers as wrong
from malmat.contests.rationales import comes_to, read_rationale, read_reading
from malmat.contests.typed_questions import Question, read_typed
from malmat.text.alternatives import HOLDS, IS, PART, SPELLING, Alternatives, is_spelling
from tests.fake_llm import FakeLLM

CULTURE = "src/culture_qa/"
PARAGRAPH = (
    "단오는 음력 오월 초닷새로, 한 해 가운데 양기가 가장 왕성한 날이라고 여겼다. 여자들은 창포를 "
    "삶은 물에 머리를 감고 그네를 뛰었으며, 남자들은 씨름판을 벌여 힘과 기술을 겨루었다."
)
OTHER = (
    "칠석은 음력 칠월 초이렛날로, 헤어져 지내던 견우와 직녀가 까치들이 놓은 다리에서 만난다는 "
    "이야기가 전한다. 이날 여자들은 바느질 솜씨가 늘기를 빌었고, 집집이 옷과 책을 볕에 말렸다."
)


def row(name: str, kind: str, question: str, answer: str, **more) -> dict:
    asked = {
        "category": "문화 지식", "domain": "풍습", "question_type": kind,
        "topic_keyword": more.pop("keyword", name), "question": question,
    }  # fmt: skip
    return {"id": name, "input": asked, "output": {"answer": answer}, **more}


ROWS = [
    row("pick", "선다형", r"설날에 먹는 음식은? \n 1\t송편 \n 2\t떡국 \n 3\t팥죽 \n 4\t화전", "2"),
    row("word", "단답형", "보름달 아래 손을 잡고 도는 놀이는?", "강강술래#강강수월래"),
    row("bow", "단답형", "설날 아침 어른께 드리는 절은?", "세배"),
    row("year", "단답형", "훈민정음을 만든 해는?", "1443년"),
    row("king", "단답형", "훈민정음을 만든 임금은?", "세종#세종대왕"),
    row("text", "서술형", "단오에 대해 서술하세요.", PARAGRAPH),
]


def write(path, rows):
    path.write_text("\n".join(json.dumps(one, ensure_ascii=False) for one in rows), "utf-8")
    return path


def lines(path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture
def prepared(tmp_path, script):
    """Training rows of prepare.py."""
    given, output = write(tmp_path / "train_rows.jsonl", ROWS), tmp_path / "train.jsonl"
    result = script(CULTURE + "prepare.py", "--input", given, "--output", output)
    assert result.returncode == 0, result.stderr
    return output


def refused(result, *parts: str) -> None:
    assert (result.returncode, result.stderr.count("\n")) == (2, 1), result.stderr
    for part in parts:
        assert part in result.stderr


# -------------------------------------------------------------------------- alternatives


@pytest.mark.parametrize(
    ("answers", "text", "reason"),
    [
        (["세배"], " 세배 ", IS),
        (["세배"], "세배를", IS),
        (["세배"], "‘세배’", IS),
        (["온돌", "구들"], "구 들", IS),
        (["UNESCO"], "ｕｎｅｓｃｏ", IS),
        (["세종"], "세종(世宗)", IS),
        (["한글"], "\u1112\u1161\u11ab\u1100\u1173\u11af", IS),  # in conjoining jamo
        (["세종"], "세종대왕", HOLDS),
        (["강강술래"], "답은 강강술래입니다", HOLDS),
        (["김"], "구운 김", HOLDS),
        (["창덕궁 후원"], "창덕궁", PART),
        (["강강술래"], "강강수월래", SPELLING),
        (["세배"], "새배", SPELLING),
        (["떡볶이"], "떡뽁이", SPELLING),
        (["김치찌개"], "김치찌게", SPELLING),
        (["널뛰기"], "널을 뛰기", SPELLING),
        (["유네스코"], "유네스꼬", SPELLING),
        (["세배"], "성묘", None),
        (["김"], "김치", None),
        (["백자"], "백제", None),
        (["세종"], "세조", None),
        (["1443년"], "1446년", None),
        (["씨름"], "시름", None),
        (["숭례문"], "흥인지문", None),
    ],
)
def test_what_could_be_an_accepted_answer_is_told(answers, text, reason):
    assert Alternatives(answers).reason(text) == reason


def test_a_paragraph_that_is_nearly_the_accepted_one_is_told():
    near = PARAGRAPH.replace("여자들은", "여인들은").replace("씨름판", "씨름 판")
    assert Alternatives([PARAGRAPH]).reason(near)
    assert Alternatives([PARAGRAPH]).reason(OTHER) is None


def test_two_numbers_are_two_facts():
    assert not is_spelling("3·1 운동", "4·1 운동")
    assert is_spelling("강강술래", "강강수월래")


# ----------------------------------------------------------------------------- the pairs

BAD = {
    wrong.EMPTY: [("bow", ""), ("pick", "   "), ("text", "\n")],
    IS: [("pick", "2"), ("bow", "세배를"), ("word", "강강 술래"), ("year", "1443 년")],
    HOLDS: [("king", "세종대왕님"), ("word", "민속놀이 강강술래")],
    SPELLING: [("bow", "새배"), ("word", "강강술레")],
    PART: [("king", "대왕"), ("text", PARAGRAPH[:90])],
    wrong.TYPE: [("pick", "송편"), ("pick", "5"), ("bow", "③"), ("king", "1397년"),
                 ("bow", "어른께 허리를 굽혀 큰절을 올리는 것을 말한다."), ("text", "칠석")],
    wrong.LENGTH: [("text", OTHER * 3)],
}  # fmt: skip
GOOD = [
    *(("pick", label) for label in "134"),
    *(("bow", text) for text in ("성묘", "차례", "덕담", "제사")),
    *(("year", text) for text in ("1446년", "1392년", "1592년", "1910년")),
    *(("king", text) for text in ("세조", "태종", "정조", "영조")),
    *(("word", text) for text in ("줄다리기", "놋다리밟기", "쥐불놀이", "탈춤")),
    ("text", OTHER),
]


def test_of_forty_planted_pairs_the_twenty_bad_ones_are_refused_with_their_reasons(
    tmp_path, script, prepared
):
    bad = [(name, text, reason) for reason, some in BAD.items() for name, text in some]
    assert len(bad) == len(GOOD) == 20
    rows = [{"id": name, "rejected": text} for name, text, _ in bad]
    rows += [{"id": name, "rejected": text} for name, text in GOOD]
    given, output = write(tmp_path / "given.jsonl", rows), tmp_path / "pairs.jsonl"
    words = ["--input", prepared, "--output", output, "--sources", "file", "--candidates", given]
    result = script(CULTURE + "make_dpo_pairs.py", *words)
    assert result.returncode == 0, result.stderr
    pairs = lines(output)
    assert sorted((one["question_id"], one["rejected"]) for one in pairs) == sorted(GOOD)
    found = lines(tmp_path / "pairs.jsonl.rejected.jsonl")
    assert sorted((one["id"], one["rejected"], one["reason"]) for one in found) == sorted(bad)
    report = json.loads((tmp_path / "pairs.jsonl.report.json").read_text())
    assert report["by_source"]["file"] == {"pairs": 20} | {k: len(v) for k, v in BAD.items()}
    assert all(0.5 <= one["ratio"] <= 2 for one in pairs)
    answers = {one["question_id"]: one["chosen"] for one in pairs}
    assert (answers["pick"], answers["word"]) == ("2", "강강술래")
    assert pairs[0]["prompt"][-1]["role"] == "user"

    from malmat.formats import read_preferences

    assert len(read_preferences(output)) == 20


@pytest.mark.parametrize("reason", BAD)
def test_each_reason_is_given_for_its_own_kind_alone(prepared, reason):
    asked = {one.question.id: one for one in wrong.asked_rows(read_typed(prepared)[0], "x")}
    for name, text in BAD[reason]:
        assert wrong.problem(asked[name], text) == reason
    for name, text in GOOD:
        assert wrong.problem(asked[name], text) is None


def test_sources_take_turns_and_a_question_has_no_more_than_its_share(tmp_path, script, prepared):
    contexts = [{"id": one["id"], "contexts": []} for one in ROWS]
    titles = ["강강술래", "줄다리기", "씨름", "제기차기"]
    contexts[1]["contexts"] = [
        {"id": f"p{n}#1", "title": title, "text": "글."} for n, title in enumerate(titles)
    ]
    contexts[5]["contexts"] = [
        {"id": "right#0", "title": "단오", "text": PARAGRAPH + " 더."},
        {"id": "other#0", "title": "칠석", "text": OTHER + " 그 밖의 글이 뒤따른다. " * 20},
    ]
    samples = [
        {"id": "word", "question": "q", "answer": "윷놀이", "status": "ok"},
        {"id": "word", "question": "q", "answer": "강강술래", "status": "ok"},
        {"id": "word", "question": "q", "answer": "반쪽", "status": "truncated"},
        {"id": "text", "question": "q", "answer": PARAGRAPH[:-2] + " 했다.", "status": "ok"},
    ]
    output = tmp_path / "pairs.jsonl"
    result = script(
        CULTURE + "make_dpo_pairs.py", "--input", prepared, "--output", output,
        "--sources", "options", "neighbours", "own", "--per_question", 2,
        "--contexts", write(tmp_path / "near.jsonl", contexts),
        "--qrels", write(tmp_path / "qrels.json", [{"text": ["right"]}]),
        "--samples", write(tmp_path / "own.jsonl", samples),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    pairs = lines(output)
    of = {name: [one for one in pairs if one["question_id"] == name] for name in ("pick", "word")}
    assert [len(some) for some in of.values()] == [2, 2]
    assert [(one["source"], one["rejected"]) for one in of["word"]] == [
        ("own", "윷놀이"), ("neighbours", "줄다리기"),
    ]  # fmt: skip
    (long,) = [one for one in pairs if one["question_id"] == "text"]
    assert long["rejected"] == f"{OTHER} 그 밖의 글이 뒤따른다."
    by_source = json.loads((tmp_path / "pairs.jsonl.report.json").read_text())["by_source"]
    assert by_source["own"][wrong.FAILED] == 1
    assert by_source["own"][IS] == 1
    assert by_source["neighbours"][wrong.MORE] >= 1


def reply(prompt: str, body: dict) -> str:
    if '"right"' in json.dumps(body):
        return json.dumps({"right": "큰절" in prompt})
    return json.dumps({"answers": ["큰절", "성묘", "세배"]}, ensure_ascii=False)


def test_an_llm_writes_wrong_answers_and_a_checker_reads_them(tmp_path, script, prepared):
    output = tmp_path / "pairs.jsonl"
    with FakeLLM(reply) as server:
        words = [
            CULTURE + "make_dpo_pairs.py", "--input", prepared, "--output", output, "--sources",
            "llm", "--model", "gpt-x", "--checker", "gpt-y", "--base_url", server.url + "/v1",
        ]  # fmt: skip
        result = script(*words, OPENAI_API_KEY="k")
        assert result.returncode == 0, result.stderr
        calls = len(server.requests)
        assert script(*words, OPENAI_API_KEY="k").returncode == 0
        assert len(server.requests) == calls  # all of it was paid for
        dry = script(*words, "--dry_run", OPENAI_API_KEY="k")
        assert "plan: 5 calls of gpt-x" in dry.stdout
    bow = [one for one in lines(output) if one["question_id"] == "bow"]
    assert [one["rejected"] for one in bow] == ["성묘"]
    bad = lines(tmp_path / "pairs.jsonl.rejected.jsonl")
    found = {(one["rejected"], one["reason"]) for one in bad if one["id"] == "bow"}
    assert found == {("큰절", wrong.CHECKED), ("세배", IS)}


def test_a_reply_that_fails_is_asked_for_again_and_makes_no_pair(tmp_path, script, prepared):
    output = tmp_path / "pairs.jsonl"
    with FakeLLM(lambda *_: "모르겠다") as server:
        words = [
            CULTURE + "make_dpo_pairs.py", "--input", prepared, "--output", output, "--sources",
            "llm", "--model", "gpt-x", "--base_url", server.url + "/v1",
        ]  # fmt: skip
        result = script(*words, OPENAI_API_KEY="k")
    assert result.returncode == 1
    assert lines(output) == []
    with FakeLLM(reply) as server:
        words[-1] = server.url + "/v1"
        assert script(*words, OPENAI_API_KEY="k").returncode == 0
    assert lines(output)


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--sources", "neighbours"], ["field 'contexts'"]),
        (["--samples", "x.json"], ["field 'samples'"]),
        (["--ratio", "1.5", "2"], ["field 'ratio'"]),
        (["--provider", "local", "--max_cost", "1"], ["field 'max_cost'"]),
        (["--sources", "file", "--candidates", "{odd}"], ["odd.jsonl", "nobody"]),
        (["--input", "{test}"], ["test.jsonl, line 1, field 'answer'", "has no answer"]),
        (["--input", "{raw}"], ["field 'messages'", "prepare.py"]),
    ],
)
def test_bad_input_of_the_pairs_is_one_line(tmp_path, script, prepared, words, parts):
    test = {name: value for name, value in lines(prepared)[2].items() if name[:6] != "answer"}
    files = {
        "odd": write(tmp_path / "odd.jsonl", [{"id": "nobody", "rejected": "x"}]),
        "test": write(tmp_path / "test.jsonl", [{**test, "messages": test["messages"][:1]}]),
        "raw": write(tmp_path / "raw.jsonl", ROWS),
    }
    given = [word.format(**files) for word in words]
    first = [] if "--input" in given else ["--input", prepared]
    result = script(
        CULTURE + "make_dpo_pairs.py", *first, *given, "--output", tmp_path / "pairs.jsonl"
    )
    refused(result, *parts)
    assert not (tmp_path / "pairs.jsonl").exists()


@pytest.mark.parametrize("maker", ["make_dpo_pairs.py", "make_queries.py", "make_cot.py"])
@pytest.mark.parametrize("mark", [{"evaluation_only": True}, {"licence": "CC BY-ND 4.0"}])
def test_rows_without_derivatives_are_refused_before_anything_is_asked(
    tmp_path, script, prepared, maker, mark
):
    closed = write(tmp_path / "closed.jsonl", [{**one, **mark} for one in lines(prepared)])
    words = (CULTURE + maker, "--input", closed, "--output", tmp_path / "out.jsonl", "--dry_run")
    refused(script(*words), "closed.jsonl", "6 rows are for evaluation only")
    write(closed, lines(prepared))
    assert script(*words).returncode == 0


NEAR = [
    {"id": "a", "title": "단 오", "text": OTHER},
    {"id": "b", "title": "칠석", "text": OTHER.replace("칠석은", "칠석날은")},
]


@pytest.mark.parametrize(
    ("told", "reasons"),
    [
        ({"judged": True}, [None, None]),
        ({"judged": False}, [wrong.OWN, wrong.UNJUDGED]),
        ({"judged": False, "checked": True}, [wrong.OWN, None]),
    ],
)
def test_passages_may_be_right_where_nobody_says_which_are(prepared, told, reasons):
    known = {one.question.id: one for one in wrong.asked_rows(read_typed(prepared)[0], "x")}
    text = known["text"]
    on_feast = wrong.Asked(replace(text.question, keyword="단오"), text.messages, text.chosen)
    assert [one.reason for one in wrong.from_contexts(on_feast, NEAR, **told)] == reasons
    titles = [one.text for one in wrong.from_contexts(known["bow"], NEAR, **told)]
    assert titles == ["단 오", "칠석"]  # of a short answer the title alone counts
    assert all(one.reason is None for one in wrong.from_contexts(known["bow"], NEAR, **told))


def test_neighbours_without_qrels_are_counted_and_left_out(tmp_path, script, prepared):
    near = [{"id": one["id"], "contexts": NEAR} for one in ROWS]
    output = tmp_path / "pairs.jsonl"
    result = script(
        CULTURE + "make_dpo_pairs.py", "--input", prepared, "--output", output, "--sources",
        "neighbours", "--contexts", write(tmp_path / "near.jsonl", near),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert {one["type"] for one in lines(output)} == {"단답형"}
    report = json.loads((tmp_path / "pairs.jsonl.report.json").read_text())
    assert report["by_source"]["neighbours"]["needs --qrels or --checker"] == 2


@pytest.mark.parametrize("qrels", [["a"], None, {"text": "right"}, {"text": [1]}])
@pytest.mark.parametrize("maker", ["make_dpo_pairs.py", "make_queries.py"])
def test_qrels_of_another_shape_are_one_line(tmp_path, script, prepared, maker, qrels):
    path = tmp_path / "qrels.json"
    path.write_text(json.dumps(qrels), encoding="utf-8")
    more = ["--index", tmp_path / "none"]
    if maker == "make_dpo_pairs.py":
        near = write(tmp_path / "near.jsonl", [{"id": "text", "contexts": []}])
        more = ["--sources", "neighbours", "--contexts", near]
    words = ["--input", prepared, "--output", tmp_path / "out.jsonl", "--qrels", path, *more]
    refused(script(CULTURE + maker, *words), "qrels.json", "expected {question id: [passage id]}")


@pytest.mark.parametrize(
    ("answers", "text", "reason"),
    [
        (["10월 9일"], "시월 구일", SPELLING),
        (["시월 구일"], "10월 9일", SPELLING),
        (["5월 5일"], "오월 초닷새", SPELLING),
        (["1919년"], "천구백십구 년", SPELLING),
        (["1919년"], "일구일구년", SPELLING),
        (["25살"], "스물다섯 살", SPELLING),
        (["세 가지"], "3가지", SPELLING),
        (["10월 9일"], "시월 팔일", None),
        (["10월 9일"], "8월 15일", None),
        (["K-pop"], "케이팝", wrong.SCRIPT),
        (["한복"], "韓服", wrong.SCRIPT),
        (["金"], "김", wrong.SCRIPT),
        (["김치"], "kimchi", wrong.SCRIPT),
        (["K팝"], "트로트", None),
        (["한류", "K-pop"], "trot", None),
        (["한류"], "민요", None),
    ],
)
def test_a_number_in_words_and_another_script_are_refused(answers, text, reason):
    asked = Question("i", 1, "단답형", "", "", "", "무엇?", answer="#".join(answers))
    asked = wrong.Asked(replace(asked, answers=answers), [{"role": "user"}], answers[0])
    assert wrong.problem(asked, text, (0.1, 10)) == reason


# ------------------------------------------------------------------------------ rationales


def test_a_rationale_loses_what_tells_its_answer():
    text = (
        "설날에는 흰 떡을 썰어 국을 끓였다. 따라서 정답은 2번이다. 나이를 한 살 더 먹는다고 한다."
    )
    assert (
        read_rationale(text) == "설날에는 흰 떡을 썰어 국을 끓였다. 나이를 한 살 더 먹는다고 한다."
    )
    for bad in ("정답은 2번이다.", "", "The answer follows from the calendar of the moon."):
        with pytest.raises(ValueError, match="no "):
            read_rationale(bad)


def test_a_second_reading_comes_to_the_key_or_does_not(prepared):
    known = {one.id: one for one in read_typed(prepared)[0]}
    pick, word = known["pick"], known["word"]
    assert read_reading(pick, "정답: **2**") == "2"
    assert comes_to(pick, "2", "2")
    assert not comes_to(pick, "3", "2")
    assert comes_to(word, "강강수월래입니다", str(word.answer))
    assert not comes_to(word, "줄다리기", str(word.answer))
    with pytest.raises(ValueError, match="choice"):
        read_reading(pick, "모르겠다")


def cot_reply(prompt: str, body: dict) -> str:
    """Rationales say which answer they are for; a reader follows them, but for one question."""
    if asked := re.search("아래 질문에 '(.*?)'라고", prompt):
        return f"옛 기록을 보면 {asked[1].replace('.', '')} 쪽으로 기운다. 그래서 정답은 그것이다."
    if "줄이세요" in prompt:
        return prompt.rpartition("[풀이]\n")[2]
    found = re.search("보면 (?:(\\d) )?(.+?) 쪽", prompt)
    return "모르는 말" if "절은?" in prompt else (found[1] or found[2])


def test_rationales_are_kept_where_a_second_reading_comes_to_their_answer(
    tmp_path, script, prepared
):
    output, negatives = tmp_path / "cot.jsonl", tmp_path / "wrong.jsonl"
    wrongs = [{"question_id": "word", "rejected": "줄다리기"}, {"id": "bow", "rejected": "성묘"}]
    with FakeLLM(cot_reply) as server:
        result = script(
            CULTURE + "make_cot.py", "--input", prepared, "--output", output, "--negatives",
            negatives, "--wrong", write(tmp_path / "w.jsonl", wrongs), "--model", "gpt-x",
            "--base_url", server.url + "/v1", OPENAI_API_KEY="k",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "1 of a type that has no key left out" in result.stdout
    rows = {one["id"]: one for one in lines(output)}
    assert sorted(rows) == ["king", "pick", "word", "year"]
    said = rows["pick"]["messages"][-1]["content"]
    assert said.endswith("\n정답: 2")
    assert "정답은" not in said
    assert rows["pick"]["variant"] == "MetaReason"
    assert "'정답:'" in rows["pick"]["messages"][0]["content"]
    pairs = lines(negatives)
    assert len(pairs) == 2  # the choice and 강강술래; the other rationale of 세배 has no right one
    assert all(one["chosen"] != one["rejected"] for one in pairs)
    rejected = lines(tmp_path / "cot.jsonl.rejected.jsonl")
    assert {one["id"] for one in rejected} == {"bow"}


# ------------------------------------------------------------------- queries and contexts


def query_reply(prompt: str, body: dict) -> str:
    if "놀이" in prompt:
        return "1. 강강술래 유래\n2. 보름 놀이\n3. 원무"
    if "설날 아침" in prompt:
        return "설 인사"
    return "세시 풍속\n전통 예절\n명절 음식"


def test_queries_are_three_and_do_not_hold_the_answer(tmp_path, script, prepared):
    output = tmp_path / "queries.jsonl"
    with FakeLLM(query_reply) as server:
        result = script(
            CULTURE + "make_queries.py", "--input", prepared, "--output", output, "--model",
            "gpt-x", "--base_url", server.url + "/v1", OPENAI_API_KEY="k",
        )  # fmt: skip
    assert result.returncode == 0, result.stderr
    rows = {one["id"]: one for one in lines(output)}
    assert sorted(rows) == ["king", "pick", "text", "year"]
    ask, answer = rows["year"]["messages"]
    assert answer["content"] == "세시 풍속\n전통 예절\n명절 음식"
    assert "검색어 세 개" in ask["content"]
    reasons = {one["id"]: one["reason"] for one in lines(tmp_path / "queries.jsonl.rejected.jsonl")}
    assert reasons == {
        "word": "holds the answer",
        "bow": "fewer than 3 queries beside the question",
    }


def test_rows_with_contexts_keep_their_shares(tmp_path, script, prepared):
    gold = [{"id": r["id"], "contexts": [{"id": "g", "title": "맞는", "text": "글"}]} for r in ROWS]
    near = [
        {"id": r["id"], "contexts": [
            {"id": "g", "text": "글"}, *({"id": f"n{n}", "text": f"딴 글 {n}"} for n in range(5)),
        ]}
        for r in ROWS
    ]  # fmt: skip
    output = tmp_path / "rows.jsonl"
    words = [
        CULTURE + "make_context_rows.py", "--input", prepared, "--output", output,
        "--gold", write(tmp_path / "gold.jsonl", gold),
        "--others", write(tmp_path / "near.jsonl", near), "--without", 0.34, "--distracting", 0.17,
    ]  # fmt: skip
    result = script(*words)
    assert result.returncode == 0, result.stderr
    rows = lines(output)
    given = [one["given"] for one in rows]
    assert [given.count(kind) for kind in ("right", "distracting", "without")] == [3, 1, 2]
    for one in rows:
        prompt = one["messages"][0]["content"]
        assert ("g" in one["contexts"]) is (one["given"] == "right")
        assert len(one["contexts"]) == (0 if one["given"] == "without" else 4)
        assert ("[참고 자료]" in prompt) is (one["given"] != "without")
    assert len({one["contexts"].index("g") for one in rows if "g" in one["contexts"]}) > 1
    gold.pop()
    write(tmp_path / "gold.jsonl", gold)
    refused(script(*words), "gold.jsonl, field 'id'", "text")
