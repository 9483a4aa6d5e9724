"""What a job came to."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from airflow_provider_nbjob.job.name import JobName
from airflow_provider_nbjob.job.state import JobState, state_of

OUTPUT_ERROR_MAX = 2 * 1024  # characters of `output_error`


def plain_text(message: str) -> str:
    """Return the API's `status.message` without its HTML: tags dropped, breaks as newlines, entities resolved."""
    text = re.sub(r"(?i)<\s*(?:br|/p|/div|/li)\s*/?\s*>", "\n", message)
    text = re.sub(r"</?[a-zA-Z][^<>]*>", "", text)
    return re.sub(r"[ \t]*\n\s*", "\n", html.unescape(text)).strip()


def _timestamp(value: Any) -> str | None:
    return None if value is None else value.isoformat()


@dataclass(frozen=True)
class JobResult:
    """What a job came to; `to_xcom` is the `return_value` of the operators and the sensor.

    :param name: the job's resource name, as the API returns it (with the project number)
    :param status: ``{"code": google.rpc.Code as int, "message": plain text}``; code 0 if nothing went wrong
    :param output_notebook_uri: the executed notebook; None if none was written, or if `output_error` says why not
    :param output_error: why the executed notebook could not be looked for or read, for those too who may not read the
        task's log; None if it was read, was not asked for, or was not written
    :param create_time: ISO 8601, UTC; `update_time` likewise
    :param results: values that the notebook handed out
    """

    name: str
    job_id: str
    job_state: JobState
    status: Mapping[str, Any]
    display_name: str
    gcs_output_uri: str
    output_notebook_uri: str | None = None
    output_error: str | None = None
    schedule_resource_name: str | None = None
    create_time: str | None = None
    update_time: str | None = None
    results: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_job(cls, job: Any, *, output_notebook_uri: str | None = None) -> JobResult:
        """Build it from the API's `NotebookExecutionJob` message (or anything with its attributes)."""
        return cls(
            name=job.name,
            job_id=JobName.parse(job.name).job_id,
            job_state=state_of(job),
            status={"code": job.status.code, "message": plain_text(job.status.message)},
            display_name=job.display_name,
            gcs_output_uri=job.gcs_output_uri,
            output_notebook_uri=output_notebook_uri,
            schedule_resource_name=job.schedule_resource_name or None,
            create_time=_timestamp(job.create_time),
            update_time=_timestamp(job.update_time),
        )

    def with_output_error(self, text: str) -> JobResult:
        """Return the result with an `output_error`, as a text that a database takes and that is not huge."""
        from airflow_provider_nbjob.notebook.text import log_lines

        return replace(self, output_error="\n".join(log_lines(text))[:OUTPUT_ERROR_MAX])

    def to_xcom(self) -> dict[str, Any]:
        """Return the result as plain JSON values, the state by its API name."""
        return {**asdict(self), "job_state": str(self.job_state)}

    def succeeded(self, *, accept_partial_success: bool = False) -> bool:
        """Whether the job is a success for a caller that does or does not accept part of one."""
        partial = self.job_state is JobState.PARTIALLY_SUCCEEDED
        return self.job_state.is_success or (partial and accept_partial_success)

    @property
    def output_line(self) -> str:
        """What is known of the executed notebook, in a line."""
        if self.output_error:
            return self.output_error
        if self.output_notebook_uri:
            return f"Executed notebook: {self.output_notebook_uri}"
        return f"No executed notebook was written below {self.gcs_output_uri}: the machine may never have started."
