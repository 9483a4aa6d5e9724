"""The result of a job in the events of a task's outlets."""

from __future__ import annotations

import json
import logging
from types import SimpleNamespace

import pytest
from airflow.sdk import Asset, AssetAlias
from airflow.sdk.execution_time.context import OutletEventAccessors

from airflow_provider_nbjob.job import JobResult, JobState
from airflow_provider_nbjob.lineage.assets import EXTRA_RESULTS_MAX_BYTES, describe_outlets, extra_of
from airflow_provider_nbjob.masking import mask
from tests.support.fake_service import JOB

LOG = logging.getLogger(__name__)
ASSET = Asset(name="report", uri="gs://b/report")


def result_with(**results) -> JobResult:
    return JobResult(
        JOB, JOB.rpartition("/")[2], JobState.SUCCEEDED, {}, "", "gs://b/runs", "gs://b/runs/n.ipynb", results=results
    )


def test_an_event_has_the_result():
    events = OutletEventAccessors()
    describe_outlets({"outlet_events": events}, [ASSET], result_with(auc=0.5), LOG)
    assert events[ASSET].extra == {
        "job_name": JOB,
        "job_state": "JOB_STATE_SUCCEEDED",
        "output_notebook_uri": "gs://b/runs/n.ipynb",
        "results": {"auc": 0.5},
    }


def test_what_the_user_has_put_there_wins():
    events = OutletEventAccessors()
    events[ASSET].extra = {"job_state": "of mine", "rows": 3}
    describe_outlets({"outlet_events": events}, [ASSET], result_with(), LOG)
    assert events[ASSET].extra["job_state"] == "of mine"
    assert events[ASSET].extra["rows"] == 3
    assert events[ASSET].extra["job_name"] == JOB


def test_outlets_that_have_no_events_of_their_own_are_left_alone():
    events = OutletEventAccessors()
    outlets = [SimpleNamespace(name="a table"), AssetAlias("alias"), ASSET]
    describe_outlets({"outlet_events": events}, outlets, result_with(), LOG)
    assert events[ASSET].extra["job_name"] == JOB
    assert events[AssetAlias("alias")].asset_alias_events == []


@pytest.mark.parametrize("context", [{}, {"outlet_events": None}])
def test_a_context_without_events_fails_no_task(context):
    describe_outlets(context, [ASSET], result_with(), LOG)


def test_an_airflow_that_does_not_answer_fails_no_task(caplog):
    class Unanswered:
        def __getitem__(self, outlet):
            raise RuntimeError("no answer")

    describe_outlets({"outlet_events": Unanswered()}, [ASSET], result_with(), LOG)
    assert "is not put into the event" in caplog.text


def test_results_that_are_too_large_are_null_and_the_log_says_so(caplog):
    extra = extra_of(result_with(small=1, text="x" * EXTRA_RESULTS_MAX_BYTES), LOG)
    assert extra["results"] == {"small": 1, "text": None}
    assert "results['text']" in caplog.text
    many = {f"key{n:06}": None for n in range(EXTRA_RESULTS_MAX_BYTES)}
    assert len(json.dumps(extra_of(result_with(**many), LOG)).encode()) < 2 * EXTRA_RESULTS_MAX_BYTES


def test_secrets_are_masked():
    mask("of-the-asset-test")
    results = {"said": "it is of-the-asset-test", "password": "short", "n": 3}
    assert extra_of(result_with(**results), LOG)["results"] == {"said": "it is ***", "password": "***", "n": 3}
