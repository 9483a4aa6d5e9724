"""Pictures of the tab and of the page, in `tests/output/screenshots`, to be looked at.

Two of them are in the documentation; to renew those:

    python -m pytest tests/system/ui/test_screenshots.py
    cp tests/output/screenshots/notebook-tab.png tests/output/screenshots/notebook-jobs.png docs/
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from playwright.sync_api import Frame, expect

from tests.system.ui.airflow_ui import (
    SCREENSHOTS,
    notebook_of,
    open_alone,
    open_page,
    open_tab,
    screenshot,
    switch_theme,
    task_query,
)

WIDTH, HEIGHT = 1280, 900
FOR_THE_README = {"failing-light": "notebook-tab", "jobs-dark": "notebook-jobs"}


def show_all_of(frame: Frame) -> None:
    if "/task?" in frame.url:
        notebook = notebook_of(frame)
        expect(notebook.locator("html")).to_have_attribute(
            "data-theme", frame.locator("html").get_attribute("data-theme")
        )


def is_a_picture(path: Path, width: int, height: int) -> bool:
    """Whether it is a PNG of this size, with more in it than one colour."""
    header = path.read_bytes()[:24]
    return struct.unpack(">II", header[16:24]) == (width, height) and path.stat().st_size > 10_000


@pytest.mark.parametrize("name", ["failing", "report", "jobs"])
def test_in_airflow(finished, page, name):
    page.set_viewport_size({"width": WIDTH, "height": HEIGHT})
    frame = open_page(page) if name == "jobs" else open_tab(page, *finished[name], "notebook")
    for theme in ("light", "dark"):
        switch_theme(page, theme)
        show_all_of(frame)
        page.mouse.move(640, 890)
        expect(page.get_by_role("menu")).to_have_count(0)
        path = screenshot(page, f"{name}-{theme}")
        assert is_a_picture(path, WIDTH, HEIGHT)
        if told := FOR_THE_README.get(path.stem):
            path.replace(SCREENSHOTS / f"{told}.png")


@pytest.mark.parametrize("name", ["failing", "report", "jobs"])
def test_on_a_narrow_screen(finished, page, name):
    open_alone(page, "" if name == "jobs" else f"task?{task_query(*finished[name], 'notebook')}")
    show_all_of(page.main_frame)
    path = screenshot(page, f"{name}-narrow")
    assert is_a_picture(path, 360, 800)
