"""The API's methods by name: request and answer types, and what serves them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from google.cloud.aiplatform_v1.types import (
    CreateNotebookExecutionJobRequest,
    DeleteNotebookExecutionJobRequest,
    GetNotebookExecutionJobRequest,
    ListNotebookExecutionJobsRequest,
)
from google.cloud.dataform_v1.types import QueryRepositoryDirectoryContentsRequest, ReadRepositoryFileRequest
from google.longrunning import operations_pb2

from airflow_provider_nbjob.emulator.dataform import Dataform
from airflow_provider_nbjob.emulator.faults import Faults
from airflow_provider_nbjob.emulator.service import NotebookService


class Method(NamedTuple):
    """A method: its request's type, and what takes a request and returns the answer."""

    request_type: Any
    serve: Callable[[Any], Any]


def methods(service: NotebookService, dataform: Dataform, faults: Faults) -> dict[str, Method]:
    """All methods by their rpc names; each call is counted, and meets the faults that stand."""
    table = {
        "CreateNotebookExecutionJob": (CreateNotebookExecutionJobRequest.meta.pb, service.create),
        "GetNotebookExecutionJob": (GetNotebookExecutionJobRequest.meta.pb, service.get),
        "ListNotebookExecutionJobs": (ListNotebookExecutionJobsRequest.meta.pb, service.list_jobs),
        "DeleteNotebookExecutionJob": (DeleteNotebookExecutionJobRequest.meta.pb, service.delete),
        "GetOperation": (operations_pb2.GetOperationRequest, service.get_operation),
        "ListOperations": (operations_pb2.ListOperationsRequest, service.list_operations),
        "WaitOperation": (operations_pb2.WaitOperationRequest, service.wait_operation),
        "CancelOperation": (operations_pb2.CancelOperationRequest, service.cancel_operation),
        "QueryRepositoryDirectoryContents": (QueryRepositoryDirectoryContentsRequest.meta.pb, dataform.query_directory),
        "ReadRepositoryFile": (ReadRepositoryFileRequest.meta.pb, dataform.read_file),
        "DeleteOperation": (operations_pb2.DeleteOperationRequest, service.delete_operation),
    }

    def served(rpc: str, serve: Callable[[Any], Any]) -> Callable[[Any], Any]:
        return lambda request: faults.perform(rpc, lambda: serve(request))

    return {rpc: Method(request_type, served(rpc, serve)) for rpc, (request_type, serve) in table.items()}
