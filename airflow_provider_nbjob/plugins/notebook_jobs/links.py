"""Make the links of tasks on the API server, of the records in the metadata database.

Airflow's own way costs two XComs a link and task; see `links.notebook_execution_job`.
"""

from __future__ import annotations

import logging
from functools import cached_property
from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperatorLink

from airflow_provider_nbjob.links.notebook_execution_job import LINKED, LINKS, JobLink

if TYPE_CHECKING:
    from airflow.sdk.types import TaskInstanceKey

log = logging.getLogger(__name__)


class RecordedLink(BaseOperatorLink):
    """A link of the operators of this provider, which Airflow takes in place of theirs of the same name.

    :param link: makes the URL
    """

    def __init__(self, link: JobLink) -> None:
        self._link = link

    @property
    def name(self) -> str:
        """Return the text of the link."""
        return self._link.name

    @cached_property
    def operators(self) -> list[type]:  # type: ignore[override]  # each process loads its plugins, few need these
        """Return the operators that have the link."""
        return [getattr(import_module(module), name) for module, name in LINKED]

    def get_link(self, operator: Any, *, ti_key: TaskInstanceKey) -> str:
        """Return the URL; empty if the record is of another try, or there is none. Never raise.

        :param operator: not used
        :param ti_key: the task instance; with an earlier try's number, if the page is of that
        """
        from airflow_provider_nbjob.plugins.notebook_jobs.airflow_compat import create_session
        from airflow_provider_nbjob.plugins.notebook_jobs.authorization import TaskRef
        from airflow_provider_nbjob.plugins.notebook_jobs.queries import load_record

        ref = TaskRef(ti_key.dag_id, ti_key.run_id, ti_key.task_id, ti_key.map_index)
        try:
            with create_session(scoped=False) as session:
                record = load_record(session, ref)
        except Exception:  # the page has other links too
            log.exception("The link %r of %s could not be made", self.name, ti_key)
            return ""
        is_of_this_try = record is None or record.try_number in (None, ti_key.try_number)
        return self._link.shown(record) if is_of_this_try else ""


RECORDED_LINKS = [RecordedLink(link) for link in LINKS]
