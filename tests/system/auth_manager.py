"""An auth manager by which not everybody may see every DAG, which Airflow's simple one does not offer.

Configured by ``AIRFLOW__CORE__AUTH_MANAGER``, in a process that can import `tests`.
"""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.models.resource_details import DagDetails
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser

PRIVATE = "private_"
NAME = f"{__name__}.PrivateDagsAuthManager"


class PrivateDagsAuthManager(SimpleAuthManager):
    """The simple auth manager, but only administrators may see, and run, DAGs whose id begins with ``private_``.

    Whatever Airflow asks about DAGs, their runs, tasks, XComs and lists of them, comes to `is_authorized_dag`:
    `batch_is_authorized_dag`, `get_authorized_dag_ids` and `filter_authorized_dag_ids` of the base class ask it for
    each DAG.
    """

    def is_authorized_dag(
        self, *, user: SimpleAuthManagerUser, details: DagDetails | None = None, **options: Any
    ) -> bool:
        """Whether a user may do something with a DAG, or, without details, with those that he may see."""
        if details and details.id and details.id.startswith(PRIVATE) and not self._is_admin(user):
            return False
        return super().is_authorized_dag(user=user, details=details, **options)
