"""The name of one of Airflow's processes, told as that of its machine: so a test knows which one has a task."""

from __future__ import annotations

import os

VARIABLE = "NBJOB_TEST_COMPONENT"


def name() -> str:
    """Return the name of this process (`[core] hostname_callable`)."""
    return os.environ.get(VARIABLE, "a command")
