"""Pass on to a waiting trigger the states and the errors that a watch found, and to its task's log."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.job import JobState
from airflow_provider_nbjob.job.record import JobSteps
from airflow_provider_nbjob.outages import ANSWERS_AGAIN, FAILED, Streak
from airflow_provider_nbjob.triggers.supervision import PASSING
from airflow_provider_nbjob.triggers.sweeps import Seen

if TYPE_CHECKING:
    from airflow_provider_nbjob.triggers.job_watch import JobWatch

log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Waiter:
    """One trigger that waits for a job.

    :param watch: that it waits at; it changes when two watches turn out to be of the same project
    :param streak: of the errors since a poll of its job was answered
    :param failures: number of failed polls since the outage was logged in its task's log; 0 if there is no outage
    :param is_refused: whether the last poll of this job alone failed
    :param is_faulty: whether a fault of ours kept the waiter from taking the last poll of this job
    :param state: that was logged last in its task's log
    """

    watch: JobWatch
    job_id: str
    interval: float
    log: Any
    steps: JobSteps
    ended: asyncio.Future[Seen]
    streak: Streak
    failures: int = 0
    since: float = 0.0
    is_refused: bool = False
    is_faulty: bool = False
    state: JobState | None = None
    # The trigger's own: a line that is logged in it goes to the log of its task.
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    _timer: asyncio.TimerHandle | None = None

    def check_every(self, seconds: float) -> None:
        """See to it that the watch runs, now and at intervals, for as long as this waits."""
        if not self.ended.done():
            self.watch.loop.check()
            # A thousand coroutines that wait with a timeout would take a megabyte more than as many timers.
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(seconds, self.check_every, seconds, context=self.context)

    def check_no_more(self) -> None:
        """End what `check_every` began."""
        if self._timer:
            self._timer.cancel()

    def fail(self, error: BaseException, *, is_refused: bool) -> None:
        """Note a poll that failed; log the first one in the task's log.

        :param is_refused: whether the poll was of this job alone
        """
        if self.ended.done():
            return
        self.is_refused = self.is_refused or is_refused
        self.failures += 1
        if final := self.streak.failed(f"Notebook job {self.watch.name_of(self.job_id)}", error):
            self.ended.set_exception(final)
        elif self.failures == 1:
            self.since = time.monotonic()
            self._say("warning", FAILED, error)

    def answer(self) -> None:
        """Note an answer that shows the job, unless a fault of ours may keep the waiter from it; see `tell`."""
        if not self.is_faulty:
            self.streak.answered()
            if self.is_refused:
                self.recover()

    def recover(self) -> None:
        """Note the end of an outage, and log it in the task's log."""
        failures, self.failures, self.is_refused, self.is_faulty = self.failures, 0, False, False
        self.streak.answered()
        if failures and not self.ended.done():
            self._say("info", ANSWERS_AGAIN, failures, time.monotonic() - self.since)

    def tell(self, seen: Seen) -> None:
        """Note the state of the job, and log it in the task's log if it has changed."""
        if self.ended.done():
            return
        if seen.state.is_terminal:
            self.ended.set_result(seen)
        self.steps.add(seen.state, seen.update_time)
        if seen.state != self.state:
            self.state = seen.state
            self._say("info", "Notebook job %s is %s", self.job_id, seen.state.description)

    def _say(self, level: str, text: str, *values: Any) -> None:
        """Log a line in the task's log. A log that fails is no error of the watch, nor of other waiters."""
        try:
            self.context.run(getattr(self.log, level), text, *values)
        except PASSING:
            raise
        except BaseException as error:
            log.warning("The log of a task that waits for job %s failed: %r", self.job_id, error)
