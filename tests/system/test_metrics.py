"""What the processes of a real Airflow send: each has to find Airflow's metrics by itself."""

from __future__ import annotations

import pytest

from scripts.processes import BUCKET
from tests.support.airflow_processes import Airflow
from tests.support.emulator_process import example_emulator
from tests.support.fixtures import built
from tests.support.paths import CHECKOUT
from tests.support.patience import wait_until
from tests.support.statsd import StatsD

DAG, REGION = "example_notebook_job", "location=us-central1"


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """An Airflow, and where its metrics go."""
    with StatsD() as statsd, example_emulator(tmp_path_factory, "measured") as emulator:

        def make(suffix: str) -> Airflow:
            home = tmp_path_factory.mktemp(f"measured{suffix}") / "home"
            settings = {**emulator.exports, **statsd.settings, "NBJOB_EXAMPLE_BUCKET": BUCKET}
            return Airflow(home, CHECKOUT / "example_dags", settings)

        with built(make) as airflow:
            yield airflow, statsd


@pytest.mark.every_airflow
def test_worker_and_triggerer_send_metrics(measured):
    airflow, statsd = measured
    run_id = airflow.trigger(DAG, {"notebook": "data_quality.ipynb"})
    assert airflow.wait_for_run(DAG, run_id) == "success"
    wait_until(
        lambda: statsd.values("nbjob.jobs.waiting", REGION)[-1:] == [0], timeout=60, what="nobody that waits any more"
    )
    counts = statsd.counts()
    assert counts["nbjob.jobs.submitted"] == 1  # by the worker
    assert counts["nbjob.jobs.ended,state=succeeded"] == 1  # by the triggerer
    assert counts["nbjob.jobs.ended.succeeded"] == 1
    assert counts["nbjob.api.calls,method=CreateNotebookExecutionJob"] == 1
    assert counts["nbjob.api.calls,method=GetNotebookExecutionJob"] >= 1
    assert 1 in statsd.values("nbjob.jobs.waiting", REGION)
    assert statsd.values("nbjob.poll.duration", REGION)
