"""The routes. Each needs a signed-in user, and each checks what that user may read."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from airflow.api_fastapi.core_api.security import get_user
from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, HTMLResponse, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

HERE = Path(__file__).parent
# Of our own pages: nothing is loaded from another host, nothing runs that is written into the page.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}
STATIC = {"notebook-jobs.css": "text/css", "notebook-jobs.js": "text/javascript"}

templates = Environment(
    loader=PackageLoader("airflow_provider_nbjob.plugins.notebook_jobs"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)
app = FastAPI(title="Notebook jobs", openapi_url=None, docs_url=None, redoc_url=None, dependencies=[Depends(get_user)])


@app.middleware("http")
async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Give every answer the headers that it does not have."""
    response = await call_next(request)
    for name, value in HEADERS.items():
        response.headers.setdefault(name, value)
    return response


@app.exception_handler(HTTPException)
async def tell(request: Request, error: HTTPException) -> Response:
    """An error as a page: it is shown in a frame of Airflow's."""
    return page("message.html", request, status=error.status_code, title="Notebook", message=str(error.detail))


def page(template: str, request: Request, *, status: int = 200, **values: Any) -> HTMLResponse:
    """A page from a template; `base` is the URL path of this application, with a closing slash."""
    base = f"{request.scope.get('root_path', '')}/"
    return HTMLResponse(templates.get_template(template).render(base=base, **values), status_code=status)


@app.get("/static/{name}")
def static(name: str) -> Response:
    """The style sheet and the script."""
    if name not in STATIC:
        raise HTTPException(404, "There is no such file.")
    return FileResponse(HERE / "static" / name, media_type=STATIC[name], headers={"Cache-Control": "private, no-cache"})
