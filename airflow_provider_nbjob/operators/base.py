"""What all operators share."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow.sdk import BaseOperator

from airflow_provider_nbjob.lazy_hook import LazyHook


class JobOperator(LazyHook, BaseOperator):
    """Base of the operators: knows the way to the API.

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
        gcp_conn_id: str = "google_cloud_default",
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
