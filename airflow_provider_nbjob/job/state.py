"""The states of a job."""

from __future__ import annotations

from enum import Enum
from typing import Any


class JobState(str, Enum):
    """The state of a job, by its API name (the seed's `JobStateEnum`).

    A closed set of twelve. A name that the API adds later is kept as it is: ``JobState("JOB_STATE_NEW")`` is
    no member, has ``is_known`` false, and is neither terminal nor a success, so callers wait on it.
    """

    UNSPECIFIED = "JOB_STATE_UNSPECIFIED"
    QUEUED = "JOB_STATE_QUEUED"
    PENDING = "JOB_STATE_PENDING"
    RUNNING = "JOB_STATE_RUNNING"
    SUCCEEDED = "JOB_STATE_SUCCEEDED"
    FAILED = "JOB_STATE_FAILED"
    CANCELLING = "JOB_STATE_CANCELLING"
    CANCELLED = "JOB_STATE_CANCELLED"
    PAUSED = "JOB_STATE_PAUSED"
    EXPIRED = "JOB_STATE_EXPIRED"
    UPDATING = "JOB_STATE_UPDATING"
    PARTIALLY_SUCCEEDED = "JOB_STATE_PARTIALLY_SUCCEEDED"

    @classmethod
    def _missing_(cls, value: object) -> JobState | None:
        if not isinstance(value, str):
            return None
        unknown = str.__new__(cls, value)
        unknown._name_ = value
        unknown._value_ = value
        return unknown

    def __str__(self) -> str:
        return str(self.value)

    @property
    def description(self) -> str:
        """The name, for a person: one that is not known is said to be so."""
        return str(self) if self.is_known else f"{self}, a state that this version of the provider does not know"

    @property
    def is_known(self) -> bool:
        """Whether this is one of the twelve documented states."""
        return self.value in type(self)._value2member_map_

    @property
    def is_terminal(self) -> bool:
        """Whether the job has ended and its state will not change again."""
        return self in _TERMINAL

    @property
    def is_success(self) -> bool:
        """Whether the whole notebook ran. PARTIALLY_SUCCEEDED is success only if a caller opts in."""
        return self is JobState.SUCCEEDED

    @property
    def is_active(self) -> bool:
        """Whether the job holds a machine or waits for one, and is not on its way out.

        A state that is not known is taken for active: the job may cost.
        """
        return not self.is_terminal and self is not JobState.CANCELLING


_TERMINAL = frozenset(
    {
        JobState.SUCCEEDED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.EXPIRED,
        JobState.PARTIALLY_SUCCEEDED,
    }
)


def state_of(job: Any) -> JobState:
    """Return a job's state; a number that has no name in the client library is kept as ``JOB_STATE_<number>``."""
    state = job.job_state
    return JobState(getattr(state, "name", None) or f"JOB_STATE_{state}")
