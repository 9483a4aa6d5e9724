"""What is used of the Google provider beside its public API is still there, and does what is relied on."""

from __future__ import annotations

import inspect

import pytest
from airflow.providers.google.common.hooks.base_google import GoogleBaseHook
from google.auth import impersonated_credentials
from google.auth.credentials import AnonymousCredentials

from airflow_provider_nbjob.hooks.google_compat import (
    cached_credentials,
    connection_field,
    forget_credentials,
    source_credentials,
)
from airflow_provider_nbjob.hooks.notebook_execution_job import NotebookExecutionJobHook


@pytest.fixture
def hook(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_GOOGLE_CLOUD_DEFAULT",
        '{"conn_type": "google_cloud_platform", "extra": {"is_anonymous": true, "project": "p",'
        ' "extra__google_cloud_platform__num_retries": 7}}',
    )
    return NotebookExecutionJobHook()


def test_the_provider_keeps_credentials_under_the_name_that_is_cleared(hook):
    assert "_cached_credentials" in inspect.getsource(GoogleBaseHook.get_credentials_and_project_id)
    assert cached_credentials(hook) is None
    first = hook.get_credentials()
    assert isinstance(first, AnonymousCredentials)
    assert cached_credentials(hook) is first is hook.get_credentials()
    forget_credentials(hook)
    assert cached_credentials(hook) is None
    assert hook.get_credentials() is not first


def test_a_field_is_found_under_both_of_its_names(hook):
    assert connection_field(hook, "project") == "p"
    assert connection_field(hook, "num_retries") == 7
    assert connection_field(hook, "no_such_field") is None


def test_impersonated_credentials_name_those_that_impersonate():
    own = AnonymousCredentials()
    impersonated = impersonated_credentials.Credentials(own, "a@p.iam.gserviceaccount.com", [])
    assert isinstance(source_credentials(impersonated), AnonymousCredentials)  # a copy, with scopes
    assert source_credentials(own) is None
    assert source_credentials(None) is None
