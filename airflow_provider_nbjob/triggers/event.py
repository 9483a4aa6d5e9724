"""The event by which a trigger ends a task's wait, and which the worker reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_nbjob.exceptions import JobUnwatched, NotebookExecutionJobError
from airflow_provider_nbjob.job import JobResult, JobState
from airflow_provider_nbjob.job.record import JobSteps
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.notebook.text import storable

FINISHED, TIMEOUT, LOST, ERROR, START = "finished", "timeout", "lost", "error", "start"


class Payload(dict[str, Any]):
    """An event as JSON values. Airflow logs it, so its text leaves out the result, which stands in XCom only."""

    def __repr__(self) -> str:
        return repr({**self, "result": "..."} if self.get("result") else dict(self))


@dataclass(frozen=True)
class JobEvent:
    """The end of a wait.

    :param name: the job's resource name; that of the schedule if the trigger found no job
    :param outcome: `FINISHED`, `TIMEOUT` (at the deadline), `LOST` (the job was deleted), `ERROR` (nothing says that
        the job has ended), or `START` (a worker is to start the task)
    :param job_state: the state in which the job has ended; None if it was not seen to end
    :param message: the error, without the secrets that Airflow masks; empty if the job has ended
    :param states: the states that the job was seen in; see `JobSteps.to_xcom`
    :param result: what a job that succeeded came to, if the triggerer found out and has put it on record; else None
    """

    name: str
    outcome: str = FINISHED
    job_state: JobState | None = None
    message: str = ""
    states: list[list[str]] = field(default_factory=list)
    result: JobResult | None = None

    def to_payload(self) -> Payload:
        """Return the event as JSON values; the result as a text, as Airflow gives some keys of a dict a meaning."""
        return Payload(
            name=self.name,
            job_state=self.job_state and str(self.job_state),
            outcome=self.outcome,
            message=storable(self.message),  # else Airflow's database, or its triggerer, fails over it
            states=self.states,
            **({"result": self.result.to_json()} if self.result else {}),
        )

    @classmethod
    def from_payload(cls, payload: Mapping[str, Any] | None) -> JobEvent:
        """Read an event, which may be of another version of this provider.

        :raises NotebookExecutionJobError: if it names nothing that was waited for
        """
        if not isinstance(payload, Mapping) or not isinstance(payload.get("name"), str) or not payload["name"]:
            raise cls.unusable(payload)
        state, states = payload.get("job_state"), payload.get("states")
        return cls(
            name=payload["name"],
            outcome=str(payload.get("outcome")),
            job_state=JobState(state) if isinstance(state, str) else None,
            message=str(redact(payload.get("message"))),
            states=states if isinstance(states, list) else [],
            result=cls._result(payload),
        )

    @staticmethod
    def _result(payload: Mapping[str, Any]) -> JobResult | None:
        """Return the result of a success that an event carries, masked by the secrets that this process knows."""
        result = JobResult.from_json(payload.get("result"))
        if result is None or result.name != payload["name"] or not result.succeeded(accept_partial_success=True):
            return None
        return result.with_texts(redact)

    @staticmethod
    def unusable(payload: Any) -> NotebookExecutionJobError:
        """Return the error for an event that does not tell which job was waited for."""
        return NotebookExecutionJobError(f"The trigger returned no usable event: {payload!r}")

    @property
    def steps(self) -> JobSteps:
        """The states that the job was seen in."""
        return JobSteps.from_xcom(self.states)

    def check_watched(self) -> None:
        """Refuse an event which does not say that the job has ended, is gone, or went on at the deadline.

        :raises JobUnwatched: if so
        """
        if self.outcome not in (FINISHED, TIMEOUT, LOST):
            raise JobUnwatched(f"Waiting for notebook job {self.name} failed: {self.message}", "UNKNOWN")
