"""The fields of a `NotebookExecutionJob` that a caller sets, and the rules for them.

This module holds all rules. It reports all broken rules at once; each message names the field, the value and the rule.
The rules come from the field comments of `NotebookExecutionJob` in google-cloud-aiplatform 2.7 (`aiplatform_v1`), which
the API's reference repeats. Rules that these do not give are those that `gcloud colab executions create` (gcloud 528)
enforces. This module imports neither Airflow nor a package of Google's.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from airflow_provider_nbjob import names
from airflow_provider_nbjob.exceptions import InvalidJob
from airflow_provider_nbjob.job import JOB_ID_FORM, bucket_and_path
from airflow_provider_nbjob.job.checks import Rule, matches
from airflow_provider_nbjob.job.environment import environment_rule, plain_environment
from airflow_provider_nbjob.job.environment_fields import FIELDS
from airflow_provider_nbjob.notebook.source import read_notebook
from airflow_provider_nbjob.notebook.unknown import UNKNOWN

DISPLAY_NAME_MAX = 128
LABEL_MAX = 64  # characters of a key or a value
LABELS_MAX = 64  # Vertex AI documents "no more than 64 user labels", without system labels, for other resources
SYSTEM_LABEL_PREFIX = "aiplatform.googleapis.com/"

REQUIRED = ("location", "display_name", "gcs_output_uri")
SOURCES = ("gcs_notebook_source", "direct_notebook_source", "dataform_repository_source")
ENVIRONMENTS = ("notebook_runtime_template_resource_name", "custom_environment_spec")
IDENTITIES = ("service_account", "execution_user")

_RESOURCE = rf"projects/{names.PROJECT}/locations/(?P<location>{names.ANY_LOCATION})"
_BUCKET_MIN = 3
_TEMPLATE = re.compile(rf"{_RESOURCE}/notebookRuntimeTemplates/{names.RESOURCE_ID}")
_TEMPLATE_ID = re.compile(r"[a-z0-9](?:[-_a-z0-9]{0,126}[a-z0-9])?")
_KMS_KEY = re.compile(rf"{_RESOURCE}/keyRings/[-_A-Za-z0-9]{{1,63}}/cryptoKeys/[-_A-Za-z0-9]{{1,63}}")
_EMAIL = re.compile(r"[^@\s/]+@[^@\s/]+\.[^@\s/]+")
_SECONDS = re.compile(r"\s*(-?[0-9]+(?:\.[0-9]+)?)\s*s?\s*")


@dataclass(frozen=True)
class NotebookExecutionJobSpec:
    """A job to create. The names of fields are those of the proto, but for `job_timeout`: its `execution_timeout`.

    :param location: region, such as ``us-central1``
    :param display_name: 1 to 128 characters
    :param gcs_notebook_source: ``"gs://bucket/notebook.ipynb"``, or ``{"uri": ..., "generation": ...}``
    :param direct_notebook_source: the notebook as JSON, or the path of its file: an ``.ipynb``, or a ``.py`` in
        jupytext's percent format
    :param dataform_repository_source: ``"projects/.../locations/.../repositories/..."``, or
        ``{"dataform_repository_resource_name": ..., "commit_sha": ...}``
    :param notebook_runtime_template_resource_name: full name, or the bare id of a template in `location`
    :param custom_environment_spec: ``{"machine_spec": ..., "persistent_disk_spec": ..., "network_spec": ...}``
    :param workbench_runtime: a message that makes the job a Workbench job, ``{}`` included; None makes it a Colab
        Enterprise job
    :param kernel_name: kernel of a Workbench job, such as ``python3``
    :param gcs_output_uri: ``gs://bucket`` or a folder in it
    :param service_account: email of the account to run as; exactly one of this and `execution_user`
    :param execution_user: email of the person to run as; Colab Enterprise only
    :param labels: at most 64 labels; keys and values of at most 64 lowercase letters, digits, ``_`` and ``-``
    :param encryption_spec: name of a KMS key in `location`, or ``{"kms_key_name": ...}``
    :param job_timeout: time limit of the run: a timedelta, a number of seconds, or a text such as ``"3600s"``; at least
        1 s. The API's default is 24 h
    :param notebook_execution_job_id: id of the job; if it is None, the API generates a number
    """

    location: Any = None
    display_name: Any = None
    gcs_notebook_source: Any = None
    direct_notebook_source: bytes | Path | None = None
    dataform_repository_source: Any = None
    notebook_runtime_template_resource_name: Any = None
    custom_environment_spec: Any = None
    workbench_runtime: Any = None
    kernel_name: Any = None
    gcs_output_uri: Any = None
    service_account: Any = None
    execution_user: Any = None
    labels: Any = None
    encryption_spec: Any = None
    job_timeout: Any = None
    notebook_execution_job_id: Any = None

    def validated(self) -> NotebookExecutionJobSpec:
        """Check every rule, and return the job with the content of `direct_notebook_source`, which is read once.

        :raises InvalidJob: if any rule is broken, with one message for each problem
        """
        content, found = self.direct_notebook_source, []
        if content is not None:
            try:
                content = _content(content)
            except InvalidJob as error:
                found = [f"direct_notebook_source: {problem}" for problem in error.problems]
        if problems := found + self.problems(reading=False):
            raise InvalidJob(problems)
        return replace(self, direct_notebook_source=content)

    def problems(self, *, unknown: Collection[str] = (), reading: bool = True) -> list[str]:
        """Return one message for each broken rule.

        :param unknown: fields whose value is not known yet, such as a template before it is rendered. They count as
            given, and no other rule applies to them. The same holds for fields, and parts of fields, that are `UNKNOWN`
        :param reading: whether to read and validate `direct_notebook_source`; default True
        """
        values = vars(self)
        unknown = {*unknown, *(name for name, value in values.items() if value is UNKNOWN)}
        given = {name for name, value in values.items() if value is not None} | unknown
        found = [f"{name}: required, but not given" for name in REQUIRED if name not in given]
        for group in (SOURCES, ENVIRONMENTS, IDENTITIES):
            found += _exactly_one(group, given, unknown)
        judged = given - unknown - (set() if reading else {"direct_notebook_source"})
        for name in (name for name in values if name in judged):
            found += [f"{name}: {problem}" for problem in _RULES[name](values[name])]
        found += self._problems_between_fields(unknown)
        return found

    def _problems_between_fields(self, unknown: Collection[str]) -> Iterator[str]:
        known = vars(self).keys() - unknown
        if self.kernel_name is not None and self.workbench_runtime is None and "kernel_name" in known:
            # gcloud 528 treats a job with a kernel name as a Workbench job, and hides it from `colab executions`.
            yield f"kernel_name: {self.kernel_name!r} is for Workbench jobs; set workbench_runtime={{}} with it"
        has_user, has_workbench = self.execution_user is not None, self.workbench_runtime is not None
        if has_user and has_workbench and {"execution_user", "workbench_runtime"} <= known:
            yield f"execution_user: {self.execution_user!r} is for Colab Enterprise only, not with workbench_runtime"
        located = {
            "notebook_runtime_template_resource_name": (
                _TEMPLATE,
                self.notebook_runtime_template_resource_name,
            ),
            "encryption_spec": (_KMS_KEY, _kms_key_name(self.encryption_spec)),
        }
        for name, (pattern, value) in located.items():
            match = pattern.fullmatch(value) if isinstance(value, str) else None
            if match and {name, "location"} <= known and match["location"] != self.location:
                yield f"{name}: {value!r} is not in the job's location {self.location!r}"

    def to_api(self, project_id: str) -> dict[str, Any]:
        """Return the job as the API accepts it, in the proto's snake case. Call it on what `validated` returned.

        :param project_id: project of a runtime template that is given by its bare id
        """
        job = {
            "display_name": self.display_name,
            "gcs_notebook_source": _wrapped(self.gcs_notebook_source, "uri"),
            "direct_notebook_source": _wrapped(self.direct_notebook_source, "content"),
            "dataform_repository_source": _wrapped(
                self.dataform_repository_source, "dataform_repository_resource_name"
            ),
            "notebook_runtime_template_resource_name": self._template_name(project_id),
            "custom_environment_spec": _environment(self.custom_environment_spec, "custom_environment_spec"),
            "workbench_runtime": _environment(self.workbench_runtime, "workbench_runtime"),
            "kernel_name": self.kernel_name,
            "gcs_output_uri": self.gcs_output_uri,
            "service_account": self.service_account,
            "execution_user": self.execution_user,
            "labels": self.labels,
            "encryption_spec": _wrapped(self.encryption_spec, "kms_key_name"),
            "execution_timeout": None if self.job_timeout is None else as_timedelta(self.job_timeout),
        }
        return {name: value for name, value in job.items() if value is not None}

    def _template_name(self, project_id: str) -> str | None:
        name: str | None = self.notebook_runtime_template_resource_name
        if name is None or "/" in name:
            return name
        return f"projects/{project_id}/locations/{self.location}/notebookRuntimeTemplates/{name}"


def as_timedelta(value: Any) -> timedelta:
    """Convert a timedelta, a number of seconds, or a text such as ``"3600"`` or ``"3600s"`` to a timedelta.

    :raises ValueError: if the value is anything else
    """
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str) and (match := _SECONDS.fullmatch(value)):
        value = float(match[1])
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        with suppress(OverflowError):
            return timedelta(seconds=value)
    raise ValueError(f"{value!r} is no duration: give a timedelta, seconds, or a text such as '3600s'")


def _wrapped(value: Any, key: str) -> Any:
    """Convert a field to a message: wrap the short form, a text, and write numbers as texts, like int64 in JSON.

    :param key: field of the message that the short form sets
    """
    if isinstance(value, Mapping):
        return {k: str(v) if k == "generation" else v for k, v in value.items() if v is not None}
    return value if value is None else {key: value}


def _environment(value: Any, field: str) -> Any:
    return value if value is None else plain_environment(value, FIELDS[field])


def _kms_key_name(value: Any) -> Any:
    return value.get("kms_key_name") if isinstance(value, Mapping) else value


def _exactly_one(group: tuple[str, ...], given: Collection[str], unknown: Collection[str]) -> Iterator[str]:
    chosen = [name for name in group if name in given]
    if not chosen:
        yield f"{', '.join(group)}: exactly one is required, none was given"
    elif len(chosen) > 1 and not set(chosen) & set(unknown):  # a template may still render to None
        yield f"{', '.join(chosen)}: exactly one of {', '.join(group)} is allowed, {len(chosen)} were given"


def _stored(form: str, *, is_folder: bool) -> Rule:
    """Return a rule for the URI of an object, or for that of a bucket or folder.

    :param form: the expected form, for the message
    :param is_folder: whether to accept a bucket or folder too
    """

    def rule(value: Any) -> Iterator[str]:
        try:
            bucket, path = bucket_and_path(value)
        except InvalidJob:
            bucket, path = "", ""
        is_object = bool(path) and not path.endswith("/")
        if len(bucket) < _BUCKET_MIN or not (is_folder or is_object):
            yield f"{names.shown(value)} is not of the form {form}"

    return rule


def _message(short: str, rules: Mapping[str, Rule]) -> Rule:
    """Return a rule for a field that is a dict, or a text as its short form.

    :param short: key of the dict that the short form sets; it is required
    :param rules: rules by key; other keys are refused
    """

    def rule(value: Any) -> Iterator[str]:
        content = value if isinstance(value, Mapping) else {short: value}
        for key in [k for k in content if k not in rules]:
            yield f"unknown key {names.shown(key)}; the keys are {', '.join(rules)}"
        if content.get(short) is None:
            yield f"key {short!r} is required"
        for key in [k for k in rules if content.get(k) is not None and content[k] is not UNKNOWN]:
            for problem in rules[key](content[key]):
                yield f"{key} {problem}" if isinstance(value, Mapping) else problem

    return rule


def _display_name(value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not value:
        yield f"{value!r} is not a text of 1 to {DISPLAY_NAME_MAX} characters"
    elif len(value) > DISPLAY_NAME_MAX:
        yield f"{value[:30]!r}... has {len(value)} characters; at most {DISPLAY_NAME_MAX} are allowed"


def _content(source: Any) -> bytes:
    if not isinstance(source, (bytes, Path)):
        kind = type(source).__name__
        raise InvalidJob(f"{names.shown(source)} is of type {kind}; it must be a path, or a notebook as JSON")
    return read_notebook(source)


def _direct_notebook_source(value: Any) -> Iterator[str]:
    try:
        _content(value)
    except InvalidJob as error:
        yield from error.problems


def number_of_labels(labels: Mapping[Any, Any]) -> int:
    """Return the number of labels that count towards `LABELS_MAX`: all but system labels."""
    return sum(not (isinstance(key, str) and key.startswith(SYSTEM_LABEL_PREFIX)) for key in labels)


def _labels(value: Any) -> Iterator[str]:
    if not isinstance(value, Mapping):
        yield f"{names.shown(value)} is not a mapping of texts to texts"
        return
    if (count := number_of_labels(value)) > LABELS_MAX:
        yield f"has {count} labels; at most {LABELS_MAX} are allowed"
    for key, label in value.items():
        for what, text in (("key", key), ("value", label)):
            if text is UNKNOWN:
                continue
            if not isinstance(text, str):
                yield f"{what} {names.shown(text)} is not a text"
            elif what == "key" and not text:
                yield "a key is empty"
            elif what == "key" and text.startswith(SYSTEM_LABEL_PREFIX):
                continue
            elif len(text) > LABEL_MAX:
                yield f"{what} {text!r} has {len(text)} characters; at most {LABEL_MAX} are allowed"
            elif not all(c in "_-" or (c.isalnum() and c == c.lower()) for c in text):
                yield f"{what} {text!r} may hold lowercase letters, digits, '_' and '-' only"


def _execution_user(value: Any) -> Iterator[str]:
    yield from matches(_EMAIL, "user@example.com")(value)
    if isinstance(value, str) and value.endswith(".gserviceaccount.com"):
        yield f"{value!r} is a service account; give it as service_account"


def _job_timeout(value: Any) -> Iterator[str]:
    try:
        duration = as_timedelta(value)
    except ValueError as error:
        yield str(error)
    else:
        if duration < timedelta(seconds=1):
            yield f"{value!r} is {duration.total_seconds():g} s; it must be at least 1 s"


def _template(value: Any) -> Iterator[str]:
    if not isinstance(value, str) or not (_TEMPLATE.fullmatch(value) or _TEMPLATE_ID.fullmatch(value)):
        yield (
            f"{names.shown(value)} is neither a template id nor of the form"
            " projects/{project}/locations/{location}/notebookRuntimeTemplates/{template}"
        )


_RULES: dict[str, Rule] = {
    "location": matches(re.compile(names.LOCATION), "us-central1"),
    "display_name": _display_name,
    "gcs_notebook_source": _message(
        "uri",
        {
            "uri": _stored("gs://bucket/notebook.ipynb", is_folder=False),
            "generation": lambda value: matches(re.compile(r"[0-9]{1,19}"), "a number")(str(value)),
        },
    ),
    "direct_notebook_source": _direct_notebook_source,
    "dataform_repository_source": _message(
        "dataform_repository_resource_name",
        {
            "dataform_repository_resource_name": matches(
                re.compile(names.REPOSITORY), "projects/{project}/locations/{location}/repositories/{repository}"
            ),
            "commit_sha": matches(re.compile(names.COMMIT_SHA), "a commit's SHA in hexadecimal"),
        },
    ),
    "notebook_runtime_template_resource_name": _template,
    "custom_environment_spec": environment_rule("custom_environment_spec"),
    "workbench_runtime": environment_rule("workbench_runtime"),
    "kernel_name": matches(re.compile(r"[-._a-zA-Z0-9]{1,128}"), "a kernel's name, such as python3"),
    "gcs_output_uri": _stored("gs://bucket or gs://bucket/folder", is_folder=True),
    "service_account": matches(_EMAIL, "name@project.iam.gserviceaccount.com"),
    "execution_user": _execution_user,
    "labels": _labels,
    "encryption_spec": _message(
        "kms_key_name",
        {"kms_key_name": matches(_KMS_KEY, "projects/{project}/locations/{location}/keyRings/{ring}/cryptoKeys/{key}")},
    ),
    "job_timeout": _job_timeout,
    "notebook_execution_job_id": matches(re.compile(names.JOB_ID), JOB_ID_FORM),
}
