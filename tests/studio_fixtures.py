"""Pages of the studio in Debian's Chromium.

A plugin of the test modules (`pytest_plugins`).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect, sync_playwright

from running_gateway import Hands, RunningGateway
from screen import CHROMIUM, PATIENCE_MS, SANDBOX
from studio_page import DESKTOP, PLAIN_HOST, Studio


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    """One for a module. Playwright keeps an event loop in the thread for as long as it runs."""
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        # A host that is no loopback is less trusted without https.
        rules = f"--host-resolver-rules=MAP {PLAIN_HOST} 127.0.0.1"
        options = ["--disable-gpu", rules, *SANDBOX]
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=options, timeout=PATIENCE_MS
        )
        # A busy machine may take long over the first picture that a new Chromium draws.
        with browser.new_page() as first:
            first.screenshot(timeout=PATIENCE_MS)
        yield browser
        browser.close()


@pytest.fixture
def make_studio(
    chromium: Browser,
    make_gateway: Callable[..., RunningGateway],
    make_hands: Callable[[RunningGateway], Hands],
) -> Iterator[Callable[..., Studio]]:
    """`make_studio(viewport=…, context={…}, **fields of the ServiceSpec)`; the test fails where the
    page logged an error or asked another origin."""
    made: list[Studio] = []

    def make(
        *, viewport: Any = DESKTOP, context: dict[str, Any] | None = None, **change: Any
    ) -> Studio:
        gateway = make_gateway(**change)
        page = chromium.new_context(viewport=viewport, **(context or {})).new_page()
        page.set_default_timeout(PATIENCE_MS)
        made.append(Studio(page, gateway, make_hands(gateway)))
        return made[-1]

    yield make
    for studio in made:
        studio.page.context.close()
        assert studio.faults == []


@pytest.fixture
def studio(make_studio: Callable[..., Studio]) -> Studio:
    return make_studio()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Where screenshots go: WAN_SCREENSHOTS, or with the test's other files."""
    folder = Path(os.environ.get("WAN_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    return folder
