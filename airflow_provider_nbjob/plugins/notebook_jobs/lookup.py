"""Which job is a task's own, and where it is asked for.

A record names a job, and whoever may edit XComs may have written it. So it decides neither where the API server sends
a request, nor whose job it shows: project, location, connection and endpoint are those of the task's arguments, and the
job's id must be one that this task instance computes, or that its arguments name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import JobLost, NotebookExecutionJobError
from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.job.record import Record
from airflow_provider_nbjob.job.spec import DISPLAY_NAME_MAX
from airflow_provider_nbjob.lifecycle.recovery import EarlierTries
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import TaskData

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook


class NotOurs(NotebookExecutionJobError):
    """A record names a job that cannot be shown to be the task's own; the message is for a person."""


NOT_OURS = "The record of this task names a job that cannot be shown to be the task's own, so it is not looked up."
_COMPUTED = re.compile(r"nbjob-[0-9a-f]+-[0-9a-f]+-[0-9]+")  # see `job_id_for`
GONE_OR_NOT_OURS = "The job that the record of this task names is gone, or it is not the task's own."


@dataclass(frozen=True)
class Claim:
    """A job that a task may take for its own.

    :param job: its id, or its resource name if the task's arguments have that
    :param is_own: whether the API's message proves it; None if that needs no proof
    """

    job: str
    is_own: Callable[[Any], bool] | None = None


def claim_of(task: TaskData, record: Record) -> Claim | None:
    """Return the job of a record, or None if it cannot be the task's own."""
    job_id = record.name.job_id
    if named := task.rendered("notebook_execution_job"):
        return Claim(str(named)) if str(named).rpartition("/")[2] == job_id else None
    if schedule := task.rendered("schedule"):
        return Claim(job_id, lambda job: _is_of_schedule(job, str(schedule)))
    try_number = task.ids.try_of(job_id)
    if try_number is not None:  # of this try, or of an earlier one whose job it went on with
        return Claim(job_id) if try_number <= task.picked.number else None
    if own_id := task.rendered("notebook_execution_job_id"):
        return Claim(job_id) if own_id == job_id else None
    display_name = task.ids.default_display_name
    if _COMPUTED.fullmatch(job_id):  # by another task instance
        return None
    is_minted = {"notebook_execution_job_id", "display_name"} <= set(task.fields) and not task.rendered("display_name")
    if is_minted and len(display_name) < DISPLAY_NAME_MAX:  # the whole of it, which no other task instance has
        return Claim(job_id, lambda job: bool(job.display_name == display_name))
    return None


def _is_of_schedule(job: Any, schedule: str) -> bool:
    launched_by, wanted = str(job.schedule_resource_name).split("/"), schedule.split("/")
    if not wanted[-1] or launched_by[-1] != wanted[-1]:
        return False
    if len(wanted) == 1:
        return True
    if len(launched_by) != len(wanted):
        return False
    # The API names a project by its number, which tells nothing of its id; the job was asked for in the right one.
    same_project = launched_by[1] == wanted[1] or launched_by[1].isdigit() != wanted[1].isdigit()
    return same_project and launched_by[2:] == wanted[2:]


@dataclass(frozen=True)
class Lookup:
    """Where the job of the picked try is to be asked for.

    :param name: the job's, of the project that the task's arguments or their connection name
    """

    name: JobName
    claim: Claim | None = None

    def fetch(self, hook: NotebookExecutionJobHook, view: str = "BASIC") -> Any:
        """Return the API's message of the job.

        :raises JobLost: if it is gone
        :raises NotOurs: if it is not the task's own, or if it is gone and cannot be known to have been
        """
        is_own = self.claim.is_own if self.claim else None
        try:
            job = hook.get_notebook_execution_job(name=str(self.name), view=view, retry=False)
        except JobLost:
            if is_own:
                raise NotOurs(GONE_OR_NOT_OURS) from None
            raise
        answered = JobName.parse(job.name)
        same = (answered.location, answered.job_id) == (self.name.location, self.name.job_id)
        if not same or (is_own and not is_own(job)):
            raise NotOurs(GONE_OR_NOT_OURS)
        return job


def look_up(hook: NotebookExecutionJobHook, task: TaskData) -> Lookup | None:
    """Return where the picked try's job is, or None if the try has none of its own, as far as Google Cloud knows.

    :raises NotOurs: if the record names a job that cannot be the task's own
    """
    location, project = task.rendered("location"), task.rendered("project_id")
    location = str(location) if location else None
    if record := task.picked_record:
        claim = claim_of(task, record)
        if claim is None:
            raise NotOurs(NOT_OURS)
        return Lookup(hook.get_job_name(claim.job, location, project), claim)
    if not location:
        return None
    own = JobName(hook.get_project_id(project, location), location, task.ids.job_id())
    display_name = str(task.rendered("display_name") or task.ids.default_display_name)
    job = EarlierTries(hook, task.ids, own, retry=False).find(task.picked.number, display_name=display_name)
    return Lookup(JobName(own.project, location, JobName.parse(job.name).job_id)) if job else None
