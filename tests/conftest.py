"""Tiny models and data made on the spot: nothing is fetched, nothing needs a GPU."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import certifi
import pytest

from malmat.answer import retry
from malmat.errors import InputError

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As under nohup … &. Children would inherit it, and could not be sent a Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)

ROOT = Path(__file__).parent.parent

# A shell in which LIMIT or STEPS is set would decide what the scripts under test do.
for _script in (ROOT / "run.sh", *(ROOT / "src").rglob("*.sh")):
    for _setting in re.findall(r"\$\{([A-Z_]+):-", _script.read_text("utf-8")):
        os.environ.pop(_setting, None)


def pytest_terminal_summary(terminalreporter):
    """Print what tests gave as ``account``: counts and seconds that say how much was tried."""
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            if name == "account":
                terminalreporter.write_line(f"  {value}")


CHATML = (
    "{%- for message in messages -%}"
    "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\n' }}{%- endif -%}"
)

PAIRS = [
    ("오늘 점심 뭐 먹지?", "점메추 받는다며 김밥 먹자"),
    ("운동 갔다 왔어?", "당연하지 오운완 찍고 왔음"),
    ("시험 끝났다!", "이제 갓생은 내일부터 하자"),
    ("이 영화 어때?", "결말에서 현타 왔어"),
    ("배달 언제 와", "기다리다가 킹받는 중"),
    ("주말에 뭐 해?", "집콕하면서 정주행"),
    ("그 집 줄 길어?", "오픈런 아니면 못 먹어"),
    ("커피 마실래?", "추워도 난 무조건 아이스"),
]


def make_tokenizer(template: str = CHATML, *, bos: bool = False):
    """A byte-level BPE tokenizer with chat tokens, trained on the pairs above."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "<|im_start|>", "<|im_end|>", "<eos>"]
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for pair in PAIRS for text in pair]
    core.train_from_iterator([*texts, "user assistant"], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        pad_token="<pad>",
        eos_token="<eos>",
        bos_token="<s>" if bos else None,
        additional_special_tokens=["<|im_start|>", "<|im_end|>"],
    )
    tokenizer.chat_template = template
    return tokenizer


def make_model(tokenizer, *, seed: int = 0, **changes):
    """A two-layer Llama in float32 with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    settings = {
        "vocab_size": len(tokenizer),
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    return LlamaForCausalLM(LlamaConfig(**(settings | changes))).eval()


@pytest.fixture(scope="session")
def tokenizer():
    return make_tokenizer()


@pytest.fixture(scope="session")
def model(tokenizer):
    return make_model(tokenizer)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory, model, tokenizer):
    """The tiny model as a folder, as a user would have one."""
    folder = tmp_path_factory.mktemp("models") / "tiny-llama"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def assert_refused(reader, path, expected: list[str]) -> str:
    """A reader refuses a file in one line that names it and holds all of ``expected``."""
    with pytest.raises(InputError) as caught:
        reader(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert len(message) < len(str(path)) + 300
    for part in expected:
        assert part in message
    return message


@contextmanager
def ending(process: subprocess.Popen) -> Iterator[subprocess.Popen]:
    """A process that is killed at the end of the block, if it has not ended by then."""
    with process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@contextmanager
def serving(command: list[str], **settings) -> Iterator[tuple[str, subprocess.Popen]]:
    """The address of the page that a script serves, and its process: ended by the test, else with
    SIGINT.

    Args:
        command: that gets a free port with ``--port``.
        settings: of ``subprocess.Popen``.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = settings.pop("env", os.environ) | {"PYTHONUNBUFFERED": "1"}
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    words = [*command, "--port", str(port)]
    with ending(subprocess.Popen(words, env=environment, **output, **settings)) as process:
        lines = []
        for line in process.stdout:
            lines.append(line)
            if line.startswith("open http"):
                break
        else:
            raise AssertionError("".join(lines))
        yield f"http://127.0.0.1:{port}", process
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)


@pytest.fixture(scope="session")
def one_certificate(tmp_path_factory) -> Path:
    """For SSL_CERT_FILE: loopback needs none, but each client reads them all, which takes long."""
    end = "-----END CERTIFICATE-----\n"
    path = tmp_path_factory.mktemp("certificates") / "one.pem"
    path.write_text(Path(certifi.where()).read_text("utf-8").partition(end)[0] + end)
    return path


@pytest.fixture
def fake_servers(monkeypatch, one_certificate):
    """Keys and short waits, for scripts that ask servers and for what runs in this process."""
    monkeypatch.setenv("SSL_CERT_FILE", str(one_certificate))
    monkeypatch.setenv("GEMINI_API_KEY", "AIzaSyFake")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-fake")
    monkeypatch.setenv("MALMAT_RETRY_SCALE", "0.01")
    monkeypatch.setattr(retry, "RETRY_SCALE", 0.01)


@pytest.fixture
def script(tmp_path):
    """Run one of the project's scripts as a user does; its output and exit code come back."""

    def run(path: str, *words: object, timeout: float = 300, **environment: str):
        command = [sys.executable, str(ROOT / path), *map(str, words)]
        clean = {k: v for k, v in os.environ.items() if not k.endswith("_API_KEY")}
        settings = {
            "PYTHONPATH": str(ROOT / "src"),
            "HF_HUB_OFFLINE": "1",
            "MALMAT_RETRY_SCALE": "0.01",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",  # tiny models lose by more on a busy machine
        }
        return subprocess.run(
            command,
            cwd=tmp_path,
            env=clean | settings | environment,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    return run
