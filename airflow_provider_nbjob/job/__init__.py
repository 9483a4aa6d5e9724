"""The resource NotebookExecutionJob: its states, names, arguments and results.

This package imports neither Airflow nor a package of Google's.
"""

from airflow_provider_nbjob.job.name import (
    CONSOLE,
    DIRECT_NAME,
    JOB_ID_FORM,
    JobName,
    bucket_and_path,
    job_id_for,
    short_hash,
    storage_console_url,
)
from airflow_provider_nbjob.job.result import OUTPUT_ERROR_MAX, JobResult, plain_text
from airflow_provider_nbjob.job.state import JobState, state_of

__all__ = [
    "CONSOLE",
    "DIRECT_NAME",
    "JOB_ID_FORM",
    "OUTPUT_ERROR_MAX",
    "JobName",
    "JobResult",
    "JobState",
    "bucket_and_path",
    "job_id_for",
    "plain_text",
    "short_hash",
    "state_of",
    "storage_console_url",
]
