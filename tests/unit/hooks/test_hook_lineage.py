"""The notebooks that the hook reports to Airflow's collector of hook lineage, and that it costs nothing without one."""

from __future__ import annotations

import sys
from contextlib import contextmanager

import pytest
from airflow.providers.common.compat.lineage import hook as lineage_hook

from airflow_provider_nbjob import airflow_compat
from airflow_provider_nbjob.hooks import hook_lineage
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook
from tests.support.fake_google import FakeGoogle
from tests.support.notebooks import notebook
from tests.support.tasks import api_job

LOCATION = "us-central1"


class Collector:
    """As far as the hook uses it."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def add_input_asset(self, context, scheme, asset_kwargs) -> None:
        self.found.append(("input", "{bucket}/{key}".format(**asset_kwargs)))

    def add_output_asset(self, context, scheme, asset_kwargs) -> None:
        self.found.append(("output", "{bucket}/{key}".format(**asset_kwargs)))


@pytest.fixture
def google(monkeypatch):
    made = FakeGoogle(monkeypatch)
    made.service.executed = notebook()
    return made


@pytest.fixture
def collector(monkeypatch):
    made = Collector()
    monkeypatch.setattr(hook_lineage, "collects_hook_lineage", lambda: True)
    monkeypatch.setattr(lineage_hook, "get_hook_lineage_collector", lambda: made)
    return made


def submitted(hook, uri: str) -> str:
    job = api_job(gcs_notebook_source={"uri": uri}, gcs_output_uri="gs://bucket/runs")
    return hook.create_notebook_execution_job(job=job, location=LOCATION, notebook_execution_job_id="j1")


def test_a_job_and_its_output_are_reported(google, collector):
    hook = NotebookExecutionJobHook()
    name = submitted(hook, "gs://bucket/n.ipynb")
    assert collector.found == [("input", "bucket/n.ipynb")]
    hook.get_result(hook.get_notebook_execution_job(name=name))
    assert collector.found[1:] == [("output", "bucket/runs/j1/content.ipynb")]


def test_a_notebook_that_is_read_for_its_parameters_is_reported(google, collector):
    google.storage.put("gs://bucket/n.ipynb", notebook())
    NotebookExecutionJobHook().files.read_gcs_notebook("gs://bucket/n.ipynb")
    assert collector.found == [("input", "bucket/n.ipynb")]


def test_a_job_without_a_stored_notebook_or_output_reports_nothing(google, collector):
    google.service.executed = None
    hook = NotebookExecutionJobHook()
    job = api_job(gcs_notebook_source=None, direct_notebook_source={"content": notebook()})
    name = hook.create_notebook_execution_job(job=job, location=LOCATION, notebook_execution_job_id="j1")
    hook.get_result(hook.get_notebook_execution_job(name=name))
    assert collector.found == []


def test_characters_that_end_the_path_of_a_uri_are_escaped(google, collector):
    submitted(NotebookExecutionJobHook(), "gs://bucket/ä #1?a=b 100%.ipynb")
    assert collector.found == [("input", "bucket/ä %231%3Fa=b 100%25.ipynb")]


@pytest.mark.parametrize("where", ["collects_hook_lineage", "get_hook_lineage_collector"])
def test_a_collector_that_raises_fails_nothing(google, collector, monkeypatch, where):
    def broken():
        raise RuntimeError("of a plugin")

    owner = hook_lineage if where == "collects_hook_lineage" else lineage_hook
    monkeypatch.setattr(owner, where, broken)
    assert submitted(NotebookExecutionJobHook(), "gs://bucket/n.ipynb")


def test_without_a_reader_the_collector_is_not_made(google, monkeypatch):
    """It would import the assets of all providers."""
    with in_a_task(monkeypatch):
        assert not airflow_compat.collects_hook_lineage()
        monkeypatch.setitem(sys.modules, lineage_hook.__name__, None)
        assert submitted(NotebookExecutionJobHook(), "gs://bucket/n.ipynb")


def test_only_a_task_reports(monkeypatch):
    """In a triggerer and in the API server nobody reads what the hook would report, for any number of tasks."""
    with_reader(monkeypatch)
    assert not airflow_compat.collects_hook_lineage()
    with in_a_task(monkeypatch):
        assert airflow_compat.collects_hook_lineage()


@contextmanager
def in_a_task(monkeypatch):
    """Have Airflow say that a task runs in this process."""
    with monkeypatch.context() as patch:
        patch.setattr("airflow.sdk.get_current_context", dict)
        yield


def with_reader(monkeypatch) -> None:
    """Have a plugin read hook lineage."""
    try:
        from airflow.sdk import plugins_manager
    except ImportError:  # before Airflow 3.2
        from airflow import plugins_manager

        monkeypatch.setattr(plugins_manager, "hook_lineage_reader_classes", [object])
    else:
        monkeypatch.setattr(plugins_manager, "get_hook_lineage_readers_plugins", lambda: [object])
