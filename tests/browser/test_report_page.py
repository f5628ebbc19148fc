"""report.html in a browser, as report.py makes it."""

from __future__ import annotations

import pytest

from tests.browser.pages import DESK, PHONE, assert_usable, focus_by_tab, opened
from tests.test_report import folder  # noqa: F401  (a fixture: toy score files)


@pytest.fixture
def url(folder, script, tmp_path) -> str:  # noqa: F811
    output = tmp_path / "report.html"
    words = ("--results_dir", folder, "--baseline", "base", "--output", output)
    result = script("src/eval/report.py", *words)
    assert result.returncode == 0, result.stderr
    return output.as_uri()


def test_it_is_usable_by_all(browser, axe, url):
    for scheme in ("light", "dark"):
        for width in (PHONE, DESK):
            with opened(browser, url, scheme, width) as page:
                assert_usable(page, axe)
                for part in page.query_selector_all("details"):
                    part.evaluate("part => part.open = true")
                assert_usable(page, axe)


def test_it_is_searched_and_sorted_by_keyboard(browser, url):
    with opened(browser, url) as page:
        focus_by_tab(page, "details:has(.sortable) > summary")
        page.keyboard.press("Enter")
        focus_by_tab(page, "[data-filter]")
        page.keyboard.type("말03")
        assert page.inner_text("output:not(:empty)") == "1 of 12"
        focus_by_tab(page, ".sortable th button")
        page.keyboard.press("Enter")
        assert page.query_selector(".sortable th[aria-sort]")
