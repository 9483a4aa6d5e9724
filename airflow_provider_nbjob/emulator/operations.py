"""Convert long-running operations to messages, in the version of the API that the request was sent to.

The messages of v1beta1 are those of v1 with two more fields in `MachineSpec` (google-cloud-aiplatform 2.7): only the
type that is packed into an operation's `metadata` and `response` differs. This process imports the types of v1 alone,
because those of v1beta1 would double the time that the emulator takes to start.
"""

from __future__ import annotations

from typing import Any

from google.cloud.aiplatform_v1.types import CreateNotebookExecutionJobOperationMetadata, DeleteOperationMetadata
from google.longrunning import operations_pb2
from google.protobuf import any_pb2, empty_pb2, json_format
from google.protobuf.message import Message
from google.rpc import code_pb2

from airflow_provider_nbjob.emulator.messages import JobMessage
from airflow_provider_nbjob.emulator.store import Operation
from airflow_provider_nbjob.job import state_of

VERSIONS = ("v1", "v1beta1")
_PACKAGE = "/google.cloud.aiplatform.{}."
_METADATA = {"create": CreateNotebookExecutionJobOperationMetadata, "delete": DeleteOperationMetadata}


def operation_message(operation: Operation, job: JobMessage | None, version: str) -> operations_pb2.Operation:
    """Return an operation as a version of the API shows it.

    :param job: of v1, as its basic view shows it; None if the job is gone
    :param version: one of `VERSIONS`; empty if the request names none: the version that made the operation
    """
    version = version or operation.version
    shown = operations_pb2.Operation(name=operation.name, done=operation.is_done)
    metadata = _METADATA[operation.kind].meta.pb()
    metadata.generic_metadata.create_time.FromMicroseconds(int(operation.create_time * 1e6))
    changed = operation.ready_at if shown.done and operation.ready_at else operation.create_time
    metadata.generic_metadata.update_time.FromMicroseconds(int(changed * 1e6))
    is_create = operation.kind == "create"
    if is_create and job is not None:
        metadata.progress_message = f"The job is {state_of(job)}."
    _pack(shown.metadata, metadata, version)
    if not shown.done:
        return shown
    if not is_create:
        shown.response.Pack(empty_pb2.Empty())
    elif job is not None:
        _pack(shown.response, job, version)
    else:
        shown.error.code, shown.error.message = code_pb2.CANCELLED, "The job was deleted."
    return shown


def _pack(into: any_pb2.Any, message: Message, version: str) -> None:
    into.Pack(message)
    into.type_url = into.type_url.replace(_PACKAGE.format("v1"), _PACKAGE.format(version))


def to_json(answer: Message, *, as_numbers: bool) -> dict[str, Any]:
    """Return a method's answer as JSON.

    :param as_numbers: enums as numbers, not as names
    """
    if isinstance(answer, operations_pb2.ListOperationsResponse):
        listed = [to_json(operation, as_numbers=as_numbers) for operation in answer.operations]
        found: dict[str, Any] = {"operations": listed} if listed else {}
        return {**found, "nextPageToken": answer.next_page_token} if answer.next_page_token else found
    if not isinstance(answer, operations_pb2.Operation):
        return dict(json_format.MessageToDict(answer, use_integers_for_enums=as_numbers))
    types, known = {}, operations_pb2.Operation()
    known.CopyFrom(answer)
    for field in ("metadata", "response"):
        if known.HasField(field):
            packed = getattr(known, field)
            types[field] = packed.type_url
            packed.type_url = packed.type_url.replace(_PACKAGE.format("v1beta1"), _PACKAGE.format("v1"))
    shown: dict[str, Any] = json_format.MessageToDict(known, use_integers_for_enums=as_numbers)
    for field, type_url in types.items():
        shown[field]["@type"] = type_url
    return shown
