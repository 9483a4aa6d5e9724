"""Make pages from templates, and define the headers of all responses."""

from __future__ import annotations

import json
from datetime import datetime, timezone

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, PackageLoader, StrictUndefined

from airflow_provider_nbjob.plugins.notebook_jobs.durations import age_text, duration_text

# A page loads nothing from other hosts, and runs no inline scripts.
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self';"
        " frame-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'self'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}

_templates = Environment(
    loader=PackageLoader("airflow_provider_nbjob.plugins.notebook_jobs"),
    autoescape=True,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=StrictUndefined,
)


def page(template: str, request: Request, *, status: int = 200, **values: object) -> HTMLResponse:
    """Return a page from a template, to which `base` is the URL path of this application with a trailing slash."""
    base = f"{request.scope.get('root_path', '')}/"
    return HTMLResponse(_templates.get_template(template).render(base=base, **values), status_code=status)


_templates.filters["duration"] = duration_text
_templates.filters["age"] = lambda moment: age_text((datetime.now(timezone.utc) - moment).total_seconds())
_templates.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False, default=str)
