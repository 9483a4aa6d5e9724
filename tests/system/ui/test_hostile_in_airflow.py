"""Hostile notebooks, and names with markup, in Airflow's own page.

What each notebook does where it is trusted is shown in `tests/integration/rendering`; here all of them are one.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import Frame, Page, expect

from airflow_provider_nbjob.job.record import JOB_XCOM_KEY
from tests.support.emulator_process import EmulatorProcess
from tests.support.paths import CHECKOUT
from tests.support.patience import wait_until
from tests.system.ui.airflow_ui import notebook_of, open_page, open_tab
from tests.system.ui.runs import MARKUP

NOTEBOOKS = sorted((CHECKOUT / "tests" / "notebooks" / "hostile").glob("*.ipynb"))
ERROR = f"ValueError: {MARKUP}"  # what the run's own notebook raised
KEYS = 60  # to reach by Tab what can be reached


def all_of_them(paths: list[Path]) -> bytes:
    notebook = {}
    cells = []
    for path in paths:
        notebook |= json.loads(path.read_text())
        cells += notebook["cells"]
    return json.dumps({**notebook, "cells": cells}).encode()


def overwrite(emulator: EmulatorProcess, uri: str, content: bytes) -> None:
    """Put another object where one was, as whoever may write to the bucket can."""
    bucket, _, name = uri.removeprefix("gs://").partition("/")
    upload = f"{emulator.exports['STORAGE_EMULATOR_HOST']}/upload/storage/v1/b/{bucket}/o"
    httpx.post(upload, params={"uploadType": "media", "name": name}, content=content).raise_for_status()


class Watch:
    """What a page, and all in it, asks for and does."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.asked: list[str] = []
        self.done: list[str] = []
        page.context.on("request", lambda request: self.asked.append(request.url))
        page.context.on("page", lambda opened: self.done.append(f"popup {opened.url}"))
        page.on("dialog", lambda dialog: (self.done.append(f"dialog {dialog.message}"), dialog.dismiss()))
        page.on("download", lambda download: self.done.append(f"download {download.url}"))
        page.on("framenavigated", lambda frame: self.done.append(f"went to {frame.url}"))

    def unexpected(self) -> list[str]:
        """What of the requests is none of Airflow's page or of the tab."""
        own = urlsplit(self.page.url).netloc
        known = (
            "/api/v2/",
            "/ui/",
            "/static/",
            "/notebook-jobs/static/",
            "/notebook-jobs/task",
            "/notebook-jobs/notebook",
        )
        urls = [urlsplit(url) for url in self.asked if not url.startswith("data:")]
        return [
            url.geturl() for url in urls if url.netloc != own or not url.path.startswith(known) or "leak" in url.query
        ]

    def titles(self) -> set[str]:
        return {frame.title() for frame in self.page.frames}


def use(page: Page, tab: Frame) -> None:
    """Go through all that can be reached by keyboard in the notebook, and press it."""
    tab.locator("summary").focus()
    for _ in range(KEYS):
        page.keyboard.press("Tab")
        if tab.evaluate("document.activeElement.tagName") != "IFRAME":
            break
        page.keyboard.press("Enter")
    page.wait_for_timeout(500)  # for what it would do by and by


@pytest.fixture
def hostile(finished, airflow, emulator, page) -> Iterator[tuple[str, str]]:
    """The DAG and the run whose executed notebook is all of NOTEBOOKS as long as the test runs.

    The tab takes what it shows from a cache for some seconds: the test after this one must not find these there.
    """
    dag_id, run_id = finished["hostile"]
    uri = airflow.xcom(dag_id, run_id, "notebook", JOB_XCOM_KEY)["output_notebook_uri"]
    before = emulator.object_path(uri).read_bytes()

    def shows_own() -> bool:
        return ERROR in open_tab(page, dag_id, run_id, "notebook").locator("#error pre").inner_text()

    overwrite(emulator, uri, all_of_them(NOTEBOOKS))
    wait_until(lambda: not shows_own(), timeout=30, what="the hostile notebook", interval=1)
    yield dag_id, run_id
    overwrite(emulator, uri, before)
    wait_until(shows_own, timeout=30, what="the run's own notebook", interval=1)


def test_a_hostile_notebook_does_nothing(hostile, page):
    tab = open_tab(page, *hostile, "notebook")
    notebook = notebook_of(tab)
    assert notebook.locator("section.nbjob-cell").count() > len(NOTEBOOKS)
    expect(notebook.get_by_role("heading", name="Scripts")).to_be_visible()
    address = page.url
    watch = Watch(page)
    tab.goto(tab.url)  # what the notebook does when it is loaded is watched, too
    notebook_of(tab)
    use(page, tab)
    assert "TRIPPED" not in " ".join(watch.titles())
    assert watch.unexpected() == []
    went = {urlsplit(what.removeprefix("went to ")).path for what in watch.done if what != "went to about:blank"}
    assert went == {"/notebook-jobs/task", "/notebook-jobs/notebook"}
    assert (page.url, len(page.context.pages)) == (address, 1)
    assert page.locator("iframe").count() == 1


def test_markup_in_names_is_text(finished, page):
    dag_id, run_id = finished["hostile"]
    tab = open_tab(page, dag_id, run_id, "notebook")
    expect(tab.locator("#error pre")).to_contain_text(ERROR)
    expect(tab.locator("#error p")).to_contain_text("Cell 4 raised ValueError")  # a message that is plain text by then
    expect(tab.get_by_role("region", name="Parameters", exact=True)).to_contain_text(MARKUP.replace('"', '\\"'))
    tab.get_by_text("About the job").click()
    expect(tab.locator("#facts")).to_contain_text(f"{MARKUP} {run_id}")
    expect(notebook_of(tab).locator(".nbjob-failing")).to_contain_text(MARKUP)
    assert tab.locator("main img").count() == 0

    watch = Watch(page)
    jobs = open_page(page)
    expect(jobs.locator("#jobs tr", has_text=run_id)).to_contain_text(ERROR)
    assert jobs.locator("main img").count() == 0
    assert "TRIPPED" not in watch.titles()
