"""Name the notebooks of a job as datasets, by OpenLineage's naming specification.

A namespace is the source of the data, as ``scheme:[//authority]``; a name is the path in it. The specification lists
object stores and local files. It does not list Dataform, which is named here like BigQuery: as one service, whose
namespace is a scheme alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from airflow_provider_nbjob import names
from airflow_provider_nbjob.arguments.job_arguments import direct_notebook_source
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import bucket_and_path
from airflow_provider_nbjob.job.checks import is_nothing
from airflow_provider_nbjob.notebook.text import storable


class NotebookDataset(NamedTuple):
    """A notebook as a dataset.

    :param namespace: such as ``gs://bucket``
    :param name: path of the notebook in the namespace
    :param version: generation of an object in Cloud Storage, or commit of a repository; None if it is not known
    """

    namespace: str
    name: str
    version: str | None = None


def source_of(task: Any) -> NotebookDataset | None:
    """Return the notebook that a task runs, from its rendered arguments; None if they name none, or are invalid.

    :param task: an operator with the arguments of `CreateNotebookExecutionJobOperator`
    """
    if not is_nothing(task.gcs_notebook_source):
        uri, generation = _parts(task.gcs_notebook_source, "uri", "generation")
        return stored_notebook(uri, generation)
    if not is_nothing(task.dataform_repository_source):
        name, commit = _parts(task.dataform_repository_source, "dataform_repository_resource_name", "commit_sha")
        is_one = isinstance(name, str) and re.fullmatch(names.REPOSITORY, name)
        return NotebookDataset("dataform", name, _text(commit)) if is_one else None
    if is_nothing(task.direct_notebook_source):
        return None
    direct = direct_notebook_source(task, task.direct_notebook_source)
    return NotebookDataset("file", storable(str(direct))) if isinstance(direct, Path) else None


def stored_notebook(uri: Any, generation: Any = None) -> NotebookDataset | None:
    """Return a notebook in Cloud Storage; None if the URI is invalid.

    :param uri: ``gs://bucket/notebook.ipynb``
    :param generation: generation of the object, or None
    """
    try:
        bucket, path = bucket_and_path(uri)
    except InvalidJob:
        return None
    return NotebookDataset(f"gs://{bucket}", path, _text(generation)) if path else None


def _parts(source: Any, name: str, version: str) -> tuple[Any, Any]:
    return (source.get(name), source.get(version)) if isinstance(source, Mapping) else (source, None)


def _text(version: Any) -> str | None:
    return None if is_nothing(version) else str(version)
