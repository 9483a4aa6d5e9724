"""Send one attempt of a request, with its time limit, and count the attempts without an answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from airflow_provider_nbjob.hooks.notebook_service import NotebookServiceClient
from airflow_provider_nbjob.hooks.retrying import may_have_been_performed

# At most 30 s, and no retries of the client library's beside our own.
ATTEMPT: dict[str, Any] = {"timeout": 30.0, "retry": None}


class Attempts:
    """Sends a request, and counts the attempts that got no answer, and so may have been performed."""

    def __init__(self, send: Callable[[NotebookServiceClient], Any]) -> None:
        self._send = send
        self.unanswered = 0

    def __call__(self, api: NotebookServiceClient) -> Any:
        """Send it once; see `hooks.retrying` for what is raised."""
        try:
            return self._send(api)
        except Exception as error:
            self.unanswered += may_have_been_performed(error)
            raise
