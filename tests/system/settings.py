"""Airflow's settings for the system tests: its users, and the secrets that it holds."""

from __future__ import annotations

import json

from tests.system import auth_manager
from tests.system.canary.secrets import AIRFLOW_SETTINGS

USERS = {"admin": "admin", "viewer": "viewer"}  # of whom the viewer may see no DAG `private_...`
# A connection that is no good, and what of it nobody may see.
SECRETS = ("a-password-of-ours", "a-private-key-of-ours", "key@ours.example")
KEY = {
    "type": "service_account",
    "private_key": SECRETS[1],
    "client_email": SECRETS[2],
    "token_uri": "https://x.invalid",
}
CONNECTION = {
    "conn_type": "google_cloud_platform",
    "password": SECRETS[0],
    "extra": {"project": "example-project", "keyfile_dict": json.dumps(KEY)},
}
SETTINGS = {
    "AIRFLOW__CORE__AUTH_MANAGER": auth_manager.NAME,
    "AIRFLOW__SCHEDULER__ALLOWED_RUN_ID_PATTERN": "^.+$",
    "AIRFLOW_CONN_NO_GOOD": json.dumps(CONNECTION),
    **AIRFLOW_SETTINGS,
}
