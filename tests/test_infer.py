"""infer.py, exp.sh and serve_vllm.sh as a user runs them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

from malmat.lm.chat import THINKING_OFF
from malmat.prompts import load_prompts
from tests.conftest import PAIRS, ROOT, make_model
from tests.fake_llm import FakeLLM

INFER = "src/eval/infer.py"


@pytest.fixture
def questions(tmp_path):
    rows = [f"{q} {i}" for i in range(3) for q, _ in PAIRS]
    path = tmp_path / "questions.json"
    path.write_text(json.dumps({"questions": rows}, ensure_ascii=False), encoding="utf-8")
    return path


def answers(path):
    return {row["id"]: row["answer"] for row in json.loads(path.read_text())}


def run_record(path):
    return json.loads(path.with_suffix(".run.json").read_text())


def refused(result, *parts):
    assert result.returncode == 2, (result.stdout, result.stderr)
    for part in parts:
        assert part in result.stderr
    assert "Traceback" not in result.stderr


# --------------------------------------------------------------------------- local models


def test_a_model_trained_with_another_wording_is_said(script, tmp_path, model_folder, questions):
    folder = shutil.copytree(model_folder, tmp_path / "trained")
    words = [INFER, folder, "local", "usage", "--questions", questions, "--dry_run"]
    notes = []
    for wording in (load_prompts()["CHAT"], "답해: {question}"):
        (folder / "run.json").write_text(json.dumps({"wording": wording}, ensure_ascii=False))
        result = script(*words, "--output", tmp_path / "o.json")
        assert result.returncode == 0, result.stderr
        notes.append([line for line in result.stdout.splitlines() if "another wording" in line])
    assert notes[0] == []
    [note] = notes[1]
    assert note.startswith(f"note: {folder} was trained with another wording than CHAT")
    assert "답해: {question}" in note


@pytest.mark.slow
def test_batches_do_not_change_answers_and_are_found(script, tmp_path, model_folder, questions):
    found = {}
    for size in ("1", "5", "auto"):
        output = tmp_path / f"{size}.json"
        result = script(
            INFER, model_folder, "local", "usage", "--questions", questions, "--output", output,
            *("--max_new_tokens", 12, "--batch_size", size),
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        found[size] = answers(output)
        assert ("batches of 24" in result.stdout) == (size == "auto")
    assert len(found["1"]) == 24
    assert found["1"] == found["5"] == found["auto"]

    run = run_record(tmp_path / "auto.json")
    assert run["settings"]["top_k"] == 20
    rows = json.loads((tmp_path / "auto.json").read_text())
    assert run["run"]["items"] == 24
    assert run["run"]["items_per_second"] == pytest.approx(24 / run["run"]["seconds"], abs=0.01)
    assert run["run"]["tokens"]["output"] == sum(row["output_tokens"] for row in rows)
    assert run["run"]["tokens"]["input"] > 24 * 10
    assert run["run"]["cost_usd"] is None


@pytest.mark.slow
def test_a_killed_run_goes_on_with_its_batches(script, tmp_path, model_folder, questions):
    """What was lost is answered as it was before, also where 'auto' would take other batches."""
    whole, output = tmp_path / "whole.json", tmp_path / "cut.json"
    common = [INFER, model_folder, "local", "usage", "--questions", questions]
    common += ["--max_new_tokens", 12]
    assert script(*common, "--output", whole, "--batch_size", 5).returncode == 0
    assert script(*common, "--output", output, "--batch_size", 5).returncode == 0
    journal = tmp_path / "cut.json.journal.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    assert {json.loads(line)["batch_size"] for line in lines} == {5}
    journal.write_text("".join(lines[:12]) + lines[12][:40])  # killed in the middle of a write
    output.unlink()
    before = run_record(output)["run"]

    result = script(*common, "--output", output)
    assert result.returncode == 0, result.stderr
    assert "cut off an unfinished last line" in result.stdout
    assert "batches of" not in result.stdout  # none had to be found
    assert output.read_bytes() == whole.read_bytes()
    lines = journal.read_text().splitlines()
    assert len(lines) == len({json.loads(line)["key"] for line in lines}) == 24
    after = run_record(output)["run"]
    assert after["items"] == before["items"] + 12
    assert after["seconds"] > before["seconds"]

    assert script(*common, "--output", output).returncode == 0  # nothing left to do
    assert run_record(output)["run"] == after
    assert output.read_bytes() == whole.read_bytes()


@pytest.fixture
def adapter(tmp_path, model_folder, tokenizer):
    """A LoRA folder on the tiny model that changes its answers."""
    from peft import LoraConfig, get_peft_model

    tuned = get_peft_model(
        make_model(tokenizer), LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"])
    )
    for name, weight in tuned.named_parameters():
        if "lora_B" in name:
            weight.data.normal_(std=0.5)
    tuned.peft_config["default"].base_model_name_or_path = str(model_folder)
    tuned.save_pretrained(tmp_path / "tiny-lora")
    return tmp_path / "tiny-lora"


@pytest.mark.slow
def test_four_bits_with_an_adapter_on_top(script, tmp_path, model_folder, adapter, questions):
    """bitsandbytes really quantizes, on the CPU too; the adapter changes the answers."""
    pytest.importorskip("bitsandbytes")
    found = []
    bits = ["--quantization", "4bit"]
    for options in ([], bits, [*bits, "--adapter", adapter]):
        output = tmp_path / f"{len(found)}.json"
        result = script(
            INFER, model_folder, "local", "usage", "--questions", questions, "--output", output,
            *("--max_new_tokens", 8, "--limit", 8, *options),
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        found.append(answers(output))
    assert len({json.dumps(answer) for answer in found}) == 3


def test_options_of_the_other_kind_are_refused(script, tmp_path, model_folder):
    refused(script(INFER, model_folder, "local", "usage", "--base_url", "http://x"), "base_url")
    refused(script(INFER, "gpt-4o", "api", "usage", "--batch_size", 4), "batch_size")
    refused(script(INFER, "gpt-4o", "api", "usage", "--top_k", 5), "top_k")
    refused(script(INFER, "m", "api", "usage", "--base_url", "localhost:8000"), "http://HOST:PORT")
    assert script(INFER, "gpt-4o", "api", "usage", "--batch_size", "many").returncode == 2


def test_settings_out_of_range_are_refused_before_anything_is_done(script):
    given = ["gpt-4o", "api", "usage", "--dry_run"]
    for name, value in (
        ("temperature", "-1"),
        ("temperature", "nan"),
        ("temperature", "inf"),
        ("top_p", "7"),
        ("top_p", "0"),
        ("min_p", "-0.1"),
        ("repetition_penalty", "0"),
        ("max_cost", "-3"),
    ):
        result = script(INFER, *given, f"--{name}", value)
        refused(result, f"argument --{name}: must be")


# ---------------------------------------------------------------------------- API servers


def ask(script, questions, output, *words, **environment):
    return script(
        INFER, "tiny", "api", "usage", "--questions", questions, "--output", output, *words,
        **environment,
    )  # fmt: skip


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_several_servers_share_the_questions(script, tmp_path, questions):
    output = tmp_path / "out.json"
    with FakeLLM(latency=0.02) as first, FakeLLM(latency=0.02) as second:
        urls = f"{first.url}/v1, {second.url}/v1"
        result = ask(script, questions, output, "--base_url", urls, "--top_k", 20, "--seed", 3)
        assert result.returncode == 0, result.stderr
        assert first.calls == second.calls == 12
        body = first.requests[0]
        assert (body["top_k"], body["seed"], body["temperature"]) == (20, 3, 0.7)
        assert "repetition_penalty" not in body
    run = run_record(output)["run"]
    assert run["items"] == 24
    assert run["tokens"]["output"] > 0


def test_time_of_another_configuration_is_not_counted(script, tmp_path, questions):
    output = tmp_path / "o.json"
    with FakeLLM() as server:
        common = [script, questions, output, "--base_url", f"{server.url}/v1"]
        assert ask(*common, "--limit", 4).returncode == 0
        assert run_record(output)["run"]["items"] == 4
        assert ask(*common, "--limit", 10).returncode == 0  # the same run, grown
        assert run_record(output)["run"]["items"] == 10
        assert ask(*common, "--limit", 10, "--temperature", 0.1).returncode == 0
        assert run_record(output)["run"]["items"] == 10
        assert ask(*common, "--limit", 12).returncode == 0  # the first again, of which 2 are new
        assert run_record(output)["run"]["items"] == 2
        assert server.calls == 22


def test_a_dead_server_is_named_and_its_share_taken_over(script, tmp_path, questions):
    dead = f"http://127.0.0.1:{free_port()}/v1"
    with FakeLLM() as alive:
        result = ask(
            script, questions, tmp_path / "o.json", "--base_url", f"{dead},{alive.url}/v1",
            *("--concurrency", 2),
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        assert alive.calls == 24
    assert result.stdout.count("does not answer") == 1
    assert dead in result.stdout


def test_a_run_with_all_servers_dead_stops_and_says_so(script, tmp_path, questions):
    urls = ",".join(f"http://127.0.0.1:{free_port()}/v1" for _ in range(2))
    output = tmp_path / "o.json"
    result = ask(script, questions, output, "--base_url", urls, MALMAT_RETRY_SCALE="0.001")
    assert result.returncode == 1
    assert "20 failures of one kind in a row (connection" in result.stderr
    assert not output.exists()


def test_an_answer_that_runs_on_is_leaked_whoever_wrote_it(script, tmp_path, questions):
    def answer(prompt, body):
        return "ᄋᄋ 갓생\nassistant\n뭐라고?" if "시험" in prompt else "ᄋᄋ ᄅᄋ"

    output = tmp_path / "o.json"
    with FakeLLM(answer=answer) as server:
        result = ask(script, questions, output, "--base_url", f"{server.url}/v1")
    assert result.returncode == 0, result.stderr
    assert "21 ok, 3 leaked" in result.stdout
    for row in json.loads(output.read_text()):
        leaked = "시험" in row["question"]
        assert row["status"] == ("leaked" if leaked else "ok")
        assert row["answer"] == ("ㅇㅇ 갓생\nassistant\n뭐라고?" if leaked else "ㅇㅇ ㄹㅇ")


# ------------------------------------------------------------------------------ shell


def environment(**changes):
    clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
    settings = {
        "PYTHON": sys.executable,
        "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}",
        "HF_HUB_OFFLINE": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    return clean | settings | changes


def shell(path, *words, cwd, **changes):
    return subprocess.run(
        ["bash", str(ROOT / path), *map(str, words)],
        cwd=cwd,
        env=environment(**changes),
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.mark.slow
def test_exp_sh_with_one_bad_model_among_three(tmp_path, model_folder):
    """The bad one is a folder whose weights are cut short; both tasks of it are listed."""
    for name in ("one", "bad", "three"):
        shutil.copytree(model_folder, tmp_path / name)
    weights = tmp_path / "bad" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    result = shell(
        "src/eval/exp.sh", "one ./bad three", "local", "usage understand", cwd=tmp_path,
        RESULTS="out", ARGS="--limit 3 --max_new_tokens 4",
    )  # fmt: skip
    assert result.returncode == 1, result.stderr
    listed = [line for line in result.stderr.splitlines() if line.startswith("failed: ")]
    assert listed == ["failed: bad usage (answers)", "failed: bad understand (answers)"]
    assert "Traceback" not in result.stderr
    for task in ("usage", "understand"):
        found = sorted(p.name for p in (tmp_path / "out" / task / "score_results").glob("*.json"))
        models = {name.split("_")[0] for name in found}
        assert models == {"one", "three"}


@pytest.mark.slow
def test_exp_sh_with_an_adapter_leaves_the_base_models_answers_alone(
    tmp_path, model_folder, adapter
):
    def answer(**variables):
        return shell(
            "src/eval/exp.sh", model_folder, "local", "usage", cwd=tmp_path, RESULTS="out",
            JUDGE="lexicon", **variables,
        )  # fmt: skip

    few = "--limit 3 --max_new_tokens 4"
    folder = tmp_path / "out/usage/infer_results"
    base = folder / f"{model_folder.name}_usage_inference_results.json"
    assert answer(ARGS=few).returncode == 0
    before = base.read_bytes()
    tuned = f"{few} --adapter {adapter.name}"  # relative to where the command is run
    result = answer(ARGS=tuned)
    assert result.returncode == 0, result.stderr
    result = answer(ARGS=tuned, MODEL_NAME="second", SCORE_ARGS="--dry_run")
    assert result.returncode == 0, result.stderr
    assert base.read_bytes() == before
    found = {path.name.split("_")[0] for path in folder.glob("*_inference_results.json")}
    assert found == {model_folder.name, adapter.name, "second"}
    scored = (tmp_path / "out/usage/score_results").glob("*.json")
    assert {path.name.split("_")[0] for path in scored} == {model_folder.name, adapter.name}


@pytest.mark.parametrize(
    ("models", "variables", "said"),
    [
        ("a/final b/final", {}, "two models would write as 'final'"),
        ("a b", {"ARGS": "--limit 2 --adapter my-lora"}, "two models would write as 'my-lora'"),
        ("a b", {"MODEL_NAME": "mine"}, "two models would write as 'mine'"),
        ("a", {"ARGS": "--limit 2 --name=x"}, "Set MODEL_NAME"),
        ("a", {"ARGS": "--output x.json"}, "Set RESULTS"),
    ],
)
def test_exp_sh_refuses_what_would_overwrite_results(tmp_path, models, variables, said):
    result = shell("src/eval/exp.sh", models, "local", cwd=tmp_path, RESULTS="out", **variables)
    refused(result, said)
    assert not result.stdout
    assert not (tmp_path / "out").exists()


@pytest.fixture
def vllm(tmp_path):
    """A folder with a ``vllm`` executable; what it was started with."""
    folder = tmp_path / "bin"
    folder.mkdir()
    executable = folder / "vllm"
    executable.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.fake_vllm "$@"\n')
    executable.chmod(0o755)
    variables = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "FAKE_VLLM_ARGV": str(tmp_path / "argv.json"),
        "PORT": str(free_port()),
    }
    yield variables
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        os.killpg(started(variables)["pid"], signal.SIGKILL)


def started(vllm):
    with open(vllm["FAKE_VLLM_ARGV"], encoding="utf-8") as file:
        return json.load(file)


def assert_gone(vllm):
    group = started(vllm)["pid"]
    with pytest.raises(ProcessLookupError):  # the server and whatever it started
        os.killpg(group, 0)
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", int(vllm["PORT"]))) != 0


SERVE = "src/eval/serve_vllm.sh"


def test_a_command_runs_against_the_server_which_stops_after(tmp_path, vllm):
    result = shell(
        SERVE, "org/Tiny-1B", "--gpu-memory-utilization", "0.8", "--",
        *("bash", ROOT / "src/eval/exp.sh", "Tiny-1B", "api", "usage"), cwd=tmp_path, **vllm,
        TENSOR_PARALLEL="2", RESULTS=str(tmp_path / "out"), JUDGE="lexicon",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr + result.stdout
    words = started(vllm)["argv"]
    assert words[:2] == ["serve", "org/Tiny-1B"]
    options = dict(zip(words[2::2], words[3::2], strict=True))
    assert options["--tensor-parallel-size"] == "2"
    assert options["--served-model-name"] == "Tiny-1B"
    assert options["--generation-config"] == "vllm"
    assert options["--gpu-memory-utilization"] == "0.8"
    assert_gone(vllm)
    path = tmp_path / "out/usage/infer_results/Tiny-1B_usage_inference_results.json"
    assert set(answers(path).values()) == {"Tiny-1B: 오늘도 갓생"}
    settings = run_record(path)["settings"]
    sampling = ("max_new_tokens", "temperature", "top_p", "top_k", "repetition_penalty")
    assert [settings[name] for name in sampling] == [256, 0.7, 0.8, 20, 1.15]
    assert list(tmp_path.glob("out/usage/score_results/Tiny-1B*.json"))


def test_the_exit_code_is_the_commands(tmp_path, vllm):
    result = shell(SERVE, "m", "--", "sh", "-c", "echo $BASE_URL; exit 7", cwd=tmp_path, **vllm)
    assert result.returncode == 7
    assert f"http://127.0.0.1:{vllm['PORT']}/v1" in result.stdout.splitlines()
    assert_gone(vllm)


def test_a_server_that_cannot_start_is_shown_with_the_end_of_its_log(tmp_path, vllm):
    result = shell(SERVE, "m", "--", "touch", "ran", cwd=tmp_path, **vllm, FAKE_VLLM="die")
    assert result.returncode == 1
    assert "vLLM ended before it was ready" in result.stderr
    assert "no room for the KV cache" in result.stderr
    assert not (tmp_path / "ran").exists()

    result = shell(SERVE, "m", cwd=tmp_path, **vllm, FAKE_VLLM="never", TIMEOUT="3", LOG="log.txt")
    assert result.returncode == 1
    assert "not ready after 3 s" in result.stderr
    assert "loading weights" in (tmp_path / "log.txt").read_text()
    assert_gone(vllm)

    result = shell(SERVE, "m", cwd=tmp_path, **vllm | {"VLLM": "no-such-vllm"})
    assert result.returncode == 2
    assert "pip install vllm" in result.stderr
    assert shell(SERVE, cwd=tmp_path).returncode == 2
    assert shell(SERVE, "m", "--", cwd=tmp_path, **vllm).returncode == 2


def test_a_server_that_dies_under_way_is_named(tmp_path, vllm, questions):
    command = f"{sys.executable} {ROOT / INFER} m api usage --questions {questions} --output o.json"
    result = shell(
        SERVE, "m", "--", "sh", "-c", f"{command} --base_url $BASE_URL", cwd=tmp_path, **vllm,
        FAKE_VLLM="crash", MALMAT_RETRY_SCALE="0.001",
    )  # fmt: skip
    assert result.returncode == 1
    assert "vLLM ended while the command ran" in result.stderr


def test_an_adapter_is_served_under_its_own_name(tmp_path, vllm):
    folder = tmp_path / "my-lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{\n  "r": 24,\n  "lora_alpha": 32\n}\n')
    result = shell(
        SERVE, "base/model", "--", "sh", "-c", "echo name $SERVED_MODEL", cwd=tmp_path, **vllm,
        ADAPTER=str(folder),
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    assert "name my-lora" in result.stdout
    words = started(vllm)["argv"]
    assert words[words.index("--lora-modules") + 1] == f"my-lora={folder}"
    assert words[words.index("--max-lora-rank") + 1] == "32"
    result = shell(SERVE, "m", "--", "true", cwd=tmp_path, **vllm, ADAPTER="nowhere")
    assert result.returncode == 2
    assert "adapter_config.json" in result.stderr


def test_an_adapter_comes_with_its_template_and_thinking_is_off(tmp_path, vllm):
    folder = tmp_path / "my-lora"
    folder.mkdir()
    config = {"r": 8, "rank_pattern": {"q_proj": 64}, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ 1 }}\n{{ 2 }}"}))
    words = [SERVE, "base/model", "--", "sh", "-c", "echo through $no_proxy"]
    result = shell(*words, cwd=tmp_path, **vllm, ADAPTER=str(folder))
    assert result.returncode == 0, result.stderr
    assert "127.0.0.1" in result.stdout
    assert "repetition penalty counts the prompt" in result.stdout
    given = started(vllm)["argv"]
    assert given[given.index("--max-lora-rank") + 1] == "64"
    assert given[given.index("--chat-template") + 1] == "{{ 1 }}\n{{ 2 }}"
    switches = given[given.index("--default-chat-template-kwargs") + 1]
    assert json.loads(switches) == THINKING_OFF
    template = folder / "chat_template.jinja"
    template.write_text("{{ 3 }}")
    assert shell(*words, cwd=tmp_path, **vllm, ADAPTER=str(folder)).returncode == 0
    given = started(vllm)["argv"]
    assert given[given.index("--chat-template") + 1] == str(template)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"target_modules": ["q_proj", "lm_head"]}, "lm_head"),
        ({"target_modules": ["model.embed_tokens"]}, "embed_tokens"),
        ({"modules_to_save": ["lm_head"]}, "lm_head"),
        ({"use_dora": True}, "DoRA"),
    ],
)
def test_an_adapter_that_vllm_cannot_serve_is_refused(tmp_path, vllm, change, named):
    folder = tmp_path / "my-lora"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(json.dumps({"r": 8, **change}))
    result = shell(SERVE, "m", "--", "true", cwd=tmp_path, **vllm, ADAPTER=str(folder))
    assert result.returncode == 2
    assert named in result.stderr
    assert "--merge" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "argv.json").exists()


def test_ctrl_c_stops_the_server(tmp_path, vllm):
    process = subprocess.Popen(
        ["bash", str(ROOT / SERVE), "m"],
        cwd=tmp_path,
        env=environment(**vllm),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        lines = []
        while not (lines and lines[-1].startswith("Ctrl-C")):
            lines.append(process.stdout.readline())
            assert lines[-1], process.stderr.read()
        assert any(f"infer.py m api usage --base_url http://127.0.0.1:{vllm['PORT']}/v1" in line
                   for line in lines)  # fmt: skip
        # A second one on the same port is told.
        other = shell(SERVE, "m2", cwd=tmp_path, **vllm)
        assert other.returncode == 2
        assert f"port {vllm['PORT']} is taken" in other.stderr
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does, to the foreground group
        assert process.wait(30) == 130
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert_gone(vllm)


def test_a_test_of_ctrl_c_passes_where_that_is_ignored():
    """As under nohup, or in the background of a script: what is started there inherits it."""
    test = f"{__file__}::{test_ctrl_c_stops_the_server.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    result = subprocess.run(
        ["bash", "-c", 'trap "" INT; exec "$@"', "bash", *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stdout
