"""What Airflow's StatsD client sends of jobs on the emulator."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from airflow_provider_nbjob.metrics import METRICS
from tests.support.paths import CHECKOUT
from tests.support.patience import wait_until
from tests.support.statsd import StatsD

REGION = "location=us-central1"


@pytest.fixture(scope="module")
def sent(emulator):
    """What `measured.py` sends."""
    with StatsD() as statsd:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.integration.measured"],
            env={**os.environ, **emulator.exports, **statsd.settings},
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        with process:
            assert "done" in (line.strip() for line in process.stdout)
            # The gauge comes from the thread that serves event loops, and is the last one that it sends.
            wait_until(
                lambda: statsd.values("nbjob.jobs.waiting", REGION)[-1:] == [0], timeout=30, what="an end of the wait"
            )
            process.stdin.close()
        yield statsd


def test_all_metrics_are_sent(sent):
    sent.read()
    assert {sample.name for sample in sent.samples} >= {metric.name for metric in METRICS}
    kinds = {"counter": "c", "gauge": "g", "timer": "ms"}
    for metric in METRICS:
        of_it = [sample for sample in sent.samples if sample.name == metric.name]
        assert {sample.kind for sample in of_it} == {kinds[metric.kind]}
        for sample in of_it:
            assert {tag.partition("=")[0] for tag in sample.tags} == set(metric.tags)


def test_jobs_are_counted(sent):
    counts = sent.counts()
    assert counts["nbjob.jobs.submitted"] == 3
    assert counts["nbjob.jobs.adopted"] == 1
    assert counts["nbjob.jobs.stopped"] == 1
    ended = {name: count for name, count in counts.items() if name.startswith("nbjob.jobs.ended")}
    assert ended == {
        "nbjob.jobs.ended,state=succeeded": 1,
        "nbjob.jobs.ended.succeeded": 1,
        "nbjob.jobs.ended,state=failed": 1,
        "nbjob.jobs.ended.failed": 1,
    }


def test_calls_and_errors_are_counted_by_method_and_code(sent):
    counts = sent.counts()
    assert counts["nbjob.api.calls,method=CreateNotebookExecutionJob"] == 3
    assert counts["nbjob.api.calls.CreateNotebookExecutionJob"] == 3
    assert counts["nbjob.api.calls,method=ListOperations"] >= 1
    assert counts["nbjob.api.calls,method=ListObjects"] >= 1  # where the executed notebook is
    errors = {name for name in counts if name.startswith("nbjob.api.errors,")}
    assert "nbjob.api.errors,code=NOT_FOUND,method=GetNotebookExecutionJob" in errors
    assert counts["nbjob.api.errors.GetNotebookExecutionJob.NOT_FOUND"] >= 1


def test_those_who_wait_and_polls_are_measured(sent):
    waiting = sent.values("nbjob.jobs.waiting", REGION)
    assert 1 in waiting
    assert waiting[-1] == 0
    durations = sent.values("nbjob.poll.duration", REGION)
    assert durations
    assert all(value >= 0 for value in durations)
    (host,) = {tag for sample in sent.samples if sample.name == "nbjob.jobs.waiting" for tag in sample.tags} - {REGION}
    assert host.startswith("hostname=")


def test_no_metric_names_a_job_a_dag_or_a_task(sent):
    sent.read()
    for sample in sent.samples:
        if not sample.name.startswith("nbjob.jobs.waiting"):  # which has the name of a machine
            text = ",".join([sample.name, *sample.tags])
            assert not any(part in text for part in ("run_notebook", "nbjob-", "projects", "run-"))
