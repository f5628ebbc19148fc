"""The scripts as a user runs them: help, bad input, the chain against a fake server."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import PAIRS, ROOT
from tests.fake_llm import FakeLLM

SCRIPTS = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.py", "src/*/*.py")
    for path in ROOT.glob(pattern)
    if "parser(__doc__)" in path.read_text(encoding="utf-8")
)

SHELL = sorted(
    str(path.relative_to(ROOT))
    for pattern in ("*.sh", "src/*/*.sh")
    for path in ROOT.glob(pattern)
    if path.name != "launch.sh"  # sourced by the training scripts behind their own --help
)

TERMS = [
    {
        "title": "갓생",
        "content": "부지런하고 알찬 생활을 뜻한다. 스스로를 다독일 때 쓴다.",
        "example_q": "요즘 뭐 해?",
        "example_a": "갓생 사는 중",
    },
    {
        "title": "점메추",
        "content": "'점심 메뉴 추천'을 줄인 말이다. 가볍게 부탁할 때 쓴다.",
        "example_q": "배고프다",
        "example_a": "점메추 해 줄까?",
    },
]


@pytest.fixture
def terms(tmp_path):
    path = tmp_path / "terms.csv"
    lines = ["title,content,example_q,example_a"]
    lines += [",".join(f'"{value}"' for value in term.values()) for term in TERMS]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write(path, value):
    path.write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8")
    return path


@pytest.mark.parametrize("path", SCRIPTS)
def test_help_answers_without_loading_a_framework(path):
    """What --help costs is what it imports: no torch, no SDK."""
    code = (
        "import runpy, sys\n"
        f"sys.argv = [{path!r}, '--help']\n"
        f"sys.path.insert(0, {str((ROOT / path).parent)!r})\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / path)!r}, run_name='__main__')\n"
        "except SystemExit as done:\n"
        "    assert done.code == 0, done.code\n"
        "heavy = {'torch', 'transformers', 'openai', 'google.genai', 'kiwipiepy', 'scipy',\n"
        "         'datasets', 'pyarrow', 'matplotlib', 'jinja2', 'gradio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "Reads" in result.stdout
    assert "--" in result.stdout


@pytest.mark.parametrize("path", SHELL)
@pytest.mark.parametrize("word", ["-h", "--help"])
def test_help_of_a_shell_script_is_its_head_and_starts_nothing(path, word, tmp_path):
    result = subprocess.run(
        ["bash", str(ROOT / path), word],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHON": str(tmp_path / "no-python")},
        capture_output=True,
        text=True,
        timeout=1,
    )
    assert (result.returncode, result.stderr) == (0, "")
    source = (ROOT / path).read_text(encoding="utf-8").splitlines()
    head = [line for line in source if not line.startswith("#!")]
    assert result.stdout.splitlines()[0] == head[0].removeprefix("# ")
    assert "set -" not in result.stdout
    assert not list(tmp_path.iterdir())


# ------------------------------------------------------------------------- bad input


def assert_refused(result, *parts: str) -> None:
    """Exit 2 and one line that holds all of ``parts``."""
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("error: ")
    for part in parts:
        assert part in lines[0]


def test_bad_json_on_a_line_is_named(script, tmp_path):
    path = tmp_path / "pairs.jsonl"
    path.write_text('{"title": "갓생", "question": "뭐 해", "answer": "갓생"}\n{"title": \n')
    assert_refused(script("src/data/split.py", "--input", path), "pairs.jsonl", "line 2")
    assert not (tmp_path / "data").exists()


def test_a_missing_field_is_named_with_file_and_line(script, tmp_path):
    path = tmp_path / "merged.json"
    rows = [{"title": "갓생", "conversations": [{"q": "뭐 해"}]}]
    path.write_text("[\n" + json.dumps(rows[0]) + "\n]")
    result = script("src/data/split.py", "--input", path)
    assert_refused(result, "merged.json", "line 2", "conversations[0].a")


def test_an_unknown_key_of_models_json_is_named(script, tmp_path):
    path = tmp_path / "models.json"
    row = {"script": "train_lora_fine_tuning.py", "model_name": "embedded", "lerning_rate": 1}
    path.write_text(json.dumps({"a": row}, indent=1))
    result = script("src/train/rows.py", "a", "--models", path)
    assert_refused(result, "models.json", "line 5", "lerning_rate")


@pytest.mark.parametrize("name", ["./nowhere", "nowhere"])
def test_no_such_model_is_one_line(script, name):
    result = script("src/eval/infer.py", name, "local", "usage")
    assert_refused(result, "nowhere")


def test_a_hub_model_that_cannot_be_loaded_is_one_line(script, tmp_path):
    pairs = tmp_path / "p.jsonl"
    pairs.write_text(json.dumps({"question": "뭐 해", "answer": "갓생"}))
    result = script(
        "src/train/train_lora_fine_tuning.py",
        "--model_name",
        "nobody/no-such-model",
        "--data_path",
        pairs,
    )
    assert_refused(result, "nobody/no-such-model")
    assert not (tmp_path / "checkpoints").exists()


def test_a_key_that_is_not_set_is_named_before_anything_is_written(script, tmp_path, terms):
    result = script(
        "generate_augmented_pairs_gemini.py",
        "--input",
        terms,
        "--output_dir",
        tmp_path / "out",
        GEMINI_API_KEY="",
        GOOGLE_API_KEY="",
    )
    assert_refused(result, "GEMINI_API_KEY")
    assert not list((tmp_path / "out").glob("*.json"))


def test_prompt_placeholders_are_checked(tmp_path):
    from malmat.errors import InputError
    from malmat.prompts import PROMPT_FILE, load_prompts

    text = PROMPT_FILE.read_text(encoding="utf-8")
    path = tmp_path / "prompt.py"
    path.write_text(text.replace("주세요: {question}", "주세요: {qustion}"), encoding="utf-8")
    with pytest.raises(InputError, match=r"line \d+, field 'CHAT'.*\{qustion\}"):
        load_prompts(path, {"CHAT": {"question"}})
    path.write_text(text.replace("주세요: {question}", "주세요: 질문"), encoding="utf-8")
    with pytest.raises(InputError, match=r"CHAT.*\{question\} is missing"):
        load_prompts(path, {"CHAT": {"question"}})
    path.write_text(text + "\nWORD = (", encoding="utf-8")
    with pytest.raises(InputError, match="not Python"):
        load_prompts(path)


# ----------------------------------------------------------------- data to train on


def test_split_keeps_terms_whole_and_unseen_terms_out(script, tmp_path):
    rows = [
        {
            "title": f"말{i}",
            "conversations": [{"q": f"질문 {i} {j}", "a": f"대답 {i} {j}"} for j in range(3)],
        }
        for i in range(10)
    ]
    merged = write(tmp_path / "merged.json", rows)
    questions = tmp_path / "q.jsonl"
    questions.write_text('{"title": "말3", "split": "unseen"}\n{"title": "말4", "split": "seen"}\n')
    words = ["--input", merged, "--questions", questions, "--output_dir", tmp_path / "data"]
    result = script("src/data/split.py", *words, "--heldout_share", 0.3)
    assert result.returncode == 0, result.stderr
    read = {
        side: [json.loads(line) for line in (tmp_path / "data" / f"{side}.jsonl").open()]
        for side in ("train", "heldout")
    }
    titles = {side: {row["title"] for row in rows} for side, rows in read.items()}
    assert not titles["train"] & titles["heldout"]
    assert "말3" in titles["heldout"]
    assert len(titles["heldout"]) == 1 + round(9 * 0.3)
    assert len(read["train"]) + len(read["heldout"]) == 30
    assert len({row["id"] for rows in read.values() for row in rows}) == 30
    before = (tmp_path / "data" / "train.jsonl").read_bytes()
    script("src/data/split.py", *words, "--heldout_share", 0.3)
    assert (tmp_path / "data" / "train.jsonl").read_bytes() == before


def test_merge_keeps_the_first_of_repeated_pairs(script, tmp_path):
    one = [{"title": "갓생", "description": "가", "conversations": [{"q": "뭐 해?", "a": "갓생"}]}]
    two = {
        "title": "갓생",
        "description": "나",
        "conversations": [
            {"q": "뭐 해", "a": "갓생ㅋㅋ"},
            {"context": "학교", "q": "어디?", "a": "갓생 중", "model": "m", "q2": "덤"},
        ],
    }
    folder = tmp_path / "more"
    folder.mkdir()
    write(folder / "two.json", two)
    output = tmp_path / "out.json"
    result = script(
        "src/data/merge.py", write(tmp_path / "one.json", one), folder, "--output", output
    )
    assert result.returncode == 0, result.stderr
    (term,) = json.loads(output.read_text())
    assert term["description"] == "가"
    assert [pair["q"] for pair in term["conversations"]] == ["뭐 해?", "어디?"]
    assert set(term["conversations"][1]) == {"context", "q", "a", "model"}
    assert "1 repeated" in result.stdout
    assert "another description" in result.stdout


# --------------------------------------------------------------- answers and scores


def questions_file(tmp_path):
    return write(tmp_path / "questions.json", {"questions": [q for q, _ in PAIRS]})


@pytest.mark.slow
def test_answers_and_scores_through_a_faulty_server_are_those_without_faults(
    script, tmp_path, terms
):
    questions = questions_file(tmp_path)

    def answer(prompt: str, body: dict) -> str:
        if "response_format" in body:
            return json.dumps({"used": "갓생 산다" in prompt, "term": "갓생"})
        return "나 갓생 산다" if "점심" in prompt or "커피" in prompt else "그냥 쉬어"

    averages = []
    faulty = {"429": 0.2, "503": 0.1, "reset": 0.05, "bad_json": 0.05}
    for number, faults in enumerate([{}, faulty]):
        with FakeLLM(answer=answer, faults=faults, seed=3) as server:
            url, folder = f"{server.url}/v1", tmp_path / f"results{number}"
            result = script(
                "src/eval/infer.py", "fake", "api", "usage",
                *("--questions", questions, "--base_url", url, "--results_dir", folder),
                OPENAI_API_KEY="test-key",
            )  # fmt: skip
            assert result.returncode == 0, result.stderr
            result = script(
                "src/eval/score.py", "--model_name", "fake", "--score_mode", "usage",
                *("--scorer_name", "judge", "--base_url", url, "--results_dir", folder),
                *("--terms", terms),
                OPENAI_API_KEY="test-key",
            )  # fmt: skip
            assert result.returncode == 0, result.stderr
            (path,) = folder.glob("usage/score_results/*_score_results.json")
            score = json.loads(path.read_text())
            averages.append(score["total_usage_rate"])
            assert (score["n_scored"], score["n_total"]) == (8, 8)
            assert score["interval"][0] < score["total_usage_rate"] < score["interval"][1]
    assert averages == [0.25, 0.25]


def test_a_failed_judgement_is_never_a_score(script, tmp_path, terms):
    rows = [
        {"question": "뭐 해?", "answer": "갓생 산다"},
        {"question": "점심은?", "answer": "점메추 받음"},
        {"question": "왜?", "answer": "Error in generation: boom"},
        {"question": "어디?", "answer": "집이야\nassistant\n어디라고?"},
    ]
    answers = write(tmp_path / "answers.json", rows)

    def judge(prompt: str, body: dict) -> str:
        return "점수는 5점이다" if "점메추 받음" in prompt else '{"used": true, "term": "갓생"}'

    output = tmp_path / "score.json"
    with FakeLLM(answer=judge) as server:
        result = script(
            "src/eval/score.py", "--model_name", "m", "--score_mode", "usage",
            *("--scorer_name", "judge", "--base_url", f"{server.url}/v1", "--terms", terms),
            *("--infer_results", answers, "--output", output),
            OPENAI_API_KEY="test-key",
        )  # fmt: skip
    assert result.returncode == 1
    score = json.loads(output.read_text())
    assert score["total_usage_rate"] == 1.0
    assert (score["n_scored"], score["n_total"]) == (1, 4)
    assert score["bounds"] == [0.25, 1.0]
    assert [row["status"] for row in score["results"]] == [
        "ok", "parse_error", "api_error", "leaked",
    ]  # fmt: skip
    assert [row["used"] for row in score["results"]] == [True, None, None, None]
    assert score["results"][1]["judge_replies"] == ["점수는 5점이다"]


def test_the_lexicon_judges_usage_by_morphology(script, tmp_path, terms):
    rows = [
        {"question": "뭐 해?", "answer": "요즘 갓생살고 있지"},
        {"question": "점심?", "answer": "그냥 밥 먹어"},
        {"question": "응?", "answer": "점메추좀 해 줘"},
    ]
    output = tmp_path / "score.json"
    result = script(
        "src/eval/score.py", "--model_name", "m", "--score_mode", "usage",
        *("--scorer_name", "lexicon", "--terms", terms, "--output", output),
        *("--infer_results", write(tmp_path / "a.json", rows)),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    score = json.loads(output.read_text())
    assert [row["used"] for row in score["results"]] == [True, False, True]
    assert score["results"][2]["terms"] == ["점메추"]


@pytest.mark.slow
def test_local_answers_local_judge_and_report(script, tmp_path, model_folder, terms):
    rows = [
        {"title": term["title"], "question": f"{term['title']} 이야기 {i}"}
        for i in range(4)
        for term in TERMS
    ]
    questions = write(tmp_path / "understand.json", rows)
    results = tmp_path / "results"
    common = ["--results_dir", results]
    for name in ("base", "other"):
        result = script(
            "src/eval/infer.py", model_folder, "local", "understand", "--name", name, *common,
            *("--questions", questions, "--max_new_tokens", 8, "--seed", len(name)),
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        path = results / f"understand/infer_results/{name}_understand_inference_results.json"
        answers = json.loads(path.read_text())
        assert [row["question"] for row in answers] == [row["question"] for row in rows]
        for row in answers[1:]:  # a random model ends no turn: make answers that can be judged
            row |= {"status": "ok", "answer": f"{name} 답 {row['question']}"}
        write(path, answers)
        result = script(
            "src/eval/score.py", "--model_name", name, "--score_mode", "understand", *common,
            *("--scorer_name", f"local:{model_folder}", "--terms", terms),
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        path = next(results.glob(f"understand/score_results/{name}_*_score_results.json"))
        score = json.loads(path.read_text())
        assert (score["n_scored"], score["n_total"]) == (7, 8)
        assert all(1 <= row["score"] <= 5 for row in score["results"][1:])
        assert score["results"][0]["score"] is None
    result = script(
        "src/eval/report.py", *common, "--baseline", "base", "--output", tmp_path / "r.html"
    )
    assert result.returncode == 0, result.stderr
    assert "7/8" in result.stdout
    page = (tmp_path / "r.html").read_text()
    assert "7/8" in page
    assert "7 pairs" in result.stdout
    assert "too few to compare" not in page

    # With most rows of one model missing, no difference is claimed.
    value = json.loads(path.read_text())
    for row in value["results"][2:]:
        row |= {"status": "truncated", "score": None}
    write(path, value)
    result = script(
        "src/eval/report.py", *common, "--baseline", "base", "--output", tmp_path / "r.html"
    )
    assert "(1 pairs, too few to compare)" in result.stdout
    assert "too few to compare" in (tmp_path / "r.html").read_text()
    for outside in ("http://", "https://", "src="):
        assert outside not in page


# ---------------------------------------------------------------------- shell scripts


def shell(path, *words, cwd, **environment):
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    settings = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT / "src"), "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        ["bash", str(ROOT / path), *map(str, words)],
        cwd=cwd,
        env=clean | settings | environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_exp_sh_goes_on_after_a_failed_model_and_says_so(tmp_path):
    def answer(prompt: str, body: dict) -> str:
        return "오늘도 갓생 살았다"

    with FakeLLM(answer=answer) as server:
        result = shell(
            "src/eval/exp.sh", "./nowhere fake", "api", "usage", cwd=tmp_path,
            RESULTS="out", JUDGE="lexicon", OPENAI_API_KEY="test-key",
            ARGS=f"--base_url {server.url}/v1 --limit 2",
        )  # fmt: skip
        assert server.calls == 4
    # The name means nothing to an API: both models answer, and both are scored.
    assert result.returncode == 0, result.stderr
    assert len(list((tmp_path / "out/usage/score_results").glob("*.json"))) == 2

    result = shell(
        "src/eval/exp.sh", "./nowhere ./elsewhere", "local", "usage", cwd=tmp_path, RESULTS="o2"
    )
    assert result.returncode == 1
    assert "failed: nowhere usage (answers)" in result.stderr
    assert "failed: elsewhere usage (answers)" in result.stderr
    assert "(scores)" not in result.stderr


def test_train_all_goes_on_after_a_failed_model(tmp_path):
    result = shell("src/train/train_all.sh", "no-such-row", cwd=tmp_path)
    assert result.returncode == 2
    assert "no row 'no-such-row'" in result.stderr
