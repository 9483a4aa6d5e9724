"""Operators that run a notebook of a few cells, for the DAGs of the system tests."""

from __future__ import annotations

from datetime import timedelta

PARAMETERS = "day = '2000-01-01'\nn = 0\ntry_number = 1\ngate = ''"
TITLE = "# Orders of a day\n\nDrawn, counted, and **handed on**."


def cell(source, *tags, kind="code"):
    code = {"outputs": [], "execution_count": None} if kind == "code" else {}
    return {"cell_type": kind, "metadata": {"tags": list(tags)}, "source": source.strip(), **code}


def notebook(*cells):
    kernel = {"name": "python3", "language": "python", "display_name": "Python 3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    return {
        "nbformat": 4,
        "nbformat_minor": 4,
        "metadata": metadata,
        "cells": [cell(TITLE, kind="markdown"), cell(PARAMETERS, "parameters"), *cells],
    }


def arguments(*cells, **changes):
    return {
        "task_id": "notebook",
        "location": "us-central1",
        "direct_notebook_source": notebook(*cells),
        "notebook_runtime_template_resource_name": "template",
        "service_account": "notebooks@example-project.iam.gserviceaccount.com",
        "gcs_output_uri": "gs://ui-tests/runs",
        # A deferred task that is called back before a slow scheduler looks is failed by Airflow, on a busy machine.
        "deferrable": False,
        "poll_interval": 1.0,
        "retry_delay": timedelta(seconds=1),
        **changes,
    }
