"""Build what OpenLineage's provider sends of a task. This module needs the extra `openlineage`.

Only functions that this provider calls may import this module: it is neither there nor needed without the extra.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from airflow.providers.common.compat.openlineage.utils.utils import translate_airflow_asset
from airflow.providers.openlineage.extractors import OperatorLineage
from airflow.providers.openlineage.extractors.manager import ExtractorManager
from airflow.sdk import Asset
from attrs import define
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import (
    RunFacet,
    dataset_version_dataset,
    error_message_run,
    execution_parameters_run,
)

from airflow_provider_nbjob.job import JobName, JobResult
from airflow_provider_nbjob.lineage.datasets import NotebookDataset, stored_notebook
from airflow_provider_nbjob.lineage.task_run import TaskRun
from airflow_provider_nbjob.notebook.executed import ExecutedCell
from airflow_provider_nbjob.notebook.text import storable

# OpenLineage requires a prefix of the project in the keys of facets that are not its own.
JOB_FACET = "nbjob_notebookExecutionJob"
PARAMETERS_MAX = 100  # parameters that an event has
ERROR_MAX = 16 * 1024  # characters of an error's message


@define
class NotebookExecutionJobRunFacet(RunFacet):
    """The job that a task ran. A part that is not known is None.

    :param name: resource name of the job
    :param logs: URL of a search for the job in Logs Explorer
    :param state: state of the job, such as ``"JOB_STATE_SUCCEEDED"``
    :param created: time in UTC, in ISO 8601; the same holds for `updated`
    :param seconds: seconds from the job's creation to its end
    :param cell: `number` of the cell that failed, with `ename`, `evalue` and `traceback` of its exception
    """

    name: str
    logs: str
    state: str | None = None
    created: str | None = None
    updated: str | None = None
    seconds: float | None = None
    cell: dict[str, Any] | None = None


def lineage_of(run: TaskRun) -> OperatorLineage[Any, Any]:
    """Return the datasets and facets of a task.

    If a task reports datasets of its own, OpenLineage's provider leaves out its inlets and outlets. So they are here.
    """
    output = stored_notebook(run.result.output_notebook_uri) if run.result else None
    return OperatorLineage(
        inputs=[*_datasets(InputDataset, run.source), *_declared(run.inlets)],
        outputs=[*_datasets(OutputDataset, output), *_declared(run.outlets)],
        run_facets=dict(_run_facets(run)),
    )


def _datasets(kind: Any, notebook: NotebookDataset | None) -> Iterator[Any]:
    if notebook:
        version = notebook.version and dataset_version_dataset.DatasetVersionDatasetFacet(notebook.version)
        yield kind(notebook.namespace, notebook.name, facets={"version": version} if version else {})


def _declared(outlets: Iterable[Any]) -> Iterator[Any]:
    for outlet in outlets:
        is_asset = isinstance(outlet, Asset)  # which the manager of OpenLineage's provider 2.10 does not convert
        dataset = translate_airflow_asset(outlet, None) if is_asset else ExtractorManager.convert_to_ol_dataset(outlet)
        if dataset is not None:
            yield dataset


def _run_facets(run: TaskRun) -> Iterator[tuple[str, RunFacet]]:
    if run.parameters:
        parameters = [
            execution_parameters_run.ExecutionParameter(key=name, value=_as_text(value))
            for name, value in list(run.parameters.items())[:PARAMETERS_MAX]
        ]
        yield "executionParameters", execution_parameters_run.ExecutionParametersRunFacet(parameters)
    if run.job:
        yield JOB_FACET, _job_facet(run.job, run.result, run.failed_cell)
    if run.error:
        # The provider puts the error that Airflow has in place of this one, if Airflow has one.
        traceback = _texts_of(run.failed_cell).get("traceback")
        message = storable(str(run.error)[:ERROR_MAX])
        yield "errorMessage", error_message_run.ErrorMessageRunFacet(message, "python", traceback)


def _as_text(value: Any) -> str:
    return storable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _job_facet(job: JobName, result: JobResult | None, failed_cell: ExecutedCell | None) -> RunFacet:
    facet = NotebookExecutionJobRunFacet(name=str(job), logs=job.logs_url)
    if result:
        facet.state, facet.seconds = str(result.job_state), result.seconds
        facet.created, facet.updated = result.create_time, result.update_time
    if failed_cell:
        facet.cell = {"number": failed_cell.number, **_texts_of(failed_cell)}
    return facet


def _texts_of(cell: ExecutedCell | None) -> dict[str, str]:
    """Return the texts of the exception that a cell raised."""
    return {name: storable(text) for name, text in vars(cell.error).items()} if cell and cell.error else {}
