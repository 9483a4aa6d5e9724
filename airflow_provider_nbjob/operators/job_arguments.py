"""The arguments of an operator that describe a job: what is wrong with them, and the create that is made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job.checks import is_nothing
from airflow_provider_nbjob.job.mark import MARK_LABEL, Mark, problems_of_mapped_id
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec
from airflow_provider_nbjob.lifecycle.final_errors import never_retried
from airflow_provider_nbjob.lifecycle.submission import Submission
from airflow_provider_nbjob.lifecycle.tries import Tries
from airflow_provider_nbjob.notebook.unknown import UNKNOWN
from airflow_provider_nbjob.operators.notebook_argument import problems_of_source
from airflow_provider_nbjob.operators.templating import untemplated, without_nothing

if TYPE_CHECKING:
    from airflow_provider_nbjob.operators.notebook_execution_job import CreateNotebookExecutionJobOperator

_SPEC_FIELDS = tuple(field.name for field in fields(NotebookExecutionJobSpec))
JOB_ARGUMENTS = frozenset({*_SPEC_FIELDS, "parameters", "secret_parameters"})


def problems_of_job(values: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the arguments of a job; no notebook is read.

    :param values: all of `JOB_ARGUMENTS`, and `dag`; `UNKNOWN` if only the run knows it
    """
    job = without_nothing({name: values[name] for name in _SPEC_FIELDS})
    if job["display_name"] is None:
        job["display_name"] = UNKNOWN  # the default one, which the run gives
    return [
        *NotebookExecutionJobSpec(**job).problems(reading=False),
        *problems_of_source(job["direct_notebook_source"], values["dag"]),
        *_problems_of_parameters(values["parameters"], values["secret_parameters"]),
    ]


def _problems_of_parameters(parameters: Any, secrets: Any) -> list[str]:
    """Return what is wrong with parameters, but with those that only the run knows."""
    problems = []
    if parameters is not None and parameters is not UNKNOWN:
        from airflow_provider_nbjob.notebook.parameters import problems_of

        problems += problems_of(parameters)
    if secrets is not None and secrets is not UNKNOWN:
        from airflow_provider_nbjob.notebook.secrets import problems_of_secrets

        problems += problems_of_secrets(secrets, parameters)
    return problems


def check_mapped_id(arguments: Mapping[str, Any]) -> None:
    """Refuse a job id that all instances of a mapped task share.

    :param arguments: of the task, before its templates are rendered
    :raises InvalidJob: never retried
    """
    if problems := problems_of_mapped_id(arguments.get("notebook_execution_job_id")):
        raise never_retried(InvalidJob(problems))


def check_unrendered(task: CreateNotebookExecutionJobOperator, tries: Tries) -> None:
    """Refuse, on the worker, a job id that all instances of a mapped task share; see `check_mapped_id`."""
    if tries.own_id is not None and tries.map_index != -1 and task.has_dag():  # type: ignore[no-untyped-call]
        unrendered = task.dag.get_task(task.task_id)
        check_mapped_id(getattr(unrendered, "partial_kwargs", None) or vars(unrendered))


def job_id_of(task: CreateNotebookExecutionJobOperator) -> str | None:
    """Return the job id that a task's arguments name, or None if they name none or a template came out as nothing."""
    job_id = task.notebook_execution_job_id
    return None if is_nothing(job_id) else str(job_id)


def new_job(task: CreateNotebookExecutionJobOperator, submission: Submission) -> tuple[dict[str, Any], Mark]:
    """Return the job that an operator's arguments describe, in the API's field names, and the mark of its create.

    A source is read if parameters are to be put into it.

    :raises InvalidJob: if the arguments describe none
    :raises ApiError: if the source cannot be read
    """
    from airflow_provider_nbjob.lifecycle.notebook_source import resolve_source
    from airflow_provider_nbjob.notebook.secrets import full_names

    tries = submission.tries
    given = without_nothing({name: getattr(task, name) for name in _SPEC_FIELDS})
    changes = {
        "display_name": submission.display_name,
        "direct_notebook_source": _direct_notebook_source(task, given["direct_notebook_source"]),
        "notebook_execution_job_id": tries.job_id() if submission.has_own_id else None,
        "job_timeout": _job_timeout(task, given["job_timeout"]),
    }
    spec = NotebookExecutionJobSpec(**{**given, **changes})
    if problems := spec.problems() + _problems_of_parameters(task.parameters, task.secret_parameters):
        raise InvalidJob(problems)
    project = submission.project
    secrets = task.secret_parameters and full_names(task.secret_parameters, project)
    spec = resolve_source(task.hook, spec, task.parameters, task.log, secrets=secrets)
    mark = tries.new_mark()
    job = spec.to_api(project)  # validated above: the hook would read and check the notebook again
    job["labels"] = _labels(tries, spec.labels, mark) if task.default_labels else spec.labels or {}
    return job, mark


def _labels(tries: Tries, labels: Mapping[str, str] | None, mark: Mark) -> Mapping[str, str]:
    """Return the given labels with the default ones."""
    from airflow import __version__

    from airflow_provider_nbjob.job.labels import default_labels, merged

    defaults = default_labels(dag_id=tries.dag_id, task_id=tries.task_id, airflow_version=__version__)
    return merged(labels, {MARK_LABEL: mark.label, **defaults})


def _job_timeout(task: CreateNotebookExecutionJobOperator, given: Any) -> timedelta | float | str | None:
    """Return the API's own limit: what was given, else the task's, should Airflow be in no state to keep that."""
    limit: timedelta | float | str | None = given
    return task.execution_timeout if limit is None and task.wait_for_completion else limit


def _direct_notebook_source(task: CreateNotebookExecutionJobOperator, given: Any) -> bytes | Path | None:
    source = untemplated(given)  # again: an XComArg may have come out as a notebook, or as nothing
    if not isinstance(source, str):
        content: bytes | Path | None = source
        return content
    folder = Path(task.dag.fileloc).parent if task.has_dag() else Path()  # type: ignore[no-untyped-call]
    return folder / source
