"""The jobs that the emulator has, as tests see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from airflow_provider_nbjob.job import DIRECT_NAME, JobName, JobState


@dataclass(frozen=True)
class Job:
    """A job of the emulator, at the time that it was asked.

    :param resource: the whole job, in the API's JSON
    """

    resource: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Return the resource name."""
        return str(self.resource["name"])

    @property
    def display_name(self) -> str:
        """Return the display name."""
        return str(self.resource.get("displayName", ""))

    @property
    def state(self) -> JobState:
        """Return the state, which is a text too: ``job.state == "JOB_STATE_FAILED"``."""
        return JobState(self.resource["jobState"])

    @property
    def message(self) -> str:
        """Return the status message; empty if the job succeeded or has not ended."""
        return str(self.resource.get("status", {}).get("message", ""))

    @property
    def labels(self) -> Mapping[str, str]:
        """Return the labels."""
        labels: Mapping[str, str] = self.resource.get("labels", {})
        return labels

    @property
    def notebook(self) -> str | None:
        """Return the URI of the notebook in Cloud Storage, or None if the source is another one."""
        uri: str | None = self.resource.get("gcsNotebookSource", {}).get("uri")
        return uri

    @property
    def output_notebook(self) -> str:
        """Return the URI of the executed notebook, which may not be there."""
        file_name = (self.notebook or DIRECT_NAME).rpartition("/")[2]
        return JobName.parse(self.name).output_uri(self.resource["gcsOutputUri"]) + file_name
