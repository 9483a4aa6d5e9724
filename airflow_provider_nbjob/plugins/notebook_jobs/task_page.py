"""Serve the tab of a task instance: its job, and the notebook below it."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from io import BytesIO
from typing import Literal, TypeVar

from fastapi import APIRouter, HTTPException, Request
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, Response

from airflow_provider_nbjob.exceptions import JobLost, NotebookUnreadable
from airflow_provider_nbjob.notebook.executed import read_executed
from airflow_provider_nbjob.plugins.notebook_jobs.airflow_compat import create_session
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import ReadableTask, Reader, ReaderOfTask, TaskRef
from airflow_provider_nbjob.plugins.notebook_jobs.bounded_executor import SECONDS, BoundedExecutor, TookTooLong
from airflow_provider_nbjob.plugins.notebook_jobs.hidden import TooManySecrets
from airflow_provider_nbjob.plugins.notebook_jobs.job_view import (
    NO_PLACE,
    JobView,
    hidden_of,
    recorded_view,
    shown,
    view_of,
)
from airflow_provider_nbjob.plugins.notebook_jobs.lookup import NotOurs, look_up
from airflow_provider_nbjob.plugins.notebook_jobs.notebooks import MIB, Outcome, Outcomes, redacted, source_of
from airflow_provider_nbjob.plugins.notebook_jobs.pages import page
from airflow_provider_nbjob.plugins.notebook_jobs.problems import public_message
from airflow_provider_nbjob.plugins.notebook_jobs.queries import load_task
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import TaskData
from airflow_provider_nbjob.plugins.notebook_jobs.timeline import steps_of
from airflow_provider_nbjob.plugins.notebook_jobs.ttl_cache import TTLCache
from airflow_provider_nbjob.rendering import (
    DOCUMENT_HEADERS,
    NOTEBOOK_MAX_BYTES,
    NotRendered,
    RendererMissing,
    is_installed,
    render,
)

T = TypeVar("T")

log = logging.getLogger(__name__)

# The API's quota is 60 to 600 requests a minute, by project and region. An open tab needs 6 of them.
REFRESH_SECONDS = 10
NO_JOB = (
    "No notebook job is known of this task. A task that runs a notebook as a Vertex AI NotebookExecutionJob shows it"
    " here, once it has submitted it."
)

NOT_READABLE = "You may not read the logs of this DAG's tasks, and the notebook is one of them."

router = APIRouter(redirect_slashes=False)
_google = BoundedExecutor()
_outcomes = Outcomes()
_documents: TTLCache[bytes] = TTLCache(max_bytes=64 * MIB)
_views: TTLCache[JobView] = TTLCache(max_bytes=32 * MIB, max_items=500, seconds=REFRESH_SECONDS / 2)


@router.get("/task")
async def task_tab(request: Request, ref: ReadableTask, reader: ReaderOfTask) -> Response:
    """Return the page of a try's job, with all of it that is known and that the reader may see."""
    task = await run_in_threadpool(_load, ref, with_record=reader.xcoms)
    if task is None:
        return page("message.html", request, status=404, title="Notebook", message="There is no such task instance.")
    if not task.is_notebook_task:
        return page("message.html", request, title="Notebook", message=NO_JOB)
    is_late = False
    try:
        view = await _run("view", task, reader, lambda: _view(task))
    except TookTooLong as error:
        view, is_late = replace(recorded_view(task), problem=str(error)), True
    view = await run_in_threadpool(shown, view, task, reader)
    now = datetime.now(timezone.utc)
    return page(
        "task.html",
        request,
        title=f"Notebook of {ref.task_id}",
        task=task,
        view=view,
        now=now,
        steps=steps_of(view, now),
        refresh_seconds=REFRESH_SECONDS if is_late or view.is_active or task.picked.is_unfinished else 0,
        can_render=is_installed(),
        missing=str(RendererMissing()),
    )


@router.get("/notebook")
async def notebook(ref: ReadableTask, reader: ReaderOfTask, theme: Literal["light", "dark"] = "light") -> Response:
    """Return the executed notebook of a try, or else its source, as a document for a sandboxed frame."""
    if not reader.logs:
        raise HTTPException(403, NOT_READABLE)
    task = await run_in_threadpool(_load, ref, with_record=reader.xcoms)
    if task is None:
        raise HTTPException(404, "There is no such task instance.")
    try:
        document = await _run(theme, task, reader, lambda: _document(task, theme))
    except (JobLost, NotOurs, NotebookUnreadable, NotRendered, RendererMissing, TooManySecrets) as error:
        raise HTTPException(404, public_message(error)) from None
    except TookTooLong as error:
        raise HTTPException(503, f"The notebook could not be read: {error}") from None
    except Exception as error:  # no such connection, no answer
        log.warning("The notebook of %s could not be shown", ref, exc_info=True)
        raise HTTPException(503, f"The notebook could not be read: {public_message(error)}") from None
    return HTMLResponse(document, headers=dict(DOCUMENT_HEADERS))


def _load(ref: TaskRef, *, with_record: bool = True) -> TaskData | None:
    with create_session(scoped=False) as session:
        return load_task(session, ref, with_record=with_record)


async def _run(what: str, task: TaskData, reader: Reader, function: Callable[[], T]) -> T:
    """Run what sends requests to Google Cloud: once for all who request the same, within the limits of each of them."""
    claims = {"user": reader.user_id, "place": task.place}
    return await _google.run(function, key=(what, task.key), claims=claims)


def _view(task: TaskData) -> JobView:
    """Return the view of a task's job, cached for all readers. It may contain secrets, which `shown` removes."""
    view = _views.get(task.key)
    if view is None:
        view = view_of(task, _outcomes)
        size = type(view.job).pb(view.job).ByteSize() if view.job else 0
        _views.put(task.key, view, size + view.outcome.size)
    return view


def _document(task: TaskData, theme: Literal["light", "dark"]) -> bytes:
    """Return the rendered notebook, from the cache if neither its object nor its secrets have changed.

    :raises NotRendered: if it cannot be rendered, with the reason
    """
    end_time = time.monotonic() + SECONDS - 0.5
    if task.place is None:
        raise NotRendered(NO_PLACE)
    hook = task.place.connection.make_hook()
    lookup = look_up(hook, task)
    if lookup is None:
        raise JobLost("There is no job.")
    job = lookup.fetch(hook)
    stored = hook.files.stat_output_notebook(job, retry=False)
    secrecy = repr((task.are_rendered, task.fields.get("parameters"), task.rendered("display_name")))
    key = (task.place, stored or (job.name, "source"), theme, hashlib.sha256(secrecy.encode(errors="replace")).digest())
    if document := _documents.get(key):
        return document
    if stored:
        outcome = _outcomes.of(hook, stored, task.place)
        content = _outcomes.content(hook, stored, task.place)
    else:
        content = source_of(hook, lookup.fetch(hook, "FULL"))
        outcome = Outcome.of(read_executed(BytesIO(content), max_bytes=NOTEBOOK_MAX_BYTES))
    document = render(
        redacted(content),
        theme=theme,
        failing_cell=outcome.failing_cell if stored else None,
        secrets=hidden_of(task, outcome, job).in_notebook(outcome.parameters),
        timeout=end_time - time.monotonic(),
    )
    _documents.put(key, document, len(document))
    return document
