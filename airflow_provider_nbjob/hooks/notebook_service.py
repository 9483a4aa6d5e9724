"""`NotebookService` of Google's client library, without the other services of its package; see `lazy_packages`."""

from __future__ import annotations

from airflow_provider_nbjob.lazy_packages import lazy_packages

with lazy_packages("google.cloud.aiplatform_v1", "google.cloud.aiplatform_v1.types"):
    from google.cloud.aiplatform_v1.services.notebook_service import NotebookServiceClient
    from google.cloud.aiplatform_v1.services.notebook_service.transports import NotebookServiceGrpcTransport
    from google.cloud.aiplatform_v1.types.notebook_execution_job import NotebookExecutionJob
    from google.cloud.aiplatform_v1.types.notebook_service import (
        CreateNotebookExecutionJobRequest,
        DeleteNotebookExecutionJobRequest,
        GetNotebookExecutionJobRequest,
        ListNotebookExecutionJobsRequest,
    )

__all__ = [
    "CreateNotebookExecutionJobRequest",
    "DeleteNotebookExecutionJobRequest",
    "GetNotebookExecutionJobRequest",
    "ListNotebookExecutionJobsRequest",
    "NotebookExecutionJob",
    "NotebookServiceClient",
    "NotebookServiceGrpcTransport",
]
