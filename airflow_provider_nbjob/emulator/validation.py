"""Refuse an invalid job at its creation: all faults in one INVALID_ARGUMENT, in the API's wording.

The rules are independent of the provider's own (`spec.py`), as a server's are, so that a mistake there shows here. Only
the rule of a job's id is shared, because it is a guess on both sides.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from google.api_core.exceptions import InvalidArgument

from airflow_provider_nbjob import names
from airflow_provider_nbjob.emulator.messages import JobMessage

# A project's id, with the domain that old ones have before it, or its number.
PARENT = re.compile(r"projects/(?P<project>[a-z0-9][-.:a-z0-9]{0,98})/locations/(?P<location>[^/]+)")
LOCATION = re.compile(r"[a-z]{1,30}(-[a-z]{1,30}){1,3}[0-9]{1,3}")
JOB_ID = re.compile(names.JOB_ID)
TEMPLATE = re.compile(
    r"projects/[^/]{1,100}/locations/(?P<location>[^/]{1,100})/notebookRuntimeTemplates/(?P<id>[^/]{1,128})"
)
REPOSITORY = re.compile(
    r"projects/[^/]{1,100}/locations/[^/]{1,100}/repositories/(?P<id>[A-Za-z0-9][-_.A-Za-z0-9]{0,127})"
)
GCS_OBJECT = re.compile(r"gs://(?P<bucket>[a-z0-9][-_.a-z0-9]{1,221})/(?P<object>.*[^/])", re.DOTALL)
GCS_FOLDER = re.compile(r"gs://(?P<bucket>[a-z0-9][-_.a-z0-9]{1,221})(/(?P<folder>.*))?", re.DOTALL)
KERNEL = re.compile(r"[A-Za-z0-9][-._A-Za-z0-9]{0,127}")
EMAIL = re.compile(r"[^@\s/]+@[^@\s/]+")
COMMIT_SHA = re.compile(r"[0-9a-f]{4,64}")
OBJECT_NAME_MAX = 1024  # bytes of UTF-8
OBJECT_NAME_ROOM = 192  # bytes for the job's id and the notebook's name, below the folder of the output
LABELS_MAX = 64
NAME_MAX = 1024  # characters of another resource's name
DURATION_MAX = 315_576_000_000  # seconds; the longest google.protobuf.Duration that JSON can express


def check_location(location: str) -> None:
    """Refuse a text that cannot be a region.

    :raises InvalidArgument: if it is not of the form ``us-central1``
    """
    if not LOCATION.fullmatch(location):
        raise InvalidArgument(f"Location {location!r} is not a supported location.")


def check_job(job: JobMessage, job_id: str, location: str) -> None:
    """Refuse a job that breaks a rule.

    :param job: as the client sent it
    :param job_id: the id that the client asked for, or an empty text
    :param location: region of the request
    :raises InvalidArgument: with all faults: ``List of found errors:\\t1.Field: ...; Message: ...``
    """
    faults = [(f"notebook_execution_job.{field}", message) for field, message in _faults(job, location)]
    if job_id and not JOB_ID.fullmatch(job_id):
        faults.append(("notebook_execution_job_id", f"{job_id!r} must match the pattern {JOB_ID.pattern}."))
    if faults:
        found = "\t".join(f"{n}.Field: {field}; Message: {text}" for n, (field, text) in enumerate(faults, 1))
        raise InvalidArgument(f"List of found errors:\t{found}")


def _faults(job: JobMessage, location: str) -> Iterator[tuple[str, str]]:
    if not job.display_name:
        yield "display_name", "Required field is not set."
    elif len(job.display_name) > 128:
        yield "display_name", f"Must be at most 128 characters long, has {len(job.display_name)}."
    yield from _source_faults(job)
    yield from _environment_faults(job, location)
    if not job.gcs_output_uri:
        yield "gcs_output_uri", "Required field is not set."
    elif not (folder := GCS_FOLDER.fullmatch(job.gcs_output_uri)):
        yield "gcs_output_uri", f"{job.gcs_output_uri[:200]!r} must be of the format gs://bucket-name."
    elif fault := _object_fault(folder["folder"] or "x", OBJECT_NAME_MAX - OBJECT_NAME_ROOM):
        yield "gcs_output_uri", fault
    yield from _identity_faults(job)
    yield from _label_faults(job.labels)
    if job.HasField("execution_timeout"):
        timeout = job.execution_timeout
        if not 0 <= timeout.nanos < 10**9 or not 0 < timeout.ToNanoseconds() <= DURATION_MAX * 10**9:
            yield "execution_timeout", f"Must be positive, and at most {DURATION_MAX} seconds."
    if len(job.schedule_resource_name) > NAME_MAX:
        yield "schedule_resource_name", f"Must be at most {NAME_MAX} characters long."


def _source_faults(job: JobMessage) -> Iterator[tuple[str, str]]:
    source = job.WhichOneof("notebook_source")
    if source is None:
        yield "notebook_source", "Exactly one notebook source is required."
    elif source == "gcs_notebook_source":
        gcs = job.gcs_notebook_source
        if not (uri := GCS_OBJECT.fullmatch(gcs.uri)):
            yield "gcs_notebook_source.uri", f"{gcs.uri[:200]!r} must be of the format gs://bucket/notebook_file.ipynb."
        elif fault := _object_fault(uri["object"], OBJECT_NAME_MAX):
            yield "gcs_notebook_source.uri", fault
        if gcs.generation and not re.fullmatch(r"[0-9]{1,19}", gcs.generation):
            yield "gcs_notebook_source.generation", f"{gcs.generation[:200]!r} must be a number."
    elif source == "direct_notebook_source":
        if not job.direct_notebook_source.content:
            yield "direct_notebook_source.content", "Required field is not set."
    else:
        dataform = job.dataform_repository_source
        field = "dataform_repository_source"
        if not REPOSITORY.fullmatch(dataform.dataform_repository_resource_name):
            name = dataform.dataform_repository_resource_name
            yield f"{field}.dataform_repository_resource_name", f"{name[:200]!r} is not the name of a repository."
        if dataform.commit_sha and not COMMIT_SHA.fullmatch(dataform.commit_sha):
            yield f"{field}.commit_sha", f"{dataform.commit_sha[:200]!r} is not the SHA of a commit."


def _object_fault(name: str, most: int) -> str | None:
    """Return why Cloud Storage does not allow the name of an object, or None if it does."""
    if len(name.encode()) > most:
        return f"The name of the object has {len(name.encode())} bytes; at most {most} are allowed."
    if name.strip("/") in (".", ".."):
        return f"{name!r} cannot be the name of an object."
    if not name.isprintable() and any(ord(character) < 32 or ord(character) == 127 for character in name):
        return f"{name[:200]!r} has a control character, which no name of an object may have."
    return None


def _environment_faults(job: JobMessage, location: str) -> Iterator[tuple[str, str]]:
    environment = job.WhichOneof("environment_spec")
    if environment is None:
        yield "environment_spec", "Exactly one environment is required."
    elif environment == "notebook_runtime_template_resource_name":
        name = job.notebook_runtime_template_resource_name
        match = TEMPLATE.fullmatch(name)
        if match is None:
            yield environment, f"{name[:200]!r} is not the name of a NotebookRuntimeTemplate."
        elif match["location"] != location:
            yield environment, f"{name[:200]!r} must be in the location of the job, {location!r}."
    if job.kernel_name and not job.HasField("workbench_runtime"):
        yield "kernel_name", "Is supported with workbench_runtime only."
    elif job.kernel_name and not KERNEL.fullmatch(job.kernel_name):
        yield "kernel_name", f"{job.kernel_name[:200]!r} is not the name of a kernel."


def _identity_faults(job: JobMessage) -> Iterator[tuple[str, str]]:
    identity = job.WhichOneof("execution_identity")
    if identity is None:
        yield "execution_identity", "Exactly one of service_account and execution_user is required."
    elif not EMAIL.fullmatch(getattr(job, identity)):
        yield identity, f"{getattr(job, identity)[:200]!r} is not an email address."
    elif identity == "execution_user" and job.execution_user.endswith(".gserviceaccount.com"):
        yield identity, "Service account is not allowed for this field."


def _label_faults(labels: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if len(labels) > LABELS_MAX:
        yield "labels", f"At most {LABELS_MAX} are allowed, there are {len(labels)}."
        return
    for key, value in labels.items():
        for text in (key, value):
            if text.startswith("aiplatform.googleapis.com/"):
                continue
            if len(text) > 64 or not all(c in "_-" or (c.isalnum() and c == c.lower()) for c in text):
                yield (
                    "labels",
                    f"{text[:200]!r} must be at most 64 lowercase letters, numeric characters, underscores and dashes.",
                )
