"""Transient errors of something that is done again and again anyway."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from airflow_provider_nbjob.exceptions import NotebookExecutionJobError


class Weather:
    """Swallows transient errors; each streak of them is logged once when it begins, and with its length when it ends.

    ::

        with weather:
            job = hook.get_notebook_execution_job(name=name, retry=False, renew=True)

    `failures` is the length of the streak that lasts.

    :param log: a logger
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._since = 0.0
        self.failures = 0

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, NotebookExecutionJobError) and error.is_transient:
            self.fail(error)
            return True
        if error is None and self.failures:
            lasted = time.monotonic() - self._since
            self._log.info("The API answers again, after %s failed looks in %.0f s", self.failures, lasted)
            self.failures = 0
        return False

    def fail(self, error: BaseException) -> None:
        """Count a failure, of whatever kind."""
        if not self.failures:
            self._since = time.monotonic()
            trace = None if isinstance(error, NotebookExecutionJobError) else error
            self._log.warning("Looking failed, and will be tried again: %s", error, exc_info=trace)
        self.failures += 1
