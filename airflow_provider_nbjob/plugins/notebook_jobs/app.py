"""The ASGI application. Each of its routes requires a signed-in user and checks what that user may read."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, Response
from starlette.exceptions import HTTPException as StarletteHTTPException

from airflow_provider_nbjob.plugins.notebook_jobs import jobs_page, task_page
from airflow_provider_nbjob.plugins.notebook_jobs.airflow_compat import get_user
from airflow_provider_nbjob.plugins.notebook_jobs.pages import HEADERS, page

log = logging.getLogger(__name__)

STATIC = {
    **dict.fromkeys(("notebook-jobs.css", "jobs.css", "task.css"), "text/css"),
    "notebook-jobs.js": "text/javascript",
}
FOLDER = Path(__file__).parent / "static"

# A redirect to the path with a slash, or without it, would be sent before the sign-in and contain the Host header.
app = FastAPI(
    title="Notebook jobs",
    openapi_url=None,
    docs_url=None,
    redoc_url=None,
    redirect_slashes=False,
    dependencies=[Depends(get_user)],
)
app.include_router(jobs_page.router)
app.include_router(task_page.router)


@app.middleware("http")
async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Add the headers that a response lacks, and return a page for an unexpected error."""
    try:
        response = await call_next(request)
    except Exception:  # raised beyond this application, it would close the connection
        log.exception("%s failed", request.url.path)
        message = "This page could not be made; the API server's log says why."
        response = page("message.html", request, status=500, title="Notebook", message=message)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


@app.exception_handler(StarletteHTTPException)
async def tell(request: Request, error: StarletteHTTPException) -> Response:
    """Return an error as a page: Airflow shows it in a frame."""
    answer = page("message.html", request, status=error.status_code, title="Notebook", message=str(error.detail))
    answer.headers.update(error.headers or {})
    return answer


@app.get("/static/{name}")
def static(name: str) -> Response:
    """Return a style sheet or the script."""
    if name not in STATIC:
        raise HTTPException(404, "There is no such file.")
    return FileResponse(FOLDER / name, media_type=STATIC[name], headers={"Cache-Control": "private, no-cache"})
