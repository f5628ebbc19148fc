"""Talking with models: the terminal, the page's session, the marks, what is saved."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time

import pytest
from conftest import ROOT, ending, serving
from fake_llm import FakeLLM

from chat_models import checked
from chat_page import Session
from chat_transcript import Transcript
from malmat.answer.local import LocalModel
from malmat.answer.talk import ApiChat, Conversation, LocalChat
from malmat.errors import InputError
from malmat.lm.sampling import Sampling
from malmat.text.marks import Marker

TERMS = [
    {"title": "갓생", "content": "부지런하고 알찬 삶이다. <b>", "forms": []},
    {"title": "갓생러", "content": "갓생을 사는 사람이다.", "forms": []},
    {"title": "폼 미쳤다", "content": "기량이 뛰어나다.", "forms": ["폼미쳤"]},
]
WORDING = "친구에게 답하듯: {question}"


@pytest.fixture(scope="session")
def marker():
    return Marker(TERMS)


@pytest.fixture
def terms_file(tmp_path):
    lines = ["title,content,example_q,example_a", "갓생,알찬 삶이다.,뭐 해?,갓생 산다"]
    (tmp_path / "terms.csv").write_text("\n".join(lines), encoding="utf-8")
    return tmp_path / "terms.csv"


@pytest.fixture
def tuned(tmp_path, tokenizer):
    """A model's folder whose run.json says what it was trained from and with."""
    from conftest import make_model

    folder = tmp_path / "tuned"
    make_model(tokenizer, seed=1).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "run.json").write_text(json.dumps({"wording": WORDING}), encoding="utf-8")
    return folder


def command(*words):
    return [sys.executable, str(ROOT / "src/eval/chat.py"), *map(str, words)]


def environment():
    return os.environ | {
        "PYTHONPATH": str(ROOT / "src"),
        "HF_HUB_OFFLINE": "1",
        "MALMAT_RETRY_SCALE": "0.01",
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }


def talk(folder, said, *words):
    return subprocess.run(
        command(*words),
        input="\n".join(said) + "\n",
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
    )


# ------------------------------------------------------------------------------ terminal


def test_two_models_side_by_side_in_the_trained_wording(
    tmp_path, tuned, model_folder, terms_file, tokenizer
):
    said = ["오늘 점심 뭐 먹지?", "/set temperature 0", "/set top_k x", "갓생 살자", "/save a.json"]
    said += ["/save a.json", "/wording 말", "/nothing", "/wording {question} {x}", "/quit"]
    given = ("--compare", model_folder, "--terms", terms_file, "--max_new_tokens", 12)
    done = talk(tmp_path, said, tuned, *given)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n> error: ") == 5, done.stdout
    assert "a.json: is there already" in done.stdout
    saved = json.loads((tmp_path / "a.json").read_text(encoding="utf-8"))
    names = [model["name"] for model in saved["models"]]
    assert names == ["tiny-llama", "tuned"]
    first, second = saved["turns"]
    assert first["wording"] == WORDING
    assert (first["sampling"]["temperature"], second["sampling"]["temperature"]) == (0.7, 0.0)
    assert list(first["answers"]) == names

    # The same conversation in the library: what was sent is the wording and its own answers.
    sampling = Sampling(max_new_tokens=12)
    for folder, name in ((model_folder, "tiny-llama"), (tuned, "tuned")):
        again = Conversation(WORDING, sampling)
        turn = again.begin(said[0])
        chat = LocalChat(name, LocalModel(str(folder)))
        *steps, record = chat.stream(again.messages(name), sampling, threading.Event())
        assert record == first["answers"][name]
        assert len(steps) > 2
        turn["answers"][name] = record
        again.begin(said[3])
        roles = [message["role"] for message in again.messages(name)]
        assert roles == (["user", "assistant", "user"] if record["text"] else ["user"])
        assert again.messages(name)[-1]["content"] == WORDING.format(question=said[3])


def test_ctrl_c_ends_the_answer_and_not_the_program(tmp_path, model_folder, terms_file):
    words = (model_folder, "--terms", terms_file, "--max_new_tokens", 50_000, "--save", "b.json")
    with ending(
        subprocess.Popen(
            command(*words),
            cwd=tmp_path,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
    ) as process:
        process.stdin.write("길게 말해 줘\n".encode())
        process.stdin.flush()
        heard = b""
        while b"tiny-llama: " not in heard or len(heard.partition(b"tiny-llama: ")[2]) < 20:
            heard += os.read(process.stdout.fileno(), 4096)
        for _ in range(3):  # in haste
            process.send_signal(signal.SIGINT)
            time.sleep(0.05)
        process.stdin.write(b"/set seed 7\n/save /proc/no/such.json\n")
        process.stdin.close()
        rest = process.stdout.read().decode("utf-8", "replace")
        assert process.wait(timeout=120) == 0, rest
    assert "(stopped)" in rest
    assert "'seed': 7" in rest
    assert "error: " in rest
    [turn] = json.loads((tmp_path / "b.json").read_text(encoding="utf-8"))["turns"]
    answer = turn["answers"]["tiny-llama"]
    assert (answer["status"], answer["finish_reason"]) == ("truncated", "stopped")
    assert answer["text"]


def test_what_is_pasted_into_a_terminal_is_one_message(tmp_path, terms_file):
    pty = pytest.importorskip("pty")
    pasted, long = "첫 줄이야\n둘째 줄이야", "길다" * 1500  # 9,000 bytes
    with FakeLLM(answer=lambda prompt, body: f"글자 {len(prompt)}") as server:
        words = ("mine", "--base_url", f"{server.url}/v1")
        words += ("--terms", terms_file, "--save", "p.json")
        master, slave = pty.openpty()
        ends = {"stdin": slave, "stdout": slave, "stderr": slave}
        terminal = environment() | {"TERM": "xterm", "OPENAI_API_KEY": "k", "LC_ALL": "C.UTF-8"}
        with ending(
            subprocess.Popen(command(*words), cwd=tmp_path, env=terminal, **ends)
        ) as process:
            os.close(slave)
            for text in (f"\x1b[200~{pasted}\x1b[201~", long):
                read_until(master, b"\x1b[?2004h")  # ready for what is pasted
                # A terminal takes 4,096 bytes at a time: what it echoes is read meanwhile.
                for start in range(0, len(text), 500):
                    os.write(master, text[start : start + 500].encode())
                    time.sleep(0.05)
                os.write(master, b"\r")
                read_until(master, "mine: 글자".encode())
            os.write(master, b"/quit\r")
            read_until(master, b"wrote ")
            assert process.wait(timeout=60) == 0
        os.close(master)
    turns = json.loads((tmp_path / "p.json").read_text(encoding="utf-8"))["turns"]
    assert [turn["question"] for turn in turns] == [pasted, long]


def read_until(terminal, wanted):
    heard = b""
    while wanted not in heard:
        ready, _, _ = select.select([terminal], [], [], 60)
        assert ready, heard
        heard += os.read(terminal, 65536)


def test_an_answer_that_fails_ends_neither_the_talk_nor_the_program(
    tmp_path, model_folder, terms_file
):
    said = ["/set max_new_tokens 99999999999999", "길게", "/set max_new_tokens 4", "//etc 뭐야?"]
    words = (model_folder, "--terms", terms_file, "--save", "c.json")
    done = talk(tmp_path, said, *words)
    assert done.returncode == 0, done.stderr
    assert "\nerror: " in done.stdout
    assert "Traceback" not in done.stderr
    turns = json.loads((tmp_path / "c.json").read_text(encoding="utf-8"))["turns"]
    assert [turn["question"] for turn in turns] == ["길게", "/etc 뭐야?"]
    assert [list(turn["answers"]) for turn in turns] == [[], ["tiny-llama"]]


def test_a_server_answers_beside_a_model_of_this_machine(tmp_path, model_folder, terms_file):
    with FakeLLM(answer=lambda prompt, body: f"갓생 {body['temperature']}") as server:
        words = (model_folder, "--compare", "served", "--terms", terms_file)
        words += ("--models", tmp_path / "models.json", "--max_new_tokens", 4)
        row = {"served": {"answer": {"base_url": f"{server.url}/v1"}}}
        (tmp_path / "models.json").write_text(json.dumps(row))
        done = talk(tmp_path, ["안녕", "/quit"], *words, "--temperature", 0.3)
        assert done.returncode == 0, done.stderr
    assert "served: 갓생 0.3" in done.stdout
    assert "갓생: 알찬 삶이다." in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--wording", "{q}"), "wording"),
        (("--wording", "{question} {name}"), "unknown placeholder {name}"),
        (("--min_p", "1.5"), "from 0 to 1"),
        (("--compare",), "nothing says what"),
        (("--compare", "{folder}/"), "is the same model"),
        (("--compare", "embedded", "--concurrency", "2"), "unrecognized"),
        (("--base_url", "http://127.0.0.1:9/v1", "--type", "local"), "base_url"),
        (("--compare", "embeded"), "Did you mean embedded?"),
        (("--compare", "checkpoints/not-there"), "no such model"),
        (("--save", "terms.csv"), "there already"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_loaded(
    script, model_folder, terms_file, words, said
):
    words = [word.replace("{folder}", str(model_folder)) for word in words]
    done = script("src/eval/chat.py", model_folder, "--terms", terms_file, *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


# ---------------------------------------------------------------------------------- page


def test_an_api_that_fails_is_no_answer_and_no_history():
    class Broken:
        refused = ()

        def identity(self):
            return {}

        def send(self, request):
            from malmat.answer.request import Failed

            raise Failed("no")

        def scrub(self, text):
            return text

        def sent(self, request):
            return []

    model = ApiChat("api", Broken(), lambda sampling: {})
    conversation = Conversation()
    turn = conversation.begin("하나")
    [record] = model.stream(conversation.messages("api"), Sampling(), threading.Event())
    assert (record["status"], record["text"]) == ("api_error", "")
    turn["answers"]["api"] = record
    conversation.begin("둘")
    assert conversation.messages("api") == [{"role": "user", "content": "둘"}]


def test_a_visitor_talks_stops_and_saves(model_folder, marker):
    models = [LocalChat("하나", LocalModel(str(model_folder)))]
    session = Session(models, marker, lambda models, talk: talk.record(models))
    conversation = Conversation()
    long = {"max_new_tokens": 50_000, "temperature": 0.0}
    pages = []
    for page in session.say("a", "안녕 <script>", conversation, "{question}", long):
        pages.append(page)
        if len(pages) == 5:
            session.stop("b")  # another visitor
            session.stop("a")
    assert "&lt;script&gt;" in pages[0]
    assert "<script>" not in "".join(pages)
    assert conversation.turns[0]["answers"]["하나"]["finish_reason"] == "stopped"
    with open(session.file("a", conversation), encoding="utf-8") as file:
        assert json.load(file)["turns"] == conversation.turns
    with pytest.raises(InputError, match="question"):
        next(session.say("a", "또", conversation, "자리가 없다", {}))


@pytest.mark.slow
def test_the_page_is_served_and_answers(tmp_path, tuned, model_folder, terms_file):
    from gradio_client import Client

    words = ("--compare", model_folder, "--terms", terms_file, "--web", "--seed", 12345)
    with serving(command(tuned, *words), cwd=tmp_path, env=environment()) as (url, _):
        page = Client(url, verbose=False, analytics_enabled=False)
        said = ("갓생 살자", WORDING, 0.5, 0.8, 20, 0.0, 1.1, 8, 12345)
        box, shown, _ = page.predict(*said, api_name="/say")
        assert box == ""
        assert 'data-meaning="갓생: 알찬 삶이다."' in str(shown)
        for name in ("tiny-llama", "tuned"):
            assert f'<div class="name">{name}</div>' in str(shown)


def test_wording_keeps_other_braces():
    assert checked('{question} {"a": 1}') == '{question} {"a": 1}'


# --------------------------------------------------------------------------------- marks


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("오늘부터 갓생 산다", ["갓생"]),
        ("저 갓생러는 갓생을 산다", ["갓생러", "갓생"]),
        ("오늘 폼 미쳤네", ["폼 미쳤"]),
        ("아무 말도 없다", []),
        ("", []),
    ],
)
def test_terms_are_marked_where_they_stand(marker, text, marked):
    pieces = list(marker.pieces(text))
    assert "".join(piece for piece, _ in pieces) == text
    assert [piece for piece, mark in pieces if mark] == marked


def test_a_meaning_cannot_leave_its_attribute(marker):
    page = Transcript(["a<"], marker).html(
        [{"question": "?", "answers": {"a<": {"text": "갓생", "status": "ok"}}}]
    )
    assert 'data-meaning="갓생: 부지런하고 알찬 삶이다. &lt;b&gt;"' in page
    assert "a&lt;" in page
