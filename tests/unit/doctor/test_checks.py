"""Connections that are odd: their checks name the field, and show no secret of it."""

from __future__ import annotations

import json
from argparse import Namespace

import pytest

from airflow_provider_nbjob.connection import Connection
from airflow_provider_nbjob.doctor.checks import Examination, _mask_passwords
from airflow_provider_nbjob.doctor.flags import FLAGS
from airflow_provider_nbjob.doctor.options import parse_options
from airflow_provider_nbjob.doctor.report import one_line
from airflow_provider_nbjob.doctor.runner import Remark
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.hooks.files import NotebookFiles


@pytest.mark.parametrize("password", ["secret-of-a-url", "secret/of-a-url", "secret@of-a-url", "secret:of-a/url?"])
def test_the_password_of_an_endpoint_is_masked(password):
    endpoint = f"http://me:{password}@localhost:1/v1"
    _mask_passwords({"api_endpoint": endpoint, "project": "my-project"})
    assert password not in one_line(f"api_endpoint: {endpoint!r} is not of the form")


@pytest.mark.parametrize("chain", [5, [5], [None], {"a": 1}, [["a@p.iam.gserviceaccount.com"]], True])
def test_an_impersonation_chain_of_another_type_is_named(monkeypatch, chain):
    extra = {"impersonation_chain": chain, "project": "my-project"}
    connection = {"conn_type": "google_cloud_platform", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_ODD_CHAIN", json.dumps(connection))
    hook = Connection("odd_chain").make_hook()
    with pytest.raises(InvalidJob, match=r"^impersonation_chain: .* is not of the form"):
        hook.get_credentials()


def test_a_bucket_that_cannot_be_written_to_is_a_remark_with_the_limit_of_this_airflow(monkeypatch):
    monkeypatch.setenv("AIRFLOW__NBJOB__DIRECT_CONTENT_MAX_BYTES", "1234")
    monkeypatch.setenv("AIRFLOW_CONN_WRITER", "google-cloud-platform://")
    monkeypatch.setattr(NotebookFiles, "held_permissions", lambda *_: set())
    given = Namespace(**{flag[2:].replace("-", "_"): settings.get("default") for flag, settings in FLAGS})
    given.conn_id, given.location, given.output_uri = "writer", "us-central1", "gs://ml-team/runs"
    examination = Examination(parse_options(given))
    examination._connection()
    with pytest.raises(Remark, match="if it has more than 1234 bytes"):
        examination._write()
