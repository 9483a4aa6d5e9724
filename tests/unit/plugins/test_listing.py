from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import event
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.orm import Session

from airflow_provider_nbjob.plugins.notebook_jobs.filters import JobFilter
from airflow_provider_nbjob.plugins.notebook_jobs.listing import list_jobs
from airflow_provider_nbjob.plugins.notebook_jobs.queries import CHART_RUNS, PAGE_SIZE, page_of_jobs
from tests.support.metadata import START, Rows, ended, record

SUCCEEDED = ended("JOB_STATE_SUCCEEDED")
FAILED = ended("JOB_STATE_FAILED", "the notebook failed")
EVERY_DAG = {"reports", "weather", "secret"}


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def listed(engine, insert, rows):
    """Inserts what was gathered, and lists."""

    def list_them(readable=EVERY_DAG, **wanted):
        insert(rows)
        with Session(engine) as session:
            return list_jobs(session, readable, JobFilter(**wanted))

    return list_them


def shown(listing):
    return [(row.task.task_id, row.task.try_number, row.state, row.task_state) for row in listing.rows]


def later(minutes: float):
    return START + timedelta(minutes=minutes)


# --- which tries, and their states ---


def test_no_jobs(listed):
    listing = listed()
    assert (listing.rows, listing.total, listing.counts, listing.pages, listing.first) == ([], 0, {}, 1, 0)


def test_a_job_with_all_that_is_known_of_it(rows, listed):
    cell = {"number": 3, "ename": "KeyError", "evalue": "'west'"}
    told = record("j1", **{**FAILED, "failed_cell": cell})
    rows.task_instance(state="failed", seconds=200, rendered_map_index="west", map_index=2, told=told)
    (row,) = listed().rows
    assert row.task == ("reports", "run_1", "notebook", 2, 1)
    assert (row.state, row.task_state, row.rendered_map_index) == ("JOB_STATE_FAILED", "failed", "west")
    assert (row.started, row.ended, row.seconds(later(60))) == (START, START + timedelta(seconds=200), 200)
    assert (row.job_id, row.error, row.has_failed, row.goes_on) == ("j1", "cell 3: KeyError: 'west'", True, False)


@pytest.mark.parametrize(
    ("task_state", "job_state", "expected"),
    [
        ("success", "JOB_STATE_SUCCEEDED", "JOB_STATE_SUCCEEDED"),
        ("failed", "JOB_STATE_SUCCEEDED", "JOB_STATE_SUCCEEDED"),
        ("running", "JOB_STATE_OF_LATER", "JOB_STATE_OF_LATER"),
        *((state, None, "ACTIVE") for state in ("running", "deferred", "queued", "scheduled", "restarting")),
        ("up_for_reschedule", None, "ACTIVE"),
        ("failed", None, "JOB_STATE_FAILED"),
        ("up_for_retry", None, "JOB_STATE_FAILED"),
        ("success", None, "UNKNOWN"),  # only the job may say that it succeeded
        ("skipped", None, "UNKNOWN"),
        (None, None, "UNKNOWN"),
        ("success", "<b>ok</b>", "UNKNOWN"),  # not written by this provider
        ("running", 5, "ACTIVE"),
        ("success", ["JOB_STATE_SUCCEEDED"], "UNKNOWN"),
    ],
)
def test_the_state_is_what_the_job_said_and_no_better(rows, listed, task_state, job_state, expected):
    rows.task_instance(state=task_state, told=record("j1", job_state=job_state))
    listing = listed()
    assert shown(listing) == [("notebook", 1, expected, task_state)]
    assert listing.counts == {expected: 1}


@pytest.mark.parametrize("value", ["gs://xcoms/1", [1, 2], 7, True, {}, {"try_number": "x"}, {"try_number": None}])
def test_a_value_that_is_no_record_is_the_newest_try_without_a_job(rows, listed, value):
    rows.task_instance(try_number=2, state="running", told=value)
    rows.earlier_try(try_number=1)
    listing = listed()
    assert shown(listing) == [("notebook", 2, "ACTIVE", "running"), ("notebook", 1, "JOB_STATE_FAILED", "failed")]
    assert (listing.rows[0].job_id, listing.rows[0].error) == ("", "")


def test_forged_parts_of_a_record_are_shown_as_text(rows, listed):
    told = record("j", name=7, failed_cell="none", status=["no"], job_state="JOB_STATE_FAILED")
    rows.task_instance(told=told)
    rows.task_instance(run_id="run_2", told=record("j", **{**FAILED, "failed_cell": {"number": [1], "evalue": 2}}))
    assert [(row.job_id, row.error) for row in listed().rows] == [("", ""), ("j", "the notebook failed")]


def test_earlier_tries_are_in_the_history_alone(rows, listed):
    rows.task_instance(try_number=3, start=later(20), told=record("j3", try_number=3, **SUCCEEDED))
    rows.earlier_try(try_number=1, state="failed")
    rows.earlier_try(try_number=2, state="success", start=later(10))  # was cleared
    assert shown(listed()) == [
        ("notebook", 3, "JOB_STATE_SUCCEEDED", "success"),
        ("notebook", 2, "UNKNOWN", "success"),
        ("notebook", 1, "JOB_STATE_FAILED", "failed"),
    ]


def test_a_try_that_waits_for_its_retry_is_one_row_though_it_is_in_the_history(rows, listed):
    rows.task_instance(try_number=1, state="up_for_retry", told=record("j1", **FAILED))
    rows.earlier_try(try_number=1)
    assert shown(listed()) == [("notebook", 1, "JOB_STATE_FAILED", "up_for_retry")]


@pytest.mark.parametrize("value", ["text", {"try_number": "x"}])
def test_so_it_is_where_the_value_is_no_record(rows, listed, value):
    rows.task_instance(try_number=1, state="up_for_retry", told=value)
    rows.earlier_try(try_number=1)
    assert shown(listed()) == [("notebook", 1, "JOB_STATE_FAILED", "up_for_retry")]


def test_a_record_of_the_try_before_has_that_one_s_times_and_state(rows, listed):
    rows.task_instance(try_number=2, state="queued", start=later(9), seconds=None, told=record("j1"))
    rows.earlier_try(try_number=1, seconds=30)
    (row,) = listed().rows
    assert (row.task.try_number, row.state, row.task_state) == (1, "JOB_STATE_FAILED", "failed")
    assert (row.started, row.seconds(later(60)), row.job_id, row.goes_on) == (START, 30, "j1", False)


def test_a_cleared_task_shows_how_its_last_try_was(rows, listed):
    rows.task_instance(state=None, told=record("j1", **SUCCEEDED))
    rows.earlier_try(state="success")
    assert shown(listed()) == [("notebook", 1, "JOB_STATE_SUCCEEDED", "success")]


def test_a_task_that_goes_on_has_no_end_whatever_is_written_there(rows, listed):
    rows.task_instance(state="running", seconds=5, told=record("j1"))
    (row,) = listed().rows
    assert (row.ended, row.seconds(later(10)), row.goes_on) == (None, 600, True)


def test_tries_that_never_ran_and_tasks_without_a_record_are_not_listed(rows, listed):
    rows.task_instance(told=record("j1", **SUCCEEDED))
    for number, (state, start) in enumerate([("failed", None), ("skipped", START), ("upstream_failed", START)], 2):
        rows.task_instance(run_id=f"run_{number}", state=state)
        rows.earlier_try(run_id=f"run_{number}", state=state, start=start)
    rows.task_instance(task_id="load", told={"a": 1}, key="return_value")
    rows.earlier_try(task_id="load")
    rows.task_instance("weather", "notebook", told={"a": 1}, key="return_value")
    rows.earlier_try("weather", "notebook")
    listing = listed()
    assert shown(listing) == [("notebook", 1, "JOB_STATE_SUCCEEDED", "success")]
    assert listing.tasks == [("reports", "notebook")]


def test_a_task_id_of_one_dag_is_not_that_of_another(rows, listed):
    rows.task_instance("reports", "a", told=record("j1"))
    rows.task_instance("weather", "b", told=record("j2"))
    rows.task_instance("weather", "a", "run_9")
    rows.earlier_try("weather", "a", "run_9")
    assert {(row.task.dag_id, row.task.task_id) for row in listed().rows} == {("reports", "a"), ("weather", "b")}


# --- who may see ---


def test_nothing_of_a_dag_that_may_not_be_read_is_anywhere(rows, listed):
    for dag_id in ("reports", "secret"):
        rows.task_instance(dag_id, try_number=2, told=record("j", try_number=2, **SUCCEEDED))
        rows.earlier_try(dag_id)
    listing = listed({"reports"})
    assert {row.task.dag_id for row in listing.rows} == {"reports"}
    assert (listing.total, sum(listing.counts.values())) == (2, 2)
    assert listing.tasks == [("reports", "notebook")]
    assert list(listing.runs) == [("reports", "notebook")]
    for listing in (listed({"reports"}, dag_id="secret"), listed(set()), listed({"reports"}, text="secret")):
        assert (listing.rows, listing.total, listing.counts, listing.runs) == ([], 0, {}, {})
    assert listed(set()).tasks == []


# --- filters ---


@pytest.fixture
def different(rows):
    """Four jobs, told apart by everything that may be asked for."""
    rows.task_instance(start=later(3), told=record("job-a", **SUCCEEDED))
    rows.task_instance(run_id="manual__100%", start=later(2), told=record("job-b", **FAILED))
    rows.task_instance(task_id="east_west", start=later(1), told=record("job-c", **SUCCEEDED))
    rows.task_instance("weather", map_index=4, rendered_map_index="Zürich", told=record("job-d"), state="running")


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({"dag_id": "weather"}, "d"),
        ({"dag_id": "weath"}, ""),
        ({"task_id": "notebook"}, "abd"),
        ({"dag_id": "reports", "task_id": "notebook"}, "ab"),
        ({"state": "JOB_STATE_FAILED"}, "b"),
        ({"state": "ACTIVE"}, "d"),
        ({"state": "JOB_STATE_EXPIRED"}, ""),
        ({"text": "WEATHER"}, "d"),
        ({"text": "T_W"}, "c"),
        ({"text": "manual__"}, "b"),
        ({"text": "100%"}, "b"),
        ({"text": "%"}, "b"),
        ({"text": "1%"}, ""),
        ({"text": "o_e"}, ""),  # `_` is no wildcard
        ({"text": "\\"}, ""),
        ({"text": "'"}, ""),
        ({"text": "JOB-C"}, "c"),
        ({"text": "notebookExecutionJobs/job-"}, "abcd"),
        ({"text": "rich"}, "d"),
        ({"since": later(2)}, "ab"),
        ({"until": later(2)}, "cd"),
        ({"since": later(1), "until": later(3)}, "bc"),
        ({"since": later(2), "state": "JOB_STATE_SUCCEEDED", "text": "notebook"}, "a"),
    ],
)
def test_filters(different, listed, wanted, expected):
    listing = listed(**wanted)
    assert "".join(row.job_id[-1] for row in listing.rows) == expected
    assert listing.total == len(expected)


def test_counts_are_those_of_the_other_filters(different, listed):
    every = {"JOB_STATE_SUCCEEDED": 2, "ACTIVE": 1, "JOB_STATE_FAILED": 1}
    assert list(listed().counts.items()) == list(every.items())
    assert listed(state="JOB_STATE_FAILED").counts == every
    assert listed(state="ACTIVE", dag_id="reports").counts == {"JOB_STATE_SUCCEEDED": 2, "JOB_STATE_FAILED": 1}


def test_the_choice_of_dags_and_tasks_does_not_shrink(different, listed):
    every = [("reports", "east_west"), ("reports", "notebook"), ("weather", "notebook")]
    assert listed().tasks == listed(dag_id="weather").tasks == listed(dag_id="none").tasks == every


# --- pages ---


def test_each_job_is_on_one_page(rows, listed):
    numbers = range(2 * PAGE_SIZE + 5)
    for number in numbers:
        rows.task_instance(run_id=f"run_{number}", start=later(number // 40), told=record(f"j{number}", **SUCCEEDED))
    pages = [listed(page=page) for page in (1, 2, 3)]
    assert [len(page.rows) for page in pages] == [PAGE_SIZE, PAGE_SIZE, 5]
    assert [(page.first, page.page, page.pages, page.total) for page in pages] == [
        (1, 1, 3, 105),
        (51, 2, 3, 105),
        (101, 3, 3, 105),
    ]
    rows_of_all = [row for page in pages for row in page.rows]
    assert {row.job_id for row in rows_of_all} == {f"j{number}" for number in numbers}
    started = [row.started for row in rows_of_all]
    assert started == sorted(started, reverse=True)
    beyond = listed(page=999_999_999)
    assert (beyond.page, beyond.rows) == (3, pages[2].rows)


# --- charts ---


def test_runs_of_a_chart_are_the_last_of_its_task_whatever_is_asked_for(rows, listed):
    for number in range(CHART_RUNS + 5):
        told = record(f"j{number}", try_number=2, **(FAILED if number == 7 else SUCCEEDED))
        rows.task_instance(run_id=f"run_{number:02}", try_number=2, start=later(10 * number), told=told)
        rows.earlier_try(run_id=f"run_{number:02}", start=later(10 * number - 5))
    rows.task_instance(task_id="other", told=record("other", **SUCCEEDED))
    runs = listed(state="JOB_STATE_FAILED", text="run_07").runs
    assert list(runs) == [("reports", "notebook")]
    (last,) = runs.values()
    assert [(run.task.run_id, run.task.try_number) for run in last] == [
        (f"run_{number:02}", number_of_try) for number in range(15, 25) for number_of_try in (1, 2)
    ]
    assert last[-1].seconds(later(0)) == 60


# --- cost ---


def test_the_number_of_queries_is_the_same_for_10_and_1000_jobs(rows, listed, engine):
    queries = []

    @event.listens_for(engine, "before_cursor_execute")
    def count(*arguments):
        if arguments[2].lstrip().upper().startswith(("SELECT", "WITH")):
            queries.append(arguments[2])

    try:
        numbers = []
        for start, end in ((0, 10), (10, 1000)):
            for number in range(start, end):
                dag_id = ("reports", "weather")[number % 2]
                told = record(f"j{number}", **FAILED)
                rows.task_instance(dag_id, f"task_{number % 30}", f"run_{number}", start=later(number), told=told)
            listed()
            for wanted in ({}, {"page": 2}, {"text": "j"}, {"state": "JOB_STATE_FAILED"}, {"dag_id": "weather"}):
                queries.clear()
                assert listed(**{**wanted, "page": 1}).rows
                numbers.append(len(queries))
    finally:
        event.remove(engine, "before_cursor_execute", count)
    assert set(numbers) == {2}


@pytest.mark.parametrize("dialect", [postgresql.dialect(), mysql.dialect()], ids=["postgresql", "mysql"])
def test_the_statement_can_be_written_for_other_databases(dialect):
    wanted = JobFilter(text="100%", state="ACTIVE", since=START, page=3)
    sql = str(page_of_jobs([("reports", "notebook")], wanted).compile(dialect=dialect))
    assert "WITH tries AS" in sql
    assert "row_number() OVER (PARTITION BY" in sql
