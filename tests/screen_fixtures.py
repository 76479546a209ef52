"""Chromium as it draws on a GPU.

A plugin of the test modules (`pytest_plugins`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import sync_playwright

from screen import CHROMIUM, GPU, PATIENCE_MS, SANDBOX, Screen


@pytest.fixture(scope="module")
def screen() -> Iterator[Screen]:
    with sync_playwright() as playwright:
        options = [*GPU, *SANDBOX]
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=options, timeout=PATIENCE_MS
        )
        page = browser.new_page()
        page.set_default_timeout(PATIENCE_MS)
        yield Screen(page)
        browser.close()
