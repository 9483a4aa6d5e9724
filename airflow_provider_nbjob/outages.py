"""Decide whether an error of a poll ends the wait for a job: by one table, for worker, triggerer and sensor.

A poll is free, and stopping a job loses hours of work. So no single error ends a wait, and no error of a poll stops a
job: only the caller's deadline stops it, or a user. This module imports neither Airflow nor a package of Google's.
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

# A wait ends after at least so many refused polls, without a successful one between them, over so many seconds.
REFUSALS_MIN = 3
REFUSED_SECONDS = 600.0
NOT_FOUND_MIN = 2  # consecutive answers NOT_FOUND after which a job is lost
OUTAGE_SECONDS_MAX = 86_400.0  # limit of an outage in a wait without a deadline; the API's default limit of a run
CONNECTION_SECONDS_MAX = 600.0  # age at which a connection is read again without any sign that it has changed
FAILED = "Looking failed, and will be tried again: %s"
# Codes of errors that may be of one request alone: who has many to send sends that one once more.
ONCE_MORE = frozenset({"UNAVAILABLE", "INTERNAL", "UNKNOWN", "ABORTED"})
# Those that may be of one job, or of one kind of request, for as long as it is asked for.
OF_ONE = ONCE_MORE | {"DEADLINE_EXCEEDED", "CANCELLED", "DATA_LOSS"}
ANSWERS_AGAIN = "The API answers again, after %s failed looks in %.0f s"


class Meaning(Enum):
    """The meaning of an error of a poll for the job."""

    OUTAGE = "nothing: the wait goes on until the deadline"
    REFUSED = "it cannot be watched, if the error lasts"
    GONE = "it was deleted, if a second poll confirms it"


class Rule(NamedTuple):
    """A row of the table. No row stops the job: an error of a poll never does.

    :param meaning: decides when the wait ends
    :param reread_after: age in seconds at which the connection is read again, because its key or its endpoint may have
        been repaired; None if the error does not depend on the connection
    """

    meaning: Meaning
    reread_after: float | None = None


_OUTAGE, _REFUSED = Rule(Meaning.OUTAGE, reread_after=60.0), Rule(Meaning.REFUSED, reread_after=60.0)

# Rules by name of the google.rpc.Code. A number, or a name that is not listed, is an outage.
BY_CODE: Mapping[str, Rule] = {
    "CANCELLED": _OUTAGE,  # a proxy, or a server that shut down, abandoned the call
    "UNKNOWN": _OUTAGE,
    "INVALID_ARGUMENT": _REFUSED,  # also `InvalidJob`, and a malformed endpoint or account in the connection
    "DEADLINE_EXCEEDED": _OUTAGE,
    "NOT_FOUND": _REFUSED,  # the project or the location of a list; for a job the hook raises `JobLost`
    "ALREADY_EXISTS": _OUTAGE,  # not an answer to a poll
    "PERMISSION_DENIED": _REFUSED,  # such as a role that is being replaced, a quota project, or a perimeter
    "RESOURCE_EXHAUSTED": _OUTAGE,
    "FAILED_PRECONDITION": _REFUSED,
    "ABORTED": _OUTAGE,
    "OUT_OF_RANGE": _REFUSED,
    "UNIMPLEMENTED": _REFUSED,  # a proxy without the method, or a host that serves another API
    "INTERNAL": _OUTAGE,
    "UNAVAILABLE": _OUTAGE,  # also a connection that Airflow cannot read
    "DATA_LOSS": _OUTAGE,
    "UNAUTHENTICATED": Rule(Meaning.OUTAGE, reread_after=1.0),  # a key that is being rotated
}
_LOST = Rule(Meaning.GONE)
# The connection was read, and its credentials cannot be used: the key is malformed, or the account was deleted.
_CREDENTIALS = Rule(Meaning.REFUSED, reread_after=1.0)


def rule_of(error: BaseException) -> Rule:
    """Return the row of the table for an error of a poll. An error that is not this provider's own is an outage."""
    if isinstance(error, JobLost):
        return _LOST
    if isinstance(error, CredentialsUnavailable):
        return _CREDENTIALS
    if isinstance(error, InvalidJob):
        return BY_CODE["INVALID_ARGUMENT"]
    return BY_CODE.get(error.code, _OUTAGE) if isinstance(error, ApiError) else _OUTAGE


@dataclass(slots=True)
class Streak:
    """The consecutive errors of one wait, until a poll succeeds.

    An outage between two refusals neither counts as a refusal nor resets their count.

    :param has_deadline: whether the wait has a deadline; without one, `OUTAGE_SECONDS_MAX` without an answer end it
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
        """Return the seconds since the first of the errors; 0 if there is none."""
        return time.monotonic() - self._since if self.failures else 0.0

    @property
    def awaits_confirmation(self) -> bool:
        """Return whether the last error says that the job was deleted."""
        return self._not_found > 0

    @property
    def is_refused(self) -> bool:
        """Return whether one of the errors is a refusal."""
        return self._refusals > 0

    def answered(self) -> None:
        """Record an answer that shows the job."""
        self.failures = self._refusals = self._not_found = 0

    def failed(self, what: str, error: BaseException) -> NotebookExecutionJobError | None:
        """Record an error, and return the error that ends the wait, or None if the wait goes on.

        :param what: name of the job in the error, such as ``Notebook job projects/...``
        :param error: the error of the poll
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
    """The failed polls of one wait. Log each streak of failures once when it begins, and once when it ends.

    ::

        try:
            job = poll()
        except Exception as error:
            if final := failed_looks.fail(error):
                raise final from error
        else:
            failed_looks.end()

    :param log: logger
    :param what: name of the job in errors, such as ``Notebook job projects/...``
    :param has_deadline: see `Streak`; default True
    """

    def __init__(self, log: Any, what: str = "", *, has_deadline: bool = True) -> None:
        self._log = log
        self._what = what
        self._streak = Streak(has_deadline)

    @property
    def failures(self) -> int:
        """Return the number of failures since the last success."""
        return self._streak.failures

    @property
    def awaits_confirmation(self) -> bool:
        """Return whether the last failure says that the job was deleted."""
        return self._streak.awaits_confirmation

    @property
    def is_refused(self) -> bool:
        """Return whether a poll was refused since the last success."""
        return self._streak.is_refused

    def fail(self, error: BaseException) -> NotebookExecutionJobError | None:
        """Record a failure of any kind; return the error that ends the wait, or None if it goes on. See `Streak`."""
        if not self._streak.failures:
            trace = None if isinstance(error, NotebookExecutionJobError) else error
            self._log.warning(FAILED, error, exc_info=trace)
        return self._streak.failed(self._what, error)

    def end(self) -> None:
        """Record a success, which ends a streak."""
        if self._streak.failures:
            self._log.info(ANSWERS_AGAIN, self._streak.failures, self._streak.seconds)
        self._streak.answered()


def unwatched(what: str, why: str, error: BaseException) -> JobUnwatched:
    """Return the error of a wait that ended while the job goes on.

    :param what: name of the job, such as ``Notebook job projects/...``
    :param why: the reason why the wait ended
    :param error: the last error; the new one has the same code
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


def is_of_one(error: BaseException) -> bool:
    """Return whether an error may be of one job, or of one kind of request, while others are answered."""
    return error.code in OF_ONE if isinstance(error, ApiError) else not isinstance(error, NotebookExecutionJobError)
