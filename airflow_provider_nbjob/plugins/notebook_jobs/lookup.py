"""Find the job that belongs to a task instance.

A record names a job, but anybody who may edit XComs may have written it. So the record does not decide where the API
server sends a request, nor whose job it shows. Project, location, connection and endpoint come from the task's
arguments. The job's id must be one that this task instance computes or that its arguments name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from airflow_provider_nbjob.exceptions import JobLost, NotebookExecutionJobError
from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.job.record import Record
from airflow_provider_nbjob.job.spec import DISPLAY_NAME_MAX
from airflow_provider_nbjob.lifecycle.recovery import EarlierTries
from airflow_provider_nbjob.plugins.notebook_jobs.task_data import TaskData

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
    from airflow_provider_nbjob.hooks.notebook_service import NotebookExecutionJob


class NotOurs(NotebookExecutionJobError):
    """A record names a job of which nothing proves that it belongs to the task; the message is for a person."""


NOT_OURS = "The record of this task names a job that cannot be shown to be the task's own, so it is not looked up."
_COMPUTED = re.compile(r"nbjob-[0-9a-f]+-[0-9a-f]+-[0-9]+")  # see `job_id_for`
GONE_OR_NOT_OURS = "The job that the record of this task names is gone, or it is not the task's own."


@dataclass(frozen=True)
class Claim:
    """A job that belongs to a task, if its message proves it.

    :param job: its id, or its resource name if the task's arguments have that
    :param is_own: returns whether the API's message proves it; None if no proof is needed
    """

    job: str
    is_own: Callable[[NotebookExecutionJob], bool] | None = None


def claim_of(task: TaskData, record: Record) -> Claim | None:
    """Return the claim to the job of a record, or None if the job cannot belong to the task."""
    job_id = record.name.job_id
    if named := task.rendered("notebook_execution_job"):
        return Claim(str(named)) if str(named).rpartition("/")[2] == job_id else None
    if schedule := task.rendered("schedule"):
        return Claim(job_id, lambda job: _is_of_schedule(job, str(schedule)))
    try_number = task.ids.try_of(job_id)
    if try_number is not None:  # of this try, or of an earlier try whose job this one took over
        return Claim(job_id) if try_number <= task.picked.number else None
    if own_id := task.rendered("notebook_execution_job_id"):
        return Claim(job_id) if own_id == job_id else None
    display_name = task.ids.default_display_name
    if _COMPUTED.fullmatch(job_id):  # for another task instance
        return None
    is_minted = {"notebook_execution_job_id", "display_name"} <= set(task.fields) and not task.rendered("display_name")
    if is_minted and len(display_name) < DISPLAY_NAME_MAX:  # it is not cut, so no other task instance has it
        return Claim(job_id, lambda job: bool(job.display_name == display_name))
    return None


def _is_of_schedule(job: NotebookExecutionJob, schedule: str) -> bool:
    launched_by, wanted = str(job.schedule_resource_name).split("/"), schedule.split("/")
    if not wanted[-1] or launched_by[-1] != wanted[-1]:
        return False
    if len(wanted) == 1:
        return True
    if len(launched_by) != len(wanted):
        return False
    # The API may name a project by its number, which cannot be compared with an id. The request for the job named the
    # right project.
    same_project = launched_by[1] == wanted[1] or launched_by[1].isdigit() != wanted[1].isdigit()
    return same_project and launched_by[2:] == wanted[2:]


@dataclass(frozen=True)
class Lookup:
    """The job of the picked try, as it is requested from the API.

    :param name: name of the job, in the project that the task's arguments or their connection name
    """

    name: JobName
    claim: Claim | None = None

    def fetch(self, hook: NotebookExecutionJobHook, view: str = "BASIC") -> NotebookExecutionJob:
        """Return the API's message of the job.

        :raises JobLost: if it is gone
        :raises NotOurs: if it does not belong to the task, or if it is gone and nothing proves that it did
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
    """Return the picked try's job, or None if Google Cloud has none of this try.

    :raises NotOurs: if the record names a job that cannot belong to the task
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
