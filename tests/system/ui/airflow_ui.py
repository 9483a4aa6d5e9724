"""Airflow's own pages, as a person goes through them to those of the plugin."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from playwright.sync_api import Browser, BrowserContext, Frame, FrameLocator, Page, Request, Route, expect

from tests.support.paths import CHECKOUT
from tests.support.patience import patient

SCREENSHOTS = CHECKOUT / "tests" / "output" / "screenshots"
TIMEOUT = patient(20) * 1000  # ms


@dataclass
class AirflowUI:
    """The pages of an Airflow.

    :param browser: to open them in
    :param url: where it is served
    :param passwords: of its users
    """

    browser: Browser
    url: str
    passwords: dict[str, str]
    faults: list[str] = field(default_factory=list)
    _signed_in: dict[str, Any] = field(default_factory=dict)
    _contexts: list[BrowserContext] = field(default_factory=list)

    def new_page(self, user: str = "admin", theme: str = "light") -> Page:
        """A page in a context of its own, which a user who has signed in opens, in Airflow's light or dark mode."""
        if user not in self._signed_in:
            self._signed_in[user] = self._sign_in(user)
        parts = urlsplit(self.url)
        settings = [{"name": "theme", "value": theme}]
        origin = {"origin": f"{parts.scheme}://{parts.netloc}", "localStorage": settings}
        return self._open({"cookies": self._signed_in[user], "origins": [origin]})

    def _sign_in(self, user: str) -> Any:
        """Sign in through Airflow's own form; the cookies that come of it."""
        page = self._open()
        page.goto("")
        page.locator("input[name=username]").fill(user)
        page.locator("input[name=password]").fill(self.passwords[user])
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(lambda url: "/auth/login" not in url)
        return page.context.cookies()

    def _open(self, state: Any = None) -> Page:
        context = self.browser.new_context(base_url=f"{self.url}/", storage_state=state)
        context.set_default_timeout(TIMEOUT)
        self._contexts.append(context)
        context.route(self._is_elsewhere, self._refuse)
        page = context.new_page()
        page.on("request", self._note_request)
        page.on("pageerror", lambda error: self.faults.append(f"uncaught in a script: {error}"))
        return page

    def _is_elsewhere(self, url: str) -> bool:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https", "ws", "wss") and parts.netloc != urlsplit(self.url).netloc

    @staticmethod
    def _refuse(route: Route) -> None:
        """Let nothing leave this machine, not even from a tab that a link opened."""
        route.abort()

    def _note_request(self, request: Request) -> None:
        if self._is_elsewhere(request.url):
            self.faults.append(f"asked another host: {request.url}")

    def close(self) -> None:
        """Close all pages; none of them may have asked another host, or left an error of a script uncaught."""
        for context in self._contexts:
            context.close()
        self._contexts.clear()
        faults, self.faults = self.faults, []
        assert not faults, faults


def task_path(dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> str:
    """The path of Airflow's page of a task instance, below its address."""
    mapped = f"/mapped/{map_index}" if map_index >= 0 else ""
    return f"dags/{quote(dag_id, safe='')}/runs/{quote(run_id, safe='')}/tasks/{quote(task_id, safe='')}{mapped}"


def open_task(page: Page, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> None:
    """Open Airflow's page of a task instance."""
    page.goto(task_path(dag_id, run_id, task_id, map_index))


def open_tab(page: Page, dag_id: str, run_id: str, task_id: str, map_index: int = -1) -> Frame:
    """Open Airflow's page of a task instance, and there the tab Notebook; the frame of the plugin."""
    open_task(page, dag_id, run_id, task_id, map_index)
    page.get_by_role("link", name="Notebook", exact=True).click()
    return plugin_frame(page, "Notebook")


def open_page(page: Page) -> Frame:
    """Open the page Notebook jobs out of Airflow's menu Browse; the frame of the plugin."""
    page.goto("")
    page.get_by_role("button", name="Browse").click()
    page.get_by_role("menuitem", name="Notebook jobs").click()
    return plugin_frame(page, "Notebook jobs")


def plugin_frame(page: Page, title: str) -> Frame:
    """The frame of the plugin in Airflow's page, once it is loaded."""
    element = page.wait_for_selector(f'iframe[title="{title}"]')
    assert element
    frame = element.content_frame()
    assert frame
    frame.wait_for_url(lambda url: url != "about:blank")
    frame.wait_for_load_state()
    return frame


def notebook_of(tab: Frame) -> FrameLocator:
    """The document of the notebook in the tab, once it is loaded."""
    notebook = tab.frame_locator("#notebook iframe")
    expect(notebook.locator("main")).to_be_visible()
    return notebook


def open_alone(page: Page, path: str, width: int = 360) -> None:
    """Open a page of the plugin without Airflow's around it, which is wider than a narrow screen."""
    page.set_viewport_size({"width": width, "height": 800})
    page.goto(f"notebook-jobs/{path}")


def task_query(dag_id: str, run_id: str, task_id: str, **more: Any) -> str:
    """The query by which the plugin's routes know a task instance."""
    return urlencode({"dag_id": dag_id, "run_id": run_id, "task_id": task_id, **more}, quote_via=quote)


def switch_theme(page: Page, theme: str) -> None:
    """Switch Airflow to light or dark mode as its user does, out of the user's menu."""
    page.get_by_role("button", name="User").click()
    page.get_by_role("menuitem", name="Appearance").hover()
    page.get_by_role("menuitemradio", name=f"{theme.capitalize()} Mode").click()
    expect(page.locator("html")).to_have_class(theme)


def screenshot(page: Page, name: str) -> Path:
    """Take a picture of the page; the file."""
    path = SCREENSHOTS / f"{name}.png"
    page.screenshot(path=path)
    return path
