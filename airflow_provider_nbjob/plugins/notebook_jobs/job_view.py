"""Collect what the tab shows of a job, from the API and the bucket, by the task's own connection.

Everything here may block: the caller runs it in a thread and waits for a limited time.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import JobLost, NotebookExecutionJobError
from airflow_provider_nbjob.job import JobName, JobState, plain_text, state_of, storage_console_url
from airflow_provider_nbjob.job.record import JobSteps
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import Reader
from airflow_provider_nbjob.plugins.notebook_jobs.hidden import Hidden, TooManySecrets
from airflow_provider_nbjob.plugins.notebook_jobs.lookup import NotOurs, look_up
from airflow_provider_nbjob.plugins.notebook_jobs.notebooks import Outcome, Outcomes
from airflow_provider_nbjob.plugins.notebook_jobs.problems import public_message
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import TaskData
from airflow_provider_nbjob.rendering import MASK

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.files import StoredNotebook
    from airflow_provider_nbjob.hooks.notebook_service import NotebookExecutionJob

log = logging.getLogger(__name__)

NO_PLACE = "Airflow no longer has the arguments of this task, so nobody can be asked."
NOTES = {
    "xcoms": "You may not read XComs of this DAG: results, and what the task recorded of its job, are left out.",
    "logs": "You may not read logs of this DAG: errors and the notebook are left out.",
    "parameters": (
        "Airflow does not say which of the values that were passed to this notebook are secret. What stands under a"
        " secret's name is masked here; other values are not."
    ),
}


@dataclass(frozen=True)
class JobView:
    """A job as the tab shows it.

    :param job: the API's message; None if the job is gone or the API does not answer: then the other parts are those
        of the task's record
    :param is_own: whether the job is known to be the task's; if not, its name comes from a record, and gets no links
    :param folder: URI of the folder of the job's output; empty if it is not known
    :param facts: fields of the job that are set, as texts for a person, by their labels
    :param problem: why something is missing, for a person
    :param notes: what else is left out and why, for a person
    :param shows_notebook: whether the reader may see the notebook
    """

    name: JobName | None = None
    state: JobState | None = None
    job: NotebookExecutionJob | None = None
    message: str = ""
    steps: JobSteps = field(default_factory=JobSteps)
    created: datetime | None = None
    output: StoredNotebook | None = None
    output_uri: str | None = None
    outcome: Outcome = field(default_factory=Outcome)
    parameters: Mapping[str, Any] | None = None
    is_own: bool = False
    folder: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    notes: tuple[str, ...] = ()
    shows_notebook: bool = True

    @property
    def is_active(self) -> bool:
        """Return whether the job is known not to have ended."""
        return self.state is not None and not self.state.is_terminal

    @property
    def links(self) -> dict[str, str]:
        """Return URLs in Google Cloud, by their labels."""
        if self.name is None or not self.is_own:
            return {}
        uri = self.output.uri if self.output else self.folder
        return {
            "Executions in the console": self.name.console_url,
            **({"Output in Cloud Storage": storage_console_url(uri)} if uri else {}),
            "Logs": self.name.logs_url,
        }


# The argument that a fact comes from, if it is a template: Airflow may mask a part of it.
_ARGUMENTS = {
    "Display name": "display_name",
    "Source": "gcs_notebook_source",
    "Runtime template": "notebook_runtime_template_resource_name",
    "Kernel": "kernel_name",
    "Labels": "labels",
}


def _facts(job: NotebookExecutionJob, task: TaskData) -> dict[str, str]:
    """Return the fields of a job, by their labels. If Airflow masks the argument of a field, return what it shows."""
    source, dataform = job.gcs_notebook_source, job.dataform_repository_source
    machine = job.custom_environment_spec.machine_spec
    facts = {
        "Display name": job.display_name,
        "Source": _joined(source.uri, source.generation and f"generation {source.generation}")
        or _joined(dataform.dataform_repository_resource_name, dataform.commit_sha and f"commit {dataform.commit_sha}")
        or "submitted with the job",
        "Runs as": job.service_account or job.execution_user,
        "Runtime template": job.notebook_runtime_template_resource_name,
        "Machine": _joined(
            machine.machine_type,
            machine.accelerator_count and f"{machine.accelerator_count} x {machine.accelerator_type.name}",
        ),
        "Kernel": job.kernel_name,
        "Schedule": job.schedule_resource_name,
        "Encryption key": job.encryption_spec.kms_key_name,
        "Time limit": str(job.execution_timeout or ""),
        "Labels": ", ".join(f"{key}={value}" for key, value in sorted(job.labels.items())),
    }
    for label, argument in _ARGUMENTS.items():
        rendered = task.rendered(argument)
        if MASK in str(rendered):
            facts[label] = rendered if isinstance(rendered, str) else MASK
    return {label: value for label, value in facts.items() if value}


def recorded_view(task: TaskData) -> JobView:
    """Return the view that the task's record has of the picked try's job, without a request."""
    record = task.picked_record
    if record is None:
        return JobView(parameters=_parameters(task))
    return JobView(
        name=record.name,
        state=record.state,
        message=record.message,
        steps=record.steps,
        created=record.created,
        output_uri=record.output_notebook_uri or None,
        outcome=Outcome(record.failed_cell, record.error),
        parameters=_parameters(task),
        problem=f"The task did not read the executed notebook. {record.output_error}" if record.output_error else "",
    )


def view_of(task: TaskData, outcomes: Outcomes) -> JobView:
    """Return the view of the picked try's job. It may contain secrets, which `shown` removes.

    If the API or the bucket does not answer, the view has a problem that says so, and the parts that are known.
    """
    recorded = recorded_view(task)
    if task.place is None:
        return replace(recorded, problem=NO_PLACE)
    job = None
    try:
        hook = task.place.connection.make_hook()
        lookup = look_up(hook, task)
        if lookup:
            if not (lookup.claim and lookup.claim.is_own):
                recorded = replace(recorded, name=lookup.name, is_own=True, folder=_folder(lookup.name, task))
            job = lookup.fetch(hook)
    except JobLost:
        pass
    except NotOurs as error:
        return replace(recorded, problem=str(error))
    except Exception as error:  # no such connection, no such location, no answer
        log.warning("The job of %s could not be shown", task.ref, exc_info=True)
        return replace(recorded, problem=public_message(error))
    if job is None or lookup is None:
        return replace(recorded, problem=_why_none(task))
    view = _seen(replace(recorded, name=lookup.name, is_own=True), job, task)
    if view.is_active:
        return view
    try:
        stored = hook.files.stat_output_notebook(job, retry=False)
        if stored is None:
            return replace(view, problem="The job wrote no notebook.")
        outcome = outcomes.of(hook, stored, task.place)
        return replace(view, output=stored, output_uri=stored.uri, outcome=outcome)
    except NotebookExecutionJobError as error:
        log.warning("The notebook of %s could not be read", task.ref, exc_info=True)
        return replace(view, problem=public_message(error))


def shown(view: JobView, task: TaskData, reader: Reader) -> JobView:
    """Return a view without secrets, and without the parts that its reader may not read in Airflow."""
    try:
        hidden = hidden_of(task, view.outcome, view.job)
    except TooManySecrets as error:
        view = replace(view, outcome=Outcome(), problem=str(error), shows_notebook=False)
        hidden = Hidden()
    outcome = view.outcome
    parameters = hidden.parameters(view.parameters) if view.parameters else None
    if reader.logs and outcome.parameters:
        parameters = hidden.parameters(outcome.parameters)
    notes = [text for name, text in NOTES.items() if name in ("xcoms", "logs") and not getattr(reader, name)]
    if not are_parameters_rendered(task) and reader.logs and (outcome.parameters or outcome.results or view.output):
        notes.append(NOTES["parameters"])
    return replace(
        view,
        message=hidden.text(view.message) if reader.logs else "",
        problem=hidden.text(view.problem),
        output_uri=view.output_uri and hidden.text(view.output_uri),
        facts={label: hidden.text(value) for label, value in view.facts.items()},
        outcome=Outcome(
            failing_cell=outcome.failing_cell if reader.logs else None,
            error=hidden.text(outcome.error) if reader.logs else "",
            results=hidden.value(outcome.results) if reader.xcoms else {},
        ),
        parameters=parameters,
        notes=tuple(notes),
        shows_notebook=view.shows_notebook and reader.logs,
    )


def hidden_of(task: TaskData, outcome: Outcome, job: NotebookExecutionJob | None) -> Hidden:
    """Return what removes the secrets of a task from the values of its job and its notebook."""
    values = {"display_name": job.display_name, "kernel_name": job.kernel_name} if job else {}
    rendered = {name: task.rendered(name) for name in values}
    others = [(values[name], masked) for name, masked in rendered.items() if MASK in str(masked)]
    parameters = task.rendered("parameters") if are_parameters_rendered(task) else None
    return Hidden.of(parameters, outcome.parameters, outcome.injected, others)


def are_parameters_rendered(task: TaskData) -> bool:
    """Return whether Airflow has the rendered parameters, and so shows which of them are secret."""
    return task.are_rendered and "parameters" in task.fields


def _seen(recorded: JobView, job: NotebookExecutionJob, task: TaskData) -> JobView:
    """Return the view of the API's message, with the steps that the task recorded before."""
    steps = JobSteps(list(recorded.steps.seen))
    steps.look(job)
    name = recorded.name
    return replace(
        recorded,
        state=state_of(job),
        job=job,
        message=plain_text(job.status.message),
        steps=steps,
        created=job.create_time,
        folder=name.output_uri(job.gcs_output_uri) if name and job.gcs_output_uri else "",
        facts=_facts(job, task),
    )


def _folder(name: JobName, task: TaskData) -> str:
    """Return the URI of a job's output folder by the task's arguments; empty if they do not name it."""
    output_uri = task.rendered("gcs_output_uri")
    return name.output_uri(output_uri) if isinstance(output_uri, str) and MASK not in output_uri else ""


def _parameters(task: TaskData) -> Mapping[str, Any] | None:
    """Return the parameters as Airflow rendered them for the newest try; an executed notebook has those passed."""
    parameters = task.rendered("parameters")
    return parameters if isinstance(parameters, Mapping) and task.picked is task.tries[-1] else None


def _joined(*parts: object) -> str:
    return ", ".join(str(part) for part in parts if part)


def _why_none(task: TaskData) -> str:
    number = task.picked.number
    if task.picked_record:
        return "The job is gone from Google Cloud: it was deleted."
    if task.picked is task.tries[-1] and task.picked.is_unfinished:
        return f"Try {number} has not submitted its job yet."
    return f"Try {number} submitted no job of its own: it ended before, or went on with the job of an earlier try."
