"""Chromium as it draws on a GPU.

A plugin of the test modules (`pytest_plugins`).
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import sync_playwright

from screen import CHROMIUM, GPU, SANDBOX, Screen


@pytest.fixture(scope="module")
def screen() -> Iterator[Screen]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*GPU, *SANDBOX])
        yield Screen(browser.new_page())
        browser.close()
