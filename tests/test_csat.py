"""Korean SAT questions: rows read and checked, wording, lengths, the sample set, the scripts."""

from __future__ import annotations

import csv
import json
import random

import pytest

from malmat.contests.baselines import answered, options_only, out_of_fold
from malmat.contests.exam_items import fields_of, item_of, shorten
from malmat.contests.exam_quality import clean, near_duplicates, position_skew, quality
from malmat.contests.exams import read_exams
from malmat.contests.fit import Fitter
from malmat.contests.literals import DEEPEST, LARGEST, NoLiteral, read_literal
from malmat.errors import InputError
from malmat.evaluate.task import registered_tasks
from malmat.folds import assign
from malmat.formats import read_pairs
from malmat.text.shorten import LEFT_OUT
from tests.conftest import ROOT

FOLDER = "src/csat"
SAMPLE = ROOT / "src/csat/sample"
TASK = registered_tasks()["csat"]
PROMPTS = TASK.prompts()
VARIANTS = TASK.render.__globals__["VARIANTS"]
CHOICES = [
    "첫째 까닭이다.",
    "둘째 까닭이다.",
    "셋째 까닭이다.",
    "넷째 까닭이다.",
    "다섯째 까닭이다.",
]


def row(name="a", answer=2, choices=CHOICES, question="윗글로 알맞은 것은?", plus="", **fields):
    problems = {"question": question, "choices": list(choices), "answer": answer}
    passage = fields.pop("paragraph", f"{name}의 지문이다. 비가 오면 땅이 젖는다.")
    own = {"id": name, "paragraph": passage, "problems": str(problems), "question_plus": plus}
    return own | fields


def saved(path, rows, columns=None):
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns or list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def exams(tmp_path, *rows, **how):
    return read_exams(saved(tmp_path / "rows.csv", list(rows)), **how)[0]


# ------------------------------------------------------------------------------ literals


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("{'a': nan, 'b': [1, -2.5, 'x']}", {"a": None, "b": [1, -2.5, "x"]}),
        ('{"a": null, "b": [true]}', {"a": None, "b": [True]}),
        ("{'a': None, 'b': null, 'c': true}", {"a": None, "b": None, "c": True}),
        ("{'a': '첫 줄\n둘째 줄'}", {"a": "첫 줄\n둘째 줄"}),
        ('{"a": "첫 줄\n둘째 줄"}', {"a": "첫 줄\n둘째 줄"}),
        ("{'a': '따옴표 \"와\" ‘이것’'}", {"a": '따옴표 "와" ‘이것’'}),
        ("{‘a’: ‘가’, ‘b’: [‘나’, ‘다’]}", {"a": "가", "b": ["나", "다"]}),
        ("{“a”: “‘가’라는 말”}", {"a": "‘가’라는 말"}),
        ("  {'a': 'it\\'s'}\n", {"a": "it's"}),
    ],
)
def test_a_literal_is_read_however_it_is_spelt(text, value):
    assert read_literal(text) == value


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("윗글에서 알맞은 것은?", "not a literal"),
        ("{'a': __import__('os').system('x')}", "a call"),
        ("{'a': open('x')}", "a call"),
        ("{'a': answer}", "the name answer"),
        ("{'a': 1 + 1}", "an expression"),
        ("{'a': f'{1}'}", "an expression"),
        ("{'a': [x for x in 'b']}", "an expression"),
        ("{**{'a': 1}}", r"\*\*"),
        ("{'a': 1, 'a': 2}", "stands twice"),
        ('{"a": 1, "a": 2}', "stands twice"),
        ("{'a': ['가' '나', '다']}", "no comma"),
        ("{1: 2}", "a key that is no text"),
        ("{'a': '가' 나'}", "not a literal"),
        ("{‘a’: ‘‘가’와 ‘나’’}", "not a literal"),
        ("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1), "nested deeper"),
        ("-" * 100_000 + "1", "not a literal|nested|expression"),
        ("'" + "가" * LARGEST + "'", "larger than"),
        ("", "not a literal"),
    ],
)
def test_what_is_no_literal_or_has_two_readings_is_named(text, problem):
    with pytest.raises(NoLiteral, match=problem):
        read_literal(text)


def test_brackets_in_a_text_are_no_depth():
    assert read_literal("{'a': '((((((((((((((((((((((((('}")["a"].startswith("(((")


# ---------------------------------------------------------------------------- bad input

FINE = str({"question": "?", "choices": CHOICES, "answer": 1})


def problems(**changes):
    return {"problems": str({"question": "?", "choices": CHOICES, "answer": 1} | changes)}


BAD = {
    "literal": ({"problems": "not {a literal"}, "not a literal"),
    "call": ({"problems": "{'question': eval('1')}"}, "a call in the literal"),
    "name": ({"problems": "{'question': secret}"}, "the name secret"),
    "empty": ({"problems": ""}, "expected an object"),
    "question": ({"problems": "{'choices': ['a', 'b'], 'answer': 1}"}, "'question' is missing"),
    "choices": ({"problems": "{'question': '?', 'answer': 1}"}, "'choices' is missing"),
    "no-list": (problems(choices="가, 나, 다"), "expected a list"),
    "tuple": (problems(choices=("가", "나")), "expected a list"),
    "one": (problems(choices=["가"]), "1 choices"),
    "many": (problems(choices=[str(n) for n in range(11)]), "11 choices"),
    "blank": (problems(choices=["가", " ", "다"]), "choice 2 is empty"),
    "equal": (problems(choices=["가", "나", "가 "]), "choices 1 and 3 are equal"),
    "zero": (problems(answer=0), "0 is none of the 5"),
    "six": (problems(answer=6), "6 is none of the 5"),
    "word": (problems(answer="셋"), "'셋' is none"),
    "half": (problems(answer=1.5), "1.5 is none"),
    "true": (problems(answer=True), "True is none"),
    "no-answer": (problems(answer=""), "without an answer"),
    "plus": (
        {"question_plus": "ㄱ. 이것", **problems(question_plus="ㄱ. 저것")},
        "two that differ",
    ),
    "encoding": ({"paragraph": "안녕하세요 여러분".encode().decode("latin-1")}, "damaged letters"),
}


@pytest.mark.parametrize("kind", BAD)
def test_a_faulty_row_is_named_with_its_file_row_and_column(tmp_path, kind):
    fields, problem = BAD[kind]
    path = saved(tmp_path / "train.csv", [row("good"), {**row("bad"), **fields}])
    with pytest.raises(InputError) as caught:
        read_exams(path)
    for part in (str(path), "line 3", "the row bad", problem, "field '", "--skip_bad"):
        assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def all_bad(tmp_path):
    """Every kind in one file, with a doubled id, another source and a quote that never closes."""
    rows = [row("good", source="contest")]
    rows += [
        {**row(f"bad-{kind}", source="contest"), **fields} for kind, (fields, _) in BAD.items()
    ]
    rows += [row("good", source="contest"), row("bad-source", source="KICE")]
    rows.append(row("bad-long", source="contest", question="길다 " * 900))
    path = saved(tmp_path / "train.csv", rows)
    with path.open("a", encoding="utf-8") as handle:
        handle.write('bad-cut,"지문이 여기서 끊')
    return path


def test_all_kinds_in_one_file_are_named_in_one_run(script, tmp_path, model_folder):
    path, output = all_bad(tmp_path), tmp_path / "out.jsonl"
    words = ("--input", path, "--output", output, "--source", "contest")
    words += ("--tokenizer", model_folder, "--max_seq_length", 1500)
    result = script(f"{FOLDER}/prepare.py", *words)
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    for name in (*(f"bad-{kind}" for kind in BAD), "bad-source", "bad-long"):
        assert name in line
    for problem in (*(problem for _, problem in BAD.values()), "never closed", "has this id"):
        assert problem in line
    assert "is of KICE" in line
    assert "cannot be cut" in line
    assert not output.exists()
    result = script(f"{FOLDER}/prepare.py", *words, "--skip_bad")
    assert result.returncode == 1, result.stderr
    assert result.stdout.count("skipped: ") == len(BAD) + 4
    assert [json.loads(one)["id"] for one in output.read_text().splitlines()] == ["good"]


def test_other_files_and_encodings_are_told_apart(script, tmp_path):
    def run(path):
        return script(f"{FOLDER}/prepare.py", "--input", path, "--output", tmp_path / "o.jsonl")

    text = saved(tmp_path / "a.csv", [row()]).read_text()
    (tmp_path / "bom.csv").write_text(text, encoding="utf-8-sig")
    assert run(tmp_path / "bom.csv").returncode == 0
    (tmp_path / "cp949.csv").write_text(text, encoding="cp949")
    result = run(tmp_path / "cp949.csv")
    assert result.returncode == 2
    assert "iconv -f CP949 -t UTF-8" in result.stderr
    (tmp_path / "names.csv").write_text(text.replace("problems", "problem", 1))
    result = run(tmp_path / "names.csv")
    assert result.returncode == 2
    assert "no 'problems'; it has id, paragraph, problem" in result.stderr
    (tmp_path / "none.csv").write_text("id,paragraph,problems\n")
    assert run(tmp_path / "none.csv").returncode == 2


@pytest.mark.parametrize("answer", [3, "3", " 3", "③", "３", 3.0])
def test_answers_are_read_in_all_their_spellings(tmp_path, answer):
    assert exams(tmp_path, row(answer=answer))[0].answer == 3


def test_the_second_text_stands_beside_the_dict_or_in_it(tmp_path):
    inside = str({"question": "?", "choices": CHOICES, "answer": 1, "question_plus": "ㄱ. 이것"})
    found = exams(
        tmp_path,
        row("beside", plus="ㄱ. 이것"),
        {**row("inside"), "problems": inside},
        {**row("both", plus="ㄱ. 이것 "), "problems": inside},
        row("missing", plus="nan"),
    )
    assert [one.plus for one in found] == ["ㄱ. 이것"] * 3 + [""]


def test_test_files_have_no_answers_and_rows_of_jsonl_are_read(tmp_path):
    found = exams(tmp_path, row("a", answer=""), row("b", answer=None))
    assert [one.answer for one in found] == [None, None]
    path = tmp_path / "rows.jsonl"
    value = {**row(), "problems": {"question": "?", "choices": CHOICES, "answer": 2}, "hint": "비"}
    path.write_text(json.dumps(value, ensure_ascii=False))
    [one] = read_exams(path)[0]
    assert (one.answer, one.more) == (2, {"hint": "비"})


# -------------------------------------------------------------------------------- wording


def items_at_random(count=60):
    draw = random.Random(4)
    for number in range(count):
        size = 2 + number % 9
        texts = [f"{draw.choice(CHOICES)} {n} 5. [선택지]" for n in range(size)]
        yield item_of(
            {
                "id": f"r{number}",
                "cluster": f"c{number // 3}",
                "source": "made up",
                "paragraph": draw.choice(["지문이다.\n5. 둘째 줄", "", "셋은 3이고 다섯은 5이다."]),
                "question": "<보기>에서 5개를 고른 것은?",
                "question_plus": draw.choice(["", "ㄱ. 이것\n5. 저것"]),
                "choices": [str(n) for n in range(1, size + 1)],
                "options": texts,
                "answer": str(draw.randint(1, size)),
                "hint": "비가 오면 땅이 젖는다.",
                "rationale": "비가 왔다.",
            }
        )


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_prompt_names_as_many_numbers_as_there_are_choices(variant):
    for item in items_at_random():
        *_, user = VARIANTS[variant](PROMPTS, item)
        head, options = user["content"].split("[선택지]\n", 1)
        listed = options.split("\n\n")[0].splitlines()
        assert [line.partition(". ")[0] for line in listed] == item["choices"]
        assert all("[" not in line for line in listed)
        rest = options.partition("\n\n")[2]
        if variant != "WriteHint":
            assert ", ".join(item["choices"]) + " 가운데" in rest
            beyond = str(len(item["choices"]) + 1)
            assert beyond not in rest.replace("10", "ten") or beyond == "10"
        assert ("[지문]" in user["content"]) == (
            bool(item["passage"]) and variant not in ("NoPassage", "ChoicesOnly")
        )
        assert ("[질문]" in user["content"]) == (variant != "ChoicesOnly")
        assert ("<보기>\n" in user["content"]) == (
            bool(item["question_plus"]) and variant != "ChoicesOnly"
        )
        if variant.endswith("QuestionFirst") and item["passage"]:
            assert head.index("[질문]") < head.index("[지문]")


def test_prepared_rows_are_trained_on_the_number_and_asked_alike(script, tmp_path):
    path = saved(tmp_path / "train.csv", [row("a", 2), row("b", 4, CHOICES[:4], plus="ㄱ. 하나")])
    out = tmp_path / "rows.jsonl"
    words = ("--input", path, "--output", out, "--variant", "QuestionFirst")
    assert script(f"{FOLDER}/prepare.py", *words).returncode == 0
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one["messages"][-1] for one in rows] == [
        {"role": "assistant", "content": "2"},
        {"role": "assistant", "content": "4"},
    ]
    assert [one["n_choices"] for one in rows] == [5, 4]
    items = TASK.read(out)
    asked = [TASK.render(PROMPTS, item, []) for item in items]
    assert asked == [one["messages"][:-1] for one in rows]
    assert len(read_pairs(out)) == 2
    assert {**items[0], "variant": 0} == {**TASK.read(path)[0], "variant": 0}


def test_thinking_and_hint_rows_are_trained_on_what_they_write(script, tmp_path):
    path, out = (
        saved(tmp_path / "a.csv", [row(hint="땅을 보라.", rationale="비가 왔다.")]),
        "o.jsonl",
    )
    for variant, answer in (("Think", "비가 왔다.\n정답: 2"), ("WriteHint", "땅을 보라.")):
        words = ("--input", path, "--output", tmp_path / out, "--variant", variant)
        assert script(f"{FOLDER}/prepare.py", *words).returncode == 0
        [one] = [json.loads(line) for line in (tmp_path / out).read_text().splitlines()]
        assert one["messages"][-1]["content"] == answer


def test_forbidden_sources_are_left_out_and_counted(script, tmp_path):
    path = saved(tmp_path / "a.csv", [row("a", source="KICE"), row("b", source="own")])
    words = ("--input", path, "--output", tmp_path / "o.jsonl", "--without", "KICE")
    result = script(f"{FOLDER}/prepare.py", *words)
    assert "left out: 1 rows of KICE" in result.stdout
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 1


# --------------------------------------------------------------------------------- length

LONG = "처음 문장이다. 구름이 모인다. 바람이 분다. 까닭은 여기 있다. 해가 진다. 끝 문장이다."


def test_a_long_passage_loses_its_middle_and_what_is_asked_about_goes_last(tmp_path):
    [one] = exams(tmp_path, row(paragraph=LONG))
    item = item_of(fields_of(one))
    for left_out in range(1, 6):
        cut = shorten(item, left_out)
        assert {**cut, "passage": 0} == {**item, "passage": 0}
        assert LEFT_OUT in cut["passage"]
        assert ("까닭은 여기 있다." in cut["passage"]) == (left_out < 6)
        left = [text for text in cut["passage"].replace(LEFT_OUT, "").split(".") if text.strip()]
        assert len(left) == 6 - left_out
    assert shorten(item, 3)["passage"].startswith("처음 문장이다.")
    assert shorten(item, 6)["passage"] == LEFT_OUT
    with pytest.raises(ValueError, match="7 of 6"):
        shorten(item, 7)


def test_rows_are_cut_to_the_models_tokens_and_refused_where_they_cannot(
    tmp_path, tokenizer, model_folder
):
    [one] = exams(tmp_path, row(paragraph=LONG * 6))
    item = item_of(fields_of(one))

    def render(shown):
        return VARIANTS["PassageFirst"](PROMPTS, shown)

    def size(shown):
        messages = [*render(shown), {"role": "assistant", "content": "2"}]
        from malmat.lm.chat import encode_example

        return len(encode_example(tokenizer, messages)["input_ids"])

    limit = size(item) - 100
    cut, how = Fitter(str(model_folder), limit, shorten)(item, render, "2")
    assert size(cut) <= limit < size(item)
    assert how["pieces"] > 0
    assert how["tokens"] >= 100
    assert 0 < how["share"] < 1
    assert Fitter(str(model_folder), size(item), shorten)(item, render, "2") == (item, None)
    with pytest.raises(ValueError, match="cannot be cut"):
        Fitter(str(model_folder), size({**item, "passage": ""}) - 1, shorten)(item, render, "2")


# -------------------------------------------------------------------------------- quality


def test_doubtful_rows_are_named(tmp_path):
    letters = ["ㄱ", "ㄴ", "ㄱ, ㄷ", "ㄴ, ㄷ"]
    found = exams(
        tmp_path,
        row("fine"),
        row("equal", choices=["같은 말.", "같은 말", "다른 말", "또 다른 말"]),
        row("missing", choices=letters),
        row("inside", choices=letters, paragraph="ㄱ. 하나\nㄴ. 둘\nㄷ. 셋"),
        row("asked", question="<보기>의 설명으로 옳은 것은?"),
        row("told", 3, paragraph="아주 다른 이야기이다. (정답: ③)"),
        row("not-told", 3, paragraph="정답 30개를 모은 사람의 긴 이야기이다."),
        row("news", paragraph="(서울=연합) 홍길동 기자 = 비가 왔다.\n김철수 기자 a.b@news.co.kr"),
        row("person", paragraph="그는 김철수 기자를 만나 긴 이야기를 나누었다고 한다."),
    )
    rows = quality(found, {})["rows"]
    assert rows["equal_choices"] == ["equal"]
    assert rows["plus_missing"] == ["missing", "asked"]
    assert rows["answer_in_text"] == ["told"]
    assert rows["reporters"] == ["news"]
    cleaned, counts = clean(found)
    assert {one.id: one.passage for one in cleaned}["news"] == "비가 왔다."
    assert counts == {"passages": 1, "reporters": 2}
    assert [a.passage for a in found if a.id != "news"] == [
        a.passage for a in cleaned if a.id != "news"
    ]


def test_passages_that_stand_in_two_splits_are_found(tmp_path):
    [near, same, own, twin] = exams(
        tmp_path,
        row("near", paragraph=LONG.replace("바람이", "태풍이")),
        row("same", paragraph=LONG + " ㅋㅋ"),
        row("own", paragraph="전혀 다른 이야기가 여기에서 길게 이어진다."),
        row("twin", paragraph="전혀 다른 이야기가 여기에서 길게 이어진다."),
    )
    test = exams(tmp_path, row("t", paragraph=LONG))
    found = near_duplicates([near, same, own, twin], {"test.csv": test})
    assert [(one.row, one.other, one.split) for one in found] == [
        ("near", "t", "test.csv"),
        ("same", "t", "test.csv"),
    ]
    assert 0.7 < found[0].similarity < 1 == found[1].similarity


def test_skew_of_answers_is_told_by_number_of_choices(tmp_path):
    rows = [row(f"a{n}", 1 + n % 5) for n in range(50)]
    rows += [row(f"b{n}", 1, CHOICES[:4]) for n in range(30)]
    found = position_skew(exams(tmp_path, *rows))
    assert found[5]["counts"] == [10] * 5
    assert found[5]["p"] == 1
    assert found[4]["counts"] == [30, 0, 0, 0]
    assert found[4]["p"] < 1e-9


# ----------------------------------------------------------------------------- sample set


@pytest.fixture(scope="module")
def sample():
    return {split: TASK.read(SAMPLE / f"{split}.csv") for split in ("train", "dev", "test")}


def test_the_sample_set_is_as_it_is_described(sample):
    items = [item for own in sample.values() for item in own]
    assert len(items) >= 60
    assert sum(item["plus"] == "with" for item in items) >= 24
    assert sum(item["n_choices"] == 4 for item in items) >= 20
    assert sum(item["n_choices"] == 5 for item in items) >= 40
    assert all(150 <= len(item["passage"]) <= 2000 for item in items)
    assert {item["source"] for item in items} == {"국어", "사회", "한국사"}
    titles = [item["title"] for item in items]
    assert sum(titles.count(one) in (2, 3) for one in set(titles)) >= 8
    split = [{item["title"] for item in own} for own in sample.values()]
    assert sum(map(len, split)) == len(set().union(*split))
    assert len(sample["dev"]) >= 14
    assert len(sample["test"]) >= 20
    for size in (4, 5):
        places = [item["target"] for item in items if item["n_choices"] == size]
        counts = [places.count(str(n)) for n in range(1, size + 1)]
        assert max(counts) - min(counts) <= 1
    found, _ = read_exams(SAMPLE / "train.csv")
    assert not any(quality(found, {})["rows"].values())


def test_its_options_alone_give_nothing_away(sample):
    items = [item for own in sample.values() for item in own]
    rows = [dict(item) for item in items]
    shares = []
    for seed in range(5):
        folds = assign(rows, k=5, seed=seed, by="title")
        answers = answered(items, out_of_fold(items, folds, options_only))
        shares.append(sum(one["answer"] == one["target"] for one in answers) / len(items))
    chance = sum(1 / item["n_choices"] for item in items) / len(items)
    assert sum(shares) / len(shares) <= chance + 0.05


# -------------------------------------------------------------------------------- scripts


def test_baselines_are_columns_of_the_task(script, tmp_path):
    words = (SAMPLE / "test.csv", "--train", SAMPLE / "train.csv", "--results_dir", tmp_path)
    result = script(f"{FOLDER}/baselines.py", *words)
    assert result.returncode == 0, result.stderr
    names = {path.name.partition("_csat")[0] for path in tmp_path.glob("csat/score_results/*")}
    assert {"chance", "longest", "overlap-passage", "options-only", "most-frequent"} <= names
    record = json.loads(next(tmp_path.glob("csat/score_results/longest*")).read_text())
    assert {"macro-F1 (classes that occur)", "macro-F1 (1 to 5, as the contest counts)"} == set(
        record["figures"]
    )
    assert {"source", "n_choices", "length", "plus", "position", "topic"} == set(record["slices"])
    result = script(f"{FOLDER}/baselines.py", SAMPLE / "dev.csv", "--train", SAMPLE / "dev.csv")
    assert result.returncode == 2


def answers_to(items, path, picks, status="ok"):
    rows = [
        {**item, "answer": pick, "status": status} for item, pick in zip(items, picks, strict=True)
    ]
    path.write_text(json.dumps(rows, ensure_ascii=False))
    return path


def test_a_submission_is_written_and_checked(script, tmp_path, sample):
    items, out = sample["test"], tmp_path / "sub.csv"
    good = answers_to(items, tmp_path / "a.json", [item["target"] for item in items])
    words = ("--input", SAMPLE / "test.csv")
    result = script(f"{FOLDER}/submission.py", *words, "--answers", good, "--output", out)
    assert result.returncode == 0, result.stderr
    lines = out.read_text().splitlines()
    assert lines[0] == "id,answer"
    assert [line.split(",")[0] for line in lines[1:]] == [item["id"] for item in items]
    five = next(n for n, item in enumerate(items) if item["n_choices"] == 4)
    for changed, problem in (
        ([lines[0], *reversed(lines[1:])], "the order differs"),
        (lines[:-1], "is missing"),
        ([*lines, lines[1]], "stands in it twice"),
        ([*lines, "x,1"], "is not in the test file"),
        (
            [("5".join(x.rsplit(x[-1], 1)) if n == five + 1 else x) for n, x in enumerate(lines)],
            "'5'",
        ),
    ):
        out.write_text("\n".join(changed) + "\n")
        result = script(f"{FOLDER}/submission.py", *words, "--check", out)
        assert result.returncode == 1
        assert problem in result.stdout
    bad = answers_to(items, tmp_path / "b.json", [""] * len(items), "parse_error")
    result = script(f"{FOLDER}/submission.py", *words, "--answers", bad, "--output", tmp_path / "n")
    assert result.returncode == 2
    assert not (tmp_path / "n").exists()


@pytest.mark.slow
def test_the_eda_page_has_all_its_plots(script, tmp_path):
    result = script(
        f"{FOLDER}/eda.py", "--input", SAMPLE / "dev.csv", "--output_dir", tmp_path / "eda"
    )
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "eda/dev").glob("*.png"))) == 10
    assert (tmp_path / "eda/dev/length.csv").read_text().startswith("id,paragraph,question,choices")
