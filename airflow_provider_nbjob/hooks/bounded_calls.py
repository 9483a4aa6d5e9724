"""Wait for a call that may hang, and no longer than a given time."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from concurrent.futures import Future, TimeoutError
from typing import TypeVar

from airflow_provider_nbjob.exceptions import ApiError

T = TypeVar("T")

CALLS_MAX = 64  # at once in a process, including those that were given up

_calls = threading.BoundedSemaphore(CALLS_MAX)


def within(seconds: float, what: str, call: Callable[[], T]) -> T:
    """Return the result of a call, or raise its error, within a time.

    A timeout of `requests` bounds the wait for the next bytes only: neither an answer that comes byte by byte nor the
    look-up of a host's name. So the call is made in a thread, which is left to itself when the time is over.

    :param seconds: that the call may take
    :param what: the call does, such as ``"read gs://bucket/notebook.ipynb"``
    :raises ApiError: DEADLINE_EXCEEDED if it takes longer, RESOURCE_EXHAUSTED if `CALLS_MAX` calls go on
    """
    calls = _calls
    if not calls.acquire(blocking=False):
        raise ApiError(f"Could not {what}: {CALLS_MAX} calls of this kind go on in this process", "RESOURCE_EXHAUSTED")
    outcome: Future[T] = Future()
    context = contextvars.copy_context()

    def run() -> None:
        try:
            outcome.set_result(context.run(call))
        except BaseException as error:  # of any kind: it is raised in the thread that waits for it
            outcome.set_exception(error)
        finally:
            calls.release()

    try:
        threading.Thread(target=run, name=f"nbjob: {what[:80]}", daemon=True).start()
    except RuntimeError as error:  # the process can start no more threads
        calls.release()
        raise ApiError(f"Could not {what}: {error}", "RESOURCE_EXHAUSTED") from error
    try:
        return outcome.result(max(0.0, seconds))
    except TimeoutError:
        if outcome.done():  # the error is the call's own, or it has ended since
            return outcome.result()
    raise ApiError(f"Could not {what}: it took longer than {seconds:.0f} s", "DEADLINE_EXCEEDED")
