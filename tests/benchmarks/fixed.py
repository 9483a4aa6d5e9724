"""Our trigger with looks a fixed time apart, as cheap as its own: to compare how soon an end is seen for as many calls.

Loading this module makes the pace of the process a fixed one.
"""

from __future__ import annotations

import os

from airflow_provider_nbjob.triggers.notebook_execution_job import NotebookExecutionJobTrigger
from airflow_provider_nbjob.triggers.pace import Pace
from tests.benchmarks.kinds import GAP_VARIABLE

GAP = float(os.environ[GAP_VARIABLE])
Pace._gap = lambda *_: GAP  # type: ignore[method-assign]


class Fixed(NotebookExecutionJobTrigger):
    """Waits for a job as our trigger does."""
