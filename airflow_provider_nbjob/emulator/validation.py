"""What the API refuses in a job that is to be created: all faults in one INVALID_ARGUMENT, in the API's wording.

Independent of the provider's own rules (`spec.py`), as a server is: a client's fault must meet it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from google.api_core.exceptions import InvalidArgument

PARENT = re.compile(r"projects/(?P<project>[^/]+)/locations/(?P<location>[^/]+)")
LOCATION = re.compile(r"[a-z]+(-[a-z]+)+\d+")
JOB_ID = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
TEMPLATE = re.compile(r"projects/[^/]+/locations/(?P<location>[^/]+)/notebookRuntimeTemplates/(?P<id>[^/]+)")
REPOSITORY = re.compile(r"projects/[^/]+/locations/[^/]+/repositories/(?P<id>[A-Za-z0-9][-_.A-Za-z0-9]*)")
GCS_OBJECT = re.compile(r"gs://(?P<bucket>[a-z0-9][-_.a-z0-9]+)/(?P<object>.*[^/])")
GCS_FOLDER = re.compile(r"gs://(?P<bucket>[a-z0-9][-_.a-z0-9]+)(/(?P<folder>.*))?")
EMAIL = re.compile(r"[^@\s/]+@[^@\s/]+")
COMMIT_SHA = re.compile(r"[0-9a-f]{4,64}")


def check_location(location: str) -> None:
    """Refuse what cannot be a region.

    :raises InvalidArgument: for anything not of the form ``us-central1``
    """
    if not LOCATION.fullmatch(location):
        raise InvalidArgument(f"Location {location!r} is not a supported location.")


def check_job(job: Any, job_id: str, location: str) -> None:
    """Refuse a job that breaks a rule.

    :param job: `NotebookExecutionJob` protobuf message, as the client sent it
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


def _faults(job: Any, location: str) -> Iterator[tuple[str, str]]:
    if not job.display_name:
        yield "display_name", "Required field is not set."
    elif len(job.display_name) > 128:
        yield "display_name", f"Must be at most 128 characters long, has {len(job.display_name)}."
    yield from _source_faults(job)
    yield from _environment_faults(job, location)
    if not job.gcs_output_uri:
        yield "gcs_output_uri", "Required field is not set."
    elif not GCS_FOLDER.fullmatch(job.gcs_output_uri):
        yield "gcs_output_uri", f"{job.gcs_output_uri!r} must be of the format gs://bucket-name."
    yield from _identity_faults(job)
    yield from _label_faults(job.labels)
    if job.HasField("execution_timeout") and job.execution_timeout.ToNanoseconds() <= 0:
        yield "execution_timeout", "Must be positive."


def _source_faults(job: Any) -> Iterator[tuple[str, str]]:
    source = job.WhichOneof("notebook_source")
    if source is None:
        yield "notebook_source", "Exactly one notebook source is required."
    elif source == "gcs_notebook_source":
        gcs = job.gcs_notebook_source
        if not GCS_OBJECT.fullmatch(gcs.uri):
            yield "gcs_notebook_source.uri", f"{gcs.uri!r} must be of the format gs://bucket/notebook_file.ipynb."
        if gcs.generation and not gcs.generation.isdigit():
            yield "gcs_notebook_source.generation", f"{gcs.generation!r} must be a number."
    elif source == "direct_notebook_source":
        if not job.direct_notebook_source.content:
            yield "direct_notebook_source.content", "Required field is not set."
    else:
        dataform = job.dataform_repository_source
        field = "dataform_repository_source"
        if not REPOSITORY.fullmatch(dataform.dataform_repository_resource_name):
            name = dataform.dataform_repository_resource_name
            yield f"{field}.dataform_repository_resource_name", f"{name!r} is not the name of a repository."
        if dataform.commit_sha and not COMMIT_SHA.fullmatch(dataform.commit_sha):
            yield f"{field}.commit_sha", f"{dataform.commit_sha!r} is not the SHA of a commit."


def _environment_faults(job: Any, location: str) -> Iterator[tuple[str, str]]:
    environment = job.WhichOneof("environment_spec")
    if environment is None:
        yield "environment_spec", "Exactly one environment is required."
    elif environment == "notebook_runtime_template_resource_name":
        name = job.notebook_runtime_template_resource_name
        match = TEMPLATE.fullmatch(name)
        if match is None:
            yield environment, f"{name!r} is not the name of a NotebookRuntimeTemplate."
        elif match["location"] != location:
            yield environment, f"{name!r} must be in the location of the job, {location!r}."
    if job.kernel_name and not job.HasField("workbench_runtime"):
        yield "kernel_name", "Is supported with workbench_runtime only."


def _identity_faults(job: Any) -> Iterator[tuple[str, str]]:
    identity = job.WhichOneof("execution_identity")
    if identity is None:
        yield "execution_identity", "Exactly one of service_account and execution_user is required."
    elif not EMAIL.fullmatch(getattr(job, identity)):
        yield identity, f"{getattr(job, identity)!r} is not an email address."
    elif identity == "execution_user" and job.execution_user.endswith(".gserviceaccount.com"):
        yield identity, "Service account is not allowed for this field."


def _label_faults(labels: Any) -> Iterator[tuple[str, str]]:
    for key, value in labels.items():
        for text in (key, value):
            if text.startswith("aiplatform.googleapis.com/"):
                continue
            if len(text) > 64 or not all(c in "_-" or (c.isalnum() and c == c.lower()) for c in text):
                yield (
                    "labels",
                    f"{text!r} must be at most 64 lowercase letters, numeric characters, underscores and dashes.",
                )
