"""Chromium and axe-core, or a word on what is not there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest


@pytest.fixture(scope="module")
def browser():
    """Chromium for the tests of a module: Playwright's event loop must not outlive them, or
    asyncio could not be used in the tests after them."""
    reason = "Playwright is not installed (requirements-browser.txt)"
    sync_api = pytest.importorskip("playwright.sync_api", reason=reason)
    program = os.environ.get("CHROMIUM") or shutil.which("chromium")
    if not program or not Path(program).is_file():
        pytest.skip("Chromium is not there: install it, or name it in CHROMIUM")
    root = os.geteuid() == 0  # for whom Chromium has no sandbox
    with sync_api.sync_playwright() as playwright:
        arguments = ["--no-sandbox"] if root else []
        chromium = playwright.chromium.launch(executable_path=program, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """The source of axe-core."""
    path = os.environ.get("AXE_CORE", "")
    if not Path(path).is_file():
        pytest.skip("axe-core is not there: name its axe.min.js in AXE_CORE")
    return Path(path).read_text("utf-8")
