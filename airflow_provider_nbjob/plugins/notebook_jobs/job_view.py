"""What the tab shows of a job: asked of the API and of the bucket, with the task's own connection.

Everything here may block; it runs in a thread, for a bounded time.
"""

from __future__ import annotations

import json
import logging
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from io import BytesIO
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import JobLost, NotebookExecutionJobError, NotebookUnreadable
from airflow_provider_nbjob.job import JobName, JobState, plain_text, state_of, storage_console_url
from airflow_provider_nbjob.job.record import JobSteps
from airflow_provider_nbjob.masking import redact
from airflow_provider_nbjob.notebook.executed import ExecutedNotebook, read_executed
from airflow_provider_nbjob.notebook.parameters import INJECTED_TAG
from airflow_provider_nbjob.notebook.results import collect_results
from airflow_provider_nbjob.notebook.source import GZIP_MAGIC
from airflow_provider_nbjob.plugins.notebook_jobs.authorization import Reader
from airflow_provider_nbjob.plugins.notebook_jobs.hidden import Hidden, TooManySecrets
from airflow_provider_nbjob.plugins.notebook_jobs.lookup import NotOurs, look_up
from airflow_provider_nbjob.plugins.notebook_jobs.problems import public_message
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import Place, TaskData
from airflow_provider_nbjob.plugins.notebook_jobs.ttl_cache import TTLCache
from airflow_provider_nbjob.rendering import MASK, NOTEBOOK_MAX_BYTES, NotRendered

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.files import StoredNotebook
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

log = logging.getLogger(__name__)

MIB = 1024 * 1024
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
class Outcome:
    """What an executed notebook tells of its run, with the secrets that may be in it.

    :param parameters: as its metadata has them
    :param injected: source of the cells that assign them
    """

    failing_cell: int | None = None
    error: str = ""
    parameters: Mapping[str, Any] | None = None
    results: Mapping[str, Any] = field(default_factory=dict)
    injected: str = ""

    @classmethod
    def of(cls, notebook: ExecutedNotebook) -> Outcome:
        """Return what is shown of an executed notebook."""
        cell = notebook.failing_cell
        error = f"{cell.error.ename}: {cell.error.evalue}" if cell and cell.error else ""
        injected = "\n".join(one.source for one in notebook.cells if INJECTED_TAG in one.tags)
        results = collect_results(notebook).values
        return cls(cell.number if cell else None, error, notebook.parameters, results, injected)

    @property
    def size(self) -> int:
        """What it takes of memory, about, in bytes."""
        values = json.dumps([self.parameters, self.results], default=str)
        return len(values) + len(self.injected) + len(self.error) + 1000


@dataclass(frozen=True)
class JobView:
    """A job as the tab shows it.

    :param job: the API's message; `None` if it shows none (it is gone, or does not answer): then there is what the
        task recorded
    :param is_own: whether the job is known to be the task's: if not, it is what a record says, and is shown as text
    :param folder: where the job writes its output; empty if that is not known
    :param facts: what the API says of the job, for a person, by its labels; only what is set
    :param problem: why something is missing, for a person
    :param notes: what else is left out, and why
    :param shows_notebook: whether the reader may see the notebook
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
    is_own: bool = False
    folder: str = ""
    facts: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    notes: tuple[str, ...] = ()
    shows_notebook: bool = True

    @property
    def is_active(self) -> bool:
        """Whether the job has not ended, as far as is known."""
        return self.state is not None and not self.state.is_terminal

    @property
    def links(self) -> dict[str, str]:
        """URLs in Google Cloud by their labels."""
        if self.name is None or not self.is_own:
            return {}
        uri = self.output.uri if self.output else self.folder
        return {
            "Executions in the console": self.name.console_url,
            **({"Output in Cloud Storage": storage_console_url(uri)} if uri else {}),
            "Logs": self.name.logs_url,
        }


# The argument that a fact comes from, of those that are templates.
_ARGUMENTS = {
    "Display name": "display_name",
    "Source": "gcs_notebook_source",
    "Runtime template": "notebook_runtime_template_resource_name",
    "Kernel": "kernel_name",
    "Labels": "labels",
}


def _facts(job: Any, task: TaskData) -> dict[str, str]:
    """Return what the API says of a job; of an argument that Airflow masks, what Airflow shows."""
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
    """Return what the task's record alone tells of the picked try's job; nobody is asked."""
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
    """Return the job of the picked try, with the secrets that may be in it; see `shown`.

    Where the API or the bucket does not answer, the view says so and has what is known all the same.
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
    """Return what of a view its reader may see: without secrets, and without what they may not read in Airflow."""
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
    if not is_told(task) and reader.logs and (outcome.parameters or outcome.results or view.output):
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


def hidden_of(task: TaskData, outcome: Outcome, job: Any) -> Hidden:
    """Return what hides the secrets of a task from what its job and its notebook tell."""
    values = {"display_name": job.display_name, "kernel_name": job.kernel_name} if job else {}
    rendered = {name: task.rendered(name) for name in values}
    others = [(values[name], masked) for name, masked in rendered.items() if MASK in str(masked)]
    parameters = task.rendered("parameters") if is_told(task) else None
    return Hidden.of(parameters, outcome.parameters, outcome.injected, others)


def redacted(content: bytes) -> bytes:
    """Return a notebook without the secrets that Airflow's masker knows on the API server.

    :raises NotRendered: if it is compressed, and larger than what is shown
    """
    if content.startswith(GZIP_MAGIC):
        unpacker = zlib.decompressobj(wbits=31)
        try:
            content = unpacker.decompress(content, NOTEBOOK_MAX_BYTES + 1)
        except zlib.error:
            raise NotRendered("Its gzip compression is broken.") from None
        if len(content) > NOTEBOOK_MAX_BYTES or not unpacker.eof:
            raise NotRendered(f"It is larger than {NOTEBOOK_MAX_BYTES:,} bytes, or its gzip compression is broken.")
    text = content.decode(json.detect_encoding(content), errors="replace")
    masked = redact(text)
    return content if masked == text else masked.encode()


def is_told(task: TaskData) -> bool:
    """Whether Airflow shows which of the notebook's parameters are secret: in what it rendered for this task."""
    return task.are_rendered and "parameters" in task.fields


def source_of(hook: NotebookExecutionJobHook, job: Any) -> bytes:
    """Return the notebook that a job runs.

    :param job: read with view FULL
    :raises NotRendered: if it is too large
    :raises NotebookExecutionJobError: if it cannot be read
    """
    if job.direct_notebook_source.content:
        return bytes(job.direct_notebook_source.content)
    if repository := job.dataform_repository_source.dataform_repository_resource_name:
        return hook.files.read_dataform_notebook(repository, job.dataform_repository_source.commit_sha or None)
    uri, generation = job.gcs_notebook_source.uri, job.gcs_notebook_source.generation
    stored = hook.files.stat_notebook(uri, int(generation) if generation else None)
    if stored is None:
        raise NotebookUnreadable(f"The notebook {uri} is gone.")
    return read(hook, stored)


def read(hook: NotebookExecutionJobHook, stored: StoredNotebook) -> bytes:
    """Return the content of a notebook that may be rendered.

    :raises NotRendered: if it is too large
    """
    if stored.size > NOTEBOOK_MAX_BYTES:
        raise NotRendered(f"It has {stored.size:,} bytes; up to {NOTEBOOK_MAX_BYTES:,} are shown here.")
    return hook.files.read_stored_notebook(stored, max_bytes=NOTEBOOK_MAX_BYTES)


class Outcomes:
    """What the executed notebooks that were looked at last tell: a notebook that is looked at again is not read again.

    The content of the newest ones is kept too, for as long as a page takes to ask for its rendering.
    """

    def __init__(self) -> None:
        self._kept: TTLCache[Outcome] = TTLCache(max_bytes=16 * MIB)
        self._contents: TTLCache[bytes] = TTLCache(max_bytes=NOTEBOOK_MAX_BYTES, max_items=4, seconds=30)

    def of(self, hook: NotebookExecutionJobHook, stored: StoredNotebook, place: Place) -> Outcome:
        """Return what an executed notebook tells.

        :param place: where, and by whom, it is asked for
        :raises NotebookExecutionJobError: if it cannot be read
        """
        outcome = self._kept.get((place, stored))
        if outcome is None:
            outcome = Outcome.of(self._read(hook, stored, place))
            self._kept.put((place, stored), outcome, outcome.size)
        return outcome

    def content(self, hook: NotebookExecutionJobHook, stored: StoredNotebook, place: Place) -> bytes:
        """Return the content of an executed notebook that may be rendered; see `read`."""
        return self._contents.get((place, stored)) or read(hook, stored)

    def _read(self, hook: NotebookExecutionJobHook, stored: StoredNotebook, place: Place) -> ExecutedNotebook:
        if stored.size > NOTEBOOK_MAX_BYTES:  # read as a stream, whatever its size
            return hook.files.read_executed_notebook(stored.uri)
        content = read(hook, stored)
        self._contents.put((place, stored), content, len(content))
        return read_executed(BytesIO(content), max_bytes=NOTEBOOK_MAX_BYTES)


def _seen(recorded: JobView, job: Any, task: TaskData) -> JobView:
    """Return the view that the API's message gives, with the steps that the task saw before."""
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
    """Return where a job writes its output by the task's arguments; empty if they do not say."""
    output_uri = task.rendered("gcs_output_uri")
    return name.output_uri(output_uri) if isinstance(output_uri, str) and MASK not in output_uri else ""


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
