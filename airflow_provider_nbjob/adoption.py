"""What earlier tries of a task left running: one such job is taken over, any other is stopped.

A worker that is killed leaves its job; so does a clear, where nothing tells the trigger (before Airflow 3.3), and a
create that is performed only after its sender was killed. The ids of all tries are computed, so they can be asked
for by name; those of an earlier start of the dag run cannot, and are listed by display name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import JobLost, NotebookExecutionJobError
from airflow_provider_nbjob.job import JobName, state_of
from airflow_provider_nbjob.stopping import stop_quietly
from airflow_provider_nbjob.tries import Tries

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook


class EarlierTries:
    """The jobs that earlier tries of a task instance may have left.

    :param hook: the way to the API
    :param tries: of the task instance
    :param own: name of the current try's job; the others are in the same project and location
    :param retry: false: raise a transient error at once
    """

    def __init__(self, hook: NotebookExecutionJobHook, tries: Tries, own: JobName, *, retry: bool = True) -> None:
        self._hook, self._tries, self._own, self._retry = hook, tries, own, retry

    def find(self, try_number: int, *, display_name: str) -> Any:
        """The job of a try, in whatever start of the run, or `None` where there is none.

        :param display_name: of the task's jobs
        :raises ApiError: where the API does not say
        """
        if job := self._get(try_number):
            return job
        listed = self._listed(display_name)
        return next((job for job in listed if self._tries.try_of(JobName.parse(job.name).job_id) == try_number), None)

    def find_adoptable(self, is_success: Callable[[Any], bool]) -> str | None:
        """The name of the job to go on with, in place of a new one.

        It is one that an earlier try since the last clear left active, or that succeeded without being returned: a
        retry would not be had it been.

        :param is_success: whether a job is what the task would return
        :raises ApiError: where the API does not say: then a new job might be a second one
        """
        for try_number in self._tries.earlier_since_the_clear:
            job = self._get(try_number)
            if job and (state_of(job).is_active or is_success(job)):
                return str(job.name)
        return None

    def stop_others(self, keep: str | None, *, display_name: str) -> None:
        """Stop all that is active, but one; where the API does not say what is, that is logged.

        :param keep: name of the job that is to go on, if any
        :param display_name: of the task's jobs
        """
        kept = keep and JobName.parse(keep).job_id
        try:
            for job in self._left(display_name):
                job_id = JobName.parse(job.name).job_id
                if job_id != kept and state_of(job).is_active:
                    self._hook.log.info("Notebook job %s was left active by an earlier try", job_id)
                    stop_quietly(self._hook, job.name)
        except NotebookExecutionJobError as error:
            self._hook.log.warning("Could not look for jobs that earlier tries left: %s", error)

    def _left(self, display_name: str) -> Iterator[Any]:
        for try_number in self._tries.earlier:
            if job := self._get(try_number):
                yield job
        for job in self._listed(display_name):
            if self._tries.is_earlier(JobName.parse(job.name).job_id):  # a later one is none of our business
                yield job

    def _listed(self, display_name: str) -> Iterator[Any]:
        return self._hook.list_notebook_execution_jobs(
            location=self._own.location,
            project_id=self._own.project,
            filter=f'displayName="{_escaped(display_name)}"',
            retry=self._retry,
        )

    def _get(self, try_number: int) -> Any:
        name = JobName(self._own.project, self._own.location, self._tries.job_id(try_number))
        try:
            return self._hook.get_notebook_execution_job(name=str(name), retry=self._retry)
        except JobLost:
            return None


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
