"""Render an executed notebook as a page that is safe to show. Knows neither Airflow nor Google.

A separate process makes the page. The names that are exported here are for the process that starts it.
"""

from airflow_provider_nbjob.rendering.isolation import DOCUMENT_HEADERS, SANDBOX
from airflow_provider_nbjob.rendering.limits import NOTEBOOK_MAX_BYTES, RENDERED_MAX_BYTES
from airflow_provider_nbjob.rendering.renderer import NotRendered, RendererMissing, Theme, is_installed, render
from airflow_provider_nbjob.rendering.secrets import MASK, Secrets, hide, hide_in_value

__all__ = [
    "DOCUMENT_HEADERS",
    "MASK",
    "NOTEBOOK_MAX_BYTES",
    "RENDERED_MAX_BYTES",
    "SANDBOX",
    "NotRendered",
    "RendererMissing",
    "Secrets",
    "Theme",
    "hide",
    "hide_in_value",
    "is_installed",
    "render",
]
