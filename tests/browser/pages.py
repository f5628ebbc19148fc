"""How a page is opened, and what every page must be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

PHONE, DESK = 390, 1200
"""Widths in CSS pixels."""


@contextmanager
def opened(browser, url: str, scheme: str = "light", width: int = DESK) -> Iterator:
    """A page of its own; in the end it must have had no error, and have asked nobody else.

    Args:
        scheme: ``light`` or ``dark``, as the reader's system is set.
    """
    faults: list[str] = []
    with browser.new_context(
        color_scheme=scheme, viewport={"width": width, "height": 844}, reduced_motion="reduce"
    ) as context:
        context.set_default_timeout(120_000)  # of a busy machine
        page = context.new_page()
        page.on("console", lambda said: said.type == "error" and faults.append(said.text))
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("request", lambda asked: is_elsewhere(asked.url) and faults.append(asked.url))
        page.goto(url)
        yield page
    assert faults == []


def is_elsewhere(url: str) -> bool:
    """Whether a request leaves this machine."""
    return url.startswith(("http:", "https:", "ws:")) and "//127.0.0.1:" not in url


def assert_usable(page, axe: str) -> None:
    """Nothing is cut off at the side, nothing moves, axe-core finds nothing serious or critical."""
    wide = page.evaluate(
        "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
    assert wide <= 0, f"{wide} px stand out at the side"
    moving = page.evaluate("() => document.getAnimations().map(one => one.effect.target.outerHTML)")
    assert moving == [], "the reader asked for reduced motion"
    page.evaluate(axe)
    found = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    faults = [
        f"{fault['id']} ({fault['impact']}): {node['html'][:200]}: {node['failureSummary']}"
        for fault in found["violations"]
        if fault["impact"] in ("serious", "critical")
        for node in fault["nodes"]
    ]
    assert faults == [], "\n".join(faults)


def focus_by_tab(page, selector: str, most: int = 40) -> None:
    """Press Tab until what the selector names has the focus."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate("name => document.activeElement.matches(name)", selector):
            return
    raise AssertionError(f"{selector} is not reached by {most} presses of Tab")
