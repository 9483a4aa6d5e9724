"""Pass secrets to a notebook without storing them in a notebook, log or XCom.

A cell reads the secrets from Secret Manager when the notebook runs. The cell holds only the names of the secrets. It is
Python, and needs google-auth, which Google's runtimes have. On the emulator it reads the emulator's secrets, without
credentials.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from airflow_provider_nbjob import names
from airflow_provider_nbjob.notebook.limits import is_name
from airflow_provider_nbjob.notebook.reserved import is_acted_on
from airflow_provider_nbjob.notebook.unknown import UNKNOWN

FIELD = "secret_parameters"
TAG = "injected-secret-parameters"
SECRETS_MAX = 100
FORM = "projects/{project}/secrets/{secret}/versions/{version}, {secret}/versions/{version} or {secret}"

_SECRET = re.compile(
    rf"(?P<project>projects/{names.PROJECT}/secrets/)?(?P<secret>[-_A-Za-z0-9]{{1,255}})"
    r"(?:/versions/(?P<version>[A-Za-z0-9][-_A-Za-z0-9]{0,62}))?"
)

# A traceback may show the variables of a frame (`%xmode Verbose`), so no frame that raises has a secret in a variable.
# The error shows only its kind and status: its text may quote a response or the emulator's address.
_CELL = """\
# Secret parameters: read from Secret Manager as this cell runs. Their values stand in no notebook.
def _nbjob_read_secrets(names):
    def reader():
        import json, os, urllib.request
        emulator = os.environ.get("SECRET_MANAGER_EMULATOR_HOST")
        if emulator:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            return lambda name: json.load(opener.open(emulator.rstrip("/") + "/v1/" + name + ":access", timeout=60))
        import google.auth
        from google.auth.transport.requests import AuthorizedSession
        session = AuthorizedSession(google.auth.default(scopes=["https://www.googleapis.com/auth/cloud-platform"])[0])
        def read(name):
            url = "https://secretmanager.googleapis.com/v1/" + name + ":access"
            answer = session.get(url, timeout=60, allow_redirects=False)
            answer.raise_for_status()
            return answer.json()
        return read
    def values():
        import base64
        found, wanted = {}, None
        try:
            read = reader()
            for parameter, name in names.items():
                wanted = name
                found[parameter] = base64.b64decode(read(name)["payload"]["data"]).decode()
        except Exception as error:
            status = getattr(error, "code", None) or getattr(getattr(error, "response", None), "status_code", None)
            kind = type(error).__name__ + (" %s" % status if isinstance(status, int) else "")
            return None, (wanted, kind)
        return found, None
    found, problem = values()
    if problem:
        raise RuntimeError(
            "The secret parameters could not be read: %s, %s. The account that the notebook runs as needs"
            " roles/secretmanager.secretAccessor on each secret." % problem
        ) from None
    return found
try:
    globals().update(_nbjob_read_secrets({names}))
finally:
    del _nbjob_read_secrets
"""


def problems_of_secrets(secrets: Any, parameters: Any = None) -> list[str]:
    """Check secret parameters, and return one message for each problem, which names the parameter.

    :param secrets: names of secrets by parameter, or None
    :param parameters: the other parameters; no secret parameter may have one of their names
    """
    if secrets is None:
        return []
    if not isinstance(secrets, Mapping):
        return [f"{FIELD}: {names.shown(secrets)} is not a mapping of names to secrets"]
    if len(secrets) > SECRETS_MAX:
        return [f"{FIELD}: has {len(secrets)} names; at most {SECRETS_MAX} are allowed"]
    return list(_problems(secrets, parameters if isinstance(parameters, Mapping) else {}))


def _problems(secrets: Mapping[Any, Any], parameters: Mapping[Any, Any]) -> Iterator[str]:
    taken = {_normal(name) for name in parameters if isinstance(name, str)}
    for name, secret in secrets.items():
        path = f"{FIELD}[{names.shown(name)}]"
        if not isinstance(name, str) or not is_name(name):
            yield f"{path}: {names.shown(name)} is not a name that a notebook can assign to"
            continue
        if is_acted_on("python", name):
            yield f"{path}: {name!r} is a variable that python acts on; rename the parameter"
        if _normal(name) in taken:
            yield f"{path}: {name!r} is given twice, also in parameters"
        taken.add(_normal(name))
        if secret is not UNKNOWN and not (isinstance(secret, str) and _SECRET.fullmatch(secret)):
            yield f"{path}: {names.shown(secret)} is not of the form {FORM}"


def full_names(secrets: Mapping[str, str], project_id: str) -> dict[str, str]:
    """Complete the short forms of secrets to resource names of secret versions.

    :param secrets: valid names of secrets by parameter, see `problems_of_secrets`
    :param project_id: project of secrets that are given without one
    :return: resource names by parameter; the version is ``latest`` if none is given
    """
    full = {}
    for name, secret in secrets.items():
        match = _SECRET.fullmatch(secret)
        assert match, secret  # noqa: S101 - see `problems_of_secrets`
        prefix = match["project"] or f"projects/{project_id}/secrets/"
        full[name] = f"{prefix}{match['secret']}/versions/{match['version'] or 'latest'}"
    return full


def secrets_cell(secrets: Mapping[str, str]) -> str:
    """Return the source of the cell that assigns the secret parameters, and no other names.

    :param secrets: resource names of secret versions, by parameter
    """
    return _CELL.replace("{names}", repr({_normal(name): str(secret) for name, secret in secrets.items()}), 1)


def _normal(name: str) -> str:
    """Normalize a name by NFKC, as Python's parser does."""
    return unicodedata.normalize("NFKC", name)
