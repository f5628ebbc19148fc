"""augment.py: what is kept and why not, faults and kills, money, batches, PDF files, leaks."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from malmat import cli
from malmat.contests.choice_order import rotated, shuffled, stays_in_order
from malmat.contests.exam_quality import longest_is_right, position_skew
from malmat.contests.held_back import HeldBack
from malmat.contests.makers import names_key, shown
from malmat.contests.mcq_rows import read_exam_items
from malmat.contests.passages import cut, read_texts
from malmat.errors import InputError
from malmat.evaluate.items import numbered
from malmat.files import write_csv
from malmat.journal import Journal, journal_path
from malmat.prompts import load_prompts
from malmat.sources.row import Mcq
from malmat.text.overlap import Overlaps
from tests.conftest import ROOT, ending
from tests.fake_llm import FakeLLM

FOLDER = ROOT / "src/csat"
PROMPTS = load_prompts(FOLDER / "augment_prompt.py")
NAMES = ["온돌", "단오", "장승", "물레", "한지", "옹기", "가마", "다듬이", "누비", "부뚜막"]


pytestmark = pytest.mark.usefixtures("fake_servers")


@pytest.fixture
def augment(monkeypatch, capsys):
    """Run the script in this process; its exit code, output and error output."""
    monkeypatch.syspath_prepend(str(FOLDER))
    import augment as module

    def run(*words: object):
        monkeypatch.setattr(sys, "argv", ["augment.py", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.run(module.main)
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    return run


def passage(name: str) -> str:
    """A passage of its own words, of about 200 characters."""
    told = "{0}의 {1}번째 쓰임은 {2}{3}라는 마을에서 {0}{1}년에 알려졌다."
    return " ".join(told.format(name, n, name[::-1], n * 37) for n in range(1, 7))


def write_passages(path: Path, names=NAMES) -> Path:
    rows = [{"paragraph": passage(name), "source": "own", "licence": "CC BY 4.0"} for name in names]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def beside(path: Path, name: str) -> Path:
    return path.with_name(f"{path.name}.{name}")


def reasons(path: Path) -> dict[str, int]:
    return json.loads(beside(path, "report.json").read_text())["rejected"]


def choice_lines(prompt: str) -> dict[str, int]:
    """Text → number of the choices that a prompt shows last."""
    found = re.findall(r"^(\d+)\. (.*)$", prompt.rpartition("[선택지]")[2], re.MULTILINE)
    return {text: int(number) for number, text in found}


def words_of(*seed: object) -> str:
    """Some made-up words, the same for the same seed."""
    draw = random.Random(str(seed))
    return " ".join("".join(draw.choices("가나도루미버소우지초켜타폐화", k=3)) for _ in range(5))


def item_for(name: str, number: int, kind: str = "옳은") -> dict:
    choices = [f"{name}에 대한 오답 {words_of(name, number, other)}" for other in range(4)]
    place = (len(name) + number) % 5
    choices.insert(place, f"{name}에 대한 {kind} {number} 서술이다.")
    question = f"{name} {words_of(name, number)}: 윗글과 맞는 것은?"
    return {"question": question, "question_plus": "", "choices": choices, "answer": place + 1}


def writer(prompt: str, body: dict) -> str:
    """A model that makes items of a passage and answers them: well, except where the right
    choice says otherwise (거짓: it finds another key; 상식: it needs no passage)."""
    if "출제 위원" in prompt:
        name = re.search(r"\[지문\]\n(\S+?)의 ", prompt)[1]
        kind = {"물레": "거짓", "한지": "상식"}.get(name, "옳은")
        items = [item_for(name, number, kind) for number in (1, 2)]
        return json.dumps({"items": items}, ensure_ascii=False)
    choices = choice_lines(prompt)
    right = next(n for text, n in choices.items() if re.search("옳은|거짓|상식", text))
    wrong = right % len(choices) + 1
    text = next(text for text, n in choices.items() if n == right)
    blind = "지문 없이" in prompt
    good = "상식" in text or ("옳은" in text and not blind)
    return json.dumps({"answer": right if good else wrong})


def words_for(server: FakeLLM, source: Path, output: Path, *more: object) -> list:
    words = ["--input", source, "--output", output, "--base_url", server.url + "/v1"]
    return [*words, "--model", "gpt-4o-mini", "--provider", "openai", *more]


# ---------------------------------------------------------------------------- new items


def test_items_are_kept_on_agreement_and_where_they_need_the_passage(augment, tmp_path):
    source, out = write_passages(tmp_path / "p.jsonl"), tmp_path / "new.jsonl"
    with FakeLLM(writer) as server:
        words = words_for(server, source, out, "--needs_passage")
        code, said, error = augment(*words)
        assert code == 0, error
        assert server.calls == 10 + 20 * 3 * 2
        assert "kept 16, rejected 4" in said
        assert reasons(out) == {
            "the answers disagree with the key": 2,
            "answered as well without the passage": 2,
        }
        rows = lines(out)
        assert {row["source"] for row in rows} == {"augmented-own"}
        assert {row["licence"] for row in rows} == {"CC BY 4.0"}
        assert all(row["right"] == 3 and row["right_without_passage"] == 0 for row in rows)
        kept = [(item.question, item.choices[item.answer - 1]) for item, _ in exam(out)]
        assert all("옳은" in right for _, right in kept)
        report = json.loads(beside(out, "report.json").read_text())
        assert sum(report["positions"]["5"]["counts"]) == 16
        assert report["longest_is_right"]["of"] == 16
        assert augment(*words)[0] == 0  # all in the journal
        assert server.calls == 130


def exam(path: Path):
    return read_exam_items(path, answered=True)[0]


def test_the_answering_sees_no_key_and_other_orders(augment, tmp_path):
    source, out = write_passages(tmp_path / "p.jsonl", NAMES[:1]), tmp_path / "new.jsonl"
    with FakeLLM(writer) as server:
        augment(*words_for(server, source, out))
        asked = [prompt for _, _, prompt, _ in server.log if "출제 위원" not in prompt]
    assert len(asked) == 6
    assert not any("[정답]" in prompt or '"answer"' in prompt for prompt in asked)
    places = [n for p in asked for text, n in choice_lines(p).items() if "옳은 1" in text]
    assert len(set(places)) == 3


def test_a_model_that_prefers_a_place_keeps_nothing(augment, tmp_path):
    def first(prompt, body):
        return writer(prompt, body) if "출제 위원" in prompt else '{"answer": 1}'

    source, out = write_passages(tmp_path / "p.jsonl"), tmp_path / "new.jsonl"
    with FakeLLM(first) as server:
        assert augment(*words_for(server, source, out))[0] == 0
    assert out.read_text() == ""
    assert reasons(out) == {"the answers disagree with the key": 20}


def test_fewer_votes_may_be_enough(augment, tmp_path):
    def two_of_three(prompt, body):
        if "출제 위원" in prompt:
            return writer(prompt, body)
        choices = choice_lines(prompt)
        right = next(n for text, n in choices.items() if re.search("옳은|거짓|상식", text))
        return json.dumps({"answer": 1 if right == 3 else right})

    source, out = write_passages(tmp_path / "p.jsonl"), tmp_path / "new.jsonl"
    with FakeLLM(two_of_three) as server:
        augment(*words_for(server, source, out))
        strict = len(lines(out))
        augment(*words_for(server, source, out, "--agree", 2))
        assert len(lines(out)) == 20 > strict
        assert augment(*words_for(server, source, out, "--agree", 4))[0] == 2


def test_another_model_checks(augment, tmp_path):
    source, out = write_passages(tmp_path / "p.jsonl", NAMES[:2]), tmp_path / "new.jsonl"
    with FakeLLM(writer) as server, FakeLLM(writer) as other:
        words = words_for(server, source, out, "--checker", "gpt-4.1-mini", "--max_cost", 1)
        code, said, _ = augment(*words, "--checker_base_url", other.url + "/v1")
        assert (code, server.calls, other.calls) == (0, 2, 12)
        assert {body["model"] for body in other.requests} == {"gpt-4.1-mini"}
        assert "12 calls of gpt-4.1-mini" in said


BROKEN = {
    "malformed (choices)": {"choices": ["가나다", "가나다 ", "라마바", "사아자", "차카타"]},
    "malformed (answer)": {"answer": 6},
    "malformed (question)": {"question": " "},
    "another number of choices": {"choices": ["가나다", "라마바", "사아자", "차카타"], "answer": 1},
    "not Korean": {"question": "Which of these is right?"},
    "the box of its choices is missing": {
        "choices": ["ㄱ", "ㄴ", "ㄷ", "ㄱ, ㄴ", "ㄴ, ㄷ"],
        "question": "보기에서 옳은 것을 고르면?",
    },
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_faulty_item_is_rejected_with_its_reason_and_not_answered(augment, tmp_path, reason):
    def answer(prompt, body):
        if "출제 위원" not in prompt:
            return writer(prompt, body)
        items = [{**item_for("온돌", 1), **BROKEN[reason]}, item_for("온돌", 2)]
        return json.dumps({"items": items}, ensure_ascii=False)

    source, out = write_passages(tmp_path / "p.jsonl", NAMES[:1]), tmp_path / "new.jsonl"
    with FakeLLM(answer) as server:
        assert augment(*words_for(server, source, out))[0] == 0
        assert server.calls == 1 + 3
    assert reasons(out) == {reason: 1}
    assert [row["reason"] for row in lines(beside(out, "rejected.jsonl"))] == [reason]


def test_near_duplicates_and_more_than_asked_for_are_rejected(augment, tmp_path):
    def answer(prompt, body):
        if "출제 위원" not in prompt:
            return writer(prompt, body)
        one = item_for("온돌", 1)
        again = {**one, "question": one["question"] + " "}
        items = [one, again, item_for("온돌", 3)]
        return json.dumps({"items": items}, ensure_ascii=False)

    source, out = write_passages(tmp_path / "p.jsonl", NAMES[:1]), tmp_path / "new.jsonl"
    with FakeLLM(answer) as server:
        augment(*words_for(server, source, out))
    assert reasons(out) == {"near-duplicate": 1, "more than asked for": 1}


def test_numbers_before_choices_are_taken_off(augment, tmp_path):
    def answer(prompt, body):
        if "출제 위원" not in prompt:
            return writer(prompt, body)
        row = item_for("온돌", 1)
        row["choices"] = [f"{'①②③④⑤'[n]} {text}" for n, text in enumerate(row["choices"])]
        other = {**item_for("온돌", 2), "choices": [f"{n}.5 옳은 쪽" for n in range(1, 6)]}
        return json.dumps({"items": [row, other]}, ensure_ascii=False)

    source, out = write_passages(tmp_path / "p.jsonl", NAMES[:1]), tmp_path / "new.jsonl"
    with FakeLLM(answer) as server:
        augment(*words_for(server, source, out))
    kept = [item.choices for item, _ in exam(out)]
    assert item_for("온돌", 1)["choices"] in kept


# ------------------------------------------------------------------------------ leaks


def held_out(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def long_passage() -> str:
    return "\n".join(passage(name) for name in NAMES[5:])


@pytest.mark.parametrize(
    "paragraph",
    [
        passage("온돌"),
        passage("온돌").replace("쓰임", "쓸모", 1),  # nearly
        f"{passage('누비')}\n{passage('온돌')}\n{passage('가마')}",  # the new one is cut from it
        " ".join(passage("온돌").split(". ")[2:5]),  # the new one quotes it
        passage("온돌").replace(" ", ""),
    ],
)
def test_a_passage_of_the_test_set_is_never_sent(augment, tmp_path, paragraph):
    problems = {"question": "무엇인가?", "choices": ["가", "나"]}
    row = {"id": "t1", "paragraph": paragraph, "problems": problems}
    test = held_out(tmp_path / "test.jsonl", [row])
    source, out = write_passages(tmp_path / "p.jsonl", NAMES[:2]), tmp_path / "new.jsonl"
    with FakeLLM(writer) as server:
        code, said, _ = augment(*words_for(server, source, out, "--against", test))
        assert code == 0
        assert "2 read; 1 of them leak" in said
        assert not any(passage("온돌")[:20] in prompt for _, _, prompt, _ in server.log)
    assert reasons(out) == {"leaks a held-out passage": 1}


def test_a_question_of_the_test_set_is_dropped_and_a_common_wording_is_not(augment, tmp_path):
    one, two = item_for("온돌", 1), item_for("온돌", 2)
    other_order = {"question": one["question"], "choices": one["choices"][::-1]}
    choices = ["아침에는 비가 온다.", "저녁에는 눈이 온다.", "밤에는 별이 뜬다."]
    alike = {"question": two["question"], "choices": choices}
    rows = [{"id": "t1", "paragraph": "다른 글", "problems": other_order}]
    rows += [{"id": "t2", "paragraph": "또 다른 글", "problems": alike}]
    test = held_out(tmp_path / "test.jsonl", rows)
    source, out = write_passages(tmp_path / "p.jsonl", NAMES[:1]), tmp_path / "new.jsonl"
    with FakeLLM(writer) as server:
        augment(*words_for(server, source, out, "--against", test))
        assert server.calls == 1 + 3
    assert reasons(out) == {"leaks a held-out question": 1}
    assert [row["problems"]["question"] for row in lines(out)] == [two["question"]]


def test_held_out_rows_are_read_prepared_or_as_the_contest_has_them(tmp_path):
    problems = {"question": "무엇을 데우는가?", "choices": ["방바닥", "하늘", "바다"]}
    row = {"id": "t", "paragraph": passage("온돌"), "question_plus": ""}
    table = tmp_path / "t.csv"
    write_csv(table, [*row, "problems"], [{**row, "problems": repr(problems)}])
    contest = held_out(tmp_path / "c.jsonl", [{**row, "problems": problems}])
    flat = {"question": problems["question"], "choices": list("123"), "cluster": "c"}
    prepared = held_out(tmp_path / "p.jsonl", [{**row, **flat, "options": problems["choices"]}])
    for path in (table, contest, prepared):
        held = HeldBack([path])
        assert held.items == 1
        assert held.holds_passage(passage("온돌"))
        assert held.reason(Mcq("x", problems["question"], problems["choices"], 1))
        with pytest.raises(InputError, match="no answer"):
            read_exam_items(path, answered=True)


def test_texts_without_a_common_stretch_do_not_overlap():
    index = Overlaps()
    index.add(passage("온돌"))
    assert index.find(passage("단오")) == []
    assert index.find("짧은 글") == []
    assert index.find(passage("온돌") * 3)[0][1] == 1.0


# ----------------------------------------------------------------- passages and PDF files


def pdf(*pages: str) -> bytes:
    """A PDF file with a line of ASCII text a page."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>"]
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects += [f"<< /Type /Pages /Kids [{kids}] /Count {len(pages)} >>"]
    objects += ["<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"]
    for number, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET" if text else ""
        font = "/Resources << /Font << /F1 3 0 R >> >> /MediaBox [0 0 612 792]"
        objects += [f"<< /Type /Page /Parent 2 0 R {font} /Contents {5 + 2 * number} 0 R >>"]
        objects += [f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream"]
    data, places = b"%PDF-1.4\n", []
    for number, text in enumerate(objects, 1):
        places.append(len(data))
        data += f"{number} 0 obj\n{text}\nendobj\n".encode()
    table = "".join(f"{place:010d} 00000 n \n" for place in places)
    head = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    tail = f"trailer << /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{len(data)}\n%%EOF"
    return data + (head + tail).encode()


def test_a_page_that_gives_no_text_is_listed_and_not_sent(augment, tmp_path):
    text = "The old kiln stands by the river and burns pine wood through the night. " * 4
    (tmp_path / "book").write_bytes(pdf(text, "", "7"))
    found = read_texts([str(tmp_path / "book")], 100, 1500)
    assert found.pages == ["book, page 2: gives no text", "book, page 3: gives no text"]
    assert [seed.paragraph for seed in found.seeds] == [text.strip()]
    words = ["--input", tmp_path / "book", "--output", tmp_path / "o.jsonl", "--dry_run"]
    code, said, _ = augment(*words)
    assert code == 0
    assert "not sent: book, page 2: gives no text" in said
    assert list(tmp_path.iterdir()) == [tmp_path / "book"]


@pytest.mark.parametrize("data", [b"%PDF-1.4\n", pdf("x" * 50)[:120], b"%PDF-1.7\nrubbish\n%%EOF"])
def test_a_damaged_pdf_is_one_line(augment, tmp_path, data):
    (tmp_path / "a.pdf").write_bytes(data)
    code, _, error = augment("--input", tmp_path / "a.pdf", "--output", tmp_path / "o.jsonl")
    assert code == 2
    assert len(error.splitlines()) == 1
    assert "a.pdf" in error


def test_a_long_text_is_cut_where_sentences_and_paragraphs_end():
    text = "\n\n".join(passage(name) for name in NAMES)
    parts = cut(text, 500)
    assert all(len(part) <= 500 for part in parts)
    assert all(part.endswith(".") for part in parts)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert cut("짧은 글.\n다음 줄.", 500) == ["짧은 글.\n다음 줄."]


def test_short_and_repeated_passages_are_left_out(tmp_path):
    path = tmp_path / "p.jsonl"
    rows = [{"text": passage("온돌")}, {"context": passage("온돌") + " "}, {"paragraph": "짧다."}]
    held_out(path, rows)
    found = read_texts([str(path)], 100, 1500)
    assert len(found.seeds) == 1
    assert found.left_out == {"repeats another passage": 1, "shorter than 100 characters": 1}
    with pytest.raises(InputError, match="no passage"):
        read_texts([str(held_out(path, [{"title": "없음"}]))], 100, 1500)


def test_evaluation_only_rows_are_not_augmented(augment, tmp_path):
    row = {"paragraph": passage("온돌"), "licence": "CC BY-ND 2.0 KR", "evaluation_only": "yes"}
    path = held_out(tmp_path / "p.jsonl", [row])
    with FakeLLM(writer) as server:
        words = words_for(server, path, tmp_path / "o.jsonl")
        code, _, error = augment(*words)
        assert (code, server.calls) == (2, 0)
        assert "--allow_licence" in error
        held_out(path, [{**row, "evaluation_only": "no"}])
        assert augment(*words)[0] == 0


# --------------------------------------------------- distractors, orders, rationales, hints


def write_items(path: Path, names=NAMES[:3]) -> Path:
    rows = []
    for name in names:
        row = item_for(name, 1)
        rows.append({"id": f"own-{name}", "paragraph": passage(name), "problems": row})
    return held_out(path, rows)


def test_new_distractors_leave_the_key_where_it_is(augment, tmp_path):
    def answer(prompt, body):
        if "오답 선택지를 새로" not in prompt:
            return writer(prompt, body)
        name = re.search(r"\[지문\]\n(\S+?)의 ", prompt)[1]
        same = {"단오": [f"{name}에 대한 옳은 1 서술이다."]}.get(name, [])
        found = [*same, *(f"{name}의 새로운 오답 {n}이다." for n in range(4))][:4]
        return json.dumps({"distractors": found}, ensure_ascii=False)

    source, out = write_items(tmp_path / "i.jsonl"), tmp_path / "o.jsonl"
    with FakeLLM(answer) as server:
        assert augment("--distractors", *words_for(server, source, out))[0] == 0
    before = {item.id: item for item, _ in exam(source)}
    rows = lines(out)
    assert reasons(out) == {"malformed (choices)": 1}  # it names the key again
    for (item, _), row in zip(exam(out), rows, strict=True):
        old = before[row["made_from"]]
        assert item.answer == old.answer
        assert item.choices[item.answer - 1] == old.choices[old.answer - 1]
        assert sum(text in old.choices for text in item.choices) == 1
    assert len(rows) == 2


@pytest.mark.parametrize(
    "choices",
    [
        ["ㄱ", "ㄴ", "ㄱ, ㄴ", "ㄴ, ㄷ"],
        ["ㄱ과 ㄴ", "ㄴ과 ㄷ", "ㄷ과 ㄹ", "ㄱ뿐"],
        ["비", "눈", "위의 모두", "안개"],
        ["비", "눈", "모두 옳다.", "안개"],
        ["비", "눈", "정답 없음", "안개"],
        ["①", "②", "③", "④"],
        ["①과 ②", "②와 ③", "비", "눈"],
        ["비", "눈", "1번과 2번", "안개"],
        ["A", "B", "A와 B", "C"],
        ["비", "눈", "안개", "None of the above"],
        ["㉠", "㉡", "㉢", "㉣"],
        ["가", "나", "가, 나", "나, 다"],
        ["(가)", "(나)", "(가)와 (나)", "(다)"],
        ["비", "눈", "둘 다", "안개"],
        ["비", "눈", "위의 모든 것", "모두"],
        ["A", "B", "C", "Both A and B"],
    ],
)
def test_choices_that_name_others_stay_in_order(choices):
    item = Mcq("a", "알맞은 것은?", choices, 2)
    assert stays_in_order(item)
    assert shuffled(item, 3, 1) == []
    assert rotated(item, 1) == item


def test_choices_move_with_their_key(augment, tmp_path):
    source, out = write_items(tmp_path / "i.jsonl", NAMES), tmp_path / "o.jsonl"
    problems = {"question": "옳은 것은?", "choices": ["비", "눈", "위의 모두"], "answer": 3}
    fixed = {"id": "fixed", "paragraph": "", "problems": problems}
    held_out(source, [*lines(source), fixed])
    words = ["--shuffle", "--copies", 2, "--input", source, "--output", out]
    code, _, error = augment(*words)
    assert code == 0, error
    first = out.read_bytes()
    before = {item.id: item for item, _ in exam(source)}
    found = exam(out)
    assert len(found) == 20
    for (item, _), row in zip(found, lines(out), strict=True):
        old = before[row["made_from"]]
        assert sorted(item.choices) == sorted(old.choices)
        assert item.choices[item.answer - 1] == old.choices[old.answer - 1]
        assert item.answer != old.answer
    assert reasons(out) == {"the choices stay in order": 1}
    assert augment(*words)[0] == 0
    assert out.read_bytes() == first


@pytest.mark.parametrize(
    "choices",
    [
        ["1950년", "1960년", "1970년"],
        ["값이 오른다.", "값이 내린다.", "(가)는 (나)와 다르다고 본다."],
        ["2.5", "3.5", "4.5"],
        ["사과와 배", "감과 귤", "밤"],
    ],
)
def test_choices_that_stand_for_themselves_can_move(choices):
    item = Mcq("a", "알맞은 것은?", choices, 2)
    assert not stays_in_order(item)
    assert len(shuffled(item, 5, 1)) == 2
    assert rotated(item, 1).choices != choices


def test_a_question_that_names_choices_by_number_keeps_their_order():
    assert stays_in_order(Mcq("a", "①과 ③의 차이는?", ["가격", "무게"], 1))
    assert not stays_in_order(Mcq("a", "윗글과 맞는 것은?", ["값이 오른다.", "값이 내린다."], 1))


def test_a_rationale_is_kept_that_comes_to_the_key(augment, tmp_path):
    def answer(prompt, body):
        assert "[정답]" not in prompt
        said = json.loads(writer(prompt, body))["answer"]
        said = said % 5 + 1 if "단오" in prompt else said
        reply = {"rationale": "첫 문장을 보면 1번과 2번은 틀리다.", "answer": said}
        return json.dumps(reply, ensure_ascii=False)

    source, out = write_items(tmp_path / "i.jsonl"), tmp_path / "o.jsonl"
    with FakeLLM(answer) as server:
        assert augment("--rationales", *words_for(server, source, out))[0] == 0
        assert server.calls == 3
    assert [row["id"] for row in lines(out)] == ["own-온돌", "own-장승"]
    assert all(row["rationale"] for row in lines(out))
    assert reasons(out) == {"the rationale comes to another answer": 1}


def test_a_hint_that_gives_the_answer_away_is_dropped(augment, tmp_path):
    hints = {"온돌": "첫 문장의 순서를 살펴보세요.", "단오": "답은 옳은 1 서술이라는 문장입니다."}
    hints["장승"] = "이 힌트는 상식만으로 풀립니다."

    def answer(prompt, body):
        if "힌트를 한두 문장으로" in prompt:
            name = re.search(r"\[지문\]\n(\S+?)의 ", prompt)[1]
            text = f"{name}에 대한 옳은 1 서술이다" if name == "단오" else hints[name]
            return json.dumps({"hint": text}, ensure_ascii=False)
        assert "[지문]" not in prompt
        assert "[질문]" not in prompt
        right = next(n for text, n in choice_lines(prompt).items() if "옳은" in text)
        return json.dumps({"answer": right if "상식만으로" in prompt else right % 5 + 1})

    source, out = write_items(tmp_path / "i.jsonl"), tmp_path / "o.jsonl"
    with FakeLLM(answer) as server:
        assert augment("--hints", *words_for(server, source, out))[0] == 0
        assert server.calls == 3 + 2 * 3
    assert [(row["id"], row["hint"]) for row in lines(out)] == [("own-온돌", hints["온돌"])]
    assert reasons(out) == {"names the answer": 1, "the hint gives the answer away": 1}


@pytest.mark.parametrize(
    ("hint", "names"),
    [
        ("정답은 2번입니다.", True),
        ("②를 보세요.", True),
        ("두 번째 선택지를 다시 읽으세요.", True),
        ("답: 2", True),
        ("땅이 비에 모두 젖었다는 말이 맞다.", True),
        ("12번째 줄을 보세요.", False),
        ("비가 온 뒤의 일을 순서대로 따져 보세요.", False),
    ],
)
def test_what_names_the_key(hint, names):
    item = Mcq("a", "무엇인가?", ["하늘이 맑게 갰다.", "땅이 비에 모두 젖었다.", "바람이 잤다."], 2)
    assert names_key(hint, item) is names


def test_an_item_is_shown_without_headings_of_nothing():
    item = Mcq("a", "{passage}는 무엇인가?", ["가", "나"], 1)
    text = shown(PROMPTS, item)
    assert text == "[질문]\n{passage}는 무엇인가?\n\n[선택지]\n" + numbered(["가", "나"])
    assert "[보기]\nㄱ. 가" in shown(PROMPTS, Mcq("a", "?", ["가", "나"], 1, "글", "ㄱ. 가"))
    assert "[지문]" not in shown(PROMPTS, Mcq("a", "?", ["가", "나"], 1, "글"), passage=False)


def test_skew_is_measured():
    items = [Mcq(str(n), "?", ["아주 긴 선택지", "나", "다", "라"], 1) for n in range(40)]
    assert position_skew(items)[4]["p"] < 0.001
    assert longest_is_right(items) == (40, 40)
    even = [Mcq(str(n), "?", ["가", "나", "다", "라"], n % 4 + 1) for n in range(40)]
    assert position_skew(even)[4]["p"] == 1.0
    assert longest_is_right(even) == (0, 40)


# -------------------------------------------------------------------- faults and money

FAULTS = {"429": 0.12, "503": 0.08, "reset": 0.05, "bad_json": 0.05}


def outputs(path: Path) -> dict[str, bytes]:
    return {name: p.read_bytes() for name, p in (("", path), ("r", beside(path, "rejected.jsonl")))}


@pytest.mark.slow
def test_kills_and_faults_lose_nothing_and_pay_nothing_twice(augment, tmp_path):
    source = write_passages(tmp_path / "p.jsonl")
    with FakeLLM(writer) as fake:
        assert augment(*words_for(fake, source, tmp_path / "calm.jsonl"))[0] == 0
        calm = sum(fake.paid.values())
    out, kills = tmp_path / "wild.jsonl", 2
    with FakeLLM(writer, faults=FAULTS, seed=3, latency=0.05) as fake:
        words = words_for(fake, source, out, "--concurrency", 4)
        for number in range(kills):
            process = subprocess.Popen(
                [sys.executable, str(FOLDER / "augment.py"), *map(str, words)],
                env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )
            point = (number + 1) * calm // (kills + 1)
            with ending(process) as child:
                while sum(fake.paid.copy().values()) < point and child.poll() is None:
                    time.sleep(0.005)
                assert child.poll() is None
                child.kill()
                child.communicate()
            assert not out.exists()
            while fake.active:
                time.sleep(0.005)
        while augment(*words)[0] == 1:
            pass
        assert calm <= sum(fake.paid.values()) <= calm + kills * 4 + fake.counts["bad_json"]
        assert fake.counts["429"] > 0
    assert outputs(out) == outputs(tmp_path / "calm.jsonl")


def test_an_answer_that_never_came_is_neither_kept_nor_rejected(augment, tmp_path):
    source, out = write_passages(tmp_path / "p.jsonl", NAMES[:2]), tmp_path / "o.jsonl"
    broken = True

    def answer(prompt, body):
        if broken and "온돌에 대한 옳은 1" in prompt:
            return "모르겠다"
        return writer(prompt, body)

    with FakeLLM(answer) as server:
        words = words_for(server, source, out)
        code, said, _ = augment(*words)
        assert code == 1
        assert "kept 3, rejected 0" in said
        assert "missing: 1" in said
        broken = False
        before = server.calls
        assert augment(*words)[0] == 0
        assert server.calls == before + 3
        assert len(lines(out)) == 4


def test_a_run_in_which_nothing_came_leaves_an_earlier_file(augment, tmp_path):
    source, out = write_passages(tmp_path / "p.jsonl", NAMES[:2]), tmp_path / "o.jsonl"
    with FakeLLM(writer) as server:
        assert augment(*words_for(server, source, out))[0] == 0
    before = out.read_bytes()
    with FakeLLM(lambda *_: "모르겠다") as server:
        words = words_for(server, source, out, "--temperature", 0.1)
        code, _, error = augment(*words)
    assert (code, out.read_bytes()) == (1, before)
    assert "left as it was" in error


def test_a_hint_joins_the_rationale_that_an_item_has(augment, tmp_path):
    source, out = write_items(tmp_path / "i.jsonl", NAMES[:1]), tmp_path / "o.jsonl"
    (row,) = lines(source)
    held_out(source, [{**row, "rationale": "첫 문장이 근거다.", "topic": "사회", "source": "own"}])

    def answer(prompt, body):
        if "힌트를 한두 문장으로" in prompt:
            return '{"hint": "첫 문장을 보세요."}'
        return json.dumps({"answer": 1 + (choice_lines(prompt)[right] == 1)})

    right = row["problems"]["choices"][row["problems"]["answer"] - 1]
    with FakeLLM(answer) as server:
        assert augment("--hints", *words_for(server, source, out))[0] == 0
    (kept,) = lines(out)
    assert (kept["rationale"], kept["topic"]) == ("첫 문장이 근거다.", "사회")
    assert augment("--shuffle", "--input", out, "--output", source)[0] == 0
    (moved,) = lines(source)
    assert (moved["topic"], moved["source"]) == ("사회", "augmented-own")
    assert not {"hint", "rationale"} & set(moved)


def test_an_output_that_is_read_is_refused(augment, tmp_path):
    source = write_passages(tmp_path / "p.jsonl", NAMES[:1])
    for words in (["--input", source], ["--input", "x.txt", "--against", source]):
        code, _, error = augment(*words, "--output", source)
        assert (code, "would be lost" in error) == (2, True)


def test_a_batch_gives_what_single_calls_give(augment, tmp_path):
    source = write_passages(tmp_path / "p.jsonl", NAMES[:4])
    with FakeLLM(writer, batch_s=0.05) as server:
        single, batch = tmp_path / "s.jsonl", tmp_path / "b.jsonl"
        assert augment(*words_for(server, source, single, "--needs_passage"))[0] == 0
        calls = server.calls
        more = ("--needs_passage", "--batch", "--poll", 0.02)
        assert augment(*words_for(server, source, batch, *more))[0] == 0
        assert server.calls == calls
        assert server.counts["batch"] == 2
    assert outputs(single) == outputs(batch)


def test_one_limit_counts_both_models(augment, tmp_path):
    source, out = write_passages(tmp_path / "p.jsonl"), tmp_path / "o.jsonl"
    table = {"date": "2030-01-02", "models": {}}
    for name in ("gpt-4o-mini", "gpt-4.1-mini"):
        table["models"][name] = {"input": 0, "output": 1000}
    prices = tmp_path / "prices.json"
    prices.write_text(json.dumps(table))
    with FakeLLM(writer) as server:
        words = words_for(server, source, out, "--prices", prices, "--concurrency", 1)
        words += ["--checker", "gpt-4.1-mini"]
        code, said, _ = augment(*words, "--dry_run")
        assert (code, server.calls) == (0, 0)
        assert "10 calls of gpt-4o-mini" in said
        assert "prices of 2030-01-02" in said
        assert "60 calls of gpt-4.1-mini" in said
        assert not out.exists()
        assert augment(*words[:-2])[0] == 0
        made = [json.loads(line) for line in journal_path(out).open(encoding="utf-8")]
        spent = sum(row["usage"]["output"] for row in made if " " not in row["id"]) / 1000
        journal_path(out).unlink()
        out.unlink()
        before = server.calls
        code, _, error = augment(*words, "--max_cost", spent + 0.05)
        assert code == 1
        assert "--max_cost" in error
        assert 10 < server.calls - before < 40
        assert not out.exists()
        assert augment(*words)[0] == 0
        assert len(lines(out)) == 18


def test_a_second_run_at_once_is_refused(augment, tmp_path):
    source, out = write_passages(tmp_path / "p.jsonl", NAMES[:1]), tmp_path / "o.jsonl"
    with FakeLLM(writer) as server, Journal(journal_path(out)):
        code, _, error = augment(*words_for(server, source, out))
        assert (code, server.calls) == (2, 0)
        assert "another process" in error


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--choices", 1], "choices"),
        (["--choices", 11], "choices"),
        (["--min_chars", 2000], "min_chars"),
        (["--hints", "--needs_passage"], "needs_passage"),
        (["--checker_base_url", "http://x"], "checker_base_url"),
        (["--output", "a.txt"], "output"),
        (["--model", "no-such", "--max_cost", 1], "max_cost"),
        (["--against", "no-such.jsonl"], "no-such.jsonl"),
    ],
)
def test_options_that_make_no_sense_are_refused(augment, tmp_path, words, named):
    items = "--hints" in words
    write = write_items if items else write_passages
    source = write(tmp_path / "p.jsonl", NAMES[:1])
    code, _, error = augment("--input", source, "--output", tmp_path / "o.jsonl", *words)
    assert code == 2
    assert named in error
    assert len(error.splitlines()) == 1
    assert sorted(tmp_path.iterdir()) == [source]
