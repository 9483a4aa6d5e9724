"""The triggers that are compared, by the class paths that Airflow loads in its triggerer.

The Google provider's are subclassed, with anonymous credentials and a plaintext channel, so that only their own work
counts. Loading this module loads neither them nor ours: imports are a part of what a trigger costs.
"""

from __future__ import annotations

import os
from typing import Any

SERVICE_VARIABLE = "NBJOB_EMULATOR_HOST"  # ours finds the fake service as it would find the emulator
GAP_VARIABLE = "NBJOB_BENCHMARK_GAP"  # seconds between looks, of the kind `FIXED`
POLL_INTERVAL = 10
NAME = "projects/bench/locations/us-central1/notebookExecutionJobs/job-{number}"
VERTEX = {"conn_id": "google_cloud_default", "project_id": "bench", "location": "us-central1"}


def arguments(kind: str, number: int) -> dict[str, Any]:
    """What the trigger of one waiting job is made with."""
    if kind in ("ours", FIXED):
        return {"name": NAME.format(number=number), "poll_interval": POLL_INTERVAL}
    if kind == "idle":
        return {}
    return {**VERTEX, "job_id": f"job-{number}", "poll_interval": POLL_INTERVAL}


FIXED = "fixed"  # ours, with looks that are a fixed time apart
CLASSES = {
    "ours": "airflow_provider_nbjob.triggers.notebook_execution_job.NotebookExecutionJobTrigger",
    "custom training": "tests.benchmarks.peers.CustomTraining",
    "hyperparameter tuning": "tests.benchmarks.peers.HyperparameterTuning",
    "idle": "tests.benchmarks.probe.Idle",
    FIXED: "tests.benchmarks.fixed.Fixed",
}


def service_address() -> str:
    """Where the fake service is."""
    return os.environ[SERVICE_VARIABLE].removeprefix("http://")
