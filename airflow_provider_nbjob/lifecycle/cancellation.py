"""Decide whether to stop the job of a task that Airflow ended, and stop it without raising.

Airflow also calls `on_kill` if the task goes on: on a worker that is shut down (the supervisor of Airflow 3.3.2 passes
SIGTERM on), and in a triggerer that was considered dead and finds its triggers reassigned when it comes back.
"""

from __future__ import annotations

import shlex
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.airflow_compat import NotInThisAirflow, is_api_server_up, state_of_task, xcom_of_task
from airflow_provider_nbjob.job import JobName
from airflow_provider_nbjob.job.record import JOB_XCOM_KEY, parse_record

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

# States of a task instance whose process was ended, and which Airflow tries again or will try again. A clear of a
# running task has the state "restarting": it requests a new job.
_GOES_ON = frozenset({"running", "up_for_retry", "scheduled", "queued", "deferred"})

# Airflow kills a worker 5 s after it asked it to stop. By then a job that cannot be cancelled must have been deleted.
KILL_SECONDS = 3.5
ASK_SECONDS = 2.5  # the share of KILL_SECONDS for asking Airflow whether the task goes on
AWAITED_PAUSES = (1.0, 2.0, 4.0)  # seconds between a triggerer's requests that Airflow does not answer
INTERRUPT_SECONDS = 60.0  # time limit for stopping a job after Ctrl-C


def stop_command(job: JobName, *, is_workbench: bool = False) -> str:
    """Return the command that stops a job: it deletes the job, because the API has no method that cancels one.

    :param is_workbench: whether it is a Workbench job, which ``gcloud colab`` refuses; default False
    """
    if is_workbench:
        host = f"{job.location}-aiplatform.googleapis.com"
        return f'curl -X DELETE -H "Authorization: Bearer $(gcloud auth print-access-token)" https://{host}/v1/{job}'
    return f"gcloud colab executions delete {job.job_id} --project={job.project} --region={job.location} --quiet"


def list_command(project: str, location: str, display_name: str) -> str:
    """Return the command that lists jobs by display name, for a job whose id is not known."""
    wanted = shlex.quote(f'displayName="{display_name}"')
    return f"gcloud colab executions list --project={project} --region={location} --filter={wanted}"


def stop_quietly(hook: NotebookExecutionJobHook, name: JobName, *, is_workbench: bool = False, **options: Any) -> bool:
    """Stop a job. Never raise, so that the error that caused the stop is the one that is reported.

    If the job cannot be stopped, log an error with the command that stops it.

    :param name: the job's resource name
    :param is_workbench: see `stop_command`
    :param options: see `NotebookExecutionJobHook.cancel_notebook_execution_job`
    :return: True if nothing is left to stop
    """
    try:
        hook.cancel_notebook_execution_job(name=str(name), **options)
    except Exception as error:
        hook.log.error(
            "Could not stop notebook job %s, which may still run and cost: %s\nThis command stops it: %s",
            *(name, error, stop_command(name, is_workbench=is_workbench)),
        )
        return False
    return True


def stop_interrupted(stop: Callable[[], bool], log: Any, *, what: str, command: str) -> None:
    """Stop a job whose process was interrupted, as by Ctrl-C. A second interruption ends the attempt at once.

    Stop the job in a thread, because the interrupted code may hold any lock, and wait for it for at most
    `INTERRUPT_SECONDS`. If the job is not known to be stopped by then, log the command that stops it.

    :param stop: function that stops the job, and returns True if nothing is left to stop
    :param log: logger
    :param what: name of the job in the log
    :param command: command that stops the job
    """
    stopped: list[bool] = []

    def note_down() -> None:
        with suppress(BaseException):  # after any error the command is logged
            stopped.append(stop())

    thread = threading.Thread(target=note_down, daemon=True)
    try:
        log.warning("Interrupted: stopping %s. Interrupt again to leave it.", what)
        thread.start()
        thread.join(INTERRUPT_SECONDS)
    finally:
        if not any(stopped):
            log.error("Interrupted: %s may run and cost. This command stops it: %s", what, command)


def stop_unless_tried_again(ti: Any, name: JobName, *, stop: Callable[..., None], log: Any) -> None:
    """Stop the job of a worker that is being ended, unless a later try of the task goes on with the job.

    A signal handler calls this function. The code that it interrupted may hold the lock of the connection to the
    supervisor, and releases it only after the handler has returned. So a thread asks Airflow, and then acts by itself.

    :param ti: the task instance
    :param name: the job's resource name
    :param stop: function that stops the job; its argument `grace` is the time until the job is deleted, in seconds
    :param log: logger
    """
    is_decided = threading.Event()
    started = time.monotonic()

    def stop_or_leave() -> None:
        is_left = _will_be_tried_again(ti, log)
        is_decided.set()
        if is_left:
            log.info("The worker ends, the task does not: its next try goes on with job %s", name)
        else:
            stop(grace=max(0.0, KILL_SECONDS - (time.monotonic() - started)))

    thread = threading.Thread(target=stop_or_leave)
    thread.start()
    if is_decided.wait(0.5):
        thread.join()


def _will_be_tried_again(ti: Any, log: Any) -> bool:
    """Return whether Airflow will run another try of the task.

    If Airflow does not answer within `ASK_SECONDS`, return False: an unattended job would cost money. But if its API
    server is down, nobody has marked or cleared the task: the worker ends because it cannot reach the server. Then
    return True, as if this version of Airflow cannot be asked.
    """
    if ti.try_number > ti.max_tries:
        return False
    goes_on: list[bool] = []
    is_up: list[bool] = []

    def ask() -> None:
        try:
            goes_on.append(state_of_task(ti) in _GOES_ON)
        except NotInThisAirflow as error:
            log.error(
                "Whether the task will be tried again cannot be asked, so its job is left to the next try: %s", error
            )
            goes_on.append(True)
        except Exception:  # Airflow does not answer
            return

    def look() -> None:
        is_up.append(is_api_server_up(ASK_SECONDS))

    asking, looking = (threading.Thread(target=target, daemon=True) for target in (ask, look))
    end_time = time.monotonic() + ASK_SECONDS
    asking.start()
    looking.start()
    asking.join(ASK_SECONDS)
    if goes_on:
        return goes_on[0]
    looking.join(max(0.0, end_time - time.monotonic()))
    if is_up == [False]:
        log.warning("Airflow's API server is down, so nobody has ended the task")
        return True
    return False


def is_awaited(ti: Any, name: JobName, log: Any, *, by_worker: bool = False) -> bool:
    """Return whether a task still waits for a job, because another triggerer got its trigger.

    If Airflow does not answer, ask again after each of `AWAITED_PAUSES`. If it still does not answer, return False:
    the caller was informed that the task ended, and an unattended job would cost money. If this version of Airflow
    cannot be asked, return True.

    :param ti: the task instance, in the triggerer; None if the trigger serves no task
    :param name: the job's resource name
    :param log: logger
    :param by_worker: whether the task may also be one that a worker goes on with, or whose job is not on record yet, as
        a trigger submitted the job. If the task was cleared, its next try stops the job; default False
    """
    if ti is None:
        return False
    states = _GOES_ON if by_worker else {"deferred"}
    for pause in (*AWAITED_PAUSES, None):
        try:
            return state_of_task(ti) in states and _awaits(ti, name, if_unknown=by_worker)
        except NotInThisAirflow as error:
            log.error(
                "Whether another triggerer waits for notebook job %s cannot be asked, so it is not stopped: %s\n"
                "This command stops it: %s",
                *(name, error, stop_command(name)),
            )
            return True
        except Exception:  # Airflow does not answer
            if pause is not None:
                time.sleep(pause)
    return False


def _awaits(ti: Any, name: JobName, *, if_unknown: bool) -> bool:
    """Return whether a job is the task's newest. After a clear, the task may be deferred again with another job.

    :param if_unknown: returned if the task's job is not on record
    """
    record = parse_record(xcom_of_task(ti, JOB_XCOM_KEY))
    return if_unknown if record is None else record.name.job_id == name.job_id
