"""Resolve the notebook to submit: the source unchanged, or its content with parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, cast
from uuid import uuid4

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import DIRECT_NAME
from airflow_provider_nbjob.job.spec import SOURCES, NotebookExecutionJobSpec
from airflow_provider_nbjob.notebook.parameters import parameterize

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook


def resolve_source(
    hook: NotebookExecutionJobHook,
    spec: NotebookExecutionJobSpec,
    parameters: Mapping[str, Any] | None,
    log: Any,
    *,
    secrets: Mapping[str, str] | None = None,
) -> NotebookExecutionJobSpec:
    """Return a copy of a job's spec with the source to submit.

    Read a source that gets parameters, and submit it as direct content. If content is too large for the request, upload
    it beside the job's output, and run it from there. Leave any other source as it is, without reading it.

    :param hook: hook that reads and uploads notebooks
    :param spec: a spec that `validated` returned
    :param parameters: values by name, or None
    :param log: logger
    :param secrets: resource names of secret versions, by parameter
    :raises InvalidJob: if the notebook or a parameter is invalid
    """
    has_parameters = bool(parameters or secrets)
    if not has_parameters and spec.direct_notebook_source is None:
        return spec
    content = _read(hook, spec)
    if has_parameters:
        content = _parameterized(spec, content, parameters, secrets, log)
    if len(content) <= hook.files.direct_content_max_bytes:
        return replace(spec, **{**_SOURCELESS, "direct_notebook_source": content})
    folder = f"{spec.notebook_execution_job_id or uuid4().hex}-source"
    uri = f"{spec.gcs_output_uri.rstrip('/')}/{folder}/{_file_name(spec)}"
    hook.files.upload_notebook(content, uri)
    log.info("The notebook has %s bytes, too many for a request: it was uploaded to %s", len(content), uri)
    return replace(spec, **{**_SOURCELESS, "gcs_notebook_source": uri})


_SOURCELESS: dict[str, Any] = dict.fromkeys(SOURCES)


def _read(hook: NotebookExecutionJobHook, spec: NotebookExecutionJobSpec) -> bytes:
    if (direct := spec.direct_notebook_source) is not None:
        return cast(bytes, direct)  # `validated` has read it
    if spec.gcs_notebook_source is not None:
        uri, generation = _parts(spec.gcs_notebook_source, "uri", "generation")
        return hook.files.read_gcs_notebook(uri, generation and int(generation))
    return hook.files.read_dataform_notebook(
        *_parts(spec.dataform_repository_source, "dataform_repository_resource_name", "commit_sha")
    )


def _parts(source: Any, name: str, version: str) -> tuple[str, Any]:
    """Return the name and the version of a source that is given as a dict, or as its name alone.

    :param name: key of the name in the dict
    :param version: key of the version in the dict
    """
    return (source[name], source.get(version)) if isinstance(source, Mapping) else (source, None)


def _parameterized(
    spec: NotebookExecutionJobSpec,
    content: bytes,
    parameters: Mapping[str, Any] | None,
    secrets: Mapping[str, str] | None,
    log: Any,
) -> bytes:
    field, origin = _origin(spec)
    try:
        done = parameterize(content, parameters or {}, secrets=secrets, kernel_name=spec.kernel_name, origin=origin)
    except InvalidJob as error:
        named = [
            p if p.startswith(("parameters", "secret_parameters")) else f"{field}: {origin or 'it'}: {p}"
            for p in error.problems
        ]
        raise InvalidJob(named) from None
    if done.unknown:
        names = ", ".join(done.unknown)
        log.warning("Not assigned in the notebook's cell tagged 'parameters', so perhaps misspelt: %s", names)
    if parameters:
        log.info("Passing parameters in %s: %s", done.language, ", ".join(parameters))
    if secrets:
        log.info("The notebook reads from Secret Manager as it runs: %s", ", ".join(secrets))
    if origin:
        log.info("The notebook was read from %s, and is submitted with its parameters as direct content", origin)
    return done.content


def _origin(spec: NotebookExecutionJobSpec) -> tuple[str, str | None]:
    """Return the field that names a notebook's source, and the source's URI or name; None for a direct source."""
    if spec.gcs_notebook_source is not None:
        uri, generation = _parts(spec.gcs_notebook_source, "uri", "generation")
        return "gcs_notebook_source", f"{uri}#{generation}" if generation else uri
    if spec.dataform_repository_source is not None:
        name, commit = _parts(spec.dataform_repository_source, "dataform_repository_resource_name", "commit_sha")
        return "dataform_repository_source", f"{name}@{commit}" if commit else name
    return "direct_notebook_source", None


def _file_name(spec: NotebookExecutionJobSpec) -> str:
    _, origin = _origin(spec)
    name = (origin or "").rpartition("/")[2].partition("#")[0]
    return name if name.endswith(".ipynb") else DIRECT_NAME
