"""The arguments of an operator that describe a job: what is wrong with them, and what is submitted by them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.airflow_compat import is_tasks_test
from airflow_provider_nbjob.arguments.checked_task import CheckedTask
from airflow_provider_nbjob.arguments.notebook_argument import problems_of_source, warn_if_serialized
from airflow_provider_nbjob.arguments.templating import untemplated, without_nothing
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job.checks import is_nothing
from airflow_provider_nbjob.job.mark import MARK_LABEL, Mark, new_nonce, problems_of_mapped_id
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec
from airflow_provider_nbjob.lifecycle.final_errors import never_retried
from airflow_provider_nbjob.lifecycle.submission import Submission
from airflow_provider_nbjob.lifecycle.tries import Tries
from airflow_provider_nbjob.notebook.unknown import UNKNOWN

if TYPE_CHECKING:
    from airflow.sdk import Context

_SPEC_FIELDS = tuple(field.name for field in fields(NotebookExecutionJobSpec))
JOB_ARGUMENTS = frozenset({*_SPEC_FIELDS, "parameters", "secret_parameters"})


class HasJobArguments(CheckedTask):
    """A task whose arguments describe a job."""

    @classmethod
    def argument_names(cls) -> set[str]:
        """Return the names of the arguments that `problems_in` judges."""
        return {*super().argument_names(), *JOB_ARGUMENTS, "dag"}

    @classmethod
    def problems_in(cls, values: Mapping[str, Any]) -> list[str]:
        """Return what is wrong with arguments; see `CheckedTask`. No notebook is read."""
        return [*super().problems_in(values), *problems_of_job(values)]

    @classmethod
    def check_expanded(cls, given: Mapping[str, Any], mapped: Mapping[str, Any]) -> None:
        """Refuse what is wrong with a mapped task, such as a job id that all its instances share."""
        super().check_expanded(given, mapped)
        check_mapped_id({**given, **mapped})

    @classmethod
    def check_expanded_kwargs(cls, given: Mapping[str, Any], mapped: Iterable[Mapping[str, Any]]) -> None:
        """Refuse what is wrong with a mapped task; see `check_expanded`."""
        instances = list(mapped)
        super().check_expanded_kwargs(given, instances)
        if not any("notebook_execution_job_id" in instance for instance in instances):
            check_mapped_id(given)

    @classmethod
    def warn_about(cls, arguments: Mapping[str, Any]) -> None:
        """Warn about a notebook that stands in the DAG."""
        warn_if_serialized(arguments.get("direct_notebook_source"))


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


def check_unrendered(task: Any, tries: Tries) -> None:
    """Refuse, on the worker, a job id that all instances of a mapped task share; see `check_mapped_id`."""
    if tries.own_id is not None and tries.map_index != -1 and task.has_dag():
        unrendered = task.dag.get_task(task.task_id)
        check_mapped_id(getattr(unrendered, "partial_kwargs", None) or vars(unrendered))


def job_id_of(task: Any) -> str | None:
    """Return the job id that a task's arguments name, or None if they name none or a template came out as nothing."""
    job_id = task.notebook_execution_job_id
    return None if is_nothing(job_id) else str(job_id)


def submission_of(task: Any, context: Context, **known: Any) -> Submission:
    """Return this try's job.

    :param known: of one that was submitted before: the parameters of `Submission` that say how far it is
    """
    test = new_nonce()[:6] if is_tasks_test() else ""
    tries = Tries.from_context(context, own_id=job_id_of(task), test=test)
    return Submission(
        lambda: task.hook,
        context["ti"],
        tries,
        location=str(task.location),
        project_id=task.project_id,
        display_name=task.display_name or tries.default_display_name,
        gcs_output_uri=str(task.gcs_output_uri),
        log=task.log,
        is_durable=task.durable,
        cancel_on_kill=task.cancel_on_kill,
        is_workbench=task.workbench_runtime is not None,
        **known,
    )


def new_job(task: Any, submission: Submission) -> tuple[dict[str, Any], Mark]:
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
        "direct_notebook_source": direct_notebook_source(task, given["direct_notebook_source"]),
        "notebook_execution_job_id": tries.job_id() if submission.has_own_id else None,
        "job_timeout": _job_timeout(task, given["job_timeout"]),
    }
    problems = _problems_of_parameters(task.parameters, task.secret_parameters)
    try:
        spec = NotebookExecutionJobSpec(**{**given, **changes}).validated()
    except InvalidJob as error:
        raise InvalidJob(error.problems + problems) from None
    if problems:
        raise InvalidJob(problems)
    project = submission.project
    secrets = task.secret_parameters and full_names(task.secret_parameters, project)
    spec = resolve_source(task.hook, spec, task.parameters, task.log, secrets=secrets)
    mark = tries.new_mark()
    job = spec.to_api(project)
    job["labels"] = _labels(tries, spec.labels, mark) if task.default_labels else spec.labels or {}
    return job, mark


def _labels(tries: Tries, labels: Mapping[str, str] | None, mark: Mark) -> Mapping[str, str]:
    """Return the given labels with the default ones."""
    from airflow import __version__

    from airflow_provider_nbjob.job.labels import default_labels, merged

    defaults = default_labels(dag_id=tries.dag_id, task_id=tries.task_id, airflow_version=__version__)
    return merged(labels, {MARK_LABEL: mark.label, **defaults})


def _job_timeout(task: Any, given: Any) -> timedelta | float | str | None:
    """Return the API's own limit: what was given, else the task's, should Airflow be in no state to keep that."""
    limit: timedelta | float | str | None = given
    return task.execution_timeout if limit is None and task.wait_for_completion else limit


def direct_notebook_source(task: Any, given: Any) -> bytes | Path | None:
    """Return a rendered argument `direct_notebook_source` as content, or as a path; None if it is not given."""
    source = untemplated(given)  # again: an XComArg may have come out as a notebook, or as nothing
    if not isinstance(source, str):
        content: bytes | Path | None = source
        return content
    folder = Path(task.dag.fileloc).parent if task.has_dag() else Path()
    return folder / source
