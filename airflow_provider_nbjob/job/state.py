"""The states of a job."""

from __future__ import annotations

from enum import Enum
from typing import Any


class JobState(str, Enum):
    """The state of a job, by its name in the API: the enum `JobState` of google-cloud-aiplatform 2.7 (`aiplatform_v1`).

    The enum has twelve members. A name that the API adds later is kept: ``JobState("JOB_STATE_NEW")`` is not a member,
    has ``is_known`` False, and is neither terminal nor a success, so callers wait for the job.
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
        """Return the name for a message; it says so if the state is unknown."""
        return str(self) if self.is_known else f"{self}, a state that this version of the provider does not know"

    @property
    def is_known(self) -> bool:
        """Return whether this is one of the twelve documented states."""
        return self.value in type(self)._value2member_map_

    @property
    def is_terminal(self) -> bool:
        """Return whether the job has ended, so that its state will not change again."""
        return self in _TERMINAL

    @property
    def is_success(self) -> bool:
        """Return whether the whole notebook ran. PARTIALLY_SUCCEEDED is a success only if a caller opts in."""
        return self is JobState.SUCCEEDED

    @property
    def is_active(self) -> bool:
        """Return whether the job holds or awaits a machine, and is not being cancelled.

        An unknown state counts as active, because the job may cost money.
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
    """Return the state of a `NotebookExecutionJob` message, or of an object with its `job_state`.

    The message may be one of proto-plus, whose `job_state` is an enum, or a plain one of protobuf, whose `job_state` is
    a number. A number that has no name in the client library becomes ``JOB_STATE_<number>``.
    """
    state = job.job_state
    name = getattr(state, "name", None)
    if name is None and hasattr(job, "DESCRIPTOR"):
        value = job.DESCRIPTOR.fields_by_name["job_state"].enum_type.values_by_number.get(state)
        name = value and value.name
    return JobState(name or f"JOB_STATE_{state}")
