"""What every script does at its start and end: settings shown, provenance, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib.metadata
import json
import math
import os
import platform
import re
import subprocess
import sys
import traceback
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from malmat.errors import InputError, StopRunning

ROOT = Path(__file__).resolve().parents[2]
"""The repository: ``src/malmat/cli.py`` → two folders up."""


COMPLETE, FAILURES, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130


def parser(doc: str, **kwargs: Any) -> argparse.ArgumentParser:
    """An argument parser whose help is the script's own docstring.

    Abbreviated options are refused, so that a typing error is never a setting.
    """
    return argparse.ArgumentParser(
        description=doc,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
        **kwargs,
    )


_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Characters that could move a terminal's cursor, colour it, or turn its text round."""


def visible(text: str) -> str:
    """Text as a terminal may show it: control characters as escapes (ESC is ``\\x1b``)."""
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], text)


@contextlib.contextmanager
def _only_text_on_the_terminal() -> Iterator[None]:
    """What is printed may come from a file, a model or a server."""
    stream, write = sys.stdout, sys.stdout.write
    stream.write = lambda text: write(visible(text))  # type: ignore[method-assign]
    try:
        yield
    finally:
        stream.write = write  # type: ignore[method-assign]


EXPECTED = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM),
    *(errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG),
}
"""What a disk, or a path that was given, can be the reason of: no fault of the program's."""


def run(main: Callable[[], int | None]) -> None:
    """Run a script's ``main`` and leave with the project's exit codes.

    0 complete, 1 finished but some rows failed or the run had to stop (progress
    kept), 2 bad input, 130 interrupted (progress kept).
    """
    try:
        with _only_text_on_the_terminal():
            code = main() or COMPLETE
        sys.stdout.flush()
    except InputError as error:
        print(visible(f"error: {error}"), file=sys.stderr)
        code = BAD_INPUT
    except StopRunning as error:
        print(visible(f"stopped: {error}"), file=sys.stderr)
        code = FAILURES
    except KeyboardInterrupt:
        print("interrupted: progress is kept, run the same command to go on", file=sys.stderr)
        code = INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = FAILURES
    except OSError as error:
        if error.errno not in EXPECTED:
            traceback.print_exc()
        said = f"stopped: {error.strerror}: {error.filename or ''}".rstrip(": ")
        print(visible(said), file=sys.stderr)
        code = FAILURES
    sys.exit(code)


def positive(text: str) -> int:
    """argparse type: a whole number of at least 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be 1 or more")
    return value


def number(text: str) -> float:
    """argparse type: a number of at least 0, and finite."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError("must be a number of 0 or more")
    return value


def above_zero(text: str) -> float:
    """argparse type: a finite number above 0."""
    if not (value := number(text)):
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def batch_size(text: str) -> int | str:
    """argparse type: a whole number of at least 1, or ``auto``."""
    return text if text == "auto" else positive(text)


def part(text: str) -> float:
    """argparse type: a number from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError("must be from 0 to 1")
    return value


def share(text: str) -> float:
    """argparse type: a number above 0 and up to 1."""
    value = float(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError("must be above 0 and at most 1")
    return value


def thinking_budget(text: str) -> int:
    """argparse type: a number of tokens; 0 for no thinking, -1 for as much as the model likes."""
    value = int(text)
    if value < -1:
        raise argparse.ArgumentTypeError("must be -1 or more")
    return value


def json_object(text: str) -> dict:
    """argparse type: a JSON object."""
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError('must be a JSON object, as {"enable_thinking": false}')
    return value


def api_options(options: Any, *names: str, **changes: dict[str, Any]) -> None:
    """Add options that the scripts that ask an API share, in the order of their names.

    Args:
        options: a parser, or a group of one.
        names: of ``provider sdk base_url extra_body thinking_budget ask_blocked temperature
            concurrency max_cost prices dry_run``.
        changes: what one of them has differently here: ``temperature={"default": 0.7}``.
    """
    from malmat.answer.open import SDKS

    shared: dict[str, dict[str, Any]] = {
        "provider": {"choices": ("gemini", "openai"), "help": "if the name hides it"},
        "sdk": {"choices": SDKS, "default": SDKS[0], "help": "Gemini only"},
        "base_url": {"help": "an OpenAI-compatible server"},
        "extra_body": {"type": json_object, "help": "JSON that is sent with each request (API)"},
        "thinking_budget": {
            "type": thinking_budget,
            "help": "tokens for thinking, on top (API): 8192 for models that think",
        },
        "ask_blocked": {"action": "store_true", "help": "ask again what a provider has blocked"},
        "temperature": {"type": number},
        "concurrency": {"type": positive, "default": 8, "help": "requests at a time (API)"},
        "max_cost": {"type": number, "help": "stop after this many US dollars"},
        "prices": {"help": "another price table (see src/malmat/answer/prices.json)"},
        "dry_run": {"action": "store_true", "help": "check, show the plan, stop"},
    }
    for name in names:
        options.add_argument(f"--{name}", **{**shared[name], **changes.get(name, {})})


def show_settings(title: str, settings: dict[str, Any]) -> None:
    """Print the resolved settings, one a line."""
    print(f"{title}")
    width = max(map(len, settings))
    for name, value in settings.items():
        print(f"  {name:<{width}}  {value}")


def show_table(lines: list[tuple[str, ...]]) -> None:
    """Print rows of cells in columns; a Korean letter takes two places, as terminals show it."""

    def width(text: str) -> int:
        return sum(1 + (unicodedata.east_asian_width(letter) in "WF") for letter in text)

    widths = [max(map(width, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        cells = [cell + " " * (w - width(cell)) for cell, w in zip(line, widths, strict=True)]
        print("  ".join(cells).rstrip())


def relative(path: str | Path) -> str:
    """A path as stored in results: relative to the repository where it lies inside it."""
    path = Path(path).resolve()
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


VERSIONS = (
    *("torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes"),
    *("llama-cpp-python", "kiwipiepy", "google-genai", "openai"),
)
"""Libraries whose versions are stored with a result."""


def provenance() -> dict[str, Any]:
    """Library versions, Python, processor kind and git commit, to store with a result."""
    versions = {}
    for name in VERSIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    try:
        commit = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=10,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        commit = ""
    return {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": versions,
        "commit": commit or None,
    }
