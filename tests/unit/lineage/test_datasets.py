"""The names of notebooks as datasets, by OpenLineage's naming specification."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_provider_nbjob.lineage.datasets import NotebookDataset, source_of, stored_notebook

REPOSITORY = "projects/p/locations/us-central1/repositories/r"


def task_with(**source):
    given = dict.fromkeys(("gcs_notebook_source", "direct_notebook_source", "dataform_repository_source"))
    dag = SimpleNamespace(fileloc="/dags/team/reports.py")
    return SimpleNamespace(**{**given, **source}, dag=dag, has_dag=lambda: True)


@pytest.mark.parametrize(
    ("source", "dataset"),
    [
        ({"gcs_notebook_source": "gs://b/a/n.ipynb"}, ("gs://b", "a/n.ipynb", None)),
        ({"gcs_notebook_source": {"uri": "gs://b/n.ipynb", "generation": 7}}, ("gs://b", "n.ipynb", "7")),
        ({"gcs_notebook_source": {"uri": "gs://b/n.ipynb", "generation": None}}, ("gs://b", "n.ipynb", None)),
        ({"dataform_repository_source": REPOSITORY}, ("dataform", REPOSITORY, None)),
        (
            {"dataform_repository_source": {"dataform_repository_resource_name": REPOSITORY, "commit_sha": "abcdef0"}},
            ("dataform", REPOSITORY, "abcdef0"),
        ),
        ({"direct_notebook_source": "notebooks/n.ipynb"}, ("file", "/dags/team/notebooks/n.ipynb", None)),
        ({"direct_notebook_source": "/shared/n.ipynb"}, ("file", "/shared/n.ipynb", None)),
        (
            {"gcs_notebook_source": "None", "direct_notebook_source": "/shared/n.ipynb"},
            ("file", "/shared/n.ipynb", None),
        ),
    ],
)
def test_each_source_has_a_name(source, dataset):
    assert source_of(task_with(**source)) == NotebookDataset(*dataset)


@pytest.mark.parametrize(
    "source",
    [
        {},
        {"gcs_notebook_source": "not a URI"},
        {"gcs_notebook_source": 7},
        {"gcs_notebook_source": {"generation": 7}},
        {"gcs_notebook_source": "gs://b"},
        {"gcs_notebook_source": "gs://b/a\nb.ipynb"},
        {"dataform_repository_source": "projects/p"},
        {"dataform_repository_source": ["a", "list"]},
        {"direct_notebook_source": b'{"cells": []}'},
        {"direct_notebook_source": '{"cells": []}'},
        {"direct_notebook_source": "None"},
    ],
)
def test_content_and_what_is_no_source_has_none(source):
    assert source_of(task_with(**source)) is None


@pytest.mark.parametrize(
    "name", ["ä ö/ü.ipynb", "a#b?c=d%20e.ipynb", "a//b/../c.ipynb", "'\"\\<script>.ipynb", "n" * 1000]
)
def test_the_name_of_an_object_stays_as_it_is(name):
    assert stored_notebook(f"gs://b/{name}") == NotebookDataset("gs://b", name)


def test_a_path_that_is_no_utf_8_can_be_sent():
    dataset = source_of(task_with(direct_notebook_source="/shared/\udcff.ipynb"))
    assert dataset == NotebookDataset("file", "/shared/?.ipynb")
