"""The hook of an operator, a sensor or a trigger, imported and made when it is first used.

Importing it loads Google's clients, which a DAG that is only parsed must not pay for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook


class LazyHook:
    """Gives its class a `hook`, made of the three attributes that lead to the API."""

    gcp_conn_id: str
    impersonation_chain: str | Sequence[str] | None
    api_endpoint: str | None

    @cached_property
    def hook(self) -> NotebookExecutionJobHook:
        """The hook, one for each instance."""
        return self.hook_maker()()

    def hook_maker(self) -> Callable[[], NotebookExecutionJobHook]:
        """Return what makes a new hook, with the connection as it is then; it does not keep this object."""
        way: dict[str, Any] = {
            "gcp_conn_id": self.gcp_conn_id,
            "impersonation_chain": self.impersonation_chain,
            "api_endpoint": self.api_endpoint,
        }

        def make_hook() -> NotebookExecutionJobHook:
            from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

            return NotebookExecutionJobHook(**way)

        return make_hook
