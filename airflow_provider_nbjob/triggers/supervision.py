"""A loop of the event loop that is started again if it ends or stands still."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from airflow_provider_nbjob.triggers.api_calls import harmless

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0  # after which a loop that has ended is started again; doubled each time, up to `RESTART_MAX`
RESTART_MAX = 60.0
LATE_SECONDS = 60.0  # by which a step of the loop may be late
# KeyboardInterrupt ends the process, the two others a coroutine. After anything else that is raised, the loop goes on.
PASSING = (KeyboardInterrupt, GeneratorExit, asyncio.CancelledError)


class SupervisedLoop:
    """Keeps a loop running for as long as it is needed.

    It is supervised twice: by a callback at its end, and by those who need it, who call `check` now and then.

    :param run: the loop; it returns if it is not needed any more
    :param is_needed: returns whether it is
    :param on_fault: called with the error after which the loop is started again
    :param name: names the loop, for the log
    """

    def __init__(
        self,
        run: Callable[[], Coroutine[Any, Any, None]],
        *,
        is_needed: Callable[[], bool],
        on_fault: Callable[[BaseException], None],
        name: Callable[[], str],
    ) -> None:
        self._run, self._is_needed, self._on_fault, self._name = run, is_needed, on_fault, name
        self.task: asyncio.Task[None] | None = None
        self._restarts = 0  # since the loop last got on
        self._restart_at = 0.0
        self._beats = 0
        self._late_after = 0.0  # when the next beat is late
        self._missed = 0  # the last beat before the one that was found to be late

    def start(self) -> None:
        """Start the loop, unless it runs, is not needed, or has ended and `_ended` is to come."""
        if self._is_needed() and self.task is None:
            self.beat(0)
            # In a context of its own: what the loop logs belongs to no task of Airflow's.
            self.task = contextvars.Context().run(asyncio.ensure_future, self._run_harmlessly())
            self.task.add_done_callback(self._ended, context=contextvars.Context())

    def stop(self) -> None:
        """End the loop."""
        task, self.task = self.task, None
        if task:
            task.cancel()

    def beat(self, seconds: float) -> None:
        """Note that the loop goes on, and that its next step takes so many seconds."""
        self._beats += 1
        self._late_after = time.monotonic() + seconds + LATE_SECONDS

    def gets_on(self) -> None:
        """Note that the loop did its work: the next fault is the first one again."""
        self._restarts = 0

    def check(self) -> None:
        """See to it that the loop runs, and is in time; never raises."""
        try:
            if self.task is None:
                if time.monotonic() >= self._restart_at:
                    self.start()
            elif self.task.done():
                self._ended(self.task)  # this is called before the callback, or the callback failed
            elif time.monotonic() > self._late_after:
                self._miss(self.task)
        except PASSING:
            raise
        except BaseException as error:
            log.error("Supervising %s failed, and will be tried again: %r", self._name(), error)

    async def _run_harmlessly(self) -> None:
        try:
            await self._run()
        except PASSING:
            raise
        except BaseException as error:  # of SystemExit asyncio would end the event loop, and so all triggers
            raise harmless(error)  # noqa: B904

    def _ended(self, task: asyncio.Task[None]) -> None:
        if task is not self.task:
            return  # it was stopped
        self.task = None
        if not task.cancelled() and task.exception() is None:
            self.start()  # it was not needed any more; and now it is again
        else:
            error = None if task.cancelled() else task.exception()
            self._restart(error or RuntimeError("the loop of the watch was cancelled"))

    def _restart(self, error: BaseException) -> None:
        """Start the loop again, after a pause that grows with each time that this is needed."""
        pause = min(RESTART_MAX, RESTART_SECONDS * 2 ** min(self._restarts, 10))
        self._restarts += 1
        self._restart_at = time.monotonic() + pause
        asyncio.get_running_loop().call_later(pause, self.start, context=contextvars.Context())
        if self._is_needed():
            log.error("%s ended, and is started again in %.0f s: %r", self._name(), pause, error)
            self._on_fault(error)

    def _miss(self, task: asyncio.Task[None]) -> None:
        if self._missed != self._beats:
            # The event loop itself may have stood still: then what the loop waits for is due now as well.
            self._missed = self._beats
            return
        late = LATE_SECONDS + time.monotonic() - self._late_after
        log.error("%s is late by %.0f s, so it is ended", self._name(), late)
        task.cancel()
        self.task = None
        self._restart(TimeoutError("the watch stood still"))
