"""The tab of a task instance: its job, and the notebook below it."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from datetime import datetime, timezone
from typing import Literal

from airflow.utils.session import create_session
from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response

from airflow_provider_nbjob.exceptions import JobLost, NotebookUnreadable
from airflow_provider_nbjob.plugins.notebook_jobs.access import ReadableTask, TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.bounded import SECONDS, Bounded, TookTooLong
from airflow_provider_nbjob.plugins.notebook_jobs.job_view import (
    JobView,
    Outcomes,
    find_job,
    make_hook,
    recorded_view,
    source_of,
    view_of,
)
from airflow_provider_nbjob.plugins.notebook_jobs.pages import page
from airflow_provider_nbjob.plugins.notebook_jobs.recent import Recent
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import TaskData, load_task
from airflow_provider_nbjob.plugins.notebook_jobs.timeline import steps_of
from airflow_provider_nbjob.rendering import (
    DOCUMENT_HEADERS,
    NotRendered,
    RendererMissing,
    RenderingCache,
    is_installed,
    render,
)

log = logging.getLogger(__name__)

# The API's quota is 60 to 600 requests a minute, by project and region; a tab that is watched takes 6 of them.
REFRESH_SECONDS = 10
NO_JOB = (
    "No notebook job is known of this task. A task that runs a notebook as a Vertex AI NotebookExecutionJob shows it"
    " here, once it has submitted it."
)

router = APIRouter()
_google = Bounded()
_outcomes = Outcomes()
_documents = RenderingCache()
_views = Recent(seconds=REFRESH_SECONDS / 2)


@router.get("/task")
async def task_tab(request: Request, ref: ReadableTask) -> Response:
    """The job of a task instance's try, with all that is known of it."""
    task = await run_in_threadpool(_load, ref)
    if task is None:
        return page("message.html", request, status=404, title="Notebook", message="There is no such task instance.")
    if not task.is_notebook_task:
        return page("message.html", request, title="Notebook", message=NO_JOB)
    try:
        view = await _google.run(_view, task)
    except TookTooLong as error:
        view = replace(recorded_view(task), problem=str(error))
    now = datetime.now(timezone.utc)
    return page(
        "task.html",
        request,
        title=f"Notebook of {ref.task_id}",
        task=task,
        view=view,
        now=now,
        steps=steps_of(view, now),
        refresh_seconds=REFRESH_SECONDS if view.is_active or task.picked.is_unfinished else 0,
        can_render=is_installed(),
        missing=str(RendererMissing()),
    )


@router.get("/notebook")
async def notebook(ref: ReadableTask, theme: Literal["light", "dark"] = "light") -> Response:
    """The notebook of a try as a document for a sandboxed frame: the executed one, or the source until there is one."""
    task = await run_in_threadpool(_load, ref)
    if task is None:
        raise HTTPException(404, "There is no such task instance.")
    try:
        document = await _google.run(_document, task, theme)
    except (JobLost, NotebookUnreadable, NotRendered, RendererMissing) as error:
        raise HTTPException(404, str(error)) from None
    except Exception as error:  # no such connection, no answer
        log.warning("The notebook of %s could not be shown", ref, exc_info=True)
        raise HTTPException(503, f"The notebook could not be read: {error}") from None
    return HTMLResponse(document, headers=dict(DOCUMENT_HEADERS))


def _load(ref: TaskRef) -> TaskData | None:
    with create_session(scoped=False) as session:
        return load_task(session, ref)


def _view(task: TaskData) -> JobView:
    """The view of a task's job, which those who look at the same time share."""
    return _views.get((task.ref, task.tries, str(task.record)), lambda: view_of(task, _outcomes))


def _document(task: TaskData, theme: Literal["light", "dark"]) -> bytes:
    """The rendered notebook, from the cache where its object has not changed.

    :raises NotRendered: where it cannot be, and why
    """
    end_time = time.monotonic() + SECONDS - 0.5
    hook = make_hook(task)
    job = find_job(hook, task)
    if job is None:
        raise JobLost("There is no job.")
    stored = hook.stat_output_notebook(job, retry=False)
    failing_cell = _outcomes.of(hook, stored).failing_cell if stored else None
    key = (stored or (job.name, "source"), theme)
    if document := _documents.get(key):
        return document
    content = _outcomes.content(hook, stored) if stored else source_of(hook, find_job(hook, task, "FULL"))
    document = render(content, theme=theme, failing_cell=failing_cell, timeout=end_time - time.monotonic())
    _documents.put(key, document)
    return document
