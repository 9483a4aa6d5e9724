"""How a rendered notebook is shown: as a page without scripts, without an origin, that loads nothing.

The notebook is sanitized before; this is the second wall, in the reader's browser.

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
    "sandbox",  # here too, for who opens the document's own address
)

# With these the document must be served.
DOCUMENT_HEADERS: Mapping[str, str] = MappingProxyType(
    {
        "Content-Type": "text/html; charset=utf-8",
        "Content-Security-Policy": "; ".join(_POLICY),
        "X-Content-Type-Options": "nosniff",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Cache-Control": "private, no-store",  # whoever may see it now, may not at another time
    }
)
