"""Scripts as child processes that start at once: forked from one that has imported the libraries.

A fault test runs a script hundreds of times, and a plain start spends seconds on imports. Each
child is a process of its own all the same: it can be killed, interrupted and limited.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.conftest import ROOT

LIBRARIES = (
    *("torch", "transformers", "trl", "peft", "datasets", "accelerate", "openai", "tenacity"),
    *("malmat.lm.generate", "malmat.train.run", "malmat.train.trainers", "malmat.answer.openai"),
)


def warm_context() -> multiprocessing.context.BaseContext:
    """What starts children. The first one waits for the imports.

    The environment of this moment is theirs.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__, *LIBRARIES])
    return context


class Child:
    """A running script.

    Args:
        words: the script's path from the repository's root, and its arguments.
        folder: where it runs; what it prints is added to ``said.txt`` there.
        file_limit: bytes that no file may grow beyond (as a full disk).
        obeys_modes: take root's right to write where a folder's mode forbids it.
    """

    def __init__(
        self,
        context: multiprocessing.context.BaseContext,
        words: Sequence[object],
        folder: Path,
        *,
        file_limit: int | None = None,
        obeys_modes: bool = False,
    ):
        self._log = folder / "said.txt"
        self._log.unlink(missing_ok=True)
        given = ([str(ROOT / str(words[0])), *map(str, words[1:])], folder, self._log)
        self.process = context.Process(target=_run, args=(*given, file_limit, obeys_modes))
        self.process.start()

    def ends_within(self, seconds: float) -> bool:
        self.process.join(seconds)
        return not self.process.is_alive()

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.process.kill()
        self.process.join()

    def code(self, seconds: float = 600) -> int:
        """The exit code; the child is killed if it takes longer than that."""
        if not self.ends_within(seconds):
            self.kill()
        return self.process.exitcode

    @property
    def said(self) -> str:
        return self._log.read_text("utf-8") if self._log.exists() else ""


def _run(
    words: list[str], folder: Path, log: Path, file_limit: int | None, obeys_modes: bool
) -> None:
    missing = [name for name in LIBRARIES if name not in sys.modules]
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    assert not missing, f"not imported before the fork: {missing}"
    os.chdir(folder)
    if obeys_modes:
        _give_up_root()
    if file_limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_limit, file_limit))
    sys.argv[:] = words
    sys.path.insert(0, str(Path(words[0]).parent))
    runpy.run_path(words[0], run_name="__main__")


def _give_up_root() -> None:
    """Drop CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capabilities 1 and 2) of this process."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()  # effective, permitted, inheritable; twice 32 bits
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capget(header, sets):
        raise OSError(ctypes.get_errno(), "capget")
    sets[0] &= ~0b110
    if libc.capset(header, sets):
        raise OSError(ctypes.get_errno(), "capset")
