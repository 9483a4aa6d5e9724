"""The known facts about a task that runs a job, for a report of its lineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.lineage.datasets import NotebookDataset

if TYPE_CHECKING:
    from airflow_provider_nbjob.job import JobName, JobResult
    from airflow_provider_nbjob.notebook.executed import ExecutedCell


@dataclass(frozen=True)
class TaskRun:
    """The known facts about a task that runs a job.

    :param source: the notebook that it runs
    :param parameters: JSON values by name, without secrets
    :param job: name of the job, if one was submitted
    :param result: the result of the job, if it has ended
    :param failed_cell: the cell that failed
    :param error: the error that fails the task
    :param inlets: of the task, as for `outlets`
    """

    source: NotebookDataset | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)
    job: JobName | None = None
    result: JobResult | None = None
    failed_cell: ExecutedCell | None = None
    error: BaseException | None = None
    inlets: Iterable[Any] = ()
    outlets: Iterable[Any] = ()
