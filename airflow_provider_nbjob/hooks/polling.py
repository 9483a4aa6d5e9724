"""Poll a job until it has ended, on a worker. `outages` decides what an error means."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, NamedTuple, TypeVar

from airflow_provider_nbjob.exceptions import InvalidJob, JobLost, JobTimeout
from airflow_provider_nbjob.job import JobName, state_of
from airflow_provider_nbjob.job.deadlines import Deadline
from airflow_provider_nbjob.outages import CONNECTION_SECONDS_MAX, FailedLooks, rule_of

T = TypeVar("T")

CONFIRM_SECONDS = 1.0  # between an answer that the job is gone, and the one that confirms it


class Poll(NamedTuple):
    """One poll: the job, if the API answered, and the seconds until the next poll, `None` after the last."""

    job: Any
    pause: float | None


async def poll_twice(request: Callable[[], Awaitable[T]]) -> T:
    """Send a request, and once more if the answer is that the job is gone.

    :raises JobLost: if the second answer says so too
    """
    try:
        return await request()
    except JobLost:
        await asyncio.sleep(CONFIRM_SECONDS)
    return await request()


class Poller:
    """Sends the polls of one wait: waits outages out, and reads the connection anew now and then; see `outages`.

    :param log: of the task, for the begin and the end of an outage
    :param what: is polled: ``Notebook job projects/...``
    :param reread: reads the connection anew
    :param has_deadline: whether the wait has one
    :param is_known: whether what is polled was seen before; if not, INVALID_ARGUMENT is about the user's own input
    """

    def __init__(
        self, log: Any, what: str, reread: Callable[[], None], *, has_deadline: bool = True, is_known: bool = True
    ) -> None:
        self._log = log
        self.failed_looks = FailedLooks(log, what, has_deadline=has_deadline)
        self._reread = reread
        self._is_known = is_known
        self._read_at = time.monotonic()  # the connection

    def poll(self, request: Callable[[], T]) -> tuple[bool, T | None]:
        """Send a request once.

        :return: whether the API answered, and what `request` returned
        :raises NotebookExecutionJobError: `JobLost` or `JobUnwatched`, which end the wait
        :raises InvalidJob: if what is polled is not known
        """
        try:
            found = request()
        except Exception as error:
            if isinstance(error, InvalidJob) and not self._is_known:
                raise
            if final := self.failed_looks.fail(error):
                raise final from error
            self._read_anew_after(rule_of(error).reread_after or CONNECTION_SECONDS_MAX)
            return False, None
        self.failed_looks.end()
        self._is_known = True
        self._read_anew_after(CONNECTION_SECONDS_MAX)
        return True, found

    def _read_anew_after(self, seconds: float) -> None:
        if time.monotonic() - self._read_at < seconds:
            return
        self._read_at = time.monotonic()
        try:
            self._reread()
        except Exception as error:
            self._log.warning("The connection could not be read anew, so it is used as it was: %s", error)


def poll_until_ended(
    poller: Poller, get_job: Callable[[], Any], name: JobName, *, log: Any, poll_interval: float, end_time: float | None
) -> Iterator[Poll]:
    """Poll a job until it ends.

    An outage is waited out until `end_time`, see `outages`; it is logged when it begins and when it ends.

    :param get_job: reads the job; one attempt
    :param name: of the job
    :param log: of the task, for changes of the state
    :param poll_interval: seconds between polls
    :param end_time: deadline, in POSIX seconds; without one, polling goes on for as long as the job does
    :return: polls; the last one, and only that, has no pause and holds the ended job
    :raises JobTimeout: when `end_time` is reached
    :raises JobLost: if the job was deleted: two polls in a row say so
    :raises JobUnwatched: if polls are refused for good; the job goes on
    """
    state = None
    deadline = Deadline(end_time)
    while True:
        has_answer, job = poller.poll(get_job)
        if has_answer:
            if state != (state := state_of(job)):
                log.info("Notebook job %s is %s", name.job_id, state.description)
            if state.is_terminal:
                yield Poll(job, None)
                return
        remaining = deadline.remaining
        if remaining <= 0:
            raise JobTimeout(f"Notebook job {name} was {state or 'never seen'} at the deadline")
        yield Poll(
            job, min(poll_interval, CONFIRM_SECONDS if poller.failed_looks.awaits_confirmation else math.inf, remaining)
        )
