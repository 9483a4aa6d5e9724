"""Notebook jobs in the Airflow UI: a tab on the page of a task instance, and a page in the navigation.

Every Airflow process loads its plugins, and only the API server needs what is in this one: the rest is imported when
the first request comes.
"""

from __future__ import annotations

from typing import Any

from airflow.plugins_manager import AirflowPlugin

from airflow_provider_nbjob.plugins.notebook_jobs.urls import URL_PREFIX


async def app_on_demand(scope: Any, receive: Any, send: Any) -> None:
    """Serve the ASGI application, which is imported when it is first asked."""
    from airflow_provider_nbjob.plugins.notebook_jobs.app import app

    await app(scope, receive, send)


class NotebookJobsPlugin(AirflowPlugin):
    """What Airflow 3.1 and later show of this provider; nothing is to be configured.

    Airflow's front end puts the ids of the page into `href`, percent-encoded from 3.2 on, and leaves ``{MAP_INDEX}``
    as it is where a task is not mapped. A URL without a leading slash stays below the path that Airflow is served at.
    """

    name = "notebook_jobs"
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
