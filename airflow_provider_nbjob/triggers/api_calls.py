"""Call the synchronous hook from an event loop, and survive what it may do: fail, hang, or go out of date."""

from __future__ import annotations

import asyncio
import concurrent.futures
import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import sync_to_async

from airflow_provider_nbjob.exceptions import ApiError
from airflow_provider_nbjob.outages import CONNECTION_SECONDS_MAX, rule_of

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

log = logging.getLogger(__name__)

T = TypeVar("T")

CONNECTION_RETRY_SECONDS = 60.0  # after which one that could not be read anew is asked for again
# A call that has not returned by then is given up, and its thread left behind. One request is given up after 30 s by
# the hook itself, is sent twice at most, and may need a token or a connection before.
HUNG_SECONDS = 120.0
HUNG_THREADS_MAX = 4  # left behind by one user of this module; then it waits for one of them to return

_given_up: set[asyncio.Future[Any]] = set()  # asyncio keeps only weak references to its tasks


class _OwnThreads(concurrent.futures.Executor):
    """Starts a thread for each call: in a pool, calls that hang would keep others from being made.

    :param daemon: whether the process may end while a call lasts
    """

    def __init__(self, *, daemon: bool) -> None:
        self._daemon = daemon

    def submit(self, function: Callable[..., T], /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[T]:
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function(*args, **kwargs))
                except BaseException as error:
                    future.set_exception(harmless(error))

        threading.Thread(target=run, name="nbjob-call", daemon=self._daemon).start()
        return future


async def in_thread(function: Callable[..., T], *arguments: Any, daemon: bool = True) -> T:
    """Call a function that blocks, off the event loop, in a thread of its own.

    :param daemon: whether the process may end before the function does
    :raises Exception: what the function raises
    """
    # asgiref rather than asyncio.to_thread: in Airflow 3.1 a connection can be read in the triggerer only from a
    # thread that asgiref started.
    executor: Any = _OwnThreads(daemon=daemon)
    return await sync_to_async(function, thread_sensitive=False, executor=executor)(*arguments)


def harmless(error: BaseException) -> Exception:
    """Return the error, or one in place of what an event loop takes for its own end, or cannot take at all."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    harmless = RuntimeError(f"{type(error).__name__}: {error}")
    harmless.__cause__ = error
    return harmless


class ApiCalls:
    """Calls of a hook, which is made when it is first needed.

    A new hook, with the connection as it is then, is made after errors that a changed connection may mend (see
    `outages`), and at `CONNECTION_SECONDS_MAX`. If that fails, the one before goes on being used.

    :param make_hook: called in a thread
    :param region: of the API, to drop a client that hangs
    """

    def __init__(self, make_hook: Callable[[], NotebookExecutionJobHook], region: str) -> None:
        self._make_hook = make_hook
        self._region = region
        self._hook: NotebookExecutionJobHook | None = None
        self._reread_at = 0.0  # by the monotonic clock
        self._opened_at = 0.0
        self._has_hung = False
        self._threads: set[int] = set()

    async def __call__(self, request: Callable[[NotebookExecutionJobHook], T]) -> T:
        """Call a function with the hook, in a thread, and return what it returns.

        :raises ApiError: DEADLINE_EXCEEDED if it does not return within `HUNG_SECONDS`
        :raises Exception: what the function raises, or making the hook
        """
        if len(self._threads) >= HUNG_THREADS_MAX:
            raise ApiError(f"{HUNG_THREADS_MAX} calls of the API have not returned; one must, first", "UNAVAILABLE")
        call = asyncio.ensure_future(in_thread(self._perform, request))
        try:
            done, _ = await asyncio.wait({call}, timeout=HUNG_SECONDS)
        finally:
            if not call.done():
                self._give_up(call)
        if not done:
            self._hook, self._has_hung = None, True
            error = ApiError(f"A call of the API did not return within {HUNG_SECONDS:.0f} s", "DEADLINE_EXCEEDED")
            log.error("%s; its thread is left behind, one of %s", error, len(self._threads))
            raise error
        result: T = call.result()
        return result

    @staticmethod
    def _give_up(call: asyncio.Future[Any]) -> None:
        def ended(call: asyncio.Future[Any]) -> None:
            _given_up.discard(call)
            if not call.cancelled():
                call.exception()  # asyncio would log one that nobody asked for

        _given_up.add(call)
        call.add_done_callback(ended)
        call.cancel()

    # --- in a thread ---

    def _perform(self, request: Callable[[NotebookExecutionJobHook], T]) -> T:
        thread = threading.get_ident()
        self._threads.add(thread)
        try:
            hook = self._open()
            return request(hook)
        except Exception as error:
            if (after := rule_of(error).reread_after) is not None:
                self._reread_at = min(self._reread_at, self._opened_at + after)
            raise
        finally:
            self._threads.discard(thread)

    def _open(self) -> NotebookExecutionJobHook:
        now = time.monotonic()
        hook = self._hook
        if hook is not None and now < self._reread_at:
            return hook
        self._opened_at, self._reread_at = now, now + CONNECTION_SECONDS_MAX
        try:
            hook = self._make_hook()
        except Exception as error:
            if hook is None:
                raise
            self._reread_at = now + CONNECTION_RETRY_SECONDS
            log.warning("The connection could not be read anew, so it is used as it was: %s", error)
            return hook
        if self._has_hung:
            hook.forget_client(self._region)
            self._has_hung = False
        self._hook = hook
        return hook
