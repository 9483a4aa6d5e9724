"""The result of a job, as operators and the sensor return it."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from datetime import datetime
from typing import Any

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job.name import JobName
from airflow_provider_nbjob.job.state import JobState, state_of
from airflow_provider_nbjob.notebook.text import log_lines, storable

OUTPUT_ERROR_MAX = 2 * 1024  # characters of `output_error`


def plain_text(message: str) -> str:
    """Convert the HTML of the API's `status.message` to plain text that a database accepts.

    Drop tags, convert line breaks to newlines, and resolve entities.
    """
    text = re.sub(r"(?i)<\s*(?:br|/p|/div|/li)\s*/?\s*>", "\n", message)
    text = re.sub(r"</?[a-zA-Z][^<>]*>", "", text)
    return storable(re.sub(r"[ \t]*\n\s*", "\n", html.unescape(text)).strip())


def _timestamp(value: Any) -> str | None:
    return None if value is None else value.isoformat()


@dataclass(frozen=True)
class JobResult:
    """The result of a job; `to_xcom` is the `return_value` of the operators and the sensor.

    :param name: the job's resource name as the API returns it, with the project's number
    :param job_id: last part of `name`
    :param job_state: the job's state
    :param status: ``{"code": google.rpc.Code as int, "message": plain text}``; code 0 if no error occurred
    :param display_name: the job's display name
    :param gcs_output_uri: the bucket or folder in which the API writes the output of jobs
    :param output_notebook_uri: URI of the executed notebook; None if the job wrote none, or if the notebook could not
        be looked for
    :param output_error: the reason why the executed notebook could not be looked for or read, fit for users who may not
        read the task's log; None if the notebook was read, was not requested, or was not written
    :param schedule_resource_name: the schedule that launched the job, or None
    :param create_time: time in UTC, in ISO 8601; the same holds for `update_time`
    :param results: JSON values that the notebook returned, by name
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
        """Build the result from the API's `NotebookExecutionJob` message, or an object with its attributes."""
        return cls(
            name=job.name,
            job_id=JobName.parse(job.name).job_id,
            job_state=state_of(job),
            status={"code": job.status.code, "message": plain_text(job.status.message)},
            display_name=storable(job.display_name),
            gcs_output_uri=job.gcs_output_uri,
            output_notebook_uri=output_notebook_uri,
            schedule_resource_name=job.schedule_resource_name or None,
            create_time=_timestamp(job.create_time),
            update_time=_timestamp(job.update_time),
        )

    def with_texts(self, change: Callable[[Any], Any]) -> JobResult:
        """Return a copy with a function applied to the texts that a user or the API chose, such as one that masks."""
        return replace(self, status=change(self.status), display_name=change(self.display_name))

    def with_output_error(self, text: str) -> JobResult:
        """Return a copy with an `output_error` that a database accepts, cut to `OUTPUT_ERROR_MAX` characters."""
        return replace(self, output_error="\n".join(log_lines(text))[:OUTPUT_ERROR_MAX])

    def to_xcom(self) -> dict[str, Any]:
        """Return the result as JSON values, with the API's name of the state."""
        return {**asdict(self), "job_state": str(self.job_state)}

    def keyed(self, keys: Iterable[str]) -> dict[str, Any]:
        """Return parts and results by their names, as JSON values; a part wins. Names of neither are left out."""
        values = {**self.results, **self.to_xcom()}
        return {key: values[key] for key in keys if key in values}

    def to_json(self) -> str:
        """Return the result as a text that `from_json` reads."""
        return json.dumps(self.to_xcom())

    @classmethod
    def from_json(cls, text: Any) -> JobResult | None:
        """Return the result that a text holds, or None if it holds none. Never raise."""
        try:
            values = json.loads(text)
            values["job_state"] = JobState(values["job_state"])
            result = cls(**{part.name: values[part.name] for part in fields(cls)})
            return result if JobName.parse(result.name).job_id == result.job_id else None
        except (TypeError, ValueError, KeyError, RecursionError, InvalidJob):
            return None

    def succeeded(self, *, accept_partial_success: bool = False) -> bool:
        """Return whether the job is a success.

        :param accept_partial_success: whether PARTIALLY_SUCCEEDED counts as a success; default False
        """
        partial = self.job_state is JobState.PARTIALLY_SUCCEEDED
        return self.job_state.is_success or (partial and accept_partial_success)

    @property
    def seconds(self) -> float | None:
        """Return the seconds from the job's creation to its end; None if it has not ended, or a time is not known."""
        if not self.job_state.is_terminal:
            return None
        try:
            created, ended = (datetime.fromisoformat(str(time)) for time in (self.create_time, self.update_time))
            seconds = (ended - created).total_seconds()
        except (TypeError, ValueError):
            return None
        return seconds if seconds >= 0 else None

    @property
    def output_line(self) -> str:
        """Return one line that says where the executed notebook is, or why there is none."""
        if self.output_error:
            return self.output_error
        if self.output_notebook_uri:
            return f"Executed notebook: {self.output_notebook_uri}"
        return f"No executed notebook was written below {self.gcs_output_uri}: the machine may never have started."
