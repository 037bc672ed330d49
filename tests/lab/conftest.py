"""A browser, and a server with the usual settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.support.browsing import FLAGS, Laboratory, laboratory, place_with_lab
from tests.support.tools import require


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all tests of this folder."""
    chromium = require("chromium", "install the package chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture(scope="package")
def lab(browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Laboratory]:
    """One server with the usual settings, and one page, for all modules that need no others."""
    home = tmp_path_factory.mktemp("lab") / "home"
    with laboratory(browser, place_with_lab(home)) as opened:
        yield opened
