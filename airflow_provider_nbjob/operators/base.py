"""The base of all operators: their connection to the API, and that bad input is never retried."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator

from airflow_provider_nbjob.arguments.checked_task import CheckedTask
from airflow_provider_nbjob.connection import DEFAULT_CONN_ID
from airflow_provider_nbjob.lifecycle.final_errors import bad_input_is_not_retried

if TYPE_CHECKING:
    from airflow.sdk import Context


class JobOperator(CheckedTask, BaseOperator):
    """Base of the operators: has the connection to the API, and never has bad input retried.

    :param location: region, such as ``us-central1``
    :param project_id: default: the connection's project
    :param gcp_conn_id: see `NotebookExecutionJobHook`, as for the two below
    :param impersonation_chain: service account, or chain of accounts, to impersonate
    :param api_endpoint: host of the API
    """

    template_fields: Sequence[str] = (
        "location",
        "project_id",
        "gcp_conn_id",
        "impersonation_chain",
        "api_endpoint",
    )

    def __init__(
        self,
        *,
        location: str | None = None,
        project_id: str | None = None,
        gcp_conn_id: str = DEFAULT_CONN_ID,
        impersonation_chain: str | Sequence[str] | None = None,
        api_endpoint: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.location = location
        self.project_id = project_id
        self.gcp_conn_id = gcp_conn_id
        self.impersonation_chain = impersonation_chain
        self.api_endpoint = api_endpoint

    def execute(self, context: Context) -> Any:
        """Check the arguments, which are rendered by now, and perform the task."""
        with bad_input_is_not_retried():
            self.check_rendered()
            return self.perform(context)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Go on after a trigger's event; see Airflow."""
        with bad_input_is_not_retried():
            return super().resume_execution(next_method, next_kwargs, context)

    def perform(self, context: Context) -> Any:
        """Perform the task; bad input may leave it as any `InvalidJob`."""
        raise NotImplementedError
