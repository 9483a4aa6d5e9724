"""What the tab shows of a job: asked of the API and of the bucket, with the task's own connection.

Everything here may block; it runs in a thread, for a bounded time.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from io import BytesIO
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.adoption import EarlierTries
from airflow_provider_nbjob.exceptions import JobLost, NotebookExecutionJobError, NotebookUnreadable
from airflow_provider_nbjob.job import JobName, JobState, plain_text, state_of, storage_console_url
from airflow_provider_nbjob.notebook.executed import ExecutedNotebook, read_executed
from airflow_provider_nbjob.notebook.results import collect_results
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import WAY, TaskData
from airflow_provider_nbjob.record import JobSteps
from airflow_provider_nbjob.rendering import NOTEBOOK_MAX_BYTES, NotRendered

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
    from airflow_provider_nbjob.hooks.notebook_files import StoredNotebook

log = logging.getLogger(__name__)

OUTCOMES_KEPT = 200


@dataclass(frozen=True)
class Outcome:
    """What an executed notebook tells of its run."""

    failing_cell: int | None = None
    error: str = ""
    parameters: Mapping[str, Any] | None = None
    results: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, notebook: ExecutedNotebook) -> Outcome:
        """What is shown of an executed notebook."""
        cell = notebook.failing_cell
        error = f"{cell.error.ename}: {cell.error.evalue}" if cell and cell.error else ""
        return cls(cell.number if cell else None, error, notebook.parameters, collect_results(notebook).values)


@dataclass(frozen=True)
class JobView:
    """A job as the tab shows it.

    :param job: the API's message; `None` where it shows none (it is gone, or does not answer): then there is what the
        task recorded
    :param problem: why something is missing, for a person
    """

    name: JobName | None = None
    state: JobState | None = None
    job: Any = None
    message: str = ""
    steps: JobSteps = field(default_factory=JobSteps)
    created: datetime | None = None
    output: StoredNotebook | None = None
    output_uri: str | None = None
    outcome: Outcome = field(default_factory=Outcome)
    parameters: Mapping[str, Any] | None = None
    problem: str = ""

    @property
    def is_active(self) -> bool:
        """Whether the job has not ended, as far as is known."""
        return self.state is not None and not self.state.is_terminal

    @property
    def links(self) -> dict[str, str]:
        """URLs in Google Cloud by their labels."""
        if self.name is None:
            return {}
        folder = self.job and self.job.gcs_output_uri and self.name.output_uri(self.job.gcs_output_uri)
        uri = self.output_uri or folder
        return {
            "Executions in the console": self.name.console_url,
            **({"Output in Cloud Storage": storage_console_url(uri)} if uri else {}),
            "Logs": self.name.logs_url,
        }

    @property
    def facts(self) -> dict[str, str]:
        """What the API says of the job, for a person, by its labels; only what is set."""
        job = self.job
        if job is None:
            return {}
        source, dataform = job.gcs_notebook_source, job.dataform_repository_source
        machine = job.custom_environment_spec.machine_spec
        facts = {
            "Display name": job.display_name,
            "Source": _joined(source.uri, source.generation and f"generation {source.generation}")
            or _joined(
                dataform.dataform_repository_resource_name, dataform.commit_sha and f"commit {dataform.commit_sha}"
            )
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
        return {label: value for label, value in facts.items() if value}


def make_hook(task: TaskData) -> NotebookExecutionJobHook:
    """The hook, by the way that the task's operator was given."""
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

    return NotebookExecutionJobHook(
        gcp_conn_id=task.rendered("gcp_conn_id") or "google_cloud_default",
        impersonation_chain=task.rendered("impersonation_chain"),
        api_endpoint=task.rendered("api_endpoint"),
    )


def recorded_view(task: TaskData) -> JobView:
    """What the task's record alone tells of the picked try's job."""
    record = task.picked_record
    if record is None:
        return JobView()
    name = JobName.parse(str(record["name"]))
    cell = record.get("failed_cell")
    return JobView(
        name=JobName(str(record.get("project_id") or name.project), name.location, name.job_id),
        state=JobState(record["job_state"]) if record.get("job_state") else None,
        message=str((record.get("status") or {}).get("message") or ""),
        steps=JobSteps.from_xcom(record.get("states")),
        created=_time(record.get("create_time")),
        output_uri=record.get("output_notebook_uri"),
        outcome=Outcome(cell["number"], f"{cell['ename']}: {cell['evalue']}") if cell else Outcome(),
        parameters=_parameters(task),
    )


def view_of(task: TaskData, outcomes: Outcomes) -> JobView:
    """The job of the picked try.

    Where the API or the bucket does not answer, the view says so and has what is known all the same.
    """
    recorded = recorded_view(task)
    if not set(WAY) <= set(task.fields):
        return replace(recorded, problem="Airflow no longer has the arguments of this task, so nobody can be asked.")
    try:
        hook = make_hook(task)
        job = find_job(hook, task)
    except JobLost:
        job = None
    except Exception as error:  # no such connection, no such location, no answer
        log.warning("The job of %s could not be shown", task.ref, exc_info=True)
        return replace(recorded, problem=f"Google Cloud could not be asked: {error}")
    if job is None:
        return replace(recorded, problem=_why_none(task))
    view = _seen(recorded, job, task)
    if view.is_active:
        return view
    try:
        stored = hook.stat_output_notebook(job, retry=False)
        if stored is None:
            return replace(view, problem="The job wrote no notebook.")
        return replace(view, output=stored, output_uri=stored.uri, outcome=outcomes.of(hook, stored))
    except NotebookExecutionJobError as error:
        return replace(view, problem=str(error))


def find_job(hook: NotebookExecutionJobHook, task: TaskData, view: str = "BASIC") -> Any:
    """The API's message of the picked try's job, or `None` where it has none of its own.

    :raises JobLost: where it is gone
    """
    record = task.picked_record
    if record:
        return hook.get_notebook_execution_job(name=str(record["name"]), view=view, retry=False)
    if not task.rendered("location"):
        return None
    location = str(task.rendered("location"))
    own = JobName(hook.get_project_id(task.rendered("project_id"), location), location, task.ids.job_id())
    display_name = task.rendered("display_name") or task.ids.default_display_name
    job = EarlierTries(hook, task.ids, own, retry=False).find(task.picked.number, display_name=display_name)
    return hook.get_notebook_execution_job(name=job.name, view=view, retry=False) if job and view != "BASIC" else job


def source_of(hook: NotebookExecutionJobHook, job: Any) -> bytes:
    """The notebook that a job runs.

    :param job: read with view FULL
    :raises NotRendered: where it is too large
    :raises NotebookExecutionJobError: where it cannot be read
    """
    if job.direct_notebook_source.content:
        return bytes(job.direct_notebook_source.content)
    if repository := job.dataform_repository_source.dataform_repository_resource_name:
        return hook.read_dataform_notebook(repository, job.dataform_repository_source.commit_sha or None)
    uri, generation = job.gcs_notebook_source.uri, job.gcs_notebook_source.generation
    stored = hook.stat_notebook(uri, int(generation) if generation else None)
    if stored is None:
        raise NotebookUnreadable(f"The notebook {uri} is gone.")
    return read(hook, stored)


def read(hook: NotebookExecutionJobHook, stored: StoredNotebook) -> bytes:
    """The content of a notebook that may be rendered.

    :raises NotRendered: where it is too large
    """
    if stored.size > NOTEBOOK_MAX_BYTES:
        raise NotRendered(f"It has {stored.size:,} bytes; up to {NOTEBOOK_MAX_BYTES:,} are shown here.")
    return hook.read_stored_notebook(stored)


class Outcomes:
    """What the executed notebooks that were looked at last tell: a notebook that is looked at again is not read again.

    The content of the newest one is kept too, as its rendering is asked for next.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[StoredNotebook, Outcome] = OrderedDict()
        self._newest: tuple[StoredNotebook, bytes] | None = None

    def of(self, hook: NotebookExecutionJobHook, stored: StoredNotebook) -> Outcome:
        """What an executed notebook tells.

        :raises NotebookExecutionJobError: where it cannot be read
        """
        outcome = self._kept.get(stored)
        if outcome is None:
            outcome = Outcome.of(self._read(hook, stored))
            self._kept[stored] = outcome
            while len(self._kept) > OUTCOMES_KEPT:
                self._kept.popitem(last=False)
        return outcome

    def content(self, hook: NotebookExecutionJobHook, stored: StoredNotebook) -> bytes:
        """The content of an executed notebook that may be rendered; see `read`."""
        kept, self._newest = self._newest, None
        return kept[1] if kept and kept[0] == stored else read(hook, stored)

    def _read(self, hook: NotebookExecutionJobHook, stored: StoredNotebook) -> ExecutedNotebook:
        if stored.size > NOTEBOOK_MAX_BYTES:  # read as a stream, whatever its size
            return hook.read_executed_notebook(stored.uri)
        content = read(hook, stored)
        self._newest = stored, content
        return read_executed(BytesIO(content))


def _seen(recorded: JobView, job: Any, task: TaskData) -> JobView:
    """The view that the API's message gives, with the steps that the task saw before."""
    name = JobName.parse(job.name)
    steps = JobSteps(list(recorded.steps.seen))
    steps.look(job)
    return replace(
        recorded,
        name=recorded.name or JobName(str(task.rendered("project_id") or name.project), name.location, name.job_id),
        state=state_of(job),
        job=job,
        message=plain_text(job.status.message),
        steps=steps,
        created=job.create_time,
        parameters=_parameters(task),
    )


def _parameters(task: TaskData) -> Mapping[str, Any] | None:
    """As Airflow rendered them, for the newest try; those in the executed notebook are what was passed."""
    parameters = task.rendered("parameters")
    return parameters if isinstance(parameters, Mapping) and task.picked is task.tries[-1] else None


def _joined(*parts: Any) -> str:
    return ", ".join(str(part) for part in parts if part)


def _why_none(task: TaskData) -> str:
    number = task.picked.number
    if task.picked_record:
        return "The job is gone from Google Cloud: it was deleted."
    if task.picked is task.tries[-1] and task.picked.is_unfinished:
        return f"Try {number} has not submitted its job yet."
    return f"Try {number} submitted no job of its own: it ended before, or went on with the job of an earlier try."


def _time(value: Any) -> datetime | None:
    try:
        return datetime.fromisoformat(value).astimezone(timezone.utc) if value else None
    except (TypeError, ValueError):
        return None
