"""The page of all jobs, out of Airflow's menu."""

from __future__ import annotations

from collections import Counter

import pytest
from playwright.sync_api import Frame, expect

from tests.support.patience import patient
from tests.system.ui.airflow_ui import notebook_of, open_alone, open_page, open_tab, plugin_frame
from tests.system.ui.runs import FINISHED, ODD_RUN_ID


def rows(jobs: Frame) -> list[tuple[str, ...]]:
    """State, task, run and try of each job that is shown."""
    read = "rows => rows.map(row => [...row.cells].map(cell => (cell.firstElementChild ?? cell).innerText))"
    return [tuple(row[:4]) for row in jobs.locator("#jobs tbody tr").evaluate_all(read)]


def states(jobs: Frame) -> dict[str, int]:
    """How many jobs the links say that there are in each state."""
    links = jobs.get_by_role("navigation", name="States").get_by_role("link").all_inner_texts()
    return {name: int(number) for name, _, number in (link.replace("\n", " ").rpartition(" ") for link in links)}


def test_all_jobs_with_their_states(finished, emulator, page):
    jobs = open_page(page)
    shown = rows(jobs)
    assert states(jobs) == {"all": len(shown), **Counter(state for state, *_ in shown)}
    # Airflow and the emulator are shared with the example DAGs, which write their output elsewhere.
    here = [job for job in emulator.jobs() if job["gcsOutputUri"] == "gs://ui-tests/runs"]
    known = Counter(job["jobState"].removeprefix("JOB_STATE_").lower() for job in here)
    dag_ids = {"waiting", *(dag_id for dag_id, _, _ in FINISHED.values())}
    assert Counter(state for state, task, *_ in shown if task.partition(".")[0] in dag_ids) == known
    assert {
        ("succeeded", "report.notebook", ODD_RUN_ID, "1"),
        ("succeeded", "private_report.notebook", "a_secret", "1"),
        ("failed", "failing.notebook", "a_failure", "1"),
        ("failed", "mapped.notebook [1]", "three", "1"),
        ("failed", "retried.notebook", "two_tries", "1"),
        ("succeeded", "retried.notebook", "two_tries", "2"),
    } <= set(shown)
    failure = jobs.locator("#jobs tr", has_text="a_failure")
    expect(failure).to_contain_text("cell 5: KeyError: 'west'")
    expect(jobs.locator("#charts li", has_text="mapped.notebook")).to_contain_text("1 of 3 runs failed")


def test_filters_by_dag_state_and_text(finished, page):
    jobs = open_page(page)
    jobs.get_by_label("DAG", exact=True).fill("mapped")
    jobs.get_by_role("button", name="Filter").click()
    jobs.wait_for_url("**/?dag_id=mapped**")
    assert states(jobs) == {"all": 3, "succeeded": 2, "failed": 1}

    jobs.get_by_role("link", name="failed 1").click()
    jobs.wait_for_url("**state=JOB_STATE_FAILED**")
    assert rows(jobs) == [("failed", "mapped.notebook [1]", "three", "1")]
    # Airflow has the filter in its own address, so that a link to it can be handed on.
    page.reload()
    assert rows(plugin_frame(page, "Notebook jobs")) == [("failed", "mapped.notebook [1]", "three", "1")]

    jobs = plugin_frame(page, "Notebook jobs")
    jobs.get_by_role("link", name="Show all").click()
    jobs.wait_for_url("**/notebook-jobs/")
    jobs.get_by_label("Text", exact=True).fill(ODD_RUN_ID.upper().replace("É", "é"))
    jobs.get_by_label("Text", exact=True).press("Enter")
    jobs.wait_for_url("**text=**")
    assert rows(jobs) == [("succeeded", "report.notebook", ODD_RUN_ID, "1")]


def test_a_row_leads_to_its_try_and_to_airflow_s_page(finished, page):
    jobs = open_page(page)
    first_try = jobs.locator("#jobs tr", has_text="job not recorded any more")
    first_try.get_by_role("link", name="retried.notebook", exact=True).click()
    jobs.wait_for_url("**/task?**")
    expect(jobs.locator("[aria-current=page]")).to_have_text("Try 1 failed")
    expect(notebook_of(jobs).get_by_text("this is try 1", exact=True)).to_be_visible()

    jobs = open_page(page)
    jobs.get_by_role("link", name=f"Task notebook of run {ODD_RUN_ID} in Airflow").click()
    page.wait_for_url("**/dags/report/runs/**")
    expect(page.get_by_role("heading", name="notebook")).to_be_visible()
    page.get_by_role("link", name="Notebook", exact=True).click()
    expect(plugin_frame(page, "Notebook").locator("#state")).to_contain_text("succeeded")


def test_a_job_ends_before_its_reader_s_eyes(finished, waiting, page):
    run_id, open_the_gate = waiting
    page.set_viewport_size({"width": 1280, "height": 500})
    jobs = open_page(page)
    row = jobs.locator("#jobs tr", has_text=run_id)
    expect(row.locator(".state")).to_have_text("active")
    jobs.get_by_label("Text", exact=True).fill("not sent yet")
    link = row.get_by_role("link", name="waiting.notebook")
    link.focus()
    jobs.evaluate("window.same = document.querySelector('h1'); scrollTo(0, 150)")
    before = jobs.evaluate("[scrollY, document.activeElement.href]")
    assert before[0] == 150

    open_the_gate()
    expect(row.locator(".state")).to_have_text("succeeded", timeout=patient(60) * 1000)
    assert jobs.evaluate("window.same === document.querySelector('h1')"), "the page was loaded again"
    assert jobs.evaluate("[scrollY, document.activeElement.href]") == before
    assert jobs.get_by_label("Text", exact=True).input_value() == "not sent yet"


@pytest.mark.parametrize("width", [288, 360])  # Airflow's menu takes 72 px
def test_nothing_scrolls_sideways_on_a_narrow_screen(finished, page, width):
    open_alone(page, "", width)
    assert len(rows(page.main_frame)) >= 10
    assert page.evaluate("document.documentElement.scrollWidth") == width


def test_by_keyboard_alone(finished, page):
    jobs = open_page(page)
    jobs.locator("h1").click()
    page.keyboard.press("Tab")
    assert jobs.evaluate("document.activeElement.name") == "dag_id"
    page.keyboard.type("mapped")
    page.keyboard.press("Enter")
    jobs.wait_for_url("**dag_id=mapped**")
    assert len(rows(jobs)) == 3

    jobs.get_by_role("button", name="Filter").focus()
    reached = []
    while "failed" not in (reached or [""])[-1]:
        page.keyboard.press("Tab")
        reached.append(jobs.evaluate("document.activeElement.innerText"))
        assert len(reached) < 5, reached
    assert reached[:2] == ["Show all", "all 3"]
    page.keyboard.press("Enter")
    jobs.wait_for_url("**state=JOB_STATE_FAILED**")

    jobs.get_by_role("navigation", name="States").get_by_role("link").last.focus()
    page.keyboard.press("Tab")
    assert jobs.evaluate("document.activeElement.innerText") == "Skip the charts"
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    assert jobs.evaluate("document.activeElement.innerText") == "mapped.notebook [1]"
    page.keyboard.press("Enter")
    jobs.wait_for_url("**/task?**map_index=1**")
    expect(jobs.locator("#state")).to_contain_text("failed")


def test_who_may_not_see_a_dag_is_told_so(finished, airflow_ui):
    page = airflow_ui.new_page("viewer")
    tab = open_tab(page, *finished["private"], "notebook")
    expect(tab.get_by_role("status")).to_have_text("You may not read the task instances of this DAG.")
    jobs = open_page(page)
    assert "report.notebook" in {task for _, task, _, _ in rows(jobs)}
    assert "private" not in jobs.content()
