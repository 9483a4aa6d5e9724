"""Serve the page of all jobs that a user may see."""

from __future__ import annotations

from datetime import datetime, timezone
from urllib.parse import quote

from fastapi import APIRouter, HTTPException, Request
from fastapi.responses import HTMLResponse

from airflow_provider_nbjob.plugins.notebook_jobs.airflow_compat import create_session
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import NOT_MAPPED, ReaderOfDags, TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.charts import charts_of
from airflow_provider_nbjob.plugins.notebook_jobs.durations import age_text
from airflow_provider_nbjob.plugins.notebook_jobs.filters import JobFilter, field_text
from airflow_provider_nbjob.plugins.notebook_jobs.listing import list_jobs
from airflow_provider_nbjob.plugins.notebook_jobs.pages import page
from airflow_provider_nbjob.plugins.notebook_jobs.queries import CHART_RUNS
from airflow_provider_nbjob.plugins.notebook_jobs.urls import URL_PREFIX

SOON, LATER = 10, 30  # seconds until the page is refreshed, if a job of it has not ended, and if all have

router = APIRouter(redirect_slashes=False)


@router.get("/")
def jobs(request: Request, reader: ReaderOfDags) -> HTMLResponse:
    """Return the page for a query that `JobFilter` reads."""
    try:
        wanted = JobFilter.parse(request.query_params.multi_items())
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    with create_session(scoped=False) as session:
        listing = list_jobs(session, reader.dag_ids, wanted, narrow=reader.narrow)
    now = datetime.now(timezone.utc)
    airflow_base = request.scope.get("root_path", "").removesuffix(URL_PREFIX)
    return page(
        "jobs.html",
        request,
        title="Notebook jobs",
        wanted=wanted,
        listing=listing,
        charts=charts_of(listing.runs, now),
        chart_runs=CHART_RUNS,
        now=now,
        field_text=field_text,
        age=lambda moment: age_text((now - moment).total_seconds()),
        in_airflow=lambda task: airflow_base + path_in_airflow(task),
        refresh_seconds=SOON if any(row.goes_on for row in listing.rows) else LATER,
    )


def path_in_airflow(task: TaskRef) -> str:
    """Return the path of a try's page in Airflow's own UI, below its base URL."""
    dag, run, name = (quote(part, safe="") for part in (task.dag_id, task.run_id, task.task_id))
    mapped = "" if task.map_index == NOT_MAPPED else f"/mapped/{task.map_index}"
    shown = f"?try_number={task.try_number}" if task.try_number else ""
    return f"/dags/{dag}/runs/{run}/tasks/{name}{mapped}{shown}"
