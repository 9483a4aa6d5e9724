"""Read the executed notebook of a job in the triggerer, if it is small: the worker that goes on need not ask anybody.

That worker would import Google's clients for it, which costs it more than all the rest that it does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from airflow_provider_nbjob.job import JobName, JobResult
from airflow_provider_nbjob.triggers.api_calls import ApiCalls
from airflow_provider_nbjob.triggers.bounded_waits import within
from airflow_provider_nbjob.triggers.settings import whole_number

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
    from airflow_provider_nbjob.lifecycle.outcome import Conclusion

log = logging.getLogger(__name__)

READ_MAX_BYTES = 2 * 2**20  # of `[nbjob] triggerer_read_max_bytes`; get_provider_info.py repeats it
READERS = 2  # at once, for one connection and location: each takes turns with the event loop
READ_SECONDS = 60.0  # that a job's end waits for it, the wait for a reader included; then a worker reads
EVENT_MAX = 128 * 1024  # characters of a result that an event carries: it is a row of Airflow's database


class OutputReader:
    """Reads for all triggers with the same connection and location.

    :param make_hook: called in a thread, now and then: see `ApiCalls`
    :param region: of the API
    """

    def __init__(self, make_hook: Callable[[], NotebookExecutionJobHook], region: str) -> None:
        self._calls = ApiCalls(make_hook, region)
        self._readers = asyncio.Semaphore(READERS)

    async def result_of(self, job: Any, conclusion: Conclusion, project_id: str | None) -> tuple[JobResult, str] | None:
        """Return the result of a job, and its project's id; None if a worker is to find out. Never raise.

        :param job: the API's plain message of a job that has ended
        :param conclusion: what is wanted of it
        :param project_id: of the task's arguments
        """
        max_bytes = whole_number("triggerer_read_max_bytes", default=READ_MAX_BYTES, least=0)

        def read(hook: NotebookExecutionJobHook) -> tuple[JobResult, str] | None:
            result = conclusion.of_small(hook, hook.wrapped(job), max_bytes=max_bytes, timeout=READ_SECONDS)
            if result is None or len(result.to_json()) > EVENT_MAX:
                return None
            return result, hook.get_project_id(project_id, JobName.parse(job.name).location)

        async def in_turn() -> tuple[JobResult, str] | None:
            async with self._readers:
                return await self._calls(read)

        try:
            return await within(READ_SECONDS, in_turn())
        except Exception as error:  # of any kind: the worker meets it again, and tells it
            log.info("A worker reads the output of %s, as the triggerer could not: %r", job.name, error)
            return None
