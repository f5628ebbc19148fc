"""A model's name is looked up on the hub once, and what is wrong with it is said at once."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.conftest import ROOT


@pytest.fixture
def hub():
    """The hub's answer to who asks for a model: it knows ``owner/there`` and nothing else."""
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            there = self.path == "/api/models/owner/there"
            body = json.dumps({"id": "owner/there"} if there else {"error": "Repository not found"})
            self.send_response(200 if there else 404)
            if not there:
                self.send_header("X-Error-Code", "RepoNotFound")
            self.end_headers()
            self.wfile.write(body.encode())

        do_HEAD = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()
    server.server_close()


QUESTION = '[{"question": "뭐 해?"}]'


def ask(script, tmp_path, model, endpoint):
    (tmp_path / "q.json").write_text(QUESTION, encoding="utf-8")
    return script(
        *("src/eval/infer.py", model, "local", "usage", "--questions", "q.json"),
        *("--output", "a.json"),
        timeout=60,
        HF_ENDPOINT=endpoint,
        HF_HUB_OFFLINE="0",
        HF_HOME=str(tmp_path / "cache"),
    )


def test_a_name_that_the_hub_does_not_know(script, tmp_path, hub):
    endpoint, asked = hub
    done = ask(script, tmp_path, "owner/misspelt", endpoint)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no model 'owner/misspelt' on the hub" in done.stderr
    assert asked == ["/api/models/owner/misspelt"]
    assert not (tmp_path / "a.json").exists()


def test_a_hub_that_cannot_be_reached_is_asked_once(script, tmp_path):
    done = ask(script, tmp_path, "owner/name", "http://127.0.0.1:9")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the hub cannot be reached" in done.stderr


def test_what_the_hub_knows_is_loaded_from_it(script, tmp_path, hub):
    endpoint, asked = hub
    done = ask(script, tmp_path, "owner/there", endpoint)
    assert done.returncode == 2
    assert "'owner/there' could not be loaded" in done.stderr  # it has no files
    assert asked[0] == "/api/models/owner/there"
    assert any("config.json" in path for path in asked)


@pytest.mark.parametrize("folder", ["checkpoints", "runs", "exports"])
def test_a_folder_of_ours_that_is_not_there_is_no_hub_id(script, tmp_path, hub, folder):
    assert not (ROOT / folder / "not-there").exists()
    endpoint, asked = hub
    done = ask(script, tmp_path, f"{folder}/not-there", endpoint)
    assert done.returncode == 2
    assert f"no such model: '{folder}/not-there'" in done.stderr
    assert asked == []
