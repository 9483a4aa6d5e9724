"""Wait on an event loop for a time, and lose no cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def within(seconds: float | None, coroutine: Coroutine[Any, Any, T]) -> T:
    """Return what a coroutine returns, or raise what it raises, within a time.

    `asyncio.wait_for` swallows a cancellation that comes just as the coroutine ends, up to Python 3.11: a trigger that
    was taken away would go on, and not stop its job. Here a cancellation is always raised.

    :param seconds: after which the coroutine is cancelled; it is not begun if they are over, and not bounded by None
    :raises asyncio.TimeoutError: if the time was over
    """
    if seconds is None:
        return await coroutine
    inner = asyncio.ensure_future(coroutine)
    is_late = False
    try:
        if seconds > 0:
            await asyncio.wait({inner}, timeout=seconds)
        is_late = not inner.done()
    finally:
        if not inner.done():
            inner.cancel()
            await asyncio.wait({inner})
        if not inner.cancelled():
            inner.exception()  # asyncio would log one that nobody asked for
    if is_late and inner.cancelled():
        raise asyncio.TimeoutError
    return inner.result()
