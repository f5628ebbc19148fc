"""Choices whose trained answers are more than a label, options in several orders, rows cut to the
model's context: on tiny models, against one row at a time with all logits."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import permutations

import pytest

from malmat.answer.choices import ChoiceEngine
from malmat.answer.request import Request, request_key
from malmat.errors import InputError
from malmat.evaluate.confidence import choice_figures, choice_lines
from malmat.evaluate.orders import averaged, following, orders_of, permuted
from malmat.journal import journal_path
from malmat.lm import branches, chat
from malmat.lm.choice import Encoder, score_choices
from malmat.text.shorten import kept, without_sentences
from tests.conftest import PAIRS, make_tokenizer
from tests.test_choice import alone, through
from tests.test_generate import MODELS, ask

TEXTS = [answer for _, answer in PAIRS]
DIALOGUE = " ".join(question for question, _ in PAIRS) * 2


def shown(count, order=None, dialogue=DIALOGUE, question="알맞은 것은?"):
    """A row's messages, its labels and the answers that training would write."""
    labels = [chr(ord("A") + n) for n in range(count)]
    texts = [(TEXTS * 2)[n] + f" {n}" for n in order or range(count)]
    lines = [f"{label}. {text}" for label, text in zip(labels, texts, strict=True)]
    messages = ask("\n".join([dialogue, question, *lines]))
    return messages, tuple(labels), tuple(lines)


def scored(model, tokenizer, asked, batch_size=64):
    encode = Encoder(tokenizer, "label")
    questions = [encode(*row) for row in asked]
    found = {}
    for batch, scores, _ in score_choices(model, tokenizer, questions, batch_size=batch_size):
        found |= dict(zip(batch, scores, strict=True))
    return [found[index] for index in range(len(asked))]


# ------------------------------------------------------------------ the trained answer's token


def with_tokens(*words):
    """The tests' tokenizer with words that are one token each."""
    tokenizer = make_tokenizer()
    tokenizer.add_tokens(list(words))
    return tokenizer


@pytest.mark.parametrize(
    ("words", "answer", "tokens"),
    [
        ((), "{label}. {text}", ["A", "B", "C"]),
        (("A.", "B.", "C."), "{label}. {text}", ["A.", "B.", "C."]),
        (("A.", "B.", "C."), "{label}", ["A", "B", "C"]),
        (("A. ", "B. ", "C. "), "  {label}. {text}\n", ["A. ", "B. ", "C. "]),
    ],
)
def test_the_scored_token_is_the_one_that_the_trained_answer_begins_with(words, answer, tokens):
    tokenizer = with_tokens(*words)
    messages, labels, _ = shown(3)
    answers = tuple(
        answer.format(label=label, text=text) for label, text in zip(labels, TEXTS, strict=False)
    )
    question = Encoder(tokenizer, "label")(messages, labels, answers)
    assert question.how == "token"
    wanted = question.prompt.branches[0].wanted[0]
    assert tokenizer.convert_ids_to_tokens(wanted)[0].replace("Ġ", " ") == tokens[0]
    for token, text in zip(wanted, answers, strict=True):
        example = chat.encode_example(
            tokenizer, [*messages, {"role": "assistant", "content": text}]
        )
        assert example["input_ids"][len(question.prompt.ids)] == token


@pytest.mark.parametrize("kind", ["llama", "short window"])
def test_answers_that_begin_alike_are_scored_as_far_as_they_differ(tokenizer, kind):
    model = MODELS[kind](tokenizer)
    messages, labels, lines = shown(10)
    answers = tuple(f"({line}" for line in lines)
    [got] = scored(model, tokenizer, [(messages, labels, answers)])
    assert got["scored"] == "sequence"
    prompt, targets = chat.encode_answers(tokenizer, messages, list(answers))
    sums = [sum(alone(model, prompt, target[:2])) for target in targets]  # "(" and the letter
    total = math.log(sum(map(math.exp, sums)))
    assert got["mass"] == pytest.approx(math.exp(total), rel=1e-3)
    assert got["log_probabilities"] == pytest.approx([s - total for s in sums], abs=1e-3)


def test_an_answer_that_begins_another_is_told_apart_by_the_end(model, tokenizer):
    answers = ("봄", "봄 날", "가을")
    [got] = scored(model, tokenizer, [(ask("?"), ("1", "2", "3"), answers)])
    assert got["scored"] == "token" or got["scored"] == "sequence+end"
    prompt, targets = chat.encode_answers(tokenizer, ask("?"), list(answers))
    assert targets[1][: len(targets[0])] == targets[0]
    end = chat.end_of_turn(tokenizer)[:1]
    sums = [sum(alone(model, prompt, target + end)) for target in targets]
    expected = [math.exp(s) / sum(map(math.exp, sums)) for s in sums]
    assert got["probabilities"] == pytest.approx(expected, abs=1e-4)


def test_as_many_trained_answers_as_choices(tokenizer):
    with pytest.raises(ValueError, match="2 trained answers for 3 choices"):
        Encoder(tokenizer, "label")(ask("?"), ("A", "B", "C"), ("A. 가", "B. 나"))


def test_trained_answers_stand_in_the_key_where_there_are_some():
    plain = Request("a", ask("?"), choices=("A", "B"))
    same = Request("a", ask("?"), choices=("A", "B"), shorter=lambda pieces: ask(""))
    other = Request("a", ask("?"), choices=("A", "B"), targets=("A. 가", "B. 나"))
    assert request_key({}, plain) == request_key({}, same) != request_key({}, other)


# --------------------------------------------------------------------------------- reading once


@pytest.mark.parametrize("batch_size", [5, 64])
@pytest.mark.parametrize("kind", MODELS)
def test_all_orders_of_rows_of_several_counts_are_those_of_full_logits(tokenizer, kind, batch_size):
    model = MODELS[kind](tokenizer)
    asked = [
        shown(count, order, question=question)
        for count, question in ((3, "앞은?"), (3, "뒤는?"), (2, "앞은?"), (10, "끝은?"))
        for order in orders_of(count, 6)
    ]
    asked.append(shown(4, dialogue="짧다"))
    import torch

    for (messages, _, answers), got in zip(
        asked, scored(model, tokenizer, asked, batch_size), strict=True
    ):
        prompt, targets = chat.encode_answers(tokenizer, messages, list(answers))
        with torch.no_grad():
            logs = model(torch.tensor([prompt])).logits[0, -1].double().log_softmax(-1)
        expected = logs[[target[0] for target in targets]]
        assert got["mass"] == pytest.approx(float(expected.exp().sum()), rel=1e-4)
        assert got["log_probabilities"] == pytest.approx(
            expected.log_softmax(-1).tolist(), abs=1e-4
        )


def test_orders_branch_from_what_they_share(model, tokenizer, monkeypatch):
    read, extend = [], branches.extend

    def counted(model, parts, tokens, pad, places):
        read.append((sum(map(len, tokens)), len(tokens) * max(map(len, tokens))))
        return extend(model, parts, tokens, pad, places)

    monkeypatch.setattr(branches, "extend", counted)
    asked = [shown(3, order) for order in permutations(range(3))]
    asked += [shown(3, order, question="뒤는?") for order in permutations(range(3))]
    asked += [shown(3, dialogue="전혀 다른 짧은 말")]
    scored(model, tokenizer, asked)
    rows = [chat.encode_prompt(tokenizer, messages) for messages, *_ in asked]
    distinct = len({tuple(row[:end]) for row in rows for end in range(1, len(row) + 1)})
    tokens, with_padding = map(sum, zip(*read, strict=True))
    assert distinct <= tokens < distinct + 13 * branches.WORTH  # of 13 rows, short ends are not
    assert tokens < sum(map(len, rows)) / 2.5
    assert with_padding < tokens * 1.5


def test_a_tree_holds_each_shared_token_once():
    rows = [[1] * 40 + [2] * 30 + [n] * 5 for n in range(3, 6)]
    rows += [[1] * 40 + [9] * 50, [1] * 40 + [9] * 50, [7] * 60]
    nodes, last = branches.tree(rows, [len(row) - 1 for row in rows])
    assert [(node.depth, node.tokens) for node in nodes] == [
        (0, [1] * 40), (1, [2] * 30), (1, [9] * 49),
    ]  # fmt: skip
    assert [node and node.end for node in last] == [70, 70, 70, 89, 89, None]
    assert branches.tree([[1, 2]], [1]) == ([], [None])


# --------------------------------------------------------------------------------------- orders


def test_orders():
    assert orders_of(3, None) == [(0, 1, 2)]
    assert orders_of(3, "cyclic") == [(0, 1, 2), (1, 2, 0), (2, 0, 1)]
    assert orders_of(3, 2) == [(0, 1, 2), (1, 2, 0)]
    assert orders_of(3, 4)[:3] == orders_of(3, "cyclic")
    assert sorted(orders_of(4, "all")) == sorted(permutations(range(4)))
    assert len(set(orders_of(3, 100))) == 6
    assert len(orders_of(10, "cyclic")) == 10
    with pytest.raises(InputError, match="3,628,800 orders of 10 options"):
        orders_of(10, "all")


def test_what_is_put_in_another_order():
    item = {"choices": ["A", "B"], "options": ["가", "나"], "target": "B"}
    assert permuted(item, (0, 1)) is item
    assert permuted(item, (1, 0)) == {**item, "options": ["나", "가"]}
    assert permuted({"choices": ["가", "나"]}, (1, 0)) == {"choices": ["나", "가"]}
    with pytest.raises(ValueError, match="3 options for 2 choices"):
        permuted({"choices": ["A", "B"], "options": ["가", "나", "다"]}, (1, 0))


def record(logs, mass=0.5):
    total = math.log(sum(map(math.exp, logs)))
    logs = [value - total for value in logs]
    found = {"probabilities": [math.exp(value) for value in logs], "log_probabilities": logs}
    usage = {"input": 10, "output": 0}
    return {"status": "ok", "text": "?", "usage": usage, "scored": "token", "mass": mass} | found


def test_the_average_is_of_texts_not_of_positions():
    """A model that likes the first position, and among texts the one that stands second."""
    orders = orders_of(3, "cyclic")
    liking, texts = [2.0, 0.0, 0.0], [0.0, 1.0, 0.5]
    records = [
        record([liking[place] + texts[option] for place, option in enumerate(order)], 0.1 * n)
        for n, order in enumerate(orders, 1)
    ]
    got = averaged(records, orders, ["A", "B", "C"])
    assert got["text"] == "B"
    for option in range(3):
        mean = sum(
            r["probabilities"][o.index(option)] for r, o in zip(records, orders, strict=True)
        )
        assert got["probabilities"][option] == pytest.approx(mean / 3)
    assert got["log_probabilities"] == pytest.approx([*map(math.log, got["probabilities"])])
    best = sorted(got["probabilities"])
    assert got["margin"] == pytest.approx(best[2] - best[1])
    assert (got["mass"], got["usage"]["input"]) == (pytest.approx(0.2), 30)
    assert [one["order"] for one in got["orders"]] == [list(order) for order in orders]
    assert got["orders"][2]["log_probabilities"] == records[2]["log_probabilities"]
    cuts = [{**one, "cut": {"pieces": n}} if n else one for n, one in enumerate(records)]
    assert "cut" not in got
    assert averaged(cuts, orders, ["A", "B", "C"])["cut"] == {"pieces": 2}
    assert averaged(records[:1], orders[:1], ["A", "B", "C"]) is records[0]
    failed = {"status": "out_of_range", "text": ""}
    assert averaged([records[0], failed, records[1]], orders, ["A", "B", "C"]) is failed


def rows_that(picks, count=3, permute="cyclic"):
    """Rows of a model that picks by a function: order → position."""
    rows = []
    for n in range(4):
        orders = []
        for order in orders_of(count, permute):
            place = picks(n % count, order)
            logs = [0.0 if p == place else -3.0 for p in range(count)]
            orders.append({"order": list(order), "log_probabilities": logs})
        rows.append({"status": "ok", "orders": orders, "probabilities": [1.0], "margin": 0.5})
    return rows


@pytest.mark.parametrize("permute", ["cyclic", "all"])
def test_what_the_pick_follows(permute):
    by_text = following(rows_that(lambda n, order: order.index(n), permute=permute))
    assert (by_text["rows"], by_text["rate"]) == (4, 0)
    assert [one["picked"] for one in by_text["positions"]] == pytest.approx([1 / 3] * 3)
    by_place = following(rows_that(lambda n, order: 1, permute=permute))
    assert by_place["rate"] == pytest.approx(1)
    assert [one["picked"] for one in by_place["positions"]] == pytest.approx([0, 1])
    assert by_place["positions"][0]["rate"] is None
    assert by_place["positions"][1]["rate"] == pytest.approx(1)
    half = rows_that(lambda n, order: 0 if n % 2 else order.index(n), permute=permute)
    assert 0 < following(half)["rate"] < 1
    assert following([{"status": "ok"}, {"orders": [{"order": [0, 1]}]}]) is None


def test_a_row_counts_once_however_many_orders_it_has():
    mixed = rows_that(lambda n, order: 0, count=5, permute="all")[:1]
    mixed += rows_that(lambda n, order: order.index(n), count=2)[:1]
    assert following(mixed)["rate"] == pytest.approx(0.5)


def test_figures_of_rows_that_logits_answered():
    rows = rows_that(lambda n, order: 0)
    for n, row in enumerate(rows):
        row |= {"mass": 0.1 if n else 0.9, "scored": "sequence" if n else "token"}
    rows[1]["cut"] = {"pieces": 2, "tokens": 30, "characters": 50}
    figures = choice_figures([*rows, {"status": "out_of_range"}])
    assert (figures["n"], figures["low_mass"], figures["cut"]) == (4, 3, 1)
    assert figures["mass"] == pytest.approx(0.3)
    text = "\n".join(choice_lines(figures))
    assert "warning: that is below 0.5" in text
    assert "3 rows by sequence" in text
    assert "100% of the time; at position 1: 100% (picked 100%)" in text
    assert "1 rows were too long" in text
    for row in rows:
        row["mass"] = 0.8
    assert "warning" not in "\n".join(choice_lines(choice_figures(rows)))
    assert choice_figures([{"status": "ok", "answer": "free text"}]) == {}
    assert choice_lines({}) == []


# -------------------------------------------------------------------------------- too long a row


def test_the_middle_goes_first_and_marked_pieces_never():
    assert kept(9, [], 1) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert kept(9, [], 7) == [0, 8]
    assert kept(10, [8], 3) == [0, 1, 2, 6, 7, 8, 9]
    assert kept(10, [0, 4, 9], 7) == [0, 4, 9]
    assert kept(3, [1], 2) == [1]
    assert kept(5, [], 0) == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="3 of 2 pieces"):
        kept(3, [1], 3)


def test_sentences_of_a_passage():
    text = "첫째다. 둘째다! 셋째 ㉠이다. 넷째다.\n다섯째다. 여섯째다."
    assert without_sentences(text, 0) == text
    assert without_sentences(text, 1, lambda s: "㉠" in s) == (
        "첫째다. (중략) 셋째 ㉠이다. 넷째다.\n다섯째다. 여섯째다."
    )
    assert without_sentences(text, 5, lambda s: "㉠" in s) == "(중략) 셋째 ㉠이다. (중략)"
    with pytest.raises(ValueError, match="6 of 5"):
        without_sentences(text, 6, lambda s: "㉠" in s)


def long_request(name, lines, marked=()):
    said = [f"{name} {n}번째 말이다 {TEXTS[n % 8]}" for n in range(lines)]

    def messages(left_out=0):
        places = kept(lines, marked, left_out)
        return ask("\n".join([*(said[place] for place in places), "무엇인가?"]))

    return Request(name, messages(), choices=("A", "B"), shorter=messages)


def test_a_row_that_is_too_long_is_cut_as_little_as_possible(model_folder, tokenizer, tmp_path):
    whole, cut = long_request("whole", 3), long_request("cut", 60, marked=(5, 41))
    stuck = long_request("stuck", 60, marked=range(60))
    bare = replace(long_request("bare", 60), shorter=None)
    engine = ChoiceEngine(str(model_folder), batch_size=2)
    records = through(engine, [stuck, whole, cut, bare], tmp_path / "j")
    by_id = {one["id"]: one for one in records}
    assert [by_id[name]["status"] for name in ("whole", "cut")] == ["ok", "ok"]
    assert "cut" not in by_id["whole"]
    pieces = by_id["cut"]["cut"]["pieces"]
    length = lambda count: len(chat.encode_prompt(tokenizer, cut.shorter(count)))  # noqa: E731
    assert length(pieces) == by_id["cut"]["usage"]["input"] <= 512 < length(pieces - 1)
    assert by_id["cut"]["cut"]["tokens"] == length(0) - length(pieces)
    left = cut.shorter(pieces)[0]["content"]
    assert by_id["cut"]["cut"]["characters"] == len(cut.messages[0]["content"]) - len(left)
    assert all(f"cut {n}번째" in left for n in (0, 5, 41, 59))
    for name, said in (
        ("stuck", "cannot be cut to the model's context of 512"),
        ("bare", "do not"),
    ):
        assert by_id[name]["status"] == "out_of_range"
        assert said in by_id[name]["error"]


# ------------------------------------------------------------------------------ through the scripts

TASK = """
from pathlib import Path
from malmat.evaluate.items import read_choices
from malmat.evaluate.task import RATE, Task
from malmat.text.shorten import kept

def lines(item):
    return [f"{a}. {b}" for a, b in zip(item["choices"], item["options"], strict=True)]

def render(prompts, item, passages):
    text = "\\n".join([*item["said"], item["question"], *lines(item)])
    return [{"role": "user", "content": text}]

def shorten(item, left_out):
    places = kept(len(item["said"]), item["marked"], left_out)
    return {**item, "said": [item["said"][place] for place in places]}

TASK = Task(name="mine", title="Mine", about="", scale=RATE, questions=Path("q.json"),
    read=read_choices, render=render, scorer="accuracy", targets=lines, shorten=shorten)
"""


def items(counts):
    found = []
    for n, count in enumerate(counts):
        labels = [chr(ord("A") + place) for place in range(count)]
        said = [question for question, _ in PAIRS] * (1 if n else 12)
        found.append(
            {"id": f"row{n}", "title": "하나", "question": f"{n}번?", "choices": labels}
            | {"options": [f"{TEXTS[p % 8]} {p}" for p in range(count)], "target": "A"}
            | {"said": said, "marked": [1]}
        )
    return found


@pytest.mark.slow
def test_orders_cuts_and_figures_through_every_stage(script, tmp_path, model_folder):
    (tmp_path / "mine.py").write_text(TASK, encoding="utf-8")
    questions = items([3, 2, 10, 3])
    (tmp_path / "q.json").write_text(json.dumps(questions), encoding="utf-8")
    words = ("src/eval/infer.py", model_folder, "local", "mine", "--results_dir", "results")
    folder = tmp_path / "results/mine/infer_results"

    def infer(*more):
        result = script(*words, *more, MALMAT_TASKS="mine.py")
        assert result.returncode == 0, result.stderr
        [path] = folder.glob("*_results.json")
        journal = journal_path(path)
        lines = journal.read_text(encoding="utf-8").splitlines()
        return result.stdout, json.loads(path.read_text(encoding="utf-8")), lines

    said, plain, before = infer()
    assert "warning: that is below 0.5" in said  # of a model with random weights
    assert "1 rows were too long and cut" in said
    assert plain[0]["cut"]["pieces"] > 0
    said, rows, after = infer("--permute", "cyclic")
    assert after[: len(before)] == before  # the order in which they stand is not asked again
    assert len(after) == 3 + 2 + 10 + 3
    assert "the pick follows the position" in said
    for row, old, item in zip(rows, plain, questions, strict=True):
        assert [len(row["orders"]), row["status"]] == [len(item["choices"]), "ok"]
        assert row["orders"][0]["log_probabilities"] == old["log_probabilities"]
        assert sum(row["probabilities"]) == pytest.approx(1)
        best = row["probabilities"].index(max(row["probabilities"]))
        assert row["answer"] == item["choices"][best]
        assert row["options"] == item["options"]
        assert "orders" not in old
    record = json.loads(next(folder.glob("*.run.json")).read_text(encoding="utf-8"))
    assert record["run"]["choices"]["positions"]["rows"] == 4
    name = model_folder.name
    score = script(
        "src/eval/score.py", "--model_name", name, "--task", "mine", "--results_dir", "results",
        MALMAT_TASKS="mine.py",
    )  # fmt: skip
    assert score.returncode == 0, score.stderr
    assert "the pick follows the position" in score.stdout
    report = script("src/eval/report.py", "--results_dir", "results", MALMAT_TASKS="mine.py")
    assert report.returncode == 0, report.stderr
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Pick follows the position" in page
    result = script(*words, "--score", "text", "--permute", "2", MALMAT_TASKS="mine.py")
    assert result.returncode == 0, result.stderr
    [path] = folder.glob("*_results.json")
    for row in json.loads(path.read_text(encoding="utf-8")):
        assert [one["chars"] for one in row["likelihoods"]] == [len(o) for o in row["options"]]
        assert {row["answer"], *row["picks"].values()} <= {*row["choices"]}


@pytest.mark.slow
def test_options_that_no_wording_shows_are_not_put_in_order(script, tmp_path, model_folder):
    (tmp_path / "mine.py").write_text(
        TASK.replace('item["options"]', 'item["choices"]'), encoding="utf-8"
    )
    rows = [{k: v for k, v in item.items() if k != "options"} for item in items([3])]
    (tmp_path / "q.json").write_text(json.dumps(rows), encoding="utf-8")
    words = ("src/eval/infer.py", model_folder, "local", "mine", "--permute", "all", "--dry_run")
    result = script(*words, MALMAT_TASKS="mine.py")
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert "field 'row0': its wording shows no options" in line
