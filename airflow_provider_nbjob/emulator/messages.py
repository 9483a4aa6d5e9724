"""Name the plain protobuf classes of the API's messages, and the types of the fields that the emulator reads.

Google's clients wrap these classes (proto-plus), and have no type stubs for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from google.cloud.aiplatform_v1.types import (
    CreateNotebookExecutionJobRequest,
    DeleteNotebookExecutionJobRequest,
    GetNotebookExecutionJobRequest,
    GetNotebookRuntimeTemplateRequest,
    ListNotebookExecutionJobsRequest,
    ListNotebookExecutionJobsResponse,
    NotebookExecutionJob,
    NotebookRuntimeTemplate,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

    class Status(Message):
        """`google.rpc.Status`."""

        code: int
        message: str

    class GcsSource(Message):
        """A notebook in Cloud Storage."""

        uri: str
        generation: str

    class DirectSource(Message):
        """A notebook in the request."""

        content: bytes

    class DataformSource(Message):
        """A notebook in a Dataform repository."""

        dataform_repository_resource_name: str
        commit_sha: str

    class JobMessage(Message):
        """`NotebookExecutionJob`."""

        name: str
        display_name: str
        labels: Mapping[str, str]
        gcs_notebook_source: GcsSource
        direct_notebook_source: DirectSource
        dataform_repository_source: DataformSource
        notebook_runtime_template_resource_name: str
        kernel_name: str
        gcs_output_uri: str
        execution_user: str
        execution_timeout: Duration
        schedule_resource_name: str
        job_state: int
        status: Status
        create_time: Timestamp
        update_time: Timestamp

    class CreateRequest(Message):
        """`CreateNotebookExecutionJobRequest`."""

        parent: str
        notebook_execution_job: JobMessage
        notebook_execution_job_id: str

    class GetRequest(Message):
        """`GetNotebookExecutionJobRequest`."""

        name: str
        view: int

    class ListRequest(Message):
        """`ListNotebookExecutionJobsRequest`."""

        parent: str
        filter: str
        page_size: int
        page_token: str
        order_by: str
        view: int

    class ListResponse(Message):
        """`ListNotebookExecutionJobsResponse`."""

        def __init__(self, *, notebook_execution_jobs: Sequence[JobMessage], next_page_token: str) -> None: ...

    class DeleteRequest(Message):
        """`DeleteNotebookExecutionJobRequest`."""

        name: str

    class TemplateMessage(Message):
        """`NotebookRuntimeTemplate`."""

        def __init__(self, *, name: str, display_name: str, notebook_runtime_type: int) -> None: ...

    class GetTemplateRequest(Message):
        """`GetNotebookRuntimeTemplateRequest`."""

        name: str

else:
    JobMessage = NotebookExecutionJob.meta.pb
    CreateRequest = CreateNotebookExecutionJobRequest.meta.pb
    GetRequest = GetNotebookExecutionJobRequest.meta.pb
    ListRequest = ListNotebookExecutionJobsRequest.meta.pb
    ListResponse = ListNotebookExecutionJobsResponse.meta.pb
    DeleteRequest = DeleteNotebookExecutionJobRequest.meta.pb
    TemplateMessage = NotebookRuntimeTemplate.meta.pb
    GetTemplateRequest = GetNotebookRuntimeTemplateRequest.meta.pb
