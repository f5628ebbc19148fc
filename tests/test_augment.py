"""Augmentation: what passes, faults and kills, money, batches, screening, and the merge."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

import generate_augmented_pairs_gemini as script
import understanding_evaluation_augmenter as questions_script
from malmat import cli
from malmat.answer import batches as batch
from malmat.answer.gemini_legacy import openapi_schema
from malmat.answer.open import SDKS
from malmat.answer.prices import price, read_prices
from malmat.augment import file_name, worked_example
from malmat.errors import InputError
from malmat.journal import Journal
from malmat.prompts import load_prompts
from malmat.text.duplicates import NearDuplicates
from malmat.text.pairs import copies, filter_pairs, parse_reply, parse_verdict
from malmat.text.terms import TermMatcher
from tests.conftest import ROOT, ending
from tests.fake_gemini import dialogues
from tests.fake_llm import FakeLLM, storm

TITLES = ["갓생", "점메추", "현타", "국룰", "오운완", "얼죽아", "킹받네", "정주행", "손절", "칼퇴"]


pytestmark = pytest.mark.usefixtures("fake_servers")


def write_terms(path: Path, titles: list[str]) -> Path:
    """Terms found by their forms, which needs no morphology (it takes seconds to load)."""
    rows = ["title,content,example_q,example_a,forms"]
    for title in titles:
        form = "".join(c if c.isalnum() else "." for c in title if c != " ")
        rows.append(f'"{title}",{title}의 뜻이다.,{title} 그게 뭔데?,나도 어제 처음 들었어,{form}')
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def terms(tmp_path):
    return write_terms(tmp_path / "terms.csv", TITLES)


@pytest.fixture
def augment(monkeypatch, tmp_path, capsys):
    """Run the script in this process; its exit code, output and error output."""

    def run(*words: object, main=script.main):
        monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
        with pytest.raises(SystemExit) as left:
            cli.run(main)
        said = capsys.readouterr()
        return left.value.code, said.out, said.err

    return run


def outputs(folder: Path) -> dict[str, bytes]:
    names = [*folder.glob("*.json"), folder / "rejected.jsonl"]
    return {path.name: path.read_bytes() for path in names}


def pairs_of(folder: Path) -> dict[str, list[dict]]:
    rows = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return {row["title"]: row["conversations"] for row in rows}


def rejected(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "rejected.jsonl").open(encoding="utf-8")]


def reply_with(*pairs):
    turns = [{"context": "친구", "q": q, "a": a} for q, a in pairs]
    reply = {"title": "x", "description": "y", "conversations": turns}
    return json.dumps(reply, ensure_ascii=False)


# ------------------------------------------------------------------------- what passes

TERM = {
    "title": "갓생",
    "example_q": "요즘 왜 이렇게 일찍 일어나?",
    "example_a": "나 이제부터 갓생 살기로 했거든",
    "forms": ["갓생"],
}


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("주말에 뭐 했어", "갓생 산다고 도서관 갔지", None),
        ("", "갓생 살자", "empty"),
        ("주말에 뭐 했어", "갓생 " + "살아" * 200, "too long"),
        ("what did you do", "갓생 산다고 도서관 갔지", "not Korean"),
        ("주말에 뭐 했어", "갓생 살았지 😂", "emoji"),
        ("갓생 사네", "갓생 사네ㅋㅋ", "answer repeats the question"),
        ("주말에 뭐 했어", "도서관 가서 책 읽었지", "term not found"),
        ("요즘 왜 이렇게 일찍 일어나?", "갓생 중이라서", "copies the example"),
        ("요즘 왜 이렇게 일찍 일어나냐ㅋㅋ", "갓생 중이라서", "copies the example"),
        ("너 뭐 하냐", "아 나 이제부터 갓생 살기로 했거든 진짜 말리지 마라", "copies the example"),
    ],
)
def test_a_pair_passes_or_is_set_aside_with_its_reason(question, answer, reason):
    pair = {"context": "친구", "q": question, "a": answer}
    good, bad = filter_pairs([pair], TERM, 5, TermMatcher([TERM]), NearDuplicates())
    assert [row["reasons"] for row in bad] == ([[reason]] if reason else [])
    assert good == ([] if reason else [pair])


def test_near_duplicates_of_anything_kept_and_more_than_asked_for_are_set_aside():
    index, matcher = NearDuplicates(), TermMatcher([TERM])
    pairs = [
        {"context": "", "q": "주말에 뭐 했어 너", "a": "갓생 산다고 도서관 갔지"},
        {"context": "", "q": "주말에 뭐 했어 너?", "a": "갓생 산다고 도서관에 갔지ㅋㅋ"},
        {"context": "", "q": "새벽에 왜 깨어 있냐", "a": "오늘부터 갓생이라 그래"},
        {"context": "", "q": "운동은 언제부터 한 거야", "a": "갓생 시작한 지 한 달째야"},
    ]
    good, bad = filter_pairs(pairs, TERM, 2, matcher, index)
    assert good == [pairs[0], pairs[2]]
    assert [row["reasons"] for row in bad] == [["near-duplicate"], ["more than asked for"]]
    good, bad = filter_pairs(pairs[:1], TERM, 2, matcher, index)  # what an earlier reply gave
    assert (good, bad[0]["reasons"]) == ([], ["near-duplicate"])


def test_a_short_example_inside_another_sentence_is_no_copy():
    assert not copies("점심 뭐 먹지 진짜 배고프다", "배고프다")
    assert not copies("아무 말", "")


@pytest.mark.parametrize(
    "text", ["", "네!", "[1, 2]", '{"conversations": []}', '{"conversations": [1, {"q": "a"}]}']
)
def test_a_reply_of_another_shape_is_unreadable(text):
    with pytest.raises(ValueError, match=r"JSON object|no conversation"):
        parse_reply(text)


def test_turns_of_another_shape_and_half_characters_are_kept_aside_whole():
    good = '{"context": "c", "q": "뭐 해 \\ud83d", "a": "갓생"}'
    text = f'```json\n{{"conversations": [{good}, {{"q": 1, "x": "\\ud83d"}}]}}\n```'
    first, second = parse_reply(text)
    assert first == {"context": "c", "q": "뭐 해 ?", "a": "갓생"}
    assert second["raw"] == '{"q": 1, "x": "?"}'
    _, (bad,) = filter_pairs([second], TERM, 1, TermMatcher([TERM]), NearDuplicates())
    assert bad["reasons"] == ["malformed"]
    with pytest.raises(ValueError, match="NaN"):
        parse_reply('{"conversations": [{"context": NaN}]}')


@pytest.mark.parametrize("text", ["0", '{"label": "ok"}', '{"label": 2}', '{"label": false}', "{}"])
def test_a_verdict_of_another_shape_is_none(text):
    with pytest.raises(ValueError, match=r"JSON object|not a label"):
        parse_verdict(text)


def test_any_title_is_a_safe_file_name_of_its_own():
    titles = ["a/b", "a\\b", "a_b", "..", ".", "", " ", "/", "갓생", "가" * 300, "가" * 301, "😂"]
    titles += ["😭", "a\0b", "a\nb", "-rf", "CON", "갓 생", "x" * 255]
    names = [file_name(title) for title in titles]
    assert len({name.casefold() for name in names}) == len(titles)
    for name in names:
        assert len(name.encode()) < 255
        assert Path(name).name == name
        assert not name.startswith(".")
        assert "\0" not in name


def test_the_worked_example_is_read_and_its_damage_named():
    prompts = load_prompts()
    question, answer = worked_example(prompts)
    assert "칼퇴" in question["content"]
    assert len(parse_reply(answer["content"])) == 2
    with pytest.raises(InputError, match="AUGMENT_WORKED"):
        worked_example({**prompts, "AUGMENT_WORKED": '{"title": "칼퇴"'})


def test_the_older_sdk_gets_a_schema_it_knows():
    schema = {
        "type": "object",
        "properties": {
            "label": {"type": "integer", "enum": [0, 1], "minimum": 0},
            "kind": {"type": "string", "enum": ["a"]},
            "rows": {"type": "array", "minItems": 1, "items": {"type": "string"}},
        },
        "required": ["label"],
        "additionalProperties": False,
    }
    assert openapi_schema(schema) == {
        "type": "object",
        "properties": {
            "label": {"type": "integer"},
            "kind": {"type": "string", "enum": ["a"], "format": "enum"},
            "rows": {"type": "array", "min_items": 1, "items": {"type": "string"}},
        },
        "required": ["label"],
    }


# ------------------------------------------------------------------------ a whole run


@pytest.mark.parametrize("sdk", SDKS)
def test_what_passes_is_kept_and_the_rest_asked_for_again(augment, tmp_path, terms, sdk):
    first = {
        "갓생": ("새벽부터 어디를 가는 거야", "갓생 살러 간다"),
        "점메추": ("배고픈데 아무 생각이 안 나", "점메추 해 줄게 국밥 어때"),
    }
    second = {
        "갓생": ("방학 계획은 다 세웠니", "이번에는 진짜 갓생이다"),
        "점메추": ("회사 앞에 뭐가 맛있어", "그럴 때는 점메추 받아야지"),
    }

    def answer(prompt: str, body: dict) -> str:
        title = "갓생" if "[신조어] 갓생" in prompt else "점메추"
        if "[이미 있는 대화]" in prompt:
            assert first[title][0] in prompt
            assert "대화를 1개 써" in prompt
            return reply_with(second[title])
        return reply_with(first[title], ("이건 용어가 없는 질문이야", "그러니까 빠져야 하는 대답"))

    output = tmp_path / "out"
    with FakeLLM(answer) as server:
        words = ["--input", terms, "--output_dir", output, "--base_url", server.url, "--sdk", sdk]
        words += ["--pairs_per_term", 2, "--limit", 2]
        code, said, _ = augment(*words)
        assert code == 0
        assert server.calls == 4
        assert "2/2 have all their 2" in said
        assert "input and" in said
        for title, pairs in pairs_of(output).items():
            assert [(pair["q"], pair["a"]) for pair in pairs] == [first[title], second[title]]
            assert {pair["model"] for pair in pairs} == {"gemini-2.5-flash"}
        assert [row["reasons"] for row in rejected(output)] == [["term not found"]] * 2
        before = {path: path.stat().st_mtime_ns for path in output.glob("*.json")}
        assert augment(*words)[0] == 0
        assert server.calls == 4
        assert {path: path.stat().st_mtime_ns for path in output.glob("*.json")} == before


def test_a_blocked_term_is_paid_for_once_and_a_useless_reply_is_sampled_anew(
    augment, tmp_path, terms
):
    words = ["--input", terms, "--output_dir", tmp_path / "out", "--rounds", 3, "--limit", 2]
    useless = reply_with(("안녕 뭐 해", "그냥 쉬고 있지"))
    replies = [useless, useless, reply_with(("점메추 좀", "국밥이지"))]
    with FakeLLM(lambda *_: replies.pop(0), script=["safety", "ok", "ok"]) as server:
        words += ["--base_url", server.url, "--pairs_per_term", 1, "--concurrency", 1]
        code, said, _ = augment(*words)
    assert code == 0
    assert server.calls == 3
    assert "갓생: 0 (blocked)" in said
    assert [*pairs_of(tmp_path / "out")] == ["점메추"]


def test_a_term_without_pairs_is_said_to_have_had_replies(augment, tmp_path, terms):
    useless = reply_with(("안녕 뭐 해", "그냥 쉬고 있지"))
    words = ["--input", terms, "--output_dir", tmp_path / "out", "--rounds", 1, "--limit", 1]
    with FakeLLM(lambda *_: useless) as server:
        said = augment(*words, "--base_url", server.url)[1]
    assert "  갓생: 0 (the others did not pass)" in said.splitlines()
    assert "(ok)" not in said


def test_a_blocked_term_is_asked_again_on_request(augment, tmp_path):
    pairs = reply_with(("주말에 뭐 했어", "갓생 산다고 도서관 갔지"))
    question = json.dumps({"question": "갓생 사는 친구한테 뭐라고 해 줄까?"}, ensure_ascii=False)
    terms, rows = write_terms(tmp_path / "terms.csv", ["갓생"]), tmp_path / "rows.jsonl"
    rows.write_text('{"title": "갓생", "content": "뜻", "question": "요즘 갓생 산다며?"}\n')
    new_pairs = ["--input", terms, "--output_dir", tmp_path / "out", "--pairs_per_term", 1]
    new_questions = ["--input", rows, "--terms", terms, "--output", tmp_path / "questions.json"]
    new_questions += ["--provider", "gemini"]
    for main, reply, words in (
        (script.main, pairs, new_pairs),
        (questions_script.main, question, new_questions),
    ):
        with FakeLLM(lambda *_: reply, script=["safety"]) as server:  # noqa: B023
            words = [*words, "--base_url", server.url]
            assert "(blocked" in augment(*words, main=main)[1]
            augment(*words, main=main)
            assert server.calls == 1
            code, said, _ = augment(*words, "--ask_blocked", main=main)
            assert (code, server.calls) == (0, 2), said
            assert "(blocked" not in said
    assert [*pairs_of(tmp_path / "out")] == ["갓생"]
    [made] = json.loads((tmp_path / "questions.json").read_text())
    assert made["title"] == "갓생"


def test_a_second_run_at_once_is_refused(augment, tmp_path, terms):
    words = ["--input", terms, "--output_dir", tmp_path]
    with FakeLLM() as server, Journal(tmp_path / "journal.jsonl"):
        code, _, said = augment(*words, "--base_url", server.url)
        assert server.calls == 0
    assert code == 2
    assert "another process is working on this output" in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--provider", "local", "--max_cost", 1], "max_cost"),
        (["--provider", "local", "--batch"], "batch"),
        (["--provider", "openai", "--sdk", SDKS[1]], "sdk"),
        (["--batch", "--sdk", SDKS[1]], "sdk"),
        (["--model", "no-such", "--max_cost", 1], "max_cost"),
        (["--prices", "no-such.json"], "no-such.json"),
        (["--poll", "-1"], "poll"),
    ],
)
def test_options_without_effect_are_refused(augment, tmp_path, terms, words, named):
    code, _, said = augment("--input", terms, "--output_dir", tmp_path / "out", *words)
    assert code == 2
    assert named in said
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------- faults and kills


def start(
    fake: FakeLLM, sdk: str, terms: Path, output: Path
) -> AbstractContextManager[subprocess.Popen]:
    words = ["--input", terms, "--output_dir", output, "--base_url", fake.url, "--sdk", sdk]
    process = subprocess.Popen(
        [sys.executable, ROOT / script.__file__, *map(str, words), "--concurrency", "4"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    return ending(process)


@pytest.mark.parametrize("sdk", SDKS)
def test_kills_and_faults_change_nothing_and_buy_little_twice(augment, tmp_path, sdk):
    terms = write_terms(tmp_path / "t.csv", [f"{t}{n}" for n in range(3) for t in TITLES])
    kills, concurrency, moments = 2, 4, random.Random(3)
    words = ["--input", terms, "--output_dir", tmp_path / "calm", "--sdk", sdk]
    with FakeLLM(dialogues, faults={"safety": storm()["safety"]}, seed=2) as fake:
        assert augment(*words, "--base_url", fake.url)[0] == 0
        calm = sum(fake.paid.values())
    wild = tmp_path / "wild"
    with FakeLLM(dialogues, faults=storm(), seed=2, latency=0.05) as fake:
        for number in range(kills):
            point = (number + 1) * calm // (kills + 1)
            with start(fake, sdk, terms, wild) as child:
                while sum(fake.paid.copy().values()) < point and child.poll() is None:
                    time.sleep(0.005)
                time.sleep(moments.uniform(0, 0.05))
                assert child.poll() is None
                child.kill()
                child.communicate()
            while fake.active:
                time.sleep(0.005)
        words = ["--input", terms, "--output_dir", wild, "--base_url", fake.url, "--sdk", sdk]
        while augment(*words)[0] == 1:  # eight faults in a row: the next run asks again
            pass
        assert calm <= sum(fake.paid.values()) <= calm + kills * concurrency
    assert outputs(wild) == outputs(tmp_path / "calm")
    assert len(pairs_of(wild)) >= 25


def test_terms_appended_as_the_readme_says_get_pairs_and_no_others(augment, tmp_path):
    """The README's own line, ``title,content,example_q,example_a``, below a header of eight."""
    terms, merged = tmp_path / "terms.csv", tmp_path / "merged.json"
    terms.write_bytes((ROOT / "src/data/terms.csv").read_bytes())
    merged.write_bytes((ROOT / "merged_final.json").read_bytes())
    with terms.open("a", encoding="utf-8") as lines:
        lines.write("새말맛,새로 생긴 말이다.,새말맛 알아?,새말맛 모르면 손해\n")
        lines.write('새말멋,"멋, 새롭다.",새말멋 뭐야?,새말멋 그 자체\n')
    common = ["--input", terms, "--merged", merged, "--pairs_per_term", 2]
    plan = [*common, "--output_dir", tmp_path / "none", "--dry_run"]
    assert "2 of 373 terms have no pairs in" in augment(*plan)[1]
    with FakeLLM(dialogues) as fake:
        words = [*common, "--base_url", fake.url]
        assert augment(*words, "--output_dir", tmp_path / "new")[0] == 0
        assert set(pairs_of(tmp_path / "new")) == {"새말맛", "새말멋"}
        named = ["--output_dir", tmp_path / "named", "--titles", "갓생", "새말맛"]
        assert augment(*words, *named)[0] == 0
        assert set(pairs_of(tmp_path / "named")) == {"갓생", "새말맛"}
    own = ["--input", terms, "--output_dir", tmp_path / "none", "--dry_run"]
    assert "plan: 373 terms" in augment(*own)[1]  # a list of one's own: all
    assert "all 371 terms have pairs in merged_final.json" in augment(*own[2:])[1]
    code, _, said = augment(*plan, "--titles", "없는말")
    assert (code, said.count("\n")) == (2, 1)
    assert "field 'titles': '없는말' is not in" in said
    rows = json.loads(merged.read_text("utf-8"))
    for title in ("새말맛", "새말멋"):
        turns = [{"q": "가", "a": f"{title} 나"}]
        rows.append({"title": title, "description": "", "conversations": turns})
    merged.write_text(json.dumps(rows, ensure_ascii=False), encoding="utf-8")
    assert "all 373 terms have pairs" in augment(*plan)[1]


def test_ctrl_c_keeps_what_came(augment, tmp_path, terms):
    with FakeLLM(dialogues, latency=0.1) as fake:
        with start(fake, SDKS[0], terms, tmp_path / "out") as child:
            while not fake.calls:
                time.sleep(0.005)
            child.send_signal(2)
            _, said = child.communicate(timeout=60)
        assert child.returncode == 130
        assert "Traceback" not in said
        before = fake.calls
        words = ["--input", terms, "--output_dir", tmp_path / "out", "--base_url", fake.url]
        assert augment(*words)[0] == 0
        assert before < sum(fake.paid.values()) == len(fake.paid)  # none was asked twice


# ----------------------------------------------------------------------------- money


def test_the_plan_shows_calls_tokens_and_price_and_asks_nothing(augment, tmp_path, terms):
    prices = tmp_path / "prices.json"
    prices.write_text(
        '{"date": "2030-01-02", "models": {"gemini-2.5-flash": {"input": 0, "output": 1000000}}}'
    )
    words = ["--input", terms, "--output_dir", tmp_path / "out", "--dry_run", "--limit", 2]
    with FakeLLM() as server:
        code, said, _ = augment(*words, "--base_url", server.url)
        assert (code, server.calls) == (0, 0)
    assert "2 calls" in said
    assert "$0.00" in said
    assert "prices of 2025-08-01" in said
    assert not (tmp_path / "out").exists()
    _, said, _ = augment(*words, "--prices", prices)
    assert "$1200.0000 (prices of 2030-01-02)" in said  # 2 terms × 10 pairs × 60 tokens
    _, said, _ = augment(*words, "--prices", prices, "--batch")
    assert "$600.0000" in said
    _, said, _ = augment(*words, "--screen")
    assert "22 calls" in said


@pytest.mark.parametrize(
    ("table", "named"),
    [("[]", "models"), ('{"models": {"m": {"input": 1}}}', "m.output"), ("{", "line 1")],
)
def test_a_damaged_price_table_is_refused(tmp_path, table, named):
    path = tmp_path / "prices.json"
    path.write_text(table)
    with pytest.raises(InputError, match=named) as caught:
        read_prices(path)
    assert str(path) in str(caught.value)


def test_max_cost_counts_all_rounds_and_stops_cleanly(augment, tmp_path, terms):
    def answer(prompt: str, body: dict) -> str:
        title = prompt.partition("[신조어] ")[2].partition("\n")[0]
        again = "[이미 있는 대화]" in prompt
        return reply_with((f"{title} 아니냐 {'그거' if again else '이거'}", title * 3 + "맞지"))

    output = tmp_path / "out"
    with FakeLLM(answer) as server:
        words = ["--input", terms, "--output_dir", output, "--base_url", server.url]
        words += ["--pairs_per_term", 2, "--concurrency", 1]
        assert augment(*words, "--rounds", 1, "--output_dir", tmp_path / "one")[0] == 0
        usage = [json.loads(line)["usage"] for line in (tmp_path / "one/journal.jsonl").open()]
        one_round = sum(price("gemini-2.5-flash", row) for row in usage)
        before = server.calls
        code, said, error = augment(*words, "--max_cost", one_round * 1.35)
        assert code == 1
        assert "--max_cost" in error
        assert "Progress is kept" in error
        assert "used in this run: " in said
        assert 11 <= server.calls - before <= 15  # the first round's ten count
        assert augment(*words)[0] == 0
        assert server.calls - before == 20


# ------------------------------------------------------------------------- screening


def test_the_screening_keeps_what_is_safe_and_never_passes_a_failure(augment, tmp_path, terms):
    pairs = {
        "안전한": ("안전한 이야기 하나만", "갓생 사는 사람 인정"),
        "해로운": ("해로운 이야기 해 볼까", "그럼 갓생은 못 살지"),
        "애매한": ("애매한 이야기 들어 봐", "갓생이라고 하기에는 좀"),
        "고장난": ("고장난 이야기 말인데", "아직도 갓생 타령이야"),
    }
    labels = {"안전한": 0, "해로운": 1, "애매한": -1}
    broken = True

    def answer(prompt: str, body: dict) -> str:
        if "[글 시작]" not in prompt:
            return reply_with(*pairs.values())
        text = prompt.partition("[글 시작]")[2]
        word = next(word for word in pairs if word in text)
        if word == "고장난":
            return "모르겠다" if broken else '{"label": 0, "reason": "괜찮다"}'
        return json.dumps({"label": labels[word], "reason": "까닭"})

    words = ["--input", terms, "--output_dir", tmp_path / "out", "--limit", 1, "--screen"]
    with FakeLLM(answer) as server:
        words += ["--base_url", server.url, "--pairs_per_term", 4, "--rounds", 1]
        code, said, _ = augment(*words)
        assert code == 1  # a screening failed: to be run again
        assert "3 screening ok" in said
        assert [pair["q"] for pair in pairs_of(tmp_path / "out")["갓생"]] == [pairs["안전한"][0]]
        reasons = {row["q"]: row["reasons"] for row in rejected(tmp_path / "out")}
        assert reasons == {
            pairs["해로운"][0]: ["harmful"],
            pairs["애매한"][0]: ["unclear"],
            pairs["고장난"][0]: ["screening failed (parse_error)"],
        }
        before, broken = server.calls, False
        assert augment(*words)[0] == 0
        assert server.calls == before + 1
        assert len(pairs_of(tmp_path / "out")["갓생"]) == 2


# --------------------------------------------------------------------------- batches


def batch_words(provider: str, server: FakeLLM, terms: Path, output: Path) -> list:
    url = server.url + ("/v1" if provider == "openai" else "")
    model = {"openai": "gpt-4o-mini", "gemini": "gemini-2.5-flash"}[provider]
    words = ["--input", terms, "--output_dir", output, "--base_url", url, "--provider", provider]
    return [*words, "--model", model, "--batch", "--poll", 0.02]


@pytest.fixture(params=["gemini", "openai"])
def provider(request):
    return request.param


def test_a_batch_gives_what_single_calls_give_at_half_the_price(augment, tmp_path, terms, provider):
    with FakeLLM(dialogues, faults={"safety": 0.2}, seed=4, batch_s=0.1) as server:
        words = batch_words(provider, server, terms, tmp_path / "batch")
        code, said, _ = augment(*words)
        assert code == 0
        assert server.calls == 0
        cost = float(said.partition("used in this run: ")[2].partition("$")[2].split()[0])
        words[words.index("--batch")] = "--rounds"
        words[words.index("--poll")] = 2
        del words[-1]
        words[words.index(tmp_path / "batch")] = tmp_path / "single"
        code, said, _ = augment(*words)
        assert code == 0
        full = float(said.partition("used in this run: ")[2].partition("$")[2].split()[0])
        assert cost == pytest.approx(full / 2, abs=1e-4)
    assert outputs(tmp_path / "batch") == outputs(tmp_path / "single")


def test_a_batch_under_way_is_found_again_after_a_kill(
    augment, tmp_path, terms, provider, monkeypatch
):
    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    output = tmp_path / "out"
    with FakeLLM(dialogues, batch_s=0.2) as server:
        words = batch_words(provider, server, terms, output)
        monkeypatch.setattr(batch.time, "sleep", kill)
        monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
        with pytest.raises(Killed):
            script.main()
        monkeypatch.undo()
        monkeypatch.setenv("GEMINI_API_KEY", "AIzaSyFake")
        monkeypatch.setenv("OPENAI_API_KEY", "sk-fake")
        assert len(server.batches) == 1
        # … and one that was killed after the provider took the batch and before it was noted.
        lines = (output / "journal.batches.jsonl").read_bytes().splitlines(keepends=True)
        (output / "journal.batches.jsonl").write_bytes(lines[0])
        monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
        assert script.main() == 0
        assert set(server.paid.values()) == {1}
    assert len(pairs_of(output)) == len(TITLES)


@pytest.mark.parametrize("fault", ["reset", "503", "drop_batch"])
def test_a_batch_is_submitted_once_whatever_the_line_does(
    augment, tmp_path, terms, provider, fault
):
    with FakeLLM(dialogues, script=[fault]) as server:
        words = batch_words(provider, server, terms, tmp_path / "out")
        assert augment(*words, "--rounds", 1)[0] == 0
        assert len(server.batches) == 1
        assert set(server.paid.values()) == {1}


@pytest.mark.parametrize("end", ["failed", "expired", "cancelled"])
def test_rows_without_a_result_are_api_errors_and_asked_again(
    augment, tmp_path, terms, provider, end
):
    with FakeLLM(dialogues, batch_ends=[end]) as server:
        words = batch_words(provider, server, terms, tmp_path / "out")
        code, said, _ = augment(*words, "--rounds", 1)
        assert code == 1
        assert f"{10 if end == 'failed' else 5} api_error" in said
        code, said, _ = augment(*words, "--rounds", 1)
        assert code == 0
        assert set(server.paid.values()) == {1}
        assert "10 ok" in said


def test_a_batch_beyond_the_limit_is_not_submitted(augment, tmp_path, terms, provider):
    with FakeLLM(dialogues) as server:
        words = batch_words(provider, server, terms, tmp_path / "out")
        code, _, said = augment(*words, "--max_cost", 0.001)
        assert code == 1
        assert "--max_cost" in said
        assert not server.batches


def test_large_inputs_go_into_several_batches(augment, tmp_path, terms, monkeypatch):
    monkeypatch.setattr(batch, "MOST_ROWS", 4)
    with FakeLLM(dialogues) as server:
        words = batch_words("gemini", server, terms, tmp_path / "out")
        assert augment(*words, "--rounds", 1)[0] == 0
        assert [len(b["rows"]) for b in server.batches.values()] == [4, 4, 2]


# -------------------------------------------------------- questions of the understanding set


def test_a_new_question_holds_its_term_and_repeats_no_example(augment, tmp_path):
    rows = [
        {"title": "갓생", "content": "뜻", "question": "요즘 갓생 산다며 뭐가 제일 힘들어?"},
        {"title": "점메추", "content": "뜻", "question": "점메추 좀 해 줄 사람 어디 없나?"},
        {"title": "현타", "content": "뜻", "question": "현타 올 때는 보통 어떻게 해?"},
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    replies = {
        "갓생": "갓생 사는 친구한테 뭐라고 해 줄까?",
        "점메추": "점메추 좀 해 줄 사람 어디 없나요?",  # nearly the example
        "현타": "게임 끝나고 허무할 때 뭐 해?",  # without the term
    }

    def answer(prompt: str, body: dict) -> str:
        title = next(title for title in replies if f"[신조어] {title}" in prompt)
        return json.dumps({"question": replies[title]}, ensure_ascii=False)

    terms = write_terms(tmp_path / "terms.csv", [row["title"] for row in rows])
    output = tmp_path / "questions.json"
    with FakeLLM(answer) as server:
        words = ["--input", path, "--terms", terms, "--output", output, "--provider", "gemini"]
        words += ["--base_url", server.url]
        code, said, _ = augment(*words, main=questions_script.main)
        assert code == 1
        assert server.calls == 1 + 3 + 3  # an unfit question is asked for three times
        assert json.loads(output.read_text()) == [{"title": "갓생", "question": replies["갓생"]}]
        assert "점메추 (parse_error: the question repeats the example)" in said
        assert "현타 (parse_error: the question does not hold the term" in said
        replies |= {"점메추": "점메추 받았는데 또 국밥이래", "현타": "월급날에 현타가 왜 와?"}
        assert augment(*words, main=questions_script.main)[0] == 0
        assert server.calls == 9
    assert [row["title"] for row in json.loads(output.read_text())] == ["갓생", "점메추", "현타"]


# ------------------------------------------------------------------------------ merge


def test_merge_takes_folders_and_older_files_and_lists_conflicts(script, tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    old = [
        {"title": "갓생", "question": "뭐 해?", "answer": "갓생", "model": "claude"},
        {"title": "현타", "question": "왜 그래?", "answer": "현타 와서"},
    ]
    (tmp_path / "old.jsonl").write_text("".join(json.dumps(row) + "\n" for row in old))
    pairs = [
        {"context": "c", "q": "뭐 해", "a": "갓생ㅋㅋ", "model": "gemini"},
        {"context": "c", "q": "뭐 해", "a": "갓생 살러 가", "model": "gemini"},
    ]
    term = {"title": "갓생", "description": "뜻", "conversations": pairs}
    (folder / "갓생.json").write_text(json.dumps(term))
    (folder / "rejected.jsonl").write_text("not JSON\n")
    (folder / "journal.jsonl").write_text('{"key": "a"}\n')
    (folder / "journal.batches.jsonl").write_text('{"key": "a"}\n')
    output = tmp_path / "merged.json"
    sources = [tmp_path / "old.jsonl", folder, folder / "갓생.json"]
    result = script("src/data/merge.py", *sources, "--output", output)
    assert result.returncode == 0, result.stderr
    assert json.loads(output.read_text()) == [
        {
            "title": "갓생",
            "description": "뜻",
            "conversations": [{"q": "뭐 해?", "a": "갓생", "model": "claude"}, pairs[1]],
        },
        {
            "title": "현타",
            "description": "",
            "conversations": [{"q": "왜 그래?", "a": "현타 와서"}],
        },
    ]
    assert "3 repeated" in result.stdout
    assert "by claude, and by gemini" in result.stdout
    assert "another answer" in result.stdout
    bad = tmp_path / "bad.json"
    bad.write_text('[{"title": "갓생"}]')
    result = script("src/data/merge.py", bad, "--output", output)
    assert result.returncode == 2
    assert "field 'conversations': missing" in result.stderr
