"""Connect to the API: an Airflow connection, the accounts to impersonate, an endpoint, and the hook made of them.

Making the hook loads Google's clients, which a DAG that is only parsed must not pay for.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypedDict

from airflow_provider_nbjob.names import accounts_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

DEFAULT_CONN_ID = "google_cloud_default"


class ConnectionArguments(TypedDict):
    """The arguments that lead to the API, by the names that operators, sensor, trigger and hook give them."""

    gcp_conn_id: str
    impersonation_chain: str | Sequence[str] | None
    api_endpoint: str | None


@dataclass(frozen=True)
class Connection:
    """A connection to the API. Tasks with equal connections may share requests and clients.

    :param gcp_conn_id: an Airflow connection of type `google_cloud_platform`
    :param accounts: to impersonate, the last one the one that requests are sent as
    :param api_endpoint: host of the API; None for the connection's own, or Google's
    """

    gcp_conn_id: str = DEFAULT_CONN_ID
    accounts: tuple[str, ...] = ()
    api_endpoint: str | None = None

    def make_hook(self) -> NotebookExecutionJobHook:
        """Return a new hook, with Airflow's connection as it is now."""
        from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook

        return NotebookExecutionJobHook(
            gcp_conn_id=self.gcp_conn_id,
            impersonation_chain=self.accounts or None,
            api_endpoint=self.api_endpoint,
        )


class HasConnection:
    """Gives an operator, a sensor or a trigger its `connection` and its `hook`, made when they are first used."""

    gcp_conn_id: str
    impersonation_chain: str | Sequence[str] | None
    api_endpoint: str | None

    @property
    def connection(self) -> Connection:
        """The connection to the API. It is made at each call, as its parts may be templates."""
        return Connection(self.gcp_conn_id, accounts_of(self.impersonation_chain), self.api_endpoint)

    @cached_property
    def hook(self) -> NotebookExecutionJobHook:
        """The hook, one for each instance."""
        return self.connection.make_hook()

    def connection_arguments(self) -> ConnectionArguments:
        """Return the arguments that lead to the API, for another object of this kind, and for the task's record."""
        return {
            "gcp_conn_id": self.gcp_conn_id,
            "impersonation_chain": self.impersonation_chain,
            "api_endpoint": self.api_endpoint,
        }
