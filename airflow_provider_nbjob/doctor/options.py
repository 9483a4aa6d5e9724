"""The options of the command, and the rules for their values, which are those of the operator's arguments."""

from __future__ import annotations

import math
import re
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_provider_nbjob import names
from airflow_provider_nbjob.connection import DEFAULT_CONN_ID
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import checks
from airflow_provider_nbjob.job.spec import NotebookExecutionJobSpec

CHECK_SECONDS_MAX = 600.0

# Airflow allows these characters in the id of a connection (`sanitize_conn_id`, 3.1 to 3.3).
_CONN_ID = re.compile(r"[\w#!()\-.:/\\]{1,200}")
_ACCOUNT = re.compile(names.ACCOUNT)  # it becomes part of a URL, so the rule is narrower than that of a job's field
_REPOSITORY_PREFIX = "projects/"


@dataclass(frozen=True)
class Options:
    """The parsed options. Those that were not given are None, or an empty tuple.

    :param conn_id: id of an Airflow connection
    :param location: region
    :param accounts: to impersonate, the last one the one that requests are sent as
    :param template: resource name or id of a runtime template
    :param gcs_source: URI of a notebook in Cloud Storage
    :param dataform_source: resource name of a Dataform repository
    :param seconds: that each check may take
    """

    conn_id: str
    location: str
    project_id: str | None
    accounts: tuple[str, ...]
    api_endpoint: str | None
    template: str | None
    output_uri: str | None
    gcs_source: str | None
    dataform_source: str | None
    service_account: str | None
    seconds: float

    def template_name(self, project: str) -> str | None:
        """Return the full resource name of the template, which may be given by its id."""
        spec = NotebookExecutionJobSpec(location=self.location, notebook_runtime_template_resource_name=self.template)
        name: str | None = spec.to_api(project).get("notebook_runtime_template_resource_name")
        return name


def parse_options(given: Namespace) -> Options:
    """Check the values of a command line.

    :param given: texts by the names that argparse makes of the flags
    :raises InvalidJob: if a value is malformed, with one message for each option: its flag, the value and the rule
    """
    first: dict[str, str] = {}
    for problem in _problems(given):
        first.setdefault(problem.partition(":")[0], problem)
    if first:
        raise InvalidJob([*first.values()])
    from airflow_provider_nbjob.hooks.clients import resolve_endpoint  # loads Google's clients

    if given.api_endpoint is not None:
        try:
            resolve_endpoint(given.location, given.api_endpoint)
        except InvalidJob as error:
            raise InvalidJob(str(error).replace("api_endpoint", "--api-endpoint", 1)) from None
    is_repository = (given.source or "").startswith(_REPOSITORY_PREFIX)
    return Options(
        conn_id=given.conn_id,
        location=given.location,
        project_id=given.project_id,
        accounts=names.accounts_of(given.impersonation_chain),
        api_endpoint=given.api_endpoint,
        template=given.template,
        output_uri=given.output_uri,
        gcs_source=None if is_repository else given.source,
        dataform_source=given.source if is_repository else None,
        service_account=given.service_account,
        seconds=float(given.timeout),
    )


def _problems(given: Namespace) -> Iterator[str]:
    rules = {
        "--conn-id": checks.matches(_CONN_ID, DEFAULT_CONN_ID),
        "--project-id": checks.project,
        "--impersonation-chain": checks.impersonation_chain,
        "--service-account": checks.matches(_ACCOUNT, "name@project.iam.gserviceaccount.com"),
        "--timeout": _timeout,
    }
    values = {flag: getattr(given, flag[2:].replace("-", "_")) for flag in rules}
    yield from checks.problems_of({flag: value for flag, value in values.items() if value is not None}, rules)
    yield from _problems_of_the_job(given)
    if given.api_endpoint == "":
        yield "--api-endpoint: '' is not of the form host, host:port or http://host:port"


def _problems_of_the_job(given: Namespace) -> Iterator[str]:
    """Yield the problems of the options that are fields of a job, in the words of the operator."""
    is_repository = (given.source or "").startswith(_REPOSITORY_PREFIX)
    fields = {
        "location": ("--location", given.location),
        "notebook_runtime_template_resource_name": ("--template", given.template),
        "gcs_output_uri": ("--output-uri", given.output_uri),
        "dataform_repository_source" if is_repository else "gcs_notebook_source": ("--source", given.source),
    }
    spec = NotebookExecutionJobSpec(**{field: value for field, (_, value) in fields.items()})
    for problem in spec.problems():
        field, _, text = problem.partition(": ")
        flag, value = fields.get(field, ("", None))
        if value is not None:
            yield f"{flag}: {text}"


def _timeout(value: str) -> Iterator[str]:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 1 <= seconds <= CHECK_SECONDS_MAX:
        yield f"{names.shown(value)} is not a number of seconds from 1 to {CHECK_SECONDS_MAX:g}"
