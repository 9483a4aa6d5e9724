"""The routes of an app of FastAPI, whatever its version."""

from __future__ import annotations

from typing import Any


def routes_of(app: Any) -> list[Any]:
    """Return the routes of an app or a router, with those of the routers that it includes.

    FastAPI 0.136 copies the routes of an included router; 0.165 keeps the router, as one entry without a path.
    """
    found = []
    for route in app.routes:
        included = getattr(route, "original_router", None)
        found += [route] if included is None else routes_of(included)
    return found
