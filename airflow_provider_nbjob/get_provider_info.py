"""Describe this provider to Airflow, which calls `get_provider_info` through the entry point `apache_airflow_provider`.

Airflow calls it at every start, in some versions before it is configured. So this module imports no other module of
the provider.
"""

from __future__ import annotations

from typing import Any

INTEGRATION = "Vertex AI Notebook Execution Jobs"
PACKAGE = "airflow_provider_nbjob"


def get_provider_info() -> dict[str, Any]:
    """Return the provider's description, after the schema `airflow/provider_info.schema.json` of Airflow 3.3."""
    return {
        "package-name": "airflow-provider-nbjob",
        "name": "Notebook Execution Jobs",
        "description": (
            "Run notebooks in production, as `Vertex AI / Colab Enterprise"
            " <https://cloud.google.com/colab/docs>`__ ``NotebookExecutionJob``."
        ),
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": (
                    "https://cloud.google.com/vertex-ai/docs/reference/rest/v1/projects.locations.notebookExecutionJobs"
                ),
                "tags": ["gcp"],
            }
        ],
        "hooks": _modules("hooks"),
        "operators": _modules("operators"),
        "sensors": _modules("sensors"),
        "triggers": _modules("triggers"),
        "extra-links": [
            f"{PACKAGE}.links.notebook_execution_job.{link}"
            for link in ("NotebookExecutionLink", "NotebookOutputLink", "NotebookLogsLink")
        ],
        "plugins": [
            {"name": "notebook_jobs", "plugin-class": f"{PACKAGE}.plugins.notebook_jobs.NotebookJobsPlugin"},
        ],
        "cli": [f"{PACKAGE}.doctor.command_line.get_cli_commands"],  # Airflow 3.1 does not ask for it
        "config": {"nbjob": {"description": "Notebook execution jobs.", "options": _options()}},
    }


def _options() -> dict[str, dict[str, str | None]]:
    """Return the options of the section `nbjob` of Airflow's configuration."""
    return {
        "max_requests_per_minute": _option(
            "integer",
            "60",
            "Requests that one triggerer sends in any 60 seconds, at most, to look at the jobs of one project in one"
            " region, over all connections to it. It looks more often while an end is likely, and less often than"
            " `poll_interval` only if it must for this limit. A whole number above 0; for anything else the log has an"
            " error, and the default is used. The API's own quota is, by project and region, 60 to 600 a minute.",
        ),
        "triggerer_read_max_bytes": _option(
            "integer",
            "2097152",
            "Size up to which a triggerer reads the executed notebook of a deferred task's job that succeeded, two at a"
            " time for each connection and location; a worker reads a larger one. 0: workers read all of them. A whole"
            " number from 0 on; for anything else the log has an error, and the default is used.",
        ),
        "direct_content_max_bytes": _option(
            "integer",
            "4000000",
            "Size up to which a notebook is sent in the request that submits its job; a larger one is uploaded beside"
            " the job's output and run from there. The API documents no limit.",
        ),
        "allowed_api_endpoints": _option(
            "string",
            "*.googleapis.com, localhost",
            "Hosts that the argument or the connection's extra `api_endpoint` may name, separated by commas, without"
            " ports: credentials are sent to these. `*.example.com` stands for every host below example.com,"
            " `localhost` for all loopback addresses too. Plaintext (`http://`, without credentials) goes only to"
            " loopback addresses and to hosts that are listed without an asterisk. Empty: no host may be named. Always"
            " allowed are Google's regional host of a job's location, the domain of GOOGLE_CLOUD_UNIVERSE_DOMAIN, and,"
            " in plaintext, NBJOB_EMULATOR_HOST.",
            example="*.googleapis.com, api.example.com",
        ),
    }


def _option(kind: str, default: str, description: str, *, example: str | None = None) -> dict[str, str | None]:
    return {
        "description": description,
        "version_added": "0.1.0",
        "type": kind,
        "example": example,
        "default": default,
    }


def _modules(room: str) -> list[dict[str, str | list[str]]]:
    return [{"integration-name": INTEGRATION, "python-modules": [f"{PACKAGE}.{room}.notebook_execution_job"]}]
