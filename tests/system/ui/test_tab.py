"""The tab of a task instance, in Airflow's own page."""

from __future__ import annotations

import pytest
from playwright.sync_api import Frame, Page, expect

from tests.support.patience import patient, wait_until
from tests.system.ui.airflow_ui import (
    AirflowUI,
    notebook_of,
    open_alone,
    open_page,
    open_tab,
    switch_theme,
    task_query,
)

SIDEWAYS = "element => element.ownerDocument.documentElement.scrollWidth > innerWidth"


def state_of(tab: Frame) -> str:
    return tab.locator("#state .state").inner_text()


def fact(tab: Frame, label: str) -> str:
    """What stands under "About the job", which is closed at first."""
    return tab.locator("#facts div", has_text=label).locator("dd").first.text_content() or ""


def focused(tab: Frame) -> str:
    return str(tab.evaluate("document.activeElement.textContent"))


@pytest.mark.essential
def test_a_task_that_succeeded(finished, page):
    tab = open_tab(page, *finished["report"], "notebook")
    assert state_of(tab) == "succeeded"
    steps = tab.locator(".steps .state").all_inner_texts()
    assert (steps[0], steps[-1]) == ("submitted", "succeeded")
    assert tab.locator(".timeline rect").count() == len(steps)
    expect(tab.get_by_role("region", name="Parameters", exact=True).locator("tbody th")).to_have_text("day")
    expect(tab.get_by_role("region", name="Results", exact=True)).to_contain_text('"revenue": 2000.5')
    assert tab.locator("#error, #problem").all_inner_texts() == ["", ""]

    assert tab.locator("#notebook iframe").get_attribute("sandbox") == ""
    notebook = notebook_of(tab)
    expect(notebook.get_by_role("heading", name="Orders of a day")).to_be_visible()
    plot = notebook.locator("img")
    expect(plot).to_be_visible()
    assert plot.evaluate("image => image.naturalWidth > 100 && image.getBoundingClientRect().width > 100")
    expect(notebook.locator("table.dataframe tbody tr")).to_have_text(["0 north 1200.5", "1 south 800.0"])


@pytest.mark.essential
def test_a_task_that_failed(finished, page):
    tab = open_tab(page, *finished["failing"], "notebook")
    assert state_of(tab) == "failed"
    error = tab.get_by_role("region", name="Cell 5 failed")
    expect(error).to_contain_text("KeyError: 'west'")

    failing = notebook_of(tab).locator(".nbjob-failing")
    expect(failing).to_contain_text("Cell 5 failed")
    assert failing.get_attribute("id") == "cell-5"
    is_in_sight = "({top, bottom}) => 0 <= top && bottom <= innerHeight"
    assert failing.evaluate(f"cell => ({is_in_sight})(cell.getBoundingClientRect())")
    assert failing.evaluate("() => scrollY") > 0
    # To go to the cell is the notebook's matter: the state and the error are still in sight.
    assert tab.evaluate("scrollY") == 0
    assert tab.evaluate("document.activeElement.tagName") == "BODY"


def test_each_of_a_mapped_task_has_its_own_job(finished, page):
    seen = {}
    for index in range(3):
        tab = open_tab(page, *finished["mapped"], "notebook", index)
        expect(notebook_of(tab).locator(".jp-OutputArea-output").first).to_have_text(f"notebook {index}")
        seen[fact(tab, "Id")] = state_of(tab)
    assert list(seen.values()) == ["succeeded", "failed", "succeeded"]


def test_each_try_has_its_own_job(finished, page):
    tab = open_tab(page, *finished["retried"], "notebook")
    tries = tab.get_by_role("navigation", name="Tries")
    expect(tries.get_by_role("link")).to_have_text(["Try 1 failed", "Try 2 success"])
    expect(tries.locator("[aria-current=page]")).to_have_text("Try 2 success")
    expect(notebook_of(tab).get_by_text("this is try 2", exact=True)).to_be_visible()
    newest = fact(tab, "Id"), state_of(tab)

    tab.locator("h1").click()  # then by keyboard alone
    page.keyboard.press("Tab")
    assert focused(tab) == "Try 1 failed"
    page.keyboard.press("Enter")
    tab.wait_for_url("**try_number=1")
    expect(tab.locator("[aria-current=page]")).to_have_text("Try 1 failed")
    expect(tab.get_by_role("region", name="Cell 4 failed")).to_contain_text("try 1 fails as asked")
    expect(notebook_of(tab).get_by_text("this is try 1", exact=True)).to_be_visible()
    first = fact(tab, "Id"), state_of(tab)
    assert (first[1], newest[1]) == ("failed", "succeeded")
    assert (first[0], newest[0]) == (newest[0].removesuffix("2") + "1", newest[0])


def test_a_running_task_ends_before_its_reader_s_eyes(waiting, page):
    run_id, open_the_gate = waiting
    tab = open_tab(page, "waiting", run_id, "notebook")
    expect(tab.locator("#state")).to_contain_text("running")
    expect(tab.locator("#notebook h2")).to_have_text("Source: it is running")
    notebook = notebook_of(tab)
    expect(notebook.locator("#cell-4")).to_contain_text("pathlib.Path(gate).exists()")
    assert notebook.locator(".jp-OutputArea-output").count() == 0
    tab.evaluate("window.same = document.querySelector('h1')")

    open_the_gate()
    expect(tab.locator("#state")).to_contain_text("succeeded", timeout=patient(60) * 1000)
    expect(tab.locator("#notebook h2")).to_have_text("Executed notebook")
    expect(notebook.locator(".jp-OutputArea-output")).to_contain_text("the gate is open")
    assert tab.locator("iframe").count() == 1
    assert tab.evaluate("window.same === document.querySelector('h1')"), "the page was loaded again"
    # The task tells the steps that it saw when it ends, after the job that the page shows as succeeded.
    steps = tab.locator(".steps .state")
    wait_until(lambda: steps.all_inner_texts()[-2:] == ["running", "succeeded"], timeout=60, what="the task's steps")


def test_a_task_of_another_provider(finished, page):
    tab = open_tab(page, *finished["another"], "shell")
    expect(tab.get_by_role("status")).to_contain_text("No notebook job is known of this task.")
    assert tab.locator("iframe, h1, a").count() == 0


def test_a_run_id_that_a_url_has_to_encode(finished, page):
    tab = open_tab(page, *finished["odd"], "notebook")
    assert state_of(tab) == "succeeded"
    expect(notebook_of(tab).locator("table.dataframe")).to_be_visible()


def test_light_and_dark_follow_airflow_live(finished, page):
    tab = open_tab(page, *finished["report"], "notebook")
    tab.evaluate("window.same = true")
    pages = {}
    for theme in ("light", "dark"):
        switch_theme(page, theme)
        notebook = notebook_of(tab).locator("html")
        for root in (tab.locator("html"), notebook):
            expect(root).to_have_attribute("data-theme", theme)
        color = "element => getComputedStyle(element.querySelector('body')).backgroundColor"
        pages[theme] = tab.locator("html").evaluate(color), notebook.evaluate(color)
    assert pages["light"] == ("rgb(255, 255, 255)",) * 2
    assert all(int(number) < 60 for color in pages["dark"] for number in color[4:-1].split(","))
    assert tab.evaluate("window.same"), "the page was loaded again"


@pytest.mark.parametrize("width", [288, 360])  # Airflow's menu takes 72 px
@pytest.mark.parametrize("name", ["report", "failing"])
def test_nothing_scrolls_sideways_on_a_narrow_screen(finished, page, name, width):
    open_alone(page, f"task?{task_query(*finished[name], 'notebook')}", width)
    notebook = notebook_of(page.main_frame)
    assert not page.locator("body").evaluate(SIDEWAYS)
    assert not notebook.locator("body").evaluate(SIDEWAYS)
    page.get_by_text("About the job").click()
    assert not page.locator("body").evaluate(SIDEWAYS)


def test_links_to_google_cloud_open_in_a_new_browser_tab(finished, page):
    tab = open_tab(page, *finished["report"], "notebook")
    address = page.url
    links = tab.get_by_role("list", name="Links to Google Cloud").get_by_role("link")
    expect(links).to_have_text(["Executions in the console", "Output in Cloud Storage", "Logs"])
    for link in links.all():
        to_google = page.context.expect_event("request", lambda request: "google" in request.url)
        with page.context.expect_page() as opened, to_google as asked:
            link.click()
        request = asked.value
        assert request.frame == opened.value.main_frame
        assert request.url == link.get_attribute("href")
        assert request.url.startswith("https://console.cloud.google.com/")
        assert request.is_navigation_request()
        assert "referer" not in request.headers
    assert page.url == address


def test_below_a_path(finished, prefixed_url, airflow, browser):
    below = AirflowUI(browser, prefixed_url, airflow.passwords)
    page: Page = below.new_page()
    tab = open_tab(page, *finished["odd"], "notebook")
    assert tab.url.startswith(f"{prefixed_url}/notebook-jobs/task?")
    expect(notebook_of(tab).locator("table.dataframe")).to_be_visible()

    jobs = open_page(page)
    assert jobs.url == f"{prefixed_url}/notebook-jobs/"
    jobs.get_by_role("link", name="failing.notebook", exact=True).click()
    jobs.wait_for_url(f"{prefixed_url}/notebook-jobs/task?**")
    assert state_of(jobs) == "failed"
    open_page(page).get_by_role("link", name="Task notebook of run a_failure in Airflow").click()
    page.wait_for_url(f"{prefixed_url}/dags/failing/runs/a_failure/tasks/notebook**")
    below.close()
