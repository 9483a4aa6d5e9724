"""Transient errors of something that is done again and again anyway."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from airflow_provider_nbjob.exceptions import ApiError


class Weather:
    """Swallows transient errors; each streak of them is logged once when it begins, and with its length when it ends.

    ::

        with weather:
            job = hook.get_notebook_execution_job(name=name, retry=False)

    :param log: a logger
    """

    def __init__(self, log: Any) -> None:
        self._log = log
        self._failures = 0
        self._since = 0.0

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if isinstance(error, ApiError) and error.is_transient:
            self._fail(error)
            return True
        if error is None and self._failures:
            lasted = time.monotonic() - self._since
            self._log.info("The API answers again, after %s failed looks in %.0f s", self._failures, lasted)
            self._failures = 0
        return False

    def _fail(self, error: ApiError) -> None:
        if not self._failures:
            self._since = time.monotonic()
            self._log.warning("Looking failed, and will be tried again: %s", error)
        self._failures += 1
