"""Patterns and checks of Google Cloud's names, to apply before a name becomes part of a host, URL, filter or path.

The values come from DAGs, from `dag_run.conf` through templates, from XComs and from answers of the API. Every pattern
is ASCII, has bounds, and must be matched by `fullmatch`. This module imports neither Airflow nor a package of Google's.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable

from airflow_provider_nbjob.exceptions import InvalidJob

# A project's id, legacy domain-scoped id (`example.com:project`) or number: the pattern of the parameter `project` in
# the discovery document of Google's Compute API, revision 20261106, with a bound on the number of labels.
PROJECT = (
    r"(?:(?:[-a-z0-9]{1,63}\.){0,10}[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?:)?"
    r"(?:[0-9]{1,19}|[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)"
)
# A region. Notebook jobs are regional: `global`, zones and multi-regions have none. With this bound,
# "{location}-aiplatform" is a valid label of DNS.
LOCATION = r"(?=[-a-z0-9]{1,50}(?![-a-z0-9]))[a-z]+(?:-[a-z]+)+[0-9]+"
# The location of a resource that a job refers to, such as a key. It need not be a region.
ANY_LOCATION = r"[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?"
# A guess, as Google documents no rule. It allows the ids that Google generates (digits), the ids of Google's examples
# and tests (labels of RFC 1035), and underscores, which a public Terraform configuration uses.
JOB_ID = r"[a-z0-9](?:[-_a-z0-9]{0,61}[a-z0-9])?"
# The last part of the name of a schedule, repository or template. Google documents different rules for their ids.
RESOURCE_ID = r"[A-Za-z0-9][-_.A-Za-z0-9]{0,127}"
# A service account, by email or by its unique number.
ACCOUNT = r"[A-Za-z0-9][-._A-Za-z0-9]{0,127}@[A-Za-z0-9][-.A-Za-z0-9]{0,252}|[0-9]{1,30}"
# A Dataform repository, and a commit of one.
REPOSITORY = rf"projects/{PROJECT}/locations/(?P<location>{ANY_LOCATION})/repositories/{RESOURCE_ID}"
COMMIT_SHA = r"[0-9a-f]{7,64}"
BUCKET = r"(?!.*\.\.)[a-z0-9](?:[-_.a-z0-9]{0,220}[a-z0-9])?"

OBJECT_MAX = 1024  # bytes of an object's name in UTF-8
SHOWN_MAX = 200  # characters of a refused value in a message

_CONTROL = re.compile("[\x00-\x1f\x7f\x85\u2028\u2029]")


def shown(value: object) -> str:
    """Return the `repr` of a value for an error, cut to 200 characters; the name of its type if `repr` fails."""
    try:
        text = repr(value[: SHOWN_MAX + 1]) if isinstance(value, str) else reprlib.repr(value)
    except Exception:  # such as an integer of more than 4300 digits
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}..."


def check(field: str, value: object, pattern: str, form: str) -> str:
    """Return a value that matches the whole of a pattern of this module.

    :param field: name of the value in the error
    :param pattern: a pattern of this module
    :param form: the expected form for the error, such as ``a region, such as us-central1``
    :raises InvalidJob: if the value is not a text, or does not match; the message names the field, the value and the
        form
    """
    if isinstance(value, str) and re.fullmatch(pattern, value):
        return value
    raise InvalidJob(f"{field}: {shown(value)} is not of the form {form}")


def check_project(value: object, field: str = "project_id") -> str:
    """Return a valid id or number of a project; see `check`."""
    return check(field, value, PROJECT, "my-project, example.com:my-project or a project's number")


def check_location(value: object, field: str = "location") -> str:
    """Return a valid name of a region; see `check`."""
    return check(field, value, LOCATION, "us-central1")


def schedule_id(schedule: str, location: str) -> str:
    """Return the id of a schedule.

    :param schedule: resource name of the schedule, or its bare id
    :param location: region that the schedule must be in
    :raises InvalidJob: if `schedule` is neither, or names another location
    """
    form = "projects/{project}/locations/{location}/schedules/{schedule}, or the bare id"
    check("schedule", schedule, rf"(?:projects/{PROJECT}/locations/{LOCATION}/schedules/)?{RESOURCE_ID}", form)
    prefix, _, last = schedule.rpartition("/")
    if prefix and prefix.split("/")[3] != location:
        raise InvalidJob(f"schedule: {schedule!r} is not in the location {location!r}")
    return last


def check_object(value: str, field: str) -> str:
    """Return a valid name of an object or of a folder in Cloud Storage; the empty name stands for the whole bucket.

    Refuse names that URLs do not carry unchanged: names with control characters, names that are not valid UTF-8, and
    ``.`` and ``..``, which HTTP clients resolve. The last two may be parts of a name, because URLs of the API escape
    slashes.

    :param field: name of the value in the error
    :raises InvalidJob: if the name is invalid
    """
    problem = None
    if _CONTROL.search(value):
        problem = "has control characters"
    elif value in (".", ".."):
        problem = "is a part of a path that URLs do not carry"
    elif any("\ud800" <= character <= "\udfff" for character in value):
        problem = "is no UTF-8"
    elif len(value.encode()) > OBJECT_MAX:
        problem = f"has more than {OBJECT_MAX} bytes"
    if problem:
        raise InvalidJob(f"{field}: the object name {shown(value)} {problem}")
    return value


def accounts_of(impersonation_chain: str | Iterable[str] | None) -> tuple[str, ...]:
    """Return the accounts of an impersonation chain, which may be one text with commas, as in Airflow.

    Strip only spaces around an account. Any other character stays, so that a malformed account is refused.
    """
    chain = impersonation_chain or ()
    if not isinstance(chain, Iterable):  # as a connection's extra may have it
        return (chain,)
    accounts = chain.split(",") if isinstance(chain, str) else chain
    return tuple(account.strip(" ") if isinstance(account, str) else account for account in accounts)
