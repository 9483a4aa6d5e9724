"""Look until a job has ended, on a worker. What an error means is decided in `outages`."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from airflow_provider_nbjob.exceptions import InvalidJob, JobLost, JobTimeout
from airflow_provider_nbjob.job import JobName, state_of
from airflow_provider_nbjob.job.deadlines import Deadline
from airflow_provider_nbjob.outages import CONNECTION_SECONDS_MAX, FailedLooks, rule_of

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

T = TypeVar("T")

CONFIRM_SECONDS = 1.0  # between an answer that the job is gone, and the one that confirms it


class Look(NamedTuple):
    """One look: the job, if the API answered, and the seconds until the next look, `None` after the last."""

    job: Any
    pause: float | None


def look_twice(look: Callable[[], T]) -> T:
    """Look once, and again if the answer is that the job is gone.

    :param look: sends one request
    :raises JobLost: if the second look says so too
    """
    try:
        return look()
    except JobLost:
        time.sleep(CONFIRM_SECONDS)
    return look()


class Looking:
    """The looks of one wait: outages are waited out, and the connection is read anew now and then; see `outages`.

    :param log: told when an outage begins and when it ends
    :param what: is looked at: ``Notebook job projects/...``
    :param reread: reads the connection anew
    :param has_deadline: whether the wait has one
    :param is_known: whether what is looked at was seen before; if not, INVALID_ARGUMENT tells of the user's own input
    """

    def __init__(
        self, log: Any, what: str, reread: Callable[[], None], *, has_deadline: bool = True, is_known: bool = True
    ) -> None:
        self._log = log
        self._failed_looks = FailedLooks(log, what, has_deadline=has_deadline)
        self._reread = reread
        self._is_known = is_known
        self._read_at = time.monotonic()  # the connection

    @property
    def awaits_confirmation(self) -> bool:
        """Whether the last answer says that the job is gone."""
        return self._failed_looks.awaits_confirmation

    @property
    def is_refused(self) -> bool:
        """Whether the wait ends if the refusals last that were met since the last answer."""
        return self._failed_looks.is_refused

    def attempt(self, look: Callable[[], T]) -> tuple[bool, T | None]:
        """Look once.

        :param look: sends the request
        :return: whether the API answered, and what `look` returned
        :raises NotebookExecutionJobError: what ends the wait: `JobLost` or `JobUnwatched`
        :raises InvalidJob: if what is looked at is not known
        """
        try:
            found = look()
        except Exception as error:
            if isinstance(error, InvalidJob) and not self._is_known:
                raise
            if final := self._failed_looks.fail(error):
                raise final from error
            self._read_anew_after(rule_of(error).reread_after or CONNECTION_SECONDS_MAX)
            return False, None
        self._failed_looks.end()
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


def looks_at_job(
    hook: NotebookExecutionJobHook, name: str, *, poll_interval: float, end_time: float | None
) -> Iterator[Look]:
    """Look at a job until it ends.

    An outage is waited out until `end_time`, see `outages`; it is logged when it begins and when it ends.

    :param name: the job's resource name
    :param poll_interval: seconds between looks
    :param end_time: deadline, in POSIX seconds; without one, looking goes on for as long as the job does
    :return: looks; the last one, and only that, has no pause and holds the ended job
    :raises InvalidJob: if the name is malformed
    :raises JobTimeout: when `end_time` is reached
    :raises JobLost: if the job was deleted: two looks in a row say so
    :raises JobUnwatched: if looks are refused for good; the job goes on
    """
    job_name = JobName.parse(name)
    state = None
    deadline = Deadline(end_time)
    looking = Looking(hook.log, f"Notebook job {job_name}", hook.reread_connection, has_deadline=deadline.is_finite)
    while True:
        has_answer, job = looking.attempt(lambda: hook.get_notebook_execution_job(name=name, retry=False, renew=True))
        if has_answer:
            if state != (state := state_of(job)):
                hook.log.info("Notebook job %s is %s", job_name.job_id, state.description)
            if state.is_terminal:
                yield Look(job, None)
                return
        remaining = deadline.remaining
        if remaining <= 0:
            raise JobTimeout(f"Notebook job {name} was {state or 'never seen'} at the deadline")
        yield Look(job, min(poll_interval, CONFIRM_SECONDS if looking.awaits_confirmation else math.inf, remaining))
