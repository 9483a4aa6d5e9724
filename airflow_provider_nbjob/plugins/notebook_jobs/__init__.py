"""Notebook jobs in the Airflow UI: a tab and links on the page of a task instance, and a page in the navigation.

Every Airflow process loads its plugins, but only the API server serves these pages. So the application is imported
with the first request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_nbjob.plugins.notebook_jobs.links import RECORDED_LINKS
from airflow_provider_nbjob.plugins.notebook_jobs.urls import URL_PREFIX

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send


async def app_on_demand(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the ASGI application, and import it with the first request."""
    from airflow_provider_nbjob.plugins.notebook_jobs.app import app

    await app(scope, receive, send)


class NotebookJobsPlugin(AirflowPlugin):
    """The pages of this provider in Airflow 3.1 and later. They need no configuration.

    Airflow's front end puts the ids of the page into `href`; from 3.2 on it percent-encodes them. If a task is not
    mapped, it leaves ``{MAP_INDEX}`` as it is. A URL without a leading slash stays below the path that Airflow is
    served at.
    """

    name = "notebook_jobs"
    operator_extra_links = RECORDED_LINKS
    fastapi_apps = [{"app": app_on_demand, "url_prefix": URL_PREFIX, "name": "Notebook jobs"}]
    external_views = [
        {
            "name": "Notebook",
            "href": ("notebook-jobs/task?dag_id={DAG_ID}&run_id={RUN_ID}&task_id={TASK_ID}&map_index={MAP_INDEX}"),
            "destination": "task_instance",
            "url_route": "notebook",
        },
        {
            "name": "Notebook jobs",
            "href": "notebook-jobs/",
            "destination": "nav",
            "category": "browse",
            "url_route": "notebook-jobs",
        },
    ]
