"""The flags of the command. Airflow loads this module at each of its commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_nbjob.connection import DEFAULT_CONN_ID

CHECK_SECONDS = 20.0

# Flag, and the arguments of argparse's `add_argument`.
FLAGS: tuple[tuple[str, Mapping[str, Any]], ...] = (
    ("--conn-id", {"default": DEFAULT_CONN_ID, "help": f"Airflow connection; default: {DEFAULT_CONN_ID}"}),
    ("--location", {"required": True, "help": "region of the jobs, such as us-central1"}),
    ("--project-id", {"help": "project of the jobs; default: the connection's"}),
    ("--impersonation-chain", {"help": "service accounts to impersonate, separated by commas"}),
    ("--api-endpoint", {"help": "host of the API; default: as for the operators"}),
    ("--template", {"help": "runtime template, by its resource name or its id"}),
    ("--output-uri", {"help": "gs://bucket or gs://bucket/folder that jobs write to"}),
    ("--source", {"help": "gs://bucket/notebook.ipynb, or the resource name of a Dataform repository"}),
    ("--service-account", {"help": "account that notebooks run as"}),
    ("--timeout", {"default": f"{CHECK_SECONDS:g}", "help": f"seconds for each check; default: {CHECK_SECONDS:g}"}),
    ("--json", {"action": "store_true", "help": "print JSON"}),
)
