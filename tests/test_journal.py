"""The journal: nothing that was finished is lost, whatever cuts the run short."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from malmat import journal
from malmat.errors import InputError
from malmat.journal import Journal, journal_path, key_of, locked

ENV = {**os.environ, "PYTHONPATH": str(Path(journal.__file__).parents[1])}


def row(key: str, text: str = "갓생 😂") -> dict:
    return {"key": key, "id": key, "status": "ok", "text": text}


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def test_what_was_appended_is_there_at_the_next_start(tmp_path):
    path = tmp_path / "new" / "x.jsonl"
    with Journal(path) as journal:
        journal.append(row("a"), row("b"))
        journal.append(row("a", "later"))
        assert journal.get("c") is None
    with Journal(path) as journal:
        assert len(journal) == 2
        assert journal.get("a") == row("a", "later")
        assert journal.get("b") == row("b")
        assert journal.notice == ""
    assert len(lines(path)) == 3


def test_a_torn_last_line_is_cut_off_wherever_it_tore(tmp_path):
    path = tmp_path / "x.jsonl"
    good = b"".join(json.dumps(row(k), ensure_ascii=False).encode() + b"\n" for k in "ab")
    last = json.dumps(row("c"), ensure_ascii=False).encode() + b"\n"
    for cut in range(len(last)):
        path.write_bytes(good + last[:cut])
        with Journal(path) as journal:
            assert len(journal) == 2
            assert bool(journal.notice) == (cut > 0)
            assert path.read_bytes() == good
            journal.append(row("c"))
        assert path.read_bytes() == good + last
    path.write_bytes(last[:-1])  # the only line
    with Journal(path) as journal:
        assert len(journal) == 0
        assert str(len(last) - 1) in journal.notice


@pytest.mark.parametrize(
    "damage",
    [
        b'{"key": "b", "te',
        b"",
        b"[]",
        b"7",
        b'{"id": "b"}',
        b'{"key": []}',
        b"\xff\xfe",
        b"[" * 9999,
    ],
)
def test_damage_in_the_middle_is_refused_with_its_place(tmp_path, damage):
    path = tmp_path / "x.jsonl"
    first = json.dumps(row("a"), ensure_ascii=False).encode() + b"\n"
    content = first + damage + b"\n" + first
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        Journal(path)
    assert str(path) in str(caught.value)
    assert "line 2" in str(caught.value)
    assert f"byte {len(first)}." in str(caught.value)
    assert path.read_bytes() == content
    path.write_bytes(first)  # the lock was given back, so mending is enough
    with Journal(path) as journal:
        assert len(journal) == 1


OPEN = """
import sys
from malmat import cli
from malmat.journal import Journal
def main():
    with Journal(sys.argv[1]):
        print("open", flush=True)
        sys.stdin.read()
cli.run(main)
"""


def test_a_second_process_is_told_and_leaves(tmp_path):
    path = tmp_path / "x.jsonl"
    with Journal(path) as journal:
        journal.append(row("a"))
        child = subprocess.run(
            [sys.executable, "-c", OPEN, str(path)],
            capture_output=True,
            text=True,
            env=ENV,
            stdin=subprocess.DEVNULL,
        )
        assert child.returncode == 2
        assert "another process" in child.stderr
        assert str(path) in child.stderr
        assert child.stdout == ""
        journal.append(row("b"))
    with Journal(path) as journal:
        assert len(journal) == 2


def test_a_killed_process_leaves_no_lock(tmp_path):
    path = tmp_path / "x.jsonl"
    with subprocess.Popen(
        [sys.executable, "-c", OPEN, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=ENV,
    ) as child:
        assert child.stdout.readline() == b"open\n"
        with pytest.raises(InputError, match="another process"):
            Journal(path)
        child.send_signal(signal.SIGKILL)
    Journal(path).close()


FILL = """
import resource, signal, sys
from malmat import cli
from malmat.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
def main():
    with Journal(sys.argv[1]) as journal:
        for number in range(1000):
            try:
                journal.append({"key": str(number), "text": "가" * 50})
            except OSError:
                print(number, journal.get(str(number)), flush=True)
                raise
cli.run(main)
"""


@pytest.mark.parametrize("over", [0, 1, 77])
def test_a_full_disk_leaves_whole_lines(tmp_path, over):
    """``over``: bytes beyond ten whole lines (0 fails at once, the others after a short write)."""
    path = tmp_path / "x.jsonl"
    one = len(json.dumps({"key": "0", "text": "가" * 50}, ensure_ascii=False).encode()) + 1
    child = subprocess.run(
        [sys.executable, "-c", FILL, str(path), str(10 * one + over)],
        capture_output=True,
        text=True,
        env=ENV,
    )
    assert child.returncode == 1
    assert child.stderr.startswith("stopped: ")
    assert len(child.stderr.splitlines()) == 1  # no traceback
    assert child.stdout == "10 None\n"
    assert path.stat().st_size == 10 * one
    with Journal(path) as journal:
        assert journal.notice == ""
        assert len(journal) == 10
        journal.append(row("10"))
    assert [line["key"] for line in lines(path)] == [str(number) for number in range(11)]


def test_rows_that_cannot_be_written_change_nothing(tmp_path):
    path = tmp_path / "x.jsonl"
    with Journal(path) as journal:
        journal.append(row("a"))
        before = path.read_bytes()
        for bad in (float("nan"), "\ud83d", object()):
            with pytest.raises((ValueError, TypeError)):
                journal.append(row("b"), {"key": "c", "text": bad})
        assert path.read_bytes() == before
        assert journal.get("b") is None
        assert len(journal) == 1


def test_a_key_is_all_that_determines_the_answer():
    settings = {"model": "m", "messages": [{"role": "user", "content": "뭐해?"}], "sample": 0}
    key = key_of(**settings)
    assert key == key_of(**dict(reversed(settings.items())))
    for name, other in (("model", "n"), ("messages", []), ("sample", 1)):
        assert key_of(**{**settings, name: other}) != key


def test_the_journal_lies_beside_its_output():
    assert journal_path("results/x.json") == Path("results/x.json.journal.jsonl")


def test_an_output_folder_is_one_process_s(tmp_path):
    said = "another process is working on this output"
    with locked(tmp_path / "run"), pytest.raises(InputError, match=said), locked(tmp_path / "run"):
        pass
    with locked(tmp_path / "run"):  # given back
        pass
