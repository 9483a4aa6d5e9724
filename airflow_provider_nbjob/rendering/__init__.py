"""An executed notebook as a page that is safe to show. Knows neither Airflow nor Google.

The page is made in a process of its own; this room's names are those of the process that asks for it.
"""

from airflow_provider_nbjob.rendering.cache import RenderingCache
from airflow_provider_nbjob.rendering.isolation import DOCUMENT_HEADERS, SANDBOX
from airflow_provider_nbjob.rendering.limits import NOTEBOOK_MAX_BYTES, RENDERED_MAX_BYTES
from airflow_provider_nbjob.rendering.renderer import NotRendered, RendererMissing, Theme, is_installed, render

__all__ = [
    "DOCUMENT_HEADERS",
    "NOTEBOOK_MAX_BYTES",
    "RENDERED_MAX_BYTES",
    "SANDBOX",
    "NotRendered",
    "RendererMissing",
    "RenderingCache",
    "Theme",
    "is_installed",
    "render",
]
