"""Kills, Ctrl-C, full disks, read-only folders, two runs at once, bad servers: the same results.

    python -m pytest tests/faults        # ends with kills, runs, calls and seconds

Every stage is disturbed in every way and then run to its end. What it leaves must equal what an
undisturbed run leaves; the server counts what was paid for.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import time
from pathlib import Path

import pytest

from tests.fake_llm import BY_PROMPT, FakeLLM
from tests.faults.children import Child, warm_context
from tests.faults.stages import CONCURRENCY, STAGES, Stage, make_data

pytestmark = pytest.mark.slow

KILLS = 50
UNDISTURBED: dict[str, tuple[dict[str, bytes], float]] = {}
"""Stage → what an undisturbed run leaves, and its seconds."""
SETTINGS = {
    "HF_HUB_OFFLINE": "1",
    "MALMAT_RETRY_SCALE": "0.01",
    "CUDA_VISIBLE_DEVICES": "",
    "OMP_NUM_THREADS": "1",
    "OPENAI_API_KEY": "sk-fake",
}


@pytest.fixture(scope="session")
def context(one_certificate):
    """The environment of the children, and what starts them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SETTINGS, "SSL_CERT_FILE": str(one_certificate)}.items():
            patch.setenv(name, value)
        yield warm_context()


@pytest.fixture(scope="session")
def data(tmp_path_factory, model_folder):
    return make_data(tmp_path_factory.mktemp("data"), model_folder)


class Bench:
    """A stage, its data and its children."""

    def __init__(self, stage: Stage, context, data: Path, folder: Path):
        self.stage, self.context, self.data, self.folder = stage, context, data, folder

    def server(self, **faults) -> contextlib.AbstractContextManager:
        if self.stage.answer is None:
            return contextlib.nullcontext()
        return FakeLLM(self.stage.answer, **{"latency": 0.02, **faults})

    def output(self, name: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        return folder

    def start(self, output: Path, server, **limits) -> Child:
        words = self.stage.words(self.data, output, server.url if server else "")
        return Child(self.context, words, self.folder, **limits)

    def finish(self, output: Path, server) -> dict[str, bytes]:
        """Run to the end; what was found there."""
        child = self.start(output, server)
        assert child.code() == 0, child.said
        return self.stage.found(output)

    def calm(self) -> tuple[dict[str, bytes], float]:
        """The results of an undisturbed run, and its seconds. It runs once for all tests."""
        if self.stage.name not in UNDISTURBED:
            with self.server() as server:
                self.finish(self.output("first"), server)  # waits for the imports
                began = time.monotonic()
                found = self.finish(self.output("calm"), server)
                seconds = time.monotonic() - began
                if server:
                    assert sum(server.paid.values()) == 2 * self.stage.calls
            assert found
            UNDISTURBED[self.stage.name] = found, seconds
        return UNDISTURBED[self.stage.name]


@pytest.fixture(params=list(STAGES))
def bench(request, context, data, tmp_path):
    return Bench(STAGES[request.param], context, data, tmp_path)


def assert_files_are_whole(folder: Path) -> None:
    """Every JSON file that stands there can be read, whatever the moment of a kill."""
    for path in folder.rglob("*.json"):
        if "checkpoint-" not in str(path):
            json.loads(path.read_text("utf-8"))


def test_fifty_kills_change_nothing_and_buy_little_twice(bench, record_property):
    calm, seconds = bench.calm()
    output, moments = bench.output("killed"), random.Random(bench.stage.name)
    kills, runs, began = 0, 1, time.monotonic()
    with bench.server() as server:
        while kills < KILLS:
            child = bench.start(output, server)
            if not child.ends_within(moments.uniform(0, seconds)):
                child.kill()
                kills += 1
                assert_files_are_whole(output)
                continue
            assert child.process.exitcode == 0, child.said
            assert bench.stage.found(output) == calm
            shutil.rmtree(output)
            bench.output("killed")
            runs += 1
        assert bench.finish(output, server) == calm
        paid = sum(server.paid.values()) if server else 0
    assert runs * bench.stage.calls <= paid <= runs * bench.stage.calls + KILLS * CONCURRENCY
    said = f"{bench.stage.name}: {kills} kills over {runs} runs, {time.monotonic() - began:.0f} s"
    if bench.stage.calls:
        said += f"; {paid} calls, {paid - runs * bench.stage.calls} of them in flight at a kill"
    record_property("account", said)


def test_ctrl_c_keeps_what_came(bench):
    calm, seconds = bench.calm()
    output, moments = bench.output("stopped"), random.Random(3)
    codes = []
    with bench.server() as server:
        for _ in range(4):
            child = bench.start(output, server)
            while not child.said and not child.ends_within(0.002):
                pass  # not yet past its imports
            if not child.ends_within(moments.uniform(0, 0.8) * seconds):
                os.kill(child.process.pid, 2)
            codes.append(child.code())
            assert "Traceback" not in child.said, child.said
        assert set(codes) <= {0, 130}
        assert bench.finish(output, server) == calm
        if server:  # what is under way at a Ctrl-C is waited for
            assert sum(server.paid.values()) == bench.stage.calls


def test_a_full_disk_is_one_line_and_loses_nothing(bench):
    calm, _ = bench.calm()
    output = bench.output("full")
    with bench.server() as server:
        child = bench.start(output, server, file_limit=bench.stage.limit)
        assert child.code() == 1, child.said
        assert "Traceback" not in child.said, child.said
        assert "stopped: " in child.said
        assert_files_are_whole(output)
        assert bench.finish(output, server) == calm
        if server:
            most = bench.stage.calls + CONCURRENCY
            assert bench.stage.calls <= sum(server.paid.values()) <= most


def test_a_folder_that_cannot_be_written_is_one_line(bench):
    output = bench.output("read_only")
    output.chmod(0o500)
    try:
        with bench.server() as server:
            child = bench.start(output, server, obeys_modes=True)
            assert child.code() in (1, 2), child.said
            assert "Traceback" not in child.said, child.said
            assert str(output) in child.said.splitlines()[-1]
            assert not server or not server.calls
    finally:
        output.chmod(0o700)
    assert not list(output.iterdir())


def test_two_runs_at_once_are_one_run(bench):
    calm, _ = bench.calm()
    output = bench.output("both")
    second = Bench(bench.stage, bench.context, bench.data, bench.folder / "second")
    second.folder.mkdir()
    with bench.server() as server:
        children = [bench.start(output, server), second.start(output, server)]
        codes = sorted(child.code() for child in children)
        for child in children:
            assert "Traceback" not in child.said, child.said
            if child.process.exitcode == 2:
                assert "another process is working on this output" in child.said
        assert codes in ([0, 0], [0, 2])
        assert bench.stage.found(output) == calm
        if server:
            assert sum(server.paid.values()) == bench.stage.calls


PASSING = {  # what goes by: asked again, within the run or by the next one
    "slow": {"latency": 0.4},
    "cutting": {"faults": {"drop": 0.3, "reset": 0.1}},
    "half JSON": {"faults": {"bad_json": 0.4}},
    "wrong type": {"faults": {"wrong_type": 0.2, "parts": 0.2}},
    "empty": {"script": ["empty_object", "no_candidates", "empty"] * 2},
    "busy": {"faults": {"429": 0.2, "503": 0.1, "error_200": 0.1, "html": 0.1}},
}


@pytest.mark.parametrize("kind", PASSING)
@pytest.mark.parametrize(
    "bench", [name for name, stage in STAGES.items() if stage.answer], indirect=True
)
def test_a_bad_server_changes_nothing(bench, kind, record_property):
    calm, _ = bench.calm()
    output = bench.output("bad")
    with bench.server(**PASSING[kind]) as server:
        for _ in range(8):
            child = bench.start(output, server)
            if (code := child.code()) == 0:
                break
            assert code == 1, child.said
            assert "Traceback" not in child.said, child.said
        found, calls = bench.stage.found(output), server.calls
        ok = server.counts["ok"] + server.counts["parts"]
    if (bench.stage.name, kind) == ("infer_api", "empty"):
        # That a model has nothing to say is a result, with a status of its own.
        rows, wanted = (json.loads(some["answers.json"]) for some in (found, calm))
        assert 0 < sum(row["status"] != "ok" for row in rows) <= 4
        assert all(row in wanted for row in rows if row["status"] == "ok")
    else:
        assert found == calm
        # A pair may be screened before the reply comes, asked again, that shows it to be a copy.
        spare = 4 if bench.stage.name == "augment" else 0
        assert bench.stage.calls <= ok <= bench.stage.calls + spare
    said = f"{bench.stage.name}, {kind} server: {calls} calls for {bench.stage.calls} answers"
    record_property("account", said)


def test_a_server_that_blocks_everything_leaves_no_score_and_no_answer(bench):
    if bench.stage.answer is None:
        pytest.skip("asks no server")
    with bench.server(faults={BY_PROMPT[0]: 1.0}) as server:
        output = bench.output("blocked")
        child = bench.start(output, server)
        assert child.code() in (0, 1), child.said
        assert "Traceback" not in child.said
        calls = server.calls
    assert_files_are_whole(output)
    written = "".join(path.read_text("utf-8") for path in output.rglob("*.json"))
    assert '"status": "ok"' not in written
    assert calls <= 3 * bench.stage.calls
