"""Isolate a rendered notebook in the browser: it runs no scripts, has no origin and loads nothing.

The notebook is sanitized before. This is a second barrier, in the reader's browser.

Example:
    ``<iframe sandbox="" src="/notebooks/42#cell-3" title="Executed notebook"></iframe>``
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

# The iframe's `sandbox` attribute: empty, so that nothing is allowed, neither scripts nor the origin of the page.
SANDBOX = ""

_POLICY = (
    "default-src 'none'",
    "img-src data:",
    "style-src 'unsafe-inline'",
    "font-src data:",
    "base-uri 'none'",
    "form-action 'none'",
    "frame-ancestors 'self'",
    "sandbox",  # for readers who open the document's own URL, without the iframe
)

# The document must be served with these headers.
DOCUMENT_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(_POLICY),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-store",  # a user who may read it now may lose the permission
    }
)
