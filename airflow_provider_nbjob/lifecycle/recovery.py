"""Find the jobs that earlier tries of a task left running: adopt one, and stop the others.

A job is left running if its worker is killed, if the task is cleared before Airflow 3.3, which does not notify the
trigger, or if the API performs a create only after the sender was killed. The ids of all tries are computed, so their
jobs can be read by name. The ids of tries in an earlier start of the dag run are not known; their jobs are listed by
display name. A job with such an id is adopted or stopped only if its mark proves that it is the task's own or, if it
has no mark, if its display name is the task's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.exceptions import NotebookExecutionJobError
from airflow_provider_nbjob.job import JobName, state_of
from airflow_provider_nbjob.job.mark import Mark
from airflow_provider_nbjob.lifecycle.cancellation import stop_quietly
from airflow_provider_nbjob.lifecycle.tries import Tries

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook


class EarlierTries:
    """The jobs that earlier tries of a task instance may have left.

    :param hook: hook that sends requests to the API
    :param tries: tries of the task instance
    :param own: name of the current try's job; the others are in the same project and location
    :param retry: whether the hook retries transient errors; default True
    """

    def __init__(self, hook: NotebookExecutionJobHook, tries: Tries, own: JobName, *, retry: bool = True) -> None:
        self._hook, self._tries, self._own, self._retry = hook, tries, own, retry

    def find(self, try_number: int, *, display_name: str) -> Any:
        """Return the job of a try in any start of the run, or None if there is no such job.

        :param display_name: display name of the task's jobs
        :raises ApiError: if the API does not answer
        """
        job = self._get(try_number)
        mark = job and Mark.of(job.labels)
        if job and (mark is None or mark.task is None or self._tries.is_of_this_task(mark)):
            return job
        listed = self._listed(display_name)
        return next((job for job in listed if self._tries.try_of(JobName.parse(job.name).job_id) == try_number), None)

    def find_adoptable(self, is_success: Callable[[Any], bool], *, display_name: str) -> JobName | None:
        """Return the name of the job to adopt instead of submitting a new one, or None.

        Only a job of a try since the last clear is adopted. It must be active, or have succeeded: a try that had
        returned the result of a successful job would not have been retried.

        :param is_success: function that returns whether a job is one that the task would return
        :param display_name: display name of the task's jobs
        :raises ApiError: if the API does not answer, because a new job might run beside an active one
        """
        for try_number in self._tries.earlier:
            for job in self._of_try(try_number, display_name):
                is_ours = self._is_own(job, display_name) and self._tries.is_same_work(try_number, Mark.of(job.labels))
                if is_ours and (state_of(job).is_active or is_success(job)):
                    return JobName.parse(job.name)
        return None

    def stop_others(self, keep: JobName | None, *, display_name: str) -> None:
        """Stop all active jobs of earlier tries but one. If the API does not answer, log a warning.

        :param keep: the job to keep, or None
        :param display_name: display name of the task's jobs
        """
        kept = keep and keep.job_id
        try:
            for job in self._left(display_name):
                name = JobName.parse(job.name)
                if name.job_id != kept and state_of(job).is_active and self._is_own(job, display_name):
                    self._hook.log.info("Notebook job %s was left active by an earlier try", name.job_id)
                    stop_quietly(self._hook, name)
        except NotebookExecutionJobError as error:
            self._hook.log.warning("Could not look for jobs that earlier tries left: %s", error)

    def _left(self, display_name: str) -> Iterator[Any]:
        for try_number in self._tries.earlier:
            if job := self._get(try_number):
                yield job
        for job in self._listed(display_name):
            if self._tries.is_earlier(JobName.parse(job.name).job_id):  # a later try owns its job
                yield job

    def _of_try(self, try_number: int, display_name: str) -> Iterator[Any]:
        """Yield the job of a try in this start of the run; if its id was taken, also the jobs with a replacement id."""
        job = self._get(try_number)
        if job is None:
            return
        yield job
        mark = Mark.of(job.labels)
        if self._tries.is_of_this_run(mark) if mark else self._is_own(job, display_name):
            return
        for listed in self._listed(display_name):
            job_id = JobName.parse(listed.name).job_id
            if self._tries.try_of(job_id) == try_number and job_id != self._tries.job_id(try_number):
                yield listed

    def _is_own(self, job: Any, display_name: str) -> bool:
        mark = Mark.of(job.labels)
        if mark is None or mark.task is None:
            return bool(job.display_name == display_name)
        return self._tries.is_of_this_task(mark)

    def _listed(self, display_name: str) -> Iterator[Any]:
        return _displayed(self._hook, self._own.location, self._own.project, display_name, retry=self._retry)

    def _get(self, try_number: int) -> Any:
        name = JobName(self._own.project, self._own.location, self._tries.job_id(try_number))
        return self._hook.find_notebook_execution_job(name=str(name), retry=self._retry)


def answer_to(
    hook: NotebookExecutionJobHook,
    mark: Mark,
    *,
    name: JobName | None,
    location: str,
    project_id: str,
    display_name: str,
) -> Any:
    """Return the job of a create that got no answer, or None if the API has not made the job so far.

    :param hook: hook that sends requests to the API
    :param mark: mark of the create
    :param name: name of the job, or None if the API generates its id
    :param location: region of the job
    :param project_id: project of the job
    :param display_name: display name of the job
    :raises ApiError: if the API does not answer
    """
    if name is None:
        named_alike = _displayed(hook, location, project_id, display_name)
        return next((job for job in named_alike if _is_marked(job, mark)), None)
    job = hook.find_notebook_execution_job(name=str(name))
    if job is None:
        return None
    is_ours = _is_marked(job, mark) if Mark.of(job.labels) else job.display_name == display_name
    return job if is_ours else None


def _is_marked(job: Any, mark: Mark) -> bool:
    found = Mark.of(job.labels)
    return found is not None and found.nonce == mark.nonce


def _displayed(
    hook: NotebookExecutionJobHook, location: str, project_id: str, display_name: str, *, retry: bool = True
) -> Iterator[Any]:
    return hook.list_notebook_execution_jobs(
        location=location, project_id=project_id, filter=f'displayName="{_escaped(display_name)}"', retry=retry
    )


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"')
