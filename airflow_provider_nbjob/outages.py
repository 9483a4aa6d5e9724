"""Decide what an error means for those who wait for a job: one table by code, for worker, triggerer and sensor.

A look is free, and a stop costs hours. So no single error ends a wait, and no error of a look stops a job: only the
caller's deadline does, and whoever asks for it. Pure: knows neither Airflow nor Google.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple

from airflow_provider_nbjob.exceptions import (
    ApiError,
    CredentialsUnavailable,
    InvalidJob,
    JobLost,
    JobUnwatched,
    NotebookExecutionJobError,
)

REFUSALS_MIN = 3  # answers that refuse a look, without an answer between them that grants it, ...
REFUSED_SECONDS = 600.0  # ... over so many seconds: then the wait ends
NOT_FOUND_MIN = 2  # consecutive answers NOT_FOUND after which a job is lost
OUTAGE_SECONDS_MAX = 86_400.0  # of a wait that has no deadline; the API's own default limit of a run
CONNECTION_SECONDS_MAX = 600.0  # age at which a connection is read anew, though nothing says that it has changed
FAILED = "Looking failed, and will be tried again: %s"
ANSWERS_AGAIN = "The API answers again, after %s failed looks in %.0f s"


class Meaning(Enum):
    """What an error says of the job that was looked at."""

    OUTAGE = "nothing: looking goes on while the deadline allows"
    REFUSED = "it cannot be watched, if the error lasts"
    GONE = "it was deleted, if a second look confirms it"


class Rule(NamedTuple):
    """A row of the table. None of them stops the job: whether it is stopped is no question for a look to answer.

    :param meaning: when the wait ends
    :param reread_after: seconds, since it was read last, after which the connection is read anew: its key or its
        endpoint may have been mended. None: the error has nothing to do with it
    """

    meaning: Meaning
    reread_after: float | None = None


_OUTAGE, _REFUSED = Rule(Meaning.OUTAGE, reread_after=60.0), Rule(Meaning.REFUSED, reread_after=60.0)

# By name of the google.rpc.Code. A number or a name that is not here is an outage.
BY_CODE: Mapping[str, Rule] = {
    "CANCELLED": _OUTAGE,  # a proxy or a server that shut down gave the call up
    "UNKNOWN": _OUTAGE,
    "INVALID_ARGUMENT": _REFUSED,  # `InvalidJob`; a malformed endpoint or account in the connection too
    "DEADLINE_EXCEEDED": _OUTAGE,
    "NOT_FOUND": _REFUSED,  # of a listing: the project or the location; of a job it is `JobLost`
    "ALREADY_EXISTS": _OUTAGE,  # no answer to a look
    "PERMISSION_DENIED": _REFUSED,  # a role that is being replaced, a quota project, a perimeter
    "RESOURCE_EXHAUSTED": _OUTAGE,
    "FAILED_PRECONDITION": _REFUSED,
    "ABORTED": _OUTAGE,
    "OUT_OF_RANGE": _REFUSED,
    "UNIMPLEMENTED": _REFUSED,  # a proxy without the method, a host that serves another API
    "INTERNAL": _OUTAGE,
    "UNAVAILABLE": _OUTAGE,  # an Airflow connection that cannot be read too
    "DATA_LOSS": _OUTAGE,
    "UNAUTHENTICATED": Rule(Meaning.OUTAGE, reread_after=1.0),  # a key that is being rotated
}
_LOST = Rule(Meaning.GONE)
# The connection was read, and its credentials cannot be used: a key that is none, an account that was deleted.
_CREDENTIALS = Rule(Meaning.REFUSED, reread_after=1.0)


def rule_of(error: BaseException) -> Rule:
    """Return the row of the table for an error of a look; one that is not this provider's own is an outage."""
    if isinstance(error, JobLost):
        return _LOST
    if isinstance(error, CredentialsUnavailable):
        return _CREDENTIALS
    if isinstance(error, InvalidJob):
        return BY_CODE["INVALID_ARGUMENT"]
    return BY_CODE.get(error.code, _OUTAGE) if isinstance(error, ApiError) else _OUTAGE


@dataclass
class Streak:
    """The errors that one wait meets, one after the other, until a look is answered.

    An outage between two refusals neither counts nor starts the count again: it says nothing.

    :param has_deadline: whether the wait has one; without, `OUTAGE_SECONDS_MAX` without an answer end it
    :param failures: number of errors since the last answer
    """

    has_deadline: bool
    failures: int = 0
    _since: float = 0.0
    _refusals: int = 0
    _refused_since: float = 0.0
    _not_found: int = 0

    @property
    def seconds(self) -> float:
        """Seconds since the first of the errors, 0 if there is none."""
        return time.monotonic() - self._since if self.failures else 0.0

    @property
    def awaits_confirmation(self) -> bool:
        """Whether the last error says that the job is gone."""
        return self._not_found > 0

    @property
    def is_refused(self) -> bool:
        """Whether one of the errors says that the job cannot be watched."""
        return self._refusals > 0

    def answered(self) -> None:
        """Take an answer that shows the job."""
        self.failures = self._refusals = self._not_found = 0

    def failed(self, what: str, error: BaseException) -> NotebookExecutionJobError | None:
        """Take an error, and return what ends the wait, or None if it goes on.

        :param what: is looked at: ``Notebook job projects/...``
        :return: `JobLost`, or a `JobUnwatched` that says that the job goes on
        """
        now = time.monotonic()
        meaning = rule_of(error).meaning
        if not self.failures:
            self._since = now
        self.failures += 1
        self._not_found = self._not_found + 1 if meaning is Meaning.GONE else 0
        if self._not_found >= NOT_FOUND_MIN:
            return JobLost(f"{what} is gone: it was deleted. The last answer: {error}")
        if meaning is Meaning.REFUSED:
            if not self._refusals:
                self._refused_since = now
            self._refusals += 1
            if self._refusals >= REFUSALS_MIN and now - self._refused_since >= REFUSED_SECONDS:
                return unwatched(what, f"looks were refused for {now - self._refused_since:.0f} s", error)
        if not self.has_deadline and now - self._since >= OUTAGE_SECONDS_MAX:
            return unwatched(what, f"no look was answered for {now - self._since:.0f} s", error)
        return None


class FailedLooks:
    """The failed looks of one wait. Logs a streak of them when it begins, and with its length when it ends.

    ::

        try:
            job = look()
        except Exception as error:
            if final := failed_looks.fail(error):
                raise final from error
        else:
            failed_looks.end()

    :param log: a logger
    :param what: is looked at: ``Notebook job projects/...``
    :param has_deadline: see `Streak`
    """

    def __init__(self, log: Any, what: str = "", *, has_deadline: bool = True) -> None:
        self._log = log
        self._what = what
        self._streak = Streak(has_deadline)

    @property
    def failures(self) -> int:
        """Number of failures in the streak that lasts."""
        return self._streak.failures

    @property
    def awaits_confirmation(self) -> bool:
        """Whether the last failure says that the job is gone."""
        return self._streak.awaits_confirmation

    @property
    def is_refused(self) -> bool:
        """Whether a look was refused since the last success."""
        return self._streak.is_refused

    def fail(self, error: BaseException) -> NotebookExecutionJobError | None:
        """Take a failure of whatever kind, and return what ends the wait, or None if it goes on; see `Streak`."""
        if not self._streak.failures:
            trace = None if isinstance(error, NotebookExecutionJobError) else error
            self._log.warning(FAILED, error, exc_info=trace)
        return self._streak.failed(self._what, error)

    def end(self) -> None:
        """Take a success."""
        if self._streak.failures:
            self._log.info(ANSWERS_AGAIN, self._streak.failures, self._streak.seconds)
        self._streak.answered()


def unwatched(what: str, why: str, error: BaseException) -> JobUnwatched:
    """Return the error of a wait that ended while the job goes on.

    :param what: that could not be watched: ``Notebook job projects/...``
    :param why: the wait ended
    :param error: the last one; its code is the new one's too
    """
    code = "INVALID_ARGUMENT" if isinstance(error, InvalidJob) else getattr(error, "code", "UNKNOWN")
    return JobUnwatched(
        f"{what} could not be watched: {why}. It was not stopped: it may still run, and cost. The next try of the task"
        f" goes on with it; if there is none, look at it, and delete it to stop it. The last error: {error}",
        str(code),
    )


def is_about_all(error: BaseException) -> bool:
    """Return whether an error is about the API or the connection, and not about the one job that was asked for."""
    is_known = isinstance(error, NotebookExecutionJobError)
    return not is_known or isinstance(error, CredentialsUnavailable) or rule_of(error).meaning is Meaning.OUTAGE
