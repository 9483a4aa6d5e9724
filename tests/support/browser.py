"""The browser in which tests look at pages."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, expect, sync_playwright

from tests.support.patience import patient

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",  # which root, as in a container, cannot have
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)


@contextmanager
def chromium() -> Iterator[Browser]:
    """The Chromium that is installed, without a window."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    assert path, f"None of {', '.join(NAMES)} is on the PATH: apt-get install chromium"
    expect.set_options(timeout=patient(10) * 1000)  # ms
    with TemporaryDirectory() as home, sync_playwright() as playwright:
        # A home of its own: it keeps its reports of crashes there, whatever its profile.
        own = dict.fromkeys(("HOME", "XDG_CACHE_HOME", "XDG_CONFIG_HOME"), home)
        browser = playwright.chromium.launch(executable_path=path, args=list(ARGUMENTS), env={**os.environ, **own})
        try:
            yield browser
        finally:
            browser.close()
